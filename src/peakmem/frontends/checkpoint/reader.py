"""PyTorch checkpoints without PyTorch: zip archives, the two older formats, and plain pickles.

The pickle is followed by a reader that imports and calls nothing (`pickles`); storages are sized
from the zip directory or from the lengths in the file and never read. A TorchScript archive is
sized as well; the graph in its code is not read.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from peakmem.errors import FormatError
from peakmem.frontends.archive import Archive
from peakmem.frontends.checkpoint.legacy import is_tar, read_sequence, read_tar
from peakmem.frontends.checkpoint.pickles import Blob, Global, Unpickler
from peakmem.frontends.checkpoint.storages import placed
from peakmem.frontends.checkpoint.stream import Stream
from peakmem.frontends.checkpoint.tensors import Finder, Storage, View, is_harmless, storage_of
from peakmem.frontends.door import door
from peakmem.frontends.head import ZIP
from peakmem.frontends.names import listed, shown
from peakmem.frontends.shards import Index
from peakmem.frontends.weights import NO_OPERATORS, beside, weights_graph
from peakmem.ir.graph import Detail, Graph, Tensor

LARGEST_PICKLE = 256 << 20
# bytes of a pickle in an archive, unpacked
MOST_PARTS = 12
_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


@dataclass(slots=True)
class Contents:
    """What a checkpoint holds, whatever its format."""

    views: list[View] = field(default_factory=list)
    globals: list[Global] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    # names at the top level that hold more than one tensor
    unsized: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    details: list[Detail] = field(default_factory=list)
    reason: str = NO_OPERATORS
    hint: str = ""
    is_script: bool = False


def read_checkpoint(path: Path) -> Graph:
    """The graph of a .pt, .pth, .ckpt or .bin file; nothing in it is executed.

    Raises:
        FormatError: a damaged or hostile file, storages that are cut short, a pickle without tensors.
    """
    found = _contents(path)
    tensors = placed(found.views)
    notes, details = [*found.notes, *_notes(found)], [*found.details, *_parts(found, tensors)]
    return _graph(path, tensors, found, notes, details)


def read_checkpoints(path: Path, index: Index) -> Graph:
    """The graph of the checkpoints that the index at `path` names.

    Raises:
        FormatError: see `read_checkpoint`; a tensor in two shards, or not in the one the index names.
    """
    tensors: dict[str, Tensor] = {}
    held: dict[str, str] = {}
    notes: dict[str, None] = {}
    extra: list[str] = []
    found = Contents()
    for name in index.names:
        found = _contents(path.with_name(name))
        made = placed(found.views)
        rests = {tensor.name: f"{tensor.name} of {name}" for tensor in made[len(found.views) :]}
        for tensor in made:
            unique = rests.get(tensor.name, tensor.name)
            if unique in tensors:
                raise FormatError(f"tensor {shown(unique)} stands in {held[unique]} and in {name}", where=str(path))
            tensors[unique] = replace(tensor, name=unique, storage=rests.get(tensor.storage, tensor.storage))
            held[unique] = name
        notes.update(dict.fromkeys(_notes(found)))
    index.check({tensor: file for tensor, file in held.items() if not tensor.startswith("(rest")}, extra)
    details = [Detail("shards", f"{len(index.names):,} files")]
    return _graph(path, list(tensors.values()), found, [*extra, *notes], details)


def _graph(path: Path, tensors: list[Tensor], found: Contents, notes: list[str], details: list[Detail]) -> Graph:
    return weights_graph(
        "torch_checkpoint", path, tensors, hint=found.hint or beside(path), reason=found.reason, notes=notes,
        details=details,
    )  # fmt: skip


def _contents(path: Path) -> Contents:
    with door(path):
        with path.open("rb") as file:
            start = file.read(512)
        return _archive(path) if start.startswith(ZIP) else _older(path, is_tar(start))


# -- zip archives ------------------------------------------------------------------------


def _archive(path: Path) -> Contents:
    found = Contents()
    with Archive(path) as archive:
        inside = sorted((name.count("/"), len(name), name) for name in archive.members if name.endswith("data.pkl"))
        if not inside:
            raise FormatError("the archive holds no data.pkl", expected="a file written by torch.save")
        root = inside[0][2].removesuffix("data.pkl")
        _check_extents(archive, path)
        order = archive.read(f"{root}byteorder", limit=16) if f"{root}byteorder" in archive else b"little"
        if order not in (b"little", b"big"):
            raise FormatError(f"the byte order is {order!r}", expected="little or big")
        script = f"{root}constants.pkl" in archive or any(name.startswith(f"{root}code/") for name in archive.members)
        used = _pickle_of(archive, f"{root}data.pkl", f"{root}data/", "", found)
        if f"{root}constants.pkl" in archive:
            used |= _pickle_of(archive, f"{root}constants.pkl", f"{root}constants/", "constants", found)
        spare = {
            name: info.file_size
            for name, info in archive.members.items()
            if name.startswith((f"{root}data/", f"{root}constants/")) and name not in used and not name.endswith("/")
        }
        held = sum(archive.size(name) for name in used)
        other = sum(info.file_size for info in archive.members.values()) - held - sum(spare.values())
    kind = "TorchScript archive" if script else "torch.save, zip archive"
    found.details.append(Detail("format", f"{kind}{', big-endian' if order == b'big' else ''}"))
    found.details.append(Detail("storages", f"{len(used):,} members that tensors view", held))
    found.details.append(Detail("pickle, code and the like", "all other members", other))
    if spare:
        found.notes.append(
            f"{len(spare):,} storages of {sum(spare.values()):,} bytes belong to no tensor: {listed(list(spare))}"
        )
    found.is_script = script
    if script:
        found.reason = "the file is a TorchScript archive, whose graph is not read, so activations are unknown"
        found.hint = "torch.onnx.export or torch.export.save (.pt2) from the module"
    return found


def _pickle_of(archive: Archive, name: str, data: str, prefix: str, found: Contents) -> set[str]:
    """Add the tensors of one pickle of an archive to `found`; the members that hold their storages."""
    size = archive.size(name)
    if size > LARGEST_PICKLE:
        raise FormatError(
            f"a pickle of {size:,} bytes", where=f"{archive.path}!{name}", expected=f"at most {LARGEST_PICKLE:,}"
        )
    try:
        with archive.open(name) as file:
            unpickler = Unpickler(Stream(file, size, seekable=False))
            root = unpickler.load()
    except FormatError as fault:
        raise FormatError(f"{shown(name)} in the zip archive: {fault.what}", expected=fault.expected) from fault
    except _FAULTS as fault:
        raise FormatError(f"{shown(name)} in the zip archive is damaged ({str(fault)[:120]})") from fault
    used: set[str] = set()

    def persistent(key: Any) -> Storage | None:
        if not isinstance(key, tuple) or len(key) < 5 or key[0] != "storage":
            return None
        storage = storage_of(*key[1:5])
        member = f"{data}{storage.key}"
        if member not in archive:
            raise FormatError(f"the archive holds no {shown(member)}, which a tensor views")
        if archive.size(member) < storage.nbytes:
            raise FormatError(
                f"the storage {shown(member)} has {archive.size(member):,} bytes", expected=f"{storage.nbytes:,}"
            )
        used.add(member)
        return Storage(member, storage.element, archive.size(member), storage.device)

    finder = Finder(persistent, lambda _: None)
    found.views += finder.find(root, prefix)
    found.parts += finder.parts
    found.unsized += finder.unsized
    found.globals += unpickler.globals.values()
    return used


def _check_extents(archive: Archive, path: Path) -> None:
    """Refuse members that reach beyond the file or into each other."""
    size = path.stat().st_size
    reached, before = 0, ""
    for info in sorted(archive.members.values(), key=lambda info: info.header_offset):
        if info.header_offset < reached:
            raise FormatError(f"the members {shown(before)} and {shown(info.filename)} overlap")
        if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
            raise FormatError(f"the member {shown(info.filename)} has two sizes")
        reached, before = info.header_offset + 30 + len(info.filename.encode()) + info.compress_size, info.filename
    if reached > size:
        raise FormatError(f"the archive is truncated: {shown(before)} ends at byte {reached:,}", expected=f"{size:,}")


# -- the formats before the zip archive --------------------------------------------------


def _older(path: Path, tar: bool) -> Contents:
    found = Contents()
    with path.open("rb") as file:
        size = path.stat().st_size
        legacy = read_tar(file, size) if tar else read_sequence(file, size)
        finder = Finder(legacy.persistent, lambda blob: _nested(file, size, blob))
        found.views = finder.find(legacy.root)
    found.parts = finder.parts
    found.unsized = finder.unsized
    found.globals = list(legacy.globals)
    found.notes = list(legacy.notes)
    found.details.append(Detail("format", legacy.kind))
    if not found.views and not legacy.is_torch:
        held = f"; it names {listed([str(item) for item in found.globals])}" if found.globals else ""
        raise FormatError(f"this is a pickle without tensors, not a PyTorch checkpoint{held}", hint="peakmem formats")
    return found


def _nested(file: IO[bytes], size: int, blob: Blob) -> Storage | None:
    """The storage in bytes that hold a file of their own, as pickling a tensor without torch.save writes."""
    file.seek(blob.position)
    inner = read_sequence(file, min(size, blob.position + blob.nbytes), base=blob.position)
    storage = inner.persistent(inner.root.key) if hasattr(inner.root, "key") else None
    if not isinstance(storage, Storage):
        return None
    return Storage(f"bytes at {blob.position}", storage.element, storage.nbytes, inline=True)


# -- what else there is to say -----------------------------------------------------------


def _notes(found: Contents) -> Iterable[str]:
    own = "__torch__." if found.is_script else "\0"
    # classes of a TorchScript archive are in the archive itself
    strange = sorted({str(item) for item in found.globals if not is_harmless(item) and not item.module.startswith(own)})
    if strange:
        many = f"{len(strange):,} global{'s' if len(strange) > 1 else ''}"
        yield f"the pickle names {many} that {'were' if len(strange) > 1 else 'was'} not resolved: {listed(strange)}"
    if found.unsized:
        count = f"{len(found.unsized):,} tensors"
        yield f"{count} are not counted, their storage is not in the file: {listed(found.unsized)}"


def _parts(found: Contents, tensors: list[Tensor]) -> Iterable[Detail]:
    """Bytes of each part of the checkpoint, and of an optimizer's state."""
    by_name, views = {tensor.name: tensor for tensor in tensors}, found.views
    shared = sum(1 for tensor in tensors if tensor.storage)
    if shared:
        yield Detail("shared", f"{shared:,} tensors view the bytes of another; those are counted once")
    rest = sum(tensor.nbytes or 0 for tensor in tensors[len(views) :])
    if rest:
        yield Detail("storage beyond its tensors", "bytes that the file holds and no tensor uses as its own", rest)
    if 1 < len(found.parts) <= MOST_PARTS:
        for part in found.parts:
            own = [by_name[view.name] for view in views if view.name.startswith(f"{part}.")]
            nbytes = sum(tensor.nbytes or 0 for tensor in own if not tensor.storage)
            if nbytes:
                yield Detail(f"part {part}"[:80], f"{len(own):,} tensors under this name", nbytes)
    state = sum(
        by_name[view.name].nbytes or 0 for view in views if view.of_optimizer and not by_name[view.name].storage
    )
    if state:
        yield Detail("optimizer state", "not needed for inference, and not counted as parameters", state)
