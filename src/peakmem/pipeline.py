"""From what the user named to a finished report: read, bind, infer, study, write down.

This is the one place that knows all parts; it computes nothing itself.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from peakmem.binding import bound, defaulted
from peakmem.conventions import CONVENTIONS
from peakmem.dtypes import DType, parse_dtype
from peakmem.errors import PeakmemError, UsageError
from peakmem.ir.dims import Symbol
from peakmem.ir.graph import Graph, Tensor
from peakmem.ir.shapes.infer import unbound
from peakmem.parameters import Parameters, parameters
from peakmem.passes.assume import DEFAULT_ASSUMPTION, assumption
from peakmem.report.compose import compose
from peakmem.report.model import Estimate
from peakmem.study import Study

if TYPE_CHECKING:
    from peakmem.report.comparison import Comparison

DEFAULT_CONVENTION = "layer_in_out_weights"


def load(
    source: str | Path | Graph | object,
    *,
    inputs: object = None,
    batch: int | None = None,
    form: str = "",
    options: Mapping[str, str] | None = None,
) -> Graph:
    """The unbound graph of a model file, a built-in network or a live model; nothing is allocated.

    Args:
        source: a path such as `model.onnx`; a built-in network such as `mobilenet_v1` or
            `mobilenet_v2:width=0.5`; `package.module:factory`, which is imported and called; a
            `torch.nn.Module` or a Keras model; or a Graph, which is returned as it is.
        inputs: what a PyTorch module is called with: shapes such as `[(1, 3, 224, 224)]` or
            `{"input_ids": "1x128:int64"}`, or example tensors. Files bring their own.
        batch: size of the first dimension of those `inputs`; for other sources see `estimate`.
        form: name of the front end, instead of finding it by what the file is.
        options: what the front end takes; `peakmem formats` lists it.

    Raises:
        FormatError: no such file, or not a model.
        GraphError: the network contradicts itself.
        UsageError: no such built-in network, front end or option.
        MissingLibrary: the source needs a library that is not installed.
    """
    if isinstance(source, Graph):
        return source
    named = [f"option {name!r}" for name in options or {}] + ([f"format {form!r}"] if form else [])
    if named and (is_live(source) or _is_built_in(source)):
        raise UsageError(f"{named[0]} is for files", where=str(source)[:200], hint="peakmem formats")
    if not isinstance(source, str | Path):
        from peakmem.frontends.live import read_live

        return read_live(source, inputs=inputs, batch=batch)
    path = Path(source)
    if not _is_there(path):
        from peakmem import zoo
        from peakmem.frontends.live import read_factory

        if is_live(source):
            return read_factory(str(source), inputs=inputs, batch=batch)
        if path.name == str(source) and (not path.suffix or ":" in path.name):
            name, chosen = zoo.parse_spec(path.name)
            return replace(zoo.build(name, batch=Symbol("batch"), **chosen), defaults={"batch": 1})
    if inputs is not None:
        raise UsageError("inputs are for live models", where=str(source), hint="--shape NAME=DIMS")
    from peakmem.frontends import read

    return read(path, form=form, options=options or {})


def _is_built_in(source: object) -> bool:
    """Whether `source` names a network of the zoo, and no file of that name is there."""
    from peakmem.zoo import is_named

    return is_named(str(source)) and not _is_there(Path(str(source)))


def is_live(source: object) -> bool:
    """Whether `source` is a model in memory, or a factory of one."""
    from peakmem.frontends.live import is_factory
    from peakmem.zoo import is_named

    if isinstance(source, Graph):
        return False
    if not isinstance(source, str | Path):
        return True
    return is_factory(str(source)) and not is_named(str(source)) and not _is_there(Path(source))


def _is_there(path: Path) -> bool:
    """Whether something is at `path`; true as well when that cannot be told, so that reading says why."""
    try:
        return path.exists()
    except OSError:
        return True


def retype(graph: Graph, dtype: DType, stored: Parameters) -> Graph:
    """`graph` with floating activations, states, inputs and constants counted in `dtype`.

    A block dtype is for weights alone, and for those whose rows it divides.
    At an integer dtype biases are int32 and norms stay float32, as `Parameters.size` counts them.
    Integer and boolean tensors keep their dtype.
    """
    kept = {constant.name: constant.role for constant in stored.constants if constant.role not in ("weight",)}
    whole = dtype.kind in ("int", "uint")
    rows = {constant.name: constant.row for constant in stored.constants}

    def there(tensor: Tensor) -> Tensor:
        if tensor.dtype is None or tensor.dtype.kind != "float" or tensor.name in graph.chosen:
            return tensor
        role = kept.get(tensor.storage or tensor.name) if tensor.role == "constant" else None
        if role == "quantisation" or (whole and role in ("norm", "statistic", "other")):
            return tensor
        if dtype.block > 1 and (role is not None or not dtype.fits(rows.get(tensor.storage or tensor.name, 0))):
            return tensor  # block formats hold matrices; everything else keeps its dtype
        return replace(tensor, dtype=parse_dtype("int32") if whole and role == "bias" else dtype)

    operators = tuple(
        replace(operator, subgraphs=tuple(retype(body, dtype, stored) for body in operator.subgraphs))
        if operator.subgraphs
        else operator
        for operator in graph.operators
    )
    tensors = {name: there(tensor) for name, tensor in graph.tensors.items()}
    return replace(graph, tensors=tensors, operators=operators)


def estimate(
    source: str | Path | Graph | object,
    *,
    inputs: object = None,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    dtype: str | DType | None = None,
    assume: str = DEFAULT_ASSUMPTION,
    convention: str = DEFAULT_CONVENTION,
    hold_inputs: bool = False,
    budget: int | None = None,
    tensors: bool = False,
    form: str = "",
    options: Mapping[str, str] | None = None,
) -> Estimate:
    """How much memory a network needs for one forward pass, from its graph alone.

    Args:
        source, inputs, form, options: see `load`.
        batch, shapes, dims: values for the dimensions, see `bound`.
        dtype: count floating tensors in this dtype instead of the stored one.
        assume: the execution assumption, one of `peakmem.passes.assume.ASSUMPTIONS`.
        convention: what `bytes` means in the layer table.
        hold_inputs: keep the inputs alive to the end, as a caller does who owns them.
        budget: bytes allowed for weights, state and live peak together.
        tensors: list every stored tensor in the report; always done for a source of weights only.

    Returns:
        A report; sizes are exact bytes. `kind` is "lower bound" when something had no known size.

    Raises:
        PeakmemError: see `load` and `bound`.
    """
    frame = assumption(assume)
    rule = CONVENTIONS.get(convention)
    if rule is None or rule.per_layer is None:
        usable = ", ".join(name for name, item in CONVENTIONS.items() if item.per_layer)
        raise UsageError(f"no convention {convention!r} counts layer by layer", expected=f"one of {usable}")
    if budget is not None and budget < 0:
        raise UsageError(f"a budget of {budget} bytes", expected="0 or more")
    with paused_collection():
        given = load(source, inputs=inputs, batch=batch, form=form, options=options)
        if given.bound:
            batch = None
        return _estimate(given, batch, shapes, dims, dtype, frame.name, convention, hold_inputs, budget, tensors)


@contextmanager
def paused_collection() -> Iterator[None]:
    """Hold the cyclic garbage collector back: graphs are large and hold no cycles (a third of the time)."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _estimate(
    given: Graph, batch: int | None, shapes: Mapping[str, Sequence[int]] | None,
    dims: Mapping[str, int] | None, dtype: str | DType | None, assume: str, convention: str, hold_inputs: bool,
    budget: int | None, tensors: bool,
) -> Estimate:  # fmt: skip
    graph = bound(given, batch=batch, shapes=shapes, dims=dims)
    stored = parameters(graph)
    counted = None if dtype is None else parse_dtype(dtype) if isinstance(dtype, str) else dtype
    notes = list(graph.notes)
    side_bytes = 0
    if counted is not None:
        _, side_bytes = stored.size(counted)
        graph = retype(graph, counted, stored)
        stored_now = parameters(graph)
        notes.append(_dtype_note(counted, side_bytes))
    else:
        stored_now = stored
    study = Study(graph, hold_inputs=hold_inputs, known_parameters=stored_now)
    return compose(
        given,
        graph,
        study,
        assume,
        convention,
        counted,
        side_bytes,
        stored,
        notes,
        budget,
        defaulted(given, batch=batch, shapes=shapes, dims=dims),
        tensors,
    )


