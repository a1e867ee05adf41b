"""What each type of layer asks for when it runs: its tops, and workspace meanwhile.

Sources: `forward` and `forward_inplace` in `src/layer/x86/*_x86.cpp` and, where there is none, `src/layer/*.cpp`,
commit a4d2ea1d (2026-07-22). Convolutions stand in `forward_convolution`, products of matrices in `forward_products`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from peakmem.engines.ncnn.mat import Mat
from peakmem.engines.ncnn.pools import Allocator
from peakmem.engines.ncnn.run import Call, Forward, release, share

FORWARD: dict[str, Forward] = {}
BESIDE: dict[str, Callable[[Call, Mat], None]] = {}
# workspace of layers that work in place


def forward(*names: str) -> Callable[[Forward], Forward]:
    """Register a rule for types of layers."""

    def register(one: Forward) -> Forward:
        for name in names:
            FORWARD[name] = one
        return one

    return register


def beside(name: str) -> Callable[[Callable[[Call, Mat], None]], Callable[[Call, Mat], None]]:
    """Register the workspace of a layer that works in place."""

    def register(one: Callable[[Call, Mat], None]) -> Callable[[Call, Mat], None]:
        BESIDE[name] = one
        return one

    return register


@forward("Split")
def _split(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    return [share(bottoms[0]) for _ in call.layer.tops]


@forward("Noop")
def _noop(_: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    return [share(mat) for mat in bottoms]


def padded(call: Call, mat: Mat, pads: Sequence[int]) -> Mat:
    """The input with (top, left, bottom, right) more, in workspace; itself without."""
    sizes = (*mat.sizes[:-2], mat.sizes[-2] + pads[0] + pads[2], mat.sizes[-1] + pads[1] + pads[3])
    return call.border(mat, sizes)


def same(size: int, kernel: int, stride: int) -> int:
    """What SAME pads: the window's last place reaches the end."""
    return max(0, kernel + (size - 1) // stride * stride - size)


@forward("Pooling")
def _pooling(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    mat, values, top = bottoms[0], call.layer.values, call.top()
    if values.get("global_pooling"):
        return [call.new(top, mat.scalar, mat.pack, call.blob)]
    if values.get("adaptive_pooling"):
        if top == mat.sizes:
            return [share(mat)]
        return [call.new(top, mat.scalar, mat.pack, call.blob)]
    kernel, stride = values["kernel_shape"], values["strides"]
    pads = list(values.get("pads", (0, 0, 0, 0)))
    mode = values.get("pad_mode", 0)
    height, width = mat.sizes[-2:]
    if mode == 0:
        for size, axis in ((height, 0), (width, 1)):
            tail = (size + pads[axis] + pads[axis + 2] - kernel[axis]) % stride[axis]
            pads[axis + 2] += stride[axis] - tail if tail else 0
    elif mode in (2, 3):
        pads = [0, 0, same(height, kernel[0], stride[0]), same(width, kernel[1], stride[1])]
    border = padded(call, mat, pads) if mode in (0, 1) or any(pads) else share(mat)
    made = call.new(top, mat.scalar, mat.pack, call.blob)
    call.heap.burst(4 * kernel[0] * kernel[1])
    release(border)
    return [made]


@forward("Flatten")
def _flatten(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    return [flattened(call, bottoms[0], call.blob)]


def flattened(call: Call, mat: Mat, allocator: Allocator) -> Mat:
    """Flatten_x86::forward."""
    if len(mat.sizes) == 1:
        return share(mat)
    pack = call.options.pack(mat.count)
    if pack > 1 and len(mat.sizes) == 2 and mat.pack == 1:
        view = share(mat, pack=pack)
        view.sizes = (mat.count,)
        return view
    return call.new((mat.count,), mat.scalar, pack, allocator)


@forward("Reshape")
def _reshape(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    mat, top = bottoms[0], call.top()
    pack = call.options.pack(top[0])
    if len(top) == 1:
        return [flattened(call, mat, call.blob)]
    alike = mat.sizes[0] == top[0] and mat.pack == pack
    if alike and ((len(top) == 2 and len(mat.sizes) == 2) or (len(top) > 2 and len(mat.sizes) > 2)):
        view = share(mat)
        view.sizes = top
        return [view]
    if len(top) == 2 and pack == 1:
        flat = flattened(call, mat, call.blob)
        flat.sizes, flat.pack = top, 1
        return [flat]
    flat = flattened(call, mat, call.work)
    made = call.new(top, mat.scalar, pack, call.blob)
    release(flat)
    return [made]


@forward("Squeeze", "ExpandDims")
def _squeeze(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    return [call.reshape(bottoms[0], call.top(), call.blob)]


@forward("Concat")
def _concat(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    first, top = bottoms[0], call.top()
    axis = call.layer.number("axis") % len(first.sizes)
    if axis:
        return [call.new(top, first.scalar, first.pack, call.blob)]
    pack = call.options.pack(top[0])
    least = min(mat.pack for mat in bottoms)
    made = call.new(top, first.scalar, pack, call.blob)
    if len(top) > 1 and least < pack:
        # gathered with fewer channels side by side, then packed into the top that is there
        loose = call.new(top, first.scalar, least, call.work)
        call.heap.burst(2 * 232 + 4096 + 240)
        release(loose)
    return [made]


@forward("Slice")
def _slice(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    mat = bottoms[0]
    axis = call.layer.number("axis") % len(mat.sizes)
    shapes = [call.top(at) for at in range(len(call.layer.tops))]
    if axis:
        return [call.new(sizes, mat.scalar, mat.pack, call.blob) for sizes in shapes]
    tops = [call.new(sizes, mat.scalar, call.options.pack(sizes[0]), call.blob) for sizes in shapes]
    least = min(top.pack for top in tops)
    if len(mat.sizes) > 1 and mat.pack > least:
        release(call.packing(mat, least, call.blob))
    return tops


@forward("ShuffleChannel")
def _shuffle(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    mat = bottoms[0]
    channels = mat.sizes[0] // mat.pack
    group = call.layer.number("group", 1)
    if call.layer.values.get("reverse"):
        group = mat.sizes[0] // group
    if group == 1:
        return [share(mat)]
    halves = mat.pack in (4, 8, 16) and group == 2 and channels % 2
    if mat.pack == 1 or halves or (group <= 4 and channels % group == 0):
        return [call.new(mat.sizes, mat.scalar, mat.pack, call.blob)]
    loose = call.packing(mat, 1, call.work)
    shuffled = call.new(mat.sizes, mat.scalar, 1, call.work)
    made = call.packing(shuffled, mat.pack, call.blob)
    release(shuffled)
    release(loose)
    return [made]


@forward("Eltwise", "RotaryEmbed")
def _eltwise(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    mat = bottoms[0]
    return [call.new(mat.sizes, mat.scalar, mat.pack, call.blob)]


@forward("BinaryOp")
def _binary(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    rank = max(len(mat.sizes) for mat in bottoms)
    spread = [_spread(call, bottoms[at], bottoms[1 - at], rank) for at in range(2)]
    pack = max(mat.pack for mat in spread)
    made = call.new(call.top(), max(mat.scalar for mat in spread), pack, call.blob)
    for mat in reversed(spread):
        release(mat)
    return [made]


def _spread(call: Call, mat: Mat, other: Mat, rank: int) -> Mat:
    """A smaller operand with inner or outer axes of 1, so that both have as many."""
    if len(mat.sizes) == rank:
        return share(mat)
    if len(mat.sizes) == 1 and mat.sizes[0] != other.sizes[0]:
        view = share(mat, pack=1)
        view.sizes = (1,) * (rank - 1) + mat.sizes
        return view
    sizes = mat.sizes + (1,) * (rank - len(mat.sizes))
    return call.reshape(mat, sizes, call.work)


@forward("Interp")
def _interp(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    mat, top = bottoms[0], call.top()
    if top == mat.sizes:
        return [share(mat)]
    made = call.new(top, mat.scalar, mat.pack, call.blob)
    kind = call.layer.number("resize_type")
    if kind in (2, 3) and len(top) > 1:
        taps = 2 if kind == 2 else 4
        call.heap.burst(4 * (1 + taps) * sum(top[-2:]))
        # indices and weights of rows and columns
    return [made]


@forward("Padding", "Crop")
def _moved(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    """A border is added or cut; unpacked first where the border goes through packed channels."""
    mat, top = bottoms[0], call.top()
    if top == mat.sizes:
        return [share(mat)]
    pack = call.options.pack(top[0])
    names = ("left", "top", "front", "front") if call.layer.type == "Padding" else ("w", "h", "c", "c")
    outer = names[len(top) - 1]
    shift = call.layer.number(outer if call.layer.type == "Padding" else f"{outer}offset")
    if mat.pack == 1 or (pack == mat.pack and shift % mat.pack == 0):
        return [call.new(top, mat.scalar, mat.pack, call.blob)]
    loose = call.packing(mat, 1, call.work)
    made = call.new(top, mat.scalar, 1, call.blob)
    release(loose)
    return [made]


@forward("MemoryData")
def _memory(call: Call, _: Sequence[Mat]) -> list[Mat]:
    return [call.new(call.top(), 4, 1, call.blob)]


@forward("Permute")
def _permute(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    mat = bottoms[0]
    if len(mat.sizes) == 1 or call.layer.number("order_type") == 0:
        return [share(mat)]
    top = call.top()
    return [call.new(top, mat.scalar, call.options.pack(top[0]) if len(top) < 4 else 1, call.blob)]
    # 1.0.20261020 permutes packed blobs; the commit above does not yet, so this is from its requests


@forward(
    "PixelShuffle", "Reorg", "GLU", "Embed", "Embed int8", "Tile", "Flip", "Diag", "Einsum", "CopyTo", "PriorBox",
    "ROIAlign", "ROIPooling", "PSROIPooling", "StatisticsPooling",
)  # fmt: skip
def _plain(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    """A top of its own, and nothing else of size."""
    scalar = bottoms[0].scalar if bottoms and call.layer.type != "Embed" else 4
    return [call.new(call.top(at), scalar, 1, call.blob) for at in range(len(call.layer.tops))]


def fallback(call: Call, _: Sequence[Mat]) -> list[Mat]:
    """A layer without a rule: a top of its own for each, no workspace."""
    return [call.new(call.top(at), 4, 1, call.blob) for at in range(len(call.layer.tops))]


@beside("Softmax")
def _softmax(call: Call, mat: Mat) -> None:
    """The largest and the sum of each column."""
    rank = len(mat.sizes)
    axis = call.layer.number("axis") % rank
    if rank == 1 or axis == rank - 1:
        return
    inner = math.prod(mat.sizes[1:])
    columns = math.prod(mat.sizes[axis + 1 :]) * mat.pack if axis else -(-inner // call.options.threads)
    release(call.raw(call.options.threads, 2, columns))


@beside("LRN")
def _lrn(call: Call, mat: Mat) -> None:
    """Squares, and their sums or their border."""
    squares = call.new(mat.sizes, 4, mat.pack, call.work)
    if call.layer.number("region_type") == 0:
        release(call.new(mat.sizes, 4, mat.pack, call.work))
    else:
        size = call.layer.number("local_size", 5)
        if size > 1:
            release(padded(call, squares, (size // 2, size // 2, size - size // 2 - 1, size - size // 2 - 1)))
    release(squares)


@beside("GroupNorm")
def _group_norm(call: Call, mat: Mat) -> None:
    """Unpacked where a group has fewer channels than stand side by side."""
    pack = call.options.pack(call.layer.number("channels") // max(1, call.layer.number("group", 1)))
    if mat.pack > pack:
        release(call.packing(mat, pack, call.work))


def nothing(_: Call, __: Mat) -> None:
    """In place without workspace."""
