"""ncnn's matrices: how many bytes one takes, and whose memory several share.

Source: `src/mat.cpp` (Mat::create, Mat::reshape), commit a4d2ea1d (2026-07-22).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from peakmem.engines.ncnn.pools import Allocator, Block

Sizes = tuple[int, ...]
# (w), (h, w), (c, h, w) or (c, d, h, w), in elements, as if nothing were packed


def step_bytes(sizes: Sizes, element: int) -> int:
    """Bytes from one channel to the next: what is in a channel, rounded down to whole elements of 16-byte steps."""
    inner = math.prod(sizes[1:]) if len(sizes) > 2 else math.prod(sizes)
    return -(-inner * element // 16) * 16 // element * element


def mat_bytes(sizes: Sizes, element: int) -> int:
    """What Mat::create asks for: `sizes` in packed elements of `element` bytes, a reference counter of 4 behind.

    A matrix of one or two dimensions is one channel.
    """
    channels = sizes[0] if len(sizes) > 2 else 1
    data = step_bytes(sizes, element) * channels
    return -(-data // 4) * 4 + 4 if data else 0


def packed(sizes: Sizes, pack: int) -> Sizes:
    """Sizes in packed elements: the outermost is divided."""
    return (sizes[0] // pack, *sizes[1:])


@dataclass(slots=True)
class Shared:
    """Memory that matrices refer to."""

    block: Block | None
    # None for memory that is not ours to free
    allocator: Allocator | None
    references: int = 1


@dataclass(slots=True)
class Mat:
    """A matrix, or a view of one."""

    sizes: Sizes
    scalar: int
    # bytes of one element
    pack: int
    memory: Shared | None

    @property
    def count(self) -> int:
        """Elements."""
        return math.prod(self.sizes)

    @property
    def element(self) -> int:
        """Bytes of a packed element."""
        return self.scalar * self.pack

    @property
    def nbytes(self) -> int:
        """What Mat::create would ask for."""
        return mat_bytes(packed(self.sizes, self.pack), self.element)

    @property
    def dense(self) -> bool:
        """Whether channels follow each other without a gap."""
        if len(self.sizes) < 3:
            return True
        return math.prod(self.sizes[1:]) * self.element == step_bytes(packed(self.sizes, self.pack), self.element)
