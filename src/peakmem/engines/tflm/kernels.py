"""What each kernel of TensorFlow Lite for Microcontrollers takes for itself.

From tensorflow/lite/micro/kernels/*.cc (the reference kernels) and core/api/flatbuffer_conversions.cc of tflite-micro
90b983c (2026-08-20), built with compression as the wheel is (python/tflite_micro/pypi_build.sh). Sizes of structures
are those of a machine with pointers of 8 bytes, printed with sizeof by g++ 12 from those headers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from peakmem.errors import GraphError

PARAMETERS: dict[str, tuple[int, int]] = {
    name: size
    for size, names in {
        (8, 4): "ADD CAST CONCATENATION GATHER IF PACK SUB UNPACK WHILE",
        (4, 4): (
            "ARG_MAX ARG_MIN CALL_ONCE DEPTH_TO_SPACE DIV L2_NORMALIZATION LEAKY_RELU MIRROR_PAD MUL SHAPE SOFTMAX "
            "SPACE_TO_DEPTH SPLIT SPLIT_V"
        ),
        (3, 1): "BATCH_MATMUL",
        (28, 4): "CONV_2D DEPTHWISE_CONV_2D",
        (2, 1): "CUMSUM RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR",
        (32, 8): "FULLY_CONNECTED",
        (16, 4): "UNIDIRECTIONAL_SEQUENCE_LSTM",
        (40, 4): "AVERAGE_POOL_2D L2_POOL_2D MAX_POOL_2D",
        (1, 1): "MEAN REDUCE_ALL REDUCE_MAX REDUCE_MIN SUM",
        (36, 4): "RESHAPE SQUEEZE",
        (24, 4): "STRIDED_SLICE",
        (12, 4): "SVDF",
        (20, 4): "TRANSPOSE_CONV",
        (16, 8): "VAR_HANDLE",
    }.items()
    for name in names.split()
}
# (bytes, alignment) of the options as the parser keeps them; operators without options keep nothing

DATA: dict[str, int] = {
    name: size
    for size, names in {
        1: "SELECT_V2",
        4: "ASSIGN_VARIABLE L2_NORMALIZATION SPACE_TO_BATCH_ND VAR_HANDLE",
        8: "CALL_ONCE IF RELU6 WHILE",
        16: "LOGISTIC TANH",
        20: "HARD_SWISH MIRROR_PAD",
        24: "LEAKY_RELU",
        28: "ABS DIV PRELU RELU RSQRT",
        32: (
            "AVERAGE_POOL_2D BATCH_MATMUL DEQUANTIZE EQUAL GREATER GREATER_EQUAL LESS LESS_EQUAL MAX_POOL_2D NOT_EQUAL "
            "QUANTIZE"
        ),
        36: "MUL SVDF",
        44: "MEAN REDUCE_ALL REDUCE_MAX REDUCE_MIN SUM",
        52: "SUB",
        56: "PAD PADV2",
        60: "ADD",
        72: "FULLY_CONNECTED",
        80: "CONCATENATION CONV_2D DEPTHWISE_CONV_2D SOFTMAX",
        84: "STRIDED_SLICE",
        88: "TRANSPOSE_CONV",
        112: "SQUARED_DIFFERENCE",
        256: "ELU",
        688: "UNIDIRECTIONAL_SEQUENCE_LSTM",
    }.items()
    for name in names.split()
}
# what Init takes, at the tail


MOST_JOINED = 10
# kMaxInputNum (concatenation.cc)
WEIGHTS = {"float32": ("float32",), "int8": ("int8", "int4"), "int16": ("int8",)}
# of convolutions and dense layers, by the type of activations (conv_common.cc, fully_connected.cc)


class Operand(Protocol):
    """A tensor as kernels see it."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def count(self) -> int: ...
    @property
    def scales(self) -> int: ...
    @property
    def type(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Kept:
    """Bytes at the tail, for good."""

    nbytes: int


@dataclass(frozen=True, slots=True)
class Scratch:
    """Bytes at the head while the operator runs."""

    nbytes: int


Step: TypeAlias = "str | Kept | Scratch"
# a text is a tensor described for a moment, in temporary memory: i0 is the first input, o0 the first output


@dataclass(frozen=True, slots=True)
class Node:
    """One call with its tensors; None is an input that is absent."""

    inputs: Sequence[Operand | None]
    outputs: Sequence[Operand]
    options: dict[str, object]

    def input(self, at: int) -> Operand:
        found = self.inputs[at]
        assert found is not None
        return found


Rule: TypeAlias = Callable[[Node], Sequence[Step]]
PREPARE: dict[str, Rule] = {}
# what Prepare takes, step by step

_TEMPORARIES = {
    "": (
        "ARG_MAX ARG_MIN CALL_ONCE FLOOR LOGICAL_AND LOGICAL_OR MAXIMUM MINIMUM NEG PACK SHAPE UNPACK VAR_HANDLE WHILE"
    ),
    "i0": "IF READ_VARIABLE RELU6 SPLIT",
    "i1": "ASSIGN_VARIABLE",
    "i2": "SPLIT_V",
    "i0 o0": (
        "ABS AVERAGE_POOL_2D BATCH_TO_SPACE_ND CAST CEIL COS DEQUANTIZE ELU EXP HARD_SWISH L2_NORMALIZATION LEAKY_RELU "
        "LOG LOGICAL_NOT LOGISTIC MAX_POOL_2D QUANTIZE RELU RESHAPE ROUND RSQRT SIN SPACE_TO_BATCH_ND SQRT SQUARE "
        "SQUEEZE ZEROS_LIKE"
    ),
    "i0 i0 o0": "TANH",
    "i0 i1": "EQUAL GREATER GREATER_EQUAL LESS LESS_EQUAL NOT_EQUAL",
    "i0 i1 o0": (
        "ADD BROADCAST_ARGS BROADCAST_TO DIV EXPAND_DIMS FILL FLOOR_DIV FLOOR_MOD MUL PRELU RESIZE_BILINEAR "
        "RESIZE_NEAREST_NEIGHBOR REVERSE_V2 SQUARED_DIFFERENCE SUB TRANSPOSE"
    ),
    "i0 i1 i2 o0": "DYNAMIC_UPDATE_SLICE PAD PADV2 SELECT_V2 SLICE",
    "i0 i1 i2 i3 o0": "STRIDED_SLICE",
}


def _fixed(steps: tuple[str, ...]) -> Rule:
    return lambda _: steps


for _steps, _names in _TEMPORARIES.items():
    for _name in _names.split():
        PREPARE[_name] = _fixed(tuple(_steps.split()))


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def enter(function: Rule) -> Rule:
        for name in names:
            PREPARE[name] = function
        return function

    return enter


def _dims(tensor: Operand) -> Kept:
    """CreateWritableTensorDimsWithCopy (kernel_util.cc): a size, then the dimensions."""
    return Kept(4 + 4 * len(tensor.shape))


@_rule("ADD_N")
def _add_n(node: Node) -> Sequence[Step]:  # add_n.cc, CalculateOpData
    more = [f"i{at}" for at in range(1, len(node.inputs))]
    kept = [Kept(40)] if node.outputs[0].type == "int8" else []
    return ["i0", "o0", *more, *kept, Scratch(8 * len(node.inputs))]


def _transposed(tensor: Operand) -> list[Step]:  # AllocInitTransposeTensorFromTfLiteTensor
    return [Kept(24), _dims(tensor), Kept(tensor.count * WIDTHS.get(tensor.type, 0))]


@_rule("BATCH_MATMUL")
def _batch_matmul(node: Node) -> Sequence[Step]:  # batch_matmul.cc, InitializeTemporaries
    steps: list[Step] = ["i0", "i1", "o0"]
    left, right = node.input(0), node.input(1)
    if left.type in ("int8", "int16"):
        steps.append(Kept(28))
    if node.options.get("adj_x"):
        steps += _transposed(left)
    if not node.options.get("adj_y"):
        steps += _transposed(right)
    return [*steps, _dims(node.outputs[0])]


@_rule("CONCATENATION")
def _concatenation(node: Node) -> Sequence[Step]:
    if len(node.inputs) > MOST_JOINED:
        raise GraphError(f"TFLM joins {MOST_JOINED} tensors at most, here are {len(node.inputs)}")
    return ["i0", "o0", *(f"i{at}" for at in range(len(node.inputs)))]


def _check_types(node: Node) -> None:
    """Convolutions and dense layers: pairs of types that the engine refuses."""
    image, kernel = node.input(0).type, node.input(1).type
    if kernel not in WEIGHTS.get(image, ()):
        raise GraphError(f"TFLM has no kernel for {image} activations with {kernel} weights")


def _convolution(node: Node, channels: int) -> Sequence[Step]:
    """conv_common.cc, depthwise_conv_common.cc: multiplier and shift of each channel, whatever the type."""
    _check_types(node)
    kernel = node.input(1)
    each = Kept(4 * kernel.shape[channels])
    scratch = [Scratch(kernel.count)] if kernel.type == "int4" else []
    return ["o0", "i0", "i1", each, each, "i0", "i1", "i2", "o0", *scratch]


@_rule("CONV_2D")
def _conv(node: Node) -> Sequence[Step]:
    return _convolution(node, 0)


@_rule("DEPTHWISE_CONV_2D")
def _depthwise(node: Node) -> Sequence[Step]:
    return _convolution(node, 3)


@_rule("CUMSUM")
def _cumsum(node: Node) -> Sequence[Step]:
    return ["i0", "i1", "o0", *([Kept(36)] if node.outputs[0].type == "int8" else [])]


@_rule("DEPTH_TO_SPACE", "SPACE_TO_DEPTH")
def _resized(node: Node) -> Sequence[Step]:
    return ["i0", "o0", _dims(node.outputs[0])]


@_rule("L2_POOL_2D")
def _l2_pool(node: Node) -> Sequence[Step]:
    return ["o0", "i0", _dims(node.outputs[0])]


@_rule("EMBEDDING_LOOKUP")
def _embedding(node: Node) -> Sequence[Step]:
    return ["i0", "i1", "o0", Kept(16), _dims(node.outputs[0])]


@_rule("GATHER", "GATHER_ND")
def _gather(node: Node) -> Sequence[Step]:
    return ["i0", "i1", "o0", _dims(node.outputs[0])]


@_rule("FULLY_CONNECTED")
def _fully_connected(node: Node) -> Sequence[Step]:
    """fully_connected_common.cc: a multiplier and a shift for each scale, where there are several."""
    _check_types(node)
    steps: list[Step] = ["i0", "i1", "i2", "o0"]
    kernel = node.input(1)
    if kernel.type == "int4":
        steps.append(Scratch(kernel.count))
    if node.input(0).type != "float32" and kernel.scales > 1:
        steps += [Kept(4 * kernel.scales)] * 2
    return steps


@_rule("LOG_SOFTMAX")
def _log_softmax(node: Node) -> Sequence[Step]:
    return ["i0", "o0", *([Kept(40)] if node.input(0).type == "int8" else [])]


@_rule("MIRROR_PAD")
def _mirror_pad(node: Node) -> Sequence[Step]:
    each = Scratch(4 * len(node.input(0).shape))
    return ["i0", "i1", "o0", each, each]


def _simple(node: Node) -> list[Step]:  # reduce_common.cc, PrepareSimple
    return ["i0", "i1", *(["o0"] if node.input(0).type == "int8" else [])]


@_rule("MEAN", "SUM")
def _mean(node: Node) -> Sequence[Step]:
    steps: list[Step] = ["i0", "o0", "i1"]
    if node.input(0).type in ("int8", "int16"):
        steps.append(Scratch(4 * node.outputs[0].count))
    return [*steps, Scratch(4 * len(node.input(0).shape)), Scratch(4 * node.input(1).count), *_simple(node)]


@_rule("REDUCE_MAX", "REDUCE_MIN")
def _extreme(node: Node) -> Sequence[Step]:
    scratch = Scratch(4 * len(node.input(0).shape)), Scratch(4 * node.input(1).count)
    return [*_simple(node), "i0", "o0", "i1", *scratch]


@_rule("REDUCE_ALL")
def _all(node: Node) -> Sequence[Step]:
    scratch = Scratch(4 * len(node.input(0).shape)), Scratch(4 * node.input(1).count)
    return ["i0", "o0", "i1", *_simple(node), *scratch]


@_rule("SOFTMAX")
def _softmax(node: Node) -> Sequence[Step]:
    """softmax_common.cc: two tables of LUTSize<int16_t>() = 513 entries for int16."""
    return ["i0", "o0", *([Kept(2 * 513)] * 2 if node.input(0).type == "int16" else [])]


@_rule("SVDF")
def _svdf(node: Node) -> Sequence[Step]:  # svdf_common.cc, PrepareSvdf
    batch, filters = node.input(0).shape[0], node.input(1).shape[0]
    steps: list[Step] = ["i0", "i1", "i2", "i3", "i4", "o0", Scratch(4 * batch * filters)]
    if node.input(0).type == "int8":
        steps.append(Scratch(4 * node.outputs[0].count))
    return steps


@_rule("TRANSPOSE_CONV")
def _transpose_conv(node: Node) -> Sequence[Step]:
    """transpose_conv.cc: inputs are the output's shape, weights, image and bias; sums at full width are scratch."""
    image, kernel = node.input(2), node.input(1)
    each = Kept(4 * kernel.shape[0])
    steps: list[Step] = ["o0", "i2", "i1", each, each]
    wide = {"int8": 4, "int16": 8}.get(image.type)
    if wide:
        steps.append(Scratch(wide * node.outputs[0].count))
    if image.type != "float32":
        steps += ["i2", "i1", "i3", "o0"]
        bias = node.inputs[3] if len(node.inputs) > 3 else None
        if image.type == "int16" and bias is not None and bias.type == "int16":
            steps.append(Scratch(8 * bias.count))
    return steps


@_rule("UNIDIRECTIONAL_SEQUENCE_LSTM")
def _lstm(node: Node) -> Sequence[Step]:
    """unidirectional_sequence_lstm.cc: four buffers of batch × state in the type of the cell state, input 19."""
    image, state, cell = node.input(0), node.input(18), node.input(19)
    batch = image.shape[1 if node.options.get("time_major") else 0]
    each = Scratch(batch * state.shape[1] * WIDTHS.get(cell.type, 0))
    return [*(f"i{at}" for at in range(24)), "o0", each, each, each, each]


WIDTHS = {
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "int16": 2, "int32": 4, "uint32": 4, "uint8": 1,
    "uint16": 2, "int8": 1, "int64": 8, "uint64": 8, "bool": 1, "resource": 4, "complex64": 8, "complex128": 16,
    "int4": 1,
}  # fmt: skip
# TfLiteTypeSizeOf (memory_helpers.cc): four bits take a byte


def nbytes(shape: Sequence[int], type_name: str) -> int | None:
    """Bytes of a tensor (TfLiteEvalTensorByteLength); None for a type that the engine refuses."""
    width = WIDTHS.get(type_name)
    return None if width is None else math.prod(shape) * width


OTHERS = frozenset({
    "CIRCULAR_BUFFER", "TFLM_DECODE", "TFLite_Detection_PostProcess", "SignalDelay", "SignalEnergy",
    "SignalFftAutoScale",
    "SignalFilterBank", "SignalFilterBankLog", "SignalFilterBankSpectralSubtraction", "SignalFilterBankSquareRoot",
    "SignalFramer", "SignalIrfft", "SignalOverlapAdd", "SignalPCAN", "SignalRfft", "SignalStacker", "SignalWindow",
})  # fmt: skip
# custom operators that the wheel has (python_ops_resolver.cc) and no rule is written for
