"""Shape rules of Resize and Upsample, with the rounding that engines do in 32-bit floats."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from struct import pack, unpack

from peakmem.ir.dims import Dim, Shape, Symbol
from peakmem.ir.shapes.call import Call, Specs, Unresolved, rule


def float32(value: float) -> float:
    """The nearest 32-bit float."""
    single: float = unpack("f", pack("f", value))[0]
    return single


def scaled(size: Dim, scale: float | Symbol) -> Dim:
    """floor(size * scale), the product rounded to a 32-bit float as ONNX and its engines do."""
    if isinstance(scale, Symbol):
        return Symbol(f"floor({size}*{scale})")
    if scale == int(scale):
        return size * int(scale)
    if isinstance(size, Symbol):
        return Symbol(f"floor({size}*{scale:g})")
    return floor(float32(float32(size) * float32(scale)))


@rule("Resize")
def resize(call: Call) -> Specs:
    image = call.shape()
    rank = len(image)
    axes = [call.axis(axis, rank) for axis in call.attr("axes") or range(rank)]
    if call.opset < 11:
        return [(_by_scales(call, image, axes, 1), call.dtype())]
    if not _given(call, 3):
        return [(_by_scales(call, image, axes, 2), call.dtype())]
    sizes = call.value(3)
    if sizes is None:
        return [(call.open_axes(image, axes), call.dtype())]
    policy = call.attr("keep_aspect_ratio_policy", "stretch")
    target = sizes if policy == "stretch" else _keep_ratio(policy, sizes, [image[axis] for axis in axes])
    dims = list(image)
    for axis, size in zip(axes, target, strict=True):
        dims[axis] = size
    return [(tuple(dims), call.dtype())]


@rule("Upsample")
def upsample(call: Call) -> Specs:
    image = call.shape()
    scales = call.attr("scales")
    if scales is None and call.attr("height_scale") is not None:
        scales = (1, 1, call.attr("height_scale"), call.attr("width_scale"))
    if scales is None:
        return [(_by_scales(call, image, range(len(image)), 1), call.dtype())]
    return [(tuple(scaled(size, scale) for size, scale in zip(image, scales, strict=True)), call.dtype())]


def _given(call: Call, position: int) -> bool:
    """Whether an optional input is there; an empty constant counts as absent."""
    return call.has(position) and call.length(position) != 0


def _by_scales(call: Call, image: Shape, axes: Sequence[int], position: int) -> Shape:
    if not _given(call, position):
        raise Unresolved("neither scales nor sizes are given")
    scales = call.value(position)
    if scales is None:
        # The scales come from the graph: the sizes are open, the rank is not.
        return call.open_axes(image, axes)
    dims = list(image)
    for axis, scale in zip(axes, scales, strict=True):
        dims[axis] = scaled(dims[axis], scale)
    return tuple(dims)


def _keep_ratio(policy: str, sizes: Sequence[Dim], image: Sequence[Dim]) -> list[Dim]:
    """`sizes` with one scale for all axes: the smallest one for not_larger, else the largest."""
    numbers = [(size, dim) for size, dim in zip(sizes, image, strict=True) if isinstance(size, int)]
    if len(numbers) < len(sizes) or not all(isinstance(dim, int) and dim for dim in image):
        raise Unresolved("the aspect ratio depends on a dimension that is not known")
    ratios = [float32(size / dim) for size, dim in numbers if isinstance(dim, int)]
    ratio = min(ratios) if policy == "not_larger" else max(ratios)
    return [floor(float32(ratio * dim) + 0.5) for _, dim in numbers if isinstance(dim, int)]
