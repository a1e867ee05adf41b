"""The headers of HDF5 files: groups, datasets with their shapes and types, short attributes.

What Keras writes, and no more: superblocks 0 to 3, object headers 1 and 2, groups with symbol
tables or with links, attributes with fixed or variable strings. The content of a dataset is
never read. Each read is bounded, each structure is visited once, so that a hostile file ends in
a FormatError; that, and that the core needs no library for it, is why this is not h5py, which
runs without end on about one in a hundred damaged files (docs/formats/keras.md).

Format: HDF5 File Format Specification 3.0, https://docs.hdfgroup.org/hdf5/develop/_s_p_e_c.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from peakmem import dtypes
from peakmem.dtypes import DType
from peakmem.errors import FormatError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MOST_OBJECTS = 200_000
MOST_READ = 128 << 20
# bytes of headers, over the whole file
LARGEST_BLOCK = 16 << 20
LARGEST_TEXT = 32 << 20
# of one attribute
DEEPEST = 64
# groups in groups, and levels of a tree
MOST_MESSAGES = 4096
# of one object

_FIXED = {(1, True): dtypes.INT8, (2, True): dtypes.INT16, (4, True): dtypes.INT32, (8, True): dtypes.INT64,
          (1, False): dtypes.UINT8, (2, False): dtypes.UINT16, (4, False): dtypes.UINT32,
          (8, False): dtypes.UINT64}  # fmt: skip
_FLOATS = {(2, 5): dtypes.FLOAT16, (2, 8): dtypes.BFLOAT16, (4, 8): dtypes.FLOAT32, (8, 11): dtypes.FLOAT64,
           (1, 4): dtypes.FLOAT8E4M3FN, (1, 5): dtypes.FLOAT8E5M2}  # fmt: skip
# by bytes and bits of the exponent


class Bytes(Protocol):
    """Something that can be read anywhere."""

    size: int

    def pread(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes at `offset`."""


class Unwritten(FormatError):
    """A sound file of a make that Keras does not write."""


@dataclass(frozen=True, slots=True)
class Object:
    """A group or a dataset."""

    path: str
    shape: tuple[int, ...] | None
    # None for a group
    dtype: DType | None
    # None where no dtype of ours is that type
    stored_bytes: int | None
    # of a dataset, as its shape and type say
    attributes: dict[str, str | tuple[str, ...]] = field(default_factory=dict)
    # texts alone


@dataclass(frozen=True, slots=True)
class _Type:
    form: int
    nbytes: int
    dtype: DType | None
    text: bool = False
    # a string of variable length


@dataclass(slots=True)
class _Header:
    shape: tuple[int, ...] | None = None
    has_space: bool = False
    type: _Type | None = None
    table: tuple[int, int] | None = None
    links: list[tuple[str, int]] = field(default_factory=list)
    heap: bool = False
    # whether links stand in a fractal heap instead
    layout: tuple[int, int] | None = None
    attributes: dict[str, str | tuple[str, ...]] = field(default_factory=dict)


def read_objects(source: Bytes, where: str) -> dict[str, Object]:
    """Every group and dataset of an HDF5 file by path, in the order of the file.

    Raises:
        FormatError: not HDF5, damaged, hostile, or of a make that Keras does not write.
    """
    try:
        return {item.path: item for item in _File(source).walk()}
    except FormatError as fault:
        raise type(fault)(fault.what, where=where, expected=fault.expected, hint=fault.hint) from fault
    except (
        struct.error,
        IndexError,
        KeyError,
        ValueError,
        OverflowError,
        MemoryError,
        RecursionError,
        OSError,
    ) as fault:
        raise FormatError(f"the HDF5 file is truncated or damaged ({fault})", where=where) from fault


