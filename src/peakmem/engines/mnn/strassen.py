"""MNN's matrix product of rows × inner × columns: Strassen's halving while it pays, tiles where it ends.

source/backend/cpu/compute/StrassenMatmulComputor.cpp of 3.6.1. Each product asks for a tile of its own; behind a
barrier none is given back before the last.
"""

from __future__ import annotations

from peakmem.engines.mnn.allocators import Planner
from peakmem.engines.mnn.kernels import FLOAT, Kernels

DEEPEST = 5
TILE = 32768
# floats of a tile with its part of the right matrix


def strassen(rows: int, inner: int, columns: int, kernels: Kernels, planner: Planner, depth: int = 0) -> None:
    """_generateMatMul: ask for what the product needs."""
    wide = max(kernels.columns, kernels.pack)
    half_rows = rows // kernels.rows // 2 * kernels.rows
    half_columns = columns // wide // 2 * wide
    pack = kernels.pack
    wide_blocks = pack // kernels.columns if pack > kernels.columns else 1
    odd = inner % (2 * pack) or inner % 2 or inner % (2 * wide_blocks)
    if (
        depth >= DEEPEST
        or not half_rows
        or not half_columns
        or odd
        or not _pays(rows, half_rows, inner // 2, half_columns, kernels)
    ):
        _basic(rows, inner, columns, kernels, planner)
        return
    half = inner // 2
    right = planner.alloc(half_columns * half * FLOAT)
    left = planner.alloc(max(half, half_columns) * half_rows * FLOAT)
    for _ in range(7):
        strassen(half_rows, half, half_columns, kernels, planner, depth + 1)
    if columns - 2 * half_columns:
        _basic(2 * half_rows, inner, columns - 2 * half_columns, kernels, planner)
    if rows - 2 * half_rows:
        _basic(rows - 2 * half_rows, inner, columns, kernels, planner)
    planner.free(left)
    planner.free(right)


def _pays(rows: int, half_rows: int, half: int, half_columns: int, kernels: Kernels) -> bool:
    """Whether less is read and written for it than the product saves."""
    pack, tile = kernels.pack, kernels.rows
    sums = 4.0 * half_rows * half + 4.0 * half * half_columns + 7.0 * half_rows * half_columns
    units = half // pack
    saved = (rows // tile) * (pack * tile * half_columns // pack + units * tile * pack + half * half_columns)
    return saved - sums * kernels.penalty > 0


def _basic(rows: int, inner: int, columns: int, kernels: Kernels, planner: Planner) -> None:
    """_generateBasicMatMul: a long inner side is cut, and the sums meet in a matrix of their own."""
    limit = TILE // (min(kernels.rows, rows) + kernels.columns)
    if inner <= limit:
        _tile(inner, kernels, planner)
        return
    limit = limit // kernels.pack * kernels.pack
    total = planner.alloc(rows * kernels.blocks(columns) * FLOAT)
    for start in range(0, inner, limit):
        _tile(min(limit, inner - start), kernels, planner)
    planner.free(total)


def _tile(inner: int, kernels: Kernels, planner: Planner) -> None:
    planner.tiles += 1
    planner.free(planner.alloc(inner * kernels.rows * FLOAT))
