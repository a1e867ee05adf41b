"""The leaves of an ONNX file: tensors, sized and not read, and the types that values declare.

A constant's content is read only when it is small, because shapes may be computed from it; the
bytes of weights are stepped over. External data is looked up and sized, never opened.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from peakmem import dtypes
from peakmem.dtypes import DType
from peakmem.errors import FormatError
from peakmem.frontends.onnx import wire
from peakmem.frontends.onnx.wire import BYTES, VARINT, Field, signed, text
from peakmem.ir.dims import Dim, Shape, Symbol, format_shape
from peakmem.ir.graph import Tensor

KEEP_INTEGERS = 4096
KEEP_FLOATS = 64
# elements; constants up to here are read, because shapes may be computed from them

# TensorProto.DataType
ELEMENT_TYPES: Mapping[int, DType] = {
    1: dtypes.FLOAT32, 2: dtypes.UINT8, 3: dtypes.INT8, 4: dtypes.UINT16, 5: dtypes.INT16,
    6: dtypes.INT32, 7: dtypes.INT64, 8: dtypes.STRING, 9: dtypes.BOOL, 10: dtypes.FLOAT16,
    11: dtypes.FLOAT64, 12: dtypes.UINT32, 13: dtypes.UINT64, 14: dtypes.COMPLEX64,
    15: dtypes.COMPLEX128, 16: dtypes.BFLOAT16, 17: dtypes.FLOAT8E4M3FN, 18: dtypes.FLOAT8E4M3FNUZ,
    19: dtypes.FLOAT8E5M2, 20: dtypes.FLOAT8E5M2FNUZ, 21: dtypes.UINT4, 22: dtypes.INT4,
    23: dtypes.FLOAT4E2M1, 24: dtypes.FLOAT8E8M0, 25: dtypes.UINT2, 26: dtypes.INT2,
    27: dtypes.FLOAT6E2M3, 28: dtypes.FLOAT6E3M2,
}  # fmt: skip
_STRUCT_CODES = {
    "int64": "q", "int32": "i", "int16": "h", "int8": "b", "uint64": "Q", "uint32": "I",
    "uint16": "H", "uint8": "B", "bool": "?", "float32": "f", "float64": "d", "float16": "e",
}  # fmt: skip


class Source(Protocol):
    """Where a message lies: bytes in memory, or a file walked through a window."""

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`."""

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of the message between two offsets."""


class Memory:
    """A message that is small enough to be held."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, start: int, end: int) -> bytes:
        return self.data[start:end]

    def fields(self, start: int, end: int) -> Iterator[Field]:
        return wire.fields(self.data, start, end)


@dataclass(slots=True)
class _Constant:
    """A TensorProto as far as it is read."""

    name: str = ""
    dims: list[int] = field(default_factory=list)
    code: int = 0
    raw: tuple[int, int] | None = None
    typed: list[tuple[int, int, int, int]] = field(default_factory=list)
    external: dict[str, str] = field(default_factory=dict)
    is_external: bool = False


