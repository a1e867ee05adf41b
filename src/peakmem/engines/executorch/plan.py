"""ExecuTorch's own planner over a graph's live ranges, to hold against what a file has planned.

`greedy` of exir/memory_planning.py, ExecuTorch 1.4.1: tensors by size, largest first, each into the first shared object
none of whose tensors lives at the same time, else behind those that do where there is room, else into a new object at
the end. Alignment is exir/tensor.py's.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from peakmem.frontends.pte.graph import Planned
from peakmem.ir.graph import Graph
from peakmem.liveness import live_ranges

ALIGNMENT = 16
XNNPACK_PADDING = 64
# of every buffer of a graph with a delegate of XNNPACK, which reads past the end of its inputs


@dataclass(frozen=True, slots=True)
class Spec:
    """Bytes that must exist from step `start` to step `end`, both included."""

    name: str
    nbytes: int
    # aligned
    start: int
    end: int
    memory: int


@dataclass(slots=True)
class _Shared:
    nbytes: int
    taken: list[tuple[int, Spec]] = field(default_factory=list)
    # offset inside

    def end_of_alive(self, spec: Spec) -> int:
        """Where those end that live while `spec` does; 0 when there are none."""
        return max(
            (at + one.nbytes for at, one in self.taken if one.start <= spec.end and spec.start <= one.end), default=0
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes that a planner comes to, of all buffers together."""

    greedy: int
    naive: int
    lower_bound: int
    # the most bytes alive at once, as they are; no plan is smaller
    offsets: Mapping[str, int]
    # of greedy, by tensor


def specs(graph: Graph, places: Mapping[str, Planned]) -> list[Spec]:
    """What has a place planned, in the order in which ExecuTorch collects it: states, inputs, results."""
    last = max(len(graph.operators) - 1, 0)
    found = [
        Spec(name, _aligned(places[name].nbytes), -1, last, places[name].memory)
        for name, tensor in graph.tensors.items()
        if tensor.role == "state" and name in places
    ]
    read = {name for operator in graph.operators for name in operator.reads} | set(graph.outputs)
    for buffer in live_ranges(graph).buffers:
        if buffer.name not in places:
            continue
        start, end = buffer.start, buffer.stop - 1
        if buffer.role == "input":
            start, end = -1, end if any(name in read for name in buffer.tensors) else -1
        found.append(Spec(buffer.name, _aligned(places[buffer.name].nbytes), start, end, places[buffer.name].memory))
    return found


def plan(graph: Graph, places: Mapping[str, Planned], *, padding: int) -> Plan:
    """What ExecuTorch's planners make of `graph`; `padding` comes to every buffer."""
    wanted = specs(graph, places)
    offsets: dict[str, int] = {}
    total = naive = 0
    memories = sorted({one.memory for one in wanted})
    for memory in memories:
        mine = [one for one in wanted if one.memory == memory]
        total += _greedy(mine, offsets) + padding
        naive += sum(one.nbytes for one in mine)
    sizes = {name: place.nbytes for name, place in places.items()}
    return Plan(total, naive, _most_alive(wanted, sizes), offsets)


def _greedy(wanted: Sequence[Spec], offsets: dict[str, int]) -> int:
    ordered: list[Spec] = []
    for spec in wanted:
        insort(ordered, spec, key=lambda one: one.nbytes)
    shared: list[_Shared] = []
    places: list[tuple[_Shared, int, Spec]] = []
    for spec in reversed(ordered):
        chosen, at = None, 0
        for one in shared:
            if not any(other.start <= spec.end and spec.start <= other.end for _, other in one.taken):
                chosen = one
                break
        if chosen is None:
            for one in shared:
                end = one.end_of_alive(spec)
                if end > 0 and end + spec.nbytes <= one.nbytes:
                    chosen, at = one, end
                    break
        if chosen is None:
            chosen = _Shared(spec.nbytes)
            shared.append(chosen)
        chosen.taken.append((at, spec))
        places.append((chosen, at, spec))
    total = 0
    starts: dict[int, int] = {}
    for one in shared:
        starts[id(one)] = total
        total += one.nbytes
    for one, at, spec in places:
        offsets[spec.name] = starts[id(one)] + at
    return total


def _most_alive(wanted: Sequence[Spec], sizes: Mapping[str, int]) -> int:
    change: dict[int, int] = {}
    for spec in wanted:
        change[spec.start] = change.get(spec.start, 0) + sizes[spec.name]
        change[spec.end + 1] = change.get(spec.end + 1, 0) - sizes[spec.name]
    alive = most = 0
    for step in sorted(change):
        alive += change[step]
        most = max(most, alive)
    return most


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
