"""MNN files made in code, with the FlatBuffers writer of the TensorFlow Lite tests.

Field numbers are written out here again, from schema/default/*.fbs of MNN 3.6.1, so that the reader is not held against
its own table.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from tests.unit.frontends.tflite_files import Table, Vector, Writer, ints

BINARY, CONCAT, CONST, CONVOLUTION, DEPTHWISE, FLATTEN, INPUT = 7, 10, 11, 12, 13, 28, 34
POOLING, RELU, RESHAPE, SHAPE, SOFTMAX, CONVERT, WHILE, LSTM = 47, 69, 73, 80, 85, 129, 600, 38
# OpType
AXIS, BINARY_OP, BLOB, CONVOLUTION_2D, FLATTEN_KIND, INPUT_KIND, POOL, RESHAPE_KIND = 4, 6, 7, 9, 17, 21, 31, 55
CONVERT_INFO, WHILE_PARAM = 66, 85
# OpParameter, from 1
NCHW, NHWC, NC4HW4 = 0, 1, 2


class _Writer(Writer):
    def value(self, value: Any) -> int:
        if not isinstance(value, list) or not value or not isinstance(value[0], str):
            return super().value(value)
        self.align(4)
        at = len(self.data)
        self.data += struct.pack("<I", len(value)) + bytes(4 * len(value))
        for position, text in enumerate(value):
            place = at + 4 + 4 * position
            struct.pack_into("<I", self.data, place, super().value(text) - place)
        return at


def op(
    number: int, name: str, inputs: Sequence[int], outputs: Sequence[int], kind: int = 0, main: Table | None = None
) -> Table:
    fields: dict[int, Any] = {0: ints(*inputs), 3: name, 4: ints(*outputs), 5: ("i", number)}
    if main is not None:
        fields |= {1: ("B", kind), 2: main}
    return Table(fields)


def given(name: str, at: int, dims: Sequence[int], layout: int = NCHW) -> Table:
    return op(INPUT, name, (), (at,), INPUT_KIND, Table({0: ints(*dims), 1: ("i", 1), 2: ("b", layout)}))


def const(name: str, at: int, dims: Sequence[int], values: Sequence[int]) -> Table:
    return op(CONST, name, (), (at,), BLOB, Table({0: ints(*dims), 2: ("i", 3), 5: ints(*values)}))


def convert(name: str, before: int, after: int, source: int, target: int) -> Table:
    return op(CONVERT, name, (before,), (after,), CONVERT_INFO, Table({0: ("b", source), 1: ("b", target)}))


def convolution(
    name: str, before: int, after: int, inputs: int, outputs: int, kernel: int, *, stride: int = 1, group: int = 1,
    more: Mapping[int, Any] | None = None,
) -> Table:  # fmt: skip
    """With zeros for weights; depthwise where there are as many groups as channels."""
    pad = kernel // 2
    common = Table({
        0: ("i", pad), 1: ("i", pad), 2: ("i", kernel), 3: ("i", kernel), 4: ("i", stride), 5: ("i", stride),
        9: ("i", group), 10: ("i", outputs), 11: ("i", inputs), 14: ints(pad, pad, pad, pad),
    })  # fmt: skip
    each = 1 if group > 1 else inputs
    weights = Vector("f", [0.0] * (outputs * each * kernel * kernel))
    main = Table({0: common, 1: weights, 2: Vector("f", [0.0] * outputs), **(more or {})})
    number = DEPTHWISE if group > 1 else CONVOLUTION
    return op(number, name, (before,), (after,), CONVOLUTION_2D, main)


def pooling(name: str, before: int, after: int, kernel: int, stride: int) -> Table:
    main = Table({3: ("i", kernel), 4: ("i", kernel), 5: ("i", stride), 6: ("i", stride), 10: ("?", False)})
    return op(POOLING, name, (before,), (after,), POOL, main)


def add(name: str, left: int, right: int, after: int) -> Table:
    return op(BINARY, name, (left, right), (after,), BINARY_OP, Table({0: ("i", 0)}))


def file(operators: Sequence[Table], names: Sequence[str], outputs: Sequence[str]) -> bytes:
    """A model; `names` are those of its tensors by number."""
    root = Table({
        0: "made in code", 3: list(operators), 4: list(outputs), 5: ("b", 0), 6: ("b", 3), 7: list(names),
        8: ("i", len(names)),
    })  # fmt: skip
    writer = _Writer()
    writer.data += bytes(4)
    struct.pack_into("<I", writer.data, 0, writer.table(root))
    return bytes(writer.data)


def network(size: int = 32) -> bytes:
    """An image through two convolutions, a depthwise one with a residual sum, a pool and a product."""
    return file(
        [
            given("x", 0, (1, 3, size, size)),
            convert("to blocks", 0, 1, NCHW, NC4HW4),
            convolution("first", 1, 2, 3, 16, 3),
            convolution("second", 2, 3, 16, 24, 3, stride=2),
            convolution("depthwise", 3, 4, 24, 24, 3, group=24),
            add("sum", 4, 3, 5),
            pooling("pool", 5, 6, 2, 2),
            convolution("product", 6, 7, 24, 40, 1),
            convert("from blocks", 7, 8, NC4HW4, NCHW),
        ],
        ["x", "x4", "a", "b", "c", "d", "e", "f", "y"],
        ["y"],
    )  # fmt: skip


def branches(size: int = 24) -> bytes:
    """Views and joins: two branches of odd channels, concatenated, a softmax, a reshape of the result."""
    return file(
        [
            given("x", 0, (2, 3, size, size)),
            convert("to blocks", 0, 1, NCHW, NC4HW4),
            convolution("left", 1, 2, 3, 12, 3),
            convolution("right", 1, 3, 3, 20, 5),
            op(CONCAT, "joined", (2, 3), (4,), AXIS, Table({0: ("i", 1)})),
            convolution("after", 4, 5, 32, 16, 3),
            convert("plain", 5, 6, NC4HW4, NCHW),
            op(SOFTMAX, "softmax", (6,), (7,), AXIS, Table({0: ("i", 1)})),
            op(FLATTEN, "flat", (7,), (8,), FLATTEN_KIND, Table({0: ("i", 1), 1: ("i", 0)})),
        ],
        ["x", "x4", "a", "b", "c", "d", "e", "f", "y"],
        ["y"],
    )  # fmt: skip
