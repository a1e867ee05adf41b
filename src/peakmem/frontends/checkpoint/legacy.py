"""The two formats that torch.save wrote before zip archives, and plain pickles.

A sequence of pickles (magic number, protocol, system, object, keys of storages) with the storages
behind it, written until PyTorch 1.5 and on request since; and a tar archive, until 0.1.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import IO, Any

from peakmem.errors import FormatError
from peakmem.frontends.checkpoint.pickles import Global, Persistent, Table, Unpickler
from peakmem.frontends.checkpoint.stream import Stream
from peakmem.frontends.checkpoint.tensors import Storage, View, storage_of
from peakmem.frontends.names import shown
from peakmem.frontends.weights import LARGEST_TENSOR, MOST_DIMENSIONS, MOST_TENSORS

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MOST_MEMBERS = 64
# of a tar archive; a checkpoint has five


@dataclass(slots=True)
class Legacy:
    """One file of an older format, followed to its end."""

    root: Any
    kind: str
    is_torch: bool
    persistent: Callable[[Any], Any]
    globals: Iterable[Global] = ()
    notes: list[str] = field(default_factory=list)


def is_tar(start: bytes) -> bool:
    """Whether the first 512 bytes of a file are the header of a tar archive."""
    return start[257:262] == b"ustar"


def read_sequence(file: IO[bytes], stop: int, base: int = 0) -> Legacy:
    """The pickles of a file from `base` to `stop`, and the lengths of the storages behind them.

    Raises:
        FormatError: damaged, or storages that are cut short.
    """
    file.seek(base)
    stream = Stream(file, stop - base, seekable=True)
    first = Unpickler(stream)
    root = first.load()
    if root != MAGIC or type(root) is not int:
        return Legacy(root, "plain pickle", False, lambda _: None, list(first.globals.values()))
    protocol = Unpickler(stream).load()
    if protocol != PROTOCOL:
        raise FormatError(f"the protocol of the checkpoint is {shown(str(protocol)[:60])}", expected=str(PROTOCOL))
    system = Unpickler(stream).load()
    little = not isinstance(system, Table) or ("little_endian", False) not in (system.items or ())
    body = Unpickler(stream)
    root = body.load()
    storages = _referenced(body.references)
    keys = Unpickler(stream).load()
    if not isinstance(keys, list):
        raise FormatError("the checkpoint does not list its storages", expected="a list of keys")
    for key in keys:
        storage = storages.get(_word(key))
        if storage is None:
            raise FormatError(f"no tensor tells the kind of storage {_shown(key)}")
        count = int.from_bytes(stream.take(8), "little" if little else "big", signed=True)
        if count * _width(storage) != storage.nbytes:
            raise FormatError(
                f"storage {_shown(key)} has {count:,} elements", expected=f"{storage.nbytes // _width(storage):,}"
            )
        if stream.position + storage.nbytes > stop - base:
            raise FormatError(f"the file is truncated in storage {_shown(key)}", expected=f"{storage.nbytes:,} bytes")
        stream.skip(storage.nbytes)
    left = stop - base - stream.position
    notes = [f"{left:,} bytes follow the last storage and were not read"] if left and not base else []
    kind = "torch.save, the format before zip archives"
    return Legacy(root, kind, True, _resolved, list(body.globals.values()), notes)


def _referenced(references: Iterable[Persistent]) -> dict[str, Storage]:
    """The storages that a pickle refers to, by key; views of a storage count as that storage."""
    found: dict[str, Storage] = {}
    for reference in references:
        storage = _resolved(reference.key)
        storage = storage.storage if isinstance(storage, View) else storage
        if storage is None:
            continue
        before = found.setdefault(storage.key, storage)
        if before.nbytes != storage.nbytes:
            raise FormatError(
                f"storage {_shown(storage.key)} has two lengths: {before.nbytes:,} and {storage.nbytes:,}"
            )
    return found


def _resolved(key: Any) -> Storage | View | None:
    """What a persistent id of the sequence format stands for: a storage, or a part of one."""
    if not isinstance(key, tuple) or len(key) < 5 or key[0] != "storage":
        return None
    storage = storage_of(*key[1:5])
    part = key[5] if len(key) > 5 else None
    if isinstance(part, tuple) and len(part) == 3 and type(part[1]) is int and 0 <= part[1] < LARGEST_TENSOR:
        return View("", storage, storage.element, (), (), part[1])
    return storage


def _width(storage: Storage) -> int:
    return max((storage.element.bits or 8) // 8, 1)


def _word(key: Any) -> str:
    return str(key)[:1024] if isinstance(key, str | int) else ""


def _shown(key: Any) -> str:
    return shown(_word(key))


# -- tar archives ------------------------------------------------------------------------


def read_tar(file: IO[bytes], size: int) -> Legacy:
    """The tensors of a tar checkpoint: members `storages`, `tensors` and `pickle`.

    Raises:
        FormatError: damaged, a member missing, storages that are cut short.
    """
    members = _members(file, size)
    lacking = [name for name in ("storages", "tensors", "pickle") if name not in members]
    if lacking:
        raise FormatError(f"the tar archive holds no {lacking[0]!r}", expected="a checkpoint of PyTorch 0.1")
    storages = _tar_storages(file, *members["storages"])
    tensors = _tar_tensors(file, *members["tensors"], storages)
    start, nbytes = members["pickle"]
    file.seek(start)
    body = Unpickler(Stream(file, nbytes, seekable=True))
    root = body.load()

    def persistent(key: Any) -> Storage | View | None:
        word = _word(key)
        return tensors.get(word) or storages.get(word)

    return Legacy(root, "torch.save, tar archive of PyTorch 0.1", True, persistent, list(body.globals.values()))


def _members(file: IO[bytes], size: int) -> dict[str, tuple[int, int]]:
    """(start, bytes) of the regular files in a tar archive, by name; the first few only."""
    found: dict[str, tuple[int, int]] = {}
    at = 0
    for _ in range(MOST_MEMBERS):
        file.seek(at)
        head = file.read(512)
        if len(head) < 512 or not head.strip(b"\0"):
            break
        digits = head[124:136].strip(b"\0 ")
        if not digits or not all(48 <= digit < 56 for digit in digits):
            raise FormatError(f"the tar archive is damaged at byte {at:,}", expected="a size in octal digits")
        nbytes = int(digits, 8)
        name = head[:100].split(b"\0", 1)[0].decode("utf-8", "replace").removeprefix("./")
        if at + 512 + nbytes > size:
            raise FormatError(f"the tar archive is truncated in {shown(name)}", expected=f"{nbytes:,} bytes")
        if head[156:157] in (b"0", b"\0"):
            found.setdefault(name, (at + 512, nbytes))
        at += 512 + -(-nbytes // 512) * 512
    return found


def _tar_storages(file: IO[bytes], start: int, nbytes: int) -> dict[str, Storage | View]:
    file.seek(start)
    stream = Stream(file, nbytes, seekable=True)
    found: dict[str, Storage | View] = {}
    for _ in range(_count(Unpickler(stream).load())):
        told = Unpickler(stream).load()
        if not isinstance(told, tuple) or len(told) != 3:
            raise FormatError("a storage of the tar archive is damaged", expected="key, location and kind")
        key, location, kind = told
        count = int.from_bytes(stream.take(8), "little", signed=True)
        storage = storage_of(kind, key, location, count)
        stream.skip(storage.nbytes)
        found[_word(key)] = storage
    parts = Unpickler(stream).load()
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, tuple) and len(part) == 4 and type(part[2]) is int and 0 <= part[2] < LARGEST_TENSOR:
            whole = found.get(_word(part[1]))
            if isinstance(whole, Storage):
                found[_word(part[0])] = View("", whole, whole.element, (), (), part[2])
    return found


def _tar_tensors(
    file: IO[bytes], start: int, nbytes: int, storages: dict[str, Storage | View]
) -> dict[str, Storage | View]:
    file.seek(start)
    stream = Stream(file, nbytes, seekable=True)
    found: dict[str, Storage | View] = {}
    for _ in range(_count(Unpickler(stream).load())):
        told = Unpickler(stream).load()
        storage = storages.get(_word(told[1])) if isinstance(told, tuple) and len(told) == 3 else None
        if storage is None:
            raise FormatError("a tensor of the tar archive names a storage that is not there")
        rank = int.from_bytes(stream.take(8)[:4], "little", signed=True)
        if not 0 <= rank <= MOST_DIMENSIONS:
            raise FormatError(f"a tensor of the tar archive has {rank:,} dimensions")
        numbers = struct.unpack(f"<{2 * rank + 1}q", stream.take(8 * (2 * rank + 1)))
        if any(not 0 <= number < LARGEST_TENSOR for number in numbers):
            raise FormatError("a tensor of the tar archive has sizes that no file can hold")
        whole, base = (storage.storage, storage.offset) if isinstance(storage, View) else (storage, 0)
        shape, strides, offset = numbers[:rank], numbers[rank:-1], numbers[-1]
        found[_word(told[0])] = View("", whole, whole.element, shape, strides, base + offset)
    return found


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MOST_TENSORS:
        raise FormatError(f"the tar archive counts {shown(str(value)[:60])}", expected=f"0 to {MOST_TENSORS:,}")
    return value