class TensorReader:
    """Reads TensorProtos of one file and remembers which of them share external bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.storages: dict[tuple[Path, int, int], str] = {}
        # of the graph that is being read: the constant that came first on these external bytes
        self.external: dict[str, tuple[Path, int]] = {}
        # file and size by location
        self.missing_data = 0
        self.notes: list[str] = []

    def constant(self, source: Source, start: int, end: int, name: str) -> Tensor:
        """A TensorProto as a constant: sized, its content read only when small."""
        proto = _tensor_fields(source, start, end)
        name = name or proto.name
        dtype = element_type(proto.code, f"constant {name!r}")
        shape = _checked_dims(proto.dims, f"constant {name!r}")
        count = 1
        for dim in shape:
            count *= dim
        nbytes = dtype.nbytes(count)
        if nbytes is not None and nbytes > 1 << 56:
            raise FormatError(f"constant {name!r} of {format_shape(shape)} is larger than any address space")
        storage = ""
        if proto.is_external:
            storage = self._external(name, proto.external, nbytes)
        elif proto.raw is not None and nbytes is not None:
            held = proto.raw[1] - proto.raw[0]
            if held != nbytes:
                raise FormatError(
                    f"constant {name!r} holds {held} bytes, its shape {format_shape(shape)} of {dtype} needs {nbytes}"
                )
        elif count and not proto.typed:
            self.missing_data += 1
        values = _values(source, proto, dtype, count) if not proto.is_external else None
        return Tensor(name, shape, dtype, "constant", storage, values)

    def sparse(self, source: Source, start: int, end: int, name: str) -> Tensor:
        """A SparseTensorProto as the dense constant that engines expand it to at load."""
        values: Tensor | None = None
        stored = 0
        dims: list[int] = []
        for number, kind, value, stop in source.fields(start, end):
            if number in (1, 2) and kind == BYTES:
                part = self.constant(source, value, stop, name)
                stored += part.nbytes or 0
                values = part if number == 1 else values
            elif number == 3:
                dims += [signed(value)] if kind == VARINT else wire.packed_varints(source.read(value, stop))
        if values is None:
            raise FormatError(f"sparse constant {name!r} has no values")
        shape = _checked_dims(dims, f"sparse constant {values.name!r}")
        self.notes.append(
            f"sparse constant {values.name!r} is counted dense, as engines expand it; the file holds {stored:,} B of it"
        )
        return replace(values, shape=shape, values=None, storage="")

    def _external(self, name: str, entries: Mapping[str, str], nbytes: int | None) -> str:
        """Check that external data is there; the name of the first tensor on the same bytes."""
        location = entries.get("location", "")
        where = f"constant {name!r}"
        if not location:
            raise FormatError(f"{where} says its data is external, but not where")
        if location not in self.external:
            self.external[location] = self._beside(location, where)
        target, size = self.external[location]
        try:
            offset = int(entries.get("offset", "0") or 0)
            length = int(entries.get("length", "-1") or -1)
        except ValueError:
            raise FormatError(f"{where} has an external offset or length that is not a number") from None
        if length < 0:
            length = nbytes or 0
        if offset < 0 or offset + length > size:
            raise FormatError(f"{where} needs bytes {offset} to {offset + length} of {location!r}, which has {size}")
        if nbytes is not None and length != nbytes:
            raise FormatError(f"{where} has {length} external bytes, its shape needs {nbytes}")
        if length == 0:
            return ""
        first = self.storages.setdefault((target, offset, length), name)
        return "" if first == name else first

    def _beside(self, location: str, where: str) -> tuple[Path, int]:
        """The file that an external location means, and its size.

        It has to be in the model's folder. Where the model itself is a link, as in the cache of the
        Hugging Face hub, the folder it leads to will do.
        """
        shown = location if len(location) <= 200 else f"{location[:200]}…"
        try:
            folders = (self.path.parent.resolve(), self.path.resolve().parent)
            target = (folders[0] / location).resolve()
            if Path(location).is_absolute() or not any(target.is_relative_to(folder) for folder in folders):
                raise FormatError(
                    f"{where} points to external data outside the model's folder: {shown!r}",
                    expected="a file beside the model",
                )
            if not target.is_file():
                raise FormatError(f"the external data file {shown!r} is missing", hint=f"put it into {folders[0]}")
            return target, target.stat().st_size
        except (OSError, ValueError, RuntimeError) as fault:
            # Too long, a NUL in it, or links in a circle.
            reason = getattr(fault, "strerror", None) or str(fault)
            raise FormatError(f"{where} cannot have its data at {shown!r} ({reason})") from fault


def element_type(code: int, where: str) -> DType:
    """The dtype of a TensorProto.DataType code; FormatError when there is none."""
    dtype = ELEMENT_TYPES.get(code)
    if dtype is None:
        raise FormatError(f"{where} has the unknown element type {code}", expected="1 to 28")
    return dtype


def _checked_dims(dims: list[int], where: str) -> tuple[int, ...]:
    for dim in dims:
        if dim < 0:
            raise FormatError(f"{where} has a negative dimension: {'x'.join(map(str, dims))}")
    return tuple(dims)


def _tensor_fields(source: Source, start: int, end: int) -> _Constant:
    proto = _Constant()
    for number, kind, value, stop in source.fields(start, end):
        if number == 1:
            if kind == VARINT:
                proto.dims.append(signed(value))
            elif kind == BYTES:
                proto.dims += wire.packed_varints(source.read(value, stop))
            if len(proto.dims) > 1024:
                raise FormatError("a constant has more than 1024 dimensions")
        elif number == 2 and kind == VARINT:
            proto.code = value
        elif number == 8 and kind == BYTES:
            proto.name = text(source.read(value, stop), 0, stop - value)
        elif number == 9 and kind == BYTES:
            proto.raw = (value, stop)
        elif number in (4, 5, 6, 7, 10, 11):
            if len(proto.typed) <= KEEP_INTEGERS:
                proto.typed.append((number, kind, value, stop))
        elif number == 13 and kind == BYTES:
            key, content = string_entry(source.read(value, stop))
            proto.external[key] = content
        elif number == 14 and kind == VARINT:
            proto.is_external = value == 1
    return proto


def _values(source: Source, proto: _Constant, dtype: DType, count: int) -> tuple[Any, ...] | None:
    """Content of a small constant of numbers, else None."""
    code = _STRUCT_CODES.get(dtype.name)
    if code is None or count > (KEEP_FLOATS if dtype.kind == "float" else KEEP_INTEGERS):
        return None
    if proto.raw is not None:
        return struct.unpack(f"<{count}{code}", source.read(*proto.raw))
    values: list[Any] = []
    for number, kind, value, stop in proto.typed:
        if kind == VARINT:
            values.append(signed(value))
            continue
        data = source.read(value, stop)
        if number in (5, 7, 11):
            values += wire.packed_varints(data)
        elif number in (4, 10):
            width, letter = (4, "f") if number == 4 else (8, "d")
            values += struct.unpack(f"<{len(data) // width}{letter}", data[: len(data) // width * width])
    if dtype is dtypes.UINT64:
        values = [value & 0xFFFFFFFFFFFFFFFF for value in values if isinstance(value, int)]
    if dtype is dtypes.FLOAT16:
        # float16 travels as its bits in int32_data
        if not all(isinstance(bits, int) for bits in values):
            return None
        values = [struct.unpack("<e", struct.pack("<H", bits & 0xFFFF))[0] for bits in values]
    if dtype is dtypes.BOOL:
        values = [bool(value) for value in values]
    return tuple(values) if len(values) == count else None


def string_entry(data: bytes) -> tuple[str, str]:
    """A StringStringEntryProto as (key, value)."""
    key = content = ""
    for number, kind, value, stop in wire.fields(data, 0, len(data)):
        if kind == BYTES:
            if number == 1:
                key = text(data, value, stop)
            elif number == 2:
                content = text(data, value, stop)
    return key, content


def value_info(data: bytes, role: str) -> Tensor:
    """A ValueInfoProto as a declared tensor; a type that is not a dense tensor has no shape."""
    name = ""
    shape: Shape | None = None
    dtype: DType | None = None
    for number, kind, value, stop in wire.fields(data, 0, len(data)):
        if kind != BYTES:
            continue
        if number == 1:
            name = text(data, value, stop)
        elif number == 2:
            for form, form_kind, first, last in wire.fields(data, value, stop):
                if form == 1 and form_kind == BYTES:
                    shape, dtype = _tensor_type(data, first, last, name)
    named = None
    if shape is not None:
        named = tuple(Symbol(f"{name}.{axis}") if dim is None else dim for axis, dim in enumerate(shape))
    return Tensor(name, named, dtype, "input" if role == "input" else "activation")


def _tensor_type(data: bytes, start: int, end: int, name: str) -> tuple[Any, DType | None]:
    shape: list[Dim | None] | None = None
    dtype = None
    for number, kind, value, stop in wire.fields(data, start, end):
        if number == 1 and kind == VARINT:
            dtype = element_type(value, f"tensor {name!r}") if value else None
        elif number == 2 and kind == BYTES:
            shape = []
            for dim, dim_kind, first, last in wire.fields(data, value, stop):
                if dim == 1 and dim_kind == BYTES:
                    shape.append(_dimension(data, first, last, name))
                    if len(shape) > 1024:
                        raise FormatError(f"tensor {name!r} has more than 1024 dimensions")
    return None if shape is None else tuple(shape), dtype


def _dimension(data: bytes, start: int, end: int, name: str) -> Dim | None:
    for number, kind, value, stop in wire.fields(data, start, end):
        if number == 1 and kind == VARINT:
            size = signed(value)
            if size < -1:
                raise FormatError(f"tensor {name!r} has a negative dimension {size}")
            # -1 is how several exporters write "not fixed".
            return None if size == -1 else size
        if number == 2 and kind == BYTES and stop > value:
            return Symbol(text(data, value, stop))
    return None
