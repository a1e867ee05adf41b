"""How TensorFlow Lite for Microcontrollers places buffers at the head of its arena.

From tensorflow/lite/micro/memory_planner/{greedy,linear}_memory_planner.cc of tflite-micro 90b983c (2026-08-20).
Sizes are bytes, already rounded; times are steps, and both ends of a life belong to it.
"""

from __future__ import annotations

from bisect import insort_right
from collections.abc import Sequence
from dataclasses import dataclass

ONLINE = -1
# kOnlinePlannedBuffer: no offset was planned ahead
PER_BUFFER = 40
# per_buffer_size: BufferRequirements of 16, three int, a ListEntry of 12
MOST_LINEAR = 1024
# kMaxBufferCount of the linear planner


@dataclass(frozen=True, slots=True)
class Buffer:
    """What a planner is told of a tensor or of scratch."""

    nbytes: int
    first: int
    last: int
    offset: int = ONLINE
    what: str = ""
    scratch: bool = False
    # asked for by an operator, no tensor


def greedy(buffers: Sequence[Buffer]) -> list[int]:
    """The offset of each buffer.

    Buffers planned ahead come first, in their order, where they were planned. The others follow by size; of equal
    ones the last added comes first, because they are collected from the tail and then sorted with a stable sort. Each
    goes into the first gap between those already placed that live at the same time.
    """
    fixed = [at for at, one in enumerate(buffers) if one.offset != ONLINE]
    others = [at for at in reversed(range(len(buffers))) if buffers[at].offset == ONLINE]
    others.sort(key=lambda at: -buffers[at].nbytes)
    offsets = [0] * len(buffers)
    placed: list[tuple[int, int]] = []
    # (offset, buffer), by offset; later ones behind equal ones, as the engine's list has them
    for at in (*fixed, *others):
        wanted = buffers[at]
        where = wanted.offset
        if where == ONLINE:
            where = 0
            for offset, other in placed:
                prior = buffers[other]
                if prior.first > wanted.last or wanted.first > prior.last:
                    continue
                if offset - where >= wanted.nbytes:
                    break
                where = max(where, offset + prior.nbytes)
        offsets[at] = where
        insort_right(placed, (where, at), key=lambda pair: pair[0])
    return offsets


def linear(buffers: Sequence[Buffer]) -> list[int]:
    """The offset of each buffer when all tensors are preserved: one behind the other."""
    offsets, end = [], 0
    for one in buffers:
        offsets.append(end)
        end += one.nbytes
    return offsets


def extent(buffers: Sequence[Buffer], offsets: Sequence[int]) -> int:
    """Where the highest buffer ends."""
    return max((offset + one.nbytes for one, offset in zip(buffers, offsets, strict=True)), default=0)


def lower_bound(buffers: Sequence[Buffer]) -> tuple[int, int]:
    """Bytes that no plan can do without, because they live at the same time; and that time."""
    changes: dict[int, int] = {}
    for one in buffers:
        changes[one.first] = changes.get(one.first, 0) + one.nbytes
        changes[one.last + 1] = changes.get(one.last + 1, 0) - one.nbytes
    live = most = when = 0
    for time in sorted(changes):
        live += changes[time]
        if live > most:
            most, when = live, time
    return most, when
