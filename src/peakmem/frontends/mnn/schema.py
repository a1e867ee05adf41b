"""The schema of MNN's model files as data: numbers of fields, operators, parameters and element types.

Facts of schema/default/*.fbs of MNN 3.6.1 (MNN, CaffeOp, TensorflowOp, Tensor, Type, UserDefine). Fields are
only ever appended. A union takes two numbers: its kind, then its table.
"""

from __future__ import annotations

from collections.abc import Mapping

from peakmem import dtypes
from peakmem.dtypes import DType

# fmt: off
_OPERATORS: tuple[tuple[int, str], ...] = (
    (0,
     """
        AbsVal QuantizedAdd ArgMax AsString InstanceNorm BatchToSpaceND Copy BinaryOp Bnll Cast Concat Const
        Convolution ConvolutionDepthwise Crop CropAndResize ImageProcess Deconvolution DeconvolutionDepthwise
        Dequantize DetectionOutput Dropout Eltwise ELU Unique Exp ExpandDims Fill Flatten Im2Col Gather GatherV2
        Im2Seq InnerProduct Input Interp Log LRN LSTM MatMul MoE NonMaxSuppression NonMaxSuppressionV2 Normalize
        Pack Padding Permute Pooling Power PReLU PriorBox Proposal QuantizedAvgPool QuantizedBiasAdd QuantizedConcat
        QuantizedDepthwiseConv2D QuantizedLogistic RasterAndInterpolate QuantizedMaxPool Texture RasterDiff
        QuantizedReshape QuantizedSoftmax QuantizeMaxMin QuantizeV2 Range Rank ReduceJoin Reduction ReLU ReLU6
        RequantizationRange Requantize Reshape Resize RNN ROIPooling Scale Selu Seq2Out Shape Sigmoid Size Slice
        SliceTf Softmax SpaceToBatchND SpatialProduct Col2Im Segment Squeeze StridedSlice CastLike StringSplit
        StringToNumber TanH TfQuantizedConv2D Threshold Tile TopKV2 Transpose UnaryOp Unpack Where Moments
        RNNSequenceGRU BatchMatMul Unsqueeze CosineSimilarity DepthToSpace SpaceToDepth ReverseSequence Pooling3D
        Convolution3D MatrixBandPart GatherND DetectionPostProcess UnravelIndex ScatterNd OneHot BroadcastTo
        Dilation2D Interp3D
     """),
    (128,
     """
        Raster ConvertTensor ArgMin LinSpace RandomUniform TensorArray TensorArraySize TensorArrayRead
        TensorArrayWrite TensorArrayGather TensorArrayScatter TensorArraySplit TensorArrayConcat LSTMBlockCell
        Reverse ROIAlign RandomNormal TensorArrayInsert TensorArrayErase EyeLike CumSum Det CumProd ScatterElements
        GatherElements Svd Histogram DynamicQuant Stft
     """),
    (256,
     """
        Plugin Select ZerosLike Broastcast SetDiff1D ReluGrad Identity PoolGrad SoftmaxGrad Conv2DBackPropFilter
        TrainableParam BatchNorm ConvTranspose3D ZeroGrad
     """),
    (299,
     """
        Attention FmhaV2 Fmhca SeqLen2Spatial SplitGeLU GroupNorm LinearAttention RoPE FusedLinear GatedRMSNorm
     """),
    (512, "Extra ConvInt8 Int8ToFloat DepthwiseConvInt8"),
    (517, "FloatToInt8 EltwiseInt8"),
    (600, "While If"),
    (603, "LayerNorm GridSample"),
)
# enum OpType, in runs of consecutive numbers
_PARAMETERS = """
    QuantizedAdd ArgMax AsString Axis BatchNorm BinaryOp Blob CastParam Convolution2D Crop CropAndResize Dequantize
    DetectionOutput Eltwise ExpandDims Fill Flatten Gather GatherV2 InnerProduct Input Interp LRN LSTM MatMul
    NonMaxSuppressionV2 Normalize PackParam Permute Plugin Pool PRelu PriorBox Proposal QuantizedAvgPool
    QuantizedBiasAdd QuantizedConcat QuantizedLogistic QuantizedMatMul QuantizedMaxPool QuantizedRelu QuantizedRelu6
    QuantizedReshape QuantizedSoftmax QuantizeMaxMin QuantizeV2 Range Rank ReduceJoin ReductionParam Relu Relu6
    RequantizationRange Requantize Reshape Resize RoiParameters Scale Selu Size Slice SliceTf SpaceBatch
    SqueezeParam StridedSliceParam TensorConvertInfo TfQuantizedConv2D TopKV2 Transpose UnaryOp MomentsParam
    RNNParam BatchMatMulParam QuantizedFloatParam DepthSpaceParam EltwiseInt8 ReverseSequenceParam Extra Pool3D
    Convolution3D ELU DetectionPostProcessParam OneHotParam PadParam WhileParam IfParam RandomUniform LayerNorm
    TensorArray LSTMBlockCell GridSample LoopParam ImageProcessParam CumSum GroupNorm FmhaV2Param FmhcaParam
    AttentionParam StftParam LinearAttentionParam ShapeParam RoPEParam FusedLinearParam
"""
# union OpParameter, numbered from 1
# fmt: on
OPERATORS: Mapping[int, str] = {
    start + at: name for start, names in _OPERATORS for at, name in enumerate(names.split())
}
PARAMETERS: Mapping[int, str] = dict(enumerate(_PARAMETERS.split(), 1))
FORMATS = ("NCHW", "NHWC", "NC4HW4", "NHWC4", "UNKNOWN")
# enum MNN_DATA_FORMAT
DTYPES: Mapping[int, DType] = {
    1: dtypes.FLOAT32, 2: dtypes.FLOAT64, 3: dtypes.INT32, 4: dtypes.UINT8, 5: dtypes.INT16, 6: dtypes.INT8,
    9: dtypes.INT64, 10: dtypes.BOOL, 14: dtypes.BFLOAT16, 17: dtypes.UINT16, 19: dtypes.FLOAT16,
}  # fmt: skip
# enum DataType


