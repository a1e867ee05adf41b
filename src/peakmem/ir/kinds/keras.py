"""Keras 3: layer class names; inputs are the layer's, then its weights, in ONNX's order where ONNX has the operator.

Functions of keras.ops have the names of their classes. An activation of a layer stands as an
operator of its own, named like the function.
"""

from __future__ import annotations

from collections.abc import Mapping

from peakmem.ir.kinds.domain import DomainKinds

UNTRAINED = frozenset(
    {
        "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout", "GaussianDropout",
        "GaussianNoise", "ActivityRegularization", "Identity", "RandomFlip", "RandomRotation", "RandomTranslation",
        "RandomZoom", "RandomContrast", "RandomBrightness", "RandomHeight", "RandomWidth", "RandomHue",
        "RandomSaturation", "RandomColorJitter", "RandomColorDegeneration", "RandomGrayscale", "RandomPosterization",
        "RandomSharpness", "RandomShear", "RandomGaussianBlur", "RandomInvert", "RandomErasing", "RandomPerspective",
        "RandomElasticTransform", "RandAugment", "AugMix", "CutMix", "MixUp", "Solarization",
        "Equalization", "RandomApply", "RandomChoice", "Pipeline", "RandomSpectralAugment",
    }
)  # fmt: skip
# layers that hand on their input when they do not train
IDENTITIES = UNTRAINED | {"StopGradient", "ConvertToTensor", "Copy", "Array"}

_SAME_ACTIVATIONS: Mapping[str, str] = {
    "Relu": "Relu", "ReLU": "Relu", "Relu6": "Clip", "Sigmoid": "Sigmoid", "Tanh": "Tanh", "Elu": "Elu", "ELU": "Elu",
    "Selu": "Selu", "Celu": "Celu", "Gelu": "Gelu", "Silu": "Swish", "Mish": "Mish", "Softplus": "Softplus",
    "Softsign": "Softsign", "HardSigmoid": "HardSigmoid", "HardSilu": "HardSwish", "LeakyRelu": "LeakyRelu",
    "LeakyReLU": "LeakyRelu", "ThresholdedReLU": "ThresholdedRelu", "PReLU": "PRelu", "Clip": "Clip", "Erf": "Erf",
}  # fmt: skip
_OWN_ACTIVATIONS = frozenset(
    {
        "Activation",
        "HardTanh",
        "LogSigmoid",
        "Squareplus",
        "SoftShrink",
        "HardShrink",
        "TanhShrink",
        "Threshold",
        "SparsePlus",
        "SparseSigmoid",
    }
)
ACTIVATIONS = frozenset(_SAME_ACTIVATIONS) | _OWN_ACTIVATIONS

_SAME_UNARY: Mapping[str, str] = {
    "Absolute": "Abs", "Negative": "Neg", "Exp": "Exp", "Log": "Log", "Sqrt": "Sqrt", "Reciprocal": "Reciprocal",
    "Floor": "Floor", "Ceil": "Ceil", "Round": "Round", "Sign": "Sign", "Sin": "Sin", "Cos": "Cos", "Tan": "Tan",
    "LogicalNot": "Not",
}  # fmt: skip
_OWN_UNARY = frozenset(
    {
        "Square", "Rsqrt", "Log1p", "Expm1", "Log10", "Log2", "Exp2", "Sinh", "Cosh", "Arcsin", "Arccos", "Arctan",
        "Arcsinh", "Arccosh", "Arctanh", "Erfinv", "Trunc", "NanToNum", "Cbrt", "OnesLike", "ZerosLike", "Tril", "Triu",
    }
)  # fmt: skip
KEEPING = frozenset({"Cumsum", "Cumprod", "Roll", "AutoContrast", "ContrastLimitedAdaptiveHistogramEqualization"})
# not elementwise, but of the shape they are given
UNARY = frozenset(_SAME_UNARY) | _OWN_UNARY

