"""MNN operators that move, cut or join what they are given: source/shape of 3.6.1, one file an operator."""

from __future__ import annotations

from itertools import pairwise

from peakmem.dtypes import INT32
from peakmem.ir.dims import Dim, Symbol
from peakmem.ir.shapes.call import Call, Specs, Unresolved, rule
from peakmem.ir.shapes.movement import concat_shape, reshaped
from peakmem.ir.shapes.slicing import slice_size

NHWC = 1
# enum MNN_DATA_FORMAT


@rule("mnn:ConvertTensor")
def convert_tensor(call: Call) -> Specs:
    """Another layout; only from or to channels last do the dimensions change their order."""
    given = call.shape()
    before, after = call.attr("from") == NHWC, call.attr("to") == NHWC
    if len(given) <= 2 or before == after:
        return [(given, call.dtype())]
    if after:
        return [((given[0], *given[2:], given[1]), call.dtype())]
    return [((given[0], given[-1], *given[1:-1]), call.dtype())]


@rule("mnn:Reshape")
def reshape(call: Call) -> Specs:
    target = call.ints("dims", 1 if call.has(1) else None)
    if target is None:
        raise Unresolved("the wanted shape is not told")
    return [(reshaped(call, call.shape(), tuple(target), allow_zero=False), call.dtype())]


@rule("mnn:Flatten")
def flatten(call: Call) -> Specs:
    given = call.shape()
    rank = len(given)
    axis, end = call.attr("axis", 0), call.attr("end_axis", 0)
    axis, end = axis + rank if axis < 0 else axis, end + rank if end < 0 else end
    if end == 0:
        return [((_product(given[:axis]), _product(given[axis:])), call.dtype())]
    return [((*given[:axis], _product(given[axis : end + 1]), *given[end + 1 :]), call.dtype())]


def _product(dims: tuple[Dim, ...]) -> Dim:
    total: Dim = 1
    for dim in dims:
        total = total * dim
    return total


@rule("mnn:Squeeze")
def squeeze(call: Call) -> Specs:
    given = call.shape()
    axes = call.ints("axes", 1)
    gone = {call.axis(axis, len(given)) for axis in axes} if axes else {at for at, dim in enumerate(given) if dim == 1}
    return [(tuple(dim for at, dim in enumerate(given) if at not in gone), call.dtype())]


@rule("mnn:Unsqueeze", "mnn:ExpandDims")
def unsqueeze(call: Call) -> Specs:
    given = call.shape()
    axes = call.ints("axes", 1)
    if axes is None:
        axes = (call.attr("axis", -1),)
    rank = len(given) + len(axes)
    ones = {call.axis(axis, rank) for axis in axes}
    left = iter(given)
    return [(tuple(1 if at in ones else next(left) for at in range(rank)), call.dtype())]


@rule("mnn:Permute", "mnn:Transpose")
def permute(call: Call) -> Specs:
    given = call.shape()
    order = call.ints("order", 1)
    order = tuple(reversed(range(len(given)))) if order is None else order
    if sorted(order) != list(range(len(given))):
        raise call.error(f"{order} is no order of {len(given)} axes")
    return [(tuple(given[at] for at in order), call.dtype())]


@rule("mnn:Concat")
def concat(call: Call) -> Specs:
    return [(concat_shape(call, [call.shape(at) for at in range(len(call.op.inputs))]), call.dtype())]


@rule("mnn:Pack")
def pack(call: Call) -> Specs:
    given = call.shape()
    at = call.axis(call.attr("axis", 0), len(given) + 1)
    return [((*given[:at], len(call.op.inputs), *given[at:]), call.dtype())]


@rule("mnn:Unpack")
def unpack(call: Call) -> Specs:
    given = call.shape()
    at = call.axis(call.attr("axis", 0), len(given))
    return [(given[:at] + given[at + 1 :], call.dtype())] * len(call.op.outputs)


