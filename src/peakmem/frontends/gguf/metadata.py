"""The beginning of a GGUF file, read front to back: metadata and tensor entries, never tensor data.

Both endiannesses and versions 1 to 3. Long texts and arrays (a tokenizer's vocabulary) are stepped
over, not built; every count and length is held against what is left of the file before it is used.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from peakmem.errors import FormatError
from peakmem.frontends.gguf.types import ARRAY, SCALARS, STRING
from peakmem.frontends.names import shown
from peakmem.frontends.weights import LONGEST_NAME, MOST_TENSORS

NEWEST = 3
CHUNK = 1 << 18
MOST_KEYS = 1 << 16
LONGEST_TEXT = 1 << 16
LONGEST_ARRAY = 1 << 16
# bytes of a text and elements of an array that are kept; longer ones are stepped over
MOST_TEXTS = 4_000_000
# texts in all arrays of a file; the largest vocabularies have 300,000
MOST_ARRAYS = 50_000
# arrays inside of arrays
MOST_KEPT = 16 << 20
# bytes of texts and elements of arrays that are kept, all together
DEEPEST_ARRAY = 4
MOST_DIMENSIONS = 4


@dataclass(frozen=True, slots=True)
class Skipped:
    """A value that is there and was not read."""

    count: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor as the file lists it."""

    name: str
    sizes: tuple[int, ...]
    # the innermost first, as ggml has them
    type_number: int
    offset: int
    # from the start of the data


@dataclass(slots=True)
class Beginning:
    """What stands before the tensor data of one file."""

    path: Path
    version: int
    big_endian: bool
    metadata: dict[str, Any]
    entries: list[Entry] = field(default_factory=list)
    stop: int = 0
    # where the last entry ends
    size: int = 0
    # bytes of the file


def read_beginning(path: Path) -> Beginning:
    """Metadata and tensor entries of the GGUF file at `path`.

    Raises:
        FormatError: truncated or damaged, or a version that is not known.
    """
    with path.open("rb") as file:
        return _Reader(path, file).beginning()


