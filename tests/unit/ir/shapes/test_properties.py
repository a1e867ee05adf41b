"""Random parameters of the operators with the most of them: onnxruntime's answer against ours.

Where the runtime refuses a combination our rule may say anything; where it runs, ours must agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from peakmem.errors import ShapeError
from peakmem.ir.shapes import Unresolved

from .runtime import actual, floats, longs, ours

FEW = settings(
    derandomize=True, deadline=None, max_examples=120, database=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)  # fmt: skip
small = st.integers(1, 4)


def agree(op_type: str, arrays: list[Any], *, constants: Sequence[int] = (), **options: Any) -> None:
    """Ours equals the runtime's wherever the runtime gives anything."""
    try:
        want = actual(op_type, arrays, static=False, constants=constants, **options)
    except Exception:
        try:
            ours(op_type, arrays, **options)
        except (ShapeError, Unresolved):
            return
        return
    assert ours(op_type, arrays, **options) == want


@st.composite
def windows(draw: st.DrawFn, *, ceil: bool = False, dilate: bool = True) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if draw(st.booleans()):
        options["strides"] = [draw(small), draw(small)]
    if dilate and draw(st.booleans()):
        options["dilations"] = [draw(st.integers(1, 3)), draw(st.integers(1, 3))]
    padding = draw(st.sampled_from(["NOTSET", "pads", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if padding == "pads":
        options["pads"] = [draw(st.integers(0, 2)) for _ in range(4)]
    elif padding != "NOTSET":
        options["auto_pad"] = padding
    if ceil:
        options["ceil_mode"] = draw(st.integers(0, 1))
    return options


sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))
kernels = st.tuples(small, small)


@FEW
@given(sizes, kernels, windows(), st.sampled_from([1, 2, 4]))
def test_convolution(size: tuple[int, int], kernel: tuple[int, int], options: dict[str, Any], group: int) -> None:
    agree("Conv", [floats(2, 4, *size), floats(8, 4 // group, *kernel)], group=group, **options)


@FEW
@given(sizes, kernels, windows(ceil=True), st.sampled_from([10, 11, 12, 22]))
def test_max_pool(size: tuple[int, int], kernel: tuple[int, int], options: dict[str, Any], version: int) -> None:
    if options.get("auto_pad", "").startswith("SAME"):
        # The definition does not look at the dilation there; the runtime does.
        options.pop("dilations", None)
    agree("MaxPool", [floats(1, 2, *size)], kernel_shape=list(kernel), version=version, outputs=2, **options)


@FEW
@given(sizes, kernels, windows(ceil=True, dilate=False), st.sampled_from([10, 11, 19, 22]))
def test_average_pool(size: tuple[int, int], kernel: tuple[int, int], options: dict[str, Any], version: int) -> None:
    agree("AveragePool", [floats(1, 2, *size)], kernel_shape=list(kernel), version=version, **options)


@FEW
@given(sizes, kernels, windows(ceil=True, dilate=False), st.sampled_from([18, 22]))
def test_lp_pool(size: tuple[int, int], kernel: tuple[int, int], options: dict[str, Any], version: int) -> None:
    agree("LpPool", [floats(1, 2, *size)], kernel_shape=list(kernel), version=version, **options)


@FEW
@given(sizes, kernels, windows(), st.sampled_from([1, 2]), st.tuples(st.integers(0, 2), st.integers(0, 2)))
def test_transposed_convolution(
    size: tuple[int, int], kernel: tuple[int, int], options: dict[str, Any], group: int, extra: tuple[int, int]
) -> None:
    if options.get("auto_pad", "").startswith("SAME"):
        # The definition says size times stride; the runtime gives less when the kernel is the smaller.
        strides = options.get("strides", [1, 1])
        assume(all(step <= extent for step, extent in zip(strides, kernel, strict=True)))
    arrays = [floats(1, 4, *size), floats(4, 3, *kernel)]
    agree("ConvTranspose", arrays, group=group, output_padding=list(extra), **options)


@FEW
@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=2),
    st.lists(st.floats(0.25, 4, width=32), min_size=2, max_size=2),
    st.sampled_from([10, 11, 13, 18, 19]),
)
def test_resize_by_scales(size: list[int], scales: list[float], version: int) -> None:
    given = np.array([1, 1, *scales], np.float32)
    arrays = [floats(1, 1, *size), given] if version == 10 else [floats(1, 1, *size), None, given]
    agree("Resize", arrays, version=version)


@FEW
@given(
    st.lists(st.integers(1, 30), min_size=2, max_size=2),
    st.lists(st.integers(1, 30), min_size=2, max_size=2),
    st.sampled_from(["stretch", "not_larger", "not_smaller"]),
)
def test_resize_by_sizes(size: list[int], target: list[int], policy: str) -> None:
    arrays = [floats(1, 1, *size), None, None, longs(*target)]
    agree("Resize", arrays, version=18, axes=[2, 3], keep_aspect_ratio_policy=policy, constants=[3])


bounds = st.one_of(st.integers(-9, 9), st.sampled_from([2**63 - 1, -(2**63), 2**31 - 1]))


@FEW
@given(st.integers(0, 6), bounds, bounds, st.sampled_from([-3, -2, -1, 1, 2, 3]), st.sampled_from([-1, 1]))
def test_slice(size: int, start: int, end: int, step: int, axis: int) -> None:
    agree("Slice", [floats(2, size), longs(start), longs(end), longs(axis), longs(step)])


@FEW
@given(
    st.lists(st.sampled_from([0, 1, 2, 3, 4, 6]), min_size=1, max_size=4),
    st.lists(st.sampled_from([-1, 0, 1, 2, 3, 4, 6, 12]), min_size=1, max_size=4),
    st.integers(0, 1),
)
def test_reshape(shape: list[int], target: list[int], allow_zero: int) -> None:
    assume(not (allow_zero and 0 in target and -1 in target))  # the definition forbids it
    agree("Reshape", [floats(*shape), longs(*target)], allowzero=allow_zero)


@FEW
@given(st.lists(st.integers(-2, 3), min_size=4, max_size=4), st.booleans())
def test_pad(pads: list[int], with_axes: bool) -> None:
    arrays: list[Any] = [floats(3, 4, 5), longs(*pads), None, longs(-1, 1)]
    if not with_axes:
        arrays = [floats(3, 4), longs(*pads)]
    agree("Pad", arrays, version=18)


shapes = st.lists(st.sampled_from([1, 1, 2, 3]), min_size=0, max_size=4).map(tuple)


@FEW
@given(shapes, shapes)
def test_broadcasting(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    agree("Add", [floats(*left), floats(*right)])
    agree("Expand", [floats(*left), longs(*right)])


@FEW
@given(shapes, shapes)
def test_matrix_products(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    agree("MatMul", [floats(*left), floats(*right)])


@FEW
@given(st.lists(st.integers(-3, 2), max_size=3, unique=True), st.integers(0, 1), st.integers(0, 1))
def test_reduction(axes: list[int], keep: int, noop: int) -> None:
    options = {"keepdims": keep, "noop_with_empty_axes": noop}
    agree("ReduceSum", [floats(2, 1, 3), longs(*axes)], **options)
    agree("ReduceMax", [floats(2, 1, 3), longs(*axes)], version=18, **options)


@FEW
@given(st.lists(st.integers(-3, 3), max_size=3, unique=True))
def test_squeeze_and_unsqueeze(axes: list[int]) -> None:
    agree("Squeeze", [floats(1, 2, 1), longs(*axes)])
    agree("Unsqueeze", [floats(2, 3), longs(*axes)])


@FEW
@given(st.integers(0, 9), st.integers(1, 4))
def test_split_into_equal_parts(size: int, parts: int) -> None:
    agree("Split", [floats(2, size)], outputs=parts, version=18, axis=-1, num_outputs=parts)
    agree("Split", [floats(2, size)], outputs=parts, version=13, axis=-1)


numbers = st.floats(-4, 4, width=32).filter(lambda x: abs(x) > 0.05)


@FEW
@given(numbers, numbers, numbers)
def test_range_of_floats(start: float, limit: float, step: float) -> None:
    agree("Range", [np.array(value, np.float32) for value in (start, limit, step)])


@FEW
@given(
    st.lists(st.lists(st.sampled_from([0, 1, 2, 3]), min_size=2, max_size=2), min_size=2, max_size=3),
    st.sampled_from([0, 1, -1]),
)
def test_concatenation(shapes: list[list[int]], axis: int) -> None:
    agree("Concat", [floats(*shape) for shape in shapes], axis=axis)


EQUATIONS = [
    "ij,jk->ik", "ij,jk", "...ij,...jk->...ik", "bij,bjk->bik", "ii->i", "ij->ji", "ij->", "i...->...", "ij, kj -> i k",
    "i,i", "zb,ab", "...i->i...", "b...c,c...d->bd...",
]  # fmt: skip


@FEW
@given(st.sampled_from(EQUATIONS), st.lists(small, min_size=8, max_size=8), shapes)
def test_einsum(equation: str, dims: list[int], spread: tuple[int, ...]) -> None:
    terms = equation.replace(" ", "").split("->")[0].split(",")
    sizes = dict(zip("abcdijkz", dims, strict=True))
    arrays = []
    for term in terms:
        before, dots, after = term.partition("...")
        middle = spread if dots else ()
        arrays.append(floats(*(sizes[x] for x in before), *middle, *(sizes[x] for x in after)))
        spread = tuple(1 if axis == 0 else size for axis, size in enumerate(spread))
    agree("Einsum", arrays, equation=equation)
