"""A log run through the caching allocator: what is requested, allocated and reserved at most, where, and does it fit.

Requested are the bytes of the storages. Allocated is what torch.cuda.max_memory_allocated() tells: blocks with their
rounding and with the slack that is not worth a split. Reserved is what torch.cuda.max_memory_reserved() tells: the
memory taken from the driver. The context of the device and what libraries allocate by themselves are in none of them.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from peakmem.training.allocator.blocks import SMALL_SEGMENT, Block, Driver
from peakmem.training.allocator.core import Allocator, OutOfMemory
from peakmem.training.allocator.settings import Settings
from peakmem.training.log import Log, Phase, events
from peakmem.units import format_bytes

DRIFT = 100
# The bound adds one part in so many of what is reserved: twice of what reserved was below four recorded training runs
# (transformer of 423 M parameters, torch 2.11, contexts of 128 to 1024) whose small scratch buffers the log lacked:
# 0, 0.45, 0.53 and 0 %.


@dataclass(frozen=True, slots=True)
class Top:
    """The most of one counter, and the storage that came when it was first reached."""

    nbytes: int
    moment: int
    step: int
    phase: Phase
    operator: str
    module: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that the device cannot meet, with the figures of torch's message."""

    moment: int
    step: int
    phase: Phase
    operator: str
    module: str
    requested_bytes: int
    tried_bytes: int
    # the segment that would be needed: "Tried to allocate"
    free_bytes: int
    # of the capacity, beside what is reserved
    allocated_bytes: int
    reserved_bytes: int
    limit_bytes: int

    @property
    def unallocated_bytes(self) -> int:
        """Reserved, but not allocated: too scattered to serve the request."""
        return self.reserved_bytes - self.allocated_bytes

    def __str__(self) -> str:
        where = f"{self.operator or 'a request'}{f' of {self.module}' if self.module else ''}"
        return (
            f"out of memory in step {self.step}, {self.phase}, at {where}: tried to allocate "
            f"{format_bytes(self.tried_bytes)}; of {format_bytes(self.limit_bytes)}, {format_bytes(self.free_bytes)} "
            f"is free, {format_bytes(self.allocated_bytes)} is allocated and {format_bytes(self.unallocated_bytes)} is "
            "reserved but unallocated"
        )


@dataclass(frozen=True, slots=True)
class Bound:
    """What reserved does not exceed, and how that was found."""

    nbytes: int
    margin_bytes: int
    # of it, what stands for requests that the log lacks
    how: tuple[str, ...]
    failure: Failure | None = None
    # where it does not fit into the capacity less the margin


@dataclass(frozen=True, slots=True)
class Simulation:
    """A log under one setting of the allocator, up to its end or to where memory ran out."""

    settings: Settings
    capacity: int | None
    requested: Top
    allocated: Top
    reserved: Top
    allocated_at_reserved: int
    # allocated when the most was reserved
    end_requested: int
    end_allocated: int
    end_reserved: int
    end_inactive_split: int
    # free bytes at the end in segments that something else still occupies
    segments: int
    # asked of the driver (pages of expandable segments counted each time)
    retries: int
    # requests that were met only after cached memory was given back
    failure: Failure | None
    bound: Bound | None

    @property
    def fragmentation(self) -> float:
        """The share of the reserved memory that is not allocated when the most is reserved."""
        return 1 - self.allocated_at_reserved / self.reserved.nbytes if self.reserved.nbytes else 0.0

    @property
    def fits(self) -> bool | None:
        """Whether it fits even if all that is doubted comes; None without a capacity to fit into."""
        if self.capacity is None:
            return None
        return self.failure is None and self.bound is not None and self.bound.failure is None


def simulate(
    log: Log, settings: Settings | None = None, *, capacity: int | None = None, bound: bool = True
) -> Simulation:
    """Run `log` through the allocator.

    Args:
        settings: torch's own without them.
        capacity: bytes that the driver has for the allocator: the device's memory less its context; None: no end.
        bound: whether to search the upper bound, too: up to four more runs.

    Raises:
        ValueError: the log contradicts itself.
    """
    settings = settings or Settings()
    run = _Run(log, settings, Driver(capacity))
    allocator = run.allocator
    return Simulation(
        settings, capacity, run.top(0), run.top(1), run.top(2), run.allocated_at_reserved, allocator.requested,
        allocator.allocated, allocator.reserved, allocator.inactive_split(),
        sum(what in ("segment_alloc", "segment_map") for what, _, _ in allocator.asked), allocator.retries, run.failure,
        _bound(log, settings, capacity, run) if bound else None,
    )  # fmt: skip


