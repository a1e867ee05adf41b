"""Layers of one and three dimensions, borders that are cut, grids, spectra, detection: what they ask for when they run.

Sources: `src/layer/*.cpp` of each (`make_padding`, `cut_padding`, `forward`), `src/layer/x86/gridsample_x86.cpp` and
`deformableconv2d_x86.cpp`, commit a4d2ea1d (2026-07-22).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from peakmem.engines.ncnn.forward import beside, forward, same
from peakmem.engines.ncnn.forward_products import multiply
from peakmem.engines.ncnn.layers import STRUCTURES, Layer
from peakmem.engines.ncnn.load import PARAMETERS, WRAPPER
from peakmem.engines.ncnn.mat import Mat, Sizes
from peakmem.engines.ncnn.pools import Allocator, System
from peakmem.engines.ncnn.run import Call, release, share

BOX = 28
# sizeof(BBoxRect): score, four sides and an area in floats, a label
FOUND = ("DetectionOutput", "Yolov3DetectionOutput")
# how many boxes they return depends on the data


def windowed(call: Call, mat: Mat, tail: bool = False) -> Mat:
    """make_padding over all axes of the window; `tail` for what a pooling needs so that no element is left over."""
    values = call.layer.values
    kernel, strides = values["kernel_shape"], values["strides"]
    axes = len(kernel)
    dilations = values.get("dilations", (1,) * axes)
    pads = list(values.get("pads", (0,) * (2 * axes)))
    inner = mat.sizes[-axes:]
    mode = values.get("auto_pad", "")
    if tail and values.get("pad_mode", 0) == 0:
        for axis, size in enumerate(inner):
            left = (size + pads[axis] + pads[axis + axes] - kernel[axis]) % strides[axis]
            pads[axis + axes] += strides[axis] - left if left else 0
    elif mode in ("SAME_UPPER", "SAME_LOWER") or (tail and values.get("pad_mode") in (2, 3)):
        extent = [step * (size - 1) + 1 for step, size in zip(dilations, kernel, strict=True)]
        pads = [0] * axes + [same(inner[axis], extent[axis], strides[axis]) for axis in range(axes)]
    if not tail and not any(pad > 0 for pad in pads):
        return share(mat)
    sizes = tuple(size + pads[axis] + pads[axis + axes] for axis, size in enumerate(inner))
    return call.border(mat, (*mat.sizes[:-axes], *sizes))


@forward("Convolution3D", "ConvolutionDepthWise3D", "ConvolutionDepthWise1D")
def _convolution(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    border = windowed(call, bottoms[0])
    made = call.new(call.top(), bottoms[0].scalar, 1, call.blob)
    call.heap.burst(4 * math.prod(call.layer.values["kernel_shape"]))
    release(border)
    return [made]


@forward("Pooling1D", "Pooling3D")
def _pooling(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    mat, values, top = bottoms[0], call.layer.values, call.top()
    if values.get("global_pooling") or values.get("adaptive_pooling"):
        return [call.new(top, mat.scalar, 1, call.blob)]
    border = windowed(call, mat, tail=True)
    where: Allocator = call.blob if call.layer.type == "Pooling1D" else System(call.heap, "activations")
    # Pooling3D::forward asks for its top without an allocator
    made = call.new(top, mat.scalar, 1, where)
    release(border)
    return [made]


@forward("Deconvolution1D", "DeconvolutionDepthWise1D", "Deconvolution3D", "DeconvolutionDepthWise3D")
def _transposed(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    mat, values = bottoms[0], call.layer.values
    kernel, strides, dilations = (values[name] for name in ("kernel_shape", "strides", "dilations"))
    axes = len(kernel)
    more = [call.layer.number(f"output_pad_{side}") for side in ("behind", "bottom", "right")][-axes:]
    full = tuple(
        (size - 1) * strides[axis] + dilations[axis] * (kernel[axis] - 1) + 1 + more[axis]
        for axis, size in enumerate(mat.sizes[-axes:])
    )
    given = all(values.get(f"output_{name}") for name in "dhw"[-axes:])
    return _cut(call, (values["num_output"], *full), mat.scalar, given=given)


@forward("Fold")
def _fold(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    top, pads = call.top(), call.layer.values.get("pads", (0, 0, 0, 0))
    sizes = (top[0], top[1] + pads[0] + pads[2], top[2] + pads[1] + pads[3])
    return _cut(call, sizes, bottoms[0].scalar)


def _cut(call: Call, sizes: Sizes, scalar: int, *, given: bool = False) -> list[Mat]:
    """cut_padding: computed with its border in workspace, then cut."""
    if not (given or any(pad > 0 for pad in call.layer.values.get("pads", ()))):
        return [call.new(sizes, scalar, 1, call.blob)]
    full = call.new(sizes, scalar, 1, call.work)
    held = WRAPPER + STRUCTURES["Crop"] + PARAMETERS
    call.heap.take("objects", held)
    made = call.new(call.top(), scalar, 1, call.blob)
    call.heap.take("objects", -held)
    release(full)
    return [made]


@forward("Unfold")
def _unfold(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    border = windowed(call, bottoms[0])
    made = call.new(call.top(), bottoms[0].scalar, 1, call.blob)
    release(border)
    return [made]


@forward("GridSample")
def _grid(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    """Where each place is read and with which weights: 6, 1 or 18 numbers, in space 11 or 1, as wide as a pack."""
    mat, top = bottoms[0], call.top()
    made = call.new(top, mat.scalar, mat.pack, call.blob)
    kind = call.layer.number("sample_type", 1)
    numbers = {1: 6 if len(top) == 3 else 11, 2: 1, 3: 18}[kind]
    packed = call.layer.number("permute_fusion") == 0 and bottoms[1].pack > 1
    grid = call.packing(bottoms[1], 1, call.work) if packed else share(bottoms[1])
    release(call.raw(*top[1:], scalar=mat.element * numbers))
    release(grid)
    return [made]


@forward("Spectrogram")
def _spectrogram(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    mat, size = bottoms[0], call.layer.number("n_fft")
    border = call.border(mat, (mat.sizes[-1] + size // 2 * 2,)) if call.layer.values.get("center") else share(mat)
    made = call.new(call.top(), mat.scalar, 1, call.blob)
    release(border)
    return [made]


@forward("InverseSpectrogram")
def _inverse_spectrogram(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    """The sum of squared windows, and one frame at a time."""
    mat, size = bottoms[0], call.layer.number("n_fft")
    made = call.new(call.top(), mat.scalar, 1, call.blob)
    length = call.top()[0]
    sums = call.raw(length + size)
    call.heap.burst(8 * size + 68)
    release(sums)
    return [made]


@forward("MVN")
def _mvn(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    mat = bottoms[0]
    made = call.new(mat.sizes, mat.scalar, 1, call.blob)
    sums = call.raw(mat.sizes[0])
    if call.layer.values.get("normalize_variance"):
        release(call.raw(mat.sizes[0]))
    release(sums)
    return [made]


@beside("Normalize")
def _normalize(call: Call, mat: Mat) -> None:
    """Sums of squares of channels, or of places."""
    values = call.layer.values
    channels = mat.sizes[0] // mat.pack
    if values.get("across_spatial") and values.get("across_channel", 1):
        release(call.raw(channels))
    elif not values.get("across_spatial") and values.get("across_channel", 1):
        release(call.raw(math.prod(mat.sizes[1:])))


@forward("Reduction")
def _reduction(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    """Sums of rows or channels where all axes are reduced."""
    mat, values = bottoms[0], call.layer.values
    made = call.new(call.top(), mat.scalar, 1, call.blob)
    rank = len(mat.sizes)
    axes = values.get("axes", ())
    every = bool(values.get("reduce_all")) or len({axis % rank for axis in axes}) == rank
    if every and rank > 1:
        release(call.raw(mat.sizes[0]))
    return [made]


@forward("Cast")
def _cast(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    mat = bottoms[0]
    scalar = {0: mat.scalar, 1: 4, 2: 2, 3: 1, 4: 2}[call.layer.number("type_to")]
    if scalar == mat.scalar:
        return [share(mat)]
    return [call.new(mat.sizes, scalar, mat.pack, call.blob)]


@forward("Packing")
def _packing(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    mat, pack = bottoms[0], call.layer.number("out_elempack", 1)
    if pack == mat.pack or mat.sizes[0] % pack:
        return [share(mat)]
    return [call.new(mat.sizes, mat.scalar, pack, call.blob)]


@forward("DeepCopy")
def _copy(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    """Mat::clone without an allocator."""
    mat = bottoms[0]
    return [call.new(mat.sizes, mat.scalar, mat.pack, System(call.heap, "activations"))]


@forward("DeformableConv2D")
def _deformable(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    """im2col with places that are looked up, then a product whose result is asked for again, as workspace."""
    layer, top = call.layer, call.top()
    pack = call.options.pack(top[0])
    made = call.new(top, 4, pack, call.blob)
    if call.made.gemm is None:
        return [made]
    mat = bottoms[0]
    m, _, k = call.made.gemm.tiles
    places = math.prod(top[1:])
    columns = call.new((k, places), 4, mat.pack, call.work)
    again = call.new((layer.number("num_output"), 1, places), 4, pack, call.work)
    release(made)
    multiply(call, m, places, k, constant_a=True)
    release(columns)
    again.sizes = top
    return [again]


@forward(*FOUND)
def _found(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    """Boxes: those of all priors, and as many as may be found."""
    boxes = None
    if call.layer.type == "DetectionOutput":
        boxes = call.raw(bottoms[2].sizes[-1] // 4, 4)
    made = call.new(call.top(), 4, 1, call.blob)
    release(boxes)
    return [made]


def lists_bytes(layer: Layer, read: Sequence[Sizes]) -> int:
    """What lists of boxes take at most: of a class or an anchor, of all of them, sorted, and which stay."""
    if layer.type == "DetectionOutput":
        return 2 * BOX * math.prod(read[1])
    boxes = sum(math.prod(sizes) for sizes in read) // (5 + layer.number("num_class"))
    return (3 * BOX + 8) * boxes


@beside("YoloDetectionOutput")
def _yolo(call: Call, mat: Mat) -> None:
    """A softmax over the classes of each anchor."""
    places = math.prod(mat.sizes[1:])
    for _ in range(call.layer.number("num_box")):
        release(call.raw(call.options.threads, 2, -(-places // call.options.threads)))
