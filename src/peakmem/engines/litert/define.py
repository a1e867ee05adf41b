"""One part of a subgraph as the XNNPACK delegate defines it for XNNPACK (Subgraph::Create and Visit*Node).

From tflite/delegates/xnnpack/xnnpack_delegate.cc of LiteRT f674577 (2026-08-21).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from peakmem.engines.litert.delegate import Chosen, Subset
from peakmem.engines.litert.model import Part
from peakmem.engines.litert.support import FLOATS, SMALL, deconvolution, kind, pairs
from peakmem.engines.xnnpack.subgraph import ABSENT, Datatype, Flag, Node, Subgraph, Value, Window
from peakmem.errors import GraphError
from peakmem.frontends.tflite.census import Call

INF = float("inf")
CLAMPS = {"NONE": (-INF, INF), "RELU": (0.0, INF), "RELU_N1_TO_1": (-1.0, 1.0), "RELU6": (0.0, 6.0)}
FIRST_ONLY = frozenset((
    "EXPAND_DIMS", "MEAN", "PAD", "REDUCE_MAX", "REDUCE_MIN", "SUM", "RESHAPE", "RESIZE_BILINEAR", "STRIDED_SLICE",
    "SLICE", "TRANSPOSE",
))  # fmt: skip
# operators whose other inputs are parameters
UNARY = {
    "ABS": "abs", "CEIL": "ceiling", "COS": "cosine", "DEQUANTIZE": "convert", "QUANTIZE": "convert", "ELU": "elu",
    "EXP": "exp", "FLOOR": "floor", "GELU": "gelu", "HARD_SWISH": "hardswish", "LEAKY_RELU": "leaky_relu", "LOG": "log",
    "LOGISTIC": "sigmoid", "NEG": "negate", "RELU": "clamp", "RELU_N1_TO_1": "clamp", "RELU6": "clamp",
    "ROUND": "bankers_rounding", "RSQRT": "reciprocal_square_root", "SIN": "sine", "SQRT": "square_root",
    "SQUARE": "square", "TANH": "tanh",
}  # fmt: skip
BINARY = {
    "ADD": "add", "DIV": "divide", "MAXIMUM": "maximum", "MINIMUM": "minimum", "MUL": "multiply", "PRELU": "prelu",
    "SQUARED_DIFFERENCE": "squared_difference", "SUB": "subtract",
}  # fmt: skip
REDUCED = {"MEAN": "mean", "SUM": "sum", "REDUCE_MAX": "max", "REDUCE_MIN": "min"}


@dataclass(slots=True)
class Defined:
    """A part, with what the delegate keeps for it."""

    subgraph: Subgraph
    tensors: int
    # with a number in XNNPACK
    inputs: int
    outputs: int
    externals: int
    scales: int
    # bytes of scales that it makes for each channel


@dataclass(slots=True)
class _Building:
    part: Part
    chosen: Chosen
    values: list[Value | None] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    ids: dict[int, int] = field(default_factory=dict)
    scales: int = 0

    def add(self, value: Value) -> int:
        self.values.append(value)
        return len(self.values) - 1


def define(part: Part, subset: Subset, chosen: Chosen) -> Defined:
    """The XNNPACK subgraph of one delegated subset."""
    outputs = {one for one in subset.outputs if one not in chosen.unpacked and one not in chosen.halves}
    used: set[int] = set()
    for at in subset.nodes:
        call = part.calls[at]
        if at in chosen.skipped:
            continue
        if call.op_type in FIRST_ONLY:
            used.add(call.inputs[0])
        elif call.op_type == "SPLIT":
            used.add(call.inputs[1])
        else:
            used.update(one for one in call.inputs[call.op_type == "TRANSPOSE_CONV" :] if one >= 0)
        used.update(call.outputs)
    used.update(chosen.halves.values())
    used.difference_update(chosen.halves)
    tensors = sorted(used)
    building = _Building(part, chosen, [None] * len(tensors))
    external_inputs, external_outputs, externals = 0, 0, 0
    for tensor in tensors:
        one = part.tensors[tensor]
        static = one.stored or tensor in chosen.unpacked
        given = tensor in subset.inputs and not static
        result = tensor in outputs
        value = _value(part, tensor)
        value = replace(value, static=static, external_input=given, external_output=result,
                        key=part.sides[tensor].buffer if one.stored else None)  # fmt: skip
        external_inputs += int(given)
        external_outputs += int(result)
        if given or result:
            building.values[externals] = value
            building.ids[tensor] = externals
            externals += 1
        else:
            building.ids[tensor] = building.add(value)
    for widened, source in chosen.halves.items():
        building.ids[widened] = building.ids[source]
    for at in subset.nodes:
        if at not in chosen.skipped:
            call = part.calls[at]
            RULES[call.op_type](building, call, f"{call.op_type}_{at}")
    subgraph = Subgraph(tuple(building.values), tuple(building.nodes), len(tensors))
    return Defined(subgraph, len(building.ids), external_inputs, external_outputs, externals, building.scales)


def _value(part: Part, tensor: int) -> Value:
    """DefineXNNPACKValue."""
    one, side = part.tensors[tensor], part.sides[tensor]
    filled = side.values[0] if side.values and len(side.values) == 1 else None
    return Value(
        one.shape, _datatype(part, tensor), zero_point=side.zero_point, scale=side.scale if side.scales == 1 else 0.0,
        block=side.block, filled=filled,
    )  # fmt: skip


def _datatype(part: Part, tensor: int) -> Datatype:
    name, scales = kind(part.tensors[tensor]), part.sides[tensor].scales
    if part.sides[tensor].block:
        return "qbint4"
    found: Datatype | None = {
        ("float32", False): "fp32", ("float16", False): "fp16", ("float32", True): "fp32", ("float16", True): "fp16",
        ("uint8", False): "quint8", ("int8", False): "qint8", ("int8", True): "qcint8", ("int4", False): "qint4",
        ("int4", True): "qcint4", ("int2", False): "qint2", ("int2", True): "qcint2", ("int32", False): "qint32",
        ("int32", True): "qcint32",
    }.get((name, scales > 1))  # type: ignore[assignment] # fmt: skip
    if found is None:
        raise GraphError(f"XNNPACK has no type for a tensor of {name}", where=part.tensors[tensor].name)
    return found


def _clamp(call: Call) -> tuple[float, float]:
    return CLAMPS[str(call.options.get("fused_activation", "NONE"))]


def _same(call: Call) -> frozenset[Flag]:
    same: frozenset[Flag] = frozenset(("tensorflow same padding",))
    return same if str(call.options.get("padding", "SAME")) == "SAME" else frozenset()


def _ids(building: _Building, call: Call) -> tuple[tuple[int, ...], tuple[int, ...]]:
    ids = building.ids
    return tuple(ids[one] if one >= 0 else ABSENT for one in call.inputs), tuple(ids[one] for one in call.outputs)


def _first(building: _Building, call: Call) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return (building.ids[call.inputs[0]],), tuple(building.ids[one] for one in call.outputs)


def _unary(building: _Building, call: Call, name: str) -> None:
    given, out = _first(building, call)
    clamp = CLAMPS.get(call.op_type, (-INF, INF))
    operator = UNARY[call.op_type]
    if operator == "gelu" and call.options.get("approximate"):
        operator = "approxgelu"
    building.nodes.append(Node("unary", given, out, operator, clamp=clamp, name=name))


def _binary(building: _Building, call: Call, name: str) -> None:
    given, out = _ids(building, call)
    clamp = _clamp(call) if call.op_type in ("ADD", "DIV", "MUL", "SUB") else (-INF, INF)
    building.nodes.append(Node("binary", given, out, BINARY[call.op_type], clamp=clamp, name=name))


def _pool(building: _Building, call: Call, name: str) -> None:
    given, out = _first(building, call)
    kernel = pairs(call, "kernel_shape")
    if kernel == (1, 1):
        building.nodes.append(Node("unary", given, out, "clamp", clamp=_clamp(call), name=name))
        return
    window = Window(kernel, pairs(call, "strides"))
    which = "max_pooling_2d" if call.op_type == "MAX_POOL_2D" else "average_pooling_2d"
    building.nodes.append(
        Node(which, given, out, window=window, clamp=_clamp(call), flags=_same(call), name=name)  # type: ignore[arg-type]
    )


def _quantised_input(building: _Building, tensor: int, source: int, nonbatch: int, name: str) -> int:
    """A value that a convert node before the product fills."""
    shape = building.part.tensors[tensor].shape
    made = building.add(Value(shape, "qdint8", nonbatch=nonbatch))
    building.nodes.append(Node("unary", (source,), (made,), "convert", name=name))
    return made


def _by_channel(building: _Building, tensor: int, channels: int) -> int:
    """Weights of few bits as a value of their own, with a scale for each channel, which the delegate spreads."""
    one, side = building.part.tensors[tensor], building.part.sides[tensor]
    if not side.block and side.scales != channels:
        building.scales += 4 + 4 * channels - (4 + 4 * side.scales)
    datatype: Datatype = "qbint4" if side.block else {"int8": "qcint8", "int4": "qcint4", "int2": "qcint2"}[kind(one)]  # type: ignore[assignment]
    return building.add(Value(one.shape, datatype, static=True, block=side.block, key=side.buffer))


def _convolution(building: _Building, call: Call, name: str) -> None:
    (image, filters, bias), out = _ids(building, call)
    shape = building.part.tensors[call.inputs[1]].shape
    inner = shape[3]
    groups = building.part.tensors[call.inputs[0]].shape[3] // inner
    window = Window((shape[1], shape[2]), pairs(call, "strides"), pairs(call, "dilations"), groups=groups,
                    group_input_channels=inner, group_output_channels=shape[0] // groups)  # fmt: skip
    if (
        kind(building.part.tensors[call.inputs[0]]) == "float32"
        and kind(building.part.tensors[call.inputs[1]]) == "int8"
    ):
        image = _quantised_input(building, call.inputs[0], image, 3, name)
        filters = _by_channel(building, call.inputs[1], shape[0])
    building.nodes.append(
        Node(
            "convolution_2d",
            (image, filters, bias),
            out,
            window=window,
            clamp=_clamp(call),
            flags=_same(call),
            name=name,
        )
    )


def _depthwise(building: _Building, call: Call, name: str) -> None:
    given, out = _ids(building, call)
    shape = building.part.tensors[call.inputs[1]].shape
    by = int(call.options.get("depth_multiplier", 1))
    window = Window((shape[1], shape[2]), pairs(call, "strides"), pairs(call, "dilations"),
                    group_input_channels=shape[3] // by, depth_multiplier=by)  # fmt: skip
    building.nodes.append(
        Node("depthwise_convolution_2d", given, out, window=window, clamp=_clamp(call), flags=_same(call), name=name)
    )


def _transposed(building: _Building, call: Call, name: str) -> None:
    part = building.part
    ids = building.ids
    shape, image_shape = part.tensors[call.inputs[1]].shape, part.tensors[call.inputs[2]].shape
    found = deconvolution(call, shape, image_shape, part.sides[call.inputs[0]].ints() or (0, 0, 0, 0))
    padding, adjustment = found or ((0, 0, 0, 0), (0, 0))
    image, filters = ids[call.inputs[2]], ids[call.inputs[1]]
    bias = ids[call.inputs[3]] if len(call.inputs) > 3 and call.inputs[3] >= 0 else ABSENT
    if kind(part.tensors[call.inputs[2]]) == "float32" and kind(part.tensors[call.inputs[1]]) == "int8":
        image = _quantised_input(building, call.inputs[2], image, 3, name)
        filters = _by_channel(building, call.inputs[1], shape[0])
    window = Window((shape[1], shape[2]), pairs(call, "strides"), padding=padding, adjustment=adjustment,
                    group_input_channels=shape[3], group_output_channels=shape[0])  # fmt: skip
    inputs = (image, filters, bias)
    building.nodes.append(
        Node("deconvolution_2d", inputs, (ids[call.outputs[0]],), window=window, clamp=_clamp(call), name=name)
    )


def _fully_connected(building: _Building, call: Call, name: str) -> None:
    part, ids = building.part, building.ids
    image, filters = ids[call.inputs[0]], ids[call.inputs[1]]
    shape = part.tensors[call.inputs[1]].shape
    depth = shape[1]
    rows = part.tensors[call.inputs[0]].count // max(depth, 1)
    if not call.options.get("keep_num_dims"):
        given = building.values[image]
        assert given is not None
        value = replace(given, shape=(rows, depth), static=False, external_input=False, external_output=False, key=None)
        flat = building.add(value)
        building.nodes.append(Node("static_reshape", (image,), (flat,), shape=(0, depth), name=name))
        image = flat
    small = kind(part.tensors[call.inputs[1]]) in SMALL
    if small and kind(part.tensors[call.inputs[0]]) in FLOATS:
        image = _quantised_input(building, call.inputs[0], image, 1, name)
    if small and kind(part.tensors[call.inputs[0]]) in (*FLOATS, "int8"):
        filters = _by_channel(building, call.inputs[1], shape[0])
    bias = ids[call.inputs[2]] if len(call.inputs) > 2 and call.inputs[2] >= 0 else ABSENT
    inputs = (image, filters, bias)
    building.nodes.append(Node("fully_connected", inputs, (ids[call.outputs[0]],), clamp=_clamp(call), name=name))


def _matrices(building: _Building, call: Call, name: str) -> None:
    part = building.part
    (left, right), out = _ids(building, call)
    one, other = part.tensors[call.inputs[0]], part.tensors[call.inputs[1]]
    if call.options.get("adj_x"):
        shape = (*one.shape[:-2], one.shape[-1], one.shape[-2])
        value = _value(part, call.inputs[0])
        turned = building.add(replace(value, shape=shape))
        axes = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
        building.nodes.append(Node("static_transpose", (left,), (turned,), axes=axes, name=name))
        left = turned
    flags: frozenset[Flag] = frozenset(("transpose weights",)) if call.options.get("adj_y") else frozenset()
    if kind(one) == "float32" and kind(other) == "int8":
        columns = other.shape[-2] if flags else other.shape[-1]
        right = building.add(Value(other.shape, "qcint8", static=other.stored, key=part.sides[call.inputs[1]].buffer))
        batch = other.count // max(other.shape[-1] * other.shape[-2], 1)
        if part.sides[call.inputs[1]].scales != batch * columns:
            building.scales += 4 * batch * columns
        left = _quantised_input(building, call.inputs[0], left, 1, name)
    building.nodes.append(Node("batch_matrix_multiply", (left, right), out, flags=flags, name=name))


def _concatenation(building: _Building, call: Call, name: str) -> None:
    given, out = _ids(building, call)
    building.nodes.append(Node("concatenate", given, out, axis=int(call.options.get("axis", 0)), name=name))


def _split(building: _Building, call: Call, name: str) -> None:
    out = tuple(building.ids[one] for one in call.outputs)
    building.nodes.append(Node("even_split", (building.ids[call.inputs[1]],), out, name=name))


def _expand(building: _Building, call: Call, name: str) -> None:
    given, out = _first(building, call)
    axes = building.part.sides[call.inputs[1]].ints() or ()
    building.nodes.append(Node("static_expand_dims", given, out, axes=axes, name=name))


def _reshape(building: _Building, call: Call, name: str) -> None:
    given, out = _first(building, call)
    shape = building.part.sides[call.inputs[1]].ints() if len(call.inputs) > 1 else None
    if shape is None:
        said = call.options.get("new_shape")
        shape = tuple(int(one) for one in said) if said else building.part.tensors[call.outputs[0]].shape
    shape = tuple(0 if one == -1 else one for one in shape)
    building.nodes.append(Node("static_reshape", given, out, shape=shape, name=name))


def _reduce(building: _Building, call: Call, name: str) -> None:
    given, out = _first(building, call)
    axes = building.part.sides[call.inputs[1]].ints() or ()
    building.nodes.append(Node("static_reduce", given, out, REDUCED[call.op_type], axes=axes, name=name))


def _pad(building: _Building, call: Call, name: str) -> None:
    given, out = _first(building, call)
    numbers = building.part.sides[call.inputs[1]].ints() or ()
    building.nodes.append(Node("static_constant_pad", given, out, before=numbers[::2], after=numbers[1::2], name=name))


def _transpose(building: _Building, call: Call, name: str) -> None:
    given, out = _first(building, call)
    numbers = building.part.sides[call.inputs[1]].ints() or ()
    axes = tuple(one % len(numbers) for one in numbers)
    building.nodes.append(Node("static_transpose", given, out, axes=axes, name=name))


def _resize(building: _Building, call: Call, name: str) -> None:
    given, out = _first(building, call)
    size = building.part.tensors[call.outputs[0]].shape[1:3]
    building.nodes.append(Node("static_resize_bilinear_2d", given, out, shape=size, name=name))


def _slice(building: _Building, call: Call, name: str) -> None:
    given, out = _first(building, call)
    building.nodes.append(Node("static_slice", given, out, name=name))


def _softmax(building: _Building, call: Call, name: str) -> None:
    given, out = _first(building, call)
    building.nodes.append(Node("softmax", given, out, name=name))


def _blocks(building: _Building, call: Call, name: str) -> None:
    given, out = _first(building, call)
    which = "depth_to_space_2d" if call.op_type == "DEPTH_TO_SPACE" else "space_to_depth_2d"
    block = int(call.options.get("blocksize", 1))
    building.nodes.append(Node(which, given, out, block=block, name=name))  # type: ignore[arg-type]


RULES: Mapping[str, Callable[[_Building, Call, str], None]] = {
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys(("MAX_POOL_2D", "AVERAGE_POOL_2D"), _pool),
    **dict.fromkeys(REDUCED, _reduce),
    **dict.fromkeys(("SLICE", "STRIDED_SLICE"), _slice),
    **dict.fromkeys(("DEPTH_TO_SPACE", "SPACE_TO_DEPTH"), _blocks),
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _matrices,
    "CONCATENATION": _concatenation,
    "SPLIT": _split,
    "EXPAND_DIMS": _expand,
    "RESHAPE": _reshape,
    "PAD": _pad,
    "TRANSPOSE": _transpose,
    "RESIZE_BILINEAR": _resize,
    "SOFTMAX": _softmax,
}
