"""From what the user named to a finished report: read, bind, infer, study, write down.

This is the one place that knows all parts; it computes nothing itself.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from peakmem._version import __version__
from peakmem.conventions import CONVENTIONS, measure_all
from peakmem.dtypes import DType, parse_dtype
from peakmem.errors import ShapeError, UsageError
from peakmem.ir.dims import Shape, Symbol, format_shape
from peakmem.ir.graph import Graph, Tensor, Unknown
from peakmem.ir.shapes.infer import LARGEST_TENSOR, bind, infer, unbound
from peakmem.ir.validate import count_by_type
from peakmem.layers import Layer, groups
from peakmem.parameters import SIZE_DTYPES, Parameters, parameters
from peakmem.passes.assume import ASSUMPTIONS, DEFAULT_ASSUMPTION, assumption
from peakmem.report import model as report
from peakmem.study import Study

DEFAULT_CONVENTION = "layer_in_out_weights"
_BATCH = re.compile(r"batch|^(n|b|bs)$", re.IGNORECASE)


def load(source: str | Path | Graph) -> Graph:
    """The unbound graph of a model file or a built-in network; nothing is executed or allocated.

    Args:
        source: a path such as `model.onnx`, a built-in network such as `mobilenet_v1` or
            `mobilenet_v2:width=0.5`, or a Graph, which is returned as it is.

    Raises:
        FormatError: no such file, or not a model.
        GraphError: the network contradicts itself.
        UsageError: no such built-in network or option.
    """
    if isinstance(source, Graph):
        return source
    path = Path(source)
    if not _is_there(path) and (not path.suffix or ":" in path.name):
        from peakmem import zoo

        if path.name == str(source):
            name, options = zoo.parse_spec(path.name)
            return replace(zoo.build(name, batch=Symbol("batch"), **options), defaults={"batch": 1})
    from peakmem.frontends import read

    return read(path)


def _is_there(path: Path) -> bool:
    """Whether something is at `path`; true as well when that cannot be told, so that reading says why."""
    try:
        return path.exists()
    except OSError:
        return True


def bound(
    graph: Graph,
    *,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
) -> Graph:
    """`graph` with every dimension given a value and every shape inferred.

    Args:
        graph: as `load` returns it.
        batch: value of the batch dimension, found by `batch_dimensions`.
        shapes: whole input shapes by name; the name "" means the only input.
        dims: values of symbolic dimensions by name.

    Raises:
        UnboundDimension: a symbolic dimension is left; the message shows the flag to type.
        UsageError: a name that is not there, a negative size.
        ShapeError: the shapes contradict the network.
    """
    values = dict(dims or {})
    for name, value in values.items():
        _sized(value, f"--dim {name}")
    whole: dict[str, Shape] = {}
    for name, shape in (shapes or {}).items():
        target = name or _only_input(graph)
        for size in shape:
            _sized(size, f"--shape {target}")
        whole[target] = tuple(shape)
    changed = False
    if batch is not None:
        _sized(batch, "--batch", least=1)
        graph, more, changed = _with_batch(graph, batch, set(whole))
        values = {**more, **values}
    for name, value in graph.defaults.items():
        values.setdefault(name, value)
    for name, fixed in whole.items():
        tensor = graph.tensors.get(name)
        if tensor is not None and tensor.shape is not None and len(tensor.shape) == len(fixed):
            for before, after in zip(tensor.shape, fixed, strict=True):
                if isinstance(before, Symbol) and isinstance(after, int):
                    if dims is None or before.name not in dims:
                        values[before.name] = after
                elif before != after:
                    changed = True
    from peakmem.frontends.onnx_rules import infer_with_onnx

    given = bind(graph, whole, values)
    for name in given.inputs:
        if (given.tensors[name].nbytes or 0) > LARGEST_TENSOR:
            shown = format_shape(given.tensors[name].shape)
            raise ShapeError(f"the shape {shown} is larger than any address space", where=f"input {name!r}")
    try:
        inferred = infer(given, dims=values, fallback=infer_with_onnx, trust_declared=not changed)
    except ShapeError as fault:
        if not changed:
            raise
        raise ShapeError(
            f"{fault.what}; the file fixes the sizes of its inputs and may repeat them inside",
            where=fault.where,
            hint="the sizes in the file (without --batch or --shape), or an export with dynamic axes",
        ) from fault
    unread = sorted(set(dims or {}) - _symbols(graph) - {unknown.operator for unknown in inferred.unknowns})
    missing = [name for name in unread if not _names_output(graph, name)]
    if missing:
        known = ", ".join(sorted(_symbols(graph))) or "none"
        raise UsageError(f"the model has no dimension {missing[0]!r}", expected=f"one of {known}")
    return inferred


def _names_output(graph: Graph, name: str) -> bool:
    """Whether `name` is a dimension that running would tell, written as tensor.axis."""
    tensor, _, axis = name.rpartition(".")
    return axis.isdigit() and tensor in graph.tensors


def _symbols(graph: Graph) -> set[str]:
    """Names of the symbols of a graph, those computed from others left out."""
    found = set(unbound(graph))
    for tensor in graph.tensors.values():
        for dim in tensor.shape or ():
            if isinstance(dim, Symbol) and not dim.name.startswith(("(", "?")):
                found.add(dim.name)
    return found


def _sized(value: int, flag: str, least: int = 0) -> None:
    if value < least:
        raise UsageError(f"{flag} is {value}", expected=f"{least} or more")
    if value > 2**40:
        raise UsageError(f"{flag} is {value}", expected="at most 2^40")


def _only_input(graph: Graph) -> str:
    if len(graph.inputs) != 1:
        raise UsageError(
            f"the model has {len(graph.inputs)} inputs, so a shape needs a name",
            expected=", ".join(graph.inputs),
            hint=f"--shape {graph.inputs[0] if graph.inputs else 'input'}=1x3x224x224",
        )
    return graph.inputs[0]


def _with_batch(graph: Graph, batch: int, skip: set[str]) -> tuple[Graph, dict[str, int], bool]:
    """(graph, symbol values, whether fixed sizes were replaced) for a batch of `batch`.

    The batch is every symbol called like one (batch, N, B, bs); else the only symbol in front of
    all inputs that start with one; else, where sizes are fixed, the first dimension that all
    inputs of rank 2 and more share.
    """
    symbols = unbound(graph)
    named = [name for name in symbols if _BATCH.search(name)]
    if named:
        return graph, dict.fromkeys(named, batch), False
    inputs = [graph.tensors[name] for name in graph.inputs if name not in skip]
    leading = {tensor.shape[0] for tensor in inputs if tensor.shape}
    leading_symbols = [dim for dim in leading if isinstance(dim, Symbol)]
    unnamed = [dim.name for dim in leading_symbols if dim.name.rpartition(".")[0] in graph.inputs]
    if leading_symbols and (len(leading_symbols) == 1 or len(unnamed) == len(leading_symbols)):
        return graph, {dim.name: batch for dim in leading_symbols}, False
    fixed = [tensor for tensor in inputs if tensor.shape is not None and len(tensor.shape) >= 2]
    sizes = {tensor.shape[0] for tensor in fixed if tensor.shape}
    if leading_symbols or len(sizes) != 1:
        shown = "; ".join(f"{tensor.name}: {format_shape(tensor.shape)}" for tensor in inputs)
        name = inputs[0].name if inputs else "input"
        raise UsageError(
            f"which dimension of {shown or 'no input'} is the batch cannot be told", hint=f"--shape {name}=…"
        )
    tensors = dict(graph.tensors)
    for tensor in fixed:
        assert tensor.shape is not None
        tensors[tensor.name] = replace(tensor, shape=(batch, *tensor.shape[1:]))
    before = next(iter(sizes))
    note = f"the first dimension of the inputs, fixed to {before} in the file, is the batch and was set to {batch}"
    return replace(graph, tensors=tensors, notes=(*graph.notes, note) if before != batch else graph.notes), {}, True


def retype(graph: Graph, dtype: DType, stored: Parameters) -> Graph:
    """`graph` with floating activations, inputs and constants counted in `dtype`.

    At an integer dtype biases are int32 and norms stay float32, as `Parameters.size` counts them.
    Integer and boolean tensors keep their dtype.
    """
    kept = {constant.name: constant.role for constant in stored.constants if constant.role not in ("weight",)}
    whole = dtype.kind in ("int", "uint")

    def there(tensor: Tensor) -> Tensor:
        if tensor.dtype is None or tensor.dtype.kind != "float":
            return tensor
        role = kept.get(tensor.storage or tensor.name) if tensor.role == "constant" else None
        if role == "quantisation" or (whole and role in ("norm", "statistic", "other")):
            return tensor
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
    source: str | Path | Graph,
    *,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    dtype: str | DType | None = None,
    assume: str = DEFAULT_ASSUMPTION,
    convention: str = DEFAULT_CONVENTION,
    hold_inputs: bool = False,
    budget: int | None = None,
) -> report.Estimate:
    """How much memory a network needs for one forward pass, from its graph alone.

    Args:
        source: a model file, a built-in network, or a Graph from `load`.
        batch, shapes, dims: values for the dimensions, see `bound`.
        dtype: count floating tensors in this dtype instead of the stored one.
        assume: the execution assumption, one of `peakmem.passes.assume.ASSUMPTIONS`.
        convention: what `bytes` means in the layer table.
        hold_inputs: keep the inputs alive to the end, as a caller does who owns them.
        budget: bytes allowed for weights and live peak together.

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
        return _estimate(source, batch, shapes, dims, dtype, frame.name, convention, hold_inputs, budget)


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
    source: str | Path | Graph, batch: int | None, shapes: Mapping[str, Sequence[int]] | None,
    dims: Mapping[str, int] | None, dtype: str | DType | None, assume: str, convention: str, hold_inputs: bool,
    budget: int | None,
) -> report.Estimate:  # fmt: skip
    given = load(source)
    graph = bound(given, batch=batch, shapes=shapes, dims=dims)
    told = set(dims or {}) | (set(given.defaults) if batch is not None or shapes else set())
    defaulted = [name for name in given.defaults if name not in told]
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
    return _report(given, graph, study, assume, convention, counted, side_bytes, stored, notes, budget, defaulted)


