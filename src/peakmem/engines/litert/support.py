"""Which operators LiteRT's XNNPACK delegate takes.

From tflite/delegates/xnnpack/xnnpack_delegate.cc of LiteRT f674577 (2026-08-21), Visit*Node with no subgraph: as the
wheel is built, with signed and unsigned 8-bit operators and without fully connected ones whose weights are computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from peakmem.engines.litert.model import Part, Side
from peakmem.frontends.tflite.census import Call, Listed

MOST_DIMENSIONS = 6
# XNN_MAX_TENSOR_DIMS
ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6")
FLOATS = ("float32", "float16")
SMALL = ("int8", "int4", "int2")
PLAIN_UNARY = frozenset((
    "ABS", "CEIL", "COS", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LOG", "NEG", "RELU_N1_TO_1", "RELU", "RELU6", "ROUND",
    "RSQRT", "SIN", "SQRT", "SQUARE",
))  # fmt: skip
FLOAT_BINARY = frozenset(("DIV", "MAXIMUM", "MINIMUM", "PRELU", "SQUARED_DIFFERENCE"))


class Unknown(Exception):
    """Whether the delegate takes the operator is not known here."""


@dataclass(frozen=True, slots=True)
class View:
    """A call with its tensors, and what the delegate has unpacked before it."""

    part: Part
    call: Call
    version: int
    unpacked: frozenset[int]
    # tensors that come out of constants (quasi-static)
    halves: frozenset[int]
    # of them those whose fp16 source is used instead

    def given(self, at: int) -> Listed:
        return self.part.tensors[self.call.inputs[at]]

    def side(self, at: int) -> Side:
        return self.part.sides[self.call.inputs[at]]

    def out(self, at: int = 0) -> Listed:
        return self.part.tensors[self.call.outputs[at]]

    def constant(self, at: int) -> bool:
        return self.part.tensors[self.call.inputs[at]].stored

    def settled(self, at: int) -> bool:
        return self.constant(at) or self.call.inputs[at] in self.unpacked

    def has(self, at: int) -> bool:
        return at < len(self.call.inputs) and self.call.inputs[at] >= 0

    def counts(self, inputs: tuple[int, int], outputs: int = 1) -> bool:
        return inputs[0] <= len(self.call.inputs) <= inputs[1] and len(self.call.outputs) == outputs


def kind(one: Listed) -> str:
    """Name of its type; empty where it has none."""
    return one.dtype.name if one.dtype else ""


def _floats(*tensors: Listed) -> bool:
    return all(kind(one) in FLOATS for one in tensors)


def _single(one: Listed, side: Side) -> bool:
    """8 bits with one scale for all."""
    name = kind(one)
    if name == "int8":
        return side.scales == 1 and side.dimension == 0
    return name == "uint8" and side.scales == 1 and side.zero_points == 1 and side.dimension == 0


def _float_or_byte(view: View, *numbers: int, wide: bool = True) -> bool:
    """CheckTensorFloatOrQUInt8Type of tensors by number; CheckTensorFloat32OrQUInt8Type where not `wide`."""
    names = FLOATS if wide else FLOATS[:1]
    return all(
        kind(view.part.tensors[at]) in names or _single(view.part.tensors[at], view.part.sides[at]) for at in numbers
    )


def _shaped(one: Listed, low: int, high: int = -1) -> bool:
    return low <= len(one.shape) <= (high if high >= 0 else low) and all(size > 0 for size in one.shape)


def _filters(view: View, at: int, dimension: int) -> bool:
    """CheckTensorFloat32OrQCInt8Type."""
    one, side = view.given(at), view.side(at)
    if kind(one) in FLOATS:
        return True
    if kind(one) == "int8":
        if not side.scales or (side.scales > 1 and side.dimension != dimension):
            return False
        return side.scales == 1 or side.scales == one.shape[dimension]
    return _single(one, side)


def _bias(view: View, at: int) -> bool:
    one, side = view.given(at), view.side(at)
    if kind(one) in FLOATS:
        return True
    return kind(one) == "int32" and side.scales > 0 and side.dimension == 0


def _width(view: View, at: int) -> str:
    """Type of a tensor, whose widening from fp16 the delegate may have left out."""
    return "float16" if view.call.inputs[at] in view.halves else kind(view.given(at))


def _agree(view: View, filters: int, bias: int) -> bool:
    name, other = _width(view, filters), _width(view, bias)
    return name not in FLOATS or name == other or (name == "float16" and other == "float32")


def _activation(view: View) -> bool:
    return str(view.call.options.get("fused_activation", "NONE")) in ACTIVATIONS


def _padding(view: View) -> bool:
    return str(view.call.options.get("padding", "SAME")) in ("SAME", "VALID")


def _ratio(view: View, at: int, low: float, high: float) -> bool:
    """CheckTensorsInputOutputScale."""
    one, out = view.given(at), view.out()
    if kind(one) != kind(out) or kind(one) not in ("int8", "uint8"):
        return True
    other = view.part.sides[view.call.outputs[0]].scale
    return bool(other) and low <= view.side(at).scale / other < high


def _unary(view: View) -> bool:
    call = view.call
    if not view.counts((1, 1)) or not _shaped(view.given(0), 0, MOST_DIMENSIONS):
        return False
    given, out = call.inputs[0], call.outputs[0]
    name, result = kind(view.given(0)), kind(view.out())
    if call.op_type in PLAIN_UNARY:
        return _floats(view.given(0), view.out())
    if call.op_type == "DEQUANTIZE":
        return _single(view.given(0), view.side(0)) and result in FLOATS
    if call.op_type == "ELU":
        tensors = ((view.given(0), view.side(0)), (view.out(), view.part.sides[out]))
        return all(kind(one) in FLOATS or (kind(one) == "int8" and _single(one, side)) for one, side in tensors)
    if not _float_or_byte(view, given, out):
        return False
    scales = view.side(0).scale, view.part.sides[out].scale
    if call.op_type == "LEAKY_RELU":
        alpha = float(call.options.get("alpha", 0.0) or 0.0)
        if not alpha or not math.isfinite(alpha):
            return False
        if name in ("int8", "uint8") and result in ("int8", "uint8"):
            ratio = scales[0] / scales[1]
            other = ratio * alpha
            return 1 / 256 <= ratio <= 128 and -127.99609375 <= other <= 128 and abs(other) >= 1 / 256
        return True
    if call.op_type == "QUANTIZE":
        if name in FLOATS:
            return True
        return name == result and 1 / 256 <= scales[0] / scales[1] <= 128
    return True


def _binary(view: View) -> bool:
    call = view.call
    if not view.counts((2, 2)) or not all(_shaped(view.given(at), 0, MOST_DIMENSIONS) for at in (0, 1)):
        return False
    if call.op_type in FLOAT_BINARY:
        if not _floats(view.given(0), view.given(1), view.out()):
            return False
        if call.op_type == "PRELU":
            return view.settled(1)
        return call.op_type != "DIV" or _activation(view)
    if not _float_or_byte(view, *call.inputs, call.outputs[0]):
        return False
    if len({kind(view.given(0)), kind(view.given(1)), kind(view.out())}) != 1 or not _activation(view):
        return False
    if call.op_type == "MUL":
        if kind(view.out()) not in ("int8", "uint8"):
            return True
        product = view.side(0).scale * view.side(1).scale / (view.part.sides[call.outputs[0]].scale or 1.0)
        return 1 / 65536 <= product < 256
    return _ratio(view, 0, 1 / 1024, 256) and _ratio(view, 1, 1 / 1024, 256)


def _pool(view: View) -> bool:
    call = view.call
    most = call.op_type == "MAX_POOL_2D"
    if not view.counts((1, 1)) or not _padding(view) or not _activation(view):
        return False
    if most and not (_float_or_byte(view, call.inputs[0], wide=False) and _float_or_byte(view, call.outputs[0])):
        return False
    if not most and not _floats(view.given(0), view.out()):
        return False
    kernel, stride = pairs(call, "kernel_shape"), pairs(call, "strides")
    if min(*kernel, *stride) <= 0 or stride[0] > kernel[0] or stride[1] > kernel[1]:
        return False
    return kernel != (1, 1) or max(stride) == 1


def pairs(call: Call, name: str) -> tuple[int, int]:
    """(height, width) of an option; ones where it is not told."""
    found = tuple(int(one) for one in call.options.get(name) or (1, 1))
    return (found[0], found[1]) if len(found) == 2 else (1, 1)


def _convolution(view: View) -> bool:
    call = view.call
    depth = call.op_type == "DEPTHWISE_CONV_2D"
    if min(*pairs(call, "strides"), *pairs(call, "dilations")) <= 0 or not view.counts((3, 3)):
        return False
    if not view.has(2) or not _float_or_byte(view, call.inputs[0], call.outputs[0]):
        return False
    if not all(_shaped(one, 4) for one in (view.given(0), view.given(1), view.out())) or not _shaped(view.given(2), 1):
        return False
    if not (_filters(view, 1, 3 if depth else 0) and view.settled(1) and _bias(view, 2) and view.settled(2)):
        return False
    if not _agree(view, 1, 2) or not _padding(view) or not _activation(view):
        return False
    names = kind(view.given(0)), kind(view.given(1)), kind(view.out())
    if depth:
        by = int(call.options.get("depth_multiplier", 1) or 0)
        return names[0] == names[1] == names[2] and by > 0 and view.given(1).shape[3] % by == 0
    mixed = names[0] == "float32" and names[1] == "int8"
    if names[0] != names[2] or (names[0] != names[1] and not mixed):
        return False
    return view.given(0).shape[3] >= view.given(1).shape[3]


def _transposed(view: View) -> bool:
    call = view.call
    if not view.counts((3, 4)) or not view.constant(0) or not view.settled(1):
        return False
    sizes = view.side(0).ints()
    if sizes is None or len(sizes) != 4 or not _filters(view, 1, 0):
        return False
    if not _float_or_byte(view, call.inputs[2], call.outputs[0], wide=False):
        return False
    if not all(_shaped(one, 4) for one in (view.given(1), view.given(2), view.out())):
        return False
    if view.has(3) and not (_bias(view, 3) and _shaped(view.given(3), 1) and view.settled(3)):
        return False
    filters, image = view.given(1).shape, view.given(2).shape
    if filters[0] != sizes[3] or filters[3] != image[3] or not _activation(view):
        return False
    return deconvolution(call, filters, image, sizes) is not None


def deconvolution(
    call: Call, filters: tuple[int, ...], image: tuple[int, ...], sizes: tuple[int, ...]
) -> tuple[tuple[int, int, int, int], tuple[int, int]] | None:
    """(padding, adjustment) of a transposed convolution (CalculateTransposeConvPaddings)."""
    stride, kernel = pairs(call, "strides"), (filters[1], filters[2])
    if min(stride) <= 0:
        return None
    if str(call.options.get("padding", "SAME")) == "VALID":
        if kernel[0] > sizes[1] or kernel[1] > sizes[2]:
            return None
        return (0, 0, 0, 0), ((sizes[1] - kernel[0]) % stride[0], (sizes[2] - kernel[1]) % stride[1])
    expected = -(-sizes[1] // stride[0]), -(-sizes[2] // stride[1])
    if expected != (image[1], image[2]) or kernel[0] < stride[0] or kernel[1] < stride[1]:
        return None
    high, wide = (
        max((given - 1) * by + size - full, 0)
        for given, by, size, full in zip(expected, stride, kernel, sizes[1:3], strict=True)
    )
    return (high // 2, wide - wide // 2, high - high // 2, wide // 2), (0, 0)


def _fully_connected(view: View) -> bool:
    call = view.call
    if (
        str(call.options.get("weights_format", 0)) not in ("0", "DEFAULT")
        or view.version == 8
        or not view.counts((2, 3))
    ):
        return False
    if not _float_or_byte(view, call.inputs[0], call.outputs[0]) or not _shaped(view.given(1), 2):
        return False
    names = kind(view.given(0)), kind(view.given(1)), kind(view.out())
    side = view.side(1)
    if names[1] in SMALL:
        if side.block:
            if side.block % 32:
                return False
        elif not side.scales or (side.scales > 1 and side.dimension):
            return False
    elif names[1] not in FLOATS and not _single(view.given(1), side):
        return False
    if not view.settled(1):
        return False
    if view.has(2):
        if view.given(2).count != view.given(1).shape[0] or not _bias(view, 2) or not view.settled(2):
            return False
        if not _agree(view, 1, 2):
            return False
    dynamic = names[0] in FLOATS and names[1] in SMALL
    if names[0] != names[2] or (
        names[0] != names[1] and not dynamic and not (names[0] == "int8" and names[1] in SMALL)
    ):
        return False
    if not dynamic and names[1] == "int8" and side.scales == 1 and side.zero_point:
        return False
    depth = view.given(1).shape[1]
    if (names[1] == "int4" and depth % 2) or (names[1] == "int2" and depth % 4):
        return False
    return _activation(view)


def _matrices(view: View) -> bool:
    call = view.call
    if not _float_or_byte(view, call.inputs[0], call.outputs[0]) or min(len(view.given(at).shape) for at in (0, 1)) < 2:
        return False
    turned = bool(call.options.get("adj_y", 0))
    if not _filters(view, 1, len(view.given(1).shape) - (2 if turned else 1)):
        return False
    names = kind(view.given(0)), kind(view.given(1))
    dynamic = names == ("float32", "int8")
    if names[1] == "int8" and not dynamic and view.side(1).zero_point:
        return False
    if names[1] == "int8" and not dynamic and view.side(1).scales > 1:
        return False
    return dynamic or names[0] == names[1]


def _concatenation(view: View) -> bool:
    call = view.call
    if not view.counts((2, 5)) or not _float_or_byte(view, *call.inputs, call.outputs[0]):
        return False
    if any(int(call.options.get("axis", 0)) >= len(view.given(at).shape) for at in range(len(call.inputs))):
        return False
    if kind(view.out()) == "uint8":
        out = view.part.sides[call.outputs[0]]
        return all((view.side(at).zero_point, view.side(at).scale) == (out.zero_point, out.scale)
                   for at in range(len(call.inputs)))  # fmt: skip
    return True


def _same_scale(view: View) -> bool:
    if kind(view.out()) not in ("int8", "uint8"):
        return True
    one, out = view.side(0), view.part.sides[view.call.outputs[0]]
    return (one.zero_point, one.scale) == (out.zero_point, out.scale)


def _reshape(view: View) -> bool:
    call = view.call
    if not view.counts((1, 2)) or not _float_or_byte(view, call.inputs[0], call.outputs[0]):
        return False
    if not all(_shaped(one, 0, MOST_DIMENSIONS) for one in (view.given(0), view.out())) or not _same_scale(view):
        return False
    if len(call.inputs) == 1:
        return tuple(call.options.get("new_shape") or ()) != (-1,)
    shape = view.given(1)
    if kind(shape) != "int32" or not view.constant(1):
        return False
    return all(size == 1 for size in shape.shape[:-1]) and view.side(1).ints() != (-1,)


def _moved(view: View) -> bool:
    """PAD, TRANSPOSE, EXPAND_DIMS, MEAN, SUM, REDUCE_MAX, REDUCE_MIN: the second input says where."""
    call = view.call
    if not view.counts((2, 2)) or not view.constant(1) or not _float_or_byte(view, call.inputs[0], call.outputs[0]):
        return False
    given, other = view.given(0), view.given(1)
    numbers = view.side(1).ints()
    if call.op_type == "PAD":
        if not (_shaped(given, 1, MOST_DIMENSIONS) and _shaped(view.out(), 1, MOST_DIMENSIONS)):
            return False
        return kind(other) == "int32" and other.shape == (len(given.shape), 2) and min(numbers or (0,)) >= 0
    if call.op_type == "TRANSPOSE":
        return _shaped(given, 1, MOST_DIMENSIONS)
    if call.op_type == "EXPAND_DIMS":
        return other.count == 1 and kind(other) in ("int32", "int64")
    return kind(other) == "int32" and len(other.shape) <= 1 and 0 < other.count <= MOST_DIMENSIONS


def _resize(view: View) -> bool:
    call = view.call
    return (
        view.counts((2, 2))
        and _float_or_byte(view, call.inputs[0], wide=False)
        and _float_or_byte(view, call.outputs[0])
        and _shaped(view.given(0), 4)
        and _shaped(view.out(), 4)
        and kind(view.given(1)) == "int32"
        and view.constant(1)
        and len(view.given(1).shape) == 1
        and min(view.side(1).ints() or (1,)) > 0
    )


def _slice(view: View) -> bool:
    call = view.call
    count = 4 if call.op_type == "STRIDED_SLICE" else 3
    if len(call.inputs) != count or not _float_or_byte(view, call.inputs[0], call.outputs[0]):
        return False
    others = [view.given(at) for at in range(1, count)]
    names = ("int32",) if count == 4 else ("int32", "int64")
    if not all(one.stored and len(one.shape) == 1 and kind(one) in names for one in others):
        return False
    if len({one.shape for one in others}) != 1:
        return False
    if count == 3:
        return min(view.side(2).ints() or (1,)) > 0
    if any(int(call.options.get(name, 0)) for name in ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask")):
        return False
    return set(view.side(3).ints() or ()) == {1} and others[0].shape == (len(view.given(0).shape),)


def _blocks(view: View) -> bool:
    call = view.call
    block = int(call.options.get("blocksize", 0))
    into = call.op_type == "SPACE_TO_DEPTH"
    if not view.counts((1, 1)) or block <= 1 or not _float_or_byte(view, call.outputs[0]):
        return False
    if not _float_or_byte(view, call.inputs[0], wide=not into):
        return False
    return not into or (view.given(0).shape[1] % block == 0 and view.given(0).shape[2] % block == 0)


def _softmax(view: View) -> bool:
    beta = float(view.call.options.get("beta", 0.0))
    return beta == 1.0 and view.counts((1, 1)) and _floats(view.given(0), view.out())


def _split(view: View) -> bool:
    call = view.call
    if len(call.inputs) != 2 or not 2 <= len(call.outputs) <= 4 or not view.constant(0):
        return False
    return kind(view.given(0)) == "int32" and _float_or_byte(view, call.inputs[1], *call.outputs)


def _unknown(view: View) -> bool:
    raise Unknown(f"whether XNNPACK takes {view.call.op_type} is not modelled")


CHECKS: Mapping[str, Callable[[View], bool]] = {
    **dict.fromkeys((*PLAIN_UNARY, "DEQUANTIZE", "ELU", "LEAKY_RELU", "LOGISTIC", "QUANTIZE", "TANH"), _unary),
    **dict.fromkeys((*FLOAT_BINARY, "ADD", "MUL", "SUB"), _binary),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), _pool),
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), _convolution),
    **dict.fromkeys(("PAD", "TRANSPOSE", "EXPAND_DIMS", "MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), _moved),
    **dict.fromkeys(("SLICE", "STRIDED_SLICE"), _slice),
    **dict.fromkeys(("DEPTH_TO_SPACE", "SPACE_TO_DEPTH"), _blocks),
    **dict.fromkeys(("ASSIGN_VARIABLE", "READ_VARIABLE", "VAR_HANDLE", "STABLEHLO_COMPOSITE"), _unknown),
    "TRANSPOSE_CONV": _transposed,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _matrices,
    "CONCATENATION": _concatenation,
    "RESHAPE": _reshape,
    "RESIZE_BILINEAR": _resize,
    "SOFTMAX": _softmax,
    "SPLIT": _split,
}
CUSTOM = ("Convolution2DTransposeBias", "MaxPoolingWithArgmax2D", "MaxUnpooling2D", "odml.scaled_dot_product_attention")
# operators of MediaPipe and ODML that it may take


def taken(view: View) -> bool:
    """Whether the delegate takes the operator (Subgraph::VisitNode).

    Raises:
        Unknown: that depends on what is not modelled.
    """
    call = view.call
    if call.domain != "tflite":
        if call.op_type in CUSTOM:
            return _unknown(view)
        return False
    check = CHECKS.get(call.op_type)
    try:
        return check is not None and check(view)
    except (IndexError, ZeroDivisionError):
        return False
