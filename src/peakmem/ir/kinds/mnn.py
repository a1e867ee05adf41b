"""MNN: OpType names; the weights that an operator brings stand after its own inputs, see `frontends.mnn.reader`.

Only the names that mean one thing are given ONNX's: what BinaryOp, UnaryOp or Pooling does is told by an attribute.
"""

from __future__ import annotations

from peakmem.ir.kinds.domain import DomainKinds

KINDS = DomainKinds(
    "mnn",
    same={
        "Convolution": "Conv", "ConvolutionDepthwise": "Conv", "Deconvolution": "ConvTranspose",
        "DeconvolutionDepthwise": "ConvTranspose", "MatMul": "MatMul", "BatchMatMul": "MatMul", "Concat": "Concat",
        "ELU": "Elu", "PReLU": "PRelu", "ReLU": "LeakyRelu", "ReLU6": "Clip", "Selu": "Selu", "Sigmoid": "Sigmoid",
        "TanH": "Tanh", "Softmax": "Softmax", "Cast": "Cast", "Gather": "Gather", "GatherV2": "Gather",
        "Reshape": "Reshape", "Squeeze": "Squeeze", "Unsqueeze": "Unsqueeze", "ExpandDims": "Unsqueeze",
        "Flatten": "Flatten", "Identity": "Identity", "Select": "Where", "Tile": "Tile",
    },
    weights={"ConvInt8": (1,), "DepthwiseConvInt8": (1,), "InnerProduct": (1,)},
    biases={"ConvInt8": (2,), "DepthwiseConvInt8": (2,), "InnerProduct": (2,)},
    norm_affine={"LayerNorm": (1, 2), "GroupNorm": (1, 2), "Scale": (1, 2)},
    statistics={"BatchNorm": (1, 2, 3, 4)},
    unary=frozenset(("AbsVal", "Exp", "Log", "UnaryOp", "Scale", "BatchNorm")),
    binary=frozenset(("BinaryOp", "Eltwise")),
)  # fmt: skip
