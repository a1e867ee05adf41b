"""Check a graph once, at the door, and name the first thing that is wrong with it.

`validate` never repairs; `schedule_order` puts the operators of an unordered file in an order
that can run, or shows the cycle that forbids one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush

from peakmem.errors import GraphError
from peakmem.ir.graph import Graph, Operator


def validate(graph: Graph, *, outer: frozenset[str] = frozenset()) -> None:
    """Raise GraphError on the first fault: a name made twice, read before it is made, missing.

    Args:
        graph: the graph to check; its subgraphs are checked too.
        outer: names an enclosing graph lends to this one.
    """
    where = graph.source or graph.name
    for name, tensor in graph.tensors.items():
        if name != tensor.name:
            raise GraphError(f"tensor {tensor.name!r} is filed under {name!r}", where=where)
        if tensor.storage and tensor.storage not in graph.tensors:
            raise GraphError(f"{name!r} shares the storage of {tensor.storage!r}, which does not exist", where=where)
        for dim in tensor.shape or ():
            if isinstance(dim, int) and dim < 0:
                raise GraphError(f"tensor {name!r} has a negative dimension {dim}", where=where, expected="0 or more")
    made = {name for name, tensor in graph.tensors.items() if tensor.role != "activation"}
    for name in graph.inputs:
        if name not in graph.tensors or graph.tensors[name].role == "activation":
            raise GraphError(f"graph input {name!r} is not an input tensor", where=where)
    names: set[str] = set()
    for operator in graph.operators:
        if operator.name in names:
            raise GraphError(f"two operators are called {operator.name!r}", where=where)
        names.add(operator.name)
        _validate_operator(operator, graph, made, outer, where)
    for name in graph.outputs:
        if name not in made and name not in outer:
            raise GraphError(f"graph output {name!r} is made by no operator", where=where)


def _validate_operator(operator: Operator, graph: Graph, made: set[str], outer: frozenset[str], where: str) -> None:
    for name in operator.reads:
        if name not in made and name not in outer:
            later = any(name in other.outputs for other in graph.operators)
            fault = "before it is made" if later else "which nothing makes"
            raise GraphError(f"operator {operator.name!r} ({operator.op_type}) reads {name!r}, {fault}", where=where)
    for name in operator.outputs:
        if not name:
            continue
        if name in made:
            raise GraphError(f"tensor {name!r} is made twice, again by {operator.name!r}", where=where)
        if name not in graph.tensors:
            raise GraphError(f"operator {operator.name!r} makes {name!r}, which has no tensor", where=where)
        made.add(name)
    for output, source in operator.aliases:
        if not (0 <= output < len(operator.outputs) and 0 <= source < len(operator.inputs)):
            raise GraphError(f"operator {operator.name!r} aliases positions it does not have", where=where)
    if operator.subgraphs:
        for subgraph in operator.subgraphs:
            lent = (name for name in subgraph.captured() if name in made or name in outer)
            validate(subgraph, outer=frozenset(lent))


def schedule_order(operators: Sequence[Operator], where: str = "") -> tuple[Operator, ...]:
    """`operators` in an order that makes every tensor before it is read.

    An order that already does is kept; otherwise the earliest ready operator of the given order
    goes first.

    Raises:
        GraphError: the operators form a cycle; the message shows it.
    """
    producer: dict[str, int] = {}
    for position, operator in enumerate(operators):
        for name in operator.outputs:
            if name in producer and name:
                raise GraphError(f"tensor {name!r} is made twice, again by {operator.name!r}", where=where)
            producer[name] = position
    producer.pop("", None)
    needs: list[set[int]] = [{producer[name] for name in operator.reads if name in producer} for operator in operators]
    if all(not need or max(need) < position for position, need in enumerate(needs)):
        return tuple(operators)
    users: dict[int, list[int]] = {}
    for position, need in enumerate(needs):
        for source in need:
            users.setdefault(source, []).append(position)
    waiting = [len(need) for need in needs]
    ready = [position for position, count in enumerate(waiting) if count == 0]
    heapify(ready)
    order: list[int] = []
    while ready:
        position = heappop(ready)
        order.append(position)
        for user in users.get(position, ()):
            waiting[user] -= 1
            if waiting[user] == 0:
                heappush(ready, user)
    if len(order) < len(operators):
        raise GraphError(f"the operators form a cycle: {_cycle(operators, needs, set(order))}", where=where)
    return tuple(operators[position] for position in order)


def _cycle(operators: Sequence[Operator], needs: list[set[int]], done: set[int]) -> str:
    position = next(p for p in range(len(operators)) if p not in done)
    seen: dict[int, int] = {}
    path: list[int] = []
    while position not in seen:
        seen[position] = len(path)
        path.append(position)
        position = next(p for p in sorted(needs[position]) if p not in done)
    loop = [operators[p].name for p in path[seen[position] :]]
    shown = loop if len(loop) <= 6 else [*loop[:3], "…", *loop[-2:]]
    return " ← ".join([*shown, loop[0]])


def count_by_type(operators: Sequence[Operator]) -> Mapping[str, int]:
    """How many operators there are of each type, most frequent first."""
    counts: dict[str, int] = {}
    for operator in operators:
        counts[operator.op_type] = counts.get(operator.op_type, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
