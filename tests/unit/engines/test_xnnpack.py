"""XNNPACK's runtimes, by hand: tiles, packed weights, fusion, and the planner."""

from __future__ import annotations

import dataclasses
import random

import pytest

from peakmem.engines.prediction import Processor
from peakmem.engines.xnnpack import Held, Node, Subgraph, Value, Window, hold
from peakmem.engines.xnnpack.configs import GEMM, Gemm, depthwise, few_columns, gemm, height
from peakmem.engines.xnnpack.planner import IN_PLACE, Step, plan, rounded
from peakmem.engines.xnnpack.products import fits_in_cache, packed_rows

AVX = frozenset(("sse4_2", "avx"))
FMA = AVX | {"fma", "avx2", "f16c"}
SKYLAKE = FMA | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
VNNI = SKYLAKE | {"avx512_vnni"}


def processor(features: frozenset[str] = VNNI, architecture: str = "x86_64") -> Processor:
    return Processor(architecture, features, 49152, 1 << 20, 32 << 20, 2)


def packed(held: Held) -> int:
    return sum(one.nbytes for one in held.created if one.category == "repacked weights")


def of(held: Held, what: str) -> int:
    return sum(one.nbytes for one in (*held.created, *held.planned) if what in one.what)


def stem(filters: Value, out: tuple[int, ...], window: Window, **more: object) -> Subgraph:
    values = (
        Value((1, 8, 8, window.groups * window.group_input_channels), external_input=True),
        filters,
        Value((filters.shape[0],), static=True),
        Value(out, external_output=True),
    )
    node = Node("convolution_2d", (0, 1, 2), (3,), window=window)
    return Subgraph(values, (dataclasses.replace(node, **more),))  # type: ignore[arg-type]


# -- tiles -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "expected"), [(frozenset(("sse4_2",)), 8), (AVX, 16), (FMA, 16), (SKYLAKE, 32), (VNNI, 32)]
)
def test_columns_of_a_product_follow_the_processor(features, expected):
    kernel = gemm("f32 gemm", processor(features))
    assert kernel is not None
    assert kernel.nr == expected


def test_every_kind_has_a_kernel_on_each_processor_or_none():
    for kind, rows in GEMM.items():
        assert all(isinstance(one, Gemm) and one.nr > 0 and one.most > 0 for one in rows), kind
        found = gemm(kind, processor(frozenset()))
        assert found is None or found.level in ("", "sse", "sse2")


def test_the_height_of_a_tile_wastes_least():
    kernel = Gemm("avx512f", 32, rows=(1, 7))
    # 7 rows: 3·(7 + 32) + 7·32 = 341 once; by one row: 7·(3·33 + 32) = 917
    assert height(kernel, 7, kernel.rows) == 7
    assert height(kernel, 1, kernel.rows) == 1
    # 8 rows: two tiles of seven, 682, or eight of one, 1048
    assert height(kernel, 8, kernel.rows) == 7
    # 2 rows: one tile of seven, 341, or two of one, 262
    assert height(kernel, 2, kernel.rows) == 1


def test_a_narrow_product_takes_the_narrow_kernel():
    assert few_columns(32, 16, 10)
    assert not few_columns(32, 16, 64)
    # 1000 columns: 24 would be wasted of 1024, 8 of 1008; less than one part in a hundred is ignored
    assert few_columns(32, 16, 1000)
    assert not few_columns(32, 16, 3176)


def test_depthwise_kernels_hold_all_positions_or_none():
    assert depthwise("f32", 9, processor()) == (9, 16)
    assert depthwise("f32", 10, processor()) == (25, 16)
    assert depthwise("f32", 26, processor()) is None


def test_rows_quantised_while_running():
    # 3 rows in tiles of 7, 10 deep in groups of 8: 7 · (8 + 16)
    assert packed_rows(3, 10, 7, 8) == 168
    # 5 · 640 lines of rows, columns, and results against the second cache
    assert fits_in_cache(7, 32, 640, 640, 4, 1 << 20)
    assert not fits_in_cache(7, 32, 640, 640, 4, 4096)
    assert not fits_in_cache(7, 32, 640, 640, 4, 0)


# -- operators ---------------------------------------------------------------------------


