"""Layers as ncnn sees them: what they read, what they accept, and what their own structures take.

Sources: constructors and `load_param` in `src/layer/*.cpp` and `src/layer/x86/*.cpp`, Net::load_param in `src/net.cpp`,
commit a4d2ea1d (2026-07-22). Sizes of structures are a table, measured in 1.0.20261020 (x86_64) with the allocation
counter: a .param of an Input and one layer of the type, the first block that its loading asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peakmem.dtypes import DType
from peakmem.engines.ncnn.heap import OVERREAD
from peakmem.engines.ncnn.mat import Sizes, mat_bytes
from peakmem.errors import GraphError
from peakmem.ir.graph import Graph, Operator

STRUCTURES: Mapping[str, int] = {
    "Input": 232, "AbsVal": 216, "BatchNorm": 752, "Bias": 312, "BinaryOp": 232, "BNLL": 216, "CELU": 224, "Cast": 224,
    "Clip": 224, "Concat": 224, "Convolution": 1368, "Convolution1D": 616, "Convolution3D": 560,
    "ConvolutionDepthWise": 944, "ConvolutionDepthWise1D": 536, "ConvolutionDepthWise3D": 568, "CopyTo": 408,
    "Crop": 624, "CumulativeSum": 224, "Deconvolution": 664, "Deconvolution1D": 536, "Deconvolution3D": 584,
    "DeconvolutionDepthWise": 680, "DeconvolutionDepthWise1D": 536, "DeconvolutionDepthWise3D": 584, "DeepCopy": 216,
    "DeformableConv2D": 640, "Dequantize": 400, "DetectionOutput": 256, "Diag": 224, "Dropout": 224, "ELU": 224,
    "Einsum": 272, "Eltwise": 312, "Embed": 424, "Erf": 216, "Exp": 232, "ExpandDims": 304, "Flatten": 216,
    "Flip": 304, "Fold": 264, "GELU": 224, "GLU": 224, "GRU": 672, "Gemm": 1296, "GridSample": 232, "GroupNorm": 408,
    "HardSigmoid": 232, "HardSwish": 232, "InnerProduct": 864, "InstanceNorm": 408, "Interp": 280,
    "InverseSpectrogram": 336, "LRN": 240, "LSTM": 1208, "LayerNorm": 408, "Log": 232, "MVN": 232, "MatMul": 232,
    "MemoryData": 328, "Mish": 216, "MultiHeadAttention": 1992, "Noop": 216, "Normalize": 328, "PReLU": 312,
    "PSROIPooling": 232, "Packing": 232, "Padding": 536, "Permute": 224, "PixelShuffle": 224, "Pooling": 280,
    "Pooling1D": 256, "Pooling3D": 296, "Power": 232, "PriorBox": 528, "Proposal": 504, "Quantize": 312,
    "RMSNorm": 320, "RNN": 672, "ROIAlign": 240, "ROIPooling": 232, "ReLU": 224, "Reduction": 328, "Reorg": 224,
    "Requantize": 584, "Reshape": 280, "RotaryEmbed": 224, "SDPA": 256, "SELU": 224, "Scale": 400, "Shrink": 224,
    "ShuffleChannel": 224, "Sigmoid": 216, "Slice": 400, "Softmax": 224, "Softplus": 216, "Spectrogram": 344,
    "Split": 216, "Squeeze": 320, "StatisticsPooling": 224, "Swish": 216, "TanH": 216, "Threshold": 224, "Tile": 312,
    "Unfold": 264, "UnaryOp": 224, "YoloDetectionOutput": 328, "Yolov3DetectionOutput": 512,
}  # fmt: skip
LARGEST_COMMON = 232
# taken for a type that is not in the table

INPLACE = frozenset((
    "AbsVal", "BatchNorm", "Bias", "BNLL", "CELU", "Clip", "CumulativeSum", "Dropout", "ELU", "Erf", "Exp", "GELU",
    "GroupNorm", "HardSigmoid", "HardSwish", "InstanceNorm", "LRN", "LayerNorm", "Log", "Mish", "Noop", "Normalize",
    "PReLU", "Power", "RMSNorm", "ReLU", "SELU", "Scale", "Shrink", "Sigmoid", "Softmax", "Softplus", "Swish", "TanH",
    "Threshold", "UnaryOp", "YoloDetectionOutput",
))  # fmt: skip
PACKED = frozenset((
    "AbsVal", "BNLL", "BatchNorm", "BinaryOp", "Cast", "Clip", "Concat", "Convolution", "Convolution1D",
    "ConvolutionDepthWise", "Crop", "Deconvolution", "DeconvolutionDepthWise", "DeepCopy", "DeformableConv2D",
    "Dequantize", "Dropout", "ELU", "Eltwise", "Erf", "Flatten", "GELU", "Gemm", "GridSample", "GroupNorm",
    "HardSigmoid", "HardSwish", "InnerProduct", "Interp", "LayerNorm", "Mish", "MultiHeadAttention", "Noop",
    "Normalize", "PReLU", "Packing", "Padding", "Permute", "Pooling", "Quantize", "RMSNorm", "ReLU", "Requantize",
    "Reshape", "SELU", "Scale", "ShuffleChannel", "Sigmoid", "Slice", "Softmax", "Split", "Swish", "TanH", "UnaryOp",
))  # fmt: skip
# they accept packed blobs; the others get channels one by one
ANY_PACKING = frozenset(("Clip", "HardSigmoid", "Permute"))
# they take a blob as it comes
BF16 = frozenset((
    "AbsVal", "BNLL", "BatchNorm", "BinaryOp", "Clip", "Concat", "Convolution", "Convolution1D", "Crop",
    "Deconvolution", "Dequantize", "Dropout", "ELU", "Eltwise", "Erf", "Flatten", "GELU", "Gemm", "GroupNorm",
    "HardSigmoid", "HardSwish", "InnerProduct", "InstanceNorm", "Interp", "LayerNorm", "Mish", "MultiHeadAttention",
    "Noop", "PReLU", "Packing", "Padding", "Permute", "Pooling", "Quantize", "RMSNorm", "ReLU", "Reshape",
    "RotaryEmbed", "SDPA", "SELU", "Scale", "Sigmoid", "Slice", "Softmax", "Split", "Swish", "TanH", "UnaryOp",
))  # fmt: skip
SEVERAL = frozenset((
    "BinaryOp", "Concat", "CopyTo", "DeformableConv2D", "DetectionOutput", "Einsum", "Eltwise", "GRU", "Gemm",
    "GridSample", "LSTM", "MatMul", "MemoryData", "MultiHeadAttention", "Noop", "PSROIPooling", "PriorBox",
    "Proposal", "RNN", "ROIAlign", "ROIPooling", "RotaryEmbed", "SDPA", "Slice", "Split", "YoloDetectionOutput",
    "Yolov3DetectionOutput",
))  # fmt: skip
# not one_blob_only: their forward takes lists

_WINDOWS = frozenset(("kernel_shape", "strides", "dilations", "pads"))
# attributes that the file has as single numbers
SMALL_STRING = 15
# characters that std::string keeps in itself
BLOCKED = 400
# quantize_term of a Gemm from which on its weights are quantised in blocks
MAT = 88
# sizeof(Mat)
BLOB = 128
# sizeof(Blob)


@dataclass(frozen=True, slots=True)
class Weight:
    """An array of the .bin file."""

    name: str
    count: int
    sizes: Sizes
    dtype: DType | None


@dataclass(frozen=True, slots=True)
class Layer:
    """One line of a .param."""

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    values: Mapping[str, Any]
    weights: tuple[Weight, ...]

    @property
    def title(self) -> str:
        """For a reader."""
        return f"{self.name} ({self.type})"

    @property
    def several(self) -> bool:
        """Whether its forward takes lists of blobs."""
        if self.type == "BinaryOp" and self.values.get("with_scalar"):
            return False
        if self.type == "Gemm":
            return len(self.bottoms) != 1 or len(self.tops) != 1
        return self.type in SEVERAL or len(self.bottoms) != 1 or len(self.tops) != 1

    @property
    def inplace(self) -> bool:
        """Whether it can work in the memory of what it reads."""
        if self.type == "BinaryOp":
            return bool(self.values.get("with_scalar"))
        return self.type in INPLACE

    @property
    def int8(self) -> bool:
        """Whether it has int8 weights, in the file or from the moment it is loaded."""
        if self.type in ("Gemm", "MultiHeadAttention"):
            term = self.number("quantize_term")
            return 0 < term < BLOCKED
        return bool(self.values.get("int8_scale_term"))

    @property
    def block_bits(self) -> int:
        """Bits of a weight of a Gemm that is quantised in blocks, 0 where it is not."""
        term = self.number("quantize_term") if self.type == "Gemm" else 0
        return term // 100 if term >= BLOCKED else 0

    @property
    def block_size(self) -> int:
        """Weights of such a block."""
        return 32 << self.number("quantize_term") % 10

    def weight(self, name: str) -> Weight | None:
        """The array called `name`, None where the layer has none."""
        return next((one for one in self.weights if one.name == name), None)

    def number(self, name: str, default: int = 0) -> int:
        """A parameter that is a whole number."""
        return int(self.values.get(name, default))


def layer_of(graph: Graph, operator: Operator) -> Layer:
    """An operator of an ncnn graph as the layer it was read from."""
    bottoms, weights = [], []
    for name in operator.inputs:
        if not name:
            continue
        tensor = graph.tensors[name]
        if tensor.role != "constant":
            bottoms.append(name)
        elif not name.endswith(".table"):
            sizes = numbers(tensor.shape, name)
            count = 1
            for size in sizes:
                count *= size
            weights.append(Weight(name.removeprefix(operator.name + ".").rstrip("~"), count, sizes, tensor.dtype))
    return Layer(
        operator.name, operator.op_type, tuple(bottoms), operator.outputs, operator.attributes, tuple(weights)
    )  # fmt: skip


def numbers(shape: Any, name: str) -> Sizes:
    """A shape of numbers.

    Raises:
        GraphError: a dimension is not known.
    """
    if shape is None or any(not isinstance(dim, int) for dim in shape):
        raise GraphError("its shape is not known, so ncnn's memory cannot be told", where=f"blob {name!r}")
    return tuple(shape) or (1,)


def structure_bytes(layer: Layer) -> int:
    """What Net::load_param keeps of one layer: its structure, lists of blobs and their shapes, arrays, long names."""
    bottoms, tops = len(layer.bottoms), len(layer.tops)
    total = STRUCTURES.get(layer.type, LARGEST_COMMON) + (4 + MAT) * (bottoms + tops)
    total += string_bytes(layer.type) + string_bytes(layer.name)
    for name, value in layer.values.items():
        if isinstance(value, tuple) and value and name not in _WINDOWS:
            total += mat_bytes((len(value),), 4) + OVERREAD
    return total


def string_bytes(text: str) -> int:
    """What a std::string asks of malloc."""
    return len(text) + 1 if len(text) > SMALL_STRING else 0
