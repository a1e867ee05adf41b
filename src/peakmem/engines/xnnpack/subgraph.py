"""An XNNPACK subgraph as a caller defines it: a Value for each xnn_define_*_value, a Node for each other xnn_define_*.

Nothing of a file format is known here; TFLite's delegate and ExecuTorch's compiler both end in these calls. Values
are numbered by their place in `Subgraph.values`: the planner breaks ties by that number, so keep the caller's own ids
and put None where an id is reserved and never defined. Nodes stand in the order in which the caller defines them: what
XNNPACK fuses, splits or drops afterwards is its own business (`optimise.py`).

Layouts are XNNPACK's: activations of windows are NHWC; filters are [O, KH, KW, I] for "convolution_2d" and
"deconvolution_2d", [1, KH, KW, I·M] for "depthwise_convolution_2d", [O, I] for "fully_connected" ([I, O] with the flag
"transpose weights"). Shapes are whole; free dimensions must be bound before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Datatype = Literal[
    "fp32", "fp16", "bf16", "int32",
    "qint8", "quint8", "qint32",
    # one scale for all
    "qcint8", "qcint4", "qcint2", "qcint32", "qint4", "qint2",
    # a scale for each channel
    "qbint4",
    # a scale for each block
    "qdint8", "qduint8",
    # quantised while it runs
    "qpint8", "pfp32", "pfp16", "pqint8",
    # packed for one kernel
]  # fmt: skip
# xnn_datatype_*

NodeType = Literal[
    "argmax_pooling_2d", "average_pooling_2d", "batch_matrix_multiply", "binary", "concatenate", "convolution_2d",
    "copy", "deconvolution_2d", "depth_to_space_2d", "depthwise_convolution_2d", "even_split", "fully_connected",
    "fully_connected_sparse", "max_pooling_2d", "pack_lh", "rope", "softmax", "space_to_depth_2d",
    "static_constant_pad",
    "static_expand_dims", "fuse_dims", "split_dims", "static_broadcast", "static_reduce", "static_reshape",
    "static_resize_bilinear_2d", "static_slice", "static_transpose", "unary", "unpooling_2d",
]  # fmt: skip
# xnn_define_NAME; old names map so: add2, multiply2, prelu … are "binary"; clamp, abs, convert … are "unary";
# static_mean, global_average_pooling_*, global_sum_pooling_* are "static_reduce"; concatenate2 … 5 are "concatenate";
# even_split2 … 4 are "even_split"

Flag = Literal[
    "transpose weights",
    # XNN_FLAG_TRANSPOSE_WEIGHTS of fully_connected, XNN_FLAG_TRANSPOSE_B of batch_matrix_multiply
    "tensorflow same padding",
    "tensorflow legacy mode",
    "align corners",
    "keep dims",
    "transient indirection",
]

ABSENT = -1
# in Node.inputs: no bias


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor."""

    shape: tuple[int, ...]
    datatype: Datatype = "fp32"
    static: bool = False
    # its data are given when it is defined: weights
    external_input: bool = False
    external_output: bool = False
    persistent: bool = False
    # XNN_VALUE_FLAG_PERSISTENT
    block: int = 0
    # of qbint4: elements for one scale
    nonbatch: int = 1
    # of qdint8: dimensions that one scale is for
    zero_point: int = 0
    scale: float = 0.0
    # of one scale for all, where it is known; two values with both equal are requantised for nothing
    filled: float | None = None
    # of a static value of one element or of equal ones, where known
    key: int | None = None
    # which bytes are behind a static value: equal for two values that share them (a weight cache packs them once)


@dataclass(frozen=True, slots=True)
class Window:
    """What moves over an image: (height, width) pairs; padding is top, right, bottom, left."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    # subsampling; of deconvolution upsampling
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    # as given: zeros with the flag "tensorflow same padding"
    groups: int = 1
    group_input_channels: int = 0
    group_output_channels: int = 0
    depth_multiplier: int = 1
    # of depthwise_convolution_2d, whose input channels are group_input_channels
    adjustment: tuple[int, int] = (0, 0)
    # of deconvolution_2d


@dataclass(frozen=True, slots=True)
class Node:
    """An operator."""

    type: NodeType
    inputs: tuple[int, ...]
    # places in Subgraph.values, ABSENT for no bias: (image, filter, bias) of products and windows
    outputs: tuple[int, ...]
    operator: str = ""
    # of unary ("clamp", "convert", "sigmoid", "hardswish" …: xnn_unary_NAME), binary ("add", "multiply", "prelu" …:
    # xnn_binary_NAME) and static_reduce ("mean", "sum", "max", "min" …: xnn_reduce_NAME)
    window: Window | None = None
    # of convolutions and pooling
    clamp: tuple[float, float] = (float("-inf"), float("inf"))
    # output_min and output_max, or the limits of unary "clamp"
    flags: frozenset[Flag] = frozenset()
    axis: int = 0
    # of concatenate, even_split, fuse_dims, split_dims
    axes: tuple[int, ...] = ()
    # of static_reduce and static_expand_dims; the permutation of static_transpose
    shape: tuple[int, ...] = ()
    # new shape of static_reshape and static_broadcast; new (height, width) of static_resize_bilinear_2d; sizes of
    # static_slice; parts of split_dims; (count,) of fuse_dims
    before: tuple[int, ...] = ()
    # of static_constant_pad; offsets of static_slice
    after: tuple[int, ...] = ()
    block: int = 0
    # of depth_to_space_2d and space_to_depth_2d
    name: str = ""
    # what the caller calls it, for messages


@dataclass(frozen=True, slots=True)
class Subgraph:
    """What one runtime is made from."""

    values: tuple[Value | None, ...]
    nodes: tuple[Node, ...]
    external_values: int = 0
    # ids reserved for external values (xnn_create_subgraph's first argument)