class Net:
    TENSORS_TOLD, OPERATORS, OUTPUTS, SOURCE, NAMES, TENSORS, SUBGRAPHS = 1, 3, 4, 6, 7, 8, 10


class Op:
    INPUTS, KIND, MAIN, NAME, OUTPUTS, TYPE, FORMAT, EXTERNAL = range(8)


class Blob:
    DIMS, FORMAT, TYPE, UINT8S, INT8S, INT32S, INT64S, FLOAT32S, STRINGS, EXTERNAL = range(10)


class Convolution:
    COMMON, WEIGHT, BIAS, QUANTISED, SYMMETRIC, SPARSE, EXTERNAL = range(7)


class Common:
    PAD_X, PAD_Y, KERNEL_X, KERNEL_Y, STRIDE_X, STRIDE_Y, DILATE_X, DILATE_Y, PAD_MODE, GROUP = range(10)
    OUTPUTS, INPUTS, RELU, RELU6, PADS, OUT_PADS, HAS_SHAPE = range(10, 17)


class Quantised:
    BUFFER, ALPHA, TYPE = 0, 1, 2
    HALF = 3
    # the TYPE of one that is float16 and not quantised


class Symmetric:
    WEIGHT, BIAS, SCALE = range(3)


class Pool:
    PAD_X, PAD_Y, GLOBAL, KERNEL_X, KERNEL_Y, STRIDE_X, STRIDE_Y, TYPE, PAD_TYPE, DTYPE, CEIL, PADS = range(12)


class Pool3D:
    STRIDES, KERNELS, PADS, TYPE, PAD_TYPE, GLOBAL = range(6)


