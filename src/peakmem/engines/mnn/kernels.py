"""What MNN's kernels look like on a processor: channels of a block, and the tiles of its matrix product.

Of MNN 3.6.1, source/backend/cpu: x86_x64/AVX2Functions.cpp (init), x86_x64/FunctionDispatcher.cpp (FunctionGroup),
compute/CommonOptFunction.cpp (MNNGetMatMulPackMode). The wheel of PyPI is built without MNN_AVX512: no symbol of it is
in the library, and what it allocates on a processor with avx512 is what AVX2 needs.
"""

from __future__ import annotations

from dataclasses import dataclass

from peakmem.engines.prediction import Processor

ALIGNMENT = 64
# MNN_MEMORY_ALIGN_DEFAULT
HEADER = 8 + ALIGNMENT
# what MNNMemoryAllocAlign asks for beyond the bytes wanted, source/core/MNNMemoryUtils.cpp
FLOAT = 4


@dataclass(frozen=True, slots=True)
class Kernels:
    """Sizes that shape what is packed."""

    pack: int
    # channels of a block of NC4HW4
    rows: int
    # eP: rows of the left matrix in a tile
    columns: int
    # hP: columns of the right matrix in a tile
    threads: int
    penalty: float = 1.5
    # of a Strassen step

    def blocks(self, channels: int) -> int:
        """Channels rounded up to whole blocks."""
        return up(channels, self.pack)


def kernels(processor: Processor, threads: int) -> Kernels:
    """The tiles of `processor`."""
    if processor.architecture == "aarch64":
        return Kernels(4, 12, 8, threads)
    if "avx2" in processor.features:
        return Kernels(8, 24, 4, threads)
    return Kernels(4, 12, 4, threads)


def up(size: int, by: int) -> int:
    """`size` rounded up to a multiple of `by`."""
    return -(-size // by) * by


def divided(size: int, threads: int) -> list[int]:
    """How many of `size` each thread takes: CPUBackend::computeDivideSizes without groups of processors."""
    step = -(-size // threads)
    ends = [min(step * (at + 1), size) for at in range(threads)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]
