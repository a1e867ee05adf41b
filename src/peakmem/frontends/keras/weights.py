"""Weights of a Keras model as they are stored: found in HDF5 headers, held against what the layers imply.

The configuration says what the weights must be; the file says what they are. Where a layer's
differ the file is damaged or belongs to another model, and that is an error that names the layer;
what the file has besides is counted and noted.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from peakmem.dtypes import DType
from peakmem.errors import FormatError
from peakmem.frontends.archive import Archive
from peakmem.frontends.head import ZIP
from peakmem.frontends.keras.graph import Draft
from peakmem.frontends.keras.hdf5 import Object, Unwritten, read_objects
from peakmem.frontends.section import Section
from peakmem.ir.dims import format_shape
from peakmem.ir.graph import Detail, Tensor

LARGEST_PACKED = 64 << 20
# bytes of a compressed member, which is unpacked to find its headers
SEEDS = "seed_generator"
TRAINING = ("optimizer", "optimizer_weights", "metrics")
# groups that running does not need
MOST_TWINS = 64
# layers of one name that are compared
MOST_DEPTHS = 8
# of groups that layers of an older file stand in


class _Unpacked:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def pread(self, offset: int, count: int) -> bytes:
        return self.data[offset : offset + count] if offset >= 0 else b""


def file_objects(path: Path) -> dict[str, Object]:
    """Groups and datasets of an HDF5 file."""
    with Section(path) as section:
        return read_objects(section, str(path))


def member_objects(archive: Archive, name: str) -> dict[str, Object]:
    """Groups and datasets of an HDF5 file in an archive; a stored one is read where it lies.

    Raises:
        FormatError: a damaged member, or one that Keras did not write.
    """
    info = archive.members[name]
    where = f"{archive.path}!{name}"
    if info.compress_type != zipfile.ZIP_STORED:
        if info.file_size > LARGEST_PACKED:
            raise Unwritten("the weights are compressed, which Keras does not do, and too large to unpack")
        return read_objects(_Unpacked(archive.read(name, limit=LARGEST_PACKED)), where)
    with Section(archive.path) as whole:
        head = whole.pread(info.header_offset, 30)
    if len(head) != 30 or head[:4] != ZIP:
        raise FormatError("the zip archive is damaged (a member without a header)", where=where)
    start = info.header_offset + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    if start + info.file_size > archive.path.stat().st_size:
        raise FormatError("the member is larger than the archive", where=where)
    with Section(archive.path, start, info.file_size) as section:
        return read_objects(section, where)


@dataclass(frozen=True, slots=True)
class Stored:
    """One weight in the file."""

    name: str
    shape: tuple[int, ...]
    dtype: DType | None
    nbytes: int


def _natural(path: str) -> list[tuple[int, str]]:
    parts = path.split("/")
    return [(int(part), "") if part.isascii() and part.isdigit() and len(part) < 10 else (-1, part) for part in parts]


def _datasets(objects: Mapping[str, Object], parts: int) -> dict[str, list[Stored]]:
    """The weights below each group at a depth of `parts`, in the order in which Keras numbers them."""
    found: dict[str, list[Stored]] = {}
    for path in sorted((path for path, item in objects.items() if item.shape is not None), key=_natural):
        item = objects[path]
        group = "/".join(path.split("/")[:parts])
        found.setdefault(group, []).append(Stored(path, item.shape or (), item.dtype, item.stored_bytes or 0))
    return found


def snake_case(name: str) -> str:
    """The name of a class as Keras writes it in weight files."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def by_layer(objects: Mapping[str, Object], layers: Sequence[tuple[str, str]]) -> dict[str, list[Stored]] | None:
    """Weights per layer of the model, the `layers` being (name, class name); None where groups cannot be told apart."""
    found: dict[str, list[Stored]] = {}
    if "model_weights" in objects:
        # A name may hold slashes, and is then several groups deep.
        depths = {name: 2 + name.count("/") for name, _ in layers}
        tables = {depth: _datasets(objects, depth) for depth in sorted(set(depths.values()))[:MOST_DEPTHS]}
        return {name: tables.get(depth, {}).get(f"model_weights/{name}", []) for name, depth in depths.items()}
    root = next((root for root in ("layers", "_layer_checkpoint_dependencies") if root in objects), "")
    if not root:
        return None
    named: dict[str, str] = {}
    groups = [path for path, item in objects.items() if item.shape is None and path.count("/") == 1]
    for path in groups:
        own = objects.get(f"{path}/vars")
        called = own.attributes.get("name") if own is not None else None
        if path.startswith(root + "/") and isinstance(called, str):
            named[called] = path
    counts: dict[str, int] = {}
    stored = _datasets(objects, 2)
    for name, class_name in layers:
        stem = snake_case(class_name)
        number = counts.get(stem, 0)
        counts[stem] = number + 1
        counted = f"{root}/{stem}_{number}" if number else f"{root}/{stem}"
        path = named.get(name, counted if not named else "")
        found[name] = stored.get(path, []) if path else []
    return found


def reconcile(
    draft: Draft, objects: Mapping[str, Object], layers: Sequence[tuple[str, str]], where: str
) -> list[Detail]:
    """Give the constants of `draft` the dtypes of the file, and check their sizes.

    Raises:
        FormatError: a layer whose weights in the file are others than its configuration implies.
    """
    groups = by_layer(objects, layers)
    details = _side_details(objects)
    if groups is None:
        draft.note("the groups of the weight file are of no known layout: sizes are those of the configuration")
        return details
    seeds = 0
    matching = Matching(draft, where)
    for name, _ in layers:
        stored = [item for item in groups.get(name, ()) if SEEDS not in item.name]
        seeds += sum(item.nbytes for item in groups.get(name, ()) if SEEDS in item.name)
        matching.layer(name, stored)
    if seeds:
        details.append(Detail("seed generators", "states of random number generators, used in training alone", seeds))
    return details


