"""Tensors of a TensorFlow Lite file: shape, dtype, where their bytes are, how they are quantised.

Buffers are located and sized; only small integer constants, which shape arithmetic needs, are read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from peakmem import dtypes
from peakmem.dtypes import DType
from peakmem.errors import FormatError
from peakmem.frontends.flatbuffer import FlatFile, Table
from peakmem.frontends.tflite import schema
from peakmem.ir.dims import Shape, Symbol, format_shape

MOST_VALUES = 256
# elements of a constant whose content is kept
MOST_RANK = 64
_CODES = {dtypes.INT32: "i", dtypes.INT64: "q", dtypes.BOOL: "B", dtypes.FLOAT32: "f", dtypes.FLOAT64: "d"}


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes of a constant; `start` is None when they lie in another file."""

    identity: tuple[str, int]
    start: int | None
    nbytes: int


@dataclass(slots=True)
class Quantised:
    """What the quantisation of a file's tensors amounts to."""

    per_tensor: int = 0
    per_channel: int = 0
    blockwise: int = 0
    side_bytes: int = 0
    # scales (float32) and zero points (int64) as the file has them
    sparse: int = 0
    sparse_bytes: int = 0
    # constants that leave zeros out, and their indices


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor as its table says it."""

    position: int
    label: str
    # its name in the file, which may be empty or stand twice
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    # like `shape`, with -1 for a size that is open; empty when none is
    ranked: bool
    # whether an empty shape means a scalar for certain
    dtype: DType | None
    variable: bool
    stored: Stored | None
    quantised: bool
    reads: tuple[int, ...] = ()
    # tensors that hold its scales

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    def open_shape(self, name: str) -> Shape:
        """The shape with a symbol for every size that is open."""
        signature = self.signature if len(self.signature) == len(self.shape) else self.shape
        return tuple(
            Symbol(f"{name}.{axis}") if size < 0 or said < 0 else size
            for axis, (size, said) in enumerate(zip(self.shape, signature, strict=True))
        )

    def defaults(self, name: str) -> dict[str, int]:
        """The file's own value for each of those symbols."""
        open_shape = self.open_shape(name)
        return {
            dim.name: max(size, 1) for dim, size in zip(open_shape, self.shape, strict=True) if isinstance(dim, Symbol)
        }


@dataclass(slots=True)
class Buffers:
    """The buffers of a model, located when a tensor asks for one."""

    file: FlatFile
    model: Table
    notes: dict[str, int] = field(default_factory=dict)
    # what was met on the way, with how often
    _found: dict[int, Stored | None] = field(default_factory=dict)
    _external: dict[int, Stored] | None = None

    @property
    def count(self) -> int:
        return self.model.count(schema.Model.BUFFERS)

    def at(self, index: int) -> Stored | None:
        """The bytes of buffer `index`; None when it is empty."""
        if index not in self._found:
            self._found[index] = self._locate(index)
        return self._found[index]

    def _locate(self, index: int) -> Stored | None:
        vector, count = self.model.span(schema.Model.BUFFERS, "I")
        if not 0 <= index < count:
            if index == 0:
                return None
            raise FormatError(f"buffer {index} is referred to", expected=f"one of the {count} buffers of the file")
        table = self.model.entry(vector, index)
        start, nbytes = table.span(schema.Buffer.DATA)
        offset = table.number(schema.Buffer.OFFSET, "Q")
        if offset > 1:
            # Of a file above 2 GiB: behind the tables.
            start, nbytes = offset, table.number(schema.Buffer.SIZE, "Q")
            if start + nbytes > self.file.size:
                raise FormatError(
                    f"buffer {index} has {nbytes} bytes from byte {start}, but the file ends at byte {self.file.size}",
                    expected="a complete file",
                )
        return Stored(("buffer", index), start, nbytes) if nbytes else None

    def external(self, identity: int) -> Stored | None:
        """The bytes of a buffer in another file."""
        if self._external is None:
            self._external = {}
            for table in self.model.tables(schema.Model.EXTERNAL_BUFFERS):
                number = table.number(schema.ExternalBuffer.ID, "I")
                length = table.number(schema.ExternalBuffer.LENGTH, "Q")
                self._external[number] = Stored(("external", number), None, length)
        if identity not in self._external:
            raise FormatError(f"the external buffer {identity} is referred to, but not listed")
        return self._external[identity]

    def note(self, what: str) -> None:
        self.notes[what] = self.notes.get(what, 0) + 1


