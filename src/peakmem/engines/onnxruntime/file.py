"""What the model file says beyond its graph: weights elsewhere or written as numbers, metadata, sizes left open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from peakmem.errors import PeakmemError
from peakmem.frontends.onnx.reader import read_onnx
from peakmem.frontends.onnx.wire import BYTES, VARINT, WireFile
from peakmem.ir.dims import Symbol
from peakmem.ir.graph import Graph
from peakmem.ir.shapes.infer import infer

GRAPH, NODE, INITIALIZER, METADATA = 7, 1, 5, 9
# fields of ModelProto, GraphProto and NodeProto in onnx.proto
NUMBERS = frozenset({4, 5, 7, 10, 11})
# float_data, int32_data, int64_data, double_data, uint64_data of TensorProto


@dataclass(frozen=True, slots=True)
class File:
    """A model file, as far as its graph does not say it."""

    nbytes: int = 0
    # 0 without a file
    metadata_bytes: int = 0
    # keys and texts of the nodes' metadata, which exporters write
    metadata_entries: int = 0
    external: frozenset[str] = frozenset()
    # weights in other files
    numbers: dict[str, tuple[int, int]] = field(default_factory=dict)
    # weights written as lists of numbers instead of bytes: where the list begins and ends in the file
    shapes: dict[str, tuple[int | str, ...]] = field(default_factory=dict)
    # of tensors whose size depends on a dimension that the file leaves open: its name, or "" where the engine cannot
    # name it


def read(graph: Graph) -> File:
    """The file that `graph` was read from; nothing where it is no ONNX file (a network of the zoo)."""
    path = Path(graph.source) if graph.source else None
    if path is None or graph.format != "onnx" or not path.is_file():
        return File()
    size, entries, metadata = path.stat().st_size, 0, 0
    external: set[str] = set()
    numbers: dict[str, tuple[int, int]] = {}
    try:
        with WireFile(path) as source:
            for number, begin, end in _parts(source, 0, source.size):
                if number != GRAPH:
                    continue
                for part, first, last in _parts(source, begin, end):
                    if part == NODE:
                        for inner, low, high in _parts(source, first, last):
                            if inner == METADATA:
                                entries += 1
                                metadata += high - low
                    elif part == INITIALIZER:
                        name, elsewhere, typed = _tensor(source, first, last)
                        if elsewhere:
                            external.add(name)
                        elif typed:
                            numbers[name] = typed
        shapes = _open(path)
    except (PeakmemError, OSError):
        # gone or replaced since it was read: the graph is all there is
        return File(size)
    return File(size, metadata, entries, frozenset(external), numbers, shapes)


def _parts(source: WireFile, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    for number, kind, start, stop in source.fields(begin, end):
        if kind == BYTES:
            yield number, start, stop


def _tensor(source: WireFile, begin: int, end: int) -> tuple[str, bool, tuple[int, int] | None]:
    """(name, stored in another file, where its numbers are) of a TensorProto."""
    name, elsewhere = "", False
    typed: tuple[int, int] | None = None
    for number, kind, start, stop in source.fields(begin, end):
        if number == 8 and kind == BYTES:
            name = source.read(start, stop).decode("utf-8", "replace")
        elif number == 14 and kind == VARINT:
            elsewhere = start == 1
        elif number in NUMBERS and kind == BYTES:
            typed = (start, stop)
    return name, elsewhere, typed


def _open(path: Path) -> dict[str, tuple[int | str, ...]]:
    graph = read_onnx(path)
    if not any(isinstance(size, Symbol) for name in graph.inputs for size in graph.tensors[name].shape or ()):
        return {}
    inferred = infer(graph, symbolic=True)
    found: dict[str, tuple[int | str, ...]] = {}
    for name, tensor in inferred.tensors.items():
        if tensor.shape is None:
            found[name] = ("",)
        elif any(isinstance(size, Symbol) for size in tensor.shape):
            found[name] = tuple(
                size if isinstance(size, int) else "" if size.is_computed else size.name for size in tensor.shape
            )
    return found
