"""The size of the file that a network would be written as, from its graph alone: what was asked, to a report.

`FORMATS` says of each format which dtypes it takes and whether its writer folds batch norms by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from peakmem.binding import bound
from peakmem.dtypes import FLOAT16, FLOAT32, INT8, DType, parse_dtype
from peakmem.errors import UsageError
from peakmem.filesize import gguf, ncnn, onnx_file, onnx_source, safetensors, tflite, torch_zip
from peakmem.filesize.content import Stored, contents, converted, scale
from peakmem.filesize.folding import Folded, fold_batch_norms
from peakmem.filesize.sheet import Sheet
from peakmem.ir.graph import Graph
from peakmem.parameters import parameters
from peakmem.passes.fold import fold_constants
from peakmem.passes.quantise import merge_quantisation
from peakmem.pipeline import load
from peakmem.report.file_size import FileSize, FileSizes, Part


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
    return torch_zip.sheet(_by_module(_beside(content)), scopes)


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
READ = ("onnx", "tflite", "ncnn")
# formats whose files tell, when they are the source, what their writer adds
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


def file_size(
    source: str | Path | Graph | object,
    format: str,
    dtype: str | DType | None = None,
    fold: bool | None = None,
    *,
    scheme: str = "",
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    inputs: object = None,
    form: str = "",
    options: Mapping[str, str] | None = None,
) -> FileSize:
    """The size of the file that a network would be written as.

    Args:
        source, inputs, form, options: see `peakmem.load`.
        format: onnx, ncnn, tflite, safetensors, pt or gguf.
        dtype: what floating weights are stored as; None for as they are.
        fold: batch norms are part of the convolutions in front of them; None for as the format's writer does.
        scheme: how whole numbers come about, "static" (weights and what flows between operators; the default),
            "dynamic" (weights alone, TFLite) or "weights" (weights alone, ONNX).
        batch, shapes, dims: values for the dimensions, see `peakmem.estimate`; sizes depend on them by a few bytes.

    Raises:
        UsageError: a format that is not counted, or one that cannot hold `dtype`.
        PeakmemError: see `peakmem.load`.
    """
    wanted = format_called(format)
    counted = parse_dtype(dtype) if isinstance(dtype, str) else dtype
    _refuse(wanted, counted)
    graph = prepared(source, batch=batch, shapes=shapes, dims=dims, inputs=inputs, form=form, options=options)
    return of_graph(graph, wanted, counted, fold, scheme)


def prepared(
    source: str | Path | Graph | object, *, batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None, dims: Mapping[str, int] | None = None, inputs: object = None,
    form: str = "", options: Mapping[str, str] | None = None,
) -> Graph:  # fmt: skip
    """The inferred graph of `source`."""
    given = load(source, inputs=inputs, batch=batch, form=form, options=options)
    return bound(given, batch=None if given.bound else batch, shapes=shapes, dims=dims)


def _refuse(wanted: Format, dtype: DType | None) -> None:
    if dtype is not None and not wanted.takes(dtype):
        raise UsageError(
            f"{wanted.title} files are not counted at {dtype}", expected=wanted.dtypes,
            hint="--dtype fp16" if dtype.kind == "float" else "--dtype int8",
        )  # fmt: skip


def of_graph(graph: Graph, wanted: Format, dtype: DType | None, fold: bool | None = None, scheme: str = "") -> FileSize:
    """The size of an inferred graph's file.

    Raises:
        UsageError: the format cannot hold it.
    """
    _refuse(wanted, dtype)
    if wanted.described and graph.weights_only:
        raise UsageError(
            f"the source stores tensors and no operators, of which {wanted.title} files consist",
            where=graph.source or graph.name, hint="--format safetensors",
        )  # fmt: skip
    folding = _folds(wanted, graph, dtype) if fold is None else fold
    folded = fold_batch_norms(graph, products=wanted.products)
    kept = folded.graph if folding else graph
    if wanted.name in ("ncnn", "tflite"):
        run = fold_constants(merge_quantisation(graph))
        kept = fold_batch_norms(run, products=wanted.products).graph if folding else run
    norms = folded.folded if folding else 0
    given = _source_bytes(wanted, graph)
    if given is not None and dtype is None and not norms:
        return _report(graph, wanted, dtype, folded, folding, _as_it_is(graph, given))
    content = Content(kept, contents(kept, parameters(kept)), dtype, norms, _scheme(wanted, dtype, scheme))
    sheet = wanted.count(content)
    if given is not None:
        plain = wanted.count(Content(graph, contents(graph, parameters(graph)), None))
        # the quantiser describes what flows between operators anew
        again = wanted.name == "onnx" and dtype is not None and dtype.kind in ("int", "uint")
        given -= onnx_source.described(Path(graph.source)) if again else 0
        more = max(given - plain.nbytes, -sheet.around.get("graph", 0))
        described = sheet.around.get("graph", 0) + more
        doubt = abs(more) // 4 + described // 8
        around = {**sheet.around, "graph": described}
        sheet = replace(sheet, around=around, exact=False, below=sheet.below + doubt, above=sheet.above + doubt)
    return _report(graph, wanted, dtype, folded, folding, sheet)


def _as_it_is(graph: Graph, given: int) -> Sheet:
    """The file that a graph was read from."""
    stored = contents(graph, parameters(graph))
    around = given - sum(one.nbytes for one in stored if not one.literal)
    return Sheet("as in the source", stored, {"graph": around})


def _source_bytes(wanted: Format, graph: Graph) -> int | None:
    """Bytes of the file a graph was read from, where it is of the format already and all of it is there."""
    path = Path(graph.source) if graph.source else None
    if path is None or wanted.name != graph.format or wanted.name not in READ or not path.is_file():
        return None
    if wanted.name == "ncnn":
        beside = path.with_suffix(".bin")
        return path.stat().st_size + beside.stat().st_size if beside.is_file() else None
    if wanted.name == "onnx":
        size, elsewhere = onnx_source.measured(path)
        return size + sum(one.nbytes for one in contents(graph, parameters(graph)) if one.name in elsewhere)
    return path.stat().st_size


def _folds(wanted: Format, graph: Graph, dtype: DType | None) -> bool:
    """Whether a format's writer folds batch norms: exporters and quantisers do, who saves a state does not."""
    if wanted.name == "onnx":
        return graph.format == "torch" or (dtype is not None and dtype.kind in ("int", "uint"))
    return wanted.folds


