"""Torch's tensors, dtypes and symbolic sizes as peakmem has them. Imported with torch at hand."""

from __future__ import annotations

from typing import Any, Literal

import torch

from peakmem import dtypes
from peakmem.dtypes import DType
from peakmem.frontends.torch.program import Stored, Value
from peakmem.frontends.torch.pt2_program import Sizes
from peakmem.ir.dims import Dim, Symbol
from peakmem.ir.expressions import parse, written

_NAMED = {
    "complex32": DType("complex32", 32, "complex"), "float8_e4m3fn": dtypes.FLOAT8E4M3FN,
    "float8_e5m2": dtypes.FLOAT8E5M2, "float8_e4m3fnuz": dtypes.FLOAT8E4M3FNUZ,
    "float8_e5m2fnuz": dtypes.FLOAT8E5M2FNUZ, "float8_e8m0fnu": dtypes.FLOAT8E8M0, "qint8": dtypes.INT8,
    "quint8": dtypes.UINT8, "qint32": dtypes.INT32, "quint4x2": dtypes.UINT4, "quint2x4": dtypes.UINT2,
    "int4": dtypes.INT4, "uint4": dtypes.UINT4, "int2": dtypes.INT2, "uint2": dtypes.UINT2,
    "float4_e2m1fn_x2": dtypes.UINT8, "bits8": dtypes.UINT8, "bits16": dtypes.UINT16,
}  # fmt: skip


def dtype_of(dtype: Any) -> DType | None:
    """A dtype of torch; None for one that is not known."""
    name = str(dtype).removeprefix("torch.")
    return _NAMED.get(name) or dtypes.DTYPES.get(name)


def dim_of(size: Any, sizes: Sizes) -> Dim:
    """A size: a number, or a symbol named by its formula."""
    if isinstance(size, int):
        return size
    expression = size.node.expr
    if expression.is_Integer:
        return int(expression)
    text = str(expression)
    if expression.is_Symbol:
        hint = getattr(size.node, "hint", None)
        if isinstance(hint, int):
            sizes.hints.setdefault(text, hint)
    formula = parse(text)
    if formula is None:
        name = "?" + text[:80].replace(" ", "")
        sizes.unread[name] = text
        return Symbol(name)
    return formula if isinstance(formula, int) else Symbol(written(formula))


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor behind those that vmap and grad of torch.func show, which hide the axes they map over."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return tensor


def storage_of(tensor: torch.Tensor) -> Any | None:
    """The memory of a tensor; None for one that has none to show."""
    if tensor.layout != torch.strided:
        return None
    try:
        return tensor.untyped_storage()
    except NotImplementedError:
        return None


def stored_as(tensor: Any, name: str, form: Literal["parameter", "buffer", "constant"]) -> Stored:
    """What a module keeps under `name`, and where in its memory."""
    storage = storage_of(tensor) if isinstance(tensor, torch.Tensor) else None
    if storage is None:
        return Stored(name, form)
    start = tensor.storage_offset()
    return Stored(name, form, f"{storage._cdata}", start * tensor.element_size() if isinstance(start, int) else 0)


def value_of(tensor: torch.Tensor, sizes: Sizes, kept: list[Any] | None = None) -> Value:
    """What a tensor is; with `kept` its memory is told apart from others, and held so that it stays so."""
    tensor = _whole(tensor)
    shape = tuple(dim_of(size, sizes) for size in tensor.shape)
    strides: tuple[int, ...] = ()
    memory = 0
    if tensor.layout == torch.strided:
        strides = tuple(sizes.number(dim_of(step, sizes)) for step in tensor.stride())
        storage = storage_of(tensor) if kept is not None else None
        if kept is not None and storage is not None:
            memory = storage._cdata
            kept.append(storage)
    return Value(
        shape, dtype_of(tensor.dtype), str(tensor.device), tuple(sizes.number(dim) for dim in shape), strides, memory
    )
