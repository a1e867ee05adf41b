"""What a model's bytes are: the files that belong to it, and one hash over all of them.

Files are read as a stream; a model of gigabytes costs a buffer. Nothing is written here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from peakmem.errors import FormatError, UsageError
from peakmem.frontends.onnx.wire import BYTES, WireError, WireFile, text

PIECE = 1 << 20
# bytes read at once

_GRAPH, _NODE, _INITIALIZER, _ATTRIBUTE, _TENSOR, _SUBGRAPH, _EXTERNAL = 7, 1, 5, 5, 5, 6, 13
# field numbers of ModelProto, GraphProto, NodeProto, AttributeProto and TensorProto (onnx.proto)
_DEEPEST = 32
# bodies within bodies


def files_of(path: Path, kind: str) -> tuple[Path, ...]:
    """The files a model of `kind` at `path` is made of, the one that names it first.

    Raises:
        FormatError: an ONNX file that is damaged.
    """
    if kind == "ncnn":
        name = path.name
        stem = name.removesuffix(".bin") if name.endswith(".param.bin") else name
        beside = path.with_name(stem.removesuffix(".param") + ".bin")
        return (path, *((beside,) if beside.is_file() and beside != path else ()))
    if kind == "openvino":
        beside = path.with_suffix(".bin")
        return (path, *((beside,) if beside.is_file() else ()))
    if kind == "onnx":
        return (path, *_external(path))
    if kind == "torch" and path.suffix == ".py":
        return (
            path,
            *sorted(other for other in path.parent.glob(f"{path.stem}.*") if other.is_file() and other != path),
        )
    if path.is_dir():
        return tuple(sorted(other for other in path.rglob("*") if other.is_file()))
    return (path,)


def content_hash(files: tuple[Path, ...]) -> str:
    """SHA-256 over sizes and bytes of `files`, in order, as hexadecimal digits; names do not matter.

    Raises:
        UsageError: one cannot be read.
    """
    whole = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb") as file:
                one = hashlib.sha256()
                size = 0
                while piece := file.read(PIECE):
                    one.update(piece)
                    size += len(piece)
        except OSError as fault:
            raise UsageError(f"cannot be read ({fault.strerror})", where=str(path)) from fault
        whole.update(f"{size}:".encode() + one.digest())
    return whole.hexdigest()


def _external(path: Path) -> tuple[Path, ...]:
    """Files of an ONNX model's external data, beside it."""
    found: dict[str, None] = {}
    try:
        with WireFile(path) as file:
            for number, kind, start, end in file.fields(0, file.size):
                if number == _GRAPH and kind == BYTES:
                    found.update(dict.fromkeys(_locations(file, start, end, 0)))
    except WireError as fault:
        raise FormatError(f"the ONNX file is truncated or damaged: {fault.what}", where=str(path)) from fault
    except OSError as fault:
        raise UsageError(f"cannot be read ({fault.strerror})", where=str(path)) from fault
    beside = [path.parent / location for location in sorted(found)]
    return tuple(other for other in beside if other.is_file())


def _locations(file: WireFile, start: int, end: int, depth: int) -> Iterator[str]:
    """Where the tensors of the GraphProto between two offsets have their data."""
    for number, kind, value, stop in file.fields(start, end):
        if kind != BYTES:
            continue
        if number == _INITIALIZER:
            yield from _location(file, value, stop)
        elif number == _NODE:
            for field, form, at, till in file.fields(value, stop):
                if field != _ATTRIBUTE or form != BYTES:
                    continue
                for inner, wire, begin, finish in file.fields(at, till):
                    if inner == _TENSOR and wire == BYTES:
                        yield from _location(file, begin, finish)
                    elif inner == _SUBGRAPH and wire == BYTES and depth < _DEEPEST:
                        yield from _locations(file, begin, finish, depth + 1)


def _location(file: WireFile, start: int, end: int) -> Iterator[str]:
    """The `location` of a TensorProto's external data."""
    for number, kind, value, stop in file.fields(start, end):
        if number != _EXTERNAL or kind != BYTES:
            continue
        entry = {
            field: text(file.read(at, till), 0, till - at)
            for field, form, at, till in file.fields(value, stop)
            if form == BYTES
        }
        if entry.get(1) == "location" and entry.get(2):
            yield entry[2]