def _dtype_note(dtype: DType, side_bytes: int) -> str:
    if dtype.kind in ("int", "uint"):
        return (
            f"floating weights and activations counted as {dtype}: biases as int32, norms as float32, "
            f"{side_bytes:,} B of per-channel float32 scales added to the weights"
        )
    return f"floating weights and activations counted as {dtype}"


def _report(
    given: Graph, graph: Graph, study: Study, assume: str, convention: str, dtype: DType | None,
    side_bytes: int, stored: Parameters, notes: list[str], budget: int | None, defaulted: list[str],
) -> report.Estimate:  # fmt: skip
    timeline, running = study.timeline(assume), study.graph(assume)
    unsized = len(set(timeline.liveness.unsized))
    constants = [tensor for tensor in graph.tensors.values() if tensor.role == "constant"]
    unmeasured = [tensor.name for tensor in constants if tensor.nbytes is None]
    unknowns = list(graph.unknowns)
    if unmeasured:
        reason = f"{len(unmeasured)} constants have no fixed width per element (strings), so their bytes are not known"
        unknowns.append(Unknown(unmeasured[0], "constant", reason))
    incomplete = bool(unsized or unmeasured)
    kind: report.Kind = "lower bound" if incomplete else "estimate"
    weights_bytes = study.parameters.nbytes() + side_bytes
    peak = _peak(study, assume, weights_bytes)
    measured = measure_all(study)
    path = Path(given.source) if given.source not in ("", "zoo") else None
    assumptions = [f"execution: {assume} ({ASSUMPTIONS[assume].title})"]
    assumptions.append("inputs are held to the end" if study.hold_inputs else "an input is free after its last reader")
    assumptions += [f"{name} = {given.defaults[name]}, the built-in network's default" for name in defaulted]
    return report.Estimate(
        model=report.ModelInfo(
            name=given.name if path is None else path.name,
            source=given.source,
            format="zoo" if path is None else "onnx",
            operators=len(given.operators),
            op_types=dict(count_by_type(given.operators)),
            file_bytes=path.stat().st_size if path is not None and path.is_file() else None,
        ),
        kind=kind,
        assume=assume,
        assume_title=ASSUMPTIONS[assume].title,
        dtype="as stored" if dtype is None else dtype.name,
        inputs=tuple(_port(graph.tensors[name]) for name in graph.inputs),
        outputs=tuple(_port(graph.tensors[name]) for name in graph.outputs if name in graph.tensors),
        peak=peak,
        parameters=_parameter_report(study.parameters),
        sizes=tuple(
            report.DtypeSize(size.name, *stored.size(size), sum(stored.size(size))) for size in SIZE_DTYPES
        ),
        peaks={name: study.timeline(name).peak_bytes for name in ASSUMPTIONS},
        timeline=tuple(
            report.TimelinePoint(step, operator.name, operator.op_type, live)
            for step, (operator, live) in enumerate(zip(running.operators, timeline.live, strict=False))
        ),
        layer_table=_layer_table(study, convention, assume),
        conventions=tuple(
            report.ConventionValue(
                name, rule.title, measured[name].nbytes, kind, measured[name].operator,
                rule.formula, rule.source, rule.includes, rule.excludes,
            )
            for name, rule in CONVENTIONS.items()
        ),
        assumptions=(*assumptions, *notes),
        unknowns=tuple(
            report.UnknownItem(unknown.operator, unknown.op_type, unknown.reason, unknown.hint)
            for unknown in unknowns
        ),
        budget=None if budget is None else _budget(budget, peak.total_bytes),
        peakmem=__version__,
    )  # fmt: skip


