"""How LiteRT places tensors in its arena.

From tflite/arena_planner.cc and tflite/simple_memory_arena.cc of LiteRT f674577 (2026-08-21); ties are broken as
libstdc++'s std::sort and std::unordered_set break them, with which the wheel is built. Sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ALIGNMENT = 64
# kDefaultTensorAlignment (util.h)
NEVER = 2**31 - 1
# kNodeNotAssigned
SCALAR = 4
# kScalarTensorBytes: smaller results are not written over their inputs
MOST_SHARED = 3
# kTfLiteMaxSharableOpInputs
RESERVED = {"SVDF": 6, "BATCH_MATMUL": 7, "UNIDIRECTIONAL_SEQUENCE_LSTM": 12}
EARLY = ("ADD_N", "SVDF")
# tensors that operators add where those are more than they use, and operators that add theirs before all others do
BUCKETS = 13
# of an unordered_set that holds up to as many
SHORT = 16
# what std::sort leaves to insertion

IN_PLACE: Mapping[str, tuple[tuple[int, ...], bool]] = {
    **dict.fromkeys(("ADD", "SUB", "MUL", "DIV"), ((0, 1), True)),
    **dict.fromkeys(("SOFTMAX", "DYNAMIC_UPDATE_SLICE"), ((0,), True)),
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "BITCAST"), ((0,), False)),
}
# inplace_operator of their registrations: inputs whose bytes the output may take, and whether it changes them


@dataclass(frozen=True, slots=True)
class Temporary:
    """A tensor that an operator has beside its outputs."""

    nbytes: int
    persistent: bool = False
    # kTfLiteArenaRwPersistent: an arena of its own kind
    heap: bool = False
    # kTfLiteDynamic: from the heap, for good


@dataclass(frozen=True, slots=True)
class Tensor:
    """What the planner knows of a tensor."""

    nbytes: int
    stored: bool = False
    variable: bool = False


@dataclass(slots=True)
class Planned:
    """The arenas after AllocateTensors."""

    high_water: int = 0
    persistent: int = 0
    lasting: int = 0
    # tensors in the persistent arena
    heap: int = 0
    # temporaries that are no part of an arena
    offsets: dict[int, int] = field(default_factory=dict)
    # of the tensors in the first arena that own their bytes; temporaries follow the file's tensors
    shared: dict[int, int] = field(default_factory=dict)
    lower_bound: int = 0
    workspace: int = 0
    # temporaries, of the bytes that live at once
    fullest: int = 0


def requested(nbytes: int) -> int:
    """What aligned_alloc is asked for (AlignedAlloc); nothing for an empty arena."""
    return -(-(nbytes + ALIGNMENT - 1) // ALIGNMENT) * ALIGNMENT if nbytes else 0


def plan(
    tensors: Sequence[Tensor],
    calls: Sequence[tuple[str, Sequence[int], Sequence[int], Sequence[Temporary]]],
    inputs: Sequence[int],
    outputs: Sequence[int],
    *,
    preserve: bool = False,
) -> Planned:
    """Place tensors as ArenaPlanner does: calls are (operator, inputs, outputs, temporaries)."""
    kept = [0] * len(tensors)
    # refcounts_ before operators count theirs: outputs, variables and inputs never go
    for at in (*outputs, *inputs, *(at for at, one in enumerate(tensors) if one.variable)):
        kept[at] += 1
    counts = list(kept)
    for _, reads, _, _ in calls:
        for at in reads:
            if at >= 0:
                counts[at] += 1
    shared = _shared(tensors, calls, inputs, outputs, counts, preserve)
    left = list(kept)
    for _, reads, _, _ in calls:
        for at in reads:
            if at >= 0:
                left[shared.get(at, at)] += 1
    first = dict.fromkeys((*inputs, *(at for at, one in enumerate(tensors) if one.variable)), 0)
    last: dict[int, int] = {}
    for step, (_, reads, writes, _) in enumerate(calls):
        for at in writes:
            first.setdefault(at, step)
        for at in () if preserve else reads:
            root = shared.get(at, at)
            if at >= 0:
                left[root] -= 1
                if not left[root] and root in first:
                    last[root] = step
    sizes = {at: one.nbytes for at, one in enumerate(tensors)}
    persistent = sum(-(-one.nbytes // ALIGNMENT) * ALIGNMENT for one in tensors if one.variable)
    temporary: set[int] = set()
    lasting = {at for at, one in enumerate(tensors) if one.variable}
    found_heap = 0
    numbers = _numbers(len(tensors), calls)
    for step, (_, _, _, own) in enumerate(calls):
        for at, wanted in zip(numbers[step], own, strict=True):
            sizes[at] = 0 if wanted.heap else wanted.nbytes
            if wanted.heap:
                found_heap += wanted.nbytes
                continue
            first[at] = step
            if not preserve:
                last[at] = step
            if wanted.persistent:
                persistent += -(-wanted.nbytes // ALIGNMENT) * ALIGNMENT
                lasting.add(at)
            else:
                temporary.add(at)
    sized = [at for at in _queued(tensors, calls, inputs, numbers) if at in first and sizes[at]]
    sized = [at for at in sized if at >= len(tensors) or not tensors[at].stored]
    owned = {at for at in sized if at not in shared and at not in lasting}
    found = Planned(persistent=persistent, lasting=len(lasting), heap=found_heap, shared=shared)
    _place(found, sized, owned, sizes, first, last)
    changes: dict[int, int] = {}
    for at in owned:
        changes[first[at]] = changes.get(first[at], 0) + sizes[at]
        end = last.get(at, NEVER) + 1
        changes[end] = changes.get(end, 0) - sizes[at]
    live = 0
    for step in sorted(changes):
        live += changes[step]
        if live > found.lower_bound:
            found.lower_bound, found.fullest = live, step
    found.workspace = sum(sizes[at] for at in temporary if first[at] <= found.fullest <= last.get(at, NEVER))
    return found


def _shared(
    tensors: Sequence[Tensor],
    calls: Sequence[tuple[str, Sequence[int], Sequence[int], Sequence[Temporary]]],
    inputs: Sequence[int],
    outputs: Sequence[int],
    counts: Sequence[int],
    preserve: bool,
) -> dict[int, int]:
    """Outputs that take the bytes of an input (IdentifyInPlaceTensors), with the tensor that owns them."""
    shared: dict[int, int] = {}
    for op_type, reads, writes, _ in calls:
        if op_type not in IN_PLACE or not writes or preserve:
            continue
        ports, changes = IN_PLACE[op_type]
        result = writes[0]
        for port in ports:
            if port >= min(MOST_SHARED, len(reads)) or reads[port] < 0:
                continue
            given = reads[port]
            one, other = tensors[given], tensors[result]
            if changes and (one.nbytes != other.nbytes or one.nbytes <= SCALAR or counts[given] > 1):
                continue
            if given in inputs or result in outputs or one.stored or one.variable:
                continue
            root = shared.get(given, given)
            if not (changes and counts[root] > 1) and one.nbytes == other.nbytes:
                shared[result] = root
            break
    return shared


def _place(
    found: Planned, sized: list[int], owned: set[int], sizes: Mapping[int, int], first: Mapping[int, int],
    last: Mapping[int, int],
) -> None:  # fmt: skip
    """CreateTensorAllocationVector and SimpleMemoryArena::Allocate: whole-life tensors, then by size, best gap."""

    def key(at: int) -> tuple[int, int, int]:
        whole = first[at] == 0 and at not in last
        return (0, at, 0) if whole else (1, -sizes[at], first[at])

    placed: list[tuple[int, int]] = []
    # (offset, tensor), by offset
    for at in introsort(sized, key):
        if at not in owned:
            continue
        here = best = 0
        best_fit = -1
        for offset, other in placed:
            if last.get(other, NEVER) < first[at] or first[other] > last.get(at, NEVER):
                continue
            aligned = -(-here // ALIGNMENT) * ALIGNMENT
            if aligned + sizes[at] <= offset and (best_fit < 0 or offset - aligned < best_fit):
                best, best_fit = aligned, offset - here
            here = max(here, offset + sizes[other])
            if best_fit == 0:
                break
        if best_fit < 0:
            best = -(-here // ALIGNMENT) * ALIGNMENT
        found.offsets[at] = best
        found.high_water = max(found.high_water, best + sizes[at])
        position = len(placed)
        while position and placed[position - 1][0] > best:
            position -= 1
        placed.insert(position, (best, at))


def _numbers(
    count: int, calls: Sequence[tuple[str, Sequence[int], Sequence[int], Sequence[Temporary]]]
) -> list[list[int]]:
    """Numbers of each operator's temporary tensors, as AddTensors gives them: in Init, then in Prepare."""
    found: list[list[int]] = [[] for _ in calls]
    for early in (True, False):
        for step, (op_type, _, _, own) in enumerate(calls):
            if (op_type in EARLY) == early:
                found[step] = list(range(count, count + len(own)))
                count += max(len(own), RESERVED.get(op_type, 0))
    return found


