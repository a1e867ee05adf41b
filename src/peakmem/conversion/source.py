"""What the user named: which kind of model it is, where, and what its inputs are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from peakmem.conversion.step import KINDS, Port
from peakmem.errors import FormatError, GraphError, PeakmemError, UsageError
from peakmem.frontends import recognise
from peakmem.frontends.live import is_factory
from peakmem.ir.graph import Graph
from peakmem.zoo import is_named, parse_spec, spec

FRONT_ENDS: Mapping[str, str] = {"onnx": "onnx", "ncnn": "ncnn", "tflite": "tflite", "keras": "keras", "pt2": "torch"}
# name of a front end -> the kind of model that its files are
_ELEMENTS = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "f64": "float64", "boolean": "bool"}
_PARAMETER = re.compile(r'<layer\b[^>]*\bname="([^"]*)"[^>]*\btype="Parameter"[^>]*>\s*<data\b([^>]*)/?>')
_IR_HEAD = 1 << 20
# bytes of an IR in which its inputs are looked for; they come first


@dataclass(frozen=True, slots=True)
class Source:
    """A model as it was given."""

    kind: str
    # of KINDS, or "factory" while its library is not known
    text: str
    # a zoo spec in its shortest form, package.module:factory, or an absolute path
    path: Path | None
    # None when it is no file

    @property
    def own_code(self) -> bool:
        """Whether using it runs the user's Python."""
        return (self.path is None and self.kind != "zoo") or self.text.endswith(".py")


def source_of(given: str | Path) -> Source:
    """Which kind of model `given` is: a file or a folder by what is in it, a network of the zoo, a factory.

    Raises:
        FormatError: no such file, or nothing that is known.
        UsageError: a folder with several models, a file without a network.
    """
    text, path = str(given), Path(given)
    if not path.exists():
        if is_named(text):
            return Source("zoo", spec(*parse_spec(text)), None)
        if is_factory(text):
            return Source("factory", text, None)
    if path.is_dir():
        path = _in_folder(path)
    path = path.absolute()
    kind = _by_bytes(path)
    if kind is None:
        front_end = recognise(path)
        kind = FRONT_ENDS.get(front_end.name, "")
        if not kind:
            raise UsageError(
                f"{front_end.title} is not converted and no engine reads it", where=text,
                expected=", ".join(sorted({"zoo", *FRONT_ENDS.values()})),
            )  # fmt: skip
    return Source(kind, str(path), path)


def _by_bytes(path: Path) -> str | None:
    """The kind of a file that no front end reads; None for all others."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as fault:
        raise FormatError(f"cannot be read ({fault.strerror})", where=str(path)) from fault
    if head[4:6] == b"ET" and head[6:8].isdigit():
        return "pte"
    if head[4:8] == b"ORTM":
        return "ort"
    if path.suffix == ".py":
        return "torch"
    if path.suffix == ".xml" and re.search(rb"<net\s", head):
        return "openvino"
    return "mnn" if path.suffix == ".mnn" else None


def _in_folder(folder: Path) -> Path:
    """The one model in a folder; a folder of another kind is returned as it is, for the front ends."""
    ends = (".onnx", ".param", ".tflite", ".xml", ".ort", ".pte", ".mnn", ".keras", ".pt2")
    try:
        found = sorted(path for path in folder.iterdir() if path.name.endswith(ends) and path.is_file())
    except OSError as fault:
        raise FormatError(f"cannot be listed ({fault.strerror})", where=str(folder)) from fault
    if len(found) > 1:
        raise UsageError(
            f"the folder holds {len(found)} models", where=str(folder), expected="one",
            hint=", ".join(str(path) for path in found[:3]),
        )  # fmt: skip
    return found[0] if found else folder


@dataclass(frozen=True, slots=True)
class Sizes:
    """Inputs and outputs as far as they are known."""

    inputs: tuple[Port, ...] = ()
    outputs: tuple[str, ...] = ()
    note: str = ""
    # why they are not known


def sizes_of(
    source: Source, *, batch: int | None, shapes: Mapping[str, Sequence[int]] | None, dims: Mapping[str, int] | None,
    inputs: object,
) -> tuple[Source, Sizes]:  # fmt: skip
    """The inputs of `source` with every dimension given a value, and `source` with a factory's library found out.

    Raises:
        UnboundDimension: a dimension has no value; the message says what to type.
        UsageError: names that are not there, a factory that fails.
        ShapeError: the shapes contradict the network.
    """
    if source.kind in ("openvino", "ort", "pte", "mnn") or source.text.endswith(".py"):
        return source, Sizes(_ir_inputs(source, shapes or {}) if source.kind == "openvino" else given_ports(inputs))
    from peakmem.binding import bound
    from peakmem.pipeline import load, paused_collection

    live = source.kind == "factory"
    try:
        with paused_collection():
            graph = load(source.text, inputs=(inputs or None) if live else None, batch=batch if live else None)
    except (FormatError, GraphError) as fault:
        # The engine may read what our reader does not, and says itself what is wrong.
        return source, Sizes(note=str(fault))
    if live:
        source = Source("keras" if graph.format == "keras" else "torch", source.text, None)
        batch = None if source.kind == "torch" else batch
    bound_graph = bound(graph, batch=batch, shapes=shapes, dims=dims)
    return source, Sizes(_ports(bound_graph), bound_graph.outputs)


def _ports(graph: Graph) -> tuple[Port, ...]:
    ports = []
    for name in graph.inputs:
        tensor = graph.tensors[name]
        if tensor.shape is None or tensor.dtype is None:
            return ()
        ports.append(Port(name, tensor.dtype.name, tuple(int(str(dim)) for dim in tensor.shape)))
    return tuple(ports)


def given_ports(inputs: object) -> tuple[Port, ...]:
    """What the user says a module is called with, where nothing else tells: 0, 1 … by position, or by name.

    Raises:
        UsageError: no shape, text or tensor.
    """
    if not inputs:
        return ()
    from peakmem.frontends.torch.inputs import Given, arguments

    told = arguments(inputs)
    items = [*((str(number), item) for number, item in enumerate(told.positional)), *told.named.items()]
    return tuple(Port(name, item.dtype or "float32", item.shape) for name, item in items if isinstance(item, Given))


def _ir_inputs(source: Source, shapes: Mapping[str, Sequence[int]]) -> tuple[Port, ...]:
    """Inputs that stand in the head of an OpenVINO IR; none of them where one has a free dimension."""
    assert source.path is not None
    with source.path.open(encoding="utf-8", errors="replace") as file:
        head = file.read(_IR_HEAD)
    ports = []
    for name, rest in _PARAMETER.findall(head):
        data = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        sizes = [size.strip() for size in data.get("shape", "").split(",") if size.strip()]
        told = shapes.get(name, shapes.get("") if len(shapes) == 1 else None)
        if told is None and not all(size.isdigit() for size in sizes):
            return ()
        shape = tuple(told) if told is not None else tuple(map(int, sizes))
        element = data.get("element_type", "")
        ports.append(Port(name, _ELEMENTS.get(element, re.sub(r"^([iu])(\d+)$", _integer, element)), shape))
    return tuple(ports)


def _integer(match: re.Match[str]) -> str:
    return ("int" if match[1] == "i" else "uint") + match[2]


def known(kind: str) -> str:
    """`kind`, which has to be one of KINDS.

    Raises:
        UsageError: it is none.
    """
    if kind not in KINDS:
        raise UsageError(f"no kind of model is called {kind!r}", expected=", ".join(KINDS))
    return kind


__all__ = ["PeakmemError", "Sizes", "Source", "given_ports", "known", "sizes_of", "source_of"]