class Matching:
    """Pairs the weights that layers must have with those they have."""

    def __init__(self, draft: Draft, where: str) -> None:
        self.draft = draft
        self.where = where
        self.read = {name for operator in draft.operators for name in operator.inputs}
        self.owned: dict[str, list[str]] = {}
        # top layer -> its constants; a name may hold slashes, so that the first part alone does not tell
        self.endings: dict[str, list[str]] = {}
        # the last two parts of a constant's name -> such constants
        for names in draft.owners.values():
            for full in names:
                self.owned.setdefault(full.split("/", 1)[0], []).append(full)
                self.endings.setdefault(_ending(full), []).append(full)

    def layer(self, layer: str, stored: Sequence[Stored]) -> dict[str, str]:
        """Check one layer at the top of the model; the constant for each stored weight that fits.

        Raises:
            FormatError: one of its weights is not there.
        """
        draft = self.draft
        mine = [full for full in self.owned.get(layer.split("/", 1)[0], ()) if full.startswith(f"{layer}/")]
        if mine and not stored:
            if not all(self.settled(draft.tensors[full], unread=False) for full in mine):
                draft.note("weights that are not in the file are sized by the configuration")
            return {}
        left: dict[tuple[int, ...], list[Stored]] = {}
        for item in stored:
            left.setdefault(item.shape, []).append(item)
        pairs: dict[str, str] = {}
        missing = []
        for full in mine:
            tensor = draft.tensors[full]
            shape = next((shape for shape in _stored_shapes(tensor) if left.get(shape)), None)
            if shape is None:
                missing.append(tensor)
                continue
            found = left[shape].pop(0)
            pairs[found.name] = full
            packed = tensor.dtype is not None and (tensor.dtype.bits or 8) < 8
            if found.dtype is not None and found.dtype is not tensor.dtype and not packed:
                draft.add(replace(tensor, dtype=found.dtype))
        for copied in draft.mirrored.get(layer, ()):
            if left.get(copied):
                left[copied].pop(0)
        rest = [item for items in left.values() for item in items]
        missing = [tensor for tensor in missing if not self.settled(tensor, unread=True)]
        if missing:
            wanted = ", ".join(
                f"{tensor.name.rpartition('/')[2]} {format_shape(tensor.shape)}" for tensor in missing[:4]
            )
            there = ", ".join(format_shape(item.shape) for item in rest[:4]) or "nothing else"
            raise FormatError(
                f"the weights of layer {layer[:200]!r} do not fit its configuration: the file has {there}",
                where=self.where,
                expected=wanted,
            )
        self.adopt(layer, rest)
        if rest and mine:
            draft.note(f"layer {layer[:100]!r} has {len(rest)} stored weights that its configuration does not imply")
        return pairs

    def settled(self, tensor: Tensor, *, unread: bool) -> bool:
        """Whether a weight that is not stored is stored elsewhere, or (with `unread`) of no use."""
        if unread and tensor.name not in self.read:
            del self.draft.tensors[tensor.name]
            return True
        for name in self.endings.get(_ending(tensor.name), ())[:MOST_TWINS]:
            other = self.draft.tensors.get(name)
            if other is not None and name != tensor.name and other.shape == tensor.shape and not other.storage:
                self.draft.add(replace(tensor, storage=name))
                self.draft.note("layers that stand in two models and are stored once share their weights")
                return True
        return False

    def adopt(self, layer: str, stored: Sequence[Stored]) -> None:
        """Count what is stored for a layer beyond what is known of it."""
        for position, item in enumerate(stored):
            full = f"{layer}/stored_{position}"
            if full not in self.draft.tensors:
                self.draft.owners.setdefault(layer, []).append(full)
                self.draft.add(Tensor(full, item.shape, item.dtype, "constant"))


def _ending(full: str) -> str:
    return "/".join(full.split("/")[-2:])


def _stored_shapes(tensor: Tensor) -> list[tuple[int, ...]]:
    """The shapes under which a weight may be stored: two values to a byte halve one axis."""
    shape = tuple(dim for dim in tensor.shape or () if isinstance(dim, int))
    if tensor.dtype is None or (tensor.dtype.bits or 8) >= 8:
        return [shape]
    halves = [tuple(-(-dim // 2) if axis == at else dim for axis, dim in enumerate(shape)) for at in range(len(shape))]
    return [*reversed(halves), shape]


def _side_details(objects: Mapping[str, Object]) -> list[Detail]:
    """What a checkpoint holds for training."""
    details = []
    groups = _datasets(objects, 1)
    for prefix in TRAINING:
        # A wrapped optimizer is written twice, its own variables among those of the wrapper.
        items = [item for item in groups.get(prefix, ()) if "/inner_optimizer/" not in item.name]
        nbytes = sum(item.nbytes for item in items)
        if nbytes:
            text = f"{len(items)} variables of the {prefix.removesuffix('_weights')} in the file, not needed to run"
            details.append(Detail(prefix, text, nbytes))
    return details


def unattached(objects: Mapping[str, Object]) -> tuple[dict[str, Tensor], list[Detail]]:
    """Every weight of a file without a configuration, and what else it holds."""
    tensors = {}
    for group, items in _datasets(objects, 1).items():
        for item in items:
            if group not in TRAINING and SEEDS not in item.name:
                tensors[item.name] = Tensor(item.name, item.shape, item.dtype, "constant")
    return tensors, _side_details(objects)


__all__ = ["Unwritten", "by_layer", "file_objects", "member_objects", "reconcile", "snake_case", "unattached"]
