"""What the caching allocator keeps: blocks, the pools they wait in, and the driver that hands out memory.

Sizes are those of c10/core/AllocatorConfig.h, torch 2.13.0. Nothing here decides which block is taken.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import count

from peakmem.training.allocator.ordered import Ordered
from peakmem.training.allocator.settings import MIB, Settings

SMALLEST = 512
# every size is rounded to a multiple of it: kMinBlockSize
SMALL = MIB
# the largest request of the small pool: kSmallSize
SMALL_SEGMENT = 2 * MIB
# kSmallBuffer; also the page of an expandable segment of the small pool
LARGE_REQUEST = 10 * MIB
# from here on a segment is as large as its request: kMinLargeAlloc
LARGE_STEP = 2 * MIB
# rounded up to a multiple of it: kRoundLarge
SPAN = 1 << 40
# addresses an expandable segment reserves; torch takes 9/8 of the device's memory, more than can ever be mapped


def round_size(nbytes: int, settings: Settings) -> int:
    """The size of the block a request of `nbytes` asks for: `round_size` in CUDACachingAllocator.cpp."""
    if nbytes < SMALLEST:
        return SMALLEST
    divisions = settings.roundup_power2[min(max(nbytes.bit_length() - 21, 0), len(settings.roundup_power2) - 1)]
    if divisions <= 1 or nbytes <= SMALLEST * divisions:
        return -(-nbytes // SMALLEST) * SMALLEST
    floor = 1 << (nbytes.bit_length() - 1)
    if floor == nbytes:
        return nbytes
    step = floor >> (divisions.bit_length() - 1)
    return 2 * floor if step == 0 else -(-nbytes // step) * step


def segment_size(size: int, settings: Settings) -> int:
    """The segment that is asked of the driver for a block of `size`: `get_allocation_size`."""
    if size <= SMALL:
        return SMALL_SEGMENT
    if size < LARGE_REQUEST:
        return settings.large_segment_bytes
    return -(-size // LARGE_STEP) * LARGE_STEP


class Block:
    """A piece of a segment: handed out, waiting in a pool, or addresses without memory."""

    __slots__ = (
        "address", "allocated", "grows", "key", "mapped", "next", "pool", "prev", "requested", "serial", "since",
        "size", "uses",
    )  # fmt: skip
    _numbers = count()

    def __init__(self, address: int, size: int, pool: Pool, key: int, grows: Growing | None = None) -> None:
        self.address, self.size, self.pool = address, size, pool
        self.key = key
        # its rank among free blocks of one size, see settings.Order
        self.grows = grows
        # the expandable segment it is of
        self.serial = next(self._numbers)
        self.requested = 0
        self.allocated = False
        self.mapped = True
        # whether there is memory behind its addresses; only in expandable segments there may be none
        self.uses = 0
        # streams that may still use it; it is not free before they are done
        self.prev: Block | None = None
        self.next: Block | None = None
        # neighbours in the segment
        self.since = 0
        # the searches its pools had seen when it became free: its age, for garbage collection

    @property
    def whole(self) -> bool:
        """Whether it is all of its segment."""
        return self.prev is None and self.next is None

    @property
    def busy(self) -> bool:
        """Handed out, or not yet done with."""
        return self.allocated or self.uses > 0


class Growing:
    """An expandable segment: a range of addresses that memory is mapped into page by page."""

    __slots__ = ("address", "page", "size")

    def __init__(self, address: int, size: int, page: int) -> None:
        self.address, self.size, self.page = address, size, page


class Family:
    """The pools of all streams for small or for large requests, in the default or in a private pool."""

    __slots__ = ("expandable", "owner", "pools", "searches", "small")

    def __init__(self, small: bool, owner: tuple[int, int], expandable: bool) -> None:
        self.small, self.owner = small, owner
        self.expandable = expandable
        # whether new memory comes in expandable segments: never in a private pool with an allocator of its own
        self.searches = 0
        self.pools: dict[int, Pool] = {}

    def blocks(self) -> list[Block]:
        """Free blocks of all streams in the order in which the allocator goes through them."""
        return [entry[4] for stream in sorted(self.pools) for entry in self.pools[stream].free]


class Pool:
    """Free blocks of one stream, smallest first, and addresses of its expandable segments without memory."""

    __slots__ = ("family", "free", "small", "stream", "unmapped")

    def __init__(self, family: Family, stream: int) -> None:
        self.family, self.small, self.stream = family, family.small, stream
        self.free = Ordered()
        self.unmapped: list[tuple[int, int, Block]] = []

    def add(self, block: Block) -> None:
        """A block becomes free."""
        block.since = self.family.searches
        self.free.add((block.size, block.key, block.address, block.serial, block))

    def remove(self, block: Block) -> None:
        """A free block is free no more."""
        self.free.remove((block.size, block.key, block.address, block.serial))

    def add_unmapped(self, block: Block) -> None:
        """A range of addresses has no memory."""
        insort(self.unmapped, (block.address, block.serial, block))

    def remove_unmapped(self, block: Block) -> None:
        """A range of addresses without memory gets some, or goes."""
        del self.unmapped[bisect_left(self.unmapped, (block.address, block.serial))]


class Driver:
    """What cudaMalloc and cuMemMap give: addresses, each above the last, up to a capacity."""

    def __init__(self, capacity: int | None = None, *, descending: bool = False) -> None:
        self.capacity = capacity
        # bytes that the driver has for this allocator; None: without end
        self._step = -1 if descending else 1
        self._next = 1 << 46

    def segment(self, nbytes: int, reserved: int) -> int | None:
        """The address of a new segment; None where there is no room beside the `reserved` bytes."""
        return self._range(nbytes) if self.room(nbytes, reserved) else None

    def span(self, nbytes: int) -> int:
        """Where `nbytes` of addresses are reserved."""
        return self._range(nbytes)

    def pages(self, address: int, nbytes: int, reserved: int) -> bool:  # noqa: ARG002 any place will do
        """Whether there is memory for `nbytes` of pages at `address`."""
        return self.room(nbytes, reserved)

    def room(self, nbytes: int, reserved: int) -> bool:
        """Whether `nbytes` more than `reserved` fit."""
        return self.capacity is None or reserved + nbytes <= self.capacity

    def _range(self, nbytes: int) -> int:
        # Ranges never touch: the allocator does not merge over segments, and a reader should see that.
        size = (-(-nbytes // LARGE_STEP) + 1) * LARGE_STEP
        if self._step < 0:
            self._next -= size
            return self._next
        address = self._next
        self._next += size
        return address
