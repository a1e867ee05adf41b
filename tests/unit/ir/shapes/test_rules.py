"""Rules at their edges: what changed between operator sets, symbols, and operators nobody runs on a CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from peakmem.dtypes import BFLOAT16, BOOL, FLOAT16, FLOAT32, INT8, INT32, INT64, UINT8, DType
from peakmem.errors import ShapeError
from peakmem.ir.dims import Shape, Symbol
from peakmem.ir.graph import Operator
from peakmem.ir.shapes import Unresolved, infer_operator
from peakmem.ir.shapes.facts import Fact
from peakmem.ir.shapes.resize import scaled

N, M = Symbol("n"), Symbol("m")


def floats(*shape: Any) -> Fact:
    return Fact(shape, FLOAT32)


def listed(*values: Any, dtype: DType = INT64) -> Fact:
    return Fact((len(values),), dtype, values)


def unknown(length: int) -> Fact:
    return Fact((length,), INT64)


ABSENT = Fact(None, None)


def rule(
    op_type: str, *facts: Fact, opset: int = 17, outputs: int = 1, domain: str = "", **attributes: Any
) -> list[tuple[Shape | None, DType | None]]:
    names = tuple("" if fact is ABSENT else f"i{position}" for position, fact in enumerate(facts))
    made = tuple(f"o{position}" for position in range(outputs))
    operator = Operator("node", op_type, names, made, attributes, domain)
    opsets: Mapping[str, int] = {"": opset, domain: opset if not domain else 1}
    return [(fact.shape, fact.dtype) for fact in infer_operator(operator, list(facts), opsets)]


def shape(op_type: str, *facts: Fact, **options: Any) -> Shape | None:
    return rule(op_type, *facts, **options)[0][0]


CHANGED: list[tuple[str, Sequence[Fact], dict[str, Any], Shape]] = [
    ("Add", [floats(2, 3, 4), floats(3)], {"opset": 6, "broadcast": 1, "axis": 1}, (2, 3, 4)),
    ("Slice", [floats(5, 6)], {"opset": 9, "starts": (1, -2), "ends": (9, 2**31 - 1)}, (4, 2)),
    ("Slice", [floats(5, 6), listed(1), listed(9), listed(-1), listed(2)], {"opset": 10}, (5, 3)),
    ("Squeeze", [floats(1, 5, 1)], {"opset": 11, "axes": (0,)}, (5, 1)),
    ("Squeeze", [floats(1, 5, 1), listed(-1)], {"opset": 13}, (1, 5)),
    ("Unsqueeze", [floats(5)], {"opset": 11, "axes": (0, 2)}, (1, 5, 1)),
    ("Unsqueeze", [floats(5), listed(0, -1)], {"opset": 13}, (1, 5, 1)),
    ("Split", [floats(6, 2)], {"opset": 11, "split": (2, 4), "outputs": 2}, (2, 2)),
    ("Split", [floats(6, 2), listed(2, 4)], {"opset": 13, "outputs": 2}, (2, 2)),
    ("Split", [floats(7)], {"opset": 18, "num_outputs": 3, "outputs": 3}, (3,)),
    ("ReduceSum", [floats(2, 3)], {"opset": 11, "axes": (1,), "keepdims": 0}, (2,)),
    ("ReduceSum", [floats(2, 3), listed(1)], {"opset": 13, "keepdims": 0}, (2,)),
    ("ReduceMax", [floats(2, 3), listed(1)], {"opset": 18}, (2, 1)),
    ("ReduceMean", [floats(2, 3)], {"opset": 18, "noop_with_empty_axes": 1}, (2, 3)),
    ("Clip", [floats(2, 3)], {"opset": 6, "min": 0.0, "max": 6.0}, (2, 3)),
    ("Pad", [floats(2, 3)], {"opset": 2, "pads": (0, 1, 0, 1)}, (2, 5)),
    ("Pad", [floats(2, 3), listed(0, 1, 0, 1)], {"opset": 11}, (2, 5)),
    ("Pad", [floats(2, 3), listed(1, 1), ABSENT, listed(-1)], {"opset": 18}, (2, 5)),
    ("TopK", [floats(2, 9)], {"opset": 1, "k": 3, "outputs": 2}, (2, 3)),
    ("TopK", [floats(2, 9), listed(3)], {"opset": 10, "outputs": 2}, (2, 3)),
    ("Upsample", [floats(1, 1, 4, 4)], {"opset": 7, "scales": (1.0, 1.0, 2.0, 1.5)}, (1, 1, 8, 6)),
    ("Upsample", [floats(1, 1, 4, 4), listed(1.0, 1.0, 2.0, 1.5, dtype=FLOAT32)], {"opset": 9}, (1, 1, 8, 6)),
    ("Upsample", [floats(1, 1, 4, 4)], {"opset": 1, "height_scale": 2.0, "width_scale": 3.0}, (1, 1, 8, 12)),
    ("Resize", [floats(1, 1, 4, 4), listed(1.0, 1.0, 2.0, 2.0, dtype=FLOAT32)], {"opset": 10}, (1, 1, 8, 8)),
    ("Resize", [floats(1, 1, 4, 4), ABSENT, listed(dtype=FLOAT32), listed(1, 1, 7, 9)], {"opset": 13}, (1, 1, 7, 9)),
    ("Resize", [floats(1, 1, 4, 4), ABSENT, listed(2.0, 2.0, dtype=FLOAT32)],
     {"opset": 18, "axes": (2, 3)}, (1, 1, 8, 8)),
    ("Reshape", [floats(2, 6)], {"opset": 1, "shape": (3, -1)}, (3, 4)),
    ("Reshape", [floats(0, 6), listed(3, 0)], {"opset": 14, "allowzero": 1}, (3, 0)),
    ("Flatten", [floats(2, 3, 4)], {"opset": 11, "axis": -1}, (6, 4)),
    ("MaxPool", [floats(1, 1, 5, 5)],
     {"opset": 10, "kernel_shape": (2, 2), "strides": (2, 2), "ceil_mode": 1}, (1, 1, 3, 3)),
    ("GatherND", [floats(2, 3, 4), Fact((2, 1), INT64)], {"opset": 12, "batch_dims": 1}, (2, 4)),
    ("Dropout", [floats(2, 3)], {"opset": 7, "ratio": 0.5, "outputs": 2}, (2, 3)),
    ("ImageScaler", [floats(1, 3, 4, 4)], {"opset": 3, "scale": 2.0}, (1, 3, 4, 4)),
    ("Crop", [floats(1, 3, 9, 9)], {"opset": 3, "border": (1, 2, 3, 4)}, (1, 3, 3, 5)),
    ("DFT", [floats(1, 8, 1)], {"opset": 17, "onesided": 1}, (1, 5, 2)),
    ("DFT", [floats(1, 8, 1), ABSENT, listed(1)], {"opset": 20, "onesided": 1}, (1, 5, 2)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op_type", "facts", "options", "want"), CHANGED, ids=[f"{c[0]}-{c[2]['opset']}" for c in CHANGED]
)
def test_operator_sets(op_type: str, facts: Sequence[Fact], options: dict[str, Any], want: Shape) -> None:
    assert shape(op_type, *facts, **options) == want


SYMBOLIC: list[tuple[str, Sequence[Fact], dict[str, Any], Shape]] = [
    ("Conv", [floats(N, 3, 224, 224), floats(64, 3, 7, 7)],
     {"strides": (2, 2), "pads": (3, 3, 3, 3)}, (N, 64, 112, 112)),
    ("MaxPool", [floats(N, 3, 5, 5)], {"kernel_shape": (2, 2), "strides": (2, 2)}, (N, 3, 2, 2)),
    ("ConvTranspose", [floats(N, 8, 4, 4), floats(8, 3, 2, 2)], {"strides": (2, 2)}, (N, 3, 8, 8)),
    ("Add", [floats(N, 3), floats(1, 3)], {}, (N, 3)),
    ("Add", [floats(N, 3), floats(5, 1)], {}, (5, 3)),
    ("Max", [floats(N, 3), floats(3), floats()], {}, (N, 3)),
    ("Clip", [floats(N, 3), floats(), floats()], {}, (N, 3)),
    ("PRelu", [floats(N, 3), floats(3)], {}, (N, 3)),
    ("MatMul", [floats(N, 4, 5), floats(5, M)], {}, (N, 4, M)),
    ("Gemm", [floats(N, 5), floats(7, 5)], {"transB": 1}, (N, 7)),
    ("Concat", [floats(N, 3), floats(N, 4)], {"axis": 1}, (N, 7)),
    ("Concat", [floats(N, 3), floats(2, 4)], {"axis": 1}, (2, 7)),
    ("Transpose", [floats(N, 3, M)], {"perm": (2, 0, 1)}, (M, N, 3)),
    ("Reshape", [floats(N, 8, 4), listed(0, -1)], {}, (N, 32)),
    ("Reshape", [floats(N, 8, 4), listed(-1, 32)], {}, (N, 32)),
    ("Reshape", [floats(N, M, 768), listed(0, -1, 12, 64)], {}, (N, M, 12, 64)),
    ("Reshape", [floats(N, M, 12, 64), listed(N, M, -1)], {}, (N, M, 768)),
    ("Reshape", [floats(N, 4), unknown(3)], {}, tuple(Symbol(f"o0.{axis}") for axis in range(3))),
    ("Flatten", [floats(N, 3, 4)], {}, (N, 12)),
    ("Split", [floats(N, 6)], {"axis": 1, "outputs": 3}, (N, 2)),
    ("Slice", [floats(N, 6), listed(0), listed(2**63 - 1)], {}, (N, 6)),
    ("Slice", [floats(N, 6), listed(1), listed(2**63 - 1)], {}, (Symbol("(n-1)"), 6)),
    ("Slice", [floats(N, 6), listed(-1), listed(-(2**63)), listed(0), listed(-1)], {}, (N, 6)),
    ("Slice", [floats(1, 512), listed(0), listed(M), listed(1)], {}, (1, M)),
    ("Slice", [floats(N, 6), unknown(1), unknown(1), listed(1)], {}, (N, Symbol("o0.1"))),
    ("Expand", [floats(1, 3), listed(N, 1)], {}, (N, 3)),
    ("Tile", [floats(N, 3), listed(1, 2)], {}, (N, 6)),
    ("Resize", [floats(N, 3, M, 4), ABSENT, listed(1.0, 1.0, 2.0, 2.0, dtype=FLOAT32)], {}, (N, 3, Symbol("(m*2)"), 8)),
    ("LSTM", [floats(9, N, 4), floats(1, 20, 4), floats(1, 20, 5)], {"hidden_size": 5, "outputs": 3}, (9, 1, N, 5)),
    ("Gather", [floats(30, 8), Fact((N, M), INT64)], {}, (N, M, 8)),
    ("Range", [Fact((), INT64, (0,)), Fact((), INT64, (N,)), Fact((), INT64, (1,))], {}, (N,)),
    ("ConstantOfShape", [listed(N, 3)], {}, (N, 3)),
    ("DepthToSpace", [floats(N, 8, 4, 4)], {"blocksize": 2}, (N, 2, 8, 8)),
    ("Attention", [floats(N, 4, M, 8), floats(N, 4, M, 8), floats(N, 4, M, 8)], {"opset": 23}, (N, 4, M, 8)),
    ("Einsum", [floats(N, M, 8), floats(N, 5, 8)], {"equation": "bij,bkj->bik"}, (N, M, 5)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op_type", "facts", "options", "want"), SYMBOLIC, ids=[f"{case[0]}-{i}" for i, case in enumerate(SYMBOLIC)]
)
def test_symbols_pass_through(op_type: str, facts: Sequence[Fact], options: dict[str, Any], want: Shape) -> None:
    assert shape(op_type, *facts, **options) == want


def test_result_types() -> None:
    quantised = Fact((2, 3), INT8)
    assert rule("Dropout", floats(2), outputs=2, opset=12)[1][1] == BOOL
    assert rule("Dropout", floats(2), outputs=2, opset=7)[1][1] == FLOAT32
    assert rule("QuantizeLinear", floats(2, 3), floats()) == [((2, 3), UINT8)]
    assert rule("QuantizeLinear", floats(2, 3), floats(), Fact((), INT8)) == [((2, 3), INT8)]
    assert rule("QuantizeLinear", floats(2, 3), floats(), output_dtype="int8", opset=21) == [((2, 3), INT8)]
    assert rule("DequantizeLinear", quantised, Fact((), FLOAT16)) == [((2, 3), FLOAT16)]
    assert rule("DequantizeLinear", quantised, floats(), output_dtype="bfloat16", opset=23) == [((2, 3), BFLOAT16)]
    assert rule("Cast", floats(2), to="int32") == [((2,), INT32)]
    assert rule("Cast", floats(2), to=9) == [((2,), BOOL)]
    assert rule("Cast", floats(2), to=99) == [((2,), None)]
    assert rule("HannWindow", listed(4), output_datatype=10) == [((4,), FLOAT16)]
    assert rule("Add", Fact((2,), None), floats(2)) == [((2,), FLOAT32)]
    statistics = rule("LayerNormalization", Fact((2, 5), FLOAT16), Fact((5,), FLOAT16), outputs=3)
    assert statistics == [((2, 5), FLOAT16), ((2, 1), FLOAT32), ((2, 1), FLOAT32)]


def test_scales_are_multiplied_in_single_precision() -> None:
    """0.7 in 32 bits is a little less than 0.7, yet ten times it is 7, and 0.6 stays below."""
    single = 0.699999988079071044921875
    assert scaled(10, single) == 7
    assert int(10 * single) == 6
    assert scaled(Symbol("n"), 2.0) == Symbol("(n*2)")


def test_windows_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match="kernel of 3 does not fit"):
        rule("Conv", floats(1, 1, 2, 2), floats(1, 1, 3, 3))
    with pytest.raises(ShapeError, match="takes 4 channels, the input has 3"):
        rule("Conv", floats(1, 3, 8, 8), floats(8, 4, 1, 1))
    assert shape("MaxPool", floats(1, 1, 2, 2), kernel_shape=(3, 3), strides=(2, 2)) == (1, 1, 1, 1)


def test_blocked_layout_asks_what_it_can() -> None:
    """Channels in blocks of 8 or 16: told where both agree, open where they do not."""
    blocked = "com.microsoft.nchwc"
    assert shape("ReorderInput", floats(1, 32, 7, 7), domain=blocked) == (1, 32, 7, 7)
    assert shape("ReorderInput", floats(1, 7, 7, 44), domain=blocked, channels_last=1) == (1, 48, 7, 7)
    assert shape("ReorderInput", floats(1, 20, 7, 7), domain=blocked) == (1, Symbol("o0.1"), 7, 7)
    assert shape("ReorderOutput", floats(1, 32, 7, 7), domain=blocked, channels=20) == (1, 20, 7, 7)
    assert shape("ReorderOutput", floats(1, 32, 7, 7), domain=blocked, channels=20, channels_last=1) == (1, 7, 7, 20)
    open_channels = floats(1, Symbol("c"), 7, 7)
    assert shape("Conv", open_channels, floats(32, 32, 3, 3), domain=blocked) == (1, 32, 5, 5)


def test_the_cache_of_grouped_attention() -> None:
    """It grows to the total length unless its buffer is larger; unknown lengths stay open."""
    heads = {"num_heads": 4, "kv_num_heads": 2, "domain": "com.microsoft", "outputs": 3}
    query, key = floats(1, 1, 32), floats(1, 1, 16)

    def cache(past: Any, total: Fact) -> Shape | None:
        past_key = floats(1, 2, past, 8)
        found = rule("GroupQueryAttention", query, key, key, past_key, past_key, Fact((1,), INT32), total, **heads)
        return found[1][0]

    total = Fact((), INT32, (6,))
    assert cache(5, total) == (1, 2, 6, 8)
    assert cache(9, total) == (1, 2, 9, 8)
    assert cache(N, total) == (1, 2, 6, 8)
    assert cache(5, Fact((), INT32)) == (1, 2, Symbol("o1.2"), 8)
    assert rule("GroupQueryAttention", query, key, key, ABSENT, ABSENT, Fact((1,), INT32), total, **heads)[1][0] == (
        1,
        2,
        6,
        8,
    )


def test_what_needs_contents_says_so() -> None:
    with pytest.raises(Unresolved, match="target shape"):
        rule("Reshape", floats(2, 3), Fact(None, INT64))
    with pytest.raises(Unresolved, match="shape of input 0"):
        rule("Relu", Fact(None, FLOAT32))
