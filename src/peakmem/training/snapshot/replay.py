"""A recorded trace run through the simulator: are the addresses and the segments the same, and if not, where first.

The record decides what only it can know: which requests came, on which stream, when a stream was done with a block,
where a segment lies, and when the driver had no more memory or somebody emptied the cache. Everything else is
predicted and compared: the address of every block, the moment and size of every segment, and what is given back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from peakmem.errors import FormatError
from peakmem.training.allocator.blocks import SMALLEST, Block, round_size
from peakmem.training.allocator.core import DEFAULT_POOL, OutOfMemory
from peakmem.training.allocator.settings import MIB, ORDERS, Settings
from peakmem.training.snapshot.driver import GIVEN, TAKEN, RecordDriver
from peakmem.training.snapshot.outcome import Difference, Levels, Replay
from peakmem.training.snapshot.record import (
    ALLOC,
    FREE_COMPLETED,
    FREE_REQUESTED,
    OOM,
    SEGMENT_FREE,
    Event,
    Record,
    owner_of,
)
from peakmem.training.snapshot.start import Held, Start, start_of
from peakmem.training.snapshot.state import build

MOST_WORK = 200_000_000
# free blocks gone through because the cache is emptied
MOST_TRIES, MOST_RETRIED = 100, 3_000_000
# replays with more slack of old blocks, and events in all of them


def replay(record: Record, settings: Settings) -> Replay:
    """The record of one device beside its simulation.

    Which of several free blocks of one size is taken differs between versions of torch, and a record does not name
    its version: each order is tried until one fits, and the best is kept.
    """
    start = start_of(record, settings)
    best: Replay | None = None
    for order in ORDERS:
        until = None if best is None or best.first is None else best.first.event
        found = _best_start(record, replace(settings, order=order), start, until)
        if found is not None:
            best = found
        if best is None or best.first is None:
            break
    assert best is not None
    return best


def _best_start(record: Record, settings: Settings, start: Start, until: int | None) -> Replay | None:
    """The replay under one order; where the slack of an old block was taken too small, with more of it.

    A free block that the simulation takes and the record does not was in truth too small. If it lies behind a block of
    unknown slack, that slack is at least so large that the request does not fit, and the replay begins anew.
    """
    run = _Run(record, settings, start)
    found = run.run(until)
    for _ in range(min(MOST_TRIES, MOST_RETRIED // (len(record.events) + 1))):
        if found is None or found.first is None or run.suspect is None:
            break
        address, size = run.suspect
        start = start.with_size(address, size)
        run = _Run(record, settings, start)
        again = run.run(found.first.event - 1)
        if again is None:
            break
        found = again
    return found


class _Run:
    """One replay under one order."""

    def __init__(self, record: Record, settings: Settings, start: Start) -> None:
        self.record, self.settings, self.start = record, settings, start
        self.unsure = {held.address + held.size: held for held in start.held if not held.sure}
        # by where they end
        self.suspect: tuple[int, int] | None = None
        # the address and the size of one whose slack was taken too small for the first difference not to be
        self.driver = RecordDriver(record.events)
        self.allocator, self.blocks = build(self.start, settings, self.driver)
        self.driver.allocator = self.allocator
        self.owner = owner_of(record)
        self.work = 0
        self.addresses_equal = self.segments = self.segments_equal = self.simulated = 0
        self.releases = self.releases_equal = self.followed = self.allocations = self.ooms = 0
        self.first: Difference | None = None
        self.completes = any(event.action == FREE_COMPLETED for event in record.events)
        self.asks = any(event.action == FREE_REQUESTED for event in record.events)

    def run(self, until: int | None = None) -> Replay | None:
        """All events, then the last state; None when it parts from the record at `until` or before."""
        allocator, events = self.allocator, self.record.events
        recorded_requested, recorded_reserved = self.start.requested, self.start.reserved
        top_record = [recorded_requested, recorded_reserved]
        top = [allocator.requested, allocator.allocated, allocator.reserved]
        pending: list[Event] = []
        requests: dict[int, int] = {block.address: block.requested for block in self.start.held}
        for at, event in enumerate(events):
            if until is not None and self.first is not None and self.first.event <= until:
                return None
            action = event.action
            if action in TAKEN:
                recorded_reserved += event.nbytes
                top_record[1] = max(top_record[1], recorded_reserved)
                pending.append(event)
                continue
            if action in GIVEN:
                recorded_reserved -= event.nbytes
                pending.append(event)
                continue
            if action == ALLOC:
                self.allocations += 1
                recorded_requested += event.nbytes
                requests[event.address] = event.nbytes
                top_record[0] = max(top_record[0], recorded_requested)
                self._alloc(at, event, pending)
                pending = []
                top[0] = max(top[0], allocator.requested)
                top[1] = max(top[1], allocator.allocated)
                top[2] = max(top[2], allocator.reserved)
            elif action == OOM:
                self.ooms += 1
                self._oom(at, event, pending)
                pending = []
            else:
                if pending:
                    self._settle_pending(at, pending)
                    pending = []
                if action == FREE_REQUESTED:
                    after = events[at + 1] if at + 1 < len(events) else None
                    at_once = not self.completes or (
                        after is not None and after.action == FREE_COMPLETED and after.address == event.address
                    )
                    self._free(event, at_once)
                    if not self.completes:
                        recorded_requested -= requests.pop(event.address, 0)
                elif action == FREE_COMPLETED:
                    self._complete(event)
                    recorded_requested -= requests.pop(event.address, 0)
        if pending:
            self._settle_pending(len(events) - 1, pending)
        pieces = [piece for segment in self.record.segments for piece in segment.pieces]
        held = {
            (block.address, block.size, block.busy)
            for first in allocator.segments.values()
            for block in _chain(first)
            if block.mapped
        }
        equal = sum((piece.address, piece.size, piece.active) in held for piece in pieces)
        if self.first is None and equal < len(pieces):
            piece = next(p for p in pieces if (p.address, p.size, p.active) not in held)
            self.first = Difference(
                len(events), "last state", f"a block of {piece.size:,} B at {piece.address:#x}", "another block there",
                self._reason("the trace does not lead to the state that stands beside it"),
            )  # fmt: skip
        if until is not None and self.first is not None and self.first.event <= until:
            return None
        return Replay(
            self.record.device, self.settings, len(events), self.allocations, self.addresses_equal, self.segments,
            self.segments_equal, self.simulated, self.releases, self.releases_equal, self.followed, len(pieces), equal,
            self.ooms, self.start,
            Levels(top_record[0], None, top_record[1], recorded_requested,
                   sum(piece.size for piece in pieces if piece.allocated), sum(piece.size for piece in pieces)),
            Levels(top[0], top[1], top[2], allocator.requested, allocator.allocated, allocator.reserved), self.first,
        )  # fmt: skip

    # -- requests ------------------------------------------------------------------------

    def _alloc(self, at: int, event: Event, pending: list[Event]) -> None:
        taken = self._give_back_first(at, pending)
        self.driver.follow(taken, at, event)
        self.allocator.asked.clear()
        owner = self.owner(event)
        try:
            block = self.allocator.malloc(event.nbytes, event.stream, owner)
        except OutOfMemory:
            # The record gave something back that the simulation cannot: go on without.
            given = [(item.action, item.address, item.nbytes) for item in taken if item.action in GIVEN]
            self._part(at, "release", f"{_named(given)} given back", "not free there",
                       self._reason("something of it is still in use in the simulation"))  # fmt: skip
            self.driver.follow([item for item in taken if item.action in TAKEN], at, event)
            block = self.allocator.malloc(event.nbytes, event.stream, owner)
        if block.address != event.address and self.first is None and block.address in self.unsure:
            self._suspect(self.unsure[block.address], block, event.nbytes)
        self._compare_segments(at, taken)
        if block.address == event.address:
            self.addresses_equal += 1
        elif self.first is None:
            self._part(at, "address", f"{event.nbytes:,} B at {event.address:#x}", f"at {block.address:#x}",
                       self._why_elsewhere(event))  # fmt: skip
        self.blocks[event.address] = block

    def _suspect(self, held: Held, block: Block, nbytes: int) -> None:
        """The block behind an old one was taken and should not have been: so the old one has more slack."""
        old = self.blocks.get(held.address)
        if old is None or not old.busy or old.next is not block:
            return
        rest = block.next
        free = block.size + (rest.size if rest is not None and not rest.busy and rest.mapped else 0)
        size = held.size + free - round_size(nbytes, self.settings) + SMALLEST
        if held.size < size <= round_size(held.requested, self.settings) + MIB:
            self.suspect = held.address, size

    def _oom(self, at: int, event: Event, pending: list[Event]) -> None:
        taken = self._give_back_first(at, pending)
        self.driver.follow([*taken, event], at, event)
        self.allocator.asked.clear()
        try:
            block = self.allocator.malloc(event.nbytes, event.stream, self.owner(event))
        except OutOfMemory:
            self._compare_segments(at, taken)
            return
        self._part(at, "address", f"no memory for {event.nbytes:,} B", f"a cached block at {block.address:#x}",
                   self._reason("the simulation has a free block that the allocator did not have"))  # fmt: skip
        self.allocator.free(block)

    def _free(self, event: Event, at_once: bool) -> None:
        block = self.blocks.get(event.address)
        if block is None or not block.allocated:
            return
        if not at_once:
            self.allocator.record_stream(block)
        self.allocator.free(block)
        if not self.completes:
            del self.blocks[event.address]

    def _complete(self, event: Event) -> None:
        block = self.blocks.get(event.address)
        if block is None:
            return
        if block.allocated:
            if self.asks:
                return
            self.allocator.free(block)
        elif block.uses:
            self.allocator.complete(block)
        del self.blocks[event.address]

    # -- the driver ----------------------------------------------------------------------

    def _give_back_first(self, at: int, pending: list[Event]) -> list[Event]:
        """What the record gave back before it took anything; the rest of `pending`."""
        lead = 0
        while lead < len(pending) and pending[lead].action in GIVEN:
            lead += 1
        if lead == len(pending) or not lead or not self._for_this_request(pending[:lead]):
            if lead:
                self._given(at, pending[:lead])
            return pending[lead:]
        return pending

    def _for_this_request(self, given: list[Event]) -> bool:
        """Whether max_split_size gave back only as much as the request needs: the simulation predicts what."""
        settings = self.settings
        if settings.max_split_bytes is None or settings.collect_above > 0:
            return False
        return [(event.action, event.address, event.nbytes) for event in given] != self._cached()

    def _settle_pending(self, at: int, pending: list[Event]) -> None:
        """What the driver did without an allocation behind it: somebody emptied the cache."""
        given = [event for event in pending if event.action in GIVEN]
        if given:
            self._given(at, given)
        for event in pending:
            if event.action in TAKEN:
                self.segments += 1
                self._part(at, "segment", f"{event.nbytes:,} B at {event.address:#x}", "none",
                           "no allocation follows it in the record")  # fmt: skip

    def _given(self, at: int, given: list[Event]) -> None:
        """Give back what the record gave back: all that is cached, what max_split_size asks for, or as recorded."""
        allocator = self.allocator
        self.releases += len(given)
        recorded = [(item.action, item.address, item.nbytes) for item in given]
        allocator.asked.clear()
        self.work += sum(len(pool.free) for family in allocator.families.values() for pool in family.pools.values())
        if self.work > MOST_WORK:
            raise FormatError(f"event {at:,}: the cache is emptied too often to follow")
        partial = self.settings.max_split_bytes is not None or self.settings.collect_above > 0
        if partial and recorded != self._cached():
            self._follow(at, recorded)
            return
        allocator.empty_cache()
        done = list(allocator.asked)
        private = [item for item in recorded if self._is_private(item[1])]
        default = [item for item in recorded if not self._is_private(item[1])] if private else recorded
        self.releases_equal += sum(a == b for a, b in zip(default, done, strict=False))
        if private:
            self._follow(at, private)
        if default != done:
            missing, more = sorted(set(default) - set(done)), sorted(set(done) - set(default))
            if missing or more:
                self._part(
                    at, "release", f"{len(default)} given back{f', also {_named(missing)}' if missing else ''}",
                    f"{len(done)}{f', also {_named(more)}' if more else ''}",
                    self._reason("other blocks are free in the simulation"),
                )  # fmt: skip
            else:
                self._part(at, "release", f"{_named(default)} first", f"{_named(done)} first",
                           self._reason("the order among blocks of one size differs"))  # fmt: skip

    def _is_private(self, address: int) -> bool:
        block = self.allocator.segments.get(address)
        return block is not None and block.pool.family.owner != (0, 0)

    def _cached(self) -> list[tuple[str, int, int]]:
        """What emptying the cache would give back, in order, without pages of expandable segments."""
        found = []
        for small in (False, True):
            family = self.allocator.families.get((small, DEFAULT_POOL))
            for block in family.blocks() if family is not None else ():
                if block.grows is None and block.whole:
                    found.append((SEGMENT_FREE, block.address, block.size))
        return found

    def _follow(self, at: int, recorded: Sequence[tuple[str, int, int]]) -> None:
        """Give back single segments because the record did."""
        for action, address, nbytes in recorded:
            block = self.allocator.segments.get(address)
            if action == SEGMENT_FREE and block is not None and block.whole and not block.busy and block.grows is None:
                self.allocator.give_back(block)
                self.followed += 1
            else:
                self._part(at, "release", f"{nbytes:,} B at {address:#x} given back", "not free there",
                           self._reason("something of that segment is still in use in the simulation"))  # fmt: skip

    def _compare_segments(self, at: int, recorded: list[Event]) -> None:
        wanted = [(event.action, event.address, event.nbytes) for event in recorded]
        asked = self.allocator.asked
        taken = [item for item in asked if item[0] in TAKEN]
        given = [item for item in asked if item[0] in GIVEN]
        record_taken = [item for item in wanted if item[0] in TAKEN]
        record_given = [item for item in wanted if item[0] in GIVEN]
        self.segments += len(record_taken)
        self.simulated += len(taken)
        self.segments_equal += sum(a == b for a, b in zip(record_taken, taken, strict=False))
        self.releases += len(record_given)
        self.releases_equal += sum(a == b for a, b in zip(record_given, given, strict=False))
        if record_taken != taken:
            self._part(at, "segment", _named(record_taken) or "a cached block", _named(taken) or "a cached block",
                       self._reason("other blocks are free in the simulation than in the record"))  # fmt: skip
        elif record_given != given:
            self._part(at, "release", _named(record_given) or "nothing", _named(given) or "nothing",
                       self._reason("other blocks are free in the simulation than in the record"))  # fmt: skip

    # -- differences ---------------------------------------------------------------------

    def _part(self, event: int, what: str, recorded: str, simulated: str, reason: str) -> None:
        if self.first is None:
            self.first = Difference(event, what, recorded, simulated, reason)

    def _why_elsewhere(self, event: Event) -> str:
        for first in self.allocator.segments.values():
            for block in _chain(first):
                if block.address <= event.address < block.address + block.size and not (
                    block.address == event.address and not block.busy
                ):
                    if block.busy:
                        return self._reason("that place is taken in the simulation")
                    if block.address != event.address:
                        return self._reason("that place is inside a free block of the simulation")
        return self._reason("another free block fits better in the simulation")

    def _reason(self, seen: str) -> str:
        if self.start.contradictions:
            return f"{seen}; the record contradicts itself: {self.start.contradictions[0]}"
        if self.start.unsure:
            return (
                f"{seen}; {self.start.unsure:,} blocks are older than the trace and freed in it, with slack that it "
                "does not tell"
            )
        if self.settings.order != "address" and self.start.rooms:
            return f"{seen}; which of the segments older than the trace was made first is not told"
        if not self.segments and not self.releases and self.simulated:
            return f"{seen}; the record holds no segments: they may have been left out"
        if self.start.held:
            return f"{seen}; the settings may have changed, or a rule is not modelled"
        return f"{seen}; a rule is not modelled, or the settings changed on the way"


def _named(items: Sequence[tuple[str, int, int]]) -> str:
    shown = ", ".join(f"{nbytes:,} B at {address:#x}" for _, address, nbytes in items[:3])
    return shown + (f" and {len(items) - 3:,} more" if len(items) > 3 else "")


def _chain(first: Block | None) -> list[Block]:
    found = []
    while first is not None:
        found.append(first)
        first = first.next
    return found
