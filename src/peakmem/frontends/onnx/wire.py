"""The protobuf wire format, walked in place: fields are located, not loaded.

A file of gigabytes costs a small window of memory, because the bytes of a weight are stepped
over. Nothing here knows ONNX. Lengths, tags and nesting are checked against the space there is,
so a damaged or hostile file ends in a WireError and never in a long loop.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from peakmem.errors import FormatError
from peakmem.frontends.section import Section


class WireError(FormatError):
    """Bytes that are not a protobuf message, or not all of one."""


VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Field: TypeAlias = tuple[int, int, int, int]
# (number, wire type, value, end): value is the number itself for VARINT; else where the content starts

_LEAST_WINDOW, _MOST_WINDOW = 1 << 12, 1 << 18
# bytes read ahead: few after a jump over a weight, more and more while reading on
_LONGEST_READ = 1 << 26
# bytes; no name, shape or list is longer
_HEADER = 20
# bytes; a tag and a length are varints of at most ten bytes each


def fields(data: bytes, start: int, end: int) -> Iterator[Field]:
    """The fields of the message in `data[start:end]`, in order.

    Raises:
        WireError: a tag, length or value does not fit the message.
    """
    pos = start
    while pos < end:
        try:
            tag = data[pos]
            pos += 1
            if tag > 127:
                tag, pos = _varint(data, pos - 1, end)
            if tag < 8:
                raise WireError("a field has the number 0")
            wire = tag & 7
            if wire == BYTES:
                size = data[pos]
                pos += 1
                if size > 127:
                    size, pos = _varint(data, pos - 1, end)
                stop = pos + size
                if stop > end:
                    raise WireError(f"a field of {size} bytes runs past the end of its message")
                yield tag >> 3, BYTES, pos, stop
                pos = stop
            elif wire == VARINT:
                value = data[pos]
                pos += 1
                if value > 127:
                    value, pos = _varint(data, pos - 1, end)
                yield tag >> 3, VARINT, value, pos
            elif wire in (FIXED32, FIXED64):
                stop = pos + (4 if wire == FIXED32 else 8)
                if stop > end:
                    raise WireError("a number is cut off")
                yield tag >> 3, wire, pos, stop
                pos = stop
            else:
                raise WireError(f"wire type {wire} is not protobuf")
        except IndexError:
            raise WireError("a message is cut off") from None
    if pos != end:
        raise WireError("a field runs past the end of its message")


def _varint(data: bytes, pos: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if pos >= end:
            raise WireError("a number is cut off")
        byte = data[pos]
        pos += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, pos
        shift += 7
        if shift > 63:
            raise WireError("a number is longer than ten bytes")


def signed(value: int) -> int:
    """A varint read as a two's complement 64-bit integer."""
    return value - (1 << 64) if value >> 63 else value


def text(data: bytes, start: int, end: int) -> str:
    """UTF-8 content; WireError when it is not."""
    try:
        return str(data[start:end], "utf-8")
    except UnicodeDecodeError:
        raise WireError("a name is not UTF-8") from None


def packed_varints(data: bytes) -> list[int]:
    """The signed integers of a packed field."""
    out = []
    pos, end = 0, len(data)
    while pos < end:
        value, pos = _varint(data, pos, end)
        out.append(signed(value))
    return out


def float32(data: bytes, start: int) -> float:
    """A little-endian float32."""
    return float(struct.unpack_from("<f", data, start)[0])


class WireFile:
    """A file read through a window; `read` gives bytes, `fields` locates fields without reading them."""

    def __init__(self, path: Path) -> None:
        self._file = Section(path)
        self.size = self._file.size
        self._base = 0
        self._window = b""
        self._ahead = _LEAST_WINDOW

    def __enter__(self) -> WireFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`; WireError when the file is shorter."""
        offset = start - self._base
        if offset < 0 or end - self._base > len(self._window):
            self._move(start, end)
            offset = 0
        return self._window[offset : offset + end - start]

    def _move(self, start: int, end: int) -> None:
        """Let the window begin at `start` and hold what is up to `end`."""
        if end > self.size:
            raise WireError(f"the file ends at byte {self.size}, {end - self.size} bytes too early")
        if end - start > _LONGEST_READ:
            raise WireError(f"a text or a list at byte {start} has {end - start} bytes")
        on = 0 <= start - self._base <= len(self._window)
        self._ahead = min(2 * self._ahead, _MOST_WINDOW) if on else _LEAST_WINDOW
        self._base = start
        self._window = self._file.pread(start, max(end - start, min(self._ahead, self.size - start)))
        if len(self._window) < end - start:
            raise WireError(f"the file ends early, near byte {start}")

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of the message between two offsets of the file; contents are stepped over."""
        pos = start
        while pos < end:
            offset = pos - self._base
            if offset < 0 or min(offset + _HEADER, end - self._base) > len(self._window):
                self._move(pos, min(pos + _HEADER, end))
                offset = 0
            # The consumer may move the window, so nothing of it is kept over a yield.
            base, window = self._base, self._window
            limit = min(len(window), end - base)
            tag, at = window[offset], offset + 1
            if tag > 127:
                tag, at = _varint(window, offset, limit)
            wire = tag & 7
            if tag < 8:
                raise WireError(f"the field at byte {pos} has the number 0")
            if wire == VARINT:
                value, at = _varint(window, at, limit)
                pos = base + at
                yield tag >> 3, VARINT, value, pos
                continue
            if wire == BYTES:
                size, at = _varint(window, at, limit)
            elif wire in (FIXED32, FIXED64):
                size = 4 if wire == FIXED32 else 8
            else:
                raise WireError(f"wire type {wire} at byte {pos} is not protobuf")
            begin = base + at
            pos = begin + size
            if pos > end:
                raise WireError(f"a field of {size} bytes at byte {begin} runs past byte {end}, the end of its message")
            yield tag >> 3, wire, begin, pos
