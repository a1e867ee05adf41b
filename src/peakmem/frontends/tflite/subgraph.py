"""One subgraph of a TensorFlow Lite file while it is read: its tensors get names, its operators inputs.

What bodies may share (constants, states, resource variables) is filed in the graph itself; a `Filed`
holds it and lives as long as the file is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from peakmem.errors import FormatError
from peakmem.frontends.flatbuffer import FlatFile, Table
from peakmem.frontends.tflite import schema
from peakmem.frontends.tflite.options import attributes
from peakmem.frontends.tflite.tensors import Buffers, Entry, Quantised, read_entry, values
from peakmem.ir.graph import Graph, Operator, Role, Tensor, Unknown

LONGEST_NAME = 256
# characters of a tensor's name that are kept
LONGEST_SCOPE, DEEPEST_SCOPE = 200, 32
MOST_TENSORS = 4_000_000

BODIES = {
    "IF": (("then_branch", "then_subgraph_index"), ("else_branch", "else_subgraph_index")),
    "WHILE": (("cond", "cond_subgraph_index"), ("body", "body_subgraph_index")),
    "STABLEHLO_WHILE": (("cond", "cond_subgraph_index"), ("body", "body_subgraph_index")),
    "CALL": (("body", "subgraph"),),
    "CALL_ONCE": (("body", "init_subgraph_index"),),
    "STABLEHLO_COMPOSITE": (("body", "decomposition_subgraph_index"),),
    "STABLEHLO_CASE": (("branch", "branch_subgraph_indices"),),
}  # fmt: skip
# operators that run other subgraphs: (name of the body, option with its number)
_FIRST_ARGUMENT = {"IF": 1, "STABLEHLO_CASE": 1}
# how many inputs stand before those that are handed to the bodies

Variable: TypeAlias = tuple[str, str]
# container and shared name of a resource variable
Build: TypeAlias = Callable[[int, dict[int, Variable]], Graph]
# (subgraph, variables among its inputs by position) -> the body


@dataclass(slots=True)
class Filed:
    """What all subgraphs of a file share."""

    file: FlatFile
    model: Table
    buffers: Buffers
    codes: list[tuple[str, str]]
    # (domain, op type) by operator code
    quantised: Quantised = field(default_factory=Quantised)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    # of the graph itself
    owners: dict[tuple[Any, ...], str] = field(default_factory=dict)
    # the first tensor with the bytes of a buffer, and the first with its shape and dtype as well
    names: set[str] = field(default_factory=set)
    serial: int = 0
    defaults: dict[str, int] = field(default_factory=dict)
    variables: dict[Variable, str] = field(default_factory=dict)
    # the state that holds a resource variable
    tables: set[int] = field(default_factory=set)
    # hash tables met so far
    unknowns: list[Unknown] = field(default_factory=list)
    tensors_read: int = 0

    def unique(self, wanted: str) -> str:
        """`wanted`, or a name made from it that no tensor has."""
        name = wanted if len(wanted) <= LONGEST_NAME else f"{wanted[:LONGEST_NAME]}…"
        while name in self.names:
            self.serial += 1
            name = f"{wanted[:LONGEST_NAME]}#{self.serial}"
        self.names.add(name)
        return name


@dataclass(slots=True)
class _Raw:
    """An operator before its tensors have names."""

    table: Table
    domain: str
    op_type: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Scope:
    """The tensors of one subgraph by position, and the operators that read and make them."""

    def __init__(self, filed: Filed, table: Table, number: int, lent: dict[int, Variable], *, main: bool) -> None:
        self.filed = filed
        self.number = number
        self.tensors: dict[str, Tensor] = filed.tensors if main else {}
        self.main = main
        vector, count = table.span(schema.SubGraph.TENSORS, "I")
        filed.tensors_read += count
        if filed.tensors_read > MOST_TENSORS:
            raise FormatError(f"the file has more than {MOST_TENSORS:,} tensors")
        self.entries = [
            read_entry(filed.model.entry(vector, position), position, filed.buffers, filed.quantised)
            for position in range(count)
        ]
        given = [at for at in table.numbers(schema.SubGraph.INPUTS, "i") if at != -1]
        self.outputs = [at for at in table.numbers(schema.SubGraph.OUTPUTS, "i") if at != -1]
        self.check((*given, *self.outputs), "the subgraph")
        self.inputs = list(dict.fromkeys(given))
        self.variables = {given[at]: variable for at, variable in lent.items() if at < len(given)}
        # tensors that hold the handle of a resource variable
        self.raw = list(self._raw(table))
        self.made = {at: raw for raw in self.raw for at in raw.outputs}
        self.read = {at for raw in self.raw for at in raw.inputs}.union(self.outputs)
        self.names = [""] * count
        self.given: set[str] = set()
        # names of the inputs that the caller fills; the graph may list a constant or a state among them
        for entry in self.entries:
            self._enter(entry, self._role(entry))

    def check(self, positions: tuple[int, ...], who: str) -> None:
        for at in positions:
            if not 0 <= at < len(self.entries):
                raise FormatError(f"{who} refers to tensor {at}", expected=f"one of {len(self.entries)} tensors")

    def _raw(self, table: Table) -> Iterator[_Raw]:
        for operator in table.tables(schema.SubGraph.OPERATORS):
            code = operator.number(schema.Operator.OPCODE, "I")
            if code >= len(self.filed.codes):
                raise FormatError(
                    f"operator code {code} is referred to", expected=f"one of the {len(self.filed.codes)} of the file"
                )
            domain, op_type = self.filed.codes[code]
            inputs = operator.numbers(schema.Operator.INPUTS, "i")
            outputs = operator.numbers(schema.Operator.OUTPUTS, "i")
            outputs = tuple(at for at in outputs if at != -1)
            self.check(tuple(at for at in (*inputs, *outputs) if at != -1), f"an operator ({op_type})")
            yield _Raw(operator, domain, op_type, inputs, outputs)

    # -- tensors -------------------------------------------------------------------------

    def _role(self, entry: Entry) -> Role:
        if entry.position in self.inputs and not (self.main and (entry.stored or entry.variable)):
            return "input"
        if entry.position in self.made:
            return "activation"
        if entry.variable:
            return "state"
        if entry.stored is None and entry.count and entry.position in self.read:
            # Room that an operator works in, as compilers for accelerators declare it.
            self.filed.buffers.note("tensors that are read but neither made nor stored, counted as state")
            return "state"
        return "constant"

    def _enter(self, entry: Entry, role: Role) -> None:
        """File a tensor in the graph that owns it, under a name of its own."""
        filed = self.filed
        if role == "constant" and entry.stored is None and entry.position not in self.read:
            return  # listed only for its quantisation, as the intermediates of an LSTM are
        same = ("same", entry.stored, entry.shape, str(entry.dtype))
        if role == "constant" and entry.stored is not None and not self.main and same in filed.owners:
            self.names[entry.position] = filed.owners[same]
            return
        name = filed.unique(entry.label or f"subgraph_{self.number}/tensor_{entry.position}")
        self.names[entry.position] = name
        if role == "constant":
            self._constant(entry, name, same)
            return
        shape = entry.open_shape(name)
        if role == "input":
            self.given.add(name)
        if role == "state" or (role == "input" and self.main):
            filed.defaults.update(entry.defaults(name))
        if role == "state":
            filed.tensors[name] = Tensor(name, shape, entry.dtype, role)
            return
        # An empty shape is a scalar, or a rank that only running tells: few files say which. Rules tell, where
        # there are some; StableHLO has no ranks that are open.
        vague = role == "activation" and not shape and not entry.ranked
        known = not vague or self.made[entry.position].op_type.startswith("STABLEHLO_")
        self.tensors[name] = Tensor(name, shape if known else None, entry.dtype, role)

    def _constant(self, entry: Entry, name: str, same: tuple[Any, ...]) -> None:
        filed = self.filed
        if entry.stored is None:
            filed.tensors[name] = Tensor(name, entry.shape, entry.dtype, "constant", parameter=False)
            return
        owner = filed.owners.setdefault(("bytes", entry.stored.identity), name)
        filed.owners.setdefault(same, name)
        filed.tensors[name] = Tensor(
            name,
            entry.shape,
            entry.dtype,
            "constant",
            owner if owner != name else "",
            values(entry, filed.file),
        )

    # -- operators -----------------------------------------------------------------------

    def operator(self, position: int, build: Build) -> Operator:
        """The operator at `position`; `build` makes the bodies it calls."""
        raw = self.raw[position]
        options = attributes(raw.table)
        self._group(raw, options)
        if raw.op_type == "CAST" and raw.outputs and (made := self.entries[raw.outputs[0]].dtype) is not None:
            options["to"] = made.name  # engines go by the tensor, files may leave the option out
        inputs = tuple("" if at == -1 else self.names[at] for at in raw.inputs)
        if raw.domain == "tflite":
            inputs += self._resources(raw, options)
        first = self.entries[raw.outputs[0]].label if raw.outputs else ""
        return Operator(
            f"{raw.op_type}_{position}", raw.op_type, inputs, tuple(self.names[at] for at in raw.outputs), options,
            raw.domain, _scope(first), self._bodies(raw, options, build) if raw.op_type in BODIES else (),
        )  # fmt: skip

    def _group(self, raw: _Raw, options: dict[str, Any]) -> None:
        """Groups of a convolution: the file has them only as the shapes of its inputs."""
        if (
            raw.op_type not in ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_3D")
            or len(raw.inputs) < 2
            or -1 in raw.inputs[:2]
        ):
            return
        image, kernel = (self.entries[at].shape for at in raw.inputs[:2])
        if image and len(kernel) >= 4 and image[-1] > 0:
            inside = 1 if raw.op_type == "DEPTHWISE_CONV_2D" else kernel[-1] if raw.op_type == "CONV_2D" else kernel[-2]
            if inside > 0 and image[-1] % inside == 0:
                options["group"] = image[-1] // inside

    def _bodies(self, raw: _Raw, options: dict[str, Any], build: Build) -> tuple[Graph, ...]:
        found = []
        first = _FIRST_ARGUMENT.get(raw.op_type, 0)
        lent = {at: self.variables[one] for at, one in enumerate(raw.inputs[first:]) if one in self.variables}
        for name, option in BODIES[raw.op_type]:
            number = options.get(option)
            numbers = number if isinstance(number, tuple) else (number,)
            for at, one in enumerate(numbers):
                if isinstance(one, int) and one >= 0:
                    found.append(
                        replace(build(one, lent), name=name if option != "branch_subgraph_indices" else f"{name}_{at}")
                    )
        return tuple(found)

    def _resources(self, raw: _Raw, options: dict[str, Any]) -> tuple[str, ...]:
        """Follow resource variables; the state that READ_VARIABLE reads, as a further input."""
        filed = self.filed
        if raw.op_type == "VAR_HANDLE" and raw.outputs:
            options["shape"] = tuple(abs(size) for size in self.entries[raw.outputs[0]].shape)
            self.variables[raw.outputs[0]] = (str(options.get("container", "")), str(options.get("shared_name", "")))
        elif raw.op_type == "HASHTABLE" and (identity := options.get("table_id", 0)) not in filed.tables:
            filed.tables.add(identity)
            filed.unknowns.append(
                Unknown(
                    f"{raw.op_type} {identity}", raw.op_type,
                    "the entries of a hash table lie outside of tensors, in a map of the engine's own",
                )
            )  # fmt: skip
        elif raw.op_type in ("READ_VARIABLE", "ASSIGN_VARIABLE") and raw.inputs and raw.inputs[0] in self.variables:
            variable = self.variables[raw.inputs[0]]
            value = raw.outputs[:1] if raw.op_type == "READ_VARIABLE" else raw.inputs[1:2]
            if variable not in filed.variables and value and value[0] >= 0:
                entry = self.entries[value[0]]
                name = filed.unique(variable[1] or variable[0] or "variable")
                filed.variables[variable] = name
                filed.tensors[name] = Tensor(name, entry.open_shape(name), entry.dtype, "state")
                filed.defaults.update(entry.defaults(name))
            if raw.op_type == "READ_VARIABLE" and variable in filed.variables:
                return (filed.variables[variable],)
        return ()


def _scope(label: str) -> str:
    """The module path of the operator that makes a tensor of this name; empty when it has none."""
    scope = label[:LONGEST_SCOPE].partition(";")[0].rpartition("/")[0]
    return scope if scope.count("/") < DEEPEST_SCOPE else ""
