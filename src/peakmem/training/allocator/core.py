"""torch's caching allocator for CUDA devices, rule by rule: which block a request gets, what the driver is asked for.

A model of `DeviceCachingAllocator` in c10/cuda/CUDACachingAllocator.cpp. The rules were read in pytorch at commit
20c4398 (2026, after 2.13); the sources of older versions were only skimmed, and that the rules hold there rests on
recorded traces that replay to the byte (docs/training/allocator.md). Each method names the function it follows.
Blocks freed on one stream while another may use them stay busy until `complete` says that it is done: when that is,
only the device knows. Not modelled: other allocators plugged into a private pool, pools that never split, address
hints, and falling back to a private pool at the limit.
"""

from __future__ import annotations

from peakmem.training.allocator.blocks import (
    SMALL,
    SMALL_SEGMENT,
    SMALLEST,
    SPAN,
    Block,
    Driver,
    Family,
    Growing,
    Pool,
    round_size,
    segment_size,
)
from peakmem.training.allocator.settings import Settings

DEFAULT_POOL = (0, 0)


class OutOfMemory(Exception):
    """A request that could not be met, with the figures that torch puts into its message."""

    def __init__(self, tried_bytes: int, requested_bytes: int, allocator: Allocator) -> None:
        self.tried_bytes = tried_bytes
        # the segment that was asked of the driver
        self.requested_bytes = requested_bytes
        self.allocated_bytes = allocator.allocated
        self.reserved_bytes = allocator.reserved
        limits = [size for size in (allocator.driver.capacity, allocator.allowed) if size is not None]
        self.limit_bytes = min(limits) if limits else None
        super().__init__(f"{tried_bytes} bytes")


