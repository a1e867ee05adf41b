"""An allocator put into the state in which a trace began."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

from peakmem.training.allocator.blocks import SMALL_SEGMENT, SPAN, Block, Driver, Growing, Pool
from peakmem.training.allocator.core import Allocator
from peakmem.training.allocator.settings import Settings
from peakmem.training.snapshot.start import Held, Start


@dataclass(frozen=True, slots=True)
class _Chain:
    """One segment to build."""

    pool: Pool
    address: int
    stop: int
    rank: int
    grows: Growing | None
    mapped: tuple[tuple[int, int], ...]
    # the ranges that have memory


def build(start: Start, settings: Settings, driver: Driver) -> tuple[Allocator, dict[int, Block]]:
    """An allocator in the state `start`, and its busy blocks by address."""
    allocator = Allocator(settings, driver=driver)
    allocator.plain |= start.plain
    chains = []
    for room in sorted(start.rooms, key=lambda room: (room.rank, room.address)):
        stream, small, owner = room.kind
        stop = room.address + room.size
        pool = allocator.pool(small, stream, owner)
        chains.append(_Chain(pool, room.address, stop, allocator.next_rank(), None, ((room.address, stop),)))
    for (stream, small, owner), base, ranges in start.spans:
        page = SMALL_SEGMENT if small else settings.large_segment_bytes
        size = -(-max(SPAN, ranges[-1][1] - base) // page) * page
        pool = allocator.pool(small, stream, owner)
        grows = Growing(base, size, page)
        chains.append(_Chain(pool, base, base + size, allocator.next_rank(), grows, ranges))
    places = [block.address for block in start.held]
    blocks: dict[int, Block] = {}
    for chain in chains:
        made = _blocks(chain, start.held, places)
        for before, after in pairwise(made):
            before.next, after.prev = after, before
        allocator.segments[chain.address] = made[0]
        for block in made:
            if not block.mapped:
                chain.pool.add_unmapped(block)
                continue
            allocator.reserved += block.size
            if not block.busy:
                chain.pool.add(block)
                continue
            blocks[block.address] = block
            allocator.active += block.size
            allocator.requested += block.requested
            allocator.allocated += block.size if block.allocated else 0
    return allocator, blocks


def _blocks(chain: _Chain, held: tuple[Held, ...], places: list[int]) -> list[Block]:
    """The blocks of a segment from its first address to its last."""
    made: list[Block] = []

    def add(address: int, stop: int) -> Block:
        block = Block(address, stop - address, chain.pool, chain.rank, chain.grows)
        made.append(block)
        return block

    now = chain.address
    for low, high in chain.mapped:
        if low > now:
            add(now, low).mapped = False
        now = low
        for item in held[bisect_left(places, low) : bisect_left(places, high)]:
            if item.address < now:
                continue  # the record contradicts itself
            if item.address > now:
                add(now, item.address)
            now = min(item.address + item.size, high)
            block = add(item.address, now)
            block.requested, block.allocated, block.uses = item.requested, item.allocated, int(not item.allocated)
        if now < high:
            add(now, high)
        now = high
    if now < chain.stop:
        add(now, chain.stop).mapped = False
    return made
