"""The driver as a record tells it: where each segment lay, and when there was no more memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from peakmem.training.allocator.blocks import SMALL, SMALL_SEGMENT, Driver
from peakmem.training.allocator.core import Allocator
from peakmem.training.snapshot.record import OOM, SEGMENT_ALLOC, SEGMENT_FREE, SEGMENT_MAP, SEGMENT_UNMAP, Event

TAKEN, GIVEN = (SEGMENT_ALLOC, SEGMENT_MAP), (SEGMENT_FREE, SEGMENT_UNMAP)


class RecordDriver(Driver):
    """Gives what the record got, and nothing where the record gave something back first."""

    def __init__(self, events: Sequence[Event]) -> None:
        super().__init__()
        self._next = 1 << 60
        # for segments that the record does not have: beyond all addresses of a device
        self._mappings: dict[tuple[int, bool], list[int]] = {}
        # events that map pages, by stream and by whether they are small
        self._events = events
        for at, event in enumerate(events):
            if event.action == SEGMENT_MAP:
                self._mappings.setdefault((event.stream, event.nbytes <= SMALL_SEGMENT), []).append(at)
        self._request = (0, 0, False)
        # event, stream and smallness of the request at hand
        self.queue: list[Event] = []
        # what the driver did before the allocation at hand, in order
        self.place = 0
        # how much of it is used up
        self.allocator: Allocator | None = None

    def _upcoming(self) -> Event | None:
        """The next thing taken; None where it is out of memory or all is used up."""
        assert self.allocator is not None
        asked = self.allocator.asked
        queue = self.queue
        if self.place < len(queue) and queue[self.place].action in GIVEN:
            given = {(what, address) for what, address, _ in asked if what in GIVEN}
            while self.place < len(queue) and (queue[self.place].action, queue[self.place].address) in given:
                self.place += 1
        return queue[self.place] if self.place < len(queue) else None

    def follow(self, queue: list[Event], at: int, request: Event) -> None:
        """From now on these events tell what the driver does, for the request of event `at`."""
        self.queue, self.place = queue, 0
        self._request = (at, request.stream, request.nbytes <= SMALL)

    def segment(self, nbytes: int, reserved: int) -> int | None:  # noqa: ARG002 the record tells
        """The recorded address; an own one where the record has none; None where it was refused."""
        event = self._upcoming()
        if event is not None and event.action in GIVEN:
            return None
        if event is not None and event.action == SEGMENT_ALLOC and event.nbytes == nbytes:
            self.place += 1
            return event.address
        return self._range(nbytes) if event is None or event.action != OOM else None

    def span(self, nbytes: int) -> int:
        """Where the next recorded mapping of that kind lies."""
        event = self._upcoming()
        if event is not None and event.action == SEGMENT_MAP:
            return event.address
        at, stream, small = self._request
        later = self._mappings.get((stream, small), [])
        place = bisect_right(later, at)
        return self._events[later[place]].address if place < len(later) else self._range(nbytes)

    def pages(self, address: int, nbytes: int, reserved: int) -> bool:  # noqa: ARG002 the record tells
        """Whether the record has memory for these pages."""
        event = self._upcoming()
        if event is not None and (event.action in GIVEN or event.action == OOM):
            return False
        if event is not None and event.action == SEGMENT_MAP and (event.address, event.nbytes) == (address, nbytes):
            self.place += 1
        return True
