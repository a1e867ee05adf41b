"""FlexBuffers, as custom operators keep their options: a map of names to plain values.

Only what options are made of is read: numbers, booleans, texts and short vectors of numbers at the
top of the map. Anything else is left out, and bytes that are no such map give nothing.
"""

from __future__ import annotations

import struct
from typing import Any

MOST_OPTIONS = 256
LONGEST_VECTOR = 1024
_INT, _UINT, _FLOAT, _KEY, _TEXT, _MAP = 1, 2, 3, 4, 5, 9
_INDIRECT = {6: _INT, 7: _UINT, 8: _FLOAT}
# types that refer to a number elsewhere
_TYPED = {11: _INT, 12: _UINT, 13: _FLOAT}
_BOOL, _BOOLS = 26, 36
_CODES = {
    _INT: {1: "b", 2: "h", 4: "i", 8: "q"},
    _UINT: {1: "B", 2: "H", 4: "I", 8: "Q"},
    _FLOAT: {2: "e", 4: "f", 8: "d"},
}  # fmt: skip


def plain_map(data: bytes) -> dict[str, Any]:
    """The plain entries of the map that `data` ends with; empty when there is none."""
    try:
        return _Reader(data).entries()
    except (struct.error, IndexError, KeyError, UnicodeDecodeError, ValueError, OverflowError):
        return {}


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def _number(self, kind: int, at: int, width: int) -> Any:
        if at < 0:
            raise IndexError
        return struct.unpack_from("<" + _CODES[kind][width], self.data, at)[0]

    def _follow(self, at: int, width: int) -> int:
        return at - int(self._number(_UINT, at, width))

    def _text(self, at: int) -> str:
        end = self.data.index(b"\0", at, at + 4096)
        return self.data[at:end].decode()

    def entries(self) -> dict[str, Any]:
        width, packed = self.data[-1], self.data[-2]
        if packed >> 2 != _MAP:
            return {}
        at = self._follow(len(self.data) - 2 - width, width)
        size = 1 << (packed & 3)
        count = int(self._number(_UINT, at - size, size))
        if count > MOST_OPTIONS:
            return {}
        key_size = int(self._number(_UINT, at - 2 * size, size))
        keys = self._follow(at - 3 * size, size)
        found: dict[str, Any] = {}
        for position in range(count):
            key = keys + position * key_size
            name = self._text(self._follow(key, key_size))
            value = self._value(at + position * size, size, self.data[at + count * size + position])
            if value is not None:
                found[name] = value
        return found

    def _value(self, at: int, width: int, packed: int) -> Any:
        kind, size = packed >> 2, 1 << (packed & 3)
        if kind in _CODES:
            return self._number(kind, at, width)
        if kind == _BOOL:
            return int(self._number(_UINT, at, width))
        if kind in _INDIRECT:
            return self._number(_INDIRECT[kind], self._follow(at, width), size)
        if kind == _KEY:
            return self._text(self._follow(at, width))
        if kind == _TEXT:
            start = self._follow(at, width)
            length = int(self._number(_UINT, start - size, size))
            return self.data[start : start + length].decode() if length <= 4096 else None
        if kind in _TYPED or kind == _BOOLS:
            start = self._follow(at, width)
            length = int(self._number(_UINT, start - size, size))
            if length > LONGEST_VECTOR:
                return None
            entry = _TYPED.get(kind, _UINT)
            return tuple(self._number(entry, start + place * size, size) for place in range(length))
        return None
