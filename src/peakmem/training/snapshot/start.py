"""What an allocator held when a trace began: its last state, with the trace undone backwards.

A block that lives to the end is known exactly. Of one that was freed in the trace only the request is recorded, not
the slack behind it (up to 1 MiB that was not worth a split). The slack follows where something known comes next:
every block of the large pool is larger than 1 MiB, so a smaller gap can only be slack. Where more than that lies
behind, the block is taken as rounded, and counted as unsure.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from peakmem.training.allocator.blocks import SMALL_SEGMENT, round_size
from peakmem.training.allocator.settings import MIB, Settings
from peakmem.training.snapshot.ranges import Ranges
from peakmem.training.snapshot.record import (
    ALLOC,
    FREE_COMPLETED,
    FREE_REQUESTED,
    SEGMENT_ALLOC,
    SEGMENT_FREE,
    SEGMENT_MAP,
    SEGMENT_UNMAP,
    Event,
    Owner,
    Record,
)

Kind = tuple[int, bool, Owner]
# stream, small, private pool: whose free blocks a request may get


@dataclass(frozen=True, slots=True)
class Held:
    """A block at the start of the trace."""

    address: int
    size: int
    requested: int
    allocated: bool
    # else it was freed before, and a stream was not done with it
    sure: bool
    # whether the size is known
    frees: int | None
    # the event that frees it; None: it outlives the trace


@dataclass(frozen=True, slots=True)
class Room:
    """A segment, or the part of an expandable one that was mapped, at the start of the trace."""

    address: int
    size: int
    kind: Kind
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Start:
    """The state at the start of the trace."""

    rooms: tuple[Room, ...]
    # by address
    spans: tuple[tuple[Kind, int, tuple[tuple[int, int], ...]], ...]
    # expandable segments: whose, the lowest address, the mapped ranges
    held: tuple[Held, ...]
    # by address
    contradictions: tuple[str, ...]
    # what the trace says against its own last state
    plain: frozenset[Owner] = frozenset()
    # private pools whose segments do not grow

    @property
    def unsure(self) -> int:
        """Blocks whose slack is not known."""
        return sum(not block.sure for block in self.held)

    def with_size(self, address: int, size: int) -> Start:
        """The same with another size of the block at `address`."""
        held = tuple(replace(block, size=size) if block.address == address else block for block in self.held)
        return replace(self, held=held)

    @property
    def requested(self) -> int:
        """Bytes held, as requested."""
        return sum(block.requested for block in self.held)

    @property
    def reserved(self) -> int:
        """Bytes from the driver."""
        return sum(room.size for room in self.rooms) + sum(
            stop - start for _, _, ranges in self.spans for start, stop in ranges
        )


@dataclass(slots=True)
class _Live:
    requested: int
    allocated: bool
    size: int | None
    frees: int | None


def start_of(record: Record, settings: Settings) -> Start:
    """The state of the allocator before the first event of `record`."""
    events = record.events
    completes = any(event.action == FREE_COMPLETED for event in events)
    asks = any(event.action == FREE_REQUESTED for event in events)
    live: dict[int, _Live] = {}
    rooms: dict[int, Room] = {}
    mapped: dict[Kind, Ranges] = {}
    for segment in record.segments:
        kind = (segment.stream, segment.small, segment.owner)
        if segment.expandable:
            mapped.setdefault(kind, Ranges()).add(segment.address, segment.stop)
        else:
            rooms[segment.address] = Room(segment.address, segment.size, kind, segment.rank)
        for piece in segment.pieces:
            if piece.active:
                live[piece.address] = _Live(piece.requested, piece.allocated, piece.size, None)
    against: deque[str] = deque(maxlen=10)  # those that come first in the trace
    for at in range(len(events) - 1, -1, -1):
        action, address, nbytes, stream, owner, _ = events[at]
        if action == ALLOC:
            if live.pop(address, None) is None:
                against.append(f"event {at} allocates {address:#x}, which is never freed and not there at the end")
        elif action == FREE_COMPLETED or (action == FREE_REQUESTED and not completes):
            if address in live:
                against.append(f"event {at} frees {address:#x}, which is still there")
            live[address] = _Live(nbytes, not asks or not completes, None, at)
        elif action == FREE_REQUESTED:
            if address in live:
                live[address].allocated = True
                live[address].frees = at
            else:
                against.append(f"event {at} frees {address:#x}, and that is never completed")
                live[address] = _Live(nbytes, True, None, at)
        elif action == SEGMENT_ALLOC:
            if rooms.pop(address, None) is None:
                against.append(f"event {at} makes the segment {address:#x}, which is not there at the end")
        elif action == SEGMENT_FREE:
            rooms[address] = Room(address, nbytes, (stream, nbytes <= SMALL_SEGMENT, owner or (0, 0)))
        elif action in (SEGMENT_MAP, SEGMENT_UNMAP):
            ranges = mapped.setdefault((stream, nbytes <= SMALL_SEGMENT, owner or (0, 0)), Ranges())
            if action == SEGMENT_MAP:
                ranges.remove(address, address + nbytes)
            else:
                ranges.add(address, address + nbytes)
    spans = tuple(
        (kind, _base(kind, ranges, events), tuple(ranges)) for kind, ranges in sorted(mapped.items()) if ranges
    )
    held = _sized(live, sorted(rooms.values(), key=lambda room: room.address), events, settings)
    plain = frozenset(
        segment.owner for segment in record.segments if segment.owner != (0, 0) and not segment.expandable
    )
    return Start(
        tuple(sorted(rooms.values(), key=lambda room: room.address)),
        spans,
        tuple(held),
        tuple(reversed(against)),
        plain,
    )


def _base(kind: Kind, ranges: Ranges, events: Sequence[Event]) -> int:
    """The lowest address that an expandable segment ever maps, as long as it has any memory."""
    now, base = Ranges(ranges), min(start for start, _ in ranges)
    for event in events:
        if event.action in (SEGMENT_MAP, SEGMENT_UNMAP):
            if (event.stream, event.nbytes <= SMALL_SEGMENT, event.owner or (0, 0)) != kind:
                continue
            if event.action == SEGMENT_MAP:
                base = min(base, event.address)
                now.add(event.address, event.address + event.nbytes)
            else:
                now.remove(event.address, event.address + event.nbytes)
                if not now:
                    break
    return base


def _sized(live: dict[int, _Live], rooms: list[Room], events: Sequence[Event], settings: Settings) -> list[Held]:
    """Sizes for the blocks of which only the request is known."""
    addresses = sorted(live)
    starts = [room.address for room in rooms]
    ends: dict[int, int] = {}
    # of a block that may have slack: where it ends, as far as is known
    for address in addresses:
        block = live[address]
        if block.size is None:
            ends[address] = address + round_size(block.requested, settings)
    reach = _followed(ends, live, events)
    held = []
    for number, address in enumerate(addresses):
        block = live[address]
        size, sure = block.size, True
        if size is None:
            end = ends[address]
            at = bisect_right(starts, address) - 1
            room = rooms[at] if at >= 0 and address < rooms[at].address + rooms[at].size else None
            after = addresses[number + 1] if number + 1 < len(addresses) else 1 << 65
            if room is not None:
                after = min(after, room.address + room.size)
            grows = settings.expandable and (room is None or room.kind[2] == (0, 0))
            if room is not None and not room.kind[1] and not grows:
                limit = settings.max_split_bytes
                most = MIB if limit is None or end - address < limit else settings.round_over_bytes
                if address in reach:
                    end = min(reach[address], after)
                elif after - end <= most:
                    end = after
                else:
                    sure = False
            size = min(end, after) - address
        held.append(Held(address, size, block.requested, block.allocated, sure, block.frees))
    return held


def _followed(ends: dict[int, int], live: dict[int, _Live], events: Sequence[Event]) -> dict[int, int]:
    """Where something is allocated right behind a block that is still there: that is where it ends."""
    addresses = sorted(ends)
    found: dict[int, int] = {}
    for at, event in enumerate(events):
        if event.action != ALLOC:
            continue
        place = bisect_left(addresses, event.address) - 1
        if place < 0:
            continue
        address = addresses[place]
        frees = live[address].frees
        behind = event.address - ends[address]
        if 0 <= behind <= MIB and (frees is None or at < frees):
            found[address] = min(found.get(address, event.address), event.address)
    return found
