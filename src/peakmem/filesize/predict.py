"""The size of the file that a network would be written as, from its graph alone: what was asked, to a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from peakmem.binding import bound
from peakmem.dtypes import DType, parse_dtype
from peakmem.errors import PeakmemError, UnboundDimension, UsageError
from peakmem.filesize import onnx_source
from peakmem.filesize.content import contents
from peakmem.filesize.folding import Folded, fold_batch_norms
from peakmem.filesize.formats import FORMATS, Content, Format, format_called
from peakmem.filesize.sheet import Sheet
from peakmem.ir.graph import Graph
from peakmem.parameters import parameters
from peakmem.passes.fold import fold_constants
from peakmem.passes.quantise import merge_quantisation
from peakmem.pipeline import load
from peakmem.report.file_size import FileSize, FileSizes, Part

READ = {
    "onnx": "onnx",
    "tflite": "tflite",
    "ncnn": "ncnn",
    "safetensors": "safetensors",
    "gguf": "gguf",
    "torch_checkpoint": "pt",
}
# front ends whose files tell, when they are the source, what their writer adds, and the format they are


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
    return of_graph(graph, wanted, counted, fold, scheme, saved=saved_names(graph, source))


def saved_names(graph: Graph, source: object) -> frozenset[str] | None:
    """What the state of a PyTorch module in memory is called; None for other sources.

    Its graph has what the code keeps beside the state, too: part of an export, and of no state that is saved.
    """
    if graph.format != "torch" or isinstance(source, str | Path | Graph):
        return None
    state: Callable[[], Mapping[str, object]] | None = getattr(source, "state_dict", None)
    return None if state is None else frozenset(state())


def prepared(
    source: str | Path | Graph | object, *, batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None, dims: Mapping[str, int] | None = None, inputs: object = None,
    form: str = "", options: Mapping[str, str] | None = None,
) -> Graph:  # fmt: skip
    """The inferred graph of `source`; a batch that has no value is 1, as files have the same size with any."""
    given = load(source, inputs=inputs, batch=batch, form=form, options=options)
    if given.bound or batch is not None:
        return bound(given, batch=None if given.bound else batch, shapes=shapes, dims=dims)
    try:
        return bound(given, shapes=shapes, dims=dims)
    except UnboundDimension:
        try:
            return bound(given, batch=1, shapes=shapes, dims=dims)
        except PeakmemError:
            pass
        raise


def _refuse(wanted: Format, dtype: DType | None) -> None:
    if dtype is not None and not wanted.takes(dtype):
        raise UsageError(
            f"{wanted.title} files are not counted at {dtype}", expected=wanted.dtypes,
            hint="--dtype fp16" if dtype.kind == "float" else "--dtype int8",
        )  # fmt: skip


def of_graph(
    graph: Graph, wanted: Format, dtype: DType | None, fold: bool | None = None, scheme: str = "", *,
    saved: frozenset[str] | None = None,
) -> FileSize:  # fmt: skip
    """The size of an inferred graph's file; `saved` are the names of its state, where that is known.

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
    stored = contents(kept, parameters(kept))
    if saved is not None and not wanted.described:
        stored = tuple(one for one in stored if one.name in saved)
    content = Content(kept, stored, dtype, norms, _scheme(wanted, dtype, scheme))
    sheet = wanted.count(content)
    if given is not None:
        plain = wanted.count(Content(graph, contents(graph, parameters(graph)), None))
        # the quantiser describes what flows between operators anew
        again = wanted.name == "onnx" and dtype is not None and dtype.kind in ("int", "uint")
        given -= onnx_source.described(Path(graph.source)) if again else 0
        part = "graph" if wanted.described else "names and shapes"
        more = max(given - plain.nbytes, -sheet.around.get(part, 0))
        described = sheet.around.get(part, 0) + more
        doubt = abs(more) // 4 + described // 8 if wanted.described else abs(more) // 4 + 64
        around = {**sheet.around, part: described}
        sheet = replace(sheet, around=around, exact=False, below=sheet.below + doubt, above=sheet.above + doubt)
    return _report(graph, wanted, dtype, folded, folding, sheet)


def _as_it_is(graph: Graph, given: int) -> Sheet:
    """The file that a graph was read from."""
    stored = contents(graph, parameters(graph))
    around = given - sum(one.nbytes for one in stored if not one.literal)
    return Sheet("as in the source", stored, {"names and shapes" if graph.weights_only else "graph": around})


def _source_bytes(wanted: Format, graph: Graph) -> int | None:
    """Bytes of the file a graph was read from, where it is of the format already and all of it is there."""
    path = Path(graph.source) if graph.source else None
    if path is None or READ.get(graph.format) != wanted.name or not path.is_file():
        return None
    if wanted.name == "ncnn":
        beside = path.with_suffix(".bin")
        return path.stat().st_size + beside.stat().st_size if beside.is_file() else None
    if wanted.name == "onnx":
        size, missing = onnx_source.measured(path)
        return size + sum(one.nbytes for one in contents(graph, parameters(graph)) if one.name in missing)
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
    saved = saved_names(graph, source)
    found: list[FileSize] = []
    refused: list[str] = []
    last: UsageError | None = None
    for one in wanted:
        for dtype in counted:
            for fold in folds:
                try:
                    whole = dtype is not None and dtype.kind in ("int", "uint") and bool(one.schemes)
                    found.append(of_graph(graph, one, dtype, fold, scheme if whole else "", saved=saved))
                except UsageError as fault:
                    last = fault
                    refused.append(str(fault))
    if last is not None and not found:
        raise last
    return FileSizes(
        graph.name, graph.source, parameters(graph).trainable, tuple(found), tuple(dict.fromkeys(refused)), graph.notes
    )


__all__ = ["FORMATS", "file_size", "file_sizes", "format_called", "of_graph", "prepared", "saved_names"]