def _queued(
    tensors: Sequence[Tensor],
    calls: Sequence[tuple[str, Sequence[int], Sequence[int], Sequence[Temporary]]],
    inputs: Sequence[int],
    numbers: Sequence[Sequence[int]],
) -> list[int]:
    """Tensors in the order in which GetTensorsToAllocate lists them: operator by operator, out of hash sets."""
    sets: list[list[int]] = [[] for _ in range(max(len(calls), 1))]
    sets[0] += [at for at, one in enumerate(tensors) if one.variable]
    sets[0] += inputs
    for step, (_, _, writes, _) in enumerate(calls):
        sets[step] += writes
    for step, own in enumerate(numbers):
        sets[step] += own
    return list(dict.fromkeys(at for one in sets for at in _hashed(one)))


def _hashed(values: Sequence[int]) -> list[int]:
    """Order of an unordered_set: a new bucket goes to the front, a value to the front of its bucket."""
    found: list[int] = []
    for value in dict.fromkeys(values):
        there = [at for at, one in enumerate(found) if one % BUCKETS == value % BUCKETS]
        found.insert(there[0] if there else 0, value)
    return found


def introsort(values: Sequence[int], key: Callable[[int], Any]) -> list[int]:
    """std::sort of libstdc++: quicksort by the median of three down to runs of 16, then insertion, which is stable."""
    found = list(values)
    waiting = [(0, len(found))]
    while waiting:
        low, high = waiting.pop()
        while high - low > SHORT:
            cut = _partition(found, low, high, key)
            waiting.append((cut, high))
            high = cut
    return sorted(found, key=key)


def _partition(found: list[int], low: int, high: int, key: Callable[[int], Any]) -> int:
    one, two, three = low + 1, low + (high - low) // 2, high - 1
    first, second, third = (key(found[at]) for at in (one, two, three))
    if first < second:
        middle = two if second < third else three if first < third else one
    else:
        middle = one if first < third else three if second < third else two
    found[low], found[middle] = found[middle], found[low]
    pivot = key(found[low])
    left, right = low + 1, high
    while True:
        while key(found[left]) < pivot:
            left += 1
        right -= 1
        while pivot < key(found[right]):
            right -= 1
        if left >= right:
            return left
        found[left], found[right] = found[right], found[left]
        left += 1
