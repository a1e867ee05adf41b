"""What each layer of ncnn stores in the .bin file, told from its parameters alone, in the file's order.

`slot` is the input position that the operator gives the weight: ONNX's, where ONNX has the operator.
Source: the `load_model` of each file in ncnn's `src/layer` (2026-07).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from peakmem.dtypes import FLOAT32, INT4, INT8, DType
from peakmem.errors import GraphError
from peakmem.ir.dims import format_shape

Values: TypeAlias = Mapping[str, Any]

INT6 = DType("int6", 6, "int")
LARGEST_COUNT = 2**31
# ncnn counts elements in 32 bits


@dataclass(frozen=True, slots=True)
class Weight:
    """One array of the .bin file."""

    name: str
    shape: tuple[int, ...]
    slot: int
    tagged: bool = False
    # four bytes in front of it say how it is stored; without them it is float32
    dtype: DType = FLOAT32
    # as ncnn's own tools store it
    packed: int = 0
    # bytes of a weight quantised in blocks, which the file counts as its elements

    @property
    def count(self) -> int:
        """Elements as the file counts them."""
        total = 1
        for dim in self.shape:
            total *= dim
        return self.packed or total


def _filter_shape(values: Values, window: tuple[int, ...], *, transposed: bool) -> tuple[int, ...]:
    """Shape of a kernel as ONNX writes it, from the number of its elements."""
    outputs, group, size = values["num_output"], values.get("group", 1), values["weight_data_size"]
    room = outputs
    for extent in window:
        room *= extent
    if group < 1 or room < 1 or size < 1 or size % room or outputs % group:
        raise GraphError(
            f"{size} weights cannot be {outputs} outputs of {'x'.join(map(str, window))} kernels in {group} groups"
        )
    inside = size // room
    return (inside * group, outputs // group, *window) if transposed else (outputs, inside, *window)


def window(values: Values, what: str) -> tuple[int, ...]:
    """`kernel`, `stride` or `dilation` of a layer, outermost axis first."""
    return tuple(values[f"{what}_{axis}"] for axis in "dhw" if f"{what}_{axis}" in values)


def _convolution(values: Values) -> list[Weight]:
    if values.get("dynamic_weight"):
        return []
    term = values.get("int8_scale_term", 0)
    outputs = values["num_output"]
    shape = _filter_shape(values, window(values, "kernel"), transposed=False)
    found = [Weight("weight", shape, 1, True, INT8 if term else FLOAT32)]
    if values["bias_term"]:
        found.append(Weight("bias", (outputs,), 2))
    if term:
        scales = outputs
        if "group" in values:
            scales = values["group"] if term in (1, 101) else 1 if term in (2, 102) else 0
        if scales:
            found += [Weight("weight_scale", (scales,), 3), Weight("input_scale", (1,), 4)]
        if term > 100:
            found.append(Weight("output_scale", (1,), 5))
    return found


def _deconvolution(values: Values) -> list[Weight]:
    if values.get("dynamic_weight"):
        return []
    found = [Weight("weight", _filter_shape(values, window(values, "kernel"), transposed=True), 1, True)]
    if values["bias_term"]:
        found.append(Weight("bias", (values["num_output"],), 2))
    return found


def _deformable(values: Values) -> list[Weight]:
    found = [Weight("weight", _filter_shape(values, window(values, "kernel"), transposed=False), 1, True)]
    if values["bias_term"]:
        found.append(Weight("bias", (values["num_output"],), 3))
    return found


def _matrix(rows: int, size: int) -> tuple[int, int]:
    if rows < 1 or size < 1 or size % rows:
        raise GraphError(f"{size} weights cannot be {rows} rows")
    return rows, size // rows


def _inner_product(values: Values) -> list[Weight]:
    term, outputs = values["int8_scale_term"], values["num_output"]
    found = [
        Weight("weight", _matrix(outputs, values["weight_data_size"]), 1, True, INT8 if term else FLOAT32),
    ]
    if values["bias_term"]:
        found.append(Weight("bias", (outputs,), 2))
    if term:
        found += [Weight("weight_scale", (outputs,), 3), Weight("input_scale", (1,), 4)]
    return found


def _embed(values: Values) -> list[Weight]:
    term, outputs = values["int8_scale_term"], values["num_output"]
    columns, rows = _matrix(outputs, values["weight_data_size"])
    found = [Weight("weight", (rows, columns), 1, True, INT8 if term else FLOAT32)]
    if values["bias_term"]:
        found.append(Weight("bias", (outputs,), 2))
    if term:
        found.append(Weight("weight_scale", (1,), 3))
    return found


def _batch_norm(values: Values) -> list[Weight]:
    channels = (values["channels"],)
    return [
        Weight("scale", channels, 1), Weight("mean", channels, 3), Weight("variance", channels, 4),
        Weight("bias", channels, 2),
    ]  # fmt: skip


def _scale(values: Values) -> list[Weight]:
    size = values["scale_data_size"]
    if size == -233:  # the scale is a blob
        return []
    found = [Weight("scale", (size,), 1)]
    if values["bias_term"]:
        found.append(Weight("bias", (size,), 2))
    return found


def _affine(size: str, *, bias: bool = True) -> Callable[[Values], list[Weight]]:
    def weights(values: Values) -> list[Weight]:
        if not values["affine"]:
            return []
        found = [Weight("scale", (values[size],), 1)]
        return [*found, Weight("bias", (values[size],), 2)] if bias else found

    return weights


def _vector(name: str, size: str) -> Callable[[Values], list[Weight]]:
    return lambda values: [Weight(name, (values[size],), 1)]


def _padding(values: Values) -> list[Weight]:
    size = values["per_channel_pad_data_size"]
    return [Weight("value", (size,), 1)] if size else []


def _dequantize(values: Values) -> list[Weight]:
    found = [Weight("scale", (values["scale_data_size"],), 1)]
    if values["bias_data_size"]:
        found.append(Weight("bias", (values["bias_data_size"],), 2))
    return found


def _requantize(values: Values) -> list[Weight]:
    found = [
        Weight("input_scale", (values["scale_in_data_size"],), 1),
        Weight("output_scale", (values["scale_out_data_size"],), 2),
    ]
    if values["bias_data_size"]:
        found.append(Weight("bias", (values["bias_data_size"],), 3))
    return found


def _recurrent(gates: int, biases: int) -> Callable[[Values], list[Weight]]:
    def weights(values: Values) -> list[Weight]:
        outputs, term = values["num_output"], values["int8_scale_term"]
        hidden = values.get("hidden_size", outputs)
        many = 2 if values["direction"] == 2 else 1
        if outputs < 1 or hidden < 1:
            raise GraphError(f"a recurrent layer of {outputs} outputs and {hidden} hidden values")
        inside = values["weight_data_size"] // many // hidden // gates
        stored = INT8 if term else FLOAT32
        found = [
            Weight("weight", (many, gates * hidden, inside), 1, True, stored),
            Weight("bias", (many, biases, hidden), 3, True),
            Weight("recurrent_weight", (many, gates * hidden, outputs), 2, True, stored),
        ]
        if hidden != outputs:
            found.append(Weight("projection", (many, outputs, hidden), 7, True))
        if term:
            found += [
                Weight("weight_scale", (many, gates * hidden), 8),
                Weight("recurrent_scale", (many, gates * hidden), 9),
            ]
        return found

    return weights


def _blocked(term: int) -> tuple[int, int, bool] | None:
    """(bits, elements of a block, whether inputs have scales) of a weight quantised in blocks."""
    bits, form, size = term // 100, term % 100 // 10, term % 10
    if bits in (4, 6, 8) and form in (0, 1) and size in (0, 1, 2):
        return bits, (32, 64, 128)[size], form == 1
    return None


def _packed(name: str, rows: int, columns: int, slot: int, bits: int) -> Weight:
    """A matrix of `bits` an element whose rows are whole bytes."""
    width = (columns * bits + 7) // 8
    if columns * bits % 8:
        return Weight(name, (rows, width), slot, True, INT8, packed=rows * width)
    dtype = {4: INT4, 6: INT6}.get(bits, INT8)
    return Weight(name, (rows, columns), slot, True, dtype, packed=rows * width)


def _gemm(values: Values) -> list[Weight]:
    m, n, k, term = (values[name] for name in ("constantM", "constantN", "constantK", "quantize_term"))
    blocks = _blocked(term)
    stored = INT8 if term else FLOAT32
    found = []
    if values["constantA"] == 1:
        found.append(Weight("A", (k, m) if values["transA"] else (m, k), 0, True, stored))
    if values["constantB"] == 1:
        if blocks is not None and values["transB"]:
            found.append(_packed("B", n, k, 1, blocks[0]))
        else:
            found.append(Weight("B", (n, k) if values["transB"] else (k, n), 1, True, stored))
    form = values["constant_broadcast_type_C"]
    if values["constantC"] == 1 and form != -1:
        shapes = {0: (1,), 1: (m,), 2: (m, 1), 3: (m, n), 4: (n,)}
        if form not in shapes:
            raise GraphError(f"C is broadcast in way {form}")
        found.append(Weight("C", shapes[form], 2, True))
    if blocks is not None:
        found.append(Weight("B_scale", (n, -(-k // blocks[1])), 3))
        if blocks[2]:
            found.append(Weight("input_scale", (k,), 4))
    elif term:
        if values["constantA"] == 1:
            found.append(Weight("A_scale", (m,), 3))
        if values["constantB"] == 1:
            found.append(Weight("B_scale", (1,), 4))
    return found


def _attention(values: Values) -> list[Weight]:
    embed, term = values["embed_dim"], values["quantize_term"]
    _, inside = _matrix(embed, values["weight_data_size"])
    blocks = _blocked(term)
    sides = (
        ("q", embed, inside), ("k", embed, values["kdim"]), ("v", embed, values["vdim"]), ("out", inside, embed),
    )  # fmt: skip
    found = []
    for position, (name, rows, columns) in enumerate(sides):
        slot = 6 + 2 * position
        if blocks is not None:
            found.append(_packed(f"{name}_weight", rows, columns, slot, blocks[0]))
        else:
            found.append(Weight(f"{name}_weight", (rows, columns), slot, True, INT8 if term else FLOAT32))
        found.append(Weight(f"{name}_bias", (rows,), slot + 1))
    if blocks is not None:
        found += [
            Weight(f"{name}_scale", (rows, -(-columns // blocks[1])), 14 + at)
            for at, (name, rows, columns) in enumerate(sides)
        ]
        if blocks[2]:
            found += [Weight(f"{name}_input_scale", (columns,), 18 + at) for at, (name, _, columns) in enumerate(sides)]
    elif term:
        found += [Weight(f"{name}_scale", (embed,), 14 + at) for at, name in enumerate("qkv")]
        found.append(Weight("out_scale", (1,), 17))
    return found


def given_shape(values: Values) -> tuple[int, ...]:
    """The shape that w, h, d and c of an Input or MemoryData layer describe; empty when none is given."""
    w, h, d, c = (values[name] for name in "whdc")
    return (c, d, h, w) if d else (c, h, w) if c else (h, w) if h else (w,) if w else ()


def _memory_data(values: Values) -> list[Weight]:
    shape = given_shape(values)
    return [Weight("data", shape, 0, values["load_type"] == 0)] if shape else []


_WEIGHTS: Mapping[str, Callable[[Values], list[Weight]]] = {
    **dict.fromkeys(
        ("Convolution", "Convolution1D", "Convolution3D", "ConvolutionDepthWise", "ConvolutionDepthWise1D",
         "ConvolutionDepthWise3D"), _convolution,
    ),
    **dict.fromkeys(
        ("Deconvolution", "Deconvolution1D", "Deconvolution3D", "DeconvolutionDepthWise",
         "DeconvolutionDepthWise1D", "DeconvolutionDepthWise3D"), _deconvolution,
    ),
    "BatchNorm": _batch_norm,
    "Bias": _vector("bias", "bias_data_size"),
    "DeformableConv2D": _deformable,
    "Dequantize": _dequantize,
    "Embed": _embed,
    "GRU": _recurrent(3, 4),
    "Gemm": _gemm,
    "GroupNorm": _affine("channels"),
    "InnerProduct": _inner_product,
    "InstanceNorm": _affine("channels"),
    "LSTM": _recurrent(4, 4),
    "LayerNorm": _affine("affine_size"),
    "MemoryData": _memory_data,
    "MultiHeadAttention": _attention,
    "Normalize": _vector("scale", "scale_data_size"),
    "PReLU": _vector("slope", "num_slope"),
    "Padding": _padding,
    "Quantize": _vector("scale", "scale_data_size"),
    "RMSNorm": _affine("affine_size", bias=False),
    "RNN": _recurrent(1, 1),
    "Requantize": _requantize,
    "Scale": _scale,
}  # fmt: skip


def weights(op_type: str, values: Values, where: str) -> list[Weight]:
    """What a layer stores, in the order of the .bin file.

    Raises:
        GraphError: the parameters contradict each other.
    """
    made = _WEIGHTS.get(op_type)
    if made is None:
        return []
    try:
        found = made(values)
    except GraphError as fault:
        raise GraphError(fault.what, where=where) from fault
    for weight in found:
        if any(dim < 0 for dim in weight.shape) or weight.count > LARGEST_COUNT:
            raise GraphError(
                f"its {weight.name} would be {format_shape(weight.shape)}", where=where, expected="a size ncnn can hold"
            )
    return found
