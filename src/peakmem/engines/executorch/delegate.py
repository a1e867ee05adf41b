"""XNNPACK's delegate: its blob as the calls that define a subgraph, and what it holds beside XNNPACK's runtime.

From backends/xnnpack/runtime/XNNCompiler.cpp, XNNExecutor.cpp, XNNPACKBackend.cpp and XNNWorkspaceManager.cpp of
ExecuTorch 1.4.1. As the wheel is built, delegates of all programs share one workspace (WorkspaceSharingMode::Global)
and no weights are cached: each delegate packs its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import cast

from peakmem.engines.executorch.method import capacity
from peakmem.engines.executorch.workspace import Workspace, workspace
from peakmem.engines.prediction import Holding, Processor, Unmodelled
from peakmem.engines.xnnpack.held import Held
from peakmem.engines.xnnpack.runtime import hold
from peakmem.engines.xnnpack.subgraph import ABSENT, Datatype, Flag, Node, NodeType, Subgraph, Value, Window
from peakmem.frontends.pte import xnnpack as pte
from peakmem.frontends.pte.program import Place

WORKSPACE = 32 + 88
# struct xnn_workspace and the XNNWorkspace around it, with its count of users
EXTERNAL_VALUE = 16
LEFT_OUT = frozenset(("avx_vnni", "avx_vnni_int8"))
# XNNPACK_ENABLE_AVXVNNI is off in ExecuTorch's builds (backends/xnnpack/cmake/Dependencies.cmake)
IDENTIFIER = 4
BUFFER = 40
# FreeableBuffer

_TRANSPOSE_WEIGHTS, _SAME_PADDING, _ALIGN_CORNERS, _KEEP_DIMS = 0x1, 0x4, 0x8, 0x40
# XNN_FLAG_* of include/xnnpack.h
_UNARY: Mapping[str, str] = {
    "Sigmoid": "sigmoid", "Clamp": "clamp", "Floor": "floor", "Convert": "convert", "SquareRoot": "square_root",
    "Ceiling": "ceiling", "Hardswish": "hardswish", "LeakyReLU": "leaky_relu", "Negate": "negate", "Square": "square",
    "ELU": "elu", "Abs": "abs", "ReciprocalSquareRoot": "reciprocal_square_root", "Log": "log", "Gelu": "gelu",
    "Tanh": "tanh", "Exp": "exp", "Sin": "sine", "Cos": "cosine",
}  # fmt: skip
_BINARY: Mapping[str, str] = {
    "Add": "add", "Div": "divide", "Minimum": "minimum", "Multiply": "multiply", "Subtract": "subtract",
    "Maximum": "maximum", "PReLU": "prelu",
}  # fmt: skip
_PLAIN: Mapping[str, NodeType] = {
    "Softmax": "softmax", "BatchMatrixMultiply": "batch_matrix_multiply", "Copy": "copy",
    "FullyConnected": "fully_connected", "Conv2d": "convolution_2d", "DepthwiseConv2d": "depthwise_convolution_2d",
    "ConvTranspose2d": "deconvolution_2d", "AvgPooling2d": "average_pooling_2d", "MaxPooling2d": "max_pooling_2d",
    "ArgMaxPooling2d": "argmax_pooling_2d", "StaticTranspose": "static_transpose", "StaticReshape": "static_reshape",
    "StaticResizeBilinear2D": "static_resize_bilinear_2d", "StaticConstantPad": "static_constant_pad",
    "StaticSlice": "static_slice",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Delegate:
    """What one delegate holds."""

    own: tuple[Holding, ...]
    # beside XNNPACK's runtime, from load on
    compiling: int
    # for a moment while it is compiled: XNNPACK's subgraph, tables of ids, what reading constants takes
    held: Held
    # its workspace apart, which an older planner lays out
    created: tuple[Holding, ...]
    # of `held`, with the sizes that structures have here
    workspace: Workspace
    kept: int
    # bytes of the file that stay mapped: constants that XNNPACK does not pack
    unmodelled: tuple[Unmodelled, ...]


def delegate(blob: pte.Blob, processor: Processor, threads: int, title: str) -> Delegate:
    """What `blob` takes once it is compiled and has run."""
    given = subgraph(blob)
    processor = replace(processor, features=processor.features - LEFT_OUT)
    if any(one.datatype == "fp16" and one.constant is not None for one in blob.values):
        # Here products of half precision have kernels for AVX2 and none above it (src/configs/gemm-config.c).
        lower = frozenset(one for one in processor.features if not one.startswith("avx512"))
        processor = replace(processor, features=lower)
    held = hold(given, processor, threads, shared_workspace=True)
    inputs = sum(1 for one in blob.values if one.flags & pte.INPUT)
    outputs = sum(1 for one in blob.values if one.flags & pte.OUTPUT)
    ids = IDENTIFIER * (capacity(inputs) + capacity(outputs)) + EXTERNAL_VALUE * (inputs + outputs)
    packed = _packed(blob.nodes)
    stay = {one.constant for one in blob.values if one.constant is not None and one.name and one.id not in packed}
    missing = tuple(Unmodelled(f"{title}: {one.what}", one.reason, one.nbytes) for one in held.unmodelled)
    room = workspace(given, held.creating, processor, threads)
    first = next((at for at, one in enumerate(held.created) if one.category == "objects"), -1)
    created = tuple(
        Holding(one.category, max(one.nbytes - room.less, 0), one.what) if at == first else one
        for at, one in enumerate(held.created)
    )
    compiling = room.creating + room.behind + _compiling(blob, packed)
    ids += BUFFER * capacity(len({one.id for one in blob.values if one.name and one.id not in packed}))
    own = (Holding("objects", ids, "the delegate's arguments, and constants used as they are"),)
    return Delegate(
        own, compiling, held, created, room,
        sum(one.nbytes for one in stay), missing,
    )  # fmt: skip


def _packed(nodes: Iterable[pte.Node]) -> set[int]:
    """Values that XNNPACK copies into weights of its own (getPackedValueIds)."""
    kinds = ("FullyConnected", "Conv2d", "DepthwiseConv2d", "ConvTranspose2d")
    return {number for node in nodes if node.type in kinds for number in node.reads[1:] if number != pte.NONE}


def _compiling(blob: pte.Blob, packed: set[int]) -> int:
    """Hash tables of libstdc++ (a node of 16 B an entry, 8 B a bucket) and the list of buffers, which doubles."""
    ids = len(blob.values) + 1
    named = sum(1 for one in blob.values if one.name)
    return 16 * ids + 8 * _buckets(ids) + 16 * len(packed) + 8 * _buckets(len(packed)) + BUFFER * capacity(named)


_PRIMES = (13, 29, 59, 127, 257, 541, 1109, 2357, 5087, 10273, 20753, 42043, 85229, 172933)
# of libstdc++'s _Prime_rehash_policy, as a table grows one by one


def _buckets(count: int) -> int:
    if count <= 1:
        return 0
    return next((prime for prime in _PRIMES if count <= prime), 2 * count)


def subgraph(blob: pte.Blob) -> Subgraph:
    """The calls that define what `blob` says (XNNCompiler::compileModel)."""
    places: dict[int, int] = {pte.NONE: ABSENT}
    values: list[Value | None] = [None] * blob.externs
    keys: dict[Place | str, int] = {}
    for one in blob.values:
        if one.external < blob.externs:
            places[one.id] = one.external
            values[one.external] = _value(one, keys)
        else:
            places[one.id] = len(values)
            values.append(_value(one, keys))
    nodes = tuple(_node(one, places, blob) for one in blob.nodes)
    return Subgraph(tuple(values), nodes, blob.externs)


def _value(one: pte.Value, keys: dict[Place | str, int]) -> Value:
    key = None
    if one.constant is not None:
        identity: Place | str = one.constant if one.constant.start else one.name
        key = keys.setdefault(identity, len(keys))
    return Value(
        one.shape, cast("Datatype", one.datatype), one.constant is not None,
        bool(one.flags & pte.INPUT), bool(one.flags & pte.OUTPUT),
        block=one.block, nonbatch=one.nonbatch or 1, zero_point=one.zero_point, scale=one.scale, key=key,
    )  # fmt: skip


def _node(one: pte.Node, places: Mapping[int, int], blob: pte.Blob) -> Node:
    inputs = tuple(places[number] for number in one.reads)
    outputs = tuple(places[number] for number in one.makes)
    told = one.fields
    flags = int(cast("int", told.get("flags", 0)))
    shape, axes = _numbers(one, "new_shape", "sizes"), _numbers(one, "perm")
    kind: NodeType
    operator, axis = "", 0
    found: set[Flag] = set()
    if one.type in _UNARY:
        kind, operator = "unary", _UNARY[one.type]
    elif one.type in _BINARY:
        kind, operator = "binary", _BINARY[one.type]
    elif one.type == "GlobalAvgPooling2d":
        # xnn_define_global_average_pooling_2d is a mean over the axes of the image, which are kept if told so
        rank = next((len(value.shape) for value in blob.values if value.id == one.reads[0]), 4)
        kind, operator, axes = "static_reduce", "mean", (rank - 3, rank - 2)
    elif one.type.startswith("Concatenate"):
        kind, axis = "concatenate", int(cast("int", told["axis"]))
    else:
        kind = _PLAIN[one.type]
    if one.type == "StaticResizeBilinear2D":
        shape = (int(cast("int", told["new_height"])), int(cast("int", told["new_width"])))
    if kind in ("fully_connected", "batch_matrix_multiply", "deconvolution_2d") and flags & _TRANSPOSE_WEIGHTS:
        found.add("transpose weights")
    if flags & _SAME_PADDING and kind in _WINDOWS:
        found.add("tensorflow same padding")
    if flags & _KEEP_DIMS and kind == "static_reduce":
        found.add("keep dims")
    if flags & _ALIGN_CORNERS and kind == "static_resize_bilinear_2d":
        found.add("align corners")
    if flags & _SAME_PADDING and kind == "static_resize_bilinear_2d":
        found.add("tensorflow legacy mode")
    return Node(
        kind, inputs, outputs, operator, _window(one) if kind in _WINDOWS else None, one.clamp, frozenset(found), axis,
        axes, shape, _numbers(one, "pre_paddings", "offsets"), _numbers(one, "post_paddings"), name=one.type,
    )  # fmt: skip


_WINDOWS = (
    "convolution_2d", "depthwise_convolution_2d", "deconvolution_2d", "average_pooling_2d", "max_pooling_2d",
    "argmax_pooling_2d",
)  # fmt: skip


def _numbers(one: pte.Node, *names: str) -> tuple[int, ...]:
    for name in names:
        listed = one.fields.get(name)
        if isinstance(listed, tuple):
            return listed
    return ()


def _window(one: pte.Node) -> Window:
    def number(name: str, default: int = 0) -> int:
        return int(cast("int", one.fields.get(name, default)))

    padding = (number("padding_top"), number("padding_right"), number("padding_bottom"), number("padding_left"))
    if "pooling_height" in one.fields:
        return Window(
            (number("pooling_height"), number("pooling_width")),
            (number("stride_height", 1), number("stride_width", 1)),
            (number("dilation_height", 1), number("dilation_width", 1)), padding,
        )  # fmt: skip
    inside, outside = number("group_input_channels"), number("group_output_channels")
    groups, multiplier = number("groups"), 1
    if one.type == "DepthwiseConv2d":
        # its groups are channels, each with `outside` kernels of depth `inside`
        inside, outside, groups, multiplier = groups, outside * groups, 1, outside // inside if inside else 1
    return Window(
        (number("kernel_height"), number("kernel_width")), (number("subsampling_height"), number("subsampling_width")),
        (number("dilation_height"), number("dilation_width")), padding, groups, inside, outside, multiplier,
        (number("adjustment_height"), number("adjustment_width")),
    )  # fmt: skip
