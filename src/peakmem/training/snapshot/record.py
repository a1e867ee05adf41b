"""A recorded trace as plain data: what the allocator of one device did, and what it held at the end."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

Owner = tuple[int, int]
# a private pool; (0, 0) is the default pool

ALLOC, FREE_REQUESTED, FREE_COMPLETED = "alloc", "free_requested", "free_completed"
SEGMENT_ALLOC, SEGMENT_FREE = "segment_alloc", "segment_free"
SEGMENT_MAP, SEGMENT_UNMAP = "segment_map", "segment_unmap"
SNAPSHOT, OOM = "snapshot", "oom"
SEGMENT_ACTIONS = frozenset((SEGMENT_ALLOC, SEGMENT_FREE, SEGMENT_MAP, SEGMENT_UNMAP))
ACTIONS = SEGMENT_ACTIONS | {ALLOC, FREE_REQUESTED, FREE_COMPLETED, SNAPSHOT, OOM}
# TraceEntry::Action in c10/cuda/CUDACachingAllocator.h, as torch/csrc/cuda/memory_snapshot.cpp writes them


class Event(NamedTuple):
    """One entry of the trace."""

    action: str
    address: int
    # of an oom: the bytes that were free on the device
    nbytes: int
    # as requested; of segments, their size
    stream: int
    owner: Owner | None
    # None where the trace does not say it
    frames: Any = None
    # a list of dictionaries, or None


class Piece(NamedTuple):
    """One block of a segment at the end of the trace."""

    address: int
    size: int
    requested: int
    allocated: bool
    active: bool
    # allocated, or freed and still in use by a stream
    frames: Any = None


@dataclass(frozen=True, slots=True)
class Segment:
    """Memory from the driver at the end of the trace; of an expandable segment, one range that is mapped."""

    address: int
    size: int
    stream: int
    small: bool
    expandable: bool
    owner: Owner
    pieces: tuple[Piece, ...]
    rank: int = 0
    # its registration counter, where the snapshot holds one

    @property
    def stop(self) -> int:
        """The address after it."""
        return self.address + self.size


@dataclass(frozen=True, slots=True)
class Record:
    """The trace of one device."""

    device: int
    events: tuple[Event, ...]
    segments: tuple[Segment, ...]
    # by address


def owner_of(record: Record) -> Callable[[Event], Owner]:
    """Tells the private pool of a request: as stated, else that of the segment in which it got its memory."""
    private = any(segment.owner != (0, 0) for segment in record.segments)
    starts = [segment.address for segment in record.segments]

    def owner(event: Event) -> Owner:
        if event.owner is not None:
            return event.owner
        at = bisect_right(starts, event.address) - 1 if private else -1
        return record.segments[at].owner if at >= 0 and event.address < record.segments[at].stop else (0, 0)

    return owner


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a file holds."""

    source: str
    form: str
    # "pickle" or "json"
    records: tuple[Record, ...]
    # of each device that has segments or events
    stated: Mapping[str, Any]
    # the allocator's settings, as they stand there
    notes: tuple[str, ...]
