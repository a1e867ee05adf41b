"""XNNPACK's memory planner: largest first, in the smallest gap that fits.

From src/memory-planner.c and src/runtime.c (xnn_plan_memory) of XNNPACK 75db3c0 (2026-08-21).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

IN_PLACE = frozenset(("unary", "binary", "copy", "softmax", "static_reshape"))
# node types whose output may take an input's place (optimize_tensor_allocation_for_in_place_operations)


@dataclass(slots=True)
class Record:
    """xnn_usage_record."""

    nbytes: int = 0
    first: int = 0
    last: int = 0
    reuses: int = -1
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One node of the runtime."""

    type: str
    inputs: Sequence[int]
    outputs: Sequence[int]
    workspace: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Where everything lies."""

    nbytes: int
    fullest: int
    # bytes alive at once, most
    at: int
    # during which step
    records: Sequence[Record]


def lifetimes(steps: Sequence[Step], count: int) -> list[Record]:
    """populate_value_lifecycle: node 0 is looked at last, since 0 stands for unset."""
    records = [Record() for _ in range(count + len(steps))]
    for at, step in enumerate(steps):
        for value in (*step.inputs, *step.outputs) if at else ():
            if records[value].first == 0:
                records[value].first = at
            records[value].last = at
    for value in (*steps[0].inputs, *steps[0].outputs) if steps else ():
        records[value].first = 0
    return records


def plan(
    steps: Sequence[Step], sizes: Mapping[int, int], exact: Mapping[int, int], single: Mapping[int, int], count: int,
    alignment: int,
) -> Plan:  # fmt: skip
    """Place values and operators' workspaces.

    Args:
        steps: nodes in the order of running.
        sizes: rounded bytes of each value that lies in the workspace, by number.
        exact: their bytes as they are.
        single: first consumer of each value that has exactly one.
        count: values in all.
        alignment: of each.
    """
    records = lifetimes(steps, count)
    for value, nbytes in sizes.items():
        records[value].nbytes = nbytes
    for at, step in enumerate(steps):
        own = records[count + at]
        own.nbytes, own.first, own.last = rounded(step.workspace, alignment), at, at
    for step in steps:
        if step.type not in IN_PLACE or not step.outputs:
            continue
        out = step.outputs[0]
        given = next(
            (
                one
                for one in step.inputs
                if one in sizes and out in sizes and one in single and exact[one] == exact[out]
            ),
            -1,
        )
        if given < 0 or out not in single:
            continue
        while records[given].reuses >= 0:
            given = records[given].reuses
        records[out].nbytes, records[out].reuses = 0, given
        records[given].last = single[out]
    placed: list[Record] = []
    total = 0
    for one in sorted((one for one in records if one.nbytes), key=lambda one: -one.nbytes):
        one.offset = _offset(
            [(other.offset, other.offset + other.nbytes) for other in placed if _meet(one, other)], one.nbytes
        )
        total = max(total, one.offset + one.nbytes)
        placed.append(one)
    changes: dict[int, int] = {}
    for one in placed:
        changes[one.first] = changes.get(one.first, 0) + one.nbytes
        changes[one.last + 1] = changes.get(one.last + 1, 0) - one.nbytes
    live = fullest = where = 0
    for at in sorted(changes):
        live += changes[at]
        if live > fullest:
            fullest, where = live, at
    return Plan(total, fullest, where, records)


def rounded(nbytes: int, alignment: int) -> int:
    """xnn_get_rounded_size."""
    return -(-nbytes // max(alignment, 16)) * max(alignment, 16)


def joined(blocks: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Blocks by their start, those that touch or overlap as one."""
    blocks.sort(key=lambda one: one[0])
    found = [blocks[0]]
    for start, end in blocks[1:]:
        if start > found[-1][1]:
            found.append((start, end))
        else:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
    return found


def _meet(one: Record, other: Record) -> bool:
    return one.last >= other.first if one.first < other.first else other.last >= one.first


def _offset(blocks: list[tuple[int, int]], nbytes: int) -> int:
    """find_value_alloc_offset."""
    if not blocks:
        return 0
    taken = joined(blocks)
    best, gap = taken[-1][1], -1
    if taken[0][0] >= nbytes:
        best, gap = 0, taken[0][0]
    for (_, end), (start, _) in pairwise(taken):
        if start - end >= nbytes and (gap < 0 or start - end < gap):
            best, gap = end, start - end
    return best