class _File:
    def __init__(self, source: Bytes) -> None:
        self.source = source
        self.spent = 0
        self.heaps: dict[int, dict[int, bytes]] = {}
        head = source.pread(0, 128)
        if head[:8] != SIGNATURE:
            raise FormatError("this is no HDF5 file", expected="the signature \\x89HDF")
        version = head[8]
        if version in (0, 1):
            self.offset, self.length = head[13], head[14]
            at = 24 + 4 * version
        elif version in (2, 3):
            self.offset, self.length = head[9], head[10]
            at = 12
        else:
            raise FormatError(f"superblock version {version} of HDF5 is not known", expected="0 to 3")
        if self.offset not in (4, 8) or self.length not in (4, 8):
            raise FormatError("offsets in the HDF5 file have an odd width", expected="4 or 8 bytes")
        self.undefined = (1 << 8 * self.offset) - 1
        self.base = self._number(head, at, self.offset)
        self.root = self._number(head, at + (5 if version < 2 else 3) * self.offset, self.offset)

    def _number(self, data: bytes, at: int, width: int) -> int:
        if at + width > len(data):
            raise FormatError("the HDF5 file is truncated or damaged (a number is cut off)")
        return int.from_bytes(data[at : at + width], "little")

    def read(self, address: int, count: int) -> bytes:
        """Exactly `count` bytes."""
        if address == self.undefined or count > LARGEST_BLOCK:
            raise FormatError(f"the HDF5 file is damaged (a block of {count} bytes at {address})")
        self.spent += count + 64
        if self.spent > MOST_READ:
            raise FormatError("the HDF5 file is hostile: its headers are without end")
        data = self.source.pread(self.base + address, count)
        if len(data) != count:
            raise FormatError(f"the HDF5 file is truncated (a block of {count} bytes at {address} ends too early)")
        return data

    # -- the tree ------------------------------------------------------------------------

    def walk(self) -> Iterator[Object]:
        """All objects, parents first."""
        waiting: list[tuple[str, int, int]] = [("", self.root, 0)]
        seen: set[int] = set()
        count = 0
        while waiting:
            path, address, depth = waiting.pop()
            if address in seen:
                continue  # a second link to the same object
            seen.add(address)
            count += 1
            if count > MOST_OBJECTS or depth > DEEPEST:
                raise FormatError(f"the HDF5 file holds more than {MOST_OBJECTS:,} objects or {DEEPEST} levels")
            header = self.header(address)
            if header.type is not None and header.has_space:
                yield self.dataset(path, header)
                continue
            yield Object(path, None, None, None, header.attributes)
            links = [*header.links, *self.children(header)]
            for name, target in reversed(links):
                waiting.append((f"{path}/{name}" if path else name, target, depth + 1))

    def dataset(self, path: str, header: _Header) -> Object:
        assert header.type is not None
        shape = header.shape or ()
        total = header.type.nbytes
        for size in shape:
            total *= size
        if header.layout is not None:
            start, room = header.layout
            if start != self.undefined and (room != total or self.base + start + room > self.source.size):
                raise FormatError(
                    f"dataset {path[:200]!r} of {total:,} bytes lies outside of the file or has other room ({room:,})"
                )
        return Object(path, shape, header.type.dtype, total, header.attributes)

    def children(self, header: _Header) -> list[tuple[str, int]]:
        """Links that are not written in the header itself."""
        if header.table is not None:
            tree, heap = header.table
            return list(self.symbols(tree, self.local_heap(heap)))
        if header.heap:
            raise Unwritten(
                "the HDF5 file keeps its groups in fractal heaps, as libver='latest' does and Keras does not"
            )
        return []

    def local_heap(self, address: int) -> bytes:
        head = self.read(address, 8 + 2 * self.length + self.offset)
        if head[:4] != b"HEAP":
            raise FormatError("the HDF5 file is damaged (a heap of names is missing)")
        size = self._number(head, 8, self.length)
        return self.read(self._number(head, 8 + 2 * self.length, self.offset), size)

    def symbols(self, address: int, names: bytes) -> Iterator[tuple[str, int]]:
        """Members of a group with a symbol table, through its tree."""
        waiting = [(address, DEEPEST)]
        seen: set[int] = set()
        while waiting:
            at, level = waiting.pop()
            if at in seen:
                raise FormatError("the HDF5 file is damaged (a tree of names with a cycle)")
            seen.add(at)
            head = self.read(at, 8 + 2 * self.offset)
            if head[:4] == b"SNOD":
                yield from self.entries(at, int.from_bytes(head[6:8], "little"), names)
                continue
            if head[:4] != b"TREE" or head[4] != 0 or head[5] >= level:
                raise FormatError("the HDF5 file is damaged (a tree of names)")
            used = int.from_bytes(head[6:8], "little")
            step = self.length + self.offset
            body = self.read(at + 8 + 2 * self.offset, used * step)
            for index in reversed(range(used)):
                waiting.append((self._number(body, index * step + self.length, self.offset), head[5] or 1))

    def entries(self, address: int, count: int, names: bytes) -> Iterator[tuple[str, int]]:
        step = 2 * self.offset + 24
        body = self.read(address + 8, count * step)
        for index in range(count):
            at = self._number(body, index * step, self.offset)
            end = names.find(b"\0", at)
            if at >= len(names) or end < 0:
                raise FormatError("the HDF5 file is damaged (a name outside of its heap)")
            target = self._number(body, index * step + self.offset, self.offset)
            if target != self.undefined:  # a soft link leads nowhere here
                yield names[at:end].decode("utf-8", "replace"), target

    # -- object headers ------------------------------------------------------------------

    def header(self, address: int) -> _Header:
        """The object at `address`."""
        found = _Header()
        for kind, flags, data in self.messages(address):
            if kind == 0x01:
                found.shape, found.has_space = self.space(data), True
            elif kind == 0x03:
                if flags & 2:
                    raise Unwritten("the HDF5 file has shared types, which Keras does not write")
                found.type = _type(data)
            elif kind == 0x08:
                found.layout = self.layout(data)
            elif kind == 0x11:
                found.table = self._number(data, 0, self.offset), self._number(data, self.offset, self.offset)
            elif kind == 0x06:
                found.links.extend(self.link(data))
            elif kind == 0x02:
                at = 2 + 8 * (data[1] & 1)
                found.heap = self._number(data, at, self.offset) != self.undefined
            elif kind == 0x0C:
                self.attribute(data, found.attributes)
        return found

    def messages(self, address: int) -> Iterator[tuple[int, int, bytes]]:
        """(kind, flags, data) of each message of an object, those of continuations included."""
        head = self.read(address, 16)
        if head[:4] == b"OHDR":
            flags = head[5]
            at = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
            width = 1 << (flags & 3)
            size = self._number(self.read(address + at, width), 0, width)
            blocks = [(address + at + width, size)]
            newer, step = True, 6 if flags & 4 else 4
        elif head[0] == 1:
            blocks = [(address + 16, int.from_bytes(head[8:12], "little"))]
            newer, step = False, 8
        else:
            raise FormatError("the HDF5 file is damaged (an object without a header)")
        count = 0
        while blocks:
            start, size = blocks.pop(0)
            data = self.read(start, size)
            at = 0
            while at + step <= len(data):
                count += 1
                if count > MOST_MESSAGES:
                    raise FormatError("the HDF5 file is hostile: an object with thousands of messages")
                if newer:
                    kind, length, flags = data[at], int.from_bytes(data[at + 1 : at + 3], "little"), data[at + 3]
                else:
                    kind, length, flags = *struct.unpack_from("<HH", data, at), data[at + 4]
                content = data[at + step : at + step + length]
                if len(content) != length:
                    raise FormatError("the HDF5 file is damaged (a message is longer than its object)")
                if kind == 0x10:
                    where = self._number(content, 0, self.offset)
                    room = self._number(content, self.offset, self.length)
                    blocks.append((where + 4, max(0, room - 8)) if newer else (where, room))
                elif kind:
                    yield kind, flags, content
                at += step + length

    def space(self, data: bytes) -> tuple[int, ...]:
        rank, at = data[1], 8 if data[0] == 1 else 4
        if data[0] not in (1, 2) or rank > 32:
            raise FormatError("the HDF5 file is damaged (a dataspace)")
        if data[0] == 2 and data[3] == 2:
            return (0,)
        return tuple(self._number(data, at + index * self.length, self.length) for index in range(rank))

    def layout(self, data: bytes) -> tuple[int, int] | None:
        """Address and size of a contiguous dataset; None for compact and chunked ones."""
        if data[0] not in (3, 4) or data[1] != 1:
            return None
        return self._number(data, 2, self.offset), self._number(data, 2 + self.offset, self.length)

    def link(self, data: bytes) -> list[tuple[str, int]]:
        """The hard link of a link message; soft and external ones lead nowhere here."""
        flags = data[1]
        at = 2
        kind = 0
        if flags & 8:
            kind = data[at]
            at += 1
        at += 8 if flags & 4 else 0
        at += 1 if flags & 16 else 0
        width = 1 << (flags & 3)
        length = self._number(data, at, width)
        at += width
        if kind != 0:
            return []
        name = data[at : at + length]
        return [(name.decode("utf-8", "replace"), self._number(data, at + length, self.offset))]

    # -- attributes ----------------------------------------------------------------------

    def attribute(self, data: bytes, found: dict[str, str | tuple[str, ...]]) -> None:
        """Add an attribute if it holds text."""
        version = data[0]
        sizes = struct.unpack_from("<HHH", data, 2)
        at = 9 if version == 3 else 8
        parts = []
        for size in sizes:
            parts.append(data[at : at + size])
            at += -(-size // 8) * 8 if version == 1 else size
        if version not in (1, 2, 3) or (version > 1 and data[1] & 3):
            return
        kind, shape = _type(parts[1]), self.space(parts[2])
        count = 1
        for size in shape:
            count *= size
        if not (kind.text or kind.form == 3) or count * kind.nbytes > len(data) - at:
            return
        texts = []
        for index in range(count):
            item = data[at + index * kind.nbytes : at + (index + 1) * kind.nbytes]
            content = self.variable(item) if kind.text else item
            texts.append(content.rstrip(b"\0").decode("utf-8", "replace"))
        name = parts[0].rstrip(b"\0").decode("utf-8", "replace")
        found[name] = tuple(texts) if shape else texts[0]

    def variable(self, reference: bytes) -> bytes:
        """A string of variable length, from the global heap."""
        length = self._number(reference, 0, 4)
        address = self._number(reference, 4, self.offset)
        index = self._number(reference, 4 + self.offset, 4)
        if address not in self.heaps:
            self.heaps[address] = self.global_heap(address)
        data = self.heaps[address].get(index, b"")
        if length > len(data):
            raise FormatError("the HDF5 file is damaged (a text outside of its heap)")
        return data[:length]

    def global_heap(self, address: int) -> dict[int, bytes]:
        head = self.read(address, 8 + self.length)
        size = self._number(head, 8, self.length)
        if head[:4] != b"GCOL" or size > LARGEST_TEXT:
            raise FormatError("the HDF5 file is damaged (a heap of texts)")
        data = self.source.pread(self.base + address, size)
        self.spent += size
        found: dict[int, bytes] = {}
        at = 8 + self.length
        while at + 8 + self.length <= len(data):
            index, room = int.from_bytes(data[at : at + 2], "little"), self._number(data, at + 8, self.length)
            at += 8 + self.length
            if index == 0:
                break
            found[index] = data[at : at + room]
            at += -(-room // 8) * 8
        return found


def _type(data: bytes) -> _Type:
    form, nbytes = data[0] & 15, int.from_bytes(data[4:8], "little")
    bits = data[1]
    if form == 0:
        return _Type(form, nbytes, _FIXED.get((nbytes, bool(bits & 8))))
    if form == 1:
        return _Type(form, nbytes, _FLOATS.get((nbytes, data[13])))
    if form == 8:
        return _Type(form, nbytes, dtypes.BOOL if nbytes == 1 else None)
    if form == 5 and nbytes == 2:
        return _Type(form, nbytes, dtypes.BFLOAT16)  # NumPy has no bfloat16: h5py writes its two bytes as they are
    return _Type(form, nbytes, None, text=form == 9 and bits & 15 == 1)
