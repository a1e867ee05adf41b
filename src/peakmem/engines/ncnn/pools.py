"""ncnn's allocators: a pool that keeps what comes back, or none.

Source: `src/allocator.cpp`, PoolAllocator and UnlockedPoolAllocator, commit a4d2ea1d (2026-07-22): both alike but for
the lock. Net::load_model and Extractor take a size_compare_ratio of 0, so that any kept block that is large enough
serves; the drop threshold is 10.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from peakmem.engines.ncnn.heap import OVERREAD, Heap
from peakmem.engines.prediction import Category

NODE = 32
# of std::list<std::pair<size_t, void*>>, one for each block of a pool; measured
DROP_THRESHOLD = 10


@dataclass(slots=True)
class Block:
    """A request that was served."""

    nbytes: int
    whole: int
    # of the block that serves it
    category: Category


class Allocator(Protocol):
    """Where blobs or workspace come from."""

    pooled: bool

    def malloc(self, nbytes: int) -> Block:
        """A block for `nbytes`."""

    def free(self, block: Block) -> None:
        """It comes back."""


@dataclass(slots=True)
class Pool:
    """PoolAllocator: the first kept block that is large enough, else a new one.

    Of ten kept ones that are all too small the smallest goes back to the system.
    """

    heap: Heap
    category: Category
    # of what is in use
    compare_ratio: int = 0
    # of 256: a block serves if this share of it is no more than the request
    drop_threshold: int = DROP_THRESHOLD
    kept: list[int] = field(default_factory=list)
    # sizes of blocks, the oldest first
    requests: list[int] = field(default_factory=list)
    # bytes of each request
    out_bytes: int = 0
    # requested and not come back
    most_bytes: int = 0
    # the most of it
    pooled: bool = True

    def malloc(self, nbytes: int) -> Block:
        """A block for `nbytes`."""
        self.requests.append(nbytes)
        self.out_bytes += nbytes
        self.most_bytes = max(self.most_bytes, self.out_bytes)
        for at, size in enumerate(self.kept):
            if size >= nbytes and size * self.compare_ratio >> 8 <= nbytes:
                del self.kept[at]
                self.heap.move("pools", self.category, nbytes)
                return Block(nbytes, size, self.category)
        if len(self.kept) >= self.drop_threshold:
            # the first of equal ones, as the iterators of the source
            if max(self.kept) < nbytes:
                self._drop(min(self.kept))
            elif min(self.kept) > nbytes:
                self._drop(max(self.kept))
        self.heap.take("allocator", OVERREAD + NODE)
        self.heap.take(self.category, nbytes)
        return Block(nbytes, nbytes, self.category)

    def free(self, block: Block) -> None:
        """The block stays."""
        self.out_bytes -= block.nbytes
        self.heap.move(self.category, "pools", block.nbytes)
        self.kept.append(block.whole)

    def _drop(self, size: int) -> None:
        self.kept.remove(size)
        self.heap.take("pools", -size)
        self.heap.take("allocator", -OVERREAD - NODE)


@dataclass(slots=True)
class System:
    """No pool: each request goes to malloc, and comes back to it."""

    heap: Heap
    category: Category
    requests: list[int] = field(default_factory=list)
    out_bytes: int = 0
    most_bytes: int = 0
    pooled: bool = False

    def malloc(self, nbytes: int) -> Block:
        """A block for `nbytes`."""
        self.requests.append(nbytes)
        self.out_bytes += nbytes
        self.most_bytes = max(self.most_bytes, self.out_bytes)
        self.heap.block(self.category, nbytes)
        return Block(nbytes, nbytes, self.category)

    def free(self, block: Block) -> None:
        """Back to malloc."""
        self.out_bytes -= block.nbytes
        self.heap.block(block.category, block.nbytes, -1)
