"""BFCArena, the arena of ONNX Runtime: chunks in bins, best fit, coalescing, extents that double and stay.

Rules of onnxruntime/core/framework/bfc_arena.{h,cc} (as of 1.31; unchanged since 1.8 but for streams, which the CPU
provider has none of). Where the system puts an extent decides between two free chunks of one size: `place` says it,
and by default a later extent lies above an earlier one.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass

from peakmem.errors import UsageError

UNIT = 256
# kMinAllocationSize: chunks are multiples of it
BINS = 21
# kNumBins: 256 bytes to 256 MiB; the last takes all above
INITIAL_CHUNK = 1 << 20
# DEFAULT_INITIAL_CHUNK_SIZE_BYTES
GROWTH_AFTER_SHRINKING = 2 << 20
# DEFAULT_INITIAL_GROWTH_CHUNK_SIZE_BYTES
MAX_DEAD = 128 << 20
# DEFAULT_MAX_DEAD_BYTES_PER_CHUNK: most that a request may waste without the chunk being split
MAX_EXTEND = 1 << 30
# DEFAULT_MAX_POWER_OF_TWO_EXTEND_BYTES
HANDLE = 8
# bytes of one ChunkHandle: every extent brings an array with one for each UNIT
STRATEGIES = ("power_of_two", "same_as_requested")


@dataclass(slots=True)
class _Chunk:
    """A stretch of an extent, in use or free."""

    address: int
    nbytes: int
    requested: int = 0
    used: bool = False
    before: _Chunk | None = None
    after: _Chunk | None = None


@dataclass(slots=True)
class _Extent:
    address: int
    nbytes: int
    number: int
    # in the order of asking; the first is not given back with power_of_two
    first: _Chunk


def rounded(nbytes: int) -> int:
    """Up to whole UNITs."""
    return -(-nbytes // UNIT) * UNIT


def bin_of(nbytes: int) -> int:
    """Number of the bin a chunk of this size lies in."""
    return min(BINS - 1, (max(nbytes, UNIT) // UNIT).bit_length() - 1)


def _above(nbytes: int, number: int) -> int:
    """Far above all extents before, whatever its size."""
    return number << max(48, nbytes.bit_length())


class Arena:
    """The allocator; `request` gives a handle that `free` takes.

    Args:
        strategy: one of STRATEGIES.
        initial_chunk: bytes of the first extent, 0 for the engine's own.
        max_extend: what the next extent is doubled to at most, 0 for the engine's own; a large request goes past it.
        place: address of a new extent from its size and number.
    """

    def __init__(
        self,
        strategy: str = "power_of_two",
        initial_chunk: int = 0,
        max_extend: int = 0,
        place: Callable[[int, int], int] | None = None,
    ) -> None:
        if strategy not in STRATEGIES:
            raise UsageError(f"an arena does not extend by {strategy!r}", expected=", ".join(STRATEGIES))
        if initial_chunk < 0 or max_extend < 0:
            raise UsageError("an arena's sizes are not negative", expected="bytes, 0 for the engine's own")
        if max_extend % UNIT:
            # ORT_ENFORCE(0 == memory_size % kMinAllocationSize) fails after the extent was taken, which leaks it
            raise UsageError(f"arena_max_extend={max_extend} makes the engine fail", expected=f"a multiple of {UNIT}")
        self.doubles = strategy == "power_of_two"
        self.next_extent = rounded(initial_chunk or INITIAL_CHUNK)
        self.max_extend = max_extend or MAX_EXTEND
        self.place = place or _above
        self.extents: list[_Extent] = []
        self.grown: list[int] = []
        # sizes of all extents ever asked for, in order
        self.reserved: dict[int, int] = {}
        # asked from the system one by one, past the bins
        self._free: list[list[tuple[int, int]]] = [[] for _ in range(BINS)]
        # (bytes, address) ascending: Bin::ChunkComparator
        self._at: dict[int, _Chunk] = {}
        self._asked = 0

    @property
    def extended_bytes(self) -> int:
        """Held in extents."""
        return sum(extent.nbytes for extent in self.extents)

    @property
    def handle_bytes(self) -> int:
        """Arrays of handles that the extents bring (AllocationRegion::handles_)."""
        return self.extended_bytes // UNIT * HANDLE

    @property
    def used_bytes(self) -> int:
        """In chunks that are in use."""
        return sum(chunk.nbytes for chunk in self._at.values() if chunk.used)

    def reserve(self, nbytes: int) -> int:
        """Taken from the system as asked for, outside the bins (BFCArena::Reserve): weights."""
        self._asked += 1
        self.reserved[-self._asked] = nbytes
        return -self._asked

    def request(self, nbytes: int) -> int:
        """A chunk; 0 for no bytes."""
        if nbytes == 0:
            return 0
        need = rounded(nbytes)
        chunk = self._fit(need)
        if chunk is None:
            self._extend(need)
            chunk = self._fit(need)
            assert chunk is not None
        if chunk.nbytes >= 2 * need or chunk.nbytes - need >= MAX_DEAD:
            self._split(chunk, need)
        chunk.requested, chunk.used = nbytes, True
        return chunk.address

    def free(self, handle: int) -> None:
        """Back to the bins, joined with free neighbours; a reserved one back to the system."""
        if handle == 0:
            return
        if handle < 0:
            del self.reserved[handle]
            return
        chunk = self._at[handle]
        chunk.used = False
        after, before = chunk.after, chunk.before
        if after is not None and not after.used:
            self._drop(after)
            self._merge(chunk, after)
        if before is not None and not before.used:
            self._drop(before)
            self._merge(before, chunk)
            chunk = before
        self._insert(chunk)

    def shrink(self) -> int:
        """Extents without a chunk in use go back; how many bytes. With power_of_two the first extent stays."""
        given = 0
        kept = []
        for extent in self.extents:
            chunks = [extent.first]
            while chunks[-1].after is not None:
                chunks.append(chunks[-1].after)
            if any(chunk.used for chunk in chunks) or (self.doubles and extent.number == 0):
                kept.append(extent)
                continue
            for chunk in chunks:
                self._drop(chunk)
                del self._at[chunk.address]
            given += extent.nbytes
        self.extents = kept
        self.next_extent = GROWTH_AFTER_SHRINKING
        return given

    def _fit(self, need: int) -> _Chunk | None:
        """The smallest free chunk that is large enough; of equals the lowest."""
        for number in range(bin_of(need), BINS):
            row = self._free[number]
            at = bisect_left(row, (need, -1))
            if at < len(row):
                return self._at[row.pop(at)[1]]
        return None

    def _extend(self, need: int) -> None:
        size = need
        if self.doubles:
            doubled = need > self.next_extent
            while need > self.next_extent:
                self.next_extent *= 2
            size = self.next_extent
            if not doubled:
                # the bound acts here alone: a large request goes past it
                self.next_extent = min(2 * self.next_extent, self.max_extend)
        number = len(self.extents)
        chunk = _Chunk(self.place(size, len(self.grown) + 1), size)
        self.extents.append(_Extent(chunk.address, size, number, chunk))
        self.grown.append(size)
        self._at[chunk.address] = chunk
        self._insert(chunk)

    def _split(self, chunk: _Chunk, need: int) -> None:
        rest = _Chunk(chunk.address + need, chunk.nbytes - need, before=chunk, after=chunk.after)
        if chunk.after is not None:
            chunk.after.before = rest
        chunk.after, chunk.nbytes = rest, need
        self._at[rest.address] = rest
        self._insert(rest)

    def _merge(self, lower: _Chunk, upper: _Chunk) -> None:
        lower.nbytes += upper.nbytes
        lower.after = upper.after
        if upper.after is not None:
            upper.after.before = lower
        del self._at[upper.address]

    def _insert(self, chunk: _Chunk) -> None:
        insort(self._free[bin_of(chunk.nbytes)], (chunk.nbytes, chunk.address))

    def _drop(self, chunk: _Chunk) -> None:
        self._free[bin_of(chunk.nbytes)].remove((chunk.nbytes, chunk.address))
