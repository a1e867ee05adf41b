"""TensorFlow Lite: BuiltinOperator names; kernels have their output channels first, images theirs last."""

from __future__ import annotations

from peakmem.ir.kinds.domain import DomainKinds

_LSTM_WEIGHTS = (*range(1, 12), 16)
_LSTM_BIASES = (12, 13, 14, 15, 17)
_TWO_WAY_WEIGHTS = (*_LSTM_WEIGHTS, *(at + 17 for at in _LSTM_WEIGHTS), *range(40, 48))

KINDS = DomainKinds(
    "tflite",
    same={
        "CONV_2D": "Conv", "DEPTHWISE_CONV_2D": "Conv", "CONV_3D": "Conv", "FULLY_CONNECTED": "Gemm",
        "BATCH_MATMUL": "MatMul", "GATHER": "Gather", "PRELU": "PRelu",
        "ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div", "POW": "Pow", "MAXIMUM": "Max", "MINIMUM": "Min",
        "LOGICAL_AND": "And", "LOGICAL_OR": "Or", "BITWISE_XOR": "BitwiseXor", "RIGHT_SHIFT": "BitShift",
        "FLOOR_MOD": "Mod", "ADD_N": "Sum", "SELECT_V2": "Where",
        "RELU": "Relu", "RELU6": "Clip", "RELU_N1_TO_1": "Clip", "RELU_0_TO_1": "Clip", "LEAKY_RELU": "LeakyRelu",
        "ELU": "Elu", "GELU": "Gelu", "LOGISTIC": "Sigmoid", "TANH": "Tanh", "HARD_SWISH": "HardSwish",
        "ABS": "Abs", "NEG": "Neg", "EXP": "Exp", "LOG": "Log", "SQRT": "Sqrt", "FLOOR": "Floor", "CEIL": "Ceil",
        "ROUND": "Round", "SIGN": "Sign", "SIN": "Sin", "COS": "Cos", "LOGICAL_NOT": "Not", "CAST": "Cast",
        "SOFTMAX": "Softmax", "AVERAGE_POOL_2D": "AveragePool", "MAX_POOL_2D": "MaxPool",
        "RESHAPE": "Reshape", "SQUEEZE": "Squeeze", "EXPAND_DIMS": "Unsqueeze", "TRANSPOSE": "Transpose",
        "CONCATENATION": "Concat", "SLICE": "Slice",
        "STABLEHLO_ADD": "Add", "STABLEHLO_SUBTRACT": "Sub", "STABLEHLO_MULTIPLY": "Mul", "STABLEHLO_DIVIDE": "Div",
        "STABLEHLO_MAXIMUM": "Max", "STABLEHLO_MINIMUM": "Min", "STABLEHLO_POWER": "Pow", "STABLEHLO_AND": "And",
        "STABLEHLO_OR": "Or", "STABLEHLO_LOGISTIC": "Sigmoid", "STABLEHLO_TANH": "Tanh", "STABLEHLO_ABS": "Abs",
        "STABLEHLO_NEGATE": "Neg", "STABLEHLO_EXPONENTIAL": "Exp", "STABLEHLO_LOG": "Log", "STABLEHLO_COSINE": "Cos",
        "STABLEHLO_FLOOR": "Floor", "STABLEHLO_SELECT": "Where", "STABLEHLO_RESHAPE": "Reshape",
        "STABLEHLO_TRANSPOSE": "Transpose", "STABLEHLO_CONCATENATE": "Concat",
    },
    weights={
        "TRANSPOSE_CONV": (1,), "CONV_3D_TRANSPOSE": (1,), "EMBEDDING_LOOKUP": (1,), "EMBEDDING_LOOKUP_SPARSE": (4,),
        "HASHTABLE_LOOKUP": (2,), "LSTM": _LSTM_WEIGHTS, "UNIDIRECTIONAL_SEQUENCE_LSTM": _LSTM_WEIGHTS,
        "BIDIRECTIONAL_SEQUENCE_LSTM": _TWO_WAY_WEIGHTS, "RNN": (1, 2), "UNIDIRECTIONAL_SEQUENCE_RNN": (1, 2),
        "BIDIRECTIONAL_SEQUENCE_RNN": (1, 2, 5, 6, 10, 11), "SVDF": (1, 2), "STABLEHLO_CONVOLUTION": (1,),
        "STABLEHLO_DOT_GENERAL": (0, 1),
    },
    biases={
        "TRANSPOSE_CONV": (3,), "CONV_3D_TRANSPOSE": (3,), "LSTM": _LSTM_BIASES,
        "UNIDIRECTIONAL_SEQUENCE_LSTM": _LSTM_BIASES,
        "BIDIRECTIONAL_SEQUENCE_LSTM": (*_LSTM_BIASES, *(at + 17 for at in _LSTM_BIASES)), "RNN": (3,),
        "UNIDIRECTIONAL_SEQUENCE_RNN": (3,), "BIDIRECTIONAL_SEQUENCE_RNN": (3, 7), "SVDF": (3,),
    },
    norm_affine={"LSTM": (20, 21, 22, 23), "UNIDIRECTIONAL_SEQUENCE_LSTM": (20, 21, 22, 23)},
    layouts={
        "CONV_2D": "O*I", "DEPTHWISE_CONV_2D": "1*O", "CONV_3D": "*IO", "TRANSPOSE_CONV": "O*I",
        "CONV_3D_TRANSPOSE": "*OI", "FULLY_CONNECTED": "OI",
    },
    convolutions=frozenset({"TRANSPOSE_CONV", "CONV_3D_TRANSPOSE", "STABLEHLO_CONVOLUTION"}),
    products=frozenset({"STABLEHLO_DOT_GENERAL"}),
    recurrent=frozenset(
        {"LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "RNN", "UNIDIRECTIONAL_SEQUENCE_RNN",
         "BIDIRECTIONAL_SEQUENCE_RNN", "SVDF"}
    ),
    unary=frozenset(
        {"RSQRT", "SQUARE", "ZEROS_LIKE", "FAKE_QUANT", "STABLEHLO_RSQRT", "STABLEHLO_CBRT", "STABLEHLO_CLAMP"}
    ),
    binary=frozenset(
        {"FLOOR_DIV", "SQUARED_DIFFERENCE", "ATAN2", "STABLEHLO_REMAINDER", "STABLEHLO_SHIFT_LEFT"}
    ),
    views=frozenset({"BITCAST"}),
    settings=frozenset(
        {"RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "PAD", "PADV2", "MIRROR_PAD", "RANGE", "ONE_HOT", "TOPK_V2",
         "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "STRIDED_SLICE", "TILE", "BROADCAST_TO", "FILL"}
    ),
    random=frozenset({"RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL", "STABLEHLO_RNG_BIT_GENERATOR"}),
    loops=frozenset({"WHILE", "STABLEHLO_WHILE"}),
)  # fmt: skip
