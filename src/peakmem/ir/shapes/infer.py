"""The inference pass: from input shapes to the shape, dtype and small contents of every tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from peakmem.dtypes import DType
from peakmem.errors import PeakmemError, ShapeError, UnboundDimension, UsageError
from peakmem.ir.dims import Dim, Shape, Symbol, element_count, format_shape
from peakmem.ir.graph import Graph, Operator, Tensor, Unknown
from peakmem.ir.shapes.call import RULES, Call, Spec, Unresolved
from peakmem.ir.shapes.control import CONTROL, Inner
from peakmem.ir.shapes.fold import fold

Fallback: TypeAlias = Callable[[Call, Mapping[str, int]], list[Spec] | None]
# (call, opsets) -> one spec per output, or None when it cannot tell either

LARGEST_TENSOR = 2**56
# bytes; beyond the address space of any machine a size is an overflow or an attack


@dataclass(frozen=True, slots=True)
class Fact:
    """What is known of one tensor while inferring."""

    shape: Shape | None
    dtype: DType | None
    values: tuple[Any, ...] | None = None


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
    walk = _Walk(dims or {}, fallback, trust_declared)
    inferred = walk.graph(graph, {})
    return replace(inferred, unknowns=(*graph.unknowns, *walk.unknowns), notes=(*graph.notes, *walk.notes()))


def _refuse_unbound(graph: Graph) -> None:
    for name in graph.inputs:
        if graph.tensors[name].shape is None:
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
        flags += [f"--dim {_quoted(dim)}=VALUE" for dim in missing if dim not in batch[:1]]
        shapes = "; ".join(
            f"{name}: {format_shape(graph.tensors[name].shape)}"
            for name in dict.fromkeys(name for names in missing.values() for name in names)
        )
        raise UnboundDimension(f"no value for dimension {', '.join(missing)} of {shapes}", hint=" ".join(flags))


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
    call = Call(
        operator,
        [fact.shape for fact in facts],
        [fact.dtype for fact in facts],
        [fact.values for fact in facts],
        opsets.get(operator.domain, 1 if operator.domain else 22),
    )
    key = f"{operator.domain}:{operator.op_type}" if operator.domain else operator.op_type
    rule = RULES.get(key)
    specs: list[Spec] | None = None
    if rule is not None:
        try:
            specs = list(rule(call))
        except (TypeError, ValueError, IndexError, KeyError, AttributeError, ZeroDivisionError, OverflowError) as fault:
            if any(shape is not None and any(isinstance(d, Symbol) for d in shape) for shape in call.shapes):
                raise Unresolved("it depends on a dimension that only running can tell") from fault
            raise call.error(f"attributes or inputs do not fit the operator ({fault})") from fault
    elif fallback is not None:
        specs = fallback(call, opsets)
    if specs is None:
        raise Unresolved("no shape rule for this operator")
    count = len(operator.outputs)
    specs = specs[:count] + [(None, None)] * (count - len(specs))
    for shape, dtype in specs:
        _check(call, shape, dtype)
    values = fold(call, specs)
    return [Fact(shape, dtype, value) for (shape, dtype), value in zip(specs, values, strict=True)]


def _check(call: Call, shape: Shape | None, dtype: DType | None) -> None:
    if shape is None:
        return
    for dim in shape:
        if isinstance(dim, int) and dim < 0:
            raise call.error(f"the output would have a negative dimension: {format_shape(shape)}")
    count = element_count(shape)
    if count is not None and count * (dtype.bits or 8 if dtype else 8) // 8 > LARGEST_TENSOR:
        raise call.error(f"the output {format_shape(shape)} is larger than any address space")


class _Walk:
    """One pass over a graph and its subgraphs; collects what could not be told."""

    def __init__(self, dims: Mapping[str, int], fallback: Fallback | None, trust_declared: bool) -> None:
        self.dims = dims
        self.fallback = fallback
        self.trust_declared = trust_declared
        self.unknowns: list[Unknown] = []
        self.declared_used = 0
        self.disagreements: list[str] = []

    def notes(self) -> list[str]:
        notes = []
        if self.declared_used:
            notes.append(f"shapes of {self.declared_used} tensors are taken from the file's own declarations")
        if self.disagreements:
            shown = "; ".join(self.disagreements[:3])
            notes.append(
                f"{len(self.disagreements)} declared shapes differ from the inferred ones, which were used: {shown}"
            )
        return notes

    def graph(self, graph: Graph, outer: Mapping[str, Fact]) -> Graph:
        facts: dict[str, Fact] = dict(outer)
        for tensor in graph.tensors.values():
            if tensor.role != "activation":
                facts[tensor.name] = Fact(tensor.shape, tensor.dtype, tensor.values)
        tensors = dict(graph.tensors)
        operators = []
        for operator in graph.operators:
            bodies, results = self.operator(operator, graph, facts)
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
        values = fact.values
        if declared is None:
            return Tensor(name, fact.shape, fact.dtype, values=values)
        return replace(declared, shape=fact.shape, dtype=fact.dtype, values=values)

    def operator(
        self, operator: Operator, graph: Graph, facts: dict[str, Fact]
    ) -> tuple[tuple[Graph, ...], list[Fact]]:
        given = [facts.get(name, NOTHING) if name else NOTHING for name in operator.inputs]
        bodies = operator.subgraphs
        results: list[Fact]
        reason = ""
        try:
            if bodies:
                inner = Inner(lambda body, inputs: self.body(body, inputs, facts))
                bodies, results = CONTROL[operator.op_type](operator, given, inner)
            else:
                results = infer_operator(operator, given, graph.opsets, self.fallback)
        except Unresolved as fault:
            reason = str(fault)
            results = [NOTHING] * len(operator.outputs)
        except KeyError:
            reason = "no shape rule for this operator"
            results = [NOTHING] * len(operator.outputs)
        settled = [self.settle(name, fact, graph) for name, fact in zip(operator.outputs, results, strict=True)]
        self.record(operator, settled, reason, given)
        return bodies, settled

    def body(self, body: Graph, inputs: list[Fact], outer: Mapping[str, Fact]) -> tuple[Graph, list[Fact]]:
        """Infer a subgraph with `inputs` for its formal inputs; the facts of its outputs."""
        tensors = dict(body.tensors)
        for name, fact in zip(body.inputs, inputs, strict=False):
            have = tensors[name]
            shape = fact.shape if fact.shape is not None else have.shape
            tensors[name] = replace(have, shape=shape, dtype=fact.dtype or have.dtype, values=fact.values)
        done = self.graph(replace(body, tensors=tensors), outer)
        out = []
        for name in body.outputs:
            tensor = done.tensors.get(name)
            out.append(
                outer.get(name, NOTHING) if tensor is None else Fact(tensor.shape, tensor.dtype, tensor.values)
            )
        return done, out

    def settle(self, name: str, fact: Fact, graph: Graph) -> Fact:
        """`fact` with symbols bound and gaps filled from what the file declares."""
        if not name:
            return fact
        declared = graph.tensors.get(name)
        shape, dtype = fact.shape, fact.dtype
        said = declared.shape if declared is not None and self.trust_declared else None
        if said is not None:
            said = tuple(self._bound(dim) for dim in said)
            if shape is None:
                shape = said
                self.declared_used += 1
            elif len(shape) == len(said):
                if all(isinstance(dim, int) for dim in (*shape, *said)):
                    if shape != said:
                        self.disagreements.append(f"{name}: {format_shape(said)} declared, {format_shape(shape)}")
                else:
                    shape = tuple(
                        there if isinstance(here, Symbol) and isinstance(self._bound(here), Symbol) else here
                        for here, there in zip(shape, said, strict=True)
                    )
        if shape is not None:
            shape = tuple(self._bound(dim) for dim in shape)
        if dtype is None and declared is not None:
            dtype = declared.dtype
        return Fact(shape, dtype, fact.values)

    def _bound(self, dim: Dim) -> Dim:
        return self.dims.get(dim.name, dim) if isinstance(dim, Symbol) else dim

    def record(self, operator: Operator, facts: list[Fact], reason: str, given: list[Fact]) -> None:
        for name, fact in zip(operator.outputs, facts, strict=True):
            if not name:
                continue
            if fact.shape is None:
                self.unknowns.append(Unknown(operator.name, operator.op_type, reason or "its output has no shape"))
                return
            open_dims = [dim for dim in fact.shape if isinstance(dim, Symbol)]
            if open_dims and not self._inherited(open_dims, given):
                hint = " ".join(f"--dim {_quoted(dim.name)}=VALUE" for dim in dict.fromkeys(open_dims))
                why = f"the size of {name!r} ({format_shape(fact.shape)}) is known only while running"
                self.unknowns.append(Unknown(operator.name, operator.op_type, why, hint))
                return

    @staticmethod
    def _inherited(dims: list[Symbol], given: list[Fact]) -> bool:
        had = {dim for fact in given for dim in fact.shape or () if isinstance(dim, Symbol)}
        return all(dim in had for dim in dims)


__all__ = ["Fact", "Fallback", "PeakmemError", "ShapeError", "bind", "infer", "infer_operator", "unbound"]