def test_a_convolution_packs_bias_and_every_position_for_whole_columns():
    # MobileNetV2's first: 3·3·3 weights and a bias for each of 32 columns
    window = Window((3, 3), (2, 2), (1, 1), group_input_channels=3, group_output_channels=32)
    held = hold(stem(Value((32, 3, 3, 3), static=True), (1, 4, 4, 32), window), processor())
    assert packed(held) == (27 + 1) * 32 * 4 == 3584
    # 20 columns take a tile of 32
    filters = Value((20, 3, 3, 3), static=True)
    window = dataclasses.replace(window, group_output_channels=20)
    assert packed(hold(stem(filters, (1, 4, 4, 20), window), processor())) == 3584
    # and one of 16 and of 8 elsewhere: 32 and 24 columns
    assert packed(hold(stem(filters, (1, 4, 4, 20), window), processor(FMA))) == 28 * 32 * 4
    assert packed(hold(stem(filters, (1, 4, 4, 20), window), processor(frozenset()))) == 28 * 24 * 4


def test_a_convolution_keeps_a_pointer_for_each_position_of_each_pixel():
    # 4·4 pixels in tiles of 7: 21, each with 9 pointers
    window = Window((3, 3), (2, 2), (1, 1), (1, 1, 1, 1), 1, 3, 32)
    held = hold(stem(Value((32, 3, 3, 3), static=True), (1, 4, 4, 32), window), processor())
    assert of(held, "pointers") == 21 * 9 * 8
    # a row of zeros: 3 channels and what may be read behind them
    assert of(held, "rows of zeros around") == 3 * 4 + 16
    # no padding, no zeros
    window = dataclasses.replace(window, padding=(0, 0, 0, 0))
    held = hold(stem(Value((32, 3, 3, 3), static=True), (1, 3, 3, 32), window), processor())
    assert of(held, "rows of zeros around") == 0


def test_pointers_are_scratch_where_the_caller_asks_for_that():
    window = Window((3, 3), (2, 2), (1, 1), (1, 1, 1, 1), 1, 3, 32)
    given = stem(Value((32, 3, 3, 3), static=True), (1, 4, 4, 32), window)
    held = hold(given, processor(), transient_indirection=True)
    assert of(held, "pointers") == 0
    assert held.workspace == rounded(21 * 9 * 8, 64) + 32


def test_a_depthwise_convolution_packs_whole_tiles_of_channels():
    # 20 channels in tiles of 16: 32 · (9 + 1)
    values = (
        Value((1, 8, 8, 20), external_input=True),
        Value((1, 3, 3, 20), static=True),
        Value((20,), static=True),
        Value((1, 6, 6, 20), external_output=True),
    )
    window = Window((3, 3), group_input_channels=20)
    held = hold(Subgraph(values, (Node("depthwise_convolution_2d", (0, 1, 2), (3,), window=window),)), processor())
    assert packed(held) == 32 * 10 * 4
    # a row of results reads columns of 3: 9 + 5·3 pointers, 6 rows
    assert of(held, "pointers") == 6 * (9 + 5 * 3) * 8


def product(kind: str, **more: object) -> Held:
    values = (
        Value((4, 100), external_input=True),
        Value((1000, 100), kind, static=True),  # type: ignore[arg-type]
        Value((4, 1000), external_output=True),
    )
    return hold(Subgraph(values, (Node("fully_connected", (0, 1, -1), (2,)),)), processor(), **more)  # type: ignore[arg-type]


def test_a_fully_connected_layer():
    # 1000 columns: 1008 in tiles of 16, each with its bias
    assert packed(product("fp32")) == 1008 * 101 * 4
    # halves are widened before they are packed
    halves = product("fp16")
    assert packed(halves) == packed(product("fp32"))
    assert halves.creating - product("fp32").creating == 4 * 1000 * 100


def test_a_cache_takes_the_packed_weights_once():
    values = (
        Value((4, 100), external_input=True),
        Value((1000, 100), static=True, key=1),
        Value((4, 1000), external_output=True),
    )
    given = Subgraph(values, (Node("fully_connected", (0, 1, -1), (2,)),))
    before: set[object] = set()
    first = hold(given, processor(), weights_cache=True, packed=before)
    second = hold(given, processor(), weights_cache=True, packed=before)
    assert packed(first) == packed(product("fp32"))
    assert packed(second) == 0


def test_an_operator_without_a_rule_is_listed():
    values = (
        Value((4, 100), "qint8", external_input=True),
        Value((10, 100), "fp32", static=True),
        Value((4, 10), "fp32", external_output=True),
    )
    held = hold(Subgraph(values, (Node("fully_connected", (0, 1, -1), (2,), name="odd"),)), processor())
    assert [one.what for one in held.unmodelled] == ["odd"]


# -- what is fused -----------------------------------------------------------------------


def chain(*types: Node, count: int) -> Subgraph:
    values = [Value((1, 16, 16, 4)) for _ in range(count)]
    values[0] = dataclasses.replace(values[0], external_input=True)
    values[-1] = dataclasses.replace(values[-1], external_output=True)
    return Subgraph(tuple(values), types)