class _Reader:
    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path = path
        self.file = file
        self.size = path.stat().st_size
        self.buffer = b""
        self.base = 0
        # where the buffer starts in the file
        self.at = 0
        # where reading goes on, in the buffer
        self.order = "<"
        self.length = struct.Struct("<Q")
        # of texts, arrays and dimensions; 32 bits wide in version 1
        self.texts = self.arrays = self.kept = 0

    def beginning(self) -> Beginning:
        magic = self.bytes(4, "the magic number")
        if magic not in (b"GGUF", b"FUGG"):
            raise FormatError(f"the file starts with {magic!r}", expected="'GGUF'")
        word = self.bytes(4, "the version")
        version = int.from_bytes(word, "little")
        if version & 0xFFFF == 0 and version:
            self.order, version = ">", int.from_bytes(word, "big")
        if not 1 <= version <= NEWEST:
            raise FormatError(f"GGUF version {version}", expected=f"1 to {NEWEST}")
        self.length = struct.Struct(self.order + ("I" if version == 1 else "Q"))
        tensors, keys = self.count("tensors"), self.count("metadata keys")
        if tensors > MOST_TENSORS or keys > MOST_KEYS:
            raise FormatError(
                f"{tensors:,} tensors and {keys:,} metadata keys",
                expected=f"at most {MOST_TENSORS:,} and {MOST_KEYS:,}",
            )
        if not tensors and not keys:
            raise FormatError("the file holds neither tensors nor metadata", expected="a model")
        found = Beginning(self.path, version, self.order == ">", {}, size=self.size)
        for _ in range(keys):
            name = self.name("a metadata key")
            if name in found.metadata:
                raise FormatError(f"the metadata key {shown(name)} stands twice")
            found.metadata[name] = self.value(self.number("I", "a value type"), name, 0)
        seen: set[str] = set()
        for _ in range(tensors):
            entry = self.entry()
            if entry.name in seen:
                raise FormatError(f"tensor {shown(entry.name)} stands twice")
            seen.add(entry.name)
            found.entries.append(entry)
        found.stop = self.base + self.at
        return found

    def entry(self) -> Entry:
        name = self.name("a tensor name")
        rank = self.number("I", "the rank of a tensor")
        if rank > MOST_DIMENSIONS:
            raise FormatError(f"tensor {shown(name)} has {rank:,} dimensions", expected=f"at most {MOST_DIMENSIONS}")
        sizes = tuple(self.count("a dimension") for _ in range(rank))
        return Entry(name, sizes, self.number("I", "a tensor type"), self.number("Q", "an offset"))

    # -- values --------------------------------------------------------------------------

    def value(self, kind: int, key: str, depth: int) -> Any:
        """A metadata value, or what stands for one that is too long to keep."""
        if kind in SCALARS:
            return self.number(SCALARS[kind], f"the value of {shown(key)}")
        if kind == STRING:
            length = self.count(f"the length of {shown(key)}")
            if length > LONGEST_TEXT or self.kept > MOST_KEPT:
                self.skip(length, shown(key))
                return Skipped(length)
            self.kept += length
            return self.bytes(length, shown(key)).decode("utf-8", "replace")
        if kind != ARRAY:
            raise FormatError(f"the metadata key {shown(key)} has the value type {kind}", expected="0 to 12")
        if depth >= DEEPEST_ARRAY:
            raise FormatError(f"the arrays of {shown(key)} are nested too deeply", expected=f"at most {DEEPEST_ARRAY}")
        inner = self.number("I", "an element type")
        count = self.count(f"the length of {shown(key)}")
        if inner in SCALARS:
            return self.scalars(inner, count, key)
        if inner == STRING:
            self.texts += count
            self.afford(self.texts, MOST_TEXTS, count, key)
            self.skip_texts(count, key)
        else:
            self.arrays += count
            self.afford(self.arrays, MOST_ARRAYS, count, key)
            for _ in range(count):
                self.value(inner, key, depth + 1)
        return Skipped(count)

    def afford(self, together: int, most: int, count: int, key: str) -> None:
        if together > most or count * self.length.size > self.size:
            raise FormatError(f"an array of {count:,} elements in {shown(key)}", expected=f"at most {most:,} in a file")

    def scalars(self, kind: int, count: int, key: str) -> Any:
        layout = SCALARS[kind]
        nbytes = count * struct.calcsize(f"<{layout}")
        if count > LONGEST_ARRAY or self.kept > MOST_KEPT:
            self.skip(nbytes, shown(key))
            return Skipped(count)
        self.kept += count
        return struct.unpack(f"{self.order}{count}{layout}", self.bytes(nbytes, shown(key)))

    def skip_texts(self, count: int, key: str) -> None:
        """Step over `count` texts; in the buffer without a call for each, for there are many."""
        unpack, width = self.length.unpack_from, self.length.size
        buffer, at = self.buffer, self.at
        last = len(buffer) - width
        for _ in range(count):
            if at > last:
                self.at = min(at, len(buffer))
                if at > len(buffer):
                    self.skip(at - len(buffer), shown(key))
                self.fill(width, f"a text of {shown(key)}")
                buffer, at = self.buffer, self.at
                last = len(buffer) - width
            at += width + unpack(buffer, at)[0]
        self.at = min(at, len(buffer))
        if at > len(buffer):
            self.skip(at - len(buffer), shown(key))

    # -- bytes ---------------------------------------------------------------------------

    def count(self, what: str) -> int:
        value: int = self.length.unpack(self.bytes(self.length.size, what))[0]
        return value

    def number(self, layout: str, what: str) -> Any:
        return struct.unpack(self.order + layout, self.bytes(struct.calcsize(f"<{layout}"), what))[0]

    def name(self, what: str) -> str:
        length = self.count(what)
        if length > LONGEST_NAME:
            raise FormatError(f"{what} of {length:,} bytes", expected=f"at most {LONGEST_NAME:,}")
        try:
            return self.bytes(length, what).decode()
        except UnicodeDecodeError as fault:
            raise FormatError(f"{what} is not UTF-8") from fault

    def bytes(self, count: int, what: str) -> bytes:
        if self.at + count > len(self.buffer):
            self.fill(count, what)
        start = self.at
        self.at = start + count
        return self.buffer[start : self.at]

    def fill(self, count: int, what: str) -> None:
        """Have the next `count` bytes in the buffer; `count` is bounded by the caller."""
        here = self.base + self.at
        if here + count > self.size:
            raise FormatError(f"the file is truncated in {what}", expected=f"{count:,} bytes at {here:,}")
        self.file.seek(here)
        self.buffer, self.base, self.at = self.file.read(max(count, CHUNK)), here, 0
        if len(self.buffer) < count:
            raise FormatError(f"the file is truncated in {what}")

    def skip(self, count: int, what: str) -> None:
        here = self.base + self.at
        if count > self.size - here:
            raise FormatError(f"the file is truncated in {what}", expected=f"{count:,} bytes at {here:,}")
        self.buffer, self.base, self.at = b"", here + count, 0