_BINARY: Mapping[str, str] = {
    "Add": "Add", "Subtract": "Sub", "Multiply": "Mul", "Divide": "Div", "TrueDivide": "Div", "Power": "Pow",
    "Maximum": "Max", "Minimum": "Min", "Average": "Mean", "Mod": "Mod", "LogicalAnd": "And", "LogicalOr": "Or",
    "LogicalXor": "Xor",
}  # fmt: skip

_CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D", "Conv")
_DEPTHWISE = ("DepthwiseConv1D", "DepthwiseConv2D", "DepthwiseConv")
_TRANSPOSED = ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
_RECURRENT = ("LSTM", "GRU", "SimpleRNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
_CELLS = tuple(range(16))
# an RNN layer with several cells reads three weights of each

KINDS = DomainKinds(
    "keras",
    same={
        **dict.fromkeys((*_CONVOLUTIONS, *_DEPTHWISE), "Conv"),
        **dict.fromkeys(_TRANSPOSED, "ConvTranspose"),
        "MaxPool": "MaxPool", "AveragePool": "AveragePool",
        **{f"{form}Pooling{rank}D": f"{form}Pool" for form in ("Max", "Average") for rank in (1, 2, 3)},
        **{f"Global{form}Pooling{rank}D": f"Global{form}Pool" for form in ("Max", "Average") for rank in (1, 2, 3)},
        **{f"ZeroPadding{rank}D": "Pad" for rank in (1, 2, 3)},
        **dict.fromkeys(IDENTITIES, "Identity"),
        "Dropout": "Dropout", "Embedding": "Gather", "Matmul": "MatMul", "Einsum": "Einsum",
        "BatchNormalization": "BatchNormalization", "LayerNormalization": "LayerNormalization",
        "GroupNormalization": "GroupNormalization", "RMSNormalization": "RMSNormalization",
        "Softmax": "Softmax", "LogSoftmax": "LogSoftmax", "Concatenate": "Concat", "Flatten": "Flatten",
        "Reshape": "Reshape", "Squeeze": "Squeeze", "ExpandDims": "Unsqueeze", "Where": "Where",
        "Permute": "Transpose", "Transpose": "Transpose", "Cast": "Cast", "Pad": "Pad", "Tile": "Tile",
        "Split": "Split", "Take": "Gather", "OneHot": "OneHot",
        **_SAME_ACTIVATIONS, **_SAME_UNARY, **_BINARY,
    },
    weights={
        "Dense": (1,), "EinsumDense": (1,), "QuantizedEmbedding": (0,), "ReversibleEmbedding": (1,),
        "STFTSpectrogram": (1, 2),
        **dict.fromkeys(_RECURRENT, (1, 2)),
        "RNN": tuple(place for cell in _CELLS for place in (3 * cell + 1, 3 * cell + 2)),
    },
    biases={
        "Dense": (2,), "EinsumDense": (2,), **dict.fromkeys(_RECURRENT, (3,)),
        "RNN": tuple(3 * cell + 3 for cell in _CELLS),
    },
    quantisation={
        "Dense": (3, 4, 5), "EinsumDense": (3, 4, 5), "QuantizedEmbedding": (2, 3, 4), "ReversibleEmbedding": (2, 3, 4),
    },
    # scale, offset and block of each feature
    layouts={
        **dict.fromkeys(_CONVOLUTIONS, "*IO"), **dict.fromkeys(_DEPTHWISE, "*IM"), **dict.fromkeys(_TRANSPOSED, "*OI"),
        **dict.fromkeys(("LSTM", "GRU", "SimpleRNN", "RNN"), "IO"),
        **dict.fromkeys(("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"), "*IO"),
        "Dense": "IO", "ReversibleEmbedding": "OI",
    },
    products=frozenset({"Dense", "EinsumDense", "ReversibleEmbedding"}),
    recurrent=frozenset((*_RECURRENT, "RNN")),
    activations=_OWN_ACTIVATIONS,
    unary=_OWN_UNARY | {"Rescaling", "Normalization"},
    views=frozenset({"TimeDistributed"}),
)  # fmt: skip