def _budget(limit: int, needed: int) -> report.Budget:
    return report.Budget(limit, needed, limit - needed, needed <= limit)


def _port(tensor: Tensor) -> report.Port:
    shape = None if tensor.shape is None else tuple(d if isinstance(d, int) else d.name for d in tensor.shape)
    return report.Port(tensor.name, shape, str(tensor.dtype or "?"), tensor.nbytes)


def _peak(study: Study, assume: str, weights_bytes: int) -> report.Peak:
    timeline, graph = study.timeline(assume), study.graph(assume)
    operator = graph.operators[timeline.peak_step] if graph.operators else None
    producers = graph.producers()
    alive = []
    for buffer in timeline.alive_at_peak:
        tensor = graph.tensors[buffer.name]
        maker = producers.get(buffer.name)
        alive.append(
            report.AliveTensor(
                buffer.name, buffer.nbytes, format_shape(tensor.shape), str(tensor.dtype or "?"), buffer.role,
                graph.operators[maker].name if maker is not None else "", buffer.start, buffer.stop,
            )
        )  # fmt: skip
    inner = sum(nbytes for step, nbytes in timeline.liveness.inner_bytes if step == timeline.peak_step)
    return report.Peak(
        activation_bytes=timeline.peak_bytes,
        weights_bytes=weights_bytes,
        workspace_bytes=0,
        workspace_known=False,
        total_bytes=timeline.peak_bytes + weights_bytes,
        step=timeline.peak_step,
        operator=operator.name if operator else "",
        op_type="+".join((operator.op_type, *operator.fused)) if operator else "",
        subgraph_bytes=inner,
        alive=tuple(alive),
    )


