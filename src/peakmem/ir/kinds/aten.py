"""PyTorch: ATen operator names without overload, as torch.export and a dispatch trace write them.

Inputs are the tensors of a call in the order of its schema, lists spread out. Recurrent
operators have theirs as `torch.graph` lays them out: what they read, then groups of four
(two matrices, two biases), then projections on the places of matrices.
"""

from __future__ import annotations

from collections.abc import Iterable

from peakmem.ir.kinds.domain import DomainKinds

RECURRENT_FIRST = {"lstm": 3, "gru": 2, "rnn_tanh": 2, "rnn_relu": 2}
# where the groups of a recurrent operator start
_MOST_GROUPS = 64

_UNARY_OF_ONNX = {
    "relu": "Relu", "relu6": "Clip", "hardtanh": "Clip", "clamp": "Clip", "clamp_min": "Clip", "clamp_max": "Clip",
    "clip": "Clip", "leaky_relu": "LeakyRelu", "elu": "Elu", "selu": "Selu", "celu": "Celu", "sigmoid": "Sigmoid",
    "hardsigmoid": "HardSigmoid", "hardswish": "HardSwish", "tanh": "Tanh", "softplus": "Softplus",
    "threshold": "ThresholdedRelu", "gelu": "Gelu", "mish": "Mish", "silu": "Swish", "erf": "Erf", "abs": "Abs",
    "neg": "Neg", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "reciprocal": "Reciprocal", "floor": "Floor",
    "ceil": "Ceil", "round": "Round", "sign": "Sign", "sin": "Sin", "cos": "Cos", "tan": "Tan", "asin": "Asin",
    "acos": "Acos", "atan": "Atan", "sinh": "Sinh", "cosh": "Cosh", "logical_not": "Not",
    "bitwise_not": "BitwiseNot", "hardshrink": "Shrink", "softshrink": "Shrink",
}  # fmt: skip
_BINARY_OF_ONNX = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow", "maximum": "Max", "minimum": "Min",
    "fmod": "Mod", "remainder": "Mod", "logical_and": "And", "logical_or": "Or", "logical_xor": "Xor",
    "bitwise_and": "BitwiseAnd", "bitwise_or": "BitwiseOr", "bitwise_xor": "BitwiseXor", "subtract": "Sub",
    "multiply": "Mul", "divide": "Div", "true_divide": "Div",
}  # fmt: skip
_UNARY = (
    "rsqrt", "square", "exp2", "expm1", "log2", "log10", "log1p", "erfc", "erfinv", "trunc", "frac", "sgn", "absolute",
    "negative", "nan_to_num", "arctan", "sinc", "asinh", "acosh", "atanh", "lgamma", "digamma",
)  # fmt: skip
_BINARY = (
    "atan2", "floor_divide", "rsub", "addcmul", "addcdiv", "lerp", "hypot", "copysign", "masked_fill", "xlogy",
    "logaddexp", "logaddexp2",
)  # fmt: skip


def _in_place(names: Iterable[str]) -> tuple[str, ...]:
    """`names` and their variants that write on their first input."""
    return tuple(form for name in names for form in (name, f"{name}_"))


def _biases(first: int) -> tuple[int, ...]:
    return tuple(first + 4 * group + part for group in range(_MOST_GROUPS) for part in (2, 3))


def _matrices(first: int) -> tuple[int, ...]:
    return tuple(first + 4 * group + part for group in range(_MOST_GROUPS) for part in (0, 1))


_NORMS = {
    "batch_norm": "BatchNormalization", "native_batch_norm": "BatchNormalization",
    "_native_batch_norm_legit": "BatchNormalization", "_native_batch_norm_legit_functional": "BatchNormalization",
    "_native_batch_norm_legit_no_training": "BatchNormalization", "cudnn_batch_norm": "BatchNormalization",
    "miopen_batch_norm": "BatchNormalization", "_batch_norm_with_update": "BatchNormalization",
    "_batch_norm_no_update": "BatchNormalization", "_batch_norm_impl_index": "BatchNormalization",
    "layer_norm": "LayerNormalization", "native_layer_norm": "LayerNormalization",
    "group_norm": "GroupNormalization", "native_group_norm": "GroupNormalization",
    "rms_norm": "RMSNormalization", "_fused_rms_norm": "RMSNormalization",
}  # fmt: skip

