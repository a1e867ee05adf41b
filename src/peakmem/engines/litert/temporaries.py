"""Tensors that LiteRT's kernels have beside their outputs, and operators that are planned without any.

From tflite/kernels/*.cc of LiteRT f674577 (2026-08-21).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peakmem.engines.litert.arena import IN_PLACE, Temporary
from peakmem.engines.litert.support import kind
from peakmem.errors import GraphError

if TYPE_CHECKING:
    from peakmem.frontends.tflite.census import Body, Call, Listed

PLAIN = frozenset((
    "ABS", "BATCH_TO_SPACE_ND", "BROADCAST_TO", "CAST", "EMBEDDING_LOOKUP", "FLOOR_DIV", "FLOOR_MOD", "L2_POOL_2D",
    "SPACE_TO_BATCH_ND", "ARG_MAX", "ARG_MIN", "AVERAGE_POOL_2D", "CEIL", "CONCATENATION", "COS", "CUMSUM",
    "DEPTHWISE_CONV_2D",
    "DEPTH_TO_SPACE", "DEQUANTIZE", "ELU", "EQUAL", "EXP", "FLOOR", "FULLY_CONNECTED", "GATHER", "GATHER_ND", "GELU",
    "GREATER", "GREATER_EQUAL", "HARD_SWISH", "L2_NORMALIZATION", "LEAKY_RELU", "LESS", "LESS_EQUAL", "LOG",
    "LOGICAL_AND", "LOGICAL_NOT", "LOGICAL_OR", "LOGISTIC", "LOG_SOFTMAX", "MAXIMUM", "MAX_POOL_2D", "MINIMUM",
    "MIRROR_PAD", "NEG", "NOT_EQUAL", "PACK", "PAD", "PADV2", "POW", "PRELU", "QUANTIZE", "RELU", "RELU6",
    "RELU_N1_TO_1", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2", "ROUND", "RSQRT", "SELECT_V2", "SIN",
    "SLICE", "SPACE_TO_DEPTH", "SPLIT", "SPLIT_V", "SQRT", "SQUARE", "SQUARED_DIFFERENCE", "STRIDED_SLICE", "TANH",
    "TRANSPOSE", "UNPACK", "ZEROS_LIKE",
    *IN_PLACE,
))  # fmt: skip
# no temporary tensors, with inputs of one type and constants where shapes come from
BEHIND = 16
# kTfLiteTensorAllocationExtraBytes of a dynamic tensor


class NoRule(Exception):
    """The operator, as it stands in this file, has no rule."""


@dataclass(frozen=True, slots=True)
class Node:
    """A call with its tensors."""

    inputs: Sequence[Listed | None]
    outputs: Sequence[Listed]
    options: Mapping[str, object]
    reference: bool
    threads: int = 1

    def constant(self, at: int) -> bool:
        one = self.inputs[at] if at < len(self.inputs) else None
        return one is None or one.stored

    def given(self, at: int) -> Listed:
        one = self.inputs[at] if at < len(self.inputs) else None
        if one is None:
            raise NoRule("an input is absent")
        return one


def _conv(node: Node) -> list[Temporary]:
    """conv.cc: image columns in the built-in kernel, unless the kernel is a point that takes all.

    With several threads a convolution of float32 keeps its weights turned instead.
    """
    image, kernel, out = node.given(0), node.given(1), node.outputs[0]
    hybrid = kind(image) == "float32" and kind(kernel) == "int8"
    if kind(image) != kind(kernel) and not (kind(image) == "int16" and kind(kernel) == "int8") and not hybrid:
        raise NoRule(f"type {kind(image)} with weights of type {kind(kernel)}")
    strides = node.options.get("strides") or (1, 1)
    dilations = node.options.get("dilations") or (1, 1)
    assert isinstance(strides, tuple)
    assert isinstance(dilations, tuple)
    point = kernel.shape[1:3] == (1, 1) and set(strides) == {1} and set(dilations) == {1}
    if hybrid:
        columns = [] if point else [Temporary(math.prod(out.shape[:3]) * math.prod(kernel.shape[1:]))]
        rows = math.prod(image.shape[:3]) * (image.shape[3] // kernel.shape[3])
        own = [*columns, Temporary(image.count), Temporary(4 * rows), Temporary(4 * out.count)]
        if kernel.scales > 1:
            own += [Temporary(4 * rows), Temporary(4 * kernel.shape[0], persistent=True)]
        return own
    if node.reference:
        return []
    if node.threads != 1 and kernel.stored and kind(kernel) == "float32" and set(dilations) == {1}:
        return [Temporary(nbytes_of(kernel), persistent=True)]
    if point:
        return []
    if set(dilations) != {1}:
        raise NoRule("dilation in the built-in kernel")
    width = nbytes_of(image) // max(image.count, 1)
    return [Temporary(math.prod(out.shape[:3]) * math.prod(kernel.shape[1:]) * width)]


def _depthwise(node: Node) -> list[Temporary]:
    """depthwise_conv.cc: the image quantised while it runs, where only the weights are."""
    image, kernel = node.given(0), node.given(1)
    if kind(image) != "float32" or kind(kernel) == "float32":
        return []
    return [Temporary(image.count), Temporary(4 * image.shape[0]), Temporary(4 * image.shape[0])]


def _fully_connected(node: Node) -> list[Temporary]:
    """fully_connected.cc: likewise, with sums of 32 bits and of the weights' rows."""
    image, kernel = node.given(0), node.given(1)
    if kind(image) != "float32" or kind(kernel) == "float32":
        return []
    units, batch = kernel.shape[0], image.count // kernel.shape[1]
    return [
        Temporary(image.count),
        Temporary(4 * batch),
        Temporary(4 * units * batch),
        Temporary(4 * batch),
        Temporary(4 * units, persistent=True),
    ]


