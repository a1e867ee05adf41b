"""FlatBuffers, walked in place: tables and vectors are located, what they hold is read when asked for.

A file of gigabytes costs a few pages of memory. Nothing here knows a schema: fields are asked for by
their number. Every offset and length is checked against the file before it is followed.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from peakmem.errors import FormatError
from peakmem.frontends.section import Section

_PAGE = 1 << 15
_MOST_PAGES = 512
# kept at a time: 16 MiB
LONGEST_READ = 1 << 24
# bytes; no list is longer
LONGEST_TEXT = 1 << 16
MOST_TEXT = 1 << 27
# bytes of all texts together; no more than the file has, either, so that they cannot overlap for long
MOST_LISTED = 1 << 24
# list entries read from one file; tables may share a list, and a hostile file has all of them do so
_SIZES = {code: struct.calcsize("<" + code) for code in "bBhHiIqQfd?"}
_UNPACK = {code: struct.Struct("<" + code).unpack_from for code in "bBhHiIqQfd?"}


class FlatFile:
    """A file whose bytes are fetched page by page."""

    def __init__(self, section: Section) -> None:
        self._section = section
        self.size = section.size
        self._pages: OrderedDict[int, bytes] = OrderedDict()
        self._texts: dict[int, str] = {}
        self._text_bytes = 0
        self._listed = 0

    def read(self, start: int, count: int) -> bytes:
        """`count` bytes from `start`; FormatError when the file does not have them."""
        if start < 0 or start + count > self.size:
            raise FormatError(
                f"the file ends at byte {self.size}, but bytes up to {start + count} are referred to",
                expected="a complete file",
            )
        if count > LONGEST_READ:
            raise FormatError(f"a text or a list at byte {start} has {count} bytes", expected=f"at most {LONGEST_READ}")
        number, offset = divmod(start, _PAGE)
        page = self._page(number)
        if offset + count <= len(page):
            return page[offset : offset + count]
        parts = [page[offset:]]
        have = len(parts[0])
        while have < count:
            number += 1
            page = self._page(number)[: count - have]
            if not page:
                raise FormatError(f"the file ends early, near byte {start + have}", expected="a complete file")
            parts.append(page)
            have += len(page)
        return b"".join(parts)

    def _page(self, number: int) -> bytes:
        page = self._pages.get(number)
        if page is None:
            page = self._section.pread(number * _PAGE, _PAGE)
            self._pages[number] = page
            if len(self._pages) > _MOST_PAGES:
                self._pages.popitem(last=False)
        return page

    def number(self, code: str, at: int) -> Any:
        """The number at byte `at`; `code` is the letter of its type in `struct`."""
        return _UNPACK[code](self.read(at, _SIZES[code]), 0)[0]

    def text(self, at: int) -> str:
        """The string whose length stands at byte `at`."""
        found = self._texts.get(at)
        if found is None:
            length = self.number("I", at)
            self._text_bytes += length
            if length > LONGEST_TEXT or self._text_bytes > min(self.size, MOST_TEXT):
                raise FormatError(f"a text at byte {at} has {length} bytes", expected=f"at most {LONGEST_TEXT}")
            found = self.read(at + 4, length).decode("utf-8", "replace")
            self._texts[at] = found
        return found

    def numbers(self, code: str, at: int, count: int) -> tuple[Any, ...]:
        """`count` numbers from byte `at`."""
        self._listed += count
        if self._listed > MOST_LISTED:
            raise FormatError(f"its lists have more than {MOST_LISTED:,} entries together")
        return struct.unpack(f"<{count}{code}", self.read(at, count * _SIZES[code]))

    def root(self) -> Table:
        """The table that the file begins with."""
        return Table(self, self.number("I", 0))


class Table:
    """A table of numbered fields; a field that is absent gives its default."""

    __slots__ = ("_fields", "at", "file")

    def __init__(self, file: FlatFile, at: int) -> None:
        self.file = file
        self.at = at
        start = at - int(file.number("i", at))
        length = file.number("H", start)
        if length < 4 or length % 2:
            raise FormatError(
                f"the table at byte {at} has a layout of {length} bytes", expected="an even number from 4"
            )
        self._fields = struct.unpack(f"<{length // 2 - 2}H", file.read(start + 4, length - 4))

    def where(self, field: int) -> int:
        """Where a field stands in the file; 0 when it is absent."""
        offset = self._fields[field] if field < len(self._fields) else 0
        return self.at + offset if offset else 0

    def number(self, field: int, code: str, default: Any = 0) -> Any:
        """A number; `code` is the letter of its type in `struct`."""
        at = self.where(field)
        return self.file.number(code, at) if at else default

    def _target(self, field: int) -> int:
        at = self.where(field)
        return at + int(self.file.number("I", at)) if at else 0

    def table(self, field: int) -> Table | None:
        """The table that a field refers to."""
        at = self._target(field)
        return Table(self.file, at) if at else None

    def text(self, field: int) -> str:
        """The string that a field refers to."""
        at = self._target(field)
        return self.file.text(at) if at else ""

    def span(self, field: int, code: str = "B") -> tuple[int, int]:
        """(first byte, entries) of the vector that a field refers to; (0, 0) when it is absent."""
        at = self._target(field)
        if not at:
            return 0, 0
        count = int(self.file.number("I", at))
        if at + 4 + count * _SIZES[code] > self.file.size:
            raise FormatError(
                f"a list of {count} entries at byte {at} runs past the end of the file at byte {self.file.size}",
                expected="a complete file",
            )
        return at + 4, count

    def count(self, field: int) -> int:
        """How many tables the vector of a field has."""
        return self.span(field, "I")[1]

    def numbers(self, field: int, code: str) -> tuple[Any, ...]:
        """The entries of a vector of numbers."""
        at, count = self.span(field, code)
        return self.file.numbers(code, at, count) if count else ()

    def tables(self, field: int) -> Iterator[Table]:
        """The entries of a vector of tables."""
        at, count = self.span(field, "I")
        for position in range(count):
            yield self.entry(at, position)

    def entry(self, vector: int, position: int) -> Table:
        """One table of the vector of tables that begins at byte `vector`."""
        at = vector + 4 * position
        return Table(self.file, at + int(self.file.number("I", at)))
