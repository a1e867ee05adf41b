"""GGUF: tensors with their block formats, where they lie in the file, and what the metadata tell.

Dimensions are reversed at the door: ggml lists the innermost first, a shape here the outermost, so
that a matrix reads output × input as in PyTorch. Data are sized by their type and never read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peakmem.dtypes import DType
from peakmem.errors import FormatError
from peakmem.frontends.door import door
from peakmem.frontends.gguf.kv_cache import kv_cache
from peakmem.frontends.gguf.metadata import Beginning, Entry, Skipped, read_beginning
from peakmem.frontends.gguf.types import FILE_TYPES, OTHER_LAYOUTS, REMOVED, TENSOR_TYPES
from peakmem.frontends.names import listed, shown
from peakmem.frontends.weights import NO_OPERATORS, sized, weights_graph
from peakmem.ir.graph import Detail, Graph, Tensor

ALIGNMENT = 32
MOST_ALIGNMENT = 1 << 30
MOST_FILES = 1000
_SPLIT = re.compile(r"^(.*)-(\d{5})-of-(\d{5})\.gguf$")


@dataclass(frozen=True, slots=True)
class _File:
    """One file with its tensors placed."""

    beginning: Beginning
    tensors: tuple[Tensor, ...]
    padding: int
    # bytes between the parts that nothing uses
    other: int
    # bytes that no tensor covers and padding does not explain


def read_gguf(path: Path) -> Graph:
    """The graph of a GGUF file, or of all files of a split model.

    Raises:
        FormatError: a damaged file, an unknown or removed type, data beyond the end, a missing part.
    """
    with door(path):
        first = _file(path)
        files = [_file(part) if part != path else first for part in _parts(path, first.beginning.metadata)]
    tensors: dict[str, Tensor] = {}
    for file in files:
        for tensor in file.tensors:
            if tensor.name in tensors:
                raise FormatError(f"tensor {shown(tensor.name)} stands in two parts", where=str(path))
            tensors[tensor.name] = tensor
    metadata = files[0].beginning.metadata
    _check_total(metadata, len(tensors), path)
    cache = tuple(kv_cache(metadata))
    reason = NO_OPERATORS + ("; the key-value cache is among the details" if cache else "")
    return weights_graph(
        "gguf",
        path,
        tensors.values(),
        hint="the engine's own log of its compute buffers (llama.cpp prints them when it starts)",
        reason=reason,
        notes=_notes(files, metadata),
        details=(*_facts(metadata), *_layout(files, tuple(tensors.values())), *cache),
    )


def _file(path: Path) -> _File:
    with door(path):
        return _placed(read_beginning(path))


# -- where the tensors lie ---------------------------------------------------------------


def _placed(found: Beginning) -> _File:
    """Tensors of a file, their bytes checked against each other and against the end of the file."""
    alignment = _alignment(found.metadata)
    start = -(-found.stop // alignment) * alignment if found.entries else found.stop
    entries = sorted(found.entries, key=lambda entry: entry.offset)
    tensors: dict[str, Tensor] = {}
    reached = padding = other = 0
    for at, entry in enumerate(entries):
        room = (entries[at + 1].offset if at + 1 < len(entries) else found.size - start) - entry.offset
        tensor = _tensor(entry, room, alignment)
        nbytes = tensor.nbytes or 0
        if entry.offset % alignment:
            raise FormatError(
                f"tensor {shown(entry.name)} is at offset {entry.offset:,}", expected=f"a multiple of {alignment}"
            )
        if entry.offset < reached:
            raise FormatError(
                f"tensor {shown(entry.name)} at offset {entry.offset:,} overlaps the one before it",
                expected=f"{reached:,} or more",
            )
        gap = entry.offset - reached
        padding, other = (padding + gap, other) if gap < alignment else (padding, other + gap)
        reached = entry.offset + nbytes
        tensors[entry.name] = tensor
    if start + reached > found.size and entries:
        last = entries[-1]
        raise FormatError(
            f"the file is truncated: tensor {shown(last.name)} ends at byte {start + reached:,}",
            expected=f"at most {found.size:,}, the size of the file",
        )
    padding += start - found.stop
    left = found.size - start - reached
    padding, other = (padding + left, other) if left < alignment else (padding, other + left)
    return _File(found, tuple(tensors[entry.name] for entry in found.entries), padding, other)


def _tensor(entry: Entry, room: int, alignment: int) -> Tensor:
    number, where = entry.type_number, f"tensor {shown(entry.name)}"
    if number in REMOVED:
        raise FormatError(
            f"{where} is of type {REMOVED[number]} ({number}), which ggml has removed",
            hint="a GGUF file made anew from the original weights",
        )
    dtype = TENSOR_TYPES.get(number)
    if dtype is None:
        raise FormatError(f"{where} is of type {number}, which is not known", expected=f"0 to {max(TENSOR_TYPES)}")
    shape = tuple(reversed(entry.sizes))
    sized(entry.name, shape, dtype)
    if dtype.block > 1 and (not shape or shape[-1] % dtype.block):
        raise FormatError(
            f"{where} of {dtype} has rows of {shape[-1] if shape else 1:,} elements",
            expected=f"a multiple of {dtype.block}",
        )
    return Tensor(entry.name, shape, _as_laid_out(dtype, number, shape, room, alignment), "constant")


def _as_laid_out(dtype: DType, number: int, shape: tuple[int, ...], room: int, alignment: int) -> DType:
    """`dtype`, or the layout another writer gives it where that fills the room the file leaves for it.

    Where both do, it is the other writer's: ggml itself writes no file of such a type.
    """
    other = OTHER_LAYOUTS.get(number)
    if other is None:
        return dtype
    nbytes = Tensor("", shape, other).nbytes or 0
    return other if nbytes <= room < nbytes + alignment else dtype


def _alignment(metadata: dict[str, Any]) -> int:
    value = metadata.get("general.alignment", ALIGNMENT)
    if type(value) is not int or not 0 < value <= MOST_ALIGNMENT or value & (value - 1):
        raise FormatError(f"general.alignment is {value!r}"[:200], expected="a power of two")
    return value


# -- files of a split model --------------------------------------------------------------


def _parts(path: Path, metadata: dict[str, Any]) -> list[Path]:
    """All files of the model that `path` is part of, in order."""
    count = metadata.get("split.count", 0)
    if type(count) is not int or count <= 1:
        return [path]
    name = _SPLIT.match(path.name)
    if count > MOST_FILES:
        raise FormatError(f"the model is split into {count:,} files", where=str(path), expected=f"at most {MOST_FILES}")
    if name is None or int(name[3]) != count:
        raise FormatError(
            f"the file is one of {count} of a split model and is not named like it",
            where=str(path),
            expected=f"a name such as model-00001-of-{count:05}.gguf",
        )
    parts = [path.with_name(f"{name[1]}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise FormatError(f"parts are missing: {listed(missing)}", where=str(path), expected=f"{count} files")
    return parts


def _check_total(metadata: dict[str, Any], count: int, path: Path) -> None:
    told = metadata.get("split.tensors.count")
    if type(told) is int and metadata.get("split.count", 0) not in (0, 1) and told != count:
        raise FormatError(f"the parts hold {count:,} tensors", where=str(path), expected=f"{told:,} by the metadata")


# -- what else the file tells ------------------------------------------------------------


def _notes(files: Sequence[_File], metadata: dict[str, Any]) -> list[str]:
    notes = ["dimensions are listed outermost first; GGUF stores them innermost first"]
    other = sum(file.other for file in files)
    if other:
        notes.append(f"{other:,} bytes of the data belong to no tensor and are more than padding")
    kind = metadata.get("general.type")
    if kind == "adapter":
        notes.append("the file holds an adapter: the weights of the model it belongs to come on top")
    elif kind == "mmproj" or metadata.get("general.architecture") == "clip":
        notes.append("the file holds a projector for images or sound: the language model comes on top")
    elif kind == "imatrix":
        notes.append("the file holds an importance matrix for quantising, not a model")
    return notes


def _facts(metadata: dict[str, Any]) -> Iterator[Detail]:
    architecture = metadata.get("general.architecture")
    for name, key in (("architecture", "general.architecture"), ("name", "general.name"), ("kind", "general.type")):
        value = metadata.get(key)
        if isinstance(value, str) and value and value.isprintable():
            yield Detail(name, value[:120])
    file_type = metadata.get("general.file_type")
    if type(file_type) is int:
        yield Detail("file type", FILE_TYPES.get(file_type, f"number {file_type}"))
    for name, key in (("context length", "context_length"), ("layers", "block_count"), ("experts", "expert_count")):
        value = metadata.get(f"{architecture}.{key}")
        if type(value) is int and value > 0:
            yield Detail(name, f"{value:,}")
    tokens = metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, Skipped):
        yield Detail("vocabulary", f"{tokens.count:,} tokens")


def _layout(files: Sequence[_File], tensors: Sequence[Tensor]) -> Iterator[Detail]:
    first = files[0].beginning
    order = ", big-endian" if first.big_endian else ""
    parts = f" in {len(files)} files" if len(files) > 1 else ""
    yield Detail("version", f"GGUF {first.version}{order}{parts}")
    yield Detail("metadata and tensor list", "before the data", sum(file.beginning.stop for file in files))
    yield Detail("padding", f"to multiples of {_alignment(first.metadata)} bytes", sum(file.padding for file in files))
    elements = sum(tensor.count or 0 for tensor in tensors)
    if elements:
        nbytes = sum(tensor.nbytes or 0 for tensor in tensors)
        yield Detail("bits per weight", f"{8 * nbytes / elements:.4f} over all {elements:,} elements")
