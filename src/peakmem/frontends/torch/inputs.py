"""What a PyTorch module is called with, however the user says it: shapes, texts, dtypes, example tensors.

Nothing is allocated here: everything becomes a Given, and `fake` makes tensors without
memory of those.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from peakmem.errors import UsageError

EXPECTED = "shapes such as (1, 3, 224, 224) or 1x128:int64, example tensors, or a dictionary of them by name"
HINT = "--input 1x3x224x224, or --input NAME=1x128:int64 for each input"
LARGEST_SIZE = 1 << 40

_TEXT = re.compile(r"^(?:(?P<name>[A-Za-z_]\w*)=)?(?P<dims>scalar|\d+(?:[x×,]\d+)*)(?::(?P<dtype>[\w.]+))?$")
_SHORT = {
    "fp64": "float64", "fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "i64": "int64", "i32": "int32",
    "i16": "int16", "i8": "int8", "u8": "uint8", "fp8": "float8_e4m3fn", "float8e4m3fn": "float8_e4m3fn",
    "float8e5m2": "float8_e5m2",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Given:
    """One tensor a module is called with."""

    shape: tuple[int, ...]
    dtype: str = ""
    # as torch calls it; empty for that of the module's own floating tensors
    strides: tuple[int, ...] = ()
    # of an example tensor; empty for the usual ones


Structure: TypeAlias = Any
# a Given, a plain value, or lists, tuples and dictionaries of them


@dataclass(frozen=True, slots=True)
class Arguments:
    """Everything a module is called with."""

    positional: tuple[Structure, ...]
    named: Mapping[str, Structure]

    def batched(self, batch: int) -> Arguments:
        """The same with `batch` as the first dimension of every tensor that has one."""

        def there(item: Structure) -> Structure:
            if isinstance(item, Given):
                return replace(item, shape=(batch, *item.shape[1:]), strides=()) if item.shape else item
            if isinstance(item, list | tuple):
                return type(item)(there(part) for part in item) if type(item) in (list, tuple) else item
            if isinstance(item, dict):
                return {name: there(part) for name, part in item.items()}
            return item

        return Arguments(
            tuple(there(item) for item in self.positional), {name: there(item) for name, item in self.named.items()}
        )


def arguments(inputs: object) -> Arguments:
    """What `inputs` says.

    Raises:
        UsageError: something that is neither a shape, a text, a tensor nor a structure of them.
    """
    if isinstance(inputs, Mapping):
        named = {}
        for name, item in inputs.items():
            if not isinstance(name, str):
                raise UsageError(f"an input is called {name!r}", expected="the name of an argument of forward")
            named[name] = _structure(item)
        return Arguments((), named)
    if _is_one(inputs):
        inputs = (inputs,)
    if not isinstance(inputs, Sequence):
        raise UsageError(f"inputs of type {type(inputs).__name__}", expected=EXPECTED, hint=HINT)
    positional: list[Structure] = []
    by_name: dict[str, Structure] = {}
    for item in inputs:
        if isinstance(item, str):
            name, given = parse(item)
            if name in by_name:
                raise UsageError(f"the input {name!r} is given twice")
            if name:
                by_name[name] = given
                continue
            if by_name:
                raise UsageError(f"the input {item!r} has no name and stands behind one that has", hint=HINT)
            positional.append(given)
        else:
            positional.append(_structure(item))
    return Arguments(tuple(positional), by_name)


def parse(text: str) -> tuple[str, Given]:
    """(name, tensor) of `ids=1x128:int64`; the name and the dtype may be left out.

    Raises:
        UsageError: a text of another form, or a dtype that is not known.
    """
    match = _TEXT.match(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no input", expected="[NAME=]DIMxDIMx…[:DTYPE]", hint=HINT)
    dims = match["dims"]
    shape = () if dims == "scalar" else tuple(int(dim) for dim in re.split("[x×,]", dims))
    return match["name"] or "", _given(shape, match["dtype"] or "")


def _is_one(inputs: object) -> bool:
    """Whether `inputs` is one input rather than several."""
    if isinstance(inputs, str) or _is_tensor(inputs):
        return True
    return isinstance(inputs, Sequence) and bool(inputs) and all(_is_size(item) for item in inputs)


def _structure(item: object) -> Structure:
    if isinstance(item, str):
        name, given = parse(item)
        if name:
            raise UsageError(f"{item!r} gives a name where none can stand", expected="1x128:int64")
        return given
    if _is_tensor(item):
        return _example(item)
    if isinstance(item, Sequence) and _is_shape(item):
        return _given(tuple(int(size) for size in item), "")
    if isinstance(item, Sequence) and len(item) == 2 and _is_dtype(item[1]) and isinstance(item[0], Sequence):
        shape, dtype = item
        if _is_shape(shape):
            return _given(tuple(int(size) for size in shape), str(dtype))
    if isinstance(item, list | tuple):
        return type(item)(_structure(part) for part in item) if type(item) in (list, tuple) else item
    if isinstance(item, Mapping):
        return {name: _structure(part) for name, part in item.items()}
    if item is None or isinstance(item, bool | int | float):
        return item
    raise UsageError(f"an input of type {type(item).__name__}", expected=EXPECTED, hint=HINT)


def _given(shape: tuple[int, ...], dtype: str) -> Given:
    for size in shape:
        if not 0 <= size <= LARGEST_SIZE:
            raise UsageError(f"an input has the size {size}", expected=f"0 to {LARGEST_SIZE}")
    if dtype:
        import torch

        name = dtype.removeprefix("torch.")
        name = _SHORT.get(name, name)
        if not isinstance(getattr(torch, name, None), torch.dtype):
            raise UsageError(f"PyTorch has no dtype {dtype!r}", expected="float32, bfloat16, int64, bool …", hint=HINT)
        dtype = name
    return Given(shape, dtype)


def _example(tensor: Any) -> Given:
    dense = str(tensor.layout) == "torch.strided"
    return Given(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), tuple(tensor.stride()) if dense else ())


def _is_tensor(item: object) -> bool:
    return any(f"{base.__module__}.{base.__qualname__}" == "torch.Tensor" for base in type(item).__mro__)


def _is_dtype(item: object) -> bool:
    if isinstance(item, str):
        return _TEXT.match(item) is None  # "int64", and not another input such as "1x2"
    return type(item).__module__ == "torch" and type(item).__name__ == "dtype"


def _is_size(item: object) -> bool:
    return isinstance(item, int) and not isinstance(item, bool)


def _is_shape(item: Sequence[Any]) -> bool:
    return not isinstance(item, str) and all(_is_size(size) for size in item)
