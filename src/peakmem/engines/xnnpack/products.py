"""Rows that products quantise while they run, and whether a tile of them stays in the cache.

From src/pack-lh.cc and src/microkernel-utils.c of XNNPACK 75db3c0 (2026-08-21).
"""

from __future__ import annotations

LINE = 64
# of a cache
PARAMETERS = 8
# struct xnn_qd8_quantization_params, of each row


def packed_rows(rows: int, depth: int, tile: int, group: int) -> int:
    """xnn_pack_lh_fx_qd8_packed_size."""
    rows = -(-rows // tile) * tile
    depth = -(-depth // group) * group
    return rows * -(-(PARAMETERS + depth) // 4) * 4


def fits_in_cache(rows: int, columns: int, row: int, column: int, element: int, nbytes: int) -> bool:
    """xnn_should_inline_lhs_packing: a strip of rows, all columns and their results in the second cache."""
    if not nbytes:
        return False
    lines = -(-rows * row // LINE) + -(-columns * column // LINE) + rows * -(-columns * element // LINE)
    return lines * LINE <= nbytes