def _reduce(node: Node) -> list[Temporary]:
    """reduce.cc, MEAN and SUM: an index, the axes, sums, and sizes that come from the heap while it runs."""
    image, axes, out = node.given(0), node.given(1), node.outputs[0]
    if not axes.stored:
        raise NoRule("axes that only running tells")
    width = {"float32": 4, "int32": 8, "int64": 8, "uint8": 4, "int8": 4, "int16": 4}.get(kind(image))
    if width is None:
        raise NoRule(f"type {kind(image)}")
    return [Temporary(4 * len(image.shape)), Temporary(4 * axes.count), Temporary(width * out.count), Temporary(0)]


def _batch_matmul(node: Node) -> list[Temporary]:
    """batch_matmul.cc: room for both operands transposed, used or not."""
    left, right = node.given(0), node.given(1)
    if kind(left) != kind(right):
        raise NoRule("float activations with quantised weights")
    return [Temporary(nbytes_of(left)), Temporary(nbytes_of(right), persistent=right.stored)]


def _transpose_conv(node: Node) -> list[Temporary]:
    """transpose_conv.cc: the built-in kernel's product and turned weights; sums of quantised types at full width.

    All are dynamic tensors: each lies on the heap for good, with 16 bytes that XNNPACK might read behind it.
    """
    if not node.constant(0):
        raise NoRule("a shape that only running tells")
    weights, image, out = node.given(1), node.given(2), node.outputs[0]
    if kind(image) not in ("float32", "int8", "uint8") or kind(weights) != kind(image):
        raise NoRule(f"type {kind(image)} with weights of type {kind(weights)}")
    sizes = []
    if not node.reference:
        product = 4 * image.shape[1] * image.shape[2] * math.prod(weights.shape[:3])
        sizes += [product, weights.count * (4 if kind(weights) == "float32" else 1)]
    if kind(image) != "float32":
        sizes.append(4 * out.count)
    return [Temporary(one + BEHIND, heap=True) for one in sizes]


def _sequence(node: Node) -> list[Temporary]:
    """unidirectional_sequence_lstm.cc: gates, in 16, 8 and 32 bits where all is quantised."""
    image, weights = node.given(0), node.given(4)
    if kind(image) != kind(weights):
        raise NoRule("float activations with quantised weights")
    steps, batch = (0, 1) if node.options.get("time_major") else (1, 0)
    if len(image.shape) <= max(steps, batch):
        raise NoRule(f"a shape of {len(image.shape)} dimensions")
    cells = image.shape[batch] * weights.shape[0]
    if kind(image) == "int8":
        return [Temporary(cells * width) for width in (2, 2, 2, 2, 1, 4)]
    if kind(image) != "float32":
        raise NoRule(f"type {kind(image)}")
    gates = 3 if node.inputs[1] is None else 4
    return [Temporary(4 * gates * cells)]