def _parameter_report(stored: Parameters) -> report.ParameterReport:
    from peakmem.parameters import ROLES

    return report.ParameterReport(
        weights_only=stored.weights_only,
        trainable=stored.trainable,
        with_statistics=stored.with_statistics,
        elements={role: stored.elements(role) for role in ROLES},  # type: ignore[arg-type]
        nbytes={role: stored.nbytes(role) for role in ROLES},  # type: ignore[arg-type]
        total_bytes=stored.nbytes(),
    )


def _layer_table(study: Study, convention: str, assume: str) -> report.LayerTable:
    rule = CONVENTIONS[convention]
    per_layer = rule.per_layer
    assert per_layer is not None
    rows: list[report.LayerRow] = []
    best: tuple[int, str] = (0, "")
    total = 0
    table = study.layers(assume)
    for layer in table:
        nbytes = per_layer(layer)
        rows.append(_row(layer, nbytes))
        total += nbytes or 0
        if nbytes is not None and nbytes > best[0]:
            best = (nbytes, layer.name)
    folded = []
    at = 0
    for group in groups(table):
        folded.append(report.LayerGroup(at, len(group.rows), group.times))
        at += len(group.rows) * group.times
    return report.LayerTable(convention, rule.row_formula, tuple(rows), tuple(folded), total, best[0], best[1])


def _row(layer: Layer, nbytes: int | None) -> report.LayerRow:
    return report.LayerRow(
        layer.step, layer.name, layer.op_type, layer.kernel, layer.stride, layer.input_shape, layer.output_shape,
        layer.dtype, layer.input_bytes, layer.output_bytes, layer.weight_bytes, layer.parameter_bytes,
        layer.parameters, nbytes,
    )  # fmt: skip