class Input:
    DIMS, DTYPE, FORMAT = range(3)


WEIGHTS: Mapping[str, tuple[tuple[int, str], ...]] = {
    "BatchNorm": ((1, "slope"), (2, "mean"), (3, "variance"), (4, "bias"), (5, "a"), (6, "b")),
    "GroupNorm": ((2, "gamma"), (3, "beta")),
    "InnerProduct": ((3, "weight"), (4, "bias")),
    "LayerNorm": ((2, "gamma"), (3, "beta")),
    "MatMul": ((3, "weight"), (4, "bias")),
    "Normalize": ((3, "scale"),),
    "PRelu": ((1, "slope"),),
    "Scale": ((1, "scale"), (2, "bias")),
}
# by parameter table: fields that are lists of float32, stored weights
BLOBS: Mapping[str, tuple[tuple[int, str], ...]] = {
    "LSTM": ((3, "weight_i"), (4, "weight_h"), (5, "bias"), (6, "weight_iq"), (7, "weight_ia")),
    "RNNParam": tuple(
        (at, f"{way}_{what}")
        for start, way in ((4, "forward"), (9, "backward"))
        for at, what in enumerate(("gate", "gate_bias", "candidate", "candidate_bias", "recurrent_bias"), start)
    ),
}
# by parameter table: fields that are blobs, stored weights
NUMBERS: Mapping[str, tuple[tuple[str, int, str, int | bool], ...]] = {
    "Axis": (("axis", 0, "i", 0),),
    "BatchMatMulParam": (("transpose_a", 0, "?", False), ("transpose_b", 1, "?", False)),
    "BinaryOp": (("kind", 0, "i", 0), ("activation", 2, "i", 0)),
    "CastParam": (("to", 1, "i", 0),),
    "DepthSpaceParam": (("block", 0, "i", 0), ("mode", 1, "b", 0)),
    "ExpandDims": (("axis", 2, "i", 0),),
    "Flatten": (("axis", 0, "i", 0), ("end_axis", 1, "i", 0)),
    "Gather": (("axis", 3, "i", 0),),
    "Interp": (("width", 2, "i", 0), ("height", 3, "i", 0), ("kind", 4, "i", 0)),
    "LSTM": (("outputs", 0, "i", 0),),
    "MatMul": (("transpose_a", 1, "?", False), ("transpose_b", 2, "?", False)),
    "PackParam": (("axis", 1, "i", 0),),
    "PadParam": (("mode", 0, "b", 0),),
    "ReductionParam": (("kind", 0, "b", 0), ("keepdims", 3, "?", False)),
    "Reshape": (("format", 1, "b", 0),),
    "ShapeParam": (("has_start", 0, "?", False), ("start", 1, "i", 0), ("has_end", 2, "?", False), ("end", 3, "i", 0)),
    "Slice": (("axis", 0, "i", 0), ("source", 2, "b", 0)),
    "StridedSliceParam": (
        ("begin_mask", 2, "i", 0), ("end_mask", 3, "i", 0), ("ellipsis_mask", 4, "i", 0), ("new_axis_mask", 5, "i", 0),
        ("shrink_axis_mask", 6, "i", 0), ("source", 7, "i", 0),
    ),
    "TensorConvertInfo": (("from", 0, "b", 0), ("to", 1, "b", 0)),
    "UnaryOp": (("kind", 0, "i", 0),),
}  # fmt: skip
# by parameter table: attributes that are one number: name, field, letter of its type in `struct`, default
LISTS: Mapping[str, tuple[tuple[str, int], ...]] = {
    "LayerNorm": (("axis", 0),),
    "Permute": (("order", 0),),
    "ReductionParam": (("axes", 1),),
    "Reshape": (("dims", 0),),
    "Slice": (("points", 1),),
    "SqueezeParam": (("axes", 0),),
}
# by parameter table: attributes that are lists of whole numbers
