"""The requests of a recorded trace under other settings of the allocator, or on a device of another size.

Under the record's own settings the allocator starts as it was recorded. Under others its blocks would lie elsewhere:
what lived when the trace began is allocated anew, lowest address first. The cache is emptied where the record empties
it without an allocation behind; what it gave back to make room for one is left to the limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peakmem.training.allocator.blocks import Block, Driver
from peakmem.training.allocator.core import DEFAULT_POOL, Allocator, OutOfMemory
from peakmem.training.allocator.settings import Settings
from peakmem.training.snapshot.record import (
    ALLOC,
    FREE_COMPLETED,
    FREE_REQUESTED,
    SEGMENT_ALLOC,
    SEGMENT_FREE,
    SEGMENT_MAP,
    SEGMENT_UNMAP,
    Event,
    Record,
    owner_of,
)
from peakmem.training.snapshot.start import Kind, Start
from peakmem.training.snapshot.state import build


@dataclass(frozen=True, slots=True)
class Stop:
    """The event at which memory runs out, with the figures of torch's message."""

    event: int
    # -1: already for what lived when the trace began
    requested_bytes: int
    tried_bytes: int
    free_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    frames: Any


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What a trace would have taken, up to its end or to where memory runs out."""

    settings: Settings
    capacity: int | None
    requested: int
    allocated: int
    reserved: int
    end_allocated: int
    end_reserved: int
    segments: int
    retries: int
    rebuilt: bool
    # whether what lived at the start was allocated anew
    stop: Stop | None


def what_if(record: Record, start: Start, recorded: Settings, settings: Settings, capacity: int | None) -> WhatIf:
    """Run the requests of `record` under `settings` on a device with `capacity` bytes for the allocator."""
    driver = Driver(capacity)
    rebuilt = settings != recorded or (capacity is not None and start.reserved > capacity)
    top = [0, 0, 0]
    stop: Stop | None = None
    retries = 0
    if rebuilt:
        allocator, blocks = Allocator(settings, driver=driver), {}
        allocator.plain |= start.plain
        kinds = {room.address: room.kind for room in start.rooms}
        kinds.update((low, kind) for kind, _, ranges in start.spans for low, _ in ranges)
        kind: Kind = (0, False, DEFAULT_POOL)
        places = iter(sorted(kinds))
        following = next(places, None)
        for held in start.held:
            while following is not None and following <= held.address:
                kind, following = kinds[following], next(places, None)
            try:
                block = blocks[held.address] = allocator.malloc(held.requested, kind[0], kind[2])
            except OutOfMemory as fault:
                stop = _stop(-1, fault, None)
                break
            if not held.allocated:
                allocator.record_stream(block)
                allocator.free(block)
    else:
        allocator, blocks = build(start, settings, driver)
    allocator.asked.clear()
    _rise(top, allocator)
    segments = 0
    completes = any(event.action == FREE_COMPLETED for event in record.events)
    asks = any(event.action == FREE_REQUESTED for event in record.events)
    emptied, owner = False, owner_of(record)
    for at, event in enumerate(record.events if stop is None else ()):
        action = event.action
        if action == ALLOC:
            emptied = False
            try:
                blocks[event.address] = allocator.malloc(event.nbytes, event.stream, owner(event))
            except OutOfMemory as fault:
                _rise(top, allocator)
                stop = _stop(at, fault, event)
                break
            _rise(top, allocator)
        elif action in (FREE_REQUESTED, FREE_COMPLETED):
            if emptied:
                allocator.empty_cache()
                emptied = False
            _free(allocator, blocks, record.events, at, completes, asks)
        elif action in (SEGMENT_FREE, SEGMENT_UNMAP):
            emptied = True
        elif action in (SEGMENT_ALLOC, SEGMENT_MAP):
            emptied = False
        elif emptied:
            allocator.empty_cache()
            emptied = False
    segments = sum(what in (SEGMENT_ALLOC, SEGMENT_MAP) for what, _, _ in allocator.asked)
    retries = allocator.retries
    return WhatIf(
        settings, capacity, top[0], top[1], top[2], allocator.allocated, allocator.reserved, segments, retries, rebuilt,
        stop,
    )  # fmt: skip


def _free(
    allocator: Allocator, blocks: dict[int, Block], events: tuple[Event, ...], at: int, completes: bool, asks: bool
) -> None:
    """A block is given back, at once or when its streams are done."""
    event = events[at]
    block = blocks.get(event.address)
    if block is None:
        return
    if event.action == FREE_REQUESTED:
        if not block.allocated:
            return
        after = events[at + 1] if at + 1 < len(events) else None
        if completes and not (after and after.action == FREE_COMPLETED and after.address == event.address):
            allocator.record_stream(block)
        allocator.free(block)
        if not completes:
            del blocks[event.address]
        return
    if block.allocated:
        if asks:
            return
        allocator.free(block)
    elif block.uses:
        allocator.complete(block)
    del blocks[event.address]


def _rise(top: list[int], allocator: Allocator) -> None:
    top[:] = map(max, top, (allocator.requested, allocator.allocated, allocator.reserved))


def _stop(at: int, fault: OutOfMemory, event: Event | None) -> Stop:
    limit = fault.limit_bytes or 0
    return Stop(
        at, fault.requested_bytes, fault.tried_bytes, max(limit - fault.reserved_bytes, 0), fault.allocated_bytes,
        fault.reserved_bytes, event.frames if event is not None else None,
    )  # fmt: skip
