"""The protobuf wire format, walked in place: fields are located, not loaded.

A file of gigabytes costs a small window of memory, because the bytes of a weight are stepped
over. Nothing here knows ONNX. Lengths, tags and nesting are checked against the space there is,
so a damaged or hostile file ends in a FormatError and never in a long loop.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, TypeAlias

from peakmem.errors import FormatError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Field: TypeAlias = tuple[int, int, int, int]
# (number, wire type, value, end): value is the number itself for VARINT; else where the content starts

_WINDOW = 1 << 18
_HEADER = 20
# bytes; a tag and a length are varints of at most ten bytes each


def fields(data: bytes, start: int, end: int) -> Iterator[Field]:
    """The fields of the message in `data[start:end]`, in order.

    Raises:
        FormatError: a tag, length or value does not fit the message.
    """
    pos = start
    while pos < end:
        try:
            tag = data[pos]
            pos += 1
            if tag > 127:
                tag, pos = _varint(data, pos - 1, end)
            wire = tag & 7
            if wire == BYTES:
                size = data[pos]
                pos += 1
                if size > 127:
                    size, pos = _varint(data, pos - 1, end)
                stop = pos + size
                if stop > end:
                    raise FormatError(f"a field of {size} bytes runs past the end of its message, at byte {pos}")
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
                    raise FormatError(f"a number is cut off at byte {pos}")
                yield tag >> 3, wire, pos, stop
                pos = stop
            else:
                raise FormatError(f"wire type {wire} at byte {pos} is not protobuf")
        except IndexError:
            raise FormatError(f"the message is cut off at byte {pos}") from None
    if pos != end:
        raise FormatError(f"a field runs past the end of its message, at byte {end}")


def _varint(data: bytes, pos: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if pos >= end:
            raise FormatError(f"a number is cut off at byte {pos}")
        byte = data[pos]
        pos += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, pos
        shift += 7
        if shift > 63:
            raise FormatError(f"a number at byte {pos} is longer than ten bytes")


def signed(value: int) -> int:
    """A varint read as a two's complement 64-bit integer."""
    return value - (1 << 64) if value >> 63 else value


def text(data: bytes, start: int, end: int) -> str:
    """UTF-8 content; FormatError when it is not."""
    try:
        return str(data[start:end], "utf-8")
    except UnicodeDecodeError:
        raise FormatError(f"the text at byte {start} is not UTF-8") from None


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
        try:
            self._file: BinaryIO = path.open("rb", buffering=0)
        except OSError as fault:
            raise FormatError(f"cannot be read ({fault.strerror})", where=str(path)) from fault
        self.size = self._file.seek(0, 2)
        self._base = 0
        self._window = b""

    def __enter__(self) -> WireFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`; FormatError when the file is shorter."""
        offset = start - self._base
        if offset >= 0 and end - self._base <= len(self._window):
            return self._window[offset : offset + end - start]
        if end > self.size:
            raise FormatError(f"the file ends at byte {self.size}, {end - self.size} bytes too early")
        self._base = start
        self._window = self._load(start, max(end - start, min(_WINDOW, self.size - start)))
        if len(self._window) < end - start:
            raise FormatError(f"the file ends early, near byte {start}")
        return self._window[: end - start]

    def _load(self, start: int, count: int) -> bytes:
        self._file.seek(start)
        parts = []
        while count > 0:
            part = self._file.read(count)
            if not part:
                break
            parts.append(part)
            count -= len(part)
        return b"".join(parts) if len(parts) != 1 else parts[0]

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of the message between two offsets of the file; contents are stepped over."""
        pos = start
        while pos < end:
            head = self.read(pos, min(pos + _HEADER, end))
            limit = len(head)
            tag, at = _varint(head, 0, limit)
            wire = tag & 7
            if wire == VARINT:
                value, at = _varint(head, at, limit)
                pos += at
                yield tag >> 3, VARINT, value, pos
                continue
            if wire == BYTES:
                size, at = _varint(head, at, limit)
            elif wire == FIXED32:
                size = 4
            elif wire == FIXED64:
                size = 8
            else:
                raise FormatError(f"wire type {wire} at byte {pos} is not protobuf")
            begin = pos + at
            if begin + size > end:
                raise FormatError(
                    f"a field of {size} bytes at byte {begin} runs past byte {end}, the end of its message"
                )
            yield tag >> 3, wire, begin, begin + size
            pos = begin + size
