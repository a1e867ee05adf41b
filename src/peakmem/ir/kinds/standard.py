"""The operators of ONNX and ONNX Runtime: where their weights stand and what they do.

Keys are `domain:OpType` outside ONNX's own domain.
"""

from __future__ import annotations

from collections.abc import Mapping

MICROSOFT = "com.microsoft:"
NCHWC = "com.microsoft.nchwc:"


# Inputs that hold weights, biases and quantisation data, by position.
WEIGHTS: Mapping[str, tuple[int, ...]] = {
    "Conv": (1,), "ConvTranspose": (1,), "ConvInteger": (1,), "DeformConv": (1,), "QLinearConv": (3,),
    "Gemm": (0, 1), "MatMul": (0, 1), "MatMulInteger": (0, 1), "QLinearMatMul": (0, 3),
    "Gather": (0,), "PRelu": (1,), "Einsum": (0, 1, 2),
    "LSTM": (1, 2, 7), "GRU": (1, 2), "RNN": (1, 2),
    MICROSOFT + "FusedConv": (1,), MICROSOFT + "NhwcFusedConv": (1,), MICROSOFT + "NhwcConv": (1,),
    MICROSOFT + "FusedMatMul": (0, 1), MICROSOFT + "FusedGemm": (0, 1), MICROSOFT + "TransposeMatMul": (0, 1),
    MICROSOFT + "MatMulNBits": (1,), MICROSOFT + "MatMulBnb4": (1,), MICROSOFT + "QLinearConv": (3,),
    MICROSOFT + "QGemm": (3,), MICROSOFT + "DynamicQuantizeMatMul": (1,), MICROSOFT + "MatMulIntegerToFloat": (1,),
    MICROSOFT + "Attention": (1,), MICROSOFT + "QAttention": (1,), MICROSOFT + "DynamicQuantizeLSTM": (1, 2),
    MICROSOFT + "EmbedLayerNormalization": (2, 3, 4), MICROSOFT + "GatherBlockQuantized": (0,),
    NCHWC + "Conv": (1,),
}  # fmt: skip

BIASES: Mapping[str, tuple[int, ...]] = {
    "Conv": (2,), "ConvTranspose": (2,), "DeformConv": (3,), "QLinearConv": (8,), "Gemm": (2,),
    "LSTM": (3,), "GRU": (3,), "RNN": (3,),
    MICROSOFT + "FusedConv": (2,), MICROSOFT + "NhwcFusedConv": (2,), MICROSOFT + "NhwcConv": (2,),
    MICROSOFT + "FusedGemm": (2,), MICROSOFT + "QLinearConv": (8,), MICROSOFT + "QGemm": (6,),
    MICROSOFT + "DynamicQuantizeMatMul": (4,), MICROSOFT + "MatMulIntegerToFloat": (6,),
    MICROSOFT + "Attention": (2,), MICROSOFT + "QAttention": (2,), MICROSOFT + "DynamicQuantizeLSTM": (3,),
    MICROSOFT + "MatMulNBits": (5,), MICROSOFT + "BiasGelu": (1,), MICROSOFT + "FastGelu": (1,),
    MICROSOFT + "BiasAdd": (1,), MICROSOFT + "BiasSplitGelu": (1,), MICROSOFT + "MultiHeadAttention": (3,),
    MICROSOFT + "SkipLayerNormalization": (4,), MICROSOFT + "SkipSimplifiedLayerNormalization": (3,),
    NCHWC + "Conv": (2,),
}  # fmt: skip

NORM_AFFINE: Mapping[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2), "InstanceNormalization": (1, 2), "GroupNormalization": (1, 2),
    "LayerNormalization": (1, 2), "RMSNormalization": (1,), "SimplifiedLayerNormalization": (1,),
    MICROSOFT + "SkipLayerNormalization": (2, 3), MICROSOFT + "SkipSimplifiedLayerNormalization": (2,),
    MICROSOFT + "SimplifiedLayerNormalization": (1,), MICROSOFT + "EmbedLayerNormalization": (5, 6),
    MICROSOFT + "GroupNorm": (1, 2), MICROSOFT + "SkipGroupNorm": (1, 2),
}  # fmt: skip

STATISTICS: Mapping[str, tuple[int, ...]] = {"BatchNormalization": (3, 4)}

