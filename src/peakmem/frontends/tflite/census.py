"""A TensorFlow Lite file as an interpreter walks it: tables by position, in the order of the file.

A Graph says what is computed; interpreters allocate by what is listed. Tensors that nothing reads, the order of
tensors, scales and intermediates move their memory, and are told here. Weights are located and not read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peakmem.dtypes import DType
from peakmem.errors import FormatError
from peakmem.frontends.door import door
from peakmem.frontends.flatbuffer import FlatFile, Table
from peakmem.frontends.section import Section
from peakmem.frontends.tflite import details, schema
from peakmem.frontends.tflite.options import attributes
from peakmem.frontends.tflite.tensors import Buffers, Quantised, read_entry

COMPRESSION = "COMPRESSION_METADATA"
# of TensorFlow Lite for Microcontrollers (tensorflow/lite/micro/compression)


@dataclass(frozen=True, slots=True)
class Listed:
    """One tensor of a subgraph."""

    name: str
    shape: tuple[int, ...]
    dtype: DType | None
    stored: bool
    # whether its buffer has bytes
    variable: bool
    scales: int
    zero_points: int

    @property
    def count(self) -> int:
        """Elements; 1 for a scalar."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Call:
    """One operator of a subgraph; -1 stands for an input that is absent."""

    domain: str
    op_type: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    intermediates: tuple[int, ...]
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Body:
    """One subgraph."""

    tensors: tuple[Listed, ...]
    calls: tuple[Call, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Census:
    """A whole file."""

    nbytes: int
    bodies: tuple[Body, ...]
    plan: tuple[int, ...]
    # offsets planned ahead, of all tensors of all subgraphs; empty without
    compressed: bool
    # whether constants are stored as indices into tables
    behind: bool
    # whether buffers lie behind the tables, as in files above 2 GiB


def read_census(path: Path) -> Census:
    """What a TensorFlow Lite file lists.

    Raises:
        FormatError: not a TensorFlow Lite file, or a damaged one.
    """
    with (
        door(path, IndexError, KeyError, ValueError, TypeError, what="the TensorFlow Lite file"),
        Section(path) as section,
    ):
        file = FlatFile(section)
        if file.size < 8 or file.read(4, 4) != b"TFL3":
            raise FormatError("this is not a TensorFlow Lite file", expected="the mark TFL3 at byte 4")
        model = file.root()
        buffers = Buffers(file, model)
        codes = [_code(table) for table in model.tables(schema.Model.OPERATOR_CODES)]
        return Census(
            nbytes=file.size,
            bodies=tuple(_body(table, codes, buffers) for table in model.tables(schema.Model.SUBGRAPHS)),
            plan=details.offline_plan(model, file, buffers),
            compressed=any(
                table.text(schema.Metadata.NAME) == COMPRESSION for table in model.tables(schema.Model.METADATA)
            ),
            behind=any(table.number(schema.Buffer.OFFSET, "Q") > 1 for table in model.tables(schema.Model.BUFFERS)),
        )


def _body(table: Table, codes: list[tuple[str, str]], buffers: Buffers) -> Body:
    tensors = tuple(
        _listed(one, position, buffers) for position, one in enumerate(table.tables(schema.SubGraph.TENSORS))
    )
    calls = tuple(_call(one, codes) for one in table.tables(schema.SubGraph.OPERATORS))
    inputs, outputs = (
        tuple(at for at in table.numbers(which, "i") if at != -1)
        for which in (schema.SubGraph.INPUTS, schema.SubGraph.OUTPUTS)
    )
    named = {at for one in calls for at in (*one.inputs, *one.outputs, *one.intermediates)} - {-1}
    for at in named.union(inputs, outputs):
        if not 0 <= at < len(tensors):
            raise FormatError(f"tensor {at} is referred to", expected=f"one of {len(tensors)} tensors")
    return Body(tensors, calls, inputs, outputs)


def _listed(table: Table, position: int, buffers: Buffers) -> Listed:
    entry = read_entry(table, position, buffers, Quantised())
    quantised = table.table(schema.Tensor.QUANTIZATION)
    return Listed(
        entry.label,
        entry.shape,
        entry.dtype,
        entry.stored is not None,
        entry.variable,
        quantised.span(schema.Quantization.SCALE, "f")[1] if quantised else 0,
        quantised.span(schema.Quantization.ZERO_POINT, "q")[1] if quantised else 0,
    )


def _call(table: Table, codes: list[tuple[str, str]]) -> Call:
    code = table.number(schema.Operator.OPCODE, "I")
    if code >= len(codes):
        raise FormatError(f"operator code {code} is referred to", expected=f"one of the {len(codes)} of the file")
    domain, op_type = codes[code]
    return Call(
        domain,
        op_type,
        table.numbers(schema.Operator.INPUTS, "i"),
        tuple(at for at in table.numbers(schema.Operator.OUTPUTS, "i") if at != -1),
        tuple(at for at in table.numbers(schema.Operator.INTERMEDIATES, "i") if at != -1),
        attributes(table),
    )


def _code(table: Table) -> tuple[str, str]:
    number = max(
        table.number(schema.OperatorCode.OLD_BUILTIN, "b"), table.number(schema.OperatorCode.BUILTIN, "i")
    )  # files of before and after the byte became too small
    if number == schema.CUSTOM:
        return "tflite.custom", table.text(schema.OperatorCode.CUSTOM)[:256] or "CUSTOM"
    return "tflite", schema.OPERATORS[number] if 0 <= number < len(schema.OPERATORS) else f"BUILTIN_{number}"
