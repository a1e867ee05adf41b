"""ncnn param files as they stand: layers with their blobs and numbered parameters, text or binary.

What a parameter means is not known here, nor is any layer. Numbers and names of the file are taken
as hostile: counts are bounded by what the file can hold before anything is made of them.

The grammar is that of ncnn's `paramdict.cpp` and `net.cpp` (2026-07).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import NoReturn, TypeAlias

from peakmem.errors import FormatError, GraphError

MAGIC = 7767517
LARGEST_FILE = 32 << 20
# bytes; those of language models have a few hundred KiB
MOST_IDS = 64
# ncnn keeps 32 parameters for a layer; larger numbers are seen with custom builds
MOST_BLOBS = 65_536
# of one layer
ARRAY, STRING, END = -23300, -23400, -233
CUSTOM = 1 << 8
# bit of a layer type in a binary file: registered by the application

Value: TypeAlias = int | float | str | bytes | tuple[int | float, ...]
# bytes: one number or an array of a binary file, which does not say whether it is whole

_FLOAT = re.compile(r"[.eE]")
_REAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d{1,12}")
# ncnn takes the number a word begins with: 2.f is 2


@dataclass(frozen=True, slots=True)
class Line:
    """One layer as the file has it."""

    op_type: str
    name: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    params: Mapping[int, Value]


def read_lines(path: Path, types: tuple[str, ...]) -> list[Line]:
    """The layers of the param file at `path`; `types` names the numbered layer types of a binary one.

    Raises:
        FormatError: truncated, or not a param file.
    """
    data = content(path)
    if data[:4] == MAGIC.to_bytes(4, "little"):
        return list(_Binary(data, str(path), types).lines())
    return list(text_lines(text_of(data, "an ncnn param file"), str(path)))


def content(path: Path) -> bytes:
    """All of a param file, ncnn's or pnnx's.

    Raises:
        FormatError: a larger one than any model has.
    """
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise FormatError(f"{size:,} bytes", where=str(path), expected=f"a param file of at most {LARGEST_FILE:,}")
    return path.read_bytes()


# -- text --------------------------------------------------------------------------------


def text_of(data: bytes, expected: str) -> str:
    """The text of a param file.

    Raises:
        FormatError: bytes that are no text; the message names what was `expected`.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise FormatError(f"byte {fault.start} is no text", expected=expected) from fault


def header(text: str, where: str) -> tuple[int, int, Iterator[tuple[int, str]]]:
    """(layers, blobs, the rest line by line with line numbers) of a text file, ncnn's or pnnx's.

    Raises:
        FormatError: no such file, or its two counts are missing.
    """
    # One by one: a list of all rows of a large file of empty ones would not fit.
    rows = ((number, row) for number, row in enumerate(StringIO(text), start=1) if row.strip())
    head: list[str] = []
    for _, row in rows:
        head += row.split()
        if len(head) >= 3:
            break
    if not head or head[0] != str(MAGIC):
        raise FormatError("this is not an ncnn param file", where=where, expected=f"{MAGIC} in the first line")
    if len(head) != 3 or not (head[1].isdecimal() and head[2].isdecimal()) or len(head[1]) > 9 or len(head[2]) > 9:
        raise FormatError("the file does not say how many layers it has", where=where, expected="two counts in line 2")
    return int(head[1]), int(head[2]), rows


def split_row(row: str, where: str) -> tuple[str, str, tuple[str, ...], tuple[str, ...], str]:
    """(type, name, inputs, outputs, the rest of the row) of one layer.

    Raises:
        FormatError: counts that are no numbers, or more tensors than the row names.
    """
    head = row.split(None, 4)
    if len(head) < 4 or not head[2].isdecimal() or not head[3].isdecimal() or len(head[2]) > 6 or len(head[3]) > 6:
        raise FormatError("a layer needs a type, a name and two counts", where=where)
    bottoms, tops = int(head[2]), int(head[3])
    words = (head[4] if len(head) > 4 else "").split(None, bottoms + tops) if bottoms + tops else head[4:]
    if bottoms > MOST_BLOBS or tops > MOST_BLOBS or len(words) < bottoms + tops:
        raise FormatError(f"layer {head[1]!r} has fewer tensors than it says ({bottoms} + {tops})", where=where)
    blobs = words[: bottoms + tops]
    rest = words[bottoms + tops] if len(words) > bottoms + tops else ""
    return head[0], head[1], tuple(blobs[:bottoms]), tuple(blobs[bottoms:]), rest


def text_lines(text: str, where: str) -> Iterator[Line]:
    """The layers of a text param file.

    Raises:
        FormatError: no layer, fewer than line 2 says, or a row that is none.
    """
    layers, _, rows = header(text, where)
    found = 0
    if not layers:
        raise FormatError("line 2 says that there is no layer", where=where)
    for number, row in rows:
        at = f"{where}, line {number}"
        if found == layers:
            break  # ncnn reads as many as line 2 says
        op_type, name, bottoms, tops, rest = split_row(row, at)
        yield Line(op_type, name, bottoms, tops, _text_params(rest, at))
        found += 1
    if found != layers:
        raise FormatError(f"line 2 says {layers} layers, the file has {found}", where=where, expected="a whole file")


_PARAM = re.compile(r'(-?\d{1,9})=("[^"\n]*"|\S*)(?:\s+|$)')