QUANTISATION: Mapping[str, tuple[int, ...]] = {
    "QuantizeLinear": (1, 2), "DequantizeLinear": (1, 2), "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7), "MatMulInteger": (2, 3), "ConvInteger": (2, 3),
    MICROSOFT + "QuantizeLinear": (1, 2), MICROSOFT + "DequantizeLinear": (1, 2),
    MICROSOFT + "QLinearConv": (1, 2, 4, 5, 6, 7), MICROSOFT + "QGemm": (1, 2, 4, 5, 7, 8),
    MICROSOFT + "QLinearAdd": (1, 2, 4, 5, 6, 7), MICROSOFT + "QLinearMul": (1, 2, 4, 5, 6, 7),
    MICROSOFT + "QLinearSigmoid": (1, 2, 3, 4), MICROSOFT + "QLinearLeakyRelu": (1, 2, 3, 4),
    MICROSOFT + "QLinearAveragePool": (1, 2, 3, 4), MICROSOFT + "QLinearGlobalAveragePool": (1, 2, 3, 4),
    MICROSOFT + "QLinearSoftmax": (1, 2, 3, 4), MICROSOFT + "MatMulNBits": (2, 3, 4),
    MICROSOFT + "MatMulBnb4": (2,), MICROSOFT + "DynamicQuantizeMatMul": (2, 3),
    MICROSOFT + "MatMulIntegerToFloat": (2, 3, 4, 5), MICROSOFT + "QAttention": (3, 4, 6, 7),
    MICROSOFT + "DynamicQuantizeLSTM": (8, 9, 10, 11), MICROSOFT + "GatherBlockQuantized": (2, 3),
}  # fmt: skip

CONVOLUTIONS = frozenset(
    {
        "Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv", MICROSOFT + "FusedConv",
        MICROSOFT + "NhwcFusedConv", MICROSOFT + "NhwcConv", MICROSOFT + "QLinearConv", NCHWC + "Conv",
    }
)  # fmt: skip
PRODUCTS = frozenset(
    {
        "Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", MICROSOFT + "FusedMatMul", MICROSOFT + "FusedGemm",
        MICROSOFT + "TransposeMatMul", MICROSOFT + "MatMulNBits", MICROSOFT + "MatMulBnb4", MICROSOFT + "QGemm",
        MICROSOFT + "DynamicQuantizeMatMul", MICROSOFT + "MatMulIntegerToFloat",
    }
)  # fmt: skip
NORMALIZATIONS = frozenset(NORM_AFFINE)

ACTIVATIONS = frozenset(
    {
        "Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish",
        "Tanh", "Softplus", "Softsign", "ThresholdedRelu", "Gelu", "Mish", "Swish", "Erf",
        MICROSOFT + "Gelu", MICROSOFT + "FastGelu", MICROSOFT + "QuickGelu", MICROSOFT + "BiasGelu",
    }
)  # fmt: skip
UNARY = ACTIVATIONS | {
    "Abs", "Neg", "Exp", "Log", "Sqrt", "Reciprocal", "Floor", "Ceil", "Round", "Sign", "Sin", "Cos", "Tan",
    "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Not", "BitwiseNot", "Shrink",
}  # fmt: skip
BINARY = frozenset(
    {
        "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "Mod", "And", "Or", "Xor",
        "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitShift", MICROSOFT + "BiasAdd",
        MICROSOFT + "QLinearAdd", MICROSOFT + "QLinearMul",
    }
)  # fmt: skip
ELEMENTWISE = UNARY | BINARY | {"Where"}

VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
# operators whose first output can share the bytes of the first input; see passes.alias for the rest

QUANTIZE = frozenset({"QuantizeLinear", MICROSOFT + "QuantizeLinear"})
DEQUANTIZE = frozenset({"DequantizeLinear", MICROSOFT + "DequantizeLinear"})

SETTINGS = frozenset(
    {
        "Resize", "Upsample", "Pad", "Clip", "Range", "OneHot", "TopK", "NonMaxSuppression", "Slice", "Tile",
        "Expand", "Reshape",
    }
)  # fmt: skip
# operators whose inputs after the first say how to work; none of these is trained

RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
# operators that give other values each run, so that no engine computes them ahead