def read_entry(table: Table, position: int, buffers: Buffers, quantised: Quantised) -> Entry:
    """The tensor that `table` describes."""
    number = table.number(schema.Tensor.TYPE, "b")
    dtype = schema.TYPES[number] if 0 <= number < len(schema.TYPES) else None
    if dtype is None:
        buffers.note(f"tensors of a type that peakmem does not know (number {number})")
    shape = _dims(table, schema.Tensor.SHAPE)
    external = table.number(schema.Tensor.EXTERNAL, "I")
    stored = buffers.external(external) if external else buffers.at(table.number(schema.Tensor.BUFFER, "I"))
    label = table.text(schema.Tensor.NAME)
    if external:
        buffers.note("constants kept in another file, counted as this one says")
    sparsity = table.table(schema.Tensor.SPARSITY)
    if stored is not None and dtype is not None:
        if sparsity is not None:
            quantised.sparse += 1
            quantised.sparse_bytes += _index_bytes(sparsity)
            dtype = _as_stored(DType(f"{dtype.name} (sparse)", dtype.bits, dtype.kind), stored, shape)
        elif dtype.bits is None:
            dtype = _as_stored(dtype, stored, shape)
        elif dtype.name != "resource":
            _fits(label or f"tensor {position}", shape, dtype, stored, buffers)
    side, reads = _quantisation(table, quantised)
    return Entry(
        position, label, shape, _dims(table, schema.Tensor.SIGNATURE), bool(table.number(schema.Tensor.HAS_RANK, "?")),
        dtype, bool(table.number(schema.Tensor.IS_VARIABLE, "?")), stored, side, reads,
    )  # fmt: skip


def _dims(table: Table, field_number: int) -> tuple[int, ...]:
    count = table.span(field_number, "i")[1]
    if count > MOST_RANK:
        raise FormatError(f"a tensor has {count} dimensions", expected=f"at most {MOST_RANK}")
    return table.numbers(field_number, "i")


def _as_stored(dtype: DType, stored: Stored, shape: tuple[int, ...]) -> DType:
    """`dtype` with the bytes that the file has, however many elements they are."""
    return DType(dtype.name, dtype.bits, dtype.kind, max(2, math.prod(shape)), stored.nbytes)


def _fits(label: str, shape: tuple[int, ...], dtype: DType, stored: Stored, buffers: Buffers) -> None:
    """Refuse a constant whose bytes are not enough for its shape."""
    if any(size < 0 for size in shape):
        raise FormatError(f"the constant {label!r} has the shape {format_shape(shape)}", expected="sizes of 0 or more")
    need = dtype.nbytes(math.prod(shape)) or 0
    if stored.nbytes < need:
        raise FormatError(
            f"the constant {label!r} has {stored.nbytes} bytes",
            expected=f"{need} bytes for {format_shape(shape)} {dtype}",
        )
    if stored.nbytes > need:
        buffers.note("constants with more bytes than their shape takes, counted by their shape")


def _quantisation(table: Table, quantised: Quantised) -> tuple[bool, tuple[int, ...]]:
    """Whether a tensor is quantised, and the tensors its scales are in."""
    parameters = table.table(schema.Tensor.QUANTIZATION)
    if parameters is None:
        return False, ()
    scales = parameters.span(schema.Quantization.SCALE, "f")[1]
    zeros = parameters.span(schema.Quantization.ZERO_POINT, "q")[1]
    kind = parameters.number(schema.Quantization.DETAILS_KIND, "B")
    details = parameters.table(schema.Quantization.DETAILS)
    if details is not None and kind in (schema.Quantization.BLOCKWISE, schema.Quantization.MULTI_AXIS):
        quantised.blockwise += 1
        scale = details.number(schema.Blockwise.SCALES, "i")
        zero = details.number(schema.Blockwise.ZERO_POINTS, "i")
        return True, (scale, zero)
    if not scales:
        return False, ()
    quantised.per_channel += scales > 1
    quantised.per_tensor += scales == 1
    quantised.side_bytes += 4 * scales + 8 * zeros
    return True, ()


def values(entry: Entry, file: FlatFile) -> tuple[Any, ...] | None:
    """The content of a small constant that shape arithmetic may need; None for every other."""
    stored, dtype = entry.stored, entry.dtype
    if stored is None or stored.start is None or dtype not in _CODES or entry.quantised or entry.variable:
        return None
    count = entry.count
    if count > (1 if dtype.kind == "float" else MOST_VALUES):
        return None
    found = file.numbers(_CODES[dtype], stored.start, count)
    if dtype is dtypes.BOOL:
        return tuple(bool(value) for value in found)
    return found


def _index_bytes(sparsity: Table) -> int:
    """Bytes of the indices of a sparse tensor."""
    total = 0
    for dimension in sparsity.tables(schema.Sparsity.DIMENSIONS):
        for kind, vector in (
            (schema.Dimension.SEGMENTS_KIND, schema.Dimension.SEGMENTS),
            (schema.Dimension.INDICES_KIND, schema.Dimension.INDICES),
        ):
            code = schema.Dimension.INDEX_CODES.get(dimension.number(kind, "B"))
            listed = dimension.table(vector)
            if code is not None and listed is not None:
                total += listed.span(0, code)[1] * {"i": 4, "H": 2, "B": 1}[code]
    return total
