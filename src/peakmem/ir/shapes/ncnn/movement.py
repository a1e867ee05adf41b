"""ncnn layers that move elements: reshape, permute, slice, concatenate, pad, crop, tile, reduce."""

from __future__ import annotations

from collections.abc import Sequence

from peakmem.ir.dims import Dim, Shape, format_shape, product
from peakmem.ir.shapes.call import Call, Specs, Unresolved, rule
from peakmem.ir.shapes.ncnn.blob import Blob, blob, made, number, of, quotient, whole_shape
from peakmem.ir.shapes.ncnn.expression import evaluate

LEFT = -233
# a size or an end that is left as it is


def _blobs(call: Call) -> list[Blob]:
    return [blob(call, at) for at in range(len(call.op.inputs))]


def _axis(call: Call, axis: int, rank: int) -> int:
    return call.axis(axis, rank)


# -- shapes ------------------------------------------------------------------------------


@rule("ncnn:Flatten")
def flatten(call: Call) -> Specs:
    return made(call, Blob(1, product(blob(call).shape)))


@rule("ncnn:Reshape")
def reshape(call: Call) -> Specs:
    source = blob(call)
    if call.attr("input_batch_axis") != 233 or call.attr("output_batch_axis") != 233:
        raise Unresolved("the layer turns an axis into a batch of tensors, which is not modelled")
    text = call.attr("shape_expr")
    if text:
        wanted = evaluate(call, text, _blobs(call))
    else:
        given = [call.attr(axis) for axis in ("w", "h", "d", "c")]
        if given[0] == LEFT:
            raise call.error("no size is given")
        rank = 1 if given[1] == LEFT else 2 if given[3] == LEFT else 3 if given[2] == LEFT else 4
        wanted = [given[0], given[1], given[3]][:rank] if rank < 4 else given
    if len(wanted) > 4:
        raise call.error(f"a tensor of ncnn has up to 4 dimensions, not {len(wanted)}")
    axes = ("w", "h", "c") if len(wanted) < 4 else ("w", "h", "d", "c")
    sizes: list[Dim] = [getattr(source, axis) if size == 0 else size for axis, size in zip(axes, wanted, strict=False)]
    total = product(source.shape)
    if -1 in sizes:
        at = sizes.index(-1)
        sizes[at] = quotient(total, product(sizes[:at] + sizes[at + 1 :]), call)
    shape = tuple(reversed(sizes))
    count = product(shape)
    if isinstance(total, int) and isinstance(count, int) and total != count:
        raise call.error(f"{total} elements cannot be {format_shape(shape)}")
    return made(call, of(shape))


@rule("ncnn:Squeeze")
def squeeze(call: Call) -> Specs:
    source = blob(call)
    rank = source.dims
    names = {1: "w", 2: "hw", 3: "chw", 4: "cdhw"}[rank]
    axes = call.attr("axes")
    if axes:
        gone = {_axis(call, axis, rank) for axis in axes}
    else:
        gone = {at for at, name in enumerate(names) if call.attr(f"squeeze_{name}")}
    kept = [dim for at, dim in enumerate(source.shape) if at not in gone or dim != 1]
    return made(call, of(tuple(kept) or (1,)))


@rule("ncnn:ExpandDims")
def expand_dims(call: Call) -> Specs:
    source = blob(call)
    axes = call.attr("axes")
    rank = source.dims + len(axes)
    if rank > 4:
        raise call.error(f"a tensor of ncnn has up to 4 dimensions, not {rank}")
    fresh = {_axis(call, axis, rank) for axis in axes}
    if len(fresh) != len(axes):
        raise call.error("an axis is given twice")
    rest = iter(source.shape)
    return made(call, of(tuple(1 if at in fresh else next(rest) for at in range(rank))))


_PERMUTED = {
    2: ("hw", "wh"),
    3: ("chw", "cwh", "hcw", "hwc", "wch", "whc"),
    4: (
        "cdhw", "cdwh", "chdw", "chwd", "cwdh", "cwhd", "dchw", "dcwh", "dhcw", "dhwc", "dwch", "dwhc",
        "hcdw", "hcwd", "hdcw", "hdwc", "hwcd", "hwdc", "wcdh", "wchd", "wdch", "wdhc", "whcd", "whdc",
    ),
}  # fmt: skip
# order types as axes of the source, outermost first


