"""Shape rules of what slides a window over space, and of matrix products."""

from __future__ import annotations

from collections.abc import Sequence

from peakmem.ir.dims import Dim, Shape, product
from peakmem.ir.shapes.call import Call, Specs, Unresolved, broadcast, ceil_div, rule
from peakmem.ir.shapes.tflite.elementwise import names


def slide(call: Call, sizes: Sequence[Dim], window: Sequence[Dim]) -> list[Dim]:
    """Sizes after a window has slid over `sizes`: all places it touches (SAME) or all it fits in (VALID)."""
    strides = call.attr("strides")
    if not strides or len(strides) != len(sizes) or any(stride < 1 for stride in strides):
        raise call.error(f"strides of {strides} are not one positive number for each axis")
    if call.attr("padding") == "SAME":
        return [ceil_div(size, stride) for size, stride in zip(sizes, strides, strict=True)]
    dilations = call.attr("dilations") or (1,) * len(sizes)
    out = []
    for size, extent, stride, dilation in zip(sizes, window, strides, dilations, strict=True):
        room = size - (extent - 1) * dilation - 1
        if isinstance(room, int) and room <= -stride:
            raise call.error(f"a window of {extent} does not fit a size of {size}")
        # One that only just does not fit leaves nothing, which the engine takes for an empty tensor.
        out.append(room // stride + 1)
    return out


@rule(*names("CONV_2D DEPTHWISE_CONV_2D CONV_3D"))
def convolution(call: Call) -> Specs:
    image, kernel = call.shape(0), call.shape(1)
    solid = call.op.op_type == "CONV_3D"
    rank = 5 if solid else 4
    if len(image) != rank or len(kernel) != rank:
        raise call.error(f"a convolution of this kind takes an input and a kernel of rank {rank}")
    if solid:
        window, inside, outside = kernel[:3], kernel[3], kernel[4]
    else:
        window = kernel[1:3]
        inside, outside = (1, kernel[3]) if call.op.op_type == "DEPTHWISE_CONV_2D" else (kernel[3], kernel[0])
    given = image[-1]
    if isinstance(given, int) and isinstance(inside, int) and (inside == 0 or given % inside):
        raise call.error(f"the kernel takes {inside} channels, the input has {given}")
    return [((image[0], *slide(call, image[1:-1], window), outside), None)]


@rule(*names("AVERAGE_POOL_2D MAX_POOL_2D L2_POOL_2D"))
def pool(call: Call) -> Specs:
    image = call.shape()
    if len(image) != 4:
        raise call.error("pooling takes an input of rank 4")
    return [((image[0], *slide(call, image[1:3], call.attr("kernel_shape")), image[3]), None)]


@rule(*names("TRANSPOSE_CONV CONV_3D_TRANSPOSE"))
def transposed_convolution(call: Call) -> Specs:
    """Its first input says what comes out."""
    target, kernel, image = call.value(0), call.shape(1), call.shape(2)
    if target is not None and len(target) == len(image):
        if isinstance(target[0], int) and isinstance(image[0], int) and target[0] != image[0]:
            raise call.error(f"a batch of {target[0]} is asked for, the input has {image[0]}")
        return [(tuple(target), None)]
    if target is not None:
        raise Unresolved(f"its first input holds {len(target)} sizes, not {len(image)}")
    outside = kernel[0] if call.op.op_type == "TRANSPOSE_CONV" else kernel[3]
    return [((image[0], *call.unknown_shape(len(image))[1:-1], outside), None)]


@rule("tflite:FULLY_CONNECTED")
def fully_connected(call: Call) -> Specs:
    given, weight = call.shape(0), call.shape(1)
    if len(weight) != 2:
        raise call.error("a weight matrix has rank 2")
    units, inside = weight
    if call.attr("keep_num_dims"):
        if given and isinstance(given[-1], int) and isinstance(inside, int) and given[-1] != inside:
            raise call.error(f"the weights take {inside} features, the input has {given[-1]}")
        return [((*given[:-1], units), None)]
    if given and given[-1] == inside:
        return [((product(given[:-1]), units), None)]
    total = product(given)
    if isinstance(total, int) and isinstance(inside, int) and (inside == 0 or total % inside):
        raise call.error(f"{total} elements do not make rows of {inside}")
    return [((total // inside, units), None)]


@rule("tflite:BATCH_MATMUL")
def batch_matmul(call: Call) -> Specs:
    left, right = call.shape(0), call.shape(1)
    if len(left) < 2 or len(right) < 2:
        raise call.error("matrices have a rank of 2 or more")
    rows, inner = (left[-1], left[-2]) if call.attr("adj_x") else (left[-2], left[-1])
    other, columns = (right[-1], right[-2]) if call.attr("adj_y") else (right[-2], right[-1])
    if isinstance(inner, int) and isinstance(other, int) and inner != other:
        raise call.error(f"matrices of {inner} columns and {other} rows cannot be multiplied")
    return [((*broadcast(call, left[:-2], right[:-2]), rows, columns), None)]


@rule(*names("RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR"))
def resize(call: Call) -> Specs:
    image, size = call.shape(), call.value(1)
    if len(image) != 4:
        raise call.error("resizing takes an input of rank 4")
    if size is None:
        return [(call.open_axes(image, (1, 2)), None)]
    height, width = size
    return [((image[0], height, width, image[3]), None)]


@rule("tflite:RFFT2D")
def rfft(call: Call) -> Specs:
    image, size = call.shape(), call.value(1)
    if len(image) < 2:
        raise call.error("the transform takes an input of rank 2 or more")
    if size is None:
        return [(call.open_axes(image, (-2, -1)), None)]
    return [((*image[:-2], size[0], size[1] // 2 + 1), None)]


@rule("tflite:DILATE")
def dilate(call: Call) -> Specs:
    image, by = call.shape(), call.known(1)
    return [(tuple((size - 1) * step + 1 for size, step in zip(image, by, strict=True)), None)]


@rule("tflite:REDUCE_WINDOW")
def reduce_window(call: Call) -> Specs:
    image = call.shape()
    window, strides, dilations = call.known(2), call.known(3), call.known(4)
    out: list[Dim] = []
    for size, extent, stride, dilation in zip(image, window, strides, dilations, strict=True):
        out.append((size - (extent - 1) * dilation - 1) // stride + 1)
    return [(tuple(out), None)]


@rule("tflite.custom:TFLite_Detection_PostProcess")
def detection(call: Call) -> Specs:
    """Boxes, classes, scores and their number, for one image; the options say how many at most."""
    options = call.op.attributes
    many = options["max_detections"] * options["max_classes_per_detection"]
    shapes: list[Shape] = [(1, many, 4), (1, many), (1, many), (1,)]
    return [(shape, None) for shape in shapes]