def compare(
    a: str | Path | Graph | object,
    b: str | Path | Graph | object,
    *,
    batch: int | None = None,
    shapes: tuple[Mapping[str, Sequence[int]] | None, Mapping[str, Sequence[int]] | None] = (None, None),
    dims: Mapping[str, int] | None = None,
    inputs: object = None,
    dtype: str | DType | None = None,
    assume: str = DEFAULT_ASSUMPTION,
) -> Comparison:
    """Two readings of one network side by side, tensor by tensor.

    Args:
        a, b: what `load` takes.
        batch, dims, inputs, dtype: for both, as far as each side takes them; see `estimate`.
        shapes: whole input shapes by name, for A and for B.
        assume: the execution assumption both are compared under.

    Raises:
        PeakmemError: see `load` and `bound`.
    """
    frame = assumption(assume)
    counted = None if dtype is None else parse_dtype(dtype) if isinstance(dtype, str) else dtype
    with paused_collection():
        sides = []
        for letter, source, fixed in zip("ab", (a, b), shapes, strict=True):
            try:
                sides.append(_side(source, batch, fixed, dims, inputs, counted))
            except PeakmemError as fault:
                if "--shape " in fault.hint:
                    fault.hint = fault.hint.replace("--shape ", f"--shape-{letter} ")
                    fault.args = (str(fault),)
                raise
        from peakmem.comparison import compare_studies

        return compare_studies(sides[0], sides[1], frame.name)


def _side(
    source: str | Path | Graph | object,
    batch: int | None,
    shapes: Mapping[str, Sequence[int]] | None,
    dims: Mapping[str, int] | None,
    inputs: object,
    dtype: DType | None,
) -> Study:
    """One side of a comparison, given what of the arguments for both it takes."""
    live = is_live(source)
    given = load(source, inputs=inputs if live else None, batch=batch if live else None)
    fits = unbound(given)
    graph = bound(
        given,
        batch=batch if given.batched and not given.bound and not given.weights_only else None,
        shapes=shapes,
        dims={name: value for name, value in (dims or {}).items() if name in fits},
    )
    return Study(graph if dtype is None else retype(graph, dtype, parameters(graph)))


def _dtype_note(dtype: DType, side_bytes: int) -> str:
    if dtype.kind in ("int", "uint"):
        return (
            f"floating weights and activations counted as {dtype}: biases as int32, norms as float32, "
            f"{side_bytes:,} B of per-channel float32 scales added to the weights"
        )
    if dtype.block > 1:
        return f"weights whose rows are whole blocks of {dtype.block} counted as {dtype}, all else as stored"
    return f"floating weights and activations counted as {dtype}"