def _extreme(node: Node) -> list[Temporary]:
    """reduce.cc, REDUCE_MAX and REDUCE_MIN: no sums."""
    axes = node.given(1)
    if not axes.stored:
        raise NoRule("axes that only running tells")
    return [Temporary(4 * len(node.given(0).shape)), Temporary(4 * axes.count), Temporary(0), Temporary(0)]


def _add_n(node: Node) -> list[Temporary]:
    """add_n.cc with one thread."""
    return [Temporary(nbytes_of(node.given(0)))]


def _svdf(node: Node) -> list[Temporary]:
    """svdf.cc: products with the filters, of int8 the outputs at full width as well."""
    image, filters, out = node.given(0), node.given(1), node.outputs[0]
    if kind(image) != kind(filters):
        raise NoRule("float activations with quantised weights")
    first = Temporary(4 * image.shape[0] * filters.shape[0])
    return [first, Temporary(4 * out.count)] if kind(image) == "int8" else [first]


TEMPORARIES: Mapping[str, Callable[[Node], list[Temporary]]] = {
    "CONV_2D": _conv,
    "MEAN": _reduce,
    "SUM": _reduce,
    "REDUCE_MAX": _extreme,
    "REDUCE_MIN": _extreme,
    "ADD_N": _add_n,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "SVDF": _svdf,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _sequence,
    "BATCH_MATMUL": _batch_matmul,
    "TRANSPOSE_CONV": _transpose_conv,
}
SHAPED = {
    "RESHAPE": 1, "EXPAND_DIMS": 1, "PAD": 1, "PADV2": 1, "MIRROR_PAD": 1, "RESIZE_BILINEAR": 1,
    "RESIZE_NEAREST_NEIGHBOR": 1, "TRANSPOSE": 1, "SPLIT": 0, "ARG_MAX": 1, "ARG_MIN": 1, "BROADCAST_TO": 1,
    "REVERSE_V2": 1,
}  # fmt: skip
# operators whose results are planned only where this input is constant
_SHAPED_BY_ALL = ("SLICE", "STRIDED_SLICE", "SPLIT_V", "BATCH_TO_SPACE_ND", "SPACE_TO_BATCH_ND")


def temporaries(call: Call, body: Body, *, reference: bool, threads: int = 1) -> list[Temporary]:
    tensors = body.tensors
    node = Node(
        [tensors[at] if at >= 0 else None for at in call.inputs],
        [tensors[at] for at in call.outputs],
        call.options,
        reference,
        threads,
    )
    if call.domain != "tflite" or not (call.op_type in PLAIN or call.op_type in TEMPORARIES):
        raise NoRule("its temporary tensors are not known")
    if (
        call.op_type not in ("QUANTIZE", "DEQUANTIZE")
        and node.inputs
        and all(one is None or one.stored for one in node.inputs)
    ):
        raise NoRule("constants alone: some such operators are computed while they are prepared")
    if not node.constant(SHAPED.get(call.op_type, len(node.inputs))) or (
        call.op_type in _SHAPED_BY_ALL and not all(node.constant(at) for at in range(1, len(node.inputs)))
    ):
        raise NoRule("a shape that only running tells")
    if call.op_type == "DEQUANTIZE" and node.constant(0):
        raise NoRule("weights that are unpacked while it runs")
    rule = TEMPORARIES.get(call.op_type)
    try:
        return rule(node) if rule else []
    except IndexError:
        raise NoRule("an input, an output or a dimension is missing") from None


def nbytes_of(one: Listed) -> int:
    if one.dtype is None or one.dtype.bits is None:
        raise GraphError("a tensor of a type without a size", where=one.name)
    if any(size < 0 for size in one.shape):
        raise GraphError(f"a tensor has the shape {list(one.shape)}", where=one.name, expected="sizes of 0 or more")
    return one.dtype.nbytes(one.count) or 0