KINDS = DomainKinds(
    "aten",
    same={
        **{form: onnx for name, onnx in {**_UNARY_OF_ONNX, **_BINARY_OF_ONNX}.items() for form in _in_place((name,))},
        **_NORMS,
        "conv1d": "Conv", "conv2d": "Conv", "conv3d": "Conv", "convolution": "Conv", "_convolution": "Conv",
        "_conv_depthwise2d": "Conv", "conv_depthwise3d": "Conv", "mkldnn_convolution": "Conv",
        "conv_transpose1d": "ConvTranspose", "conv_transpose2d": "ConvTranspose", "conv_transpose3d": "ConvTranspose",
        "linear": "Gemm", "mm": "MatMul", "bmm": "MatMul", "matmul": "MatMul", "mv": "MatMul", "dot": "MatMul",
        "_int_mm": "MatMul", "einsum": "Einsum", "embedding": "Gather", "prelu": "PRelu", "_prelu_kernel": "PRelu",
        "max_pool1d": "MaxPool", "max_pool2d": "MaxPool", "max_pool3d": "MaxPool",
        "max_pool2d_with_indices": "MaxPool", "max_pool3d_with_indices": "MaxPool",
        "avg_pool1d": "AveragePool", "avg_pool2d": "AveragePool", "avg_pool3d": "AveragePool",
        "cat": "Concat", "concat": "Concat", "softmax": "Softmax", "_softmax": "Softmax", "_safe_softmax": "Softmax",
        "log_softmax": "LogSoftmax", "_log_softmax": "LogSoftmax",
        "where": "Where", "transpose": "Transpose", "permute": "Transpose", "t": "Transpose", "slice": "Slice",
        "view": "Reshape", "_unsafe_view": "Reshape", "squeeze": "Squeeze", "unsqueeze": "Unsqueeze",
        "expand": "Expand", "arange": "Range", "gather": "GatherElements", "index_select": "Gather",
    },
    weights={
        "addmm": (1, 2), "baddbmm": (1, 2), "addbmm": (1, 2), "addmv": (1, 2), "bilinear": (2,),
        "_addmm_activation": (1, 2),
        "embedding_bag": (0,), "_embedding_bag": (0,), "_embedding_bag_forward_only": (0,),
        "deform_conv2d": (1,), "_grouped_mm": (1,), "_scaled_mm": (1,), "_weight_int8pack_mm": (1,),
        "_weight_int4pack_mm": (1,), "mkldnn_rnn_layer": (1, 2),
        **{name: _matrices(first) for name, first in RECURRENT_FIRST.items()},
        "lstm_cell": (3, 4), "gru_cell": (2, 3), "rnn_tanh_cell": (2, 3), "rnn_relu_cell": (2, 3),
    },
    biases={
        "addmm": (0,), "baddbmm": (0,), "addmv": (0,), "_addmm_activation": (0,), "bilinear": (3,),
        "mkldnn_rnn_layer": (3, 4),
        **{name: _biases(first) for name, first in RECURRENT_FIRST.items()},
        "lstm_cell": (5, 6), "gru_cell": (4, 5), "rnn_tanh_cell": (4, 5), "rnn_relu_cell": (4, 5),
    },
    norm_affine={"instance_norm": (1, 2)},
    statistics={"instance_norm": (3, 4)},
    quantisation={"_scaled_mm": (2, 3), "_weight_int8pack_mm": (2,), "_weight_int4pack_mm": (2,)},
    layouts={
        "linear": "OI", "addmm": "IO", "_addmm_activation": "IO", "baddbmm": "*IO",
        "_weight_int8pack_mm": "OI", "mv": "OI",
    },
    products=frozenset(
        {"addmm", "baddbmm", "addbmm", "addmv", "_addmm_activation", "_scaled_mm", "_grouped_mm",
         "_weight_int8pack_mm", "_weight_int4pack_mm"}
    ),
    recurrent=frozenset(
        {*RECURRENT_FIRST, "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell", "mkldnn_rnn_layer"}
    ),
    activations=frozenset(_in_place(("log_sigmoid", "softsign", "rrelu", "logit", "tanhshrink"))),
    unary=frozenset(_in_place(_UNARY)),
    binary=frozenset(_in_place(_BINARY)),
    random=frozenset(
        {"rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "bernoulli", "multinomial",
         "normal", "uniform", "exponential", "native_dropout", "bernoulli_", "normal_", "uniform_"}
    ),
)  # fmt: skip
