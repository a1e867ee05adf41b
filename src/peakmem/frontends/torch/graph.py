"""From a PyTorch program to a Graph: names, roles, shared bytes, control flow.

What is a weight and what an operator does stands in `ir.kinds.aten`; which results share bytes in
`views`. Bodies of torch.cond, while_loop, scan and map become If, Loop and Scan; other bodies
that are called once are put in their place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from peakmem.dtypes import BOOL, INT64
from peakmem.errors import FormatError
from peakmem.frontends.torch.attributes import attributes
from peakmem.frontends.torch.program import Argument, Call, Program, elements, end_of, refs
from peakmem.frontends.torch.views import sharing
from peakmem.ir.graph import Detail, Graph, Operator, Role, Tensor, Unknown
from peakmem.ir.kinds.aten import RECURRENT_FIRST
from peakmem.ir.validate import validate

DEEPEST = 32
# bodies inside of bodies
MOST_EXPANSION = 200_000
# calls that putting bodies in their place may add
_PLACES = frozenset({"weight", "bias", "running_mean", "running_var", "attn_mask"})
# absent tensors that keep their place among the inputs


@dataclass(slots=True)
class _Scope:
    """One program while it is written down, and what its tensors are called in the graph."""

    program: Program
    prefix: str
    names: dict[str, str]
    tensors: dict[str, Tensor]
    operators: list[Operator] = field(default_factory=list)
    depth: int = 0


def graph_of(
    program: Program, *, name: str, form: str, source: str = "", bound: bool = False, notes: Iterable[str] = (),
    details: Iterable[Detail] = (), unknowns: Iterable[Unknown] = (),
) -> Graph:  # fmt: skip
    """The validated graph of `program`.

    Raises:
        FormatError: bodies nested without end, or a tensor that nothing makes.
        GraphError: a tensor made twice.
    """
    writer = _Writer()
    scope = _Scope(program, "", {}, {})
    states = _states(program)
    for given in program.inputs:
        value = program.values[given]
        tensor = Tensor(writer.unique(given), value.shape, value.dtype, "input")
        scope.names[given], scope.tensors[tensor.name] = tensor.name, tensor
    writer.store(scope, states)
    writer.calls(scope)
    outputs = [scope.names[word] for word in program.outputs if word in scope.names]
    notes = (*notes, *writer.notes())
    graph = Graph(
        name, scope.tensors, tuple(scope.operators), tuple(scope.names[word] for word in program.inputs),
        tuple(dict.fromkeys(outputs)), defaults=dict(program.hints), source=source, notes=notes, format=form,
        bound=bound, details=tuple(details), unknowns=(*unknowns, *writer.unknowns), parameters_told=True,
    )  # fmt: skip
    validate(graph)
    return graph


def _states(program: Program) -> set[str]:
    """Buffers that a call writes on: they live from run to run."""
    root: dict[str, str] = {name: name for name in program.stored}
    found: set[str] = set()
    for call in program.calls:
        given = list(call.refs())
        for position, source in sharing(call, program.values):
            if source in root:
                root[call.outputs[position]] = root[source]
        in_place = call.op.endswith("_") and not call.op.endswith("__")
        if in_place and given and given[0] in root:
            found.add(root[given[0]])
    return {name for name in found if name in program.stored and program.stored[name].kind != "parameter"}


class _Writer:
    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.suffixes: dict[str, int] = {}
        self.unknowns: list[Unknown] = []
        self.foreign: dict[str, None] = {}
        self.expansion = 0

    def notes(self) -> list[str]:
        if not self.foreign:
            return []
        return [f"of operators of other libraries only the results are counted: {', '.join(self.foreign)}"]

    def unique(self, name: str) -> str:
        if name not in self.taken:
            self.taken.add(name)
            return name
        number = self.suffixes.get(name, 1)
        while f"{name}_{number}" in self.taken:
            number += 1
        self.suffixes[name] = number + 1
        self.taken.add(f"{name}_{number}")
        return f"{name}_{number}"

    # -- what is stored ------------------------------------------------------------------

    def store(self, scope: _Scope, states: set[str]) -> None:
        """Constants and states; of several with the same bytes the largest owns them."""
        program = scope.program
        owners = _owners(program)
        kept = {owners.get(place, place) for place in states}
        for place, stored in program.stored.items():
            scope.names[place] = self.unique(stored.name)
        for place, stored in program.stored.items():
            value = program.values[place]
            owner = owners.get(place, place)
            role: Role = "state" if owner in kept else "constant"
            tensor = Tensor(
                scope.names[place], value.shape, value.dtype, role, parameter=stored.kind == "parameter",
                storage="" if owner == place else scope.names[owner],
            )  # fmt: skip
            scope.tensors[tensor.name] = tensor

    # -- calls ---------------------------------------------------------------------------

    def calls(self, scope: _Scope) -> None:
        titles = _titles(scope.program)
        read = {word for call in scope.program.calls for word in call.refs()} | set(scope.program.outputs)
        for call in scope.program.calls:
            if not any(call.outputs):
                continue  # assertions, sizes, numbers read from tensors: nothing is made
            if (
                len(call.outputs) == 1
                and call.outputs[0] not in read
                and 0 in scope.program.values[call.outputs[0]].shape
            ):
                continue  # a place kept for a kernel that does not use it
            title = scope.prefix + titles[call.name]
            if any(isinstance(argument, Program) for _, argument in call.arguments):
                self.control(scope, call, title)
            else:
                self.plain(scope, call, title)
                if call.namespace == "higher_order":
                    self.opaque(call, title)

    def plain(self, scope: _Scope, call: Call, title: str) -> None:
        values = scope.program.values
        given = _inputs(call)
        title = self.unique(title)
        outputs = self.results(scope, call, title)
        inputs = tuple(scope.names[word] if word else "" for word in given)
        positions = {word: position for position, word in reversed(list(enumerate(given))) if word}
        shared = {at: positions[word] for at, word in sharing(call, values) if word in positions and outputs[at]}
        for at, word in enumerate(call.outputs):
            memory = values[word].memory if word and at not in shared else 0
            found = next((p for w, p in positions.items() if memory and values[w].memory == memory), None)
            if found is not None and outputs[at]:
                shared[at] = found
        domain, op_type = call.namespace, call.op
        if domain == "aten" and op_type in ("convolution", "_convolution") and call.argument("transposed") is True:
            # What conv_transpose2d is called with its flag resolved; the kernel has another order of axes.
            op_type = f"conv_transpose{max(len(values[given[0]].shape) - 2, 1)}d"
        if domain not in ("aten", "prims", "prim", "higher_order"):
            self.foreign.setdefault(f"{domain}::{op_type}")
        scope.operators.append(
            Operator(
                title, op_type, inputs, outputs, attributes(call, values), domain=domain,
                scope=call.module.replace(".", "/"), aliases=tuple(sorted(shared.items())),
            )
        )  # fmt: skip

    def results(self, scope: _Scope, call: Call, title: str) -> tuple[str, ...]:
        """Names of what a call makes; "" where that is no tensor, or one without elements that nobody asked for."""
        made = []
        for at, word in enumerate(call.outputs):
            if not word:
                made.append("")
                continue
            value = scope.program.values[word]
            if at and 0 in value.shape:
                made.append("")
                scope.names[word] = ""
                continue
            name = title if len(call.outputs) == 1 else f"{title}.{at}"
            name = name if at == 0 and len(call.outputs) == 1 else self.unique(name)
            scope.names[word] = name
            scope.tensors[name] = Tensor(name, value.shape, value.dtype)
            made.append(name)
        return tuple(made)

    # -- control flow --------------------------------------------------------------------

    def control(self, scope: _Scope, call: Call, title: str) -> None:
        if scope.depth > DEEPEST:
            raise FormatError(f"bodies are nested deeper than {DEEPEST}")
        bodies = [argument for _, argument in call.arguments if isinstance(argument, Program)]
        lists = [argument for _, argument in call.arguments if not isinstance(argument, Program)]
        if call.op == "cond" and len(bodies) == 2:
            self.branch(scope, call, title, bodies, lists)
        elif call.op == "while_loop" and len(bodies) == 2:
            self.loop(scope, call, title, bodies, lists)
        elif call.op in ("scan", "map_impl", "map") and len(bodies) == 1:
            self.scan(scope, call, title, bodies[0], lists)
        elif len(bodies) == 1 and len(_after_body(call)) == len(bodies[0].inputs):
            self.inline(scope, call, bodies[0])
        else:
            flat = tuple((key, value) for key, value in call.arguments if not isinstance(value, Program))
            self.plain(
                scope, Call(call.name, call.namespace, call.op, call.overload, flat, call.outputs, call.module), title
            )
            self.opaque(call, title)

    def opaque(self, call: Call, title: str) -> None:
        """Note that only the results of an operator are known."""
        reason = "what it allocates besides its results is not known"
        self.unknowns.append(Unknown(title, f"{call.namespace}:{call.op}", reason))

    def body(self, scope: _Scope, program: Program, prefix: str, lent: Mapping[str, str]) -> _Scope:
        """`program` written down inside `scope`; `lent` names what its inputs are."""
        inner = _Scope(program, f"{prefix}/", dict(lent), {}, depth=scope.depth + 1)
        for place, stored in program.stored.items():
            inner.names[place] = self.unique(f"{prefix}/{stored.name}")
            value = program.values[place]
            inner.tensors[inner.names[place]] = Tensor(
                inner.names[place], value.shape, value.dtype, "constant", parameter=stored.kind == "parameter"
            )
        return inner

    def branch(
        self, scope: _Scope, call: Call, title: str, bodies: Sequence[Program], lists: Sequence[Argument]
    ) -> None:  # fmt: skip
        title = self.unique(title)
        given = [scope.names[word] for word in _flat(lists[1:])]
        subgraphs = []
        for program, name in zip(bodies, ("then_branch", "else_branch"), strict=True):
            inner = self.body(scope, program, f"{title}/{name}", dict(zip(program.inputs, given, strict=False)))
            self.calls(inner)
            subgraphs.append(_graph(name, inner, ()))
        condition = tuple(scope.names[word] for word in refs(lists[0]))[:1] if lists else ()
        outputs = self.results(scope, call, title)
        scope.operators.append(
            Operator(
                title, "If", condition or ("",), outputs, scope=call.module.replace(".", "/"),
                subgraphs=tuple(subgraphs),
            )
        )  # fmt: skip

    def loop(
        self, scope: _Scope, call: Call, title: str, bodies: Sequence[Program], lists: Sequence[Argument]
    ) -> None:  # fmt: skip
        """The condition is computed at the start of a turn, where while_loop has it."""
        title = self.unique(title)
        carried = _flat(lists[:1])
        extra = [scope.names[word] for word in _flat(lists[1:])]
        prefix = f"{title}/body"
        turn, going = self.unique(f"{prefix}/turn"), self.unique(f"{prefix}/condition")
        formal = [self.unique(f"{prefix}/{word}") for word in bodies[1].inputs[: len(carried)]]
        own = {turn: Tensor(turn, (), INT64, "input"), going: Tensor(going, (), BOOL, "input")}
        for name, word in zip(formal, bodies[1].inputs, strict=False):
            value = bodies[1].values[word]
            own[name] = Tensor(name, value.shape, value.dtype, "input")
        test = self.body(scope, bodies[0], prefix, dict(zip(bodies[0].inputs, (*formal, *extra), strict=False)))
        test.tensors.update(own)
        self.calls(test)
        work = self.body(scope, bodies[1], prefix, dict(zip(bodies[1].inputs, (*formal, *extra), strict=False)))
        work.tensors, work.operators = {**test.tensors, **work.tensors}, test.operators
        self.calls(work)
        tested = [test.names[word] for word in bodies[0].outputs if test.names.get(word)]
        states = [work.names.get(word, "") for word in bodies[1].outputs]
        body = Graph(
            "body", work.tensors, tuple(work.operators), (turn, going, *formal), (*(tested[:1] or [going]), *states)
        )
        outputs = self.results(scope, call, title)
        inputs = ("", "", *(scope.names[word] for word in carried))
        scope.operators.append(
            Operator(title, "Loop", inputs, outputs, scope=call.module.replace(".", "/"), subgraphs=(body,))
        )

    def scan(self, scope: _Scope, call: Call, title: str, program: Program, lists: Sequence[Argument]) -> None:
        title = self.unique(title)
        states = _flat(lists[:1]) if call.op == "scan" else []
        rest = lists[1:] if call.op == "scan" else lists
        sequences, extra = _flat(rest[:1]), _flat(rest[1:])
        prefix = f"{title}/body"
        own = len(states) + len(sequences)
        formal = [self.unique(f"{prefix}/{word}") for word in program.inputs[:own]]
        lent = dict(zip(program.inputs, (*formal, *(scope.names[word] for word in extra)), strict=False))
        inner = self.body(scope, program, prefix, lent)
        for name, word in zip(formal, program.inputs, strict=False):
            value = program.values[word]
            inner.tensors[name] = Tensor(name, value.shape, value.dtype, "input")
        self.calls(inner)
        outputs = self.results(scope, call, title)
        inputs = tuple(scope.names[word] for word in (*states, *sequences))
        scope.operators.append(
            Operator(
                title, "Scan", inputs, outputs, {"num_scan_inputs": len(sequences)},
                scope=call.module.replace(".", "/"), subgraphs=(_graph("body", inner, tuple(formal)),),
            )
        )  # fmt: skip

    def inline(self, scope: _Scope, call: Call, program: Program) -> None:
        """The calls of a body that runs once, where it is called."""
        self.expansion += len(program.calls)
        if self.expansion > MOST_EXPANSION:
            raise FormatError(f"bodies put in their place would add more than {MOST_EXPANSION:,} calls")
        told = [argument for _, argument in call.arguments[:3]]
        if call.op == "wrap_with_autocast" and told[-1] is True:
            reason = "the copies of weights and inputs in another dtype that autocast makes are not counted"
            self.unknowns.append(Unknown(call.name, "higher_order:wrap_with_autocast", reason))
        given = (scope.names[word] for word in _after_body(call))
        inner = self.body(scope, program, call.name, dict(zip(program.inputs, given, strict=True)))
        inner.prefix = scope.prefix
        scope.tensors.update(inner.tensors)
        inner.tensors, inner.operators = scope.tensors, scope.operators
        self.calls(inner)
        for outer, word in zip(call.outputs, program.outputs, strict=False):
            if outer:
                scope.names[outer] = inner.names.get(word, "")


def _graph(name: str, scope: _Scope, inputs: tuple[str, ...]) -> Graph:
    outputs = tuple(scope.names.get(word, "") for word in scope.program.outputs)
    return Graph(name, scope.tensors, tuple(scope.operators), inputs, tuple(word for word in outputs if word))


def _flat(arguments: Iterable[Argument]) -> list[str]:
    return [word for argument in arguments for word in refs(argument)]


def _after_body(call: Call) -> list[str]:
    """Tensors that are given behind a body: its operands."""
    found: list[str] = []
    seen = False
    for _, argument in call.arguments:
        if isinstance(argument, Program):
            seen = True
        elif seen:
            found += refs(argument)
    return found


def _owners(program: Program) -> dict[str, str]:
    """For each stored tensor the one that holds its bytes: the largest of those that overlap in one memory."""
    memories: dict[str, list[tuple[int, str]]] = {}
    for place, stored in program.stored.items():
        if stored.payload:
            memories.setdefault(stored.payload, []).append((stored.start, place))
    owners: dict[str, str] = {}
    for parts in memories.values():
        groups: list[list[str]] = []
        reach = -1
        for start, place in sorted(parts):
            if start >= reach:
                groups.append([])
            groups[-1].append(place)
            reach = max(reach, end_of(program.stored[place], program.values[place]))
        for group in groups:
            owner = max(group, key=lambda word: elements(program.values[word]))
            owners.update(dict.fromkeys(group, owner))
    return owners


def _inputs(call: Call) -> list[str]:
    """Tensors of a call in the order of the schema, "" for absent ones that others stand behind."""
    if call.namespace == "aten" and call.op in RECURRENT_FIRST:
        return _recurrent(call)
    found: list[str] = []
    for name, argument in call.arguments:
        if argument is None and name in _PLACES and found:
            found.append("")
        found += refs(argument)
    while found and not found[-1]:
        found.pop()
    return found


def _recurrent(call: Call) -> list[str]:
    """What it reads, then four places a layer and direction: two matrices, two biases; projections behind them."""
    first = RECURRENT_FIRST[call.op]
    weights: list[str] = []
    others: list[str] = []
    for name, argument in call.arguments:
        (weights if name == "params" else others).extend(refs(argument))
    packed = call.overload == "data"
    lengths = [others.pop(1)] if packed and len(others) > 1 else []
    has_biases = call.argument("has_biases") is not False
    layers = call.argument("num_layers")
    directions = 2 if call.argument("bidirectional") is True else 1
    groups = layers * directions if isinstance(layers, int) and 0 < layers < 4096 else 0
    size = len(weights) // groups if groups and len(weights) % groups == 0 else 0
    if size not in (2, 3, 4, 5) or len(others) != first:
        return [*others, *weights, *lengths]
    found = list(others)
    projections: list[str] = []
    for at in range(0, len(weights), size):
        group = weights[at : at + size]
        found += group[:2]
        found += group[2:4] if has_biases else ["", ""]
        projections += group[4:] if has_biases else group[2:]
    for word in projections:
        found += [word, "", "", ""]
    found += lengths
    while found and not found[-1]:
        found.pop()
    return found


def _titles(program: Program) -> dict[str, str]:
    """A readable name for each call: the module's path where it makes one call, else with the operator's name."""
    callers: dict[str, int] = {}
    parents: set[str] = set()
    for call in program.calls:
        callers[call.module] = callers.get(call.module, 0) + 1
        path = call.module
        while "." in path:
            path = path.rpartition(".")[0]
            if path in parents:
                break
            parents.add(path)
    titles = {}
    for call in program.calls:
        op = call.op.strip("_") or call.op
        alone = call.module and callers[call.module] == 1 and call.module not in parents
        titles[call.name] = call.module if alone else f"{call.module}.{op}" if call.module else op
    return titles
