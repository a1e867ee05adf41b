"""TensorFlow Lite files made in code: a small FlatBuffers writer, and the tables of the schema with it.

Written on its own, from the FlatBuffers documentation, so that the reader is not held against itself.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SIZES = {code: struct.calcsize("<" + code) for code in "bBhHiIqQfd?"}
FLOAT32, INT32, UINT8, INT64, STRING, BOOL, INT16, INT8, RESOURCE, INT4 = 0, 2, 3, 4, 5, 6, 7, 9, 13, 17
ADD, CONV_2D, DEPTHWISE, FULLY_CONNECTED, RELU, RESHAPE, CUSTOM, SHAPE = 0, 3, 4, 9, 19, 22, 32, 77
MUL, LSTM, STRIDED_SLICE, PACK, IF, WHILE, LESS, CALL_ONCE = 18, 44, 45, 83, 118, 119, 58, 129
VAR_HANDLE, READ_VARIABLE, ASSIGN_VARIABLE, HASHTABLE, COMPOSITE, DENSIFY = 142, 143, 144, 136, 206, 124


@dataclass
class Table:
    """Fields by number: ("i", 3) a number, str, bytes, a Table, a Vector, or a list of Tables."""

    fields: dict[int, Any] = field(default_factory=dict)


@dataclass
class Vector:
    code: str
    values: Sequence[Any]


class Writer:
    def __init__(self) -> None:
        self.data = bytearray()

    def align(self, size: int, ahead: int = 0) -> None:
        self.data += bytes(-(len(self.data) + ahead) % size)

    def table(self, table: Table) -> int:
        at, places = 4, {}
        for number, value in table.fields.items():
            size = SIZES[value[0]] if isinstance(value, tuple) else 4
            at += -at % size
            places[number] = at
            at += size
        count = max(table.fields, default=-1) + 1
        self.align(8, 4 + 2 * count)
        self.data += struct.pack("<HH", 4 + 2 * count, at)
        self.data += struct.pack(f"<{count}H", *(places.get(number, 0) for number in range(count)))
        start = len(self.data)
        self.data += struct.pack("<i", 4 + 2 * count) + bytes(at - 4)
        for number, value in table.fields.items():
            place = start + places[number]
            if isinstance(value, tuple):
                struct.pack_into("<" + value[0], self.data, place, value[1])
            else:
                target = self.value(value)
                struct.pack_into("<I", self.data, place, target - place)
        return start

    def value(self, value: Any) -> int:
        if isinstance(value, Table):
            return self.table(value)
        if isinstance(value, str | bytes):
            data = value.encode() if isinstance(value, str) else value
            self.align(16, 4)
            at = len(self.data)
            self.data += struct.pack("<I", len(data)) + data + b"\0"
            return at
        if isinstance(value, Vector):
            self.align(8, 4)
            at = len(self.data)
            self.data += struct.pack("<I", len(value.values))
            self.data += struct.pack(f"<{len(value.values)}{value.code}", *value.values)
            return at
        self.align(4)
        at = len(self.data)
        self.data += struct.pack("<I", len(value)) + bytes(4 * len(value))
        for position, table in enumerate(value):
            place = at + 4 + 4 * position
            struct.pack_into("<I", self.data, place, self.table(table) - place)
        return at


def ints(*values: int) -> Vector:
    return Vector("i", values)


def tensor(
    name: str, shape: Sequence[int], dtype: int = FLOAT32, buffer: int = 0, *, scales: int = 0, variable: bool = False,
    signature: Sequence[int] = (), ranked: bool = False, more: Mapping[int, Any] | None = None,
) -> Table:  # fmt: skip
    fields: dict[int, Any] = {0: ints(*shape), 1: ("b", dtype), 2: ("I", buffer), 3: name}
    if scales:
        fields[4] = Table({2: Vector("f", [0.5] * scales), 3: Vector("q", [0] * scales), 6: ("i", 0)})
    if variable:
        fields[5] = ("?", True)
    if signature:
        fields[7] = ints(*signature)
    if ranked:
        fields[8] = ("?", True)
    return Table({**fields, **(more or {})})


def operator(
    code: int, inputs: Sequence[int], outputs: Sequence[int], kind: int = 0, options: Mapping[int, Any] | None = None,
    *, second: bool = False, custom: bytes = b"",
) -> Table:  # fmt: skip
    fields: dict[int, Any] = {0: ("I", code), 1: ints(*inputs), 2: ints(*outputs)}
    if kind:
        fields[11 if second else 3] = ("B", kind)
        fields[12 if second else 4] = Table(dict(options or {}))
    if custom:
        fields[5] = custom
    return Table(fields)


def subgraph(
    tensors: Sequence[Table], inputs: Sequence[int], outputs: Sequence[int], operators: Sequence[Table], name: str = ""
) -> Table:
    return Table({0: list(tensors), 1: ints(*inputs), 2: ints(*outputs), 3: list(operators), 4: name})


def code(number: int, custom: str = "", version: int = 1) -> Table:
    fields: dict[int, Any] = {0: ("b", min(number, 127)), 2: ("i", version), 3: ("i", number)}
    return Table({**fields, 1: custom} if custom else fields)


def model(
    subgraphs: Sequence[Table], codes: Sequence[Table], buffers: Sequence[bytes | Table] = (),
    more: Mapping[int, Any] | None = None, version: int = 3,
) -> bytes:  # fmt: skip
    """A file; buffer 0 is the empty one, `buffers` follow."""
    stored = [Table({})]
    stored += [one if isinstance(one, Table) else Table({0: one} if one else {}) for one in buffers]
    root = Table({0: ("I", version), 1: list(codes), 2: list(subgraphs), 3: "made in code", 4: stored, **(more or {})})
    writer = Writer()
    writer.data += bytes(4) + b"TFL3"
    at = writer.table(root)
    struct.pack_into("<I", writer.data, 0, at)
    return bytes(writer.data)


def i32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}i", *values)


def f32(count: int) -> bytes:
    return bytes(4 * count)


def network(batch: int = 1, *, open_batch: bool = False) -> bytes:
    """conv (SAME, stride 2, ReLU6) → depthwise (VALID) → reshape → fully connected, 8x8x3 in, 10 out."""

    def signature(*rest: int) -> tuple[int, ...]:
        return (-1, *rest) if open_batch else ()

    tensors = [
        tensor("x", (batch, 8, 8, 3), signature=signature(8, 8, 3)),
        tensor("w1", (4, 3, 3, 3), buffer=1), tensor("b1", (4,), buffer=2),
        tensor("a/b/conv", (batch, 4, 4, 4), signature=signature(4, 4, 4)),
        tensor("w2", (1, 3, 3, 4), buffer=3), tensor("b2", (4,), buffer=2),
        tensor("dw", (batch, 2, 2, 4), signature=signature(2, 2, 4)),
        tensor("shape", (2,), INT32, 4), tensor("flat", (batch, 16), signature=signature(16)),
        tensor("w3", (10, 16), INT8, 5, scales=10), tensor("y", (batch, 10), signature=signature(10)),
    ]  # fmt: skip
    operators = [
        operator(0, (0, 1, 2), (3,), 1, {0: ("b", 0), 1: ("i", 2), 2: ("i", 2), 3: ("b", 3)}),
        operator(1, (3, 4, 5), (6,), 2, {0: ("b", 1), 1: ("i", 1), 2: ("i", 1), 3: ("i", 1)}),
        operator(2, (6, 7), (8,), 17, {0: ints(-1, 16)}),
        operator(3, (8, 9, -1), (10,), 8, {}),
    ]
    graph = subgraph(tensors, (0,), (10,), operators, "main")
    buffers = [f32(108), f32(4), f32(36), i32(-1, 16), bytes(160)]
    return model([graph], [code(CONV_2D), code(DEPTHWISE), code(RESHAPE), code(FULLY_CONNECTED)], buffers)