def _bound(log: Log, settings: Settings, capacity: int | None, point: _Run) -> Bound:
    """The most that is reserved under what the log leaves open."""
    pair = settings.large_segment_bytes + SMALL_SEGMENT
    runs = [_Run(log, settings, Driver(descending=down), doubts=True) for down in (False, True)]
    if capacity is None:
        runs.append(point)
    most = max(run.levels[2][0] for run in runs)
    margin = pair + most // DRIFT
    how = [
        f"replayed with {len(log.doubts)} doubted requests at their moments, with segments at rising and at falling "
        "addresses; the most of it",
        f"{format_bytes(pair)} for one more segment of each pool and 1 % for small requests that no log holds",
    ]
    failure = None
    if capacity is not None:
        for down in (False, True):
            driver = Driver(max(capacity - margin, 0), descending=down)
            failure = failure or _Run(log, settings, driver, doubts=True).failure
    return Bound(most + margin, margin, tuple(how), failure)


class _Run:
    """One pass over the events."""

    def __init__(self, log: Log, settings: Settings, driver: Driver, *, doubts: bool = False) -> None:
        self.log = log
        self.allocator = allocator = Allocator(settings, driver=driver)
        self.failure: Failure | None = None
        self.allocated_at_reserved = 0
        # most bytes and its moment, of requested, allocated and reserved
        self.levels = [[0, 0], [0, 0], [0, 0]]
        requested, allocated, reserved = self.levels
        malloc, free = allocator.malloc, allocator.free
        blocks: dict[int, Block] = {}
        sizes = [storage.nbytes for storage in log.storages]
        doubted: dict[int, int] = {}
        for doubt in log.doubts if doubts else ():
            doubted[doubt.moment] = max(doubted.get(doubt.moment, 0), doubt.nbytes)
        emptied = set(log.emptied)
        for moment, (number, allocates) in enumerate(events(log)):
            if moment in emptied:
                allocator.empty_cache()
            if allocates:
                nbytes = sizes[number]
                if nbytes:  # torch asks its allocator for nothing when a storage is empty
                    try:
                        blocks[number] = malloc(nbytes)
                    except OutOfMemory as fault:
                        self._fail(moment, number, fault)
                        return
            elif sizes[number]:
                free(blocks.pop(number))
            if moment in doubted:
                try:
                    extra = malloc(doubted[moment])
                except OutOfMemory as fault:
                    self._fail(moment, number, fault)
                    return
                self._rise(moment)
                free(extra)
            elif allocates:
                if allocator.requested > requested[0]:
                    requested[:] = allocator.requested, moment
                if allocator.allocated > allocated[0]:
                    allocated[:] = allocator.allocated, moment
                if allocator.reserved > reserved[0]:
                    reserved[:] = allocator.reserved, moment
                    self.allocated_at_reserved = allocator.allocated

    def _rise(self, moment: int) -> None:
        now = self.allocator.requested, self.allocator.allocated, self.allocator.reserved
        if now[2] > self.levels[2][0]:
            self.allocated_at_reserved = now[1]
        for level, nbytes in zip(self.levels, now, strict=True):
            if nbytes > level[0]:
                level[:] = nbytes, moment

    def _fail(self, moment: int, number: int, fault: OutOfMemory) -> None:
        self._rise(moment)
        top = self._at(moment, 0, number)
        limit = fault.limit_bytes or 0
        self.failure = Failure(
            moment, top.step, top.phase, top.operator, top.module, fault.requested_bytes, fault.tried_bytes,
            max(limit - fault.reserved_bytes, 0), fault.allocated_bytes, fault.reserved_bytes, limit,
        )  # fmt: skip

    def top(self, counter: int) -> Top:
        """The most of requested (0), allocated (1) or reserved (2)."""
        nbytes, moment = self.levels[counter]
        return self._at(moment, nbytes)

    def _at(self, moment: int, nbytes: int, number: int | None = None) -> Top:
        marks = self.log.marks
        mark = marks[max(bisect_right([item.moment for item in marks], moment) - 1, 0)] if marks else None
        if number is None:
            place = bisect_right([item.start for item in self.log.storages], moment) - 1
            number = place if place >= 0 else None
        storage = self.log.storages[number] if number is not None else None
        return Top(
            nbytes, moment, mark.step if mark else -1, mark.phase if mark else "build",
            storage.operator if storage else "", storage.module if storage else "",
        )  # fmt: skip
