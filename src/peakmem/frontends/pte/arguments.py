"""Arguments of kernels as attributes; files have them by their place in the operator's schema, without names.

Only operators whose numbers analyses ask for are named here, in ONNX's words where the meaning is ONNX's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peakmem.frontends.pte.program import Method, TensorValue
from peakmem.frontends.pte.schema import Kind

LONGEST = 64
# entries of a list

_NAMES: Mapping[str, tuple[str, ...]] = {
    "convolution": ("", "weight", "", "strides", "pads", "dilations", "transposed", "output_padding", "group"),
    "max_pool2d_with_indices": ("", "kernel_shape", "strides", "pads", "dilations", "ceil_mode"),
    "max_pool2d": ("", "kernel_shape", "strides", "pads", "dilations", "ceil_mode"),
    "avg_pool2d": ("", "kernel_shape", "strides", "pads", "ceil_mode", "count_include_pad", "divisor_override"),
    "mean": ("", "axes", "keepdims"), "sum": ("", "axes", "keepdims"), "amax": ("", "axes", "keepdims"),
    "amin": ("", "axes", "keepdims"), "cat": ("", "axis"), "_softmax": ("", "axis"), "_log_softmax": ("", "axis"),
    "permute_copy": ("", "perm"), "transpose_copy": ("", "dim0", "dim1"),
    "slice_copy": ("", "axis", "start", "end", "step"),
    "select_copy": ("", "axis", "index"), "unsqueeze_copy": ("", "axis"), "squeeze_copy": ("", "axis"),
    "view_copy": ("", "shape"), "expand_copy": ("", "shape"), "hardtanh": ("", "min_val", "max_val"),
    "clamp": ("", "min", "max"), "native_layer_norm": ("", "normalized_shape", "", "", "epsilon"),
    "split_with_sizes_copy": ("", "split", "axis"), "index_select": ("", "axis"), "gather": ("", "axis"),
    "constant_pad_nd": ("", "pads", "value"),
}  # fmt: skip
_NAMES = {**_NAMES, "_convolution": _NAMES["convolution"]}


def attributes(method: Method, domain: str, op: str, arguments: tuple[int, ...]) -> dict[str, Any]:
    """What a call is told besides tensors."""
    names = _NAMES.get(op, ()) if domain == "aten" else ()
    found: dict[str, Any] = {}
    for name, position in zip(names, arguments, strict=False):
        if not name:
            continue
        content = plain(method, position)
        if name == "weight":
            weight = method.values[position].content
            found["kernel_shape"] = weight.shape[2:] if isinstance(weight, TensorValue) else ()
        elif content is not None:
            found[name] = content
    if "pads" in found and isinstance(found["pads"], tuple) and op != "constant_pad_nd":
        spatial = len(found["kernel_shape"]) if isinstance(found.get("kernel_shape"), tuple) else len(found["pads"])
        pads = found["pads"] * spatial if len(found["pads"]) == 1 else found["pads"]
        found["pads"] = pads * 2
    if found.get("strides") == () and "kernel_shape" in found:
        found["strides"] = found["kernel_shape"]
    if isinstance(found.get("axes"), int):
        found["axes"] = (found["axes"],)
    if not any(found.get("output_padding", (1,))):
        found.pop("output_padding")
    return found


def plain(method: Method, position: int) -> Any:
    """A number, text or list of numbers; None for anything else."""
    value = method.values[position]
    if value.kind == Kind.BOOL:
        return int(value.content)
    if value.kind in (Kind.INT, Kind.DOUBLE, Kind.STRING):
        return value.content
    if value.kind in (Kind.DOUBLE_LIST, Kind.BOOL_LIST) and len(value.content) <= LONGEST:
        return tuple(value.content)
    if value.kind == Kind.INT_LIST and len(value.content) <= LONGEST:
        parts = [method.values[one] for one in value.content]
        if all(one.kind == Kind.INT for one in parts):
            return tuple(one.content for one in parts)
    return None
