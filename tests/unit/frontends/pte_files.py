"""ExecuTorch programs made in code, and XNNPACK delegates in them; ExecuTorch itself loads and runs them.

Tables are numbered as in schema/program.fbs and backends/xnnpack/serialization/schema.fbs of ExecuTorch 1.4.1.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from tests.unit.frontends.tflite_files import Table, Vector, Writer, ints

FLOAT, LONG, BYTE = 6, 4, 0
NULL, INT, BOOL, DOUBLE, TENSOR, STRING, INT_LIST, DOUBLE_LIST, BOOL_LIST, TENSOR_LIST, OPTIONAL_LIST = range(1, 12)
KERNEL, DELEGATE, MOVE, JUMP, FREE = range(1, 6)
HEADER = 32
NONE = 0xFFFFFFFF


def value(kind: int, content: Table | None = None) -> Table:
    return Table({0: ("B", kind), 1: content}) if content is not None else Table({0: ("B", kind)})


def tensor(
    shape: Sequence[int], place: tuple[int, int] | None = None, buffer: int = 0, dtype: int = FLOAT, dynamism: int = 0,
    name: str = "",
) -> Table:  # fmt: skip
    """`place` is (planned buffer, offset)."""
    fields: dict[int, Any] = {
        0: ("b", dtype), 1: ("i", 0), 2: ints(*shape), 3: Vector("B", range(len(shape))), 5: ("I", buffer),
        8: ("b", dynamism),
    }  # fmt: skip
    if place is not None:
        fields[6] = Table({0: ("I", place[0]), 1: ("I", place[1] & 0xFFFFFFFF), 2: ("I", place[1] >> 32)})
    if name:
        fields[9] = Table({1: name})
    return value(TENSOR, Table(fields))


def number(content: int) -> Table:
    return value(INT, Table({0: ("q", content)}))


def listed(kind: int, *positions: int) -> Table:
    return value(kind, Table({0: Vector("q" if kind == INT_LIST else "i", positions)}))


def call(operator: int, *arguments: int, kind: int = KERNEL) -> Table:
    return Table({0: ("B", kind), 1: Table({0: ("i", operator), 1: ints(*arguments)})})


def move(source: int, target: int) -> Table:
    return Table({0: ("B", MOVE), 1: Table({0: ("i", source), 1: ("i", target)})})


def method(
    values: Sequence[Table], instructions: Sequence[Table], inputs: Sequence[int], outputs: Sequence[int],
    buffers: Sequence[int], operators: Sequence[tuple[str, str]] = (), delegates: Sequence[Table] = (),
    name: str = "forward",
) -> Table:  # fmt: skip
    chain = Table({0: ints(), 1: ints(), 2: list(instructions)})
    return Table(
        {0: name, 1: Table({0: "", 1: ""}), 2: list(values), 3: ints(*inputs), 4: ints(*outputs), 5: [chain],
         6: [Table({0: one, 1: overload}) for one, overload in operators], 7: list(delegates),
         8: Vector("q", (0, *buffers))}
    )  # fmt: skip


def delegate(segment: int, backend: str = "XnnpackBackend") -> Table:
    return Table({0: backend, 1: Table({0: ("b", 1), 1: ("I", segment)}), 2: []})


def program(
    methods: Sequence[Table], constants: Sequence[bytes] = (), segments: Sequence[bytes] = (),
    named: Sequence[tuple[str, int]] = (), *, header: bool = True,
) -> bytes:  # fmt: skip
    """`segments` are numbered from 0; the constants are the segment behind them."""
    parts = [*segments]
    offsets = [0]
    joined = b""
    for one in constants:
        offsets.append(len(joined))
        joined += one + bytes(-len(one) % 16)
    if constants:
        parts.append(joined)
    places, total = [], 0
    for part in parts:
        places.append((total, len(part)))
        total += len(part) + -len(part) % 16
    fields: dict[int, Any] = {
        0: ("I", 0), 1: list(methods), 4: [Table({0: ("Q", at), 1: ("Q", size)}) for at, size in places],
        5: Table({0: ("I", len(segments)), 1: Vector("Q", offsets)}),
    }  # fmt: skip
    if named:
        fields[7] = [Table({0: key, 1: ("I", at)}) for key, at in named]
    writer = Writer()
    writer.data += bytes(8 + HEADER * header)
    root = writer.table(Table(fields))
    data = writer.data
    struct.pack_into("<I4s", data, 0, root, b"ET12")
    if not header:
        return bytes(data)
    base = len(data) + -len(data) % 16
    struct.pack_into("<4sIQQQ", data, 8, b"eh00", HEADER, len(data), base if parts else 0, total)
    data += bytes(base - len(data))
    for part in parts:
        data += part + bytes(-len(part) % 16)
    return bytes(data)


# -- XNNPACK -------------------------------------------------------------------------------------


def xvalue(
    number: int, shape: Sequence[int], external: int = NONE, flags: int = 0, constant: int = 0, datatype: int = 1
) -> Table:
    told = {
        0: ("h", datatype), 1: ("I", len(shape)), 2: Vector("I", shape), 3: ("I", constant), 4: ("I", external),
        5: ("I", flags), 6: ("I", number),
    }  # fmt: skip
    return Table({0: ("B", 1), 1: Table(told)})


def xnode(kind: int, *fields: int | Vector, clamp: tuple[float, float] | None = None) -> Table:
    told = {at: one if isinstance(one, Vector) else ("I", one) for at, one in enumerate(fields)}
    found: dict[int, Any] = {0: ("B", kind), 1: Table(told), 2: ("I", 0)}
    if clamp is not None:
        found[3] = Table({0: ("f", clamp[0]), 1: ("f", clamp[1])})
    return Table(found)


def blob(
    values: Sequence[Table], nodes: Sequence[Table], externs: int, inputs: Sequence[int], outputs: Sequence[int],
    constants: Sequence[bytes | str],
) -> bytes:  # fmt: skip
    """Constants are bytes that lie inside, or names of named data; they are numbered from 1."""
    offsets, inside = [Table({0: ("Q", 0), 1: ("Q", 0)})], b""
    for one in constants:
        if isinstance(one, str):
            offsets.append(Table({0: ("Q", 0), 1: ("Q", 0), 2: one}))
        else:
            offsets.append(Table({0: ("Q", len(inside)), 1: ("Q", len(one))}))
            inside += one + bytes(-len(one) % 16)
    writer = Writer()
    writer.data += bytes(8)
    root = writer.table(
        Table({0: "0", 1: list(nodes), 2: list(values), 3: ("I", externs), 4: Vector("I", inputs),
               5: Vector("I", outputs), 8: offsets})
    )  # fmt: skip
    struct.pack_into("<I4s", writer.data, 0, root, b"XN01")
    writer.data += bytes(-len(writer.data) % 16)
    head = struct.pack("<4s4sHIIIQ", bytes(4), b"XH00", 30, 32, len(writer.data), 32 + len(writer.data), len(inside))
    return head + bytes(32 - len(head)) + bytes(writer.data) + inside


# -- networks ------------------------------------------------------------------------------------


def portable() -> bytes:
    """relu(a + weight), its sum over an axis, and a view of the first: 6 × 8 floats."""
    values = [
        tensor((6, 8), (1, 0)), tensor((6, 8), None, 1), number(1), tensor((6, 8), (1, 192)), tensor((6, 8), (1, 0)),
        tensor((48,), (1, 0)), tensor((48,), (1, 192)),
    ]  # fmt: skip
    run = [call(0, 0, 1, 2, 3, 3), call(1, 3, 4, 4), call(1, 5, 6, 6)]
    made = method(values, run, (0,), (6,), (384,), [("aten::add", "out"), ("aten::relu", "out")])
    return program([made], [bytes(192)])


def convolution(*, named: bool = False) -> bytes:
    """A convolution 3 → 8, 3 × 3, stride 2 and a linear layer 8 → 4 behind a mean, both of XNNPACK."""
    kernel, bias, matrix = bytes(8 * 27 * 4), bytes(32), bytes(128)
    values = [
        xvalue(0, (1, 16, 16, 3), 0, 1), xvalue(1, (1, 4), 1, 2), xvalue(2, (8, 3, 3, 3), constant=1),
        xvalue(3, (8,), constant=2), xvalue(4, (1, 8, 8, 8)), xvalue(5, (1, 1, 1, 8)), xvalue(6, (1, 8)),
        xvalue(7, (4, 8), constant=3),
    ]  # fmt: skip
    nodes = [
        xnode(7, 1, 1, 1, 1, 3, 3, 2, 2, 1, 1, 3, 8, 1, 0, 0, 0, 2, 3, 4, 0, clamp=(0.0, float("inf"))),
        xnode(19, 4, 5, 64),
        xnode(20, 2, Vector("I", (1, 8)), 5, 6, 0),
        xnode(2, 6, 7, NONE, 1, 0),
    ]
    keys = ("kernel", "bias", "matrix")
    given = blob(values, nodes, 2, (0,), (1,), keys if named else (kernel, bias, matrix))
    made = method(
        [tensor((1, 16, 16, 3), (1, 0)), tensor((1, 4), (1, 3072))], [call(0, 0, 1, kind=DELEGATE)], (0,), (1,),
        (3152,), delegates=[delegate(0)],
    )  # fmt: skip
    if not named:
        return program([made], segments=[given])
    segments = [given, kernel, bias, matrix]
    return program([made], segments=segments, named=[(key, at) for at, key in enumerate(keys, 1)])
