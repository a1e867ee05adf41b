"""The formats whose files are counted: which dtypes each takes, and what its usual writer does with batch norms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from peakmem.dtypes import FLOAT16, FLOAT32, INT8, DType
from peakmem.errors import UsageError
from peakmem.filesize import gguf, ncnn, onnx_file, safetensors, tflite, torch_zip
from peakmem.filesize.content import Stored, converted, scale
from peakmem.filesize.sheet import Sheet
from peakmem.ir.graph import Graph


@dataclass(frozen=True, slots=True)
class Content:
    """A network as a file would hold it."""

    graph: Graph
    stored: tuple[Stored, ...]
    dtype: DType | None
    # None: as stored
    norms: int = 0
    # batch norms that were folded
    scheme: str = "static"
    # how whole numbers are chosen


@dataclass(frozen=True, slots=True)
class Format:
    """A format that files are counted in."""

    name: str
    title: str
    count: Callable[[Content], Sheet]
    takes: Callable[[DType], bool]
    folds: bool = False
    # its usual writer folds batch norms
    products: bool = False
    # into matrix products, too
    dtypes: str = ""
    # what `takes` says yes to, in words
    described: bool = True
    # the file holds operators
    schemes: tuple[str, ...] = ()
    # ways to whole numbers, the usual one first


def _safetensors(content: Content) -> Sheet:
    return safetensors.sheet(_beside(content))


def _checkpoint(content: Content) -> Sheet:
    scopes = [one.scope for one in content.graph.operators]
    tensors = content.graph.tensors.values()
    tied = {one.name: one.storage for one in tensors if one.role == "constant" and one.storage}
    return torch_zip.sheet(_by_module(_beside(content)), scopes, tied=tied)


def _by_module(stored: Sequence[Stored]) -> list[Stored]:
    """Tensors in the order of a state_dict: module by module, its parameters before its statistics."""
    places: dict[str, int] = {}
    for one in stored:
        places.setdefault(one.name.rpartition(".")[0], len(places))
    return sorted(stored, key=lambda one: places[one.name.rpartition(".")[0]])


def _gguf(content: Content) -> Sheet:
    return gguf.sheet(_beside(content))


def _beside(content: Content) -> list[Stored]:
    """The tensors of a format without operators: no literals, weights quantised with one scale a channel."""
    kept = [one for one in content.stored if not one.literal]
    return converted(kept, content.dtype, lambda one: (scale(one),))


def _onnx(content: Content) -> Sheet:
    return onnx_file.sheet(content.graph, content.stored, content.dtype, scheme=content.scheme)


def _ncnn(content: Content) -> Sheet:
    return ncnn.sheet(content.graph, content.dtype)


def _tflite(content: Content) -> Sheet:
    return tflite.sheet(content.graph, content.dtype, norms=content.norms, scheme=content.scheme)


FORMATS: Mapping[str, Format] = {
    one.name: one
    for one in (
        Format(
            "onnx", "ONNX", _onnx, lambda dtype: dtype.block == 1 and dtype.name in onnx_file.DTYPES,
            dtypes=", ".join(onnx_file.DTYPES), schemes=("static", "weights"),
        ),
        Format(
            "ncnn", "ncnn, .param and .bin", _ncnn, lambda dtype: dtype in (FLOAT32, FLOAT16, INT8), folds=True,
            products=True, dtypes="float32, float16, int8",
        ),
        Format(
            "tflite", "TFLite", _tflite, lambda dtype: dtype.name in ("float32", "float16", "int8", "int4"), folds=True,
            dtypes="float32, float16, int8, int4", schemes=tflite.SCHEMES,
        ),
        Format(
            "safetensors", "safetensors", _safetensors, safetensors.writable, described=False,
            dtypes=f"{', '.join(safetensors.NAMES)}, int4",
        ),
        Format(
            "pt", "PyTorch state_dict", _checkpoint, torch_zip.writable, described=False,
            dtypes=", ".join(torch_zip.STORAGES),
        ),
        Format(
            "gguf", "GGUF", _gguf, gguf.writable, described=False, dtypes="float32, float16, bfloat16, q8_0, q4_k, …",
        ),
    )
}  # fmt: skip
ALIASES: Mapping[str, str] = {"pth": "pt", "torch": "pt", "litert": "tflite"}


def format_called(name: str) -> Format:
    """The format called `name`.

    Raises:
        UsageError: there is none, or its files cannot be counted.
    """
    from difflib import get_close_matches

    key = name.strip().lower().lstrip(".")
    found = FORMATS.get(ALIASES.get(key, key))
    if found is None:
        close = get_close_matches(key, [*FORMATS, *ALIASES], 1)
        raise UsageError(
            f"sizes of {name!r} files are not counted", expected=", ".join(FORMATS),
            hint=f"--format {close[0] if close else 'onnx'}",
        )  # fmt: skip
    return found
