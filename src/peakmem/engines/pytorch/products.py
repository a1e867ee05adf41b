"""Matrix products: MKL's buffers, which it keeps, and oneDNN's for bfloat16.

MKL is closed: no rule of it is read here. The sizes of its sgemm's buffers were measured over products of many sizes
(MKL 2024.2 in torch 2.13.0+cpu, the kernels it takes on an AMD EPYC of family 26;
`mkl_blas_def_sgemm_getbufs_bdz`), and the formula and its constants were fitted to them; it gives each to the byte. Its
kernels for Intel processors take others, which is not modelled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peakmem.engines.pytorch.heap import Heap

THREAD = 256
# of each thread that multiplies
ROWS, COLUMNS, FEWEST_ROWS, FEWEST_COLUMNS = 384, 6400, 4, 12
# of the left and the right matrix that are packed at a time; fewer are multiplied in place
SPARE = 17_056
# bytes beside both
BLOCK, LARGEST_BLOCK, LANES = 128, 192, 16
# of the inner dimension; columns are rounded up to whole registers


def buffer_bytes(rows: int, inner: int, columns: int) -> int:
    """What sgemm takes to pack a row-major `rows` x `inner` by `inner` x `columns`; 0 where it packs nothing."""
    if rows < FEWEST_ROWS or columns < FEWEST_COLUMNS or inner < 2:
        return 0
    if inner <= BLOCK:
        block = BLOCK
    elif inner <= LARGEST_BLOCK:
        block = inner
    else:
        block = min(inner // 2, LARGEST_BLOCK)
    wide = min(-(-columns // LANES) * LANES, COLUMNS)
    return 4 * block * (wide + 2 * min(rows, ROWS)) + SPARE


@dataclass(slots=True)
class Mkl:
    """Buffers of each thread: a product takes one that is large enough, or a new one; none goes back."""

    heap: Heap
    threads: int
    kept: list[list[int]] = field(default_factory=list)

    def gemm(self, rows: int, inner: int, columns: int) -> None:
        """One product of single precision."""
        for thread, (m, n) in enumerate(self._shares(rows, columns)):
            needed = buffer_bytes(m, inner, n)
            if not needed:
                continue
            while len(self.kept) <= thread:
                self.heap.take("objects", THREAD)
                self.kept.append([])
            if all(size < needed for size in self.kept[thread]):
                self.heap.take("pools", needed)
                self.kept[thread].append(needed)

    def _shares(self, rows: int, columns: int) -> list[tuple[int, int]]:
        """Rows and columns of each thread that packs; measured with 1 to 4 threads."""
        if self.threads == 1 or rows <= FEWEST_ROWS:
            return [(rows, columns)]
        if self.threads == 2:
            first = -(-rows // (2 * FEWEST_ROWS)) * FEWEST_ROWS
            return [(first, columns), (rows - first, columns)]
        registers = -(-columns // LANES)
        parts = max(1, min(self.threads - 1, registers // 2))
        return [(rows, min(columns, -(-registers // parts) * LANES))] * parts
