"""A study written down as a report: values are taken over, none is worked out here."""

from __future__ import annotations

from pathlib import Path

from peakmem._version import __version__
from peakmem.conventions import CONVENTIONS, WEIGHT_CONVENTIONS
from peakmem.dtypes import DType
from peakmem.ir.dims import format_shape
from peakmem.ir.graph import Graph, Tensor, Unknown
from peakmem.ir.validate import count_by_type
from peakmem.layers import Layer, groups
from peakmem.liveness import state_bytes
from peakmem.parameters import ROLES, SIZE_DTYPES, Parameters
from peakmem.passes.assume import ASSUMPTIONS
from peakmem.report import model as report
from peakmem.study import Study


def compose(
    given: Graph, graph: Graph, study: Study, assume: str, convention: str, dtype: DType | None,
    side_bytes: int, stored: Parameters, notes: list[str], budget: int | None, defaulted: list[str],
    tensors: bool,
) -> report.Estimate:  # fmt: skip
    """The report of one study.

    Args:
        given: the graph as read, before it was bound.
        graph: the graph with every shape inferred.
        assume: the execution assumption whose timeline is reported.
        side_bytes: scales and zero points beside the weights, where `dtype` replaces theirs.
        stored: the parameters as the file has them.
        notes: sentences on what was assumed.
        budget: allowed bytes; None for no budget.
        defaulted: symbols that kept their default.
        tensors: whether every tensor is listed.
    """
    timeline, running = study.timeline(assume), study.graph(assume)
    unsized = len(set(timeline.liveness.unsized))
    constants = [tensor for tensor in graph.tensors.values() if tensor.role == "constant"]
    unmeasured = [tensor.name for tensor in constants if tensor.nbytes is None]
    unknowns = list(graph.unknowns)
    if unmeasured:
        reason = f"{len(unmeasured)} constants have no fixed width per element (strings), so their bytes are not known"
        unknowns.append(Unknown(unmeasured[0], "constant", reason))
    incomplete = bool(unsized or unknowns or graph.weights_only)
    kind: report.Kind = "lower bound" if incomplete else "estimate"
    weights_bytes = study.parameters.nbytes() + side_bytes
    peak = _peak(study, assume, weights_bytes)
    sure = not unsized and not unmeasured
    shown = WEIGHT_CONVENTIONS if graph.weights_only else tuple(CONVENTIONS)
    measured = {name: CONVENTIONS[name].compute(study) for name in shown}
    path = Path(given.source) if given.source not in ("", "zoo") else None
    assumptions = []
    if not graph.weights_only:
        held = "inputs are held to the end" if study.hold_inputs else "an input is free after its last reader"
        assumptions += [f"execution: {assume} ({ASSUMPTIONS[assume].title})", held]
    whose = "built-in network" if given.format == "zoo" else "source"
    assumptions += [f"{name} = {given.defaults[name]}, the {whose}'s default" for name in defaulted]
    return report.Estimate(
        model=report.ModelInfo(
            name=given.name if path is None else path.name,
            source=given.source,
            format=given.format,
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
            report.DtypeSize(dtype.name, payload, side, payload + side)
            for dtype, (payload, side) in ((dtype, stored.size(dtype)) for dtype in SIZE_DTYPES)
        ),
        peaks={} if graph.weights_only else {name: study.peak(name)[0] for name in ASSUMPTIONS},
        timeline=tuple(
            report.TimelinePoint(step, operator.name, operator.op_type, live)
            for step, (operator, live) in enumerate(zip(running.operators, timeline.live, strict=False))
        ),
        layer_table=_layer_table(study, convention, assume),
        conventions=tuple(
            report.ConventionValue(
                name, rule.title, measured[name].nbytes, "estimate" if sure else "lower bound",
                measured[name].operator,
                rule.formula, rule.source, rule.includes, rule.excludes,
            )
            for name, rule in ((name, CONVENTIONS[name]) for name in shown)
        ),
        assumptions=(*assumptions, *notes),
        unknowns=tuple(
            report.UnknownItem(unknown.operator, unknown.op_type, unknown.reason, unknown.hint)
            for unknown in unknowns
        ),
        dtypes=_dtype_mix(study.parameters),
        tensors=_stored(study) if tensors or graph.weights_only else (),
        details=tuple(report.Detail(detail.name, detail.text, detail.nbytes) for detail in graph.details),
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
    kept = state_bytes(graph)
    inner = sum(nbytes for step, nbytes in timeline.liveness.inner_bytes if step == timeline.peak_step)
    return report.Peak(
        activation_bytes=timeline.peak_bytes,
        weights_bytes=weights_bytes,
        workspace_bytes=0,
        workspace_known=False,
        total_bytes=timeline.peak_bytes + weights_bytes + kept,
        state_bytes=kept,
        activations_known=not graph.weights_only,
        step=timeline.peak_step,
        operator=operator.name if operator else "",
        op_type="+".join((operator.op_type, *operator.fused)) if operator else "",
        subgraph_bytes=inner,
        alive=tuple(alive),
    )


def _parameter_report(stored: Parameters) -> report.ParameterReport:
    return report.ParameterReport(
        weights_only=stored.weights_only,
        trainable=stored.trainable,
        with_statistics=stored.with_statistics,
        elements={role: stored.elements(role) for role in ROLES},
        nbytes={role: stored.nbytes(role) for role in ROLES},
        total_bytes=stored.nbytes(),
    )


def _dtype_mix(stored: Parameters) -> tuple[report.DtypeShare, ...]:
    counts: dict[str, list[int]] = {}
    for constant in stored.constants:
        share = counts.setdefault(str(constant.dtype or "?"), [0, 0, 0])
        for at, many in enumerate((1, constant.elements, constant.nbytes)):
            share[at] += many
    shares = [report.DtypeShare(name, *share) for name, share in counts.items()]
    return tuple(sorted(shares, key=lambda share: (-share.nbytes, share.dtype)))


def _stored(study: Study) -> tuple[report.StoredTensor, ...]:
    return tuple(
        report.StoredTensor(
            constant.name, format_shape(constant.shape), str(constant.dtype or "?"), constant.role, constant.nbytes
        )
        for constant in study.parameters.constants
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
        layer.parameters, nbytes, layer.scope,
    )  # fmt: skip