@rule("ncnn:Permute")
def permute(call: Call) -> Specs:
    source = blob(call)
    if source.dims == 1:
        return made(call, source)
    order = call.attr("order_type")
    known = _PERMUTED[source.dims]
    if not 0 <= order < len(known):
        raise call.error(f"order {order} is not one of the {len(known)} of {source.dims} dimensions")
    return made(call, of(tuple(getattr(source, axis) for axis in known[order])))


@rule("ncnn:PixelShuffle")
def pixel_shuffle(call: Call) -> Specs:
    image, factor = blob(call), call.attr("upscale_factor")
    return made(
        call, Blob(3, image.w * factor, image.h * factor, 1, quotient(image.c, factor * factor, call))
    )  # fmt: skip


@rule("ncnn:Reorg")
def reorg(call: Call) -> Specs:
    image, stride = blob(call), call.attr("stride")
    width, height = quotient(image.w, stride, call), quotient(image.h, stride, call)
    return made(call, Blob(3, width, height, 1, image.c * stride * stride))


@rule("ncnn:Diag")
def diag(call: Call) -> Specs:
    source, offset = blob(call), call.attr("diagonal")
    if source.dims == 1:
        side = source.w + abs(offset)
        return made(call, Blob(2, side, side))
    if source.dims > 2:
        raise call.error("only vectors and matrices have a diagonal")
    width, height = number(source.w), number(source.h)
    length = min(width - offset, height) if offset > 0 else min(width, height + offset)
    if length < 1:
        raise call.error("the diagonal lies outside")
    return made(call, Blob(1, length))


# -- parts and wholes --------------------------------------------------------------------


@rule("ncnn:Concat")
def concat(call: Call) -> Specs:
    first = blob(call)
    axis = 0 if first.dims == 1 else _axis(call, call.attr("axis"), first.dims)
    total: Dim = 0
    for position in range(len(call.op.inputs)):
        shape = blob(call, position).shape
        if len(shape) != first.dims:
            raise call.error("tensors of different ranks are joined")
        for at, (one, other) in enumerate(zip(first.shape, shape, strict=True)):
            if at != axis and isinstance(one, int) and isinstance(other, int) and one != other:
                raise call.error(f"sizes {one} and {other} do not go together")
        total = shape[axis] + total
    out = list(first.shape)
    out[axis] = total
    return made(call, of(tuple(out)))


@rule("ncnn:Slice")
def slice_(call: Call) -> Specs:
    source = blob(call)
    axis = 0 if source.dims == 1 else _axis(call, call.attr("axis"), source.dims)
    whole = source.shape[axis]
    slices, cuts = call.attr("slices"), call.attr("indices")
    many = len(call.op.outputs)
    begin: Dim = 0
    specs = []
    for position in range(many):
        rest = whole - begin
        if cuts:
            if position == many - 1:
                size = rest
            elif position < len(cuts):
                cut = cuts[position]
                size = (whole + cut if cut < 0 else cut) - begin
            else:
                raise call.error(f"{len(cuts)} places to cut for {many} parts")
        elif position < len(slices):
            size = quotient(rest, many - position, call) if slices[position] == LEFT else slices[position]
        else:
            raise call.error(f"{len(slices)} sizes for {many} parts")
        out = list(source.shape)
        out[axis] = size
        specs.append((whole_shape(call, *out), call.dtype()))
        begin = begin + size
        if isinstance(begin, int) and isinstance(whole, int) and begin > whole:
            raise call.error(f"{begin} elements are cut from {whole}")
    return specs


@rule("ncnn:Tile")
def tile(call: Call) -> Specs:
    source = blob(call)
    repeats = call.attr("repeats")
    shape = source.shape
    if repeats:
        rank = max(len(repeats), source.dims)
        if rank > 4:
            raise call.error(f"a tensor of ncnn has up to 4 dimensions, not {rank}")
        shape = (1,) * (rank - source.dims) + shape
        times = (1,) * (rank - len(repeats)) + repeats
    else:
        axis = 0 if source.dims == 1 else _axis(call, call.attr("axis"), source.dims)
        times = tuple(call.attr("tiles") if at == axis else 1 for at in range(source.dims))
    return made(call, of(tuple(dim * count for dim, count in zip(shape, times, strict=True))))


