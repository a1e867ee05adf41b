"""Sizes that ncnn computes, by hand from its source: tiles, packing, matrices, pools."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peakmem.engines.ncnn import tiles
from peakmem.engines.ncnn.convolution import packed_weights
from peakmem.engines.ncnn.heap import Heap
from peakmem.engines.ncnn.mat import Mat, mat_bytes
from peakmem.engines.ncnn.options import AVX512, Options, options_of
from peakmem.engines.ncnn.pools import Pool, System
from peakmem.engines.prediction import Processor

WIDE = options_of({}, Processor(features=AVX512 | {"avx", "f16c"}, l2_bytes=1 << 20, cores=2))
NARROW = options_of({}, Processor(features=frozenset({"avx", "avx2", "fma", "f16c"}), l2_bytes=256 << 10, cores=4))


@pytest.mark.parametrize(
    ("sizes", "element", "nbytes"),
    [
        ((5,), 4, 36),
        # 20 bytes of data to 32, and the counter
        ((4, 8), 64, 2052),
        ((3, 7, 7), 4, 3 * 208 + 4),
        # 196 bytes of a channel to 208
        ((2, 3, 7, 7), 4, 2 * 592 + 4),
        ((0,), 4, 0),
    ],
)
def test_matrices(sizes: tuple[int, ...], element: int, nbytes: int) -> None:
    assert mat_bytes(sizes, element) == nbytes


def test_dense_matrices_have_no_gaps() -> None:
    assert Mat((4, 8, 8), 4, 1, None).dense
    assert not Mat((4, 7, 7), 4, 1, None).dense
    assert Mat((16, 7, 7), 4, 16, None).dense


def test_packing_by_width_of_registers() -> None:
    assert [WIDE.pack(channels) for channels in (32, 24, 12, 6)] == [16, 8, 4, 1]
    assert [NARROW.pack(channels) for channels in (32, 24, 12, 6)] == [8, 8, 4, 1]
    assert replace(WIDE, packing=False).pack(32) == 1


@pytest.mark.parametrize(
    ("sizes", "options", "expected"),
    [
        ((64, 0, 576), WIDE, (64, 0, 576)),
        ((64, 3136, 576), WIDE, (64, 352, 576)),
        # (262144 - 64*576) / 576 = 391 → 384; nine parts of 3136 are 349 each → 352
        ((1000, 49, 20000), WIDE, (64, 16, 10000)),
        # K: (262144 - 64) / 16 = 16380 → 16368; two parts of 20000; M: 16 parts of 63 → 64; N: nothing is left → 16
        ((64, 3136, 576), NARROW, (32, 72, 576)),
        # (65536 - 32*576) / 576 = 81 → 72 in steps of 12; 44 parts of 72
    ],
)
def test_tiles_of_convolutions(sizes: tuple[int, int, int], options: Options, expected: tuple[int, int, int]) -> None:
    assert tuple(tiles.convolution(*sizes, options)) == expected


@pytest.mark.parametrize(
    ("sizes", "options", "expected"),
    [
        ((64, 0, 64), WIDE, (64, 0, 64)),
        ((512, 196, 512), WIDE, (256, 208, 256)),
        # side √(262144/3) = 295 → 288, two parts of 256; K: 512 - 256 = 256; N: (262144 - 65536) / 512 = 384 → 208
        ((512, 196, 512), replace(WIDE, threads=2), (256, 208, 256)),
        # 576 for two threads, one part of 512, 256 each
    ],
)
def test_tiles_of_winograd(sizes: tuple[int, int, int], options: Options, expected: tuple[int, int, int]) -> None:
    assert tuple(tiles.winograd(*sizes, options)) == expected


def test_tiles_of_products() -> None:
    assert tuple(tiles.gemm(96, 96, 128, WIDE)) == (96, 96, 128)
    assert tuple(tiles.gemm(0, 4096, 4096, WIDE)) == (288, 288, 288)
    # side √(1048576/12) = 295 → 288; 15 parts of 4096 are 274 → 288


@pytest.mark.parametrize(
    ("tile", "into", "out", "side", "expected"),
    [
        ("63", 32, 32, 30, True), ("63", 32, 32, 45, False), ("63", 64, 16, 30, False), ("63", 4, 16, 60, False),
        ("23", 512, 512, 14, True), ("23", 512, 512, 15, False), ("23", 8, 8, 1000, True), ("23", 8, 200, 8, False),
    ],
)  # fmt: skip
def test_winograd_preferences(tile: str, into: int, out: int, side: int, expected: bool) -> None:
    """Rows of test_prefer_winograd63 and test_prefer_winograd23."""
    assert tiles.prefers(tile, into, out, side) is expected


def test_packed_weights() -> None:
    assert packed_weights(3, 16, 9, 16) == (1, 2, 2 * 16 * 9)
    # three channels in: one pair and one; 16 out
    assert packed_weights(13, 20, 9, 16) == (2, 3, 8 * 16 * 9)
    # 13 = 8 + 4 + 1, 20 = 16 + 4
    assert packed_weights(1, 1, 9, 16) == (1, 1, 9)


def test_a_pool_serves_the_first_block_that_is_large_enough() -> None:
    heap = Heap()
    pool = Pool(heap, "activations")
    large, small = pool.malloc(1000), pool.malloc(100)
    pool.free(large)
    pool.free(small)
    again = pool.malloc(50)
    assert (again.nbytes, again.whole) == (50, 1000)
    assert heap.held["activations"] == 50
    assert heap.held["pools"] == 1050
    assert heap.total == 1100 + 2 * 96
    # no more was asked for


def test_a_pool_of_ten_kept_blocks_drops_one() -> None:
    heap = Heap()
    pool = Pool(heap, "workspace")
    for block in [pool.malloc(100 + at) for at in range(10)]:
        pool.free(block)
    pool.malloc(200)
    # larger than all: the smallest goes
    assert sorted(pool.kept) == list(range(101, 110))
    assert heap.held["pools"] == sum(range(101, 110))


def test_without_a_pool_nothing_is_kept() -> None:
    heap = Heap()
    system = System(heap, "workspace")
    block = system.malloc(100)
    assert heap.total == 164
    system.free(block)
    assert (heap.total, heap.peak) == (0, 164)