class Allocator:
    """The allocator of one device."""

    def __init__(self, settings: Settings | None = None, *, driver: Driver | None = None) -> None:
        self.settings = settings = settings or Settings()
        self.driver = driver or Driver()
        self.allowed: int | None = None
        # what per_process_memory_fraction leaves of the capacity: setMemoryFraction
        if settings.fraction < 1.0 and self.driver.capacity is not None:
            self.allowed = int(settings.fraction * self.driver.capacity)
        self.allocated = self.active = self.requested = self.reserved = 0
        self.segments: dict[int, Block] = {}
        # the first block of each segment, by the segment's address
        self.families: dict[tuple[bool, tuple[int, int]], Family] = {}
        self.plain: set[tuple[int, int]] = set()
        # private pools whose segments do not grow, whatever the settings
        self.asked: list[tuple[str, int, int]] = []
        # what was asked of the driver and given back, in order; whoever reads it may empty it
        self.retries = 0
        # searches that found nothing before cached blocks were given back
        self._made = 0
        self._by_block = settings.order == "block"
        self._by_segment = settings.order == "segment"
        self._unlimited = settings.max_split_bytes is None
        self._collects = settings.collect_above > 0 and self.allowed is not None
        self._powers = any(settings.roundup_power2)

    # -- requests ------------------------------------------------------------------------

    def malloc(self, nbytes: int, stream: int = 0, owner: tuple[int, int] = DEFAULT_POOL) -> Block:
        """A block for `nbytes` on `stream` (of a private pool). Follows `malloc` and `alloc_found_block`.

        Raises:
            OutOfMemory: the driver has not enough, even after all that is cached was given back.
        """
        if nbytes < SMALLEST:
            size = SMALLEST
        elif self._powers:
            size = round_size(nbytes, self.settings)
        else:
            size = -(-nbytes // SMALLEST) * SMALLEST
        small = size <= SMALL
        pool = self.pool(small, stream, owner)
        block = self._fit(pool, size) or self._new(pool, size, nbytes)
        remaining = block.size - size
        if small or pool.family.expandable:
            split = remaining >= SMALLEST
        else:
            split = remaining > SMALL and (self._unlimited or size < (self.settings.max_split_bytes or 0))
        if split:
            rest, block = block, Block(block.address, size, pool, self._key(block), block.grows)
            before = rest.prev
            block.prev, block.next, rest.prev = before, rest, block
            if before is None:
                self._first(rest, block)
            else:
                before.next = block
            rest.address += size
            rest.size = remaining
            pool.add(rest)
        block.allocated = True
        block.requested = nbytes
        self.allocated += block.size
        self.active += block.size
        self.requested += nbytes
        return block

    def free(self, block: Block) -> None:
        """A block is given back; while other streams may use it, it stays active. Follows `free`."""
        if not block.allocated:
            raise ValueError(f"the block at {block.address:#x} is not allocated")
        block.allocated = False
        self.allocated -= block.size
        if not block.uses:
            self._settle(block)

    def record_stream(self, block: Block) -> None:
        """Another stream uses the block: once freed it waits for `complete`. Follows `recordStream`."""
        block.uses = 1

    def complete(self, block: Block) -> None:
        """All streams are done with a block that was freed. Follows `process_events`."""
        if block.allocated or not block.uses:
            raise ValueError(f"the block at {block.address:#x} waits for no stream")
        block.uses = 0
        self._settle(block)

    def empty_cache(self) -> None:
        """All that is cached in the default pool goes back to the driver. Follows `release_cached_blocks`."""
        for small in (False, True):
            family = self.families.get((small, DEFAULT_POOL))
            if family is not None:
                self._release(family)

    # -- finding a block -----------------------------------------------------------------

    def pool(self, small: bool, stream: int, owner: tuple[int, int] = DEFAULT_POOL) -> Pool:
        """Where requests of that kind are served."""
        family = self.families.get((small, owner))
        if family is None:
            expandable = self.settings.expandable and owner not in self.plain
            family = self.families[small, owner] = Family(small, owner, expandable)
        pool = family.pools.get(stream)
        if pool is None:
            pool = family.pools[stream] = Pool(family, stream)
        return pool

    def _fit(self, pool: Pool, size: int) -> Block | None:
        """The smallest free block that is large enough. Follows `get_free_block`."""
        if self._collects:
            pool.family.searches += 1
        block = pool.free.first(size)
        if block is None:
            return None
        if block.grows is not None:
            block = self._fit_growing(pool, size)
            if block is None:
                return None
        most = self.settings.max_split_bytes
        if most is not None:
            if size < most <= block.size:
                return None
            if size >= most and block.size >= size + self.settings.round_over_bytes:
                return None
        pool.remove(block)
        return block

    def _fit_growing(self, pool: Pool, size: int) -> Block | None:
        """The same where the smallest lies in an expandable segment."""
        blocks = pool.free.rising(size)
        block = next(blocks)
        if pool.family.expandable:
            # The last block before addresses without memory counts as large as it may grow.
            for after in blocks:
                if block.grows is None or _reach(after) >= _reach(block):
                    break
                block = after
            return block
        return next((after for after in blocks if after.grows is None), None)

    def _new(self, pool: Pool, size: int, nbytes: int) -> Block:
        """Memory from the driver, after giving back cached blocks where there is no other way. Follows `malloc`."""
        if self._collects:
            self._collect()
        block = self._obtain(pool, size)
        if block is None:
            self.retries += 1
            if not self._unlimited and self._release_oversize(pool, size):
                block = self._obtain(pool, size)
        if block is None:
            self.empty_cache()
            block = self._obtain(pool, size)
        if block is None:
            raise OutOfMemory(segment_size(size, self.settings), nbytes, self)
        return block

    def _obtain(self, pool: Pool, size: int) -> Block | None:
        """A new segment, or more of an expandable one. Follows `alloc_block`."""
        wanted = segment_size(size, self.settings)
        if self.allowed is not None and self.reserved + wanted > self.allowed:
            return None
        if pool.family.expandable:
            return self._grow(pool, size)
        address = self.driver.segment(wanted, self.reserved)
        if address is None:
            return None
        self.reserved += wanted
        block = self.segments[address] = Block(address, wanted, pool, self.next_rank())
        self.asked.append(("segment_alloc", address, wanted))
        return block

    # -- what becomes free ---------------------------------------------------------------

    def _settle(self, block: Block) -> None:
        """A block becomes free and merges with its free neighbours. Follows `free_block`."""
        self.active -= block.size
        self.requested -= block.requested
        self._merge(block, block.prev)
        self._merge(block, block.next)
        block.pool.add(block)

    def _merge(self, block: Block, other: Block | None) -> None:
        """Take in a free neighbour. Follows `try_merge_blocks`."""
        if other is None or other.allocated or other.uses or other.mapped != block.mapped:
            return
        if other.mapped:
            other.pool.remove(other)
        else:
            other.pool.remove_unmapped(other)
        if block.prev is other:
            block.address = other.address
            block.prev = other.prev
            if block.prev is None:
                self._first(other, block)
            else:
                block.prev.next = block
        else:
            block.next = other.next
            if block.next is not None:
                block.next.prev = block
        block.size += other.size

    def _release(self, family: Family) -> None:
        """Every free block that is a whole segment goes back, and pages without a busy block. `release_blocks`."""
        blocks = family.blocks()
        for block in blocks:
            if block.grows is None and block.whole:
                self.give_back(block)
        for block in blocks:
            if block.grows is not None:
                self._unmap(block)

    def give_back(self, block: Block) -> None:
        """A free block that is a whole segment goes back to the driver. Follows `release_block`."""
        block.pool.remove(block)
        self.segments.pop(block.address, None)
        self.reserved -= block.size
        self.asked.append(("segment_free", block.address, block.size))

    def _release_oversize(self, pool: Pool, size: int) -> bool:
        """With max_split_size: only as much as this request needs. Follows `release_available_cached_blocks`."""
        most = self.settings.max_split_bytes or 0
        wanted = max(size, most)
        enough = pool.free.first(wanted)
        if enough is not None and enough.grows is None:
            self.give_back(enough)
            return True
        released = 0
        for block in list(pool.free.falling(wanted)):
            if released >= wanted or block.size < most:
                break
            if block.grows is None:
                released += block.size
                self.give_back(block)
        return released >= wanted

    def _collect(self) -> None:
        """Old free segments go back before more is asked for. Follows `garbage_collect_cached_blocks`."""
        threshold = int(self.settings.collect_above * (self.allowed or 0))
        target, reclaimed = self.reserved - threshold, 0
        family = self.families.get((False, DEFAULT_POOL))
        if target <= 0 or family is None:
            return
        candidates = [block for block in family.blocks() if block.whole]
        age, count = sum(family.searches - block.since for block in candidates), len(candidates)
        freed = True
        while reclaimed < target and freed and count > 0:
            oldest, freed = age / count, False
            for block in list(candidates):
                if block.grows is None and family.searches - block.since >= oldest:
                    candidates.remove(block)
                    freed = True
                    reclaimed += block.size
                    age -= family.searches - block.since
                    count -= 1
                    self.give_back(block)

    # -- expandable segments -------------------------------------------------------------

    def _grow(self, pool: Pool, size: int) -> Block | None:
        """Memory at the lowest addresses with room for `size`. Follows `try_allocate_expandable_block`."""
        block = self._room(pool, size)
        if not block.mapped and not self._map(block, min(block.size, size)):
            return None
        while block.size < size:
            after = block.next
            assert after is not None  # _room saw to it
            if not self._map(after, min(size - block.size, after.size)):
                return None
            block = after  # which took the block before it in
        pool.remove(block)
        return block

    def _room(self, pool: Pool, size: int) -> Block:
        """Where a block of `size` may grow; new addresses where none are left. Follows `find_expandable_block`."""
        for _, _, first in pool.unmapped:
            start = first if first.prev is None or first.prev.busy else first.prev
            at, found = start, 0
            while at is not None and not at.busy and found < size:
                found += at.size
                at = at.next  # type: ignore[assignment]
            if found >= size:
                return start
        page = SMALL_SEGMENT if pool.small else self.settings.large_segment_bytes
        span = -(-max(SPAN, size) // page) * page
        return self.add_span(self.driver.span(span), span, page, pool)

    def add_span(self, address: int, size: int, page: int, pool: Pool) -> Block:
        """Addresses of a new expandable segment, without memory."""
        block = Block(address, size, pool, self.next_rank(), Growing(address, size, page))
        block.mapped = False
        pool.add_unmapped(block)
        self.segments[address] = block
        return block

    def _map(self, block: Block, size: int) -> bool:
        """Pages for the first `size` bytes of addresses without memory. Follows `map_block`."""
        assert block.grows is not None
        mapped = -(-size // block.grows.page) * block.grows.page
        if not self.driver.pages(block.address, mapped, self.reserved):
            return False
        self.asked.append(("segment_map", block.address, mapped))
        pool = block.pool
        pool.remove_unmapped(block)
        block.mapped = True
        if mapped < block.size:
            rest = Block(block.address + mapped, block.size - mapped, pool, self._key(block), block.grows)
            rest.mapped = False
            _splice(rest, block, block.next)
            pool.add_unmapped(rest)
            block.size = mapped
        self._merge(block, block.prev)
        self._merge(block, block.next)
        pool.add(block)
        self.reserved += mapped
        return True

    def _unmap(self, block: Block) -> None:
        """Whole pages of a free block go back to the driver. Follows `unmap_block`."""
        assert block.grows is not None
        base, page = block.grows.address, block.grows.page
        start = base + -(-(block.address - base) // page) * page
        stop = base + (block.address + block.size - base) // page * page
        if start >= stop:
            return
        pool = block.pool
        pool.remove(block)
        if start > block.address:
            front = Block(block.address, start - block.address, pool, self._key(block), block.grows)
            if block.prev is None:
                self._first(block, front)
            _splice(front, block.prev, block)
            pool.add(front)
        if stop < block.address + block.size:
            back = Block(stop, block.address + block.size - stop, pool, self._key(block), block.grows)
            _splice(back, block, block.next)
            pool.add(back)
        block.address, block.size, block.mapped = start, stop - start, False
        self._merge(block, block.prev)
        self._merge(block, block.next)
        pool.add_unmapped(block)
        self.reserved -= stop - start
        self.asked.append(("segment_unmap", start, stop - start))
        if block.whole:  # release_expandable_segment
            pool.remove_unmapped(block)
            self.segments.pop(base, None)

    # -- order and place -----------------------------------------------------------------

    def next_rank(self) -> int:
        """The rank, among free blocks of one size, of what the driver just gave: see `settings.Order`."""
        if not self._by_block and not self._by_segment:
            return 0
        self._made += 1
        return self._made

    def _key(self, parent: Block) -> int:
        """The rank of a block cut off another."""
        return self.next_rank() if self._by_block else parent.key

    def _first(self, old: Block, new: Block) -> None:
        """Another block is now the first of a segment."""
        address = old.grows.address if old.grows is not None else new.address
        self.segments[address] = new

    def inactive_split(self) -> int:
        """Free bytes in segments that something else still occupies: they cannot go back (not of expandable ones)."""
        return sum(
            block.size
            for family in self.families.values()
            for block in family.blocks()
            if block.grows is None and not block.whole
        )


def _reach(block: Block) -> int:
    """The size of a free block with the addresses without memory behind it."""
    after = block.next
    return block.size + (after.size if after is not None and not after.mapped else 0)


def _splice(block: Block, before: Block | None, after: Block | None) -> None:
    block.prev, block.next = before, after
    if before is not None:
        before.next = block
    if after is not None:
        after.prev = block
