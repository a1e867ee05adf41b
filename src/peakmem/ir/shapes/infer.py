"""The inference pass: from input shapes to the shape, dtype and small contents of every tensor."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from peakmem.dtypes import DType
from peakmem.errors import PeakmemError, ShapeError, UnboundDimension, UsageError
from peakmem.ir.dims import Dim, Shape, Symbol, format_shape
from peakmem.ir.graph import Graph, Operator, Tensor, Unknown
from peakmem.ir.shapes.call import RULES, Call, Rule, Spec, Specs, Unresolved
from peakmem.ir.shapes.control import CONTROL, Inner, Run, control
from peakmem.ir.shapes.fold import fold
from peakmem.ir.shapes.sequences import SEQUENCES

Fallback: TypeAlias = Callable[[Call, Mapping[str, int]], list[Spec] | None]
# (call, opsets) -> one spec per output, or None when it cannot tell either

LARGEST_TENSOR = 2**56
# bytes; beyond the address space of any machine a size is an overflow or an attack
NEWEST_OPSET = 28
# of ONNX's own domain; what a graph without a declared operator set is read as
UNEXPECTED = (
    TypeError, ValueError, IndexError, KeyError, AttributeError, ZeroDivisionError, OverflowError, struct.error
)  # fmt: skip
# what a rule trips over when attributes or inputs are not of the kind the operator takes


@dataclass(frozen=True, slots=True)
class Fact:
    """What is known of one tensor while inferring."""

    shape: Shape | None
    dtype: DType | None
    values: tuple[Any, ...] | None = None
    # flat content, where it is small and follows from constants and shapes
    elements: tuple[Fact, ...] | None = None
    # of a sequence of tensors: what is known of each


NOTHING = Fact(None, None)


def unbound(graph: Graph) -> dict[str, list[str]]:
    """Symbols in the input shapes that need a value, and the inputs that carry each."""
    found: dict[str, list[str]] = {}
    for name in graph.inputs:
        for dim in graph.tensors[name].shape or ():
            if isinstance(dim, Symbol):
                found.setdefault(dim.name, []).append(name)
    return found


def bind(graph: Graph, shapes: Mapping[str, Shape], dims: Mapping[str, int]) -> Graph:
    """`graph` with its input shapes replaced by `shapes` and symbols in them by `dims`.

    Raises:
        UsageError: an input that does not exist, another rank, a non-positive size.
    """
    tensors = dict(graph.tensors)
    for name in shapes:
        if name not in graph.inputs:
            raise UsageError(
                f"the model has no input {name!r}",
                expected=f"one of {', '.join(graph.inputs) or 'none'}",
                hint=f"--shape {graph.inputs[0] if graph.inputs else 'input'}=1x3x224x224",
            )
    for name in graph.inputs:
        tensor = tensors[name]
        shape = tensor.shape
        if name in shapes:
            if shape is not None and len(shapes[name]) != len(shape):
                raise UsageError(
                    f"input {name!r} has rank {len(shape)} ({format_shape(shape)}), "
                    f"not {len(shapes[name])} ({format_shape(shapes[name])})",
                    hint=f"--shape {name}={'x'.join('1' if isinstance(d, Symbol) else str(d) for d in shape)}",
                )
            shape = shapes[name]
        if shape is not None:
            shape = tuple(dims.get(dim.name, dim) if isinstance(dim, Symbol) else dim for dim in shape)
        tensors[name] = replace(tensor, shape=shape)
    return replace(graph, tensors=tensors)


def infer(
    graph: Graph,
    *,
    dims: Mapping[str, int] | None = None,
    fallback: Fallback | None = None,
    trust_declared: bool = True,
    symbolic: bool = False,
) -> Graph:
    """`graph` with the shape and dtype of every tensor that can be told.

    Args:
        graph: inputs and constants carry shapes; other shapes are what the file declares.
        dims: values for symbols, those that data-dependent operators introduce included.
        fallback: asked for operators without a rule.
        trust_declared: whether declared shapes may stand in for what cannot be inferred; false
            after an input was given another shape than the file's.
        symbolic: keep symbols of the inputs instead of refusing them.

    Raises:
        UnboundDimension: an input has a symbolic dimension without a value.
        ShapeError: shapes contradict each other.
    """
    if not symbolic:
        _refuse_unbound(graph)
    walk = _Walk(dims or {}, fallback, trust_declared, graph.opsets)
    inferred = walk.graph(graph, {})
    return replace(inferred, unknowns=(*graph.unknowns, *walk.unknowns), notes=(*graph.notes, *walk.notes()))


def _refuse_unbound(graph: Graph) -> None:
    for name in graph.inputs:
        if graph.tensors[name].shape is None and graph.tensors[name].dtype is not None:
            raise UnboundDimension(
                f"input {name!r} has no shape in the file", hint=f"--shape {name}=1x3x224x224"
            )
    missing = unbound(graph)
    if missing:
        batch = [
            dim
            for dim, inputs in missing.items()
            if all(graph.tensors[name].shape[:1] == (Symbol(dim),) for name in inputs)  # type: ignore[index]
        ]
        flags = ["--batch 1"] if batch else []
        flags += [f"--dim {_quoted(dim)}={_example(graph, dim)}" for dim in missing if dim not in batch[:1]]
        shapes = "; ".join(
            f"{name}: {format_shape(graph.tensors[name].shape)}"
            for name in dict.fromkeys(name for names in missing.values() for name in names)
        )
        raise UnboundDimension(f"no value for dimension {', '.join(missing)} of {shapes}", hint=" ".join(flags))


def _example(graph: Graph, dim: str) -> int:
    """A usual size for a symbol: that of an image for an axis of a rank 4 input, else of a sequence."""
    shapes = [graph.tensors[name].shape or () for name in graph.inputs]
    return 224 if any(len(shape) == 4 and Symbol(dim) in shape[2:] for shape in shapes) else 128


def _quoted(name: str) -> str:
    return name if name.replace("_", "").replace(".", "").isalnum() else f"'{name}'"


def infer_operator(
    operator: Operator, facts: list[Fact], opsets: Mapping[str, int], fallback: Fallback | None = None
) -> list[Fact]:
    """What is known of the outputs of one operator, given the `facts` of its inputs.

    Raises:
        Unresolved: no rule, or a rule that lacks something.
        ShapeError: the inputs contradict each other.
    """
    domain = "" if operator.domain == "ai.onnx" else operator.domain
    if not domain and operator.op_type in SEQUENCES:
        try:
            return [SEQUENCES[operator.op_type](operator, facts)]
        except UNEXPECTED as fault:
            raise Unresolved(f"attributes or inputs do not fit the operator ({fault})") from fault
    call = Call(
        operator,
        [fact.shape for fact in facts],
        [fact.dtype for fact in facts],
        [fact.values for fact in facts],
        opsets.get(domain, 1 if domain else NEWEST_OPSET),
    )
    rule = RULES.get(f"{domain}:{operator.op_type}" if domain else operator.op_type)
    specs = list(_ruled(rule, call, opsets, fallback))
    count = len(operator.outputs)
    if len(specs) != count:
        specs = specs[:count] + [(None, None)] * (count - len(specs))
    for shape, dtype in specs:
        if shape is not None:
            _check(call, shape, dtype)
    if domain:
        return [Fact(shape, dtype) for shape, dtype in specs]
    return [Fact(shape, dtype, value) for (shape, dtype), value in zip(specs, fold(call, specs), strict=True)]


def _ruled(rule: Rule | None, call: Call, opsets: Mapping[str, int], fallback: Fallback | None) -> Specs:
    """What the rule says; where it cannot tell, or there is none, what the fallback says."""
    if rule is None:
        specs = None if fallback is None else fallback(call, opsets)
        if specs is None:
            raise Unresolved("no shape rule for this operator")
        return _opened(call, specs)
    try:
        return rule(call)
    except Unresolved as fault:
        reason = fault
    except UNEXPECTED as fault:
        # Attributes of the wrong kind, say: not understood, and so not judged.
        reason = Unresolved(f"attributes or inputs do not fit the operator ({fault})")
    if fallback is None or any(shape is None and call.has(position) for position, shape in enumerate(call.shapes)):
        raise reason
    try:
        specs = fallback(call, opsets)
    except Unresolved:
        raise reason from None
    if specs is None:
        raise reason
    return _opened(call, specs)


def _opened(call: Call, specs: Specs) -> Specs:
    """What a fallback says, its own names of open dimensions replaced by ours."""
    known = {dim for shape in call.shapes for dim in shape or () if isinstance(dim, Symbol)}
    return [
        (
            None
            if shape is None
            else tuple(
                call.unknown_dim(axis, output) if isinstance(dim, Symbol) and dim not in known else dim
                for axis, dim in enumerate(shape)
            ),
            dtype,
        )
        for output, (shape, dtype) in enumerate(specs)
    ]


def _check(call: Call, shape: Shape, dtype: DType | None) -> None:
    """Refuse sizes that no tensor can have."""
    count = 1
    for dim in shape:
        if isinstance(dim, int):
            if dim < 0:
                raise call.error(f"the output would have a negative dimension: {format_shape(shape)}")
            count *= dim
        elif isinstance(dim, Symbol):
            count = 0
        else:
            raise Unresolved(f"a dimension of the output is {dim!r}, not a whole number")
    if count > LARGEST_TENSOR // 16 and count * (dtype.bits or 8 if dtype else 8) // 8 > LARGEST_TENSOR:
        raise call.error(f"the output {format_shape(shape)} is larger than any address space")


class _Walk:
    """One pass over a graph and its subgraphs; collects what could not be told."""

    def __init__(
        self, dims: Mapping[str, int], fallback: Fallback | None, trust_declared: bool, opsets: Mapping[str, int]
    ) -> None:
        self.opsets = opsets
        self.symbols: set[str] = set()
        # names of open dimensions met so far
        self.dims = dims
        self.fallback = fallback
        self.trust_declared = trust_declared
        self.unknowns: list[Unknown] = []
        self.followers = 0
        # operators without a shape only because an input has none
        self.declared_used = 0
        self.disagreements: list[str] = []

    def notes(self) -> list[str]:
        notes = []
        if self.followers:
            notes.append(f"operators without a known size because they follow an unknown one: {self.followers}")
        if self.declared_used:
            notes.append(f"shapes taken from the file's own declarations: {self.declared_used}")
        if self.disagreements:
            shown = "; ".join(self.disagreements[:3])
            notes.append(
                f"declared shapes that differ from the inferred ones, which were used: {len(self.disagreements)} ({shown})"
            )
        return notes

    def graph(self, graph: Graph, outer: Mapping[str, Fact]) -> Graph:
        """`graph` inferred, with the facts that `outer` lends it."""
        facts: dict[str, Fact] = dict(outer)
        for name in graph.inputs:
            self.symbols.update(dim.name for dim in graph.tensors[name].shape or () if isinstance(dim, Symbol))
        for tensor in graph.tensors.values():
            if tensor.role != "activation":
                facts[tensor.name] = Fact(tensor.shape, tensor.dtype, tensor.values)
        tensors = dict(graph.tensors)
        operators = []
        opsets = graph.opsets or self.opsets
        for operator in graph.operators:
            bodies, results = self.operator(operator, graph, facts, opsets)
            if bodies is not operator.subgraphs:
                operator = replace(operator, subgraphs=bodies)
            operators.append(operator)
            for name, fact in zip(operator.outputs, results, strict=True):
                if name:
                    facts[name] = fact
                    tensors[name] = self.tensor(tensors.get(name), name, fact)
        return replace(graph, tensors=tensors, operators=tuple(operators))

    @staticmethod
    def tensor(declared: Tensor | None, name: str, fact: Fact) -> Tensor:
        if declared is None:
            return Tensor(name, fact.shape, fact.dtype, values=fact.values)
        return Tensor(
            name, fact.shape, fact.dtype, declared.role, declared.storage, fact.values, declared.parameter
        )  # fmt: skip

    def operator(
        self, operator: Operator, graph: Graph, facts: dict[str, Fact], opsets: Mapping[str, int]
    ) -> tuple[tuple[Graph, ...], list[Fact]]:
        """The bodies of an operator, inferred, and the facts of its outputs."""
        given = [facts.get(name, NOTHING) if name else NOTHING for name in operator.inputs]
        bodies = operator.subgraphs
        results: list[Fact]
        reason = ""
        try:
            if bodies and operator.op_type in CONTROL:
                inner = Inner(self.runner(facts, opsets), opsets.get("", NEWEST_OPSET))
                bodies, results = control(operator, given, inner)
            else:
                results = infer_operator(operator, given, opsets, self.fallback)
        except Unresolved as fault:
            reason = str(fault)
            results = [NOTHING] * len(operator.outputs)
        settled = [self.settle(name, fact, graph) for name, fact in zip(operator.outputs, results, strict=True)]
        follows = any(name and fact.shape is None for name, fact in zip(operator.inputs, given, strict=True))
        self.record(operator, results, settled, reason, follows=follows)
        return bodies, settled

    def runner(self, outer: Mapping[str, Fact], opsets: Mapping[str, int]) -> Run:
        """How the bodies of one operator are inferred; a body run again replaces what was noted before."""
        before: dict[str, tuple[int, int, int, int]] = {}

        def run(body: Graph, inputs: list[Fact]) -> tuple[Graph, list[Fact]]:
            if body.name in before:
                unknowns, disagreements, self.declared_used, self.followers = before[body.name]
                del self.unknowns[unknowns:], self.disagreements[disagreements:]
            before[body.name] = len(self.unknowns), len(self.disagreements), self.declared_used, self.followers
            return self.body(body, inputs, outer, opsets)

        return run

    def body(
        self, body: Graph, inputs: list[Fact], outer: Mapping[str, Fact], opsets: Mapping[str, int]
    ) -> tuple[Graph, list[Fact]]:
        """Infer a subgraph with `inputs` for its formal inputs; the facts of its outputs."""
        tensors = dict(body.tensors)
        for name, fact in zip(body.inputs, inputs, strict=False):
            have = tensors.get(name) or Tensor(name, role="input")
            shape = fact.shape
            if shape is None and self.trust_declared and have.shape is not None:
                shape = tuple(self.bound(dim) for dim in have.shape)
            tensors[name] = replace(have, shape=shape, dtype=fact.dtype or have.dtype, values=fact.values)
        lent = {name: outer[name] for name in body.captured() if name in outer}
        done = self.graph(replace(body, tensors=tensors, opsets=body.opsets or opsets), lent)
        out = []
        for name in body.outputs:
            tensor = done.tensors.get(name)
            out.append(lent.get(name, NOTHING) if tensor is None else Fact(tensor.shape, tensor.dtype, tensor.values))
        return replace(done, opsets=body.opsets), out

    def settle(self, name: str, fact: Fact, graph: Graph) -> Fact:
        """`fact` with symbols bound and gaps filled from what the file declares."""
        if not name:
            return fact
        declared = graph.tensors.get(name)
        if declared is None and not self.dims:
            return fact
        shape, dtype = fact.shape, fact.dtype
        said = declared.shape if declared is not None and self.trust_declared else None
        if shape == said or said is None:
            if shape is not None and any(dim.__class__ is not int for dim in shape):
                shape = tuple(self.bound(dim) for dim in shape)
        elif shape is None:
            shape = tuple(self.bound(dim) for dim in said)
            self.declared_used += 1
        else:
            shape = self.agreed(name, shape, said)
        if dtype is None and declared is not None:
            dtype = declared.dtype
        return fact if shape is fact.shape and dtype is fact.dtype else replace(fact, shape=shape, dtype=dtype)

    def agreed(self, name: str, shape: Shape, said: Shape) -> Shape:
        """`shape` with its open dimensions taken from the declared one, where that says more."""
        here = tuple(self.bound(dim) for dim in shape)
        there = tuple(self.bound(dim) for dim in said)
        if len(here) != len(there) or any(
            isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(here, there, strict=True)
        ):
            self.disagreements.append(f"{name}: {format_shape(there)} declared, {format_shape(here)}")
            return here
        return tuple(
            b if isinstance(a, Symbol) and (isinstance(b, int) or a.name == f"{name}.{axis}") else a
            for axis, (a, b) in enumerate(zip(here, there, strict=True))
        )

    def bound(self, dim: Dim) -> Dim:
        return self.dims.get(dim.name, dim) if isinstance(dim, Symbol) else dim

    def record(
        self, operator: Operator, results: list[Fact], facts: list[Fact], reason: str, *, follows: bool
    ) -> None:
        """Note an output without a shape, or with a dimension that is first met here.

        `results` is what the rule said, `facts` what holds after declared shapes filled its gaps.
        With `follows` an input has no shape either: the cause was noted before and is not repeated.
        """
        for name, result, fact in zip(operator.outputs, results, facts, strict=True):
            if not name:
                continue
            if fact.shape is None:
                if result.elements is not None:
                    reason = "a sequence of tensors has no size of its own"
                if follows:
                    self.followers += 1
                else:
                    self.unknowns.append(Unknown(operator.name, operator.op_type, reason or "its output has no shape"))
                return
            if all(dim.__class__ is int for dim in fact.shape):
                continue
            made = (*operator.outputs, operator.name)
            guessed = result.shape is None or any(_made_by(dim, made) for dim in result.shape)
            new = [
                dim
                for dim in fact.shape
                if isinstance(dim, Symbol) and (_made_by(dim, made) or (guessed and dim.name not in self.symbols))
            ]
            if new:
                self.symbols.update(dim.name for dim in new)
                hint = " ".join(f"--dim {_quoted(dim.name)}=VALUE" for dim in dict.fromkeys(new))
                why = f"the size of {name!r} ({format_shape(fact.shape)}) is known only while running"
                self.unknowns.append(Unknown(operator.name, operator.op_type, why, hint))
                return


def _made_by(dim: Dim, names: tuple[str, ...]) -> bool:
    """Whether `dim` is a symbol that an operator with these outputs introduced."""
    return isinstance(dim, Symbol) and dim.name.rpartition(".")[0] in names


__all__ = ["Fact", "Fallback", "PeakmemError", "ShapeError", "bind", "infer", "infer_operator", "unbound"]
