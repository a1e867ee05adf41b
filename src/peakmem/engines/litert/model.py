"""What LiteRT and its XNNPACK delegate look at in a file beyond what runs: scales, small constants, versions, names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from peakmem import dtypes
from peakmem.errors import FormatError
from peakmem.frontends.door import door
from peakmem.frontends.flatbuffer import FlatFile, Table
from peakmem.frontends.section import Section
from peakmem.frontends.tflite import schema
from peakmem.frontends.tflite.census import Call, Census, Listed, read_census
from peakmem.frontends.tflite.tensors import Buffers

MOST_VALUES = 256
# elements of a constant that are read
_CODES = {dtypes.INT32: "i", dtypes.INT64: "q", dtypes.FLOAT32: "f", dtypes.BOOL: "B"}


@dataclass(frozen=True, slots=True)
class Side:
    """What stands beside a tensor."""

    label: str
    # its name in the file
    buffer: int
    scales: int
    zero_points: int
    scale: float
    # the first; 0 without
    zero_point: int
    dimension: int
    quantised: bool
    # the table is there
    block: int
    # of blockwise quantisation; 0 otherwise
    sparse: bool
    signature: int
    # entries of the shape with free dimensions
    values: tuple[float, ...] | None
    # of a small constant

    def ints(self) -> tuple[int, ...] | None:
        return None if self.values is None else tuple(int(one) for one in self.values)


@dataclass(frozen=True, slots=True)
class Part:
    """One subgraph."""

    tensors: tuple[Listed, ...]
    sides: tuple[Side, ...]
    calls: tuple[Call, ...]
    versions: tuple[int, ...]
    # of each call's operator
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    name: str


@dataclass(frozen=True, slots=True)
class Signature:
    """A function that callers find by name."""

    key: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """The whole file."""

    census: Census
    parts: tuple[Part, ...]
    codes: int
    # entries in its list of operators
    metadata: tuple[tuple[str, int], ...]
    # name and bytes
    signatures: tuple[Signature, ...]


def read_model(path: Path) -> Model:
    """The model at `path`.

    Raises:
        FormatError: not a TensorFlow Lite file, or a damaged one.
    """
    census = read_census(path)
    with (
        door(path, IndexError, KeyError, ValueError, TypeError, what="the TensorFlow Lite file"),
        Section(path) as section,
    ):
        file = FlatFile(section)
        model = file.root()
        buffers = Buffers(file, model)
        tables = list(model.tables(schema.Model.OPERATOR_CODES))
        versions = [one.number(schema.OperatorCode.VERSION, "i", 1) for one in tables]
        parts = []
        for table, body in zip(model.tables(schema.Model.SUBGRAPHS), census.bodies, strict=True):
            sides = tuple(_side(one, buffers) for one in table.tables(schema.SubGraph.TENSORS))
            numbers = [one.number(schema.Operator.OPCODE, "I") for one in table.tables(schema.SubGraph.OPERATORS)]
            if any(number >= len(versions) for number in numbers):
                raise FormatError("an operator code is referred to that is not listed")
            parts.append(
                Part(
                    body.tensors, sides, body.calls, tuple(versions[number] for number in numbers), body.inputs,
                    body.outputs, table.text(schema.SubGraph.NAME),
                )
            )  # fmt: skip
        return Model(
            census,
            tuple(parts),
            len(tables),
            tuple(_metadata(one, buffers) for one in model.tables(schema.Model.METADATA)),
            tuple(_signature(one) for one in model.tables(schema.Model.SIGNATURES)),
        )


def _side(table: Table, buffers: Buffers) -> Side:
    quantised = table.table(schema.Tensor.QUANTIZATION)
    number = table.number(schema.Tensor.BUFFER, "I")
    scales = points = dimension = point = block = 0
    scale = 0.0
    if quantised is not None:
        at, scales = quantised.span(schema.Quantization.SCALE, "f")
        scale = float(quantised.file.numbers("f", at, 1)[0]) if scales else 0.0
        at, points = quantised.span(schema.Quantization.ZERO_POINT, "q")
        point = int(quantised.file.numbers("q", at, 1)[0]) if points else 0
        dimension = int(quantised.number(schema.Quantization.DIMENSION, "i"))
        details = quantised.table(schema.Quantization.DETAILS)
        if (
            details is not None
            and quantised.number(schema.Quantization.DETAILS_KIND, "B") == schema.Quantization.BLOCKWISE
        ):
            block = int(details.number(schema.Blockwise.BLOCK_SIZE, "i"))
    return Side(
        table.text(schema.Tensor.NAME), number, scales, points, scale, point, dimension, quantised is not None, block,
        bool(table.where(schema.Tensor.SPARSITY)), table.span(schema.Tensor.SIGNATURE, "i")[1],
        _values(table, number, buffers),
    )  # fmt: skip


def _values(table: Table, number: int, buffers: Buffers) -> tuple[float, ...] | None:
    kind = table.number(schema.Tensor.TYPE, "b")
    dtype = schema.TYPES[kind] if 0 <= kind < len(schema.TYPES) else None
    code = _CODES.get(dtype) if dtype is not None else None
    stored = buffers.at(number)
    if code is None or dtype is None or stored is None or stored.start is None:
        return None
    count = stored.nbytes * 8 // (dtype.bits or 8)
    if count > MOST_VALUES:
        return None
    return tuple(table.file.numbers(code, stored.start, count))


def _metadata(table: Table, buffers: Buffers) -> tuple[str, int]:
    stored = buffers.at(table.number(schema.Metadata.BUFFER, "I"))
    return table.text(schema.Metadata.NAME), stored.nbytes if stored else 0


def _signature(table: Table) -> Signature:
    return Signature(
        table.text(schema.Signature.KEY),
        tuple(one.text(schema.TensorMap.NAME) for one in table.tables(schema.Signature.INPUTS)),
        tuple(one.text(schema.TensorMap.NAME) for one in table.tables(schema.Signature.OUTPUTS)),
    )
