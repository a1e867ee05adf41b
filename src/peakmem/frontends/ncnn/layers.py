"""The layers of ncnn: their numbers in binary files, and what each numbered parameter is called.

A parameter is written `id:name`, followed by `=default` where that is not 0; a default may be the
name of a parameter before it. `:f` marks a floating number, `:I` and `:F` an array, `:s` a text:
binary files do not say. What the parameters do to shapes and weights stands elsewhere.

Sources: the `load_param` of each file in ncnn's `src/layer`, and the order of `src/CMakeLists.txt`
(2026-07; the 110 layers of ncnn 1.0.20261020 are the same).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from peakmem.frontends.ncnn.param import Line, Value, real, reals, whole, wholes, word

TYPES: tuple[str, ...] = (
    "AbsVal", "ArgMax", "BatchNorm", "Bias", "BNLL", "Concat", "Convolution", "Crop", "Deconvolution", "Dropout",
    "Eltwise", "ELU", "Embed", "Exp", "Flatten", "InnerProduct", "Input", "Log", "LRN", "MemoryData", "MVN",
    "Pooling", "Power", "PReLU", "Proposal", "Reduction", "ReLU", "Reshape", "ROIPooling", "Scale", "Sigmoid",
    "Slice", "Softmax", "Split", "SPP", "TanH", "Threshold", "Tile", "RNN", "LSTM", "BinaryOp", "UnaryOp",
    "ConvolutionDepthWise", "Padding", "Squeeze", "ExpandDims", "Normalize", "Permute", "PriorBox",
    "DetectionOutput", "Interp", "DeconvolutionDepthWise", "ShuffleChannel", "InstanceNorm", "Clip", "Reorg",
    "YoloDetectionOutput", "Quantize", "Dequantize", "Yolov3DetectionOutput", "PSROIPooling", "ROIAlign",
    "Packing", "Requantize", "Cast", "HardSigmoid", "SELU", "HardSwish", "Noop", "PixelShuffle", "DeepCopy",
    "Mish", "StatisticsPooling", "Swish", "Gemm", "GroupNorm", "LayerNorm", "Softplus", "GRU",
    "MultiHeadAttention", "GELU", "Convolution1D", "Pooling1D", "ConvolutionDepthWise1D", "Convolution3D",
    "ConvolutionDepthWise3D", "Pooling3D", "MatMul", "Deconvolution1D", "DeconvolutionDepthWise1D",
    "Deconvolution3D", "DeconvolutionDepthWise3D", "Einsum", "DeformableConv2D", "GLU", "Fold", "Unfold",
    "GridSample", "CumulativeSum", "CopyTo", "Erf", "Diag", "CELU", "Shrink", "RMSNorm", "Spectrogram",
    "InverseSpectrogram", "Flip", "SDPA", "RotaryEmbed",
)  # fmt: skip
# a binary file has positions in this list

UNRELEASED = ("GatedDeltaRule", "ShortConv")
# in ncnn's development branch (2026); they store nothing
_AXES_1 = "1:kernel_w 2:dilation_w=1 3:stride_w=1 4:pad_left 15:pad_right=pad_left"
_AXES_2 = (
    f"{_AXES_1} 11:kernel_h=kernel_w 12:dilation_h=dilation_w 13:stride_h=stride_w "
    "14:pad_top=pad_left 16:pad_bottom=pad_top"
)
_AXES_3 = (
    f"{_AXES_2} 21:kernel_d=kernel_w 22:dilation_d=dilation_w 23:stride_d=stride_w "
    "24:pad_front=pad_left 17:pad_behind=pad_front"
)
_FILTER = "0:num_output 5:bias_term 6:weight_data_size 9:activation_type 10:activation_params:F"
_BORDER = "18:pad_value:f"
_INT8 = "8:int8_scale_term"
_OUT_1 = "18:output_pad_right 20:output_w"
_OUT_2 = "18:output_pad_right 19:output_pad_bottom=output_pad_right 20:output_w 21:output_h=output_w"
_OUT_3 = (
    "18:output_pad_right 19:output_pad_bottom=output_pad_right 20:output_pad_behind=output_pad_right "
    "25:output_w 26:output_h=output_w 27:output_d=output_w"
)
_GROUP = "7:group=1"
_POOL_1 = (
    "0:pooling_type 1:kernel_w 2:stride_w=1 3:pad_left 14:pad_right=pad_left 4:global_pooling 5:pad_mode "
    "6:avgpool_count_include_pad 7:adaptive_pooling 8:out_w"
)
_POOL_2 = (
    f"{_POOL_1} 11:kernel_h=kernel_w 12:stride_h=stride_w 13:pad_top=pad_left 15:pad_bottom=pad_top 18:out_h=out_w"
)
_POOL_3 = (
    f"{_POOL_2} 21:kernel_d=kernel_w 22:stride_d=stride_w 23:pad_front=pad_left 16:pad_behind=pad_front 28:out_d=out_w"
)
_SPECTRUM = "0:n_fft 2:hoplen 3:winlen=n_fft 4:window_type 5:center=1 7:normalized"

_PARAMS: Mapping[str, str] = {
    "ArgMax": "0:out_max_val 1:topk=1",
    "BatchNorm": "0:channels 1:eps:f",
    "Bias": "0:bias_data_size",
    "BinaryOp": "0:op_type 1:with_scalar 2:b:f",
    "CELU": "0:alpha:f=1",
    "Cast": "0:type_from 1:type_to",
    "Clip": "0:min:f=-3.4028235e38 1:max:f=3.4028235e38",
    "Concat": "0:axis",
    "Convolution": f"{_FILTER} {_AXES_2} {_BORDER} {_INT8} 19:dynamic_weight",
    "Convolution1D": f"{_FILTER} {_AXES_1} {_BORDER} 19:dynamic_weight",
    "Convolution3D": f"{_FILTER} {_AXES_3} {_BORDER}",
    "ConvolutionDepthWise": f"{_FILTER} {_AXES_2} {_BORDER} {_INT8} {_GROUP} 19:dynamic_weight",
    "ConvolutionDepthWise1D": f"{_FILTER} {_AXES_1} {_BORDER} {_GROUP} 19:dynamic_weight",
    "ConvolutionDepthWise3D": f"{_FILTER} {_AXES_3} {_BORDER} {_GROUP}",
    "CopyTo": "0:woffset 1:hoffset 13:doffset 2:coffset 9:starts:I 11:axes:I",
    "Crop": (
        "0:woffset 1:hoffset 13:doffset 2:coffset 3:outw 4:outh 14:outd 5:outc 6:woffset2 7:hoffset2 15:doffset2 "
        "8:coffset2 9:starts:I 10:ends:I 11:axes:I 19:starts_expr:s 20:ends_expr:s 21:axes_expr:s"
    ),
    "CumulativeSum": "0:axis",
    "Deconvolution": f"{_FILTER} {_AXES_2} {_OUT_2} 28:dynamic_weight",
    "Deconvolution1D": f"{_FILTER} {_AXES_1} {_OUT_1} 28:dynamic_weight",
    "Deconvolution3D": f"{_FILTER} {_AXES_3} {_OUT_3}",
    "DeconvolutionDepthWise": f"{_FILTER} {_AXES_2} {_OUT_2} {_GROUP} 28:dynamic_weight",
    "DeconvolutionDepthWise1D": f"{_FILTER} {_AXES_1} {_OUT_1} {_GROUP} 28:dynamic_weight",
    "DeconvolutionDepthWise3D": f"{_FILTER} {_AXES_3} {_OUT_3} {_GROUP}",
    "DeformableConv2D": f"{_FILTER} {_AXES_2}",
    "Dequantize": "0:scale_data_size=1 1:bias_data_size",
    "DetectionOutput": (
        "0:num_class 1:nms_threshold:f=0.05 2:nms_top_k=300 3:keep_top_k=100 4:confidence_threshold:f=0.5"
    ),
    "Diag": "0:diagonal",
    "Dropout": "0:scale:f=1",
    "ELU": "0:alpha:f=0.1",
    "Einsum": "0:equation:I",
    "Eltwise": "0:op_type 1:coeffs:F",
    "Embed": "0:num_output 1:input_dim 2:bias_term 3:weight_data_size 18:int8_scale_term",
    "Exp": "0:base:f=-1 1:scale:f=1 2:shift:f",
    "ExpandDims": "3:axes:I",
    "Flip": "0:axes:I",
    "Fold": f"{_AXES_2} 20:output_w 21:output_h=output_w",
    "GELU": "0:fast_gelu",
    "GLU": "0:axis",
    "GRU": "0:num_output 1:weight_data_size 2:direction 8:int8_scale_term",
    "Gemm": (
        "0:alpha:f=1 1:beta:f=1 2:transA 3:transB 4:constantA 5:constantB 6:constantC 7:constantM 8:constantN "
        "9:constantK 10:constant_broadcast_type_C 11:output_N1M 12:output_elempack 13:output_elemtype "
        "14:output_transpose 18:quantize_term 20:constant_TILE_M 21:constant_TILE_N 22:constant_TILE_K"
    ),
    "GridSample": "0:sample_type=1 1:padding_mode=1 2:align_corner 3:permute_fusion",
    "GroupNorm": "0:group=1 1:channels 2:eps:f=0.001 3:affine=1",
    "HardSigmoid": "0:alpha:f=0.2 1:beta:f=0.5",
    "HardSwish": "0:alpha:f=0.2 1:beta:f=0.5",
    "InnerProduct": (
        "0:num_output 1:bias_term 2:weight_data_size 8:int8_scale_term 9:activation_type 10:activation_params:F"
    ),
    "Input": "0:w 1:h 11:d 2:c",
    "InstanceNorm": "0:channels 1:eps:f=0.001 2:affine=1",
    "Interp": (
        "0:resize_type 1:height_scale:f=1 2:width_scale:f=1 3:output_height 4:output_width 5:dynamic_target_size "
        "6:align_corner 9:size_expr:s"
    ),
    "InverseSpectrogram": f"{_SPECTRUM} 1:returns",
    "LRN": "0:region_type 1:local_size=5 2:alpha:f=1 3:beta:f=0.75 4:bias:f=1",
    "LSTM": "0:num_output 1:weight_data_size 2:direction 3:hidden_size=num_output 8:int8_scale_term",
    "LayerNorm": "0:affine_size 1:eps:f=0.001 2:affine=1",
    "Log": "0:base:f=-1 1:scale:f=1 2:shift:f",
    "MVN": "0:normalize_variance 1:across_channels 2:eps:f=0.0001",
    "MatMul": "0:transB",
    "MemoryData": "0:w 1:h 11:d 2:c 21:load_type=1",
    "MultiHeadAttention": (
        "0:embed_dim 1:num_heads=1 2:weight_data_size 3:kdim=embed_dim 4:vdim=embed_dim 5:attn_mask 6:scale:f "
        "7:kv_cache 18:quantize_term"
    ),
    "Normalize": "0:across_spatial 4:across_channel=1 1:channel_shared 2:eps:f=0.0001 9:eps_mode 3:scale_data_size",
    "PReLU": "0:num_slope",
    "PSROIPooling": "0:pooled_width=7 1:pooled_height=7 2:spatial_scale:f=0.0625 3:output_dim",
    "Packing": "0:out_elempack=1 1:use_padding 2:cast_type_from 3:cast_type_to",
    "Padding": "0:top 1:bottom 2:left 3:right 4:type 5:value:f 6:per_channel_pad_data_size 7:front 8:behind",
    "Permute": "0:order_type",
    "PixelShuffle": "0:upscale_factor=1 1:mode",
    "Pooling": _POOL_2,
    "Pooling1D": _POOL_1,
    "Pooling3D": _POOL_3,
    "Power": "0:power:f=1 1:scale:f=1 2:shift:f",
    "PriorBox": (
        "0:min_sizes:F 1:max_sizes:F 2:aspect_ratios:F 7:flip=1 8:clip 9:image_width 10:image_height "
        "11:step_width:f=-233 12:step_height:f=-233 13:offset:f 14:step_mmdetection 15:center_mmdetection"
    ),
    "Proposal": (
        "0:feat_stride=16 1:base_size=16 2:pre_nms_topN=6000 3:after_nms_topN=300 4:nms_thresh:f=0.7 5:min_size=16"
    ),
    "Quantize": "0:scale_data_size=1",
    "RMSNorm": "0:affine_size 1:eps:f=0.001 2:affine=1",
    "RNN": "0:num_output 1:weight_data_size 2:direction 8:int8_scale_term",
    "ROIAlign": "0:pooled_width 1:pooled_height 2:spatial_scale:f=1 3:sampling_ratio 4:aligned 5:version",
    "ROIPooling": "0:pooled_width 1:pooled_height 2:spatial_scale:f=1",
    "ReLU": "0:slope:f",
    "Reduction": "0:operation 1:reduce_all=1 2:coeff:f=1 3:axes:I 4:keepdims 5:fixbug0",
    "Reorg": "0:stride=1 1:mode",
    "Requantize": (
        "0:scale_in_data_size=1 1:scale_out_data_size=1 2:bias_data_size 3:activation_type 4:activation_params:F"
    ),
    "Reshape": "0:w=-233 1:h=-233 11:d=-233 2:c=-233 6:shape_expr:s 12:input_batch_axis=233 13:output_batch_axis=233",
    "RotaryEmbed": "0:interleaved",
    "SDPA": "5:attn_mask 6:scale:f 7:kv_cache 18:int8_scale_term",
    "SELU": "0:alpha:f=1.67326324 1:lambda:f=1.050700987",
    "SPP": "0:pooling_type 1:pyramid_height=1",
    "Scale": "0:scale_data_size 1:bias_term",
    "Shrink": "0:bias:f 1:lambd:f=0.5",
    "ShuffleChannel": "0:group=1 1:reverse",
    "Slice": "0:slices:I 1:axis 2:indices:I",
    "Softmax": "0:axis",
    "Spectrogram": f"{_SPECTRUM} 1:power 6:pad_type=2 8:onesided=1",
    "Squeeze": "0:squeeze_w 1:squeeze_h 11:squeeze_d 2:squeeze_c 3:axes:I",
    "StatisticsPooling": "0:include_stddev",
    "Threshold": "0:threshold:f",
    "Tile": "0:axis 1:tiles=1 2:repeats:I",
    "UnaryOp": "0:op_type",
    "Unfold": f"{_AXES_2} {_BORDER}",
    "YoloDetectionOutput": "0:num_class=20 1:num_box=5 2:confidence_threshold:f=0.01 3:nms_threshold:f=0.45 4:biases:F",
    "Yolov3DetectionOutput": (
        "0:num_class=20 1:num_box=5 2:confidence_threshold:f=0.01 3:nms_threshold:f=0.45 4:biases:F 5:mask:F "
        "6:anchors_scale:F"
    ),
}  # fmt: skip

COMMON = (30, 31)
# parameters of any layer: shapes of the tops, features to do without
_EMPTY: Mapping[str, Value] = {"I": (), "F": (), "s": ""}
_READ: Mapping[str, Callable[[Value, str], Value]] = {"": whole, "f": real, "I": wholes, "F": reals, "s": word}


@dataclass(frozen=True, slots=True)
class _Param:
    number: int
    name: str
    kind: str
    default: int | float | str
    # a text is the name of another parameter


@cache
def _params(op_type: str) -> tuple[_Param, ...]:
    found = []
    for entry in _PARAMS.get(op_type, "").split():
        left, _, default = entry.partition("=")
        number, name, kind = (*left.split(":"), "")[:3]
        value: int | float | str = 0
        if default:
            value = float(default) if kind == "f" else int(default) if default.lstrip("-").isdigit() else default
        found.append(_Param(int(number), name, kind, value))
    return tuple(found)


def is_known(op_type: str) -> bool:
    """Whether ncnn itself has a layer of that type."""
    return op_type in TYPES or op_type in UNRELEASED


def values(line: Line, where: str) -> dict[str, Value]:
    """Every parameter of a layer by name, defaults included; a custom layer's by number."""
    if not is_known(line.op_type):
        return {
            f"param_{number}": value
            for number, value in line.params.items()
            if number not in COMMON and not isinstance(value, bytes)
        }
    found: dict[str, Value] = {}
    for param in _params(line.op_type):
        given = line.params.get(param.number)
        if given is not None:
            found[param.name] = _READ[param.kind](given, f"{where}, parameter {param.number}")
        elif param.kind in _EMPTY:
            found[param.name] = _EMPTY[param.kind]
        else:
            found[param.name] = found[param.default] if isinstance(param.default, str) else param.default
    if line.op_type in ("Spectrogram", "InverseSpectrogram") and 2 not in line.params:
        found["hoplen"] = whole(found["n_fft"], where) // 4
    return found
