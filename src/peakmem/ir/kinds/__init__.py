"""What operators are, by op type: facts that passes, parameters and conventions share.

Only the kind of an operator stands here, never a size. `key` gives the name the tables use: the
op type for ONNX's own operators, `domain:OpType` for others, and ONNX's name for an operator of
another format that is the same thing. `standard` holds ONNX's facts, one file per other domain
adds its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from peakmem.ir.dims import Shape
from peakmem.ir.graph import Operator
from peakmem.ir.kinds import aten, keras, mnn, ncnn, peakmem, pnnx, standard, tflite
from peakmem.ir.kinds.domain import DomainKinds, Positions
from peakmem.ir.kinds.standard import DEQUANTIZE, MICROSOFT, NCHWC, QUANTIZE

DOMAINS: tuple[DomainKinds, ...] = (
    aten.KINDS, keras.KINDS, mnn.KINDS, ncnn.KINDS, peakmem.KINDS, pnnx.KINDS, tflite.KINDS,
)  # fmt: skip


def _table(own: Positions, field: str) -> Positions:
    merged = dict(own)
    for kinds in DOMAINS:
        merged.update({f"{kinds.domain}:{name}": at for name, at in getattr(kinds, field).items()})
    return merged


def _set(own: Iterable[str], field: str) -> frozenset[str]:
    return frozenset(own).union(f"{kinds.domain}:{name}" for kinds in DOMAINS for name in getattr(kinds, field))


SAME: Mapping[str, str] = {f"{kinds.domain}:{name}": onnx for kinds in DOMAINS for name, onnx in kinds.same.items()}

WEIGHTS = _table(standard.WEIGHTS, "weights")
BIASES = _table(standard.BIASES, "biases")
NORM_AFFINE = _table(standard.NORM_AFFINE, "norm_affine")
STATISTICS = _table(standard.STATISTICS, "statistics")
QUANTISATION = _table(standard.QUANTISATION, "quantisation")

CONVOLUTIONS = _set(standard.CONVOLUTIONS, "convolutions")
PRODUCTS = _set(standard.PRODUCTS, "products")
RECURRENT = _set(("LSTM", "GRU", "RNN", MICROSOFT + "DynamicQuantizeLSTM"), "recurrent")
NORMALIZATIONS = frozenset(NORM_AFFINE)
ACTIVATIONS = _set(standard.ACTIVATIONS, "activations")
UNARY = _set(standard.UNARY, "unary") | ACTIVATIONS
BINARY = _set(standard.BINARY, "binary")
ELEMENTWISE = UNARY | BINARY | {"Where"}
VIEWS = _set(standard.VIEWS, "views")
SETTINGS = _set(standard.SETTINGS, "settings")
RANDOM = _set(standard.RANDOM, "random")
LOOPS = _set(("Loop", "Scan"), "loops")

LAYOUTS: Mapping[str, str] = {
    "Conv": "OI*", "ConvInteger": "OI*", "DeformConv": "OI*", "QLinearConv": "OI*", "ConvTranspose": "IO*",
    MICROSOFT + "FusedConv": "OI*", MICROSOFT + "QLinearConv": "OI*", MICROSOFT + "NhwcFusedConv": "OI*",
    MICROSOFT + "NhwcConv": "OI*", NCHWC + "Conv": "OI*",
    **{f"{kinds.domain}:{name}": layout for kinds in DOMAINS for name, layout in kinds.layouts.items()},
}  # fmt: skip
# by the operator's own name first, then by `key`; matrices are input × output unless told


def native(operator: Operator) -> str:
    """The op type with its domain, as the format spells it."""
    return f"{operator.domain}:{operator.op_type}" if operator.domain else operator.op_type


def key(operator: Operator) -> str:
    """The name the tables know the operator by: ONNX's, where that is the same operator."""
    if not operator.domain:
        return operator.op_type
    name = f"{operator.domain}:{operator.op_type}"
    return SAME.get(name, name)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A weight as papers write it, whatever order its file has."""

    window: Shape
    inside: int | None
    # input channels of one group; None when a dimension is not known
    outside: int | None
    # output channels of all groups
    depthwise: bool


def kernel(operator: Operator, shape: Shape) -> Kernel | None:
    """The window and channels of a convolution's or product's weight of `shape`; None for others."""
    name = key(operator)
    layout = LAYOUTS.get(native(operator)) or LAYOUTS.get(name)
    if layout is None:
        if name not in PRODUCTS or len(shape) < 2:
            return None
        layout = "OI" if name == "Gemm" and operator.attributes.get("transB") else "IO"
        if len(shape) > 2:
            layout = "*" + layout
    fixed = len(layout) - 1 if "*" in layout else len(layout)
    if len(shape) < fixed or ("*" not in layout and len(shape) != fixed):
        return None
    window_at = layout.find("*")
    span = len(shape) - fixed
    named: dict[str, int | None] = {}
    window: Shape = ()
    at = 0
    for letter in layout:
        if letter == "*":
            window = shape[window_at : window_at + span]
            at += span
            continue
        dim = shape[at]
        named[letter] = dim if isinstance(dim, int) else None
        at += 1
    group = operator.attributes.get("group", 1)
    group = group if isinstance(group, int) and group > 0 else 1
    inside, outside = named.get("I", 1), named.get("O")
    if "M" in named:
        # One kernel per channel and multiplier: the file has the input channels where others have one group's.
        many = named["M"]
        outside = inside * many if inside is not None and many is not None else None
        return Kernel(window, 1, outside, True)
    if name == "ConvTranspose" and outside is not None:
        inside, outside = (inside // group if inside is not None else None), outside * group
        return Kernel(window, inside, outside, inside == 1 and group > 1)
    depthwise = name in CONVOLUTIONS and inside == 1 and ("1" in layout or group > 1)
    return Kernel(window, inside, outside, depthwise)


def output_channels(operator: Operator, shape: tuple[int, ...]) -> int:
    """Output channels of a weight of `shape`: how many per-channel scales it needs when quantised."""
    if len(shape) < 2:
        return shape[0] if shape else 1
    if key(operator) in ("LSTM", "GRU", "RNN"):
        return shape[0] * shape[1]
    found = kernel(operator, shape)
    if found is not None and found.outside is not None:
        return found.outside
    return shape[-1] if key(operator) in PRODUCTS else shape[0]


def row(operator: Operator, shape: tuple[int, ...]) -> int:
    """Elements of one row of a matrix: the input channels of a product, the width of a table; 0 for other weights."""
    if key(operator) in PRODUCTS:
        found = kernel(operator, shape)
        return (found.inside if found is not None else 0) or 0
    return shape[-1] if len(shape) == 2 and key(operator) not in CONVOLUTIONS else 0


__all__ = [
    "ACTIVATIONS",
    "BIASES",
    "BINARY",
    "CONVOLUTIONS",
    "DEQUANTIZE",
    "ELEMENTWISE",
    "LAYOUTS",
    "LOOPS",
    "MICROSOFT",
    "NCHWC",
    "NORMALIZATIONS",
    "NORM_AFFINE",
    "PRODUCTS",
    "QUANTISATION",
    "QUANTIZE",
    "RANDOM",
    "RECURRENT",
    "SAME",
    "SETTINGS",
    "STATISTICS",
    "UNARY",
    "VIEWS",
    "WEIGHTS",
    "Kernel",
    "kernel",
    "key",
    "native",
    "output_channels",
    "row",
]  # fmt: skip
