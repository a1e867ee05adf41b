"""Arguments of ATen operators as attributes: ONNX's names where the meaning is ONNX's, else their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from peakmem.frontends.torch.program import Argument, Call, Program, Ref, Value
from peakmem.ir.dims import Symbol

LONGEST = 4096
# entries of a list, characters of a text

_CONVOLUTION = re.compile(r"^_?conv(_transpose)?([123])d$|^_?(convolution|conv_depthwise3d)(_overrideable)?$")
_POOL = re.compile(r"^(adaptive_)?(max|avg|lp)_pool([123])d(_with_indices)?$")
_RENAMED: Mapping[str, str] = {
    "eps": "epsilon", "groups": "group", "stride": "strides", "dilation": "dilations", "kernel_size": "kernel_shape",
}  # fmt: skip
_AXIS = frozenset(
    {"cat", "concat", "stack", "softmax", "_softmax", "log_softmax", "_log_softmax", "gather", "index_select", "argmax",
     "argmin", "split", "chunk", "unbind", "cumsum", "glu", "select", "slice", "unsqueeze", "squeeze", "scatter",
     "topk", "sort", "split_with_sizes", "softmin", "cumprod"}
)  # fmt: skip
# `dim` of these is ONNX's `axis`; of reductions it is `axes`


def attributes(call: Call, values: Mapping[str, Value]) -> dict[str, Any]:
    """What a call is told besides tensors, as plain numbers, texts and tuples of them."""
    plain: dict[str, Any] = {}
    for name, argument in call.arguments:
        value = _plain(argument)
        if value is not None and name:
            plain[name] = value
    if call.namespace != "aten":
        return plain
    if _CONVOLUTION.match(call.op):
        return _convolution(call, plain, values)
    if _POOL.match(call.op):
        return _pool(call, plain)
    if call.op in ("transpose", "permute", "t", "swapaxes"):
        return _permutation(call, plain, values)
    if call.op in _AXIS and isinstance(plain.get("dim"), int):
        plain["axis"] = plain.pop("dim")
    elif "dim" in plain and isinstance(plain["dim"], tuple):
        plain["axes"] = plain.pop("dim")
    return {("epsilon" if name == "eps" else name): value for name, value in plain.items()}


def _plain(argument: Argument) -> Any:
    """A value an attribute can have; None for tensors, bodies and what is too long."""
    if isinstance(argument, Symbol):
        return str(argument)
    if argument is None or isinstance(argument, Ref | Program):
        return None
    if isinstance(argument, bool):
        return int(argument)
    if isinstance(argument, str):
        return argument[:LONGEST]
    if isinstance(argument, tuple):
        parts = [_plain(part) for part in argument[:LONGEST]]
        return None if any(part is None for part in parts) else tuple(parts)
    return argument


def _spread(value: Any, rank: int, default: int) -> tuple[Any, ...]:
    """One entry per spatial axis."""
    if isinstance(value, tuple) and value:
        return value * rank if len(value) == 1 else value
    return ((default if value is None or value == () else value),) * rank


def _convolution(call: Call, plain: dict[str, Any], values: Mapping[str, Value]) -> dict[str, Any]:
    weight = call.argument("weight")
    kernel = values[weight.name].shape[2:] if isinstance(weight, Ref) and weight.name in values else ()
    rank = len(kernel)
    found: dict[str, Any] = {"kernel_shape": tuple(dim if isinstance(dim, int) else str(dim) for dim in kernel)}
    padding = plain.pop("padding", None)
    found["strides"] = _spread(plain.pop("stride", None), rank, 1)
    found["dilations"] = _spread(plain.pop("dilation", None), rank, 1)
    if isinstance(padding, str):
        found["auto_pad"] = {"same": "SAME_UPPER", "valid": "VALID"}.get(padding, padding)
    else:
        found["pads"] = _spread(padding, rank, 0) * 2
    found["group"] = plain.pop("groups", 1)
    extra = plain.pop("output_padding", None)
    if extra is not None and any(_spread(extra, rank, 0)):
        found["output_padding"] = _spread(extra, rank, 0)
    return {**found, **plain}


def _pool(call: Call, plain: dict[str, Any]) -> dict[str, Any]:
    match = _POOL.match(call.op)
    assert match is not None
    if match.group(1):
        return plain
    rank = int(match.group(3))
    kernel = _spread(plain.pop("kernel_size", None), rank, 1)
    found: dict[str, Any] = {"kernel_shape": kernel}
    stride = plain.pop("stride", None)
    found["strides"] = kernel if stride in (None, ()) else _spread(stride, rank, 1)
    found["pads"] = _spread(plain.pop("padding", None), rank, 0) * 2
    dilation = plain.pop("dilation", None)
    if dilation is not None:
        found["dilations"] = _spread(dilation, rank, 1)
    found["ceil_mode"] = plain.pop("ceil_mode", 0)
    return {**found, **plain}


def _permutation(call: Call, plain: dict[str, Any], values: Mapping[str, Value]) -> dict[str, Any]:
    source = next(call.refs(), "")
    rank = len(values[source].shape) if source in values else 0
    if call.op == "permute":
        order = plain.get("dims")
        if isinstance(order, tuple) and len(order) == rank and all(isinstance(axis, int) for axis in order):
            return {"perm": tuple(axis % rank for axis in order)}
        return plain
    a, b = plain.get("dim0", plain.get("axis0", 0)), plain.get("dim1", plain.get("axis1", 1))
    if rank < 2 or not (isinstance(a, int) and isinstance(b, int)):
        return plain
    swapped = list(range(rank))
    swapped[a % rank], swapped[b % rank] = swapped[b % rank], swapped[a % rank]
    return {"perm": tuple(swapped)}