def _scheme(wanted: Format, dtype: DType | None, scheme: str) -> str:
    if not scheme:
        return wanted.schemes[0] if wanted.schemes else ""
    if scheme not in wanted.schemes:
        raise UsageError(
            f"{wanted.title} files have no scheme {scheme!r}", expected=", ".join(wanted.schemes) or "no scheme"
        )
    if dtype is None or dtype.kind == "float":
        raise UsageError(f"scheme {scheme!r} is for whole numbers", hint="--dtype int8")
    return scheme


def _report(graph: Graph, wanted: Format, dtype: DType | None, folded: Folded, folding: bool, sheet: Sheet) -> FileSize:
    counts: dict[str, int] = {}
    for one in sheet.stored:
        if not one.literal:
            counts[one.part] = counts.get(one.part, 0) + 1
    parts = tuple(
        [Part(name, nbytes, counts.get(name, 0)) for name, nbytes in sheet.tensors.items() if nbytes]
        + [Part(name, nbytes) for name, nbytes in sheet.around.items() if nbytes]
    )
    nbytes = sheet.nbytes
    return FileSize(
        name=graph.name,
        format=wanted.name,
        dtype=dtype.name if dtype else "stored",
        folded=folding and folded.folded > 0,
        batch_norms=folded.folded,
        writer=sheet.writer,
        nbytes=nbytes,
        kind="exact" if sheet.exact else "estimate",
        low_bytes=nbytes - (0 if sheet.exact else sheet.below),
        high_bytes=nbytes + (0 if sheet.exact else sheet.above),
        tensor_bytes=sum(sheet.tensors.values()),
        parts=parts,
        files=tuple(Part(ending, size) for ending, size in sheet.files),
        notes=sheet.notes,
    )


def file_sizes(
    source: str | Path | Graph | object,
    formats: Sequence[str],
    dtypes: Sequence[str | DType | None] = (None,),
    folds: Sequence[bool | None] = (None,),
    *,
    scheme: str = "",
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    inputs: object = None,
    form: str = "",
    options: Mapping[str, str] | None = None,
) -> FileSizes:
    """One network in several formats, dtypes and with batch norms folded or not; see `file_size`.

    What a format cannot hold is named in `refused` where there are others; alone it is an error.
    """
    wanted = [format_called(name) for name in formats]
    counted = [parse_dtype(one) if isinstance(one, str) else one for one in dtypes]
    graph = prepared(source, batch=batch, shapes=shapes, dims=dims, inputs=inputs, form=form, options=options)
    found: list[FileSize] = []
    refused: list[str] = []
    last: UsageError | None = None
    for one in wanted:
        for dtype in counted:
            for fold in folds:
                try:
                    whole = dtype is not None and dtype.kind in ("int", "uint") and scheme in one.schemes
                    found.append(of_graph(graph, one, dtype, fold, scheme if whole else ""))
                except UsageError as fault:
                    last = fault
                    refused.append(str(fault))
    if last is not None and not found:
        raise last
    return FileSizes(
        graph.name, graph.source, parameters(graph).trainable, tuple(found), tuple(dict.fromkeys(refused)), graph.notes
    )


__all__ = ["ALIASES", "FORMATS", "Content", "Format", "file_size", "file_sizes", "format_called", "of_graph", "replace"]
