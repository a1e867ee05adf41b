"""pnnx: PyTorch's modules and functions by the names pnnx gives them; inputs are operands, then weights.

Weights stand where ONNX has them for operators in `same`. Those of others stand at even positions
from WEIGHT_SLOT on, their biases at odd ones from BIAS_SLOT on.
"""

from __future__ import annotations

from collections.abc import Mapping

from peakmem.ir.kinds.domain import DomainKinds

WEIGHT_SLOT, BIAS_SLOT = 6, 7
_MOST = 512

_CONV = {"weight": 1, "bias": 2}
_BATCH = {"weight": 1, "bias": 2, "running_mean": 3, "running_var": 4}
_AXES = ("1d", "2d", "3d")

NAMED_SLOTS: Mapping[str, Mapping[str, int]] = {
    **{f"nn.{name}{axes}": _CONV for name in ("Conv", "ConvTranspose") for axes in _AXES},
    **{f"nn.{name}{axes}": _BATCH for name in ("BatchNorm", "InstanceNorm") for axes in _AXES},
    **dict.fromkeys(("nn.Linear", "nn.LayerNorm", "nn.GroupNorm", "nn.RMSNorm"), _CONV),
    "nn.Embedding": {"weight": 1},
    "nn.PReLU": {"weight": 1},
    "torchvision.ops.DeformConv2d": {"weight": WEIGHT_SLOT, "bias": BIAS_SLOT},
}
# position of a weight by its name

_ACTIVATIONS = {
    "relu": "Relu", "relu6": "Clip", "leaky_relu": "LeakyRelu", "prelu": "PRelu", "elu": "Elu", "selu": "Selu",
    "celu": "Celu", "sigmoid": "Sigmoid", "logsigmoid": "Sigmoid", "hardsigmoid": "HardSigmoid",
    "hardswish": "HardSwish", "hardtanh": "Clip", "tanh": "Tanh", "softplus": "Softplus", "softsign": "Softsign",
    "gelu": "Gelu", "mish": "Mish", "silu": "Swish", "threshold": "ThresholdedRelu", "hardshrink": "Shrink",
    "softshrink": "Shrink",
}  # fmt: skip
_MODULES = {
    "ReLU": "Relu", "ReLU6": "Clip", "LeakyReLU": "LeakyRelu", "PReLU": "PRelu", "ELU": "Elu", "SELU": "Selu",
    "CELU": "Celu", "Sigmoid": "Sigmoid", "LogSigmoid": "Sigmoid", "Hardsigmoid": "HardSigmoid",
    "Hardswish": "HardSwish", "Hardtanh": "Clip", "Tanh": "Tanh", "Softplus": "Softplus", "Softsign": "Softsign",
    "GELU": "Gelu", "Mish": "Mish", "SiLU": "Swish", "Threshold": "ThresholdedRelu", "Hardshrink": "Shrink",
    "Softshrink": "Shrink",
}  # fmt: skip
_UNARY = {
    "abs": "Abs", "acos": "Acos", "acosh": "Acosh", "asin": "Asin", "asinh": "Asinh", "atan": "Atan", "atanh": "Atanh",
    "ceil": "Ceil", "clamp": "Clip", "cos": "Cos", "cosh": "Cosh", "erf": "Erf", "exp": "Exp", "floor": "Floor",
    "log": "Log", "neg": "Neg", "reciprocal": "Reciprocal", "round": "Round", "sign": "Sign", "sin": "Sin",
    "sinh": "Sinh", "sqrt": "Sqrt", "tan": "Tan", "tanh": "Tanh", "sigmoid": "Sigmoid", "logical_not": "Not",
    "bitwise_not": "BitwiseNot",
}  # fmt: skip
_OTHERS = frozenset(
    ("nn.LSTM", "nn.GRU", "nn.RNN", "nn.MultiheadAttention", "torchvision.ops.DeformConv2d", "nn.Bilinear",
     "nn.LSTMCell", "nn.GRUCell", "nn.RNNCell", "nn.EmbeddingBag")
)  # fmt: skip

KINDS = DomainKinds(
    "pnnx",
    same={
        **{f"nn.{name}": onnx for name, onnx in _MODULES.items()},
        **{f"F.{name}": onnx for name, onnx in _ACTIVATIONS.items()},
        **{f"torch.{name}": onnx for name, onnx in _UNARY.items()},
        **{f"nn.Conv{axes}": "Conv" for axes in _AXES},
        **{f"F.conv{axes}": "Conv" for axes in _AXES},
        **{f"nn.ConvTranspose{axes}": "ConvTranspose" for axes in _AXES},
        **{f"F.conv_transpose{axes}": "ConvTranspose" for axes in _AXES},
        **{f"nn.BatchNorm{axes}": "BatchNormalization" for axes in _AXES},
        "nn.Linear": "Gemm", "F.linear": "Gemm", "torch.matmul": "MatMul", "torch.bmm": "MatMul", "torch.mm": "MatMul",
        "torch.einsum": "Einsum",
        "nn.LayerNorm": "LayerNormalization", "F.layer_norm": "LayerNormalization",
        "nn.GroupNorm": "GroupNormalization", "F.group_norm": "GroupNormalization",
        "nn.RMSNorm": "RMSNormalization", "F.rms_norm": "RMSNormalization",
        "torch.where": "Where",
    },
    weights={
        **dict.fromkeys(_OTHERS, tuple(range(WEIGHT_SLOT, WEIGHT_SLOT + _MOST, 2))),
        "nn.Embedding": (1,), "F.embedding": (1,), "torch.addmm": (1, 2), "torch.baddbmm": (1, 2),
    },
    biases={
        **dict.fromkeys(_OTHERS, tuple(range(BIAS_SLOT, BIAS_SLOT + _MOST, 2))),
        "torch.addmm": (0,),
    },
    norm_affine={
        "F.batch_norm": (3, 4), "F.instance_norm": (3, 4),
        **{f"nn.InstanceNorm{axes}": (1, 2) for axes in _AXES},
    },
    statistics={
        "F.batch_norm": (1, 2), "F.instance_norm": (1, 2), **{f"nn.InstanceNorm{axes}": (3, 4) for axes in _AXES},
    },
    layouts={"nn.Linear": "OI", "F.linear": "OI", "torch.addmm": "IO"},
    products=frozenset(("torch.addmm", "torch.baddbmm")),
    recurrent=frozenset(("nn.LSTM", "nn.GRU", "nn.RNN")),
    unary=frozenset(("torch.square", "torch.rsqrt", "torch.trunc", "torch.log10")),
    binary=frozenset(("pnnx.Expression",)),
)  # fmt: skip