@rule("ncnn:Padding")
def padding(call: Call) -> Specs:
    source = blob(call)
    across, down, through = (
        call.attr(one) + call.attr(two) for one, two in (("left", "right"), ("top", "bottom"), ("front", "behind"))
    )
    width, height = source.w + across, source.h + down
    if source.dims == 1:
        return made(call, Blob(1, width))
    if source.dims == 2:
        return made(call, Blob(2, width, height))
    if source.dims == 3:
        return made(call, Blob(3, width, height, 1, source.c + through))
    return made(call, Blob(4, width, height, source.d + through, source.c))


# -- crop --------------------------------------------------------------------------------

_AXES = {1: "w", 2: "hw", 3: "chw", 4: "cdhw"}
_SIZES = tuple(f"out{axis}" for axis in "whdc") + tuple(f"{axis}offset2" for axis in "whdc")
# where none is given, a second blob says how large the result is


@rule("ncnn:Crop")
def crop(call: Call) -> Specs:
    source = blob(call)
    if call.attr("starts_expr") and call.attr("ends_expr"):
        starts, ends, axes = (
            evaluate(call, call.attr(name), _blobs(call)) if call.attr(name) else ()
            for name in ("starts_expr", "ends_expr", "axes_expr")
        )
        return made(call, of(_sliced(call, source, starts, ends, axes)))
    if call.attr("starts") and call.attr("ends"):
        return made(call, of(_sliced(call, source, call.attr("starts"), call.attr("ends"), call.attr("axes"))))
    if all(call.attr(name) == 0 for name in _SIZES):
        return made(call, of(_like(call, source)))
    out = []
    for axis, size in zip(_AXES[source.dims], source.shape, strict=True):
        left = size - (call.attr(f"{axis}offset") + call.attr(f"{axis}offset2"))
        asked = call.attr(f"out{axis}")
        out.append(left if asked == LEFT else _smaller(asked, left))
    return made(call, of(tuple(out)))


def _smaller(asked: int, left: Dim) -> Dim:
    return min(asked, left) if isinstance(left, int) else asked


def _sliced(call: Call, source: Blob, starts: Sequence[Dim], ends: Sequence[Dim], axes: Sequence[Dim]) -> Shape:
    """Axes cut as NumPy writes it, but that an end of 0 is the end."""
    out = list(source.shape)
    where = [_axis(call, number(axis), source.dims) for axis in axes] if axes else list(range(source.dims))
    if len(starts) < len(where) or len(ends) < len(where):
        raise call.error(f"{len(starts)} starts and {len(ends)} ends for {len(where)} axes")
    for axis, start, end in zip(where, starts, ends, strict=False):
        size = source.shape[axis]
        if start == LEFT:
            start = 0
        if end == LEFT:
            end = size
        if end == size and not isinstance(start, int):
            out[axis] = size - start
            continue
        begin, stop, whole = number(start), number(end), number(size)
        begin = begin if begin >= 0 else whole + begin
        out[axis] = min(whole, stop if stop > 0 else whole + stop) - begin
    return tuple(out)


def _like(call: Call, source: Blob) -> Shape:
    """Cut to the size of a second blob, or to what is in it."""
    if call.attr("woffset") == LEFT:
        return call.unknown_shape(source.dims)
    other = blob(call, 1)
    out = [getattr(other, axis) for axis in _AXES[source.dims]]
    if source.dims > 2 and other.dims != source.dims:
        out[0] = source.c
    return tuple(out)


# -- reductions --------------------------------------------------------------------------


@rule("ncnn:Reduction")
def reduction(call: Call) -> Specs:
    source = blob(call)
    everything = call.attr("reduce_all") or source.dims == 1
    axes = call.attr("axes")
    if not call.attr("fixbug0"):
        axes = tuple(axis - 1 if axis > 0 else axis for axis in axes)  # files of before 2020 count a batch axis
    gone = set(range(source.dims)) if everything else {_axis(call, axis, source.dims) for axis in axes}
    if call.attr("keepdims"):
        return made(call, of(tuple(1 if at in gone else dim for at, dim in enumerate(source.shape))))
    return made(call, of(tuple(dim for at, dim in enumerate(source.shape) if at not in gone) or (1,)))


@rule("ncnn:ArgMax")
def arg_max(call: Call) -> Specs:
    return made(call, Blob(2, call.attr("topk"), 2 if call.attr("out_max_val") else 1))


@rule("ncnn:GLU")
def glu(call: Call) -> Specs:
    source = blob(call)
    axis = 0 if source.dims == 1 else _axis(call, call.attr("axis"), source.dims)
    return made(call, of(tuple(dim // 2 if at == axis else dim for at, dim in enumerate(source.shape))))