def test_what_nobody_reads_costs_nothing():
    one = Node("unary", (0,), (1,), "abs")
    lost = Node("unary", (0,), (2,), "negate")
    values = (Value((64,), external_input=True), Value((64,), external_output=True), Value((64,)))
    with_it, without = (hold(Subgraph(values, nodes), processor()) for nodes in ((one, lost), (one,)))
    assert with_it.created_bytes == without.created_bytes
    assert with_it.planned_bytes == without.planned_bytes


def test_a_part_of_a_split_that_nobody_reads_is_not_copied():
    parts = Node("even_split", (0,), (1, 2), axis=1)
    both = (
        Value((4, 64), external_input=True),
        Value((4, 32), external_output=True),
        Value((4, 32), external_output=True),
    )
    one = (*both[:2], Value((4, 32)))
    more, less = (hold(Subgraph(values, (parts,)), processor()).created_bytes for values in (both, one))
    # struct xnn_operator and two steps
    assert more - less == of(hold(Subgraph(both, (parts,)), processor()), "operators") // 2


def test_a_clamp_goes_into_the_operator_before_it():
    window = Window((1, 1), group_input_channels=4, group_output_channels=4)
    values = (
        Value((1, 16, 16, 4), external_input=True),
        Value((4, 1, 1, 4), static=True),
        Value((1, 16, 16, 4)),
        Value((1, 16, 16, 4), external_output=True),
    )
    nodes = (
        Node("convolution_2d", (0, 1, -1), (2,), window=window),
        Node("unary", (2,), (3,), "clamp", clamp=(0.0, 6.0)),
    )
    assert hold(Subgraph(values, nodes), processor()).workspace == 0
    kept = hold(Subgraph(values, nodes), processor(), fuse=False)
    assert kept.workspace == 16 * 16 * 4 * 4 + 32


# -- the planner -------------------------------------------------------------------------


def test_the_largest_is_placed_first_and_the_smallest_gap_is_taken():
    # 0 → 1 → 2 → 3: 1 and 2 meet, 2 and 3 meet, 1 and 3 do not
    steps = [Step("convolution_2d", (0,), (1,)), Step("convolution_2d", (1,), (2,)), Step("convolution_2d", (2,), (3,))]
    sizes = {1: 64, 2: 256, 3: 128}
    found = plan(steps, sizes, sizes, {1: 1, 2: 2}, 4, 64)
    assert [found.records[at].offset for at in (1, 2, 3)] == [256, 0, 256]
    assert (found.nbytes, found.fullest, found.at) == (384, 384, 2)


def test_an_operator_by_element_takes_its_input_s_place():
    steps = [Step("convolution_2d", (0,), (1,)), Step("unary", (1,), (2,)), Step("convolution_2d", (2,), (3,))]
    sizes = {1: 256, 2: 256}
    assert plan(steps, sizes, sizes, {1: 1, 2: 2}, 4, 64).nbytes == 256
    # not where something else reads the input
    assert plan(steps, sizes, sizes, {2: 2}, 4, 64).nbytes == 512
    assert "convolution_2d" not in IN_PLACE


def test_scratch_lives_for_its_operator():
    steps = [Step("convolution_2d", (0,), (1,), 100), Step("convolution_2d", (1,), (2,), 60)]
    assert plan(steps, {1: 64}, {1: 64}, {1: 1}, 3, 64).nbytes == 128 + 64


@pytest.mark.parametrize("seed", range(20))
def test_no_two_of_the_same_time_overlap(seed):
    chance = random.Random(seed)
    count = chance.randint(2, 30)
    steps = [Step("convolution_2d", (max(at - chance.randint(0, 3), 0),), (at + 1,)) for at in range(count)]
    sizes = {at: 64 * chance.randint(1, 20) for at in range(1, count)}
    found = plan(steps, sizes, sizes, {}, count + 1, 64)
    live = [(one.first, one.last, one.offset, one.offset + one.nbytes) for one in found.records if one.nbytes]
    for at, (first, last, start, end) in enumerate(live):
        assert end <= found.nbytes
        for first2, last2, start2, end2 in live[at + 1 :]:
            if first <= last2 and first2 <= last:
                assert end <= start2 or end2 <= start
    assert found.fullest <= found.nbytes


def test_runtimes_of_one_workspace_hold_the_largest():
    given = chain(Node("unary", (0,), (1,), "abs"), Node("static_transpose", (1,), (2,), axes=(0, 2, 1, 3)), count=3)
    held = hold(given, processor(), shared_workspace=True)
    alone = hold(given, processor())
    assert held.workspace == alone.workspace == 16 * 16 * 4 * 4 + 32
    assert alone.created_bytes > held.created_bytes
    assert held.planned_bytes == alone.planned_bytes
