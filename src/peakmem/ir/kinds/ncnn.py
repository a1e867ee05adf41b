"""ncnn: layer type names; inputs are the blobs and the weights where ONNX has them, see `frontends.ncnn.operators`.

A layer that ncnn runs in place and that treats each element by itself stands among the unary ones.
Reshape, Squeeze and ExpandDims share the bytes of their bottom where the channel step allows it;
Flatten copies.
"""

from __future__ import annotations

from peakmem.ir.kinds.domain import DomainKinds

_CONVOLUTIONS = (
    "Convolution", "Convolution1D", "Convolution3D", "ConvolutionDepthWise", "ConvolutionDepthWise1D",
    "ConvolutionDepthWise3D",
)  # fmt: skip
_DECONVOLUTIONS = (
    "Deconvolution", "Deconvolution1D", "Deconvolution3D", "DeconvolutionDepthWise", "DeconvolutionDepthWise1D",
    "DeconvolutionDepthWise3D",
)  # fmt: skip

KINDS = DomainKinds(
    "ncnn",
    same={
        **dict.fromkeys(_CONVOLUTIONS, "Conv"),
        **dict.fromkeys(_DECONVOLUTIONS, "ConvTranspose"),
        "CELU": "Celu",
        "Clip": "Clip",
        "DeformableConv2D": "DeformConv",
        "Dequantize": "DequantizeLinear",
        "ELU": "Elu",
        "Erf": "Erf",
        "GELU": "Gelu",
        "GRU": "GRU",
        "Gemm": "Gemm",
        "GroupNorm": "GroupNormalization",
        "HardSigmoid": "HardSigmoid",
        "HardSwish": "HardSwish",
        "InnerProduct": "Gemm",
        "InstanceNorm": "InstanceNormalization",
        "LSTM": "LSTM",
        "LayerNorm": "LayerNormalization",
        "MatMul": "MatMul",
        "Mish": "Mish",
        "PReLU": "PRelu",
        "Quantize": "QuantizeLinear",
        "RMSNorm": "RMSNormalization",
        "RNN": "RNN",
        "ReLU": "LeakyRelu",
        "SELU": "Selu",
        "Shrink": "Shrink",
        "Sigmoid": "Sigmoid",
        "Softplus": "Softplus",
        "Swish": "Swish",
        "TanH": "Tanh",
        "Threshold": "ThresholdedRelu",
    },
    weights={"Embed": (1,), "MultiHeadAttention": (6, 8, 10, 12)},
    biases={
        "Bias": (1,),
        "Embed": (2,),
        "MultiHeadAttention": (7, 9, 11, 13),
        "Requantize": (3,),
        "Dequantize": (2,),
    },
    norm_affine={"BatchNorm": (1, 2), "Normalize": (1,), "Scale": (1, 2)},
    statistics={"BatchNorm": (3, 4)},
    quantisation={
        **dict.fromkeys(_CONVOLUTIONS, (3, 4, 5)),
        "Embed": (3,),
        "GRU": (8, 9),
        "Gemm": (3, 4),
        "InnerProduct": (3, 4),
        "LSTM": (8, 9),
        "MultiHeadAttention": tuple(range(14, 22)),
        "Quantize": (1,),
        "RNN": (8, 9),
        "Requantize": (1, 2),
    },
    layouts={"InnerProduct": "OI", "MultiHeadAttention": "OI", "Embed": "IO"},
    activations=frozenset(("BNLL",)),
    unary=frozenset(("AbsVal", "BatchNorm", "Bias", "Exp", "Log", "Power", "Scale", "UnaryOp")),
    binary=frozenset(("BinaryOp", "Eltwise")),
    views=frozenset(("Dropout", "ExpandDims", "Noop", "Reshape", "Squeeze")),
    settings=frozenset(("Padding",)),
)
