"""From a layer of an ncnn file to an operator: which input stands where, attributes in ONNX's words.

Blobs and weights get the positions that the operator of ONNX has, where there is one; "" stands
for what is not given. Source: the `forward` of the layers with more than one bottom (2026-07).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peakmem.frontends.ncnn.weights import Values, window

_SIDES = {"w": ("left", "right"), "h": ("top", "bottom"), "d": ("front", "behind")}
SAME_UPPER, SAME_LOWER = -233, -234
_ANY_SAME = frozenset(
    ("Deconvolution", "Deconvolution1D", "Deconvolution3D", "DeconvolutionDepthWise", "DeconvolutionDepthWise1D",
     "DeconvolutionDepthWise3D")
)  # fmt: skip
# layers in which one pad of -233 is enough; in the others all have to be


def attributes(op_type: str, values: Values) -> dict[str, Any]:
    """The parameters of a layer, those of a sliding window as ONNX writes them."""
    found: dict[str, Any] = dict(values)
    if values.get("global_pooling") or values.get("adaptive_pooling"):
        # The window follows from the blob; the file has zeros there.
        return {name: value for name, value in found.items() if not name.startswith(("kernel_", "stride_", "pad_"))}
    axes = tuple(axis for axis in "dhw" if f"kernel_{axis}" in values)
    if not axes:
        return found
    for ours, theirs in (("kernel", "kernel_shape"), ("stride", "strides"), ("dilation", "dilations")):
        if f"{ours}_w" in values:
            found[theirs] = window(values, ours)
    begins = [values[f"pad_{_SIDES[axis][0]}"] for axis in axes]
    ends = [values[f"pad_{_SIDES[axis][1]}"] for axis in axes]
    pads = (*begins, *ends)
    if not any(pad > 0 for pad in pads):
        enough = any if op_type in _ANY_SAME else all
        for mark, mode in ((SAME_UPPER, "SAME_UPPER"), (SAME_LOWER, "SAME_LOWER")):
            if enough(pad == mark for pad in pads):
                found["auto_pad"] = mode
                break
        if op_type not in ("Pooling", "Pooling1D", "Pooling3D", "DeformableConv2D"):
            pads = (0,) * len(pads)
    found["pads"] = pads
    for axis in axes:
        for name in ("kernel", "stride", "dilation"):
            found.pop(f"{name}_{axis}", None)
        for side in _SIDES[axis]:
            found.pop(f"pad_{side}", None)
    return found


def _attention(bottoms: Sequence[str], values: Values) -> list[str]:
    """query, key, value, mask, cached key, cached value; key and value may be the one before them."""
    rest = list(bottoms)
    cache = [rest.pop(), rest.pop()][::-1] if values["kv_cache"] and len(rest) > 2 else ["", ""]
    mask = rest.pop() if values["attn_mask"] and len(rest) > 1 else ""
    return [*[*rest, "", "", ""][:3], mask, *cache]


def _scaled_attention(bottoms: Sequence[str], values: Values) -> list[str]:
    rest = list(bottoms[3:])
    mask = rest.pop(0) if values["attn_mask"] and rest else ""
    return [*bottoms[:3], mask, *rest]


def _product(bottoms: Sequence[str], values: Values) -> list[str]:
    """A, B and C; those that are constant are given by the weights."""
    rest = list(bottoms)
    return [
        "" if values[f"constant{side}"] or not rest else rest.pop(0)
        for side in "ABC"
    ]  # fmt: skip


def data_inputs(op_type: str, bottoms: Sequence[str], values: Values) -> list[str]:
    """The blobs a layer reads, each at the position its operator has for it."""
    if op_type == "MultiHeadAttention":
        return _attention(bottoms, values)
    if op_type == "SDPA":
        return _scaled_attention(bottoms, values)
    if op_type == "Gemm":
        return _product(bottoms, values)
    if op_type in ("LSTM", "GRU", "RNN") and len(bottoms) > 1:
        return [bottoms[0], "", "", "", "", *bottoms[1:]]
    if op_type == "DeformableConv2D":
        return [bottoms[0], "", *bottoms[1:2], "", *bottoms[2:]] if bottoms else []
    return list(bottoms)


def inputs(op_type: str, bottoms: Sequence[str], values: Values, stored: Mapping[int, str]) -> tuple[str, ...]:
    """Blobs and weights (by slot) of an operator in order."""
    row = data_inputs(op_type, bottoms, values)
    if stored:
        row += [""] * (max(stored) + 1 - len(row))
    beyond = []
    for slot, name in stored.items():
        if row[slot]:
            beyond.append(row[slot])  # a bottom that the layer does not look at
        row[slot] = name
    while row and not row[-1]:
        row.pop()
    return (*row, *beyond)
