"""Shapes through If, Loop, Scan and their kin: what the bodies give, and what depends on running them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from peakmem.dtypes import BOOL, INT64
from peakmem.errors import ShapeError
from peakmem.ir.dims import Dim, Shape, Symbol
from peakmem.ir.graph import Graph, Operator
from peakmem.ir.kinds import native
from peakmem.ir.shapes.call import Unresolved
from peakmem.ir.shapes.facts import NOTHING, Fact

Run: TypeAlias = Callable[[Graph, list[Fact]], tuple[Graph, list[Fact]]]
Result: TypeAlias = tuple[tuple[Graph, ...], list[Fact]]

MOST_PASSES = 4
# over a loop whose state changes shape; every pass opens a dimension or is the last


@dataclass(frozen=True, slots=True)
class Inner:
    """How a rule has a body inferred: `run(body, facts of its inputs)`."""

    run: Run
    opset: int


def control(operator: Operator, given: list[Fact], inner: Inner) -> Result:
    """Infer the bodies of an operator of `CONTROL`, and what it gives.

    Raises:
        Unresolved: it does not have the bodies or inputs it should have.
        ShapeError: shapes inside a body contradict each other.
    """
    try:
        bodies, facts = CONTROL[native(operator)](operator, given, inner)
    except (ArithmeticError, IndexError, KeyError, TypeError, ValueError) as fault:
        raise Unresolved(f"its bodies or inputs are not what the operator takes ({fault})") from fault
    count = len(operator.outputs)
    return bodies, (facts + [NOTHING] * count)[:count]


def _if(operator: Operator, given: list[Fact], inner: Inner) -> Result:
    chosen = given[0].values
    wanted = None if not chosen or isinstance(chosen[0], Symbol) else ("then_branch" if chosen[0] else "else_branch")
    done, branches = [], []
    faults: list[ShapeError] = []
    for body in operator.subgraphs:
        possible = wanted is None or body.name == wanted
        try:
            graph, facts = inner.run(body, [])
        except ShapeError as fault:
            # A branch that does not fit the shapes at hand is one that is not taken.
            done.append(body)
            faults += [fault] if possible else []
            continue
        done.append(graph)
        branches += [facts] if possible else []
    if faults and not branches:
        raise faults[0]
    merged = []
    for position, name in enumerate(operator.outputs):
        merged.append(_merge([branch[position] for branch in branches if position < len(branch)], name))
    return tuple(done), merged


def _merge(facts: Sequence[Fact], name: str) -> Fact:
    """What holds whichever of `facts` it is: the value `name`."""
    if not facts:
        return NOTHING
    if len(facts) == 1:
        return facts[0]
    dtype = facts[0].dtype if all(fact.dtype == facts[0].dtype for fact in facts) else None
    shapes: list[Shape] = [fact.shape for fact in facts if fact.shape is not None]
    if len(shapes) < len(facts) or len({len(shape) for shape in shapes}) != 1:
        return Fact(None, dtype)
    dims = tuple(
        column[0] if all(dim == column[0] for dim in column) else Symbol(f"{name}.{axis}")
        for axis, column in enumerate(zip(*shapes, strict=True))
    )
    values = facts[0].values if all(fact.values == facts[0].values for fact in facts) else None
    return Fact(dims, dtype, values)


def _loop(operator: Operator, given: list[Fact], inner: Inner) -> Result:
    (body,) = operator.subgraphs
    # Contents change from turn to turn; only shapes that survive a turn are certain.
    states = [Fact(state.shape, state.dtype) for state in given[2:]]
    names = [_name(operator, position) for position in range(len(states))]
    turn, condition = Fact((), INT64), Fact((), BOOL)
    for _ in range(MOST_PASSES):
        graph, facts = inner.run(body, [turn, condition, *states])
        carried = [
            _merge([before, Fact(after.shape, after.dtype)], name)
            for before, after, name in zip(states, facts[1:], names, strict=False)
        ]
        if carried == states:
            break
        states = carried
    else:
        states = [Fact(None, state.dtype) for state in states]
        graph, facts = inner.run(body, [turn, condition, *states])
    trips = given[0].values if given and given[0].values else None
    count: Dim | None = trips[0] if trips and _runs_to_the_end(operator, graph, given) else None
    count = 0 if isinstance(count, int) and count < 0 else count
    outputs = list(states)
    for fact in facts[1 + len(states) :]:
        turns: Dim = Symbol(f"{_name(operator, len(outputs))}.0") if count is None else count
        outputs.append(Fact(None if fact.shape is None else (turns, *fact.shape), fact.dtype))
    return (graph,), outputs


def _name(operator: Operator, position: int) -> str:
    name = operator.outputs[position] if position < len(operator.outputs) else ""
    return name or operator.name


def _runs_to_the_end(operator: Operator, body: Graph, given: Sequence[Fact]) -> bool:
    """Whether nothing but the trip count ends a loop: its condition is true and stays as it is."""
    first = given[1].values if len(given) > 1 else None
    absent = len(operator.inputs) < 2 or not operator.inputs[1]
    if not (absent or (first and first[0] is not None and not isinstance(first[0], Symbol) and first[0])):
        return False
    made = {name: inside for inside in body.operators for name in inside.outputs}
    name = body.outputs[0]
    while name in made and made[name].op_type in ("Identity", "Cast"):
        name = made[name].inputs[0]
    if len(body.inputs) > 1 and name == body.inputs[1]:
        return True
    tensor = body.tensors.get(name)
    values = tensor.values if tensor is not None else None
    return values is not None and len(values) > 0 and values[0] in (True, 1)


def _scan(operator: Operator, given: list[Fact], inner: Inner) -> Result:
    (body,) = operator.subgraphs
    # Before operator set 9: a leading input of sequence lengths, and a batch axis everywhere.
    batched = inner.opset < 9
    given = given[1:] if batched else given
    count = int(operator.attributes.get("num_scan_inputs", 1))
    split = len(given) - count
    if not 0 <= split <= len(given):
        raise Unresolved(f"{count} of its {len(given)} inputs cannot be sequences")
    states, sequences = given[:split], given[split:]
    axes = operator.attributes.get("scan_input_axes") or (0,) * count
    batch = next((fact.shape[0] for fact in given if fact.shape), None) if batched else None
    length: Dim | None = None
    slices = []
    for fact, axis in zip(sequences, axes, strict=True):
        shape = fact.shape
        if shape is not None:
            shape = shape[1:] if batched else shape
            at = axis % len(shape)
            length = shape[at] if length is None or isinstance(length, Symbol) else length
            shape = (*shape[:at], *shape[at + 1 :])
        slices.append(Fact(shape, fact.dtype))
    inside = [Fact(s.shape[1:] if batched and s.shape is not None else s.shape, s.dtype) for s in states]
    graph, facts = inner.run(body, [*inside, *slices])
    # A state keeps its shape; where the body says otherwise the shape is open.
    kept = [_merge([a, b], _name(operator, i)) for i, (a, b) in enumerate(zip(inside, facts, strict=False))]
    out_axes = operator.attributes.get("scan_output_axes") or ()
    outputs = kept
    for position, fact in enumerate(facts[split:]):
        shape = None
        if fact.shape is not None and length is not None:
            rank = len(fact.shape) + 1
            at = out_axes[position] % rank if position < len(out_axes) else 0
            shape = (*fact.shape[:at], length, *fact.shape[at:])
        outputs.append(Fact(shape, fact.dtype))
    if batched:
        outputs = [
            Fact(None if fact.shape is None or batch is None else (batch, *fact.shape), fact.dtype) for fact in outputs
        ]
    return (graph,), outputs


def _branches(operator: Operator, given: list[Fact], inner: Inner) -> Result:
    """One of several bodies runs, on the inputs after the first."""
    runs = [inner.run(body, given[1:]) for body in operator.subgraphs]
    merged = [
        _merge([facts[position] for _, facts in runs if position < len(facts)], name)
        for position, name in enumerate(operator.outputs)
    ]
    return tuple(graph for graph, _ in runs), merged


def _call(operator: Operator, given: list[Fact], inner: Inner) -> Result:
    """The body runs once, on the inputs."""
    (body,) = operator.subgraphs
    graph, facts = inner.run(body, given)
    return (graph,), facts


def _while(operator: Operator, given: list[Fact], inner: Inner) -> Result:
    """Two bodies run on a state in turn: one says whether to go on, the other makes the next state."""
    condition, body = operator.subgraphs
    states = [Fact(state.shape, state.dtype) for state in given]
    for _ in range(MOST_PASSES):
        graph, facts = inner.run(body, states)
        carried = [
            _merge([before, Fact(after.shape, after.dtype)], _name(operator, position))
            for position, (before, after) in enumerate(zip(states, facts, strict=False))
        ]
        if carried == states:
            break
        states = carried
    else:
        states = [Fact(None, state.dtype) for state in states]
        graph, _ = inner.run(body, states)
    return (inner.run(condition, states)[0], graph), states


CONTROL: dict[str, Callable[[Operator, list[Fact], Inner], Result]] = {
    "If": _if,
    "Loop": _loop,
    "Scan": _scan,
    "tflite:IF": _branches,
    "tflite:WHILE": _while,
    "tflite:CALL": _call,
    "tflite:CALL_ONCE": _call,
    "tflite:STABLEHLO_CASE": _branches,
    "tflite:STABLEHLO_WHILE": _while,
    "tflite:STABLEHLO_COMPOSITE": _call,
}
