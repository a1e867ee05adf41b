"""Shapes through If, Loop and Scan: what the bodies give, and what depends on running them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from peakmem.dtypes import BOOL, INT64
from peakmem.ir.dims import Shape, Symbol
from peakmem.ir.graph import Graph, Operator

if TYPE_CHECKING:
    from peakmem.ir.shapes.infer import Fact

Run: TypeAlias = "Callable[[Graph, list[Fact]], tuple[Graph, list[Fact]]]"
Result: TypeAlias = "tuple[tuple[Graph, ...], list[Fact]]"


@dataclass(frozen=True, slots=True)
class Inner:
    """How a rule has a body inferred: `run(body, facts of its inputs)`."""

    run: Run


def _if(operator: Operator, given: list[Fact], inner: Inner) -> Result:
    done, branches = [], []
    for body in operator.subgraphs:
        graph, facts = inner.run(body, [])
        done.append(graph)
        branches.append(facts)
    chosen = given[0].values
    if chosen is not None and len(branches) == 2:
        names = [body.name for body in operator.subgraphs]
        wanted = "then_branch" if chosen[0] else "else_branch"
        if wanted in names:
            return tuple(done), branches[names.index(wanted)][: len(operator.outputs)]
    merged = []
    for position in range(len(operator.outputs)):
        facts = [branch[position] for branch in branches if position < len(branch)]
        merged.append(_merge(facts, operator.outputs[position]))
    return tuple(done), merged


def _merge(facts: list[Fact], name: str) -> Fact:
    """What holds whichever branch runs."""
    from peakmem.ir.shapes.infer import NOTHING, Fact

    if not facts or any(fact.shape is None for fact in facts):
        return NOTHING
    shapes: list[Shape] = [fact.shape for fact in facts if fact.shape is not None]
    if len({len(shape) for shape in shapes}) != 1:
        return Fact(None, facts[0].dtype)
    dims = tuple(
        column[0] if all(dim == column[0] for dim in column) else Symbol(f"{name}.{axis}")
        for axis, column in enumerate(zip(*shapes, strict=True))
    )
    return Fact(dims, facts[0].dtype)


def _loop(operator: Operator, given: list[Fact], inner: Inner) -> Result:
    from peakmem.ir.shapes.infer import Fact

    (body,) = operator.subgraphs
    states = given[2:]
    iteration, condition = Fact((), INT64), Fact((), BOOL)
    graph, facts = inner.run(body, [iteration, condition, *(Fact(s.shape, s.dtype) for s in states)])
    carried = facts[1 : 1 + len(states)]
    if any(a.shape != b.shape for a, b in zip(states, carried, strict=False)):
        # A state that changes shape: what stays equal over a second pass is certain.
        again = [_merge([a, b], name) for a, b, name in zip(states, carried, operator.outputs, strict=False)]
        graph, facts = inner.run(body, [iteration, condition, *again])
        carried = [_merge([a, b], name) for a, b, name in zip(again, facts[1:], operator.outputs, strict=False)]
    trips = given[0].values if given and given[0].values else None
    outputs = list(carried)
    for fact in facts[1 + len(states) :]:
        name = operator.outputs[len(outputs)] if len(outputs) < len(operator.outputs) else ""
        count = trips[0] if trips and 0 <= trips[0] < 2**40 else Symbol(f"{name}.0")
        outputs.append(Fact(None if fact.shape is None else (count, *fact.shape), fact.dtype))
    return (graph,), outputs[: len(operator.outputs)]


def _scan(operator: Operator, given: list[Fact], inner: Inner) -> Result:
    from peakmem.ir.shapes.infer import Fact

    (body,) = operator.subgraphs
    scanned = int(operator.attributes.get("num_scan_inputs", 1))
    states, sequences = given[: len(given) - scanned], given[len(given) - scanned :]
    axes = operator.attributes.get("scan_input_axes") or (0,) * scanned
    length: object = None
    slices = []
    for fact, axis in zip(sequences, axes, strict=True):
        if fact.shape is None:
            slices.append(Fact(None, fact.dtype))
            continue
        axis = axis % len(fact.shape)
        length = fact.shape[axis] if length is None else length
        slices.append(Fact((*fact.shape[:axis], *fact.shape[axis + 1 :]), fact.dtype))
    graph, facts = inner.run(body, [*(Fact(s.shape, s.dtype) for s in states), *slices])
    outputs = list(facts[: len(states)])
    out_axes = operator.attributes.get("scan_output_axes") or ()
    for position, fact in enumerate(facts[len(states) :]):
        shape = None
        if fact.shape is not None and length is not None:
            rank = len(fact.shape) + 1
            at = out_axes[position] % rank if position < len(out_axes) else 0
            shape = (*fact.shape[:at], length, *fact.shape[at:])
        outputs.append(Fact(shape, fact.dtype))  # type: ignore[arg-type]
    return (graph,), outputs[: len(operator.outputs)]


CONTROL: dict[str, Callable[[Operator, list[Fact], Inner], Result]] = {
    "If": _if,
    "Loop": _loop,
    "Scan": _scan,
}
