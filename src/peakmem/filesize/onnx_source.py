"""The size of an ONNX file that there is, and which of its weights are in another file.

Used where the source is an ONNX file and the size of another is asked for: what its writer adds (where an operator
comes from, shapes between operators) is there to be read. No content of a weight is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from peakmem.errors import FormatError
from peakmem.filesize.bits import block
from peakmem.frontends.onnx.wire import BYTES, VARINT, WireError, WireFile, text

GRAPH, INITIALIZER, NAME, LOCATION = 7, 5, 8, 14
# fields of ModelProto, GraphProto and, for the last two, TensorProto
VALUE_INFO = 13
# of GraphProto: shapes of what flows between operators
EXTERNAL = 1
# its data_location for contents in another file


def measured(path: Path) -> tuple[int, frozenset[str]]:
    """Bytes of the file at `path`, and the initializers whose contents are in another.

    Raises:
        FormatError: it is damaged.
    """
    try:
        with WireFile(path) as file:
            elsewhere = {
                name
                for number, kind, start, end in file.fields(0, file.size)
                if number == GRAPH and kind == BYTES
                for inside, form, at, till in file.fields(start, end)
                if inside == INITIALIZER and form == BYTES
                for name in _external(file, at, till)
            }
            return file.size, frozenset(elsewhere)
    except WireError as fault:
        raise FormatError(f"the ONNX file is truncated or damaged: {fault.what}", where=str(path)) from fault


def _external(file: WireFile, start: int, end: int) -> Iterator[str]:
    """The name of a TensorProto whose contents are elsewhere; nothing for others."""
    name, elsewhere = "", False
    for number, kind, value, till in file.fields(start, end):
        if number == NAME and kind == BYTES:
            name = text(file.read(value, till), 0, till - value)
        elif number == LOCATION and kind == VARINT:
            elsewhere = value == EXTERNAL
    if elsewhere:
        yield name


def described(path: Path) -> int:
    """Bytes that the file at `path` spends on shapes of what flows between operators."""
    with WireFile(path) as file:
        return sum(
            block(VALUE_INFO, till - at)
            for number, kind, start, end in file.fields(0, file.size)
            if number == GRAPH and kind == BYTES
            for inside, form, at, till in file.fields(start, end)
            if inside == VALUE_INFO and form == BYTES
        )