@rule("mnn:Slice")
def slice_(call: Call) -> Specs:
    given, count = call.shape(), len(call.op.outputs)
    at = call.axis(call.attr("axis", 0), len(given))
    size, points = given[at], call.ints("points", 1)
    parts: list[Dim]
    if call.attr("source") == 0 and points is not None:
        # as in Caffe: where the cuts are
        cuts = [0, *points[: count - 1], size]
        parts = [stop - start for start, stop in pairwise(cuts)]
    elif points is None or len(points) == 1:
        whole = points is not None and call.attr("source") == 4
        parts = [points[0] if whole and points else size // count] * count
    else:
        known = sum(point for point in points if point != -1)
        parts = [size - known if point == -1 else point for point in points[:count]]
    return [((*given[:at], part, *given[at + 1 :]), call.dtype()) for part in parts]


@rule("mnn:SliceTf")
def slice_tf(call: Call) -> Specs:
    given = call.shape()
    start, size = call.value(1), call.value(2)
    if start is None or size is None:
        return [(call.open_axes(given), call.dtype())]
    dims = []
    for dim, first, many in zip(given, start, size, strict=True):
        begin = first + dim if isinstance(first, int) and first < 0 else first
        dims.append(dim - begin if many == -1 else many)
    return [(tuple(dims), call.dtype())]


@rule("mnn:StridedSlice")
def strided_slice(call: Call) -> Specs:
    """Of the ONNX kind: begin, end, axes and strides as inputs; of TensorFlow's masks begin, end and shrink."""
    given = list(call.shape())
    if call.attr("ellipsis_mask") or call.attr("new_axis_mask"):
        raise Unresolved("slices with an ellipsis or new axes are not followed")
    starts, ends = call.known(1), call.known(2)
    onnx = call.attr("source") == 1
    axes = call.known(3) if onnx and call.has(3) else range(len(starts))
    steps = call.known(4 if onnx else 3) if call.has(4 if onnx else 3) else (1,) * len(starts)
    gone = set()
    for at, (axis, start, end, step) in enumerate(zip(axes, starts, ends, steps, strict=True)):
        place = call.axis(axis, len(given))
        if call.attr("shrink_axis_mask", 0) >> at & 1:
            gone.add(place)
            continue
        first = (0 if step > 0 else -1) if call.attr("begin_mask", 0) >> at & 1 else start
        last = (2**31 - 1 if step > 0 else -(2**31)) if call.attr("end_mask", 0) >> at & 1 else end
        if step == 0:
            raise call.error("a slice step of 0")
        given[place] = slice_size(given[place], first, last, step)
    return [(tuple(dim for at, dim in enumerate(given) if at not in gone), call.dtype())]


@rule("mnn:Gather", "mnn:GatherV2")
def gather(call: Call) -> Specs:
    given, wanted = call.shape(0), call.shape(1)
    axis = call.known(2)[0] if call.has(2) else call.attr("axis", 0)
    at = call.axis(axis, len(given))
    return [((*given[:at], *wanted, *given[at + 1 :]), call.dtype())]


@rule("mnn:Padding")
def padding(call: Call) -> Specs:
    given = call.shape()
    pads = call.value(1)
    if pads is None:
        return [(call.open_axes(given), call.dtype())]
    return [(tuple(dim + (pads[2 * at] + pads[2 * at + 1]) for at, dim in enumerate(given)), call.dtype())]


@rule("mnn:Tile")
def tile(call: Call) -> Specs:
    times = call.known(1)
    return [(tuple(dim * by for dim, by in zip(call.shape(), times, strict=True)), call.dtype())]


@rule("mnn:BroadcastTo")
def broadcast_to(call: Call) -> Specs:
    given, wanted = call.shape(), call.known(1)
    rank = max(len(given), len(wanted))
    one = (1,) * (rank - len(given)) + given
    two = (1,) * (rank - len(wanted)) + tuple(wanted)
    return [(tuple(b if a == 1 else a for a, b in zip(one, two, strict=True)), call.dtype())]


@rule("mnn:DepthToSpace", "mnn:SpaceToDepth")
def depth_to_space(call: Call) -> Specs:
    batch, channels, height, width = call.shape()
    block = call.attr("block", 0)
    if block < 1:
        raise call.error(f"blocks of {block}")
    if call.op.op_type == "DepthToSpace":
        return [((batch, channels // (block * block), height * block, width * block), call.dtype())]
    return [((batch, channels * (block * block), height // block, width // block), call.dtype())]


@rule("mnn:Shape")
def shape(call: Call) -> Specs:
    return [((len(told(call)),), INT32)]


def told(call: Call) -> tuple[int | Symbol, ...]:
    """The dimensions that Shape gives."""
    given = call.shape()
    start = call.attr("start", 0) if call.attr("has_start") else 0
    end = call.attr("end", 0) if call.attr("has_end") else len(given)
    return given[start:end]


@rule("mnn:Rank", "mnn:Size")
def scalar(_: Call) -> Specs:
    return [((), INT32)]
