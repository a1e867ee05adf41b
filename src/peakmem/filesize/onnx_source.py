"""The size of an ONNX file that there is, with the files that its weights are in.

Used where the source is an ONNX file and the size of another is asked for: what its writer adds (where an operator
comes from, shapes between operators) is there to be read. No content of a weight is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from peakmem.errors import FormatError
from peakmem.filesize.bits import block
from peakmem.frontends.onnx.wire import BYTES, WireError, WireFile, text

GRAPH, INITIALIZER, VALUE_INFO = 7, 5, 13
# fields of ModelProto and GraphProto; the last are shapes of what flows between operators
NAME, EXTERNAL_DATA, KEY, VALUE = 8, 13, 1, 2
# of TensorProto and its entries about contents in another file


def measured(path: Path) -> tuple[int, frozenset[str]]:
    """Bytes of the file at `path` and of those its weights are in, and the weights whose file is not there.

    Raises:
        FormatError: it is damaged.
    """
    try:
        with WireFile(path) as file:
            elsewhere = {
                name: location
                for number, kind, start, end in file.fields(0, file.size)
                if number == GRAPH and kind == BYTES
                for inside, form, at, till in file.fields(start, end)
                if inside == INITIALIZER and form == BYTES
                for name, location in _external(file, at, till)
            }
            size = file.size
    except WireError as fault:
        raise FormatError(f"the ONNX file is truncated or damaged: {fault.what}", where=str(path)) from fault
    there: dict[str, int] = {}
    for location in dict.fromkeys(elsewhere.values()):
        other = Path(location)
        if not other.is_absolute() and ".." not in other.parts and (path.parent / other).is_file():
            there[location] = (path.parent / other).stat().st_size
    missing = frozenset(name for name, location in elsewhere.items() if location not in there)
    return size + sum(there.values()), missing


def _external(file: WireFile, start: int, end: int) -> Iterator[tuple[str, str]]:
    """The name of a TensorProto whose contents are in another file, and which; nothing for others."""
    name = location = ""
    for number, kind, value, till in file.fields(start, end):
        if number == NAME and kind == BYTES:
            name = text(file.read(value, till), 0, till - value)
        elif number == EXTERNAL_DATA and kind == BYTES:
            entry = {
                field: text(file.read(at, to), 0, to - at)
                for field, form, at, to in file.fields(value, till)
                if form == BYTES
            }
            location = entry.get(VALUE, "") if entry.get(KEY) == "location" else location
    if location:
        yield name, location


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