def _text_params(text: str, where: str) -> dict[int, Value]:
    params: dict[int, Value] = {}
    at = 0
    while at < len(text):
        match = _PARAM.match(text, at)
        if match is None:
            raise FormatError(f"{text[at : at + 40]!r} is no parameter", where=where, expected="id=value")
        at = match.end()
        number, value = int(match[1]), match[2]
        if number <= ARRAY:
            number = ARRAY - number
            length, *items = value.split(",")
            if length != str(len(items)):
                raise FormatError(f"parameter {number} has {len(items)} elements, not {length[:20]!r}", where=where)
            params[_checked(number, where)] = tuple(_number(item, where) for item in items)
        elif value[:1] == '"' or value[:1].isalpha():
            params[_checked(number, where)] = value.strip('"')
        elif "," in value:
            params[_checked(number, where)] = tuple(_number(item, where) for item in value.split(",") if item)
        else:
            params[_checked(number, where)] = _number(value, where)
    return params


def _checked(number: int, where: str) -> int:
    if not 0 <= number < MOST_IDS:
        raise FormatError(f"a parameter is numbered {number}", where=where, expected=f"0 to {MOST_IDS - 1}")
    return number


def _number(word: str, where: str) -> int | float:
    if _FLOAT.search(word):
        match = _REAL.match(word)
        if match is not None:
            return float(match[0])
    match = _WHOLE.match(word)
    if match is None:
        raise FormatError(f"{word[:40]!r} is no number", where=where)
    value = int(match[0])
    if not -(2**31) <= value < 2**32:
        raise FormatError(f"{word[:40]} does not fit 32 bits", where=where)
    return value


# -- binary ------------------------------------------------------------------------------


class _Binary:
    """A binary param file: 32-bit words; blobs are numbers, layers have no names."""

    def __init__(self, data: bytes, where: str, types: tuple[str, ...]) -> None:
        self.data = data
        self.where = where
        self.types = types
        self.at = 4

    def integer(self) -> int:
        if self.at + 4 > len(self.data):
            raise FormatError("the file ends early", where=self.where, expected=f"more than {len(self.data):,} bytes")
        (value,) = struct.unpack_from("<i", self.data, self.at)
        self.at += 4
        return int(value)

    def take(self, length: int) -> bytes:
        if length < 0 or self.at + length > len(self.data):
            raise FormatError(f"a parameter of {length:,} bytes is longer than the file", where=self.where)
        self.at += length
        return self.data[self.at - length : self.at]

    def lines(self) -> Iterator[Line]:
        layers, _ = self.integer(), self.integer()
        if not 0 < layers <= len(self.data) // 16:
            raise FormatError(f"{layers:,} layers in {len(self.data):,} bytes", where=self.where)
        for position in range(layers):
            number, bottoms, tops = self.integer(), self.integer(), self.integer()
            if not (0 <= bottoms <= MOST_BLOBS and 0 <= tops <= MOST_BLOBS):
                raise FormatError(f"layer {position} has {bottoms} + {tops} tensors", where=self.where)
            names = [f"blob{self.integer()}" for _ in range(bottoms + tops)]
            known = 0 <= number < len(self.types)
            op_type = self.types[number] if known else f"custom{number & ~CUSTOM}" if number & CUSTOM else f"#{number}"
            name = f"{op_type.lower()}{position}"
            yield Line(op_type, name, tuple(names[:bottoms]), tuple(names[bottoms:]), self.params())
        if self.at != len(self.data):
            more = len(self.data) - self.at
            raise FormatError(f"{more:,} bytes follow the last of {layers} layers", where=self.where)

    def params(self) -> dict[int, Value]:
        found: dict[int, Value] = {}
        while (number := self.integer()) != END:
            if number <= STRING:
                length = self.integer()
                word = self.take((length + 3) // 4 * 4)[: max(length, 0)]
                found[_checked(STRING - number, self.where)] = word.split(b"\0")[0].decode("utf-8", "replace")
            elif number <= ARRAY:
                found[_checked(ARRAY - number, self.where)] = self.take(4 * self.integer())
            else:
                found[_checked(number, self.where)] = self.take(4)
        return found


# -- values by kind ----------------------------------------------------------------------


def whole(value: Value, where: str) -> int:
    """A parameter as an integer."""
    if isinstance(value, bytes):
        return int(struct.unpack("<i", value)[0]) if len(value) == 4 else _misfit(value, where)
    if isinstance(value, float) and value == value and abs(value) < 2**31:
        return int(value)
    return value if isinstance(value, int) else _misfit(value, where)


def real(value: Value, where: str) -> float:
    """A parameter as a floating number."""
    if isinstance(value, bytes):
        return float(struct.unpack("<f", value)[0]) if len(value) == 4 else _misfit(value, where)
    return float(value) if isinstance(value, int | float) else _misfit(value, where)


def wholes(value: Value, where: str) -> tuple[int, ...]:
    """A parameter as an array of integers."""
    if isinstance(value, bytes):
        return struct.unpack(f"<{len(value) // 4}i", value)
    items = value if isinstance(value, tuple) else (value,)
    return tuple(whole(item, where) for item in items)


def reals(value: Value, where: str) -> tuple[float, ...]:
    """A parameter as an array of floating numbers."""
    if isinstance(value, bytes):
        return struct.unpack(f"<{len(value) // 4}f", value)
    items = value if isinstance(value, tuple) else (value,)
    return tuple(real(item, where) for item in items)


def word(value: Value, where: str) -> str:
    """A parameter as a text."""
    return value if isinstance(value, str) else _misfit(value, where)


def _misfit(value: object, where: str) -> NoReturn:
    raise GraphError(f"a parameter is {str(value)[:60]!r}, which is of another kind than the layer takes", where=where)
