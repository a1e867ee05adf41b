"""A report as titled tables of strings: the one place that decides what is shown, in which words.

Writers (terminal, tab-separated, CSV, Markdown) only lay these tables out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peakmem.render.blocks import Block, Lines, Table
from peakmem.report.model import Estimate, LayerRow
from peakmem.units import Units, format_bytes, format_exact


@dataclass(frozen=True, slots=True)
class View:
    """What of a report to show."""

    units: Units = "iec"
    layers: bool = False
    conventions: bool = False
    top: int | None = None
    # most tensors and layers to list; None for all
    next_commands: tuple[str, ...] = ()
    tensors: bool = False
    # list every stored tensor
    depth: int | None = None
    # parts of the module path that the layer table shows; None for every operator
    compact: bool = False
    # for a narrow terminal: the columns one reads first


def blocks(report: Estimate, view: View) -> list[Block]:
    """The blocks of `report` in reading order."""
    shown: list[Block] = [headline(report, view.units), parts(report, view.units)]
    known = report.peak.activations_known
    if known:
        shown.append(alive(report, view))
    if view.layers and known:
        shown.append(layers(report, view))
    if view.conventions:
        shown.append(conventions(report, view))
    if view.tensors or (view.layers and not known):
        shown.append(tensors(report, view))
    if not view.layers and not view.conventions:
        shown += [assumptions_ladder(report, view.units)] if known else []
        shown.append(parameters(report, view.units))
    if len(report.dtypes) > 1 or not known:
        shown.append(dtype_mix(report, view.units))
    if report.details:
        shown.append(details(report, view.units))
    if report.budget is not None:
        shown.append(budget(report, view.units))
    shown.append(Lines("Assumptions", report.assumptions))
    shown.append(unknowns(report))
    if view.next_commands:
        shown.append(Lines("Next", view.next_commands))
    return shown


def headline(report: Estimate, units: Units) -> Lines:
    """Peak, its place, and which network under which inputs."""
    if not report.peak.activations_known:
        weights = format_exact(report.weights_bytes, units)
        return Lines(
            f"{report.model.name}",
            (
                f"weights: {weights} in {sum(share.tensors for share in report.dtypes):,} tensors; "
                f"activations unknown: the source holds no operators [{report.model.format}]",
                f"model: {report.parameters.trainable:,} parameters"
                + ("" if report.dtype == "as stored" else f", counted as {report.dtype}"),
            ),
        )
    inputs = ", ".join(
        f"{port.name} {'x'.join(map(str, port.shape)) if port.shape else 'scalar'} {port.dtype}"
        for port in report.inputs
    )
    word = "at least " if report.kind == "lower bound" else ""
    place = f"at operator {report.peak.operator} ({report.peak.op_type})" if report.peak.operator else "of the inputs"
    counted = "" if report.dtype == "as stored" else f", counted as {report.dtype}"
    return Lines(
        f"{report.model.name}",
        (
            f"peak: {word}{format_exact(report.peak_bytes, units)} of activations, {place}, "
            f"step {report.peak.step} of 0..{max(len(report.timeline) - 1, 0)} [{report.kind}, {report.assume}]",
            f"model: {report.model.operators:,} operators, {report.parameters.trainable:,} parameters{counted}; "
            f"inputs: {inputs or 'none'}",
        ),
    )


def parts(report: Estimate, units: Units) -> Table:
    """Weights, activations and workspace, which add up to the total."""
    peak = report.peak
    word = ">= " if report.kind == "lower bound" else ""
    inside = (
        f"live at the peak; {format_bytes(peak.subgraph_bytes, units)} of it inside control flow"
        if peak.subgraph_bytes
        else "live at the peak"
    )
    rows = [
        ("weights", format_bytes(peak.weights_bytes, units), f"{peak.weights_bytes:,}", "all that the model stores"),
        ("activations", format_bytes(peak.activation_bytes, units), f"{word}{peak.activation_bytes:,}", inside)
        if peak.activations_known
        else ("activations", "unknown", "", "the source holds no operators"),
    ]
    if peak.state_bytes:
        what = "kept from run to run: variables, key-value caches"
        rows.append(("state", format_bytes(peak.state_bytes, units), f"{peak.state_bytes:,}", what))
    if peak.workspace_known:
        rows.append(("workspace", format_bytes(peak.workspace_bytes, units), f"{peak.workspace_bytes:,}", "known"))
    else:
        rows.append(("workspace", "unknown", "", "not modelled: depends on the engine"))
    return Table(
        "Parts",
        ("part", "size", "bytes", "what"),
        tuple(rows),
        frozenset({"size", "bytes"}),
        (
            "total",
            format_bytes(peak.total_bytes, units),
            f"{word}{peak.total_bytes:,}",
            "weights resident + "
            + ("state + " if peak.state_bytes else "")
            + ("live peak" if peak.activations_known else "activations nobody knows")
            + ("" if peak.workspace_known else ", workspace not included"),
        ),
    )


def alive(report: Estimate, view: View) -> Table:
    """The largest buffers at the peak."""
    count = len(report.peak.alive) if view.top is None else view.top
    listed = report.peak.alive[:count]
    rows = [
        (
            tensor.name,
            tensor.shape,
            tensor.dtype,
            format_bytes(tensor.nbytes, view.units),
            f"{tensor.nbytes:,}",
            tensor.made_by or "(graph input)",
            f"[{tensor.start}, {tensor.stop})",
        )
        for tensor in listed
    ]
    rest = report.peak.alive[count:]
    if rest:
        size = sum(tensor.nbytes for tensor in rest)
        rows.append((f"and {len(rest)} more", "", "", format_bytes(size, view.units), f"{size:,}", "", ""))
    if report.peak.subgraph_bytes:
        size = report.peak.subgraph_bytes
        rows.append(("inside control flow", "", "", format_bytes(size, view.units), f"{size:,}", "", ""))
    total = report.peak.activation_bytes
    return Table(
        "Alive at the peak",
        ("tensor", "shape", "dtype", "size", "bytes", "made by", "live range"),
        tuple(rows),
        frozenset({"size", "bytes"}),
        ("sum", "", "", format_bytes(total, view.units), f"{total:,}", "", ""),
    )


def assumptions_ladder(report: Estimate, units: Units) -> Table:
    """The live peak under every execution assumption."""
    word = ">= " if report.kind == "lower bound" else ""
    rows = tuple(
        (("* " if name == report.assume else "") + name, format_bytes(nbytes, units), f"{word}{nbytes:,}")
        for name, nbytes in report.peaks.items()
    )
    return Table("Live peak by execution assumption", ("assume", "size", "bytes"), rows, frozenset({"size", "bytes"}))


def parameters(report: Estimate, units: Units) -> Table:
    """Counts three ways, then bytes at each dtype."""
    stored = report.parameters
    rows = [
        ("weights only", f"{stored.weights_only:,}", "", ""),
        ("+ biases, norm affine", f"{stored.trainable:,}", "", ""),
        ("+ running statistics", f"{stored.with_statistics:,}", "", ""),
        ("as stored, all constants", "", format_bytes(stored.total_bytes, units), f"{stored.total_bytes:,}"),
    ]
    floating = len({size.total_bytes for size in report.sizes}) > 1
    for size in report.sizes if floating else ():
        side = f" + {size.side_bytes:,} of scales" if size.side_bytes else ""
        rows.append((f"as {size.dtype}", "", format_bytes(size.total_bytes, units), f"{size.payload_bytes:,}{side}"))
    return Table(
        "Parameters", ("count or dtype", "parameters", "size", "bytes"), tuple(rows),
        frozenset({"parameters", "size", "bytes"}),
    )  # fmt: skip


def dtype_mix(report: Estimate, units: Units) -> Table:
    """Stored constants by dtype."""
    rows = [
        (
            share.dtype,
            f"{share.tensors:,}",
            f"{share.elements:,}",
            format_bytes(share.nbytes, units),
            f"{share.nbytes:,}",
        )
        for share in report.dtypes
    ]
    shares = report.dtypes
    total = sum(share.nbytes for share in shares)
    return Table(
        "Stored by dtype", ("dtype", "tensors", "elements", "size", "bytes"), tuple(rows),
        frozenset({"tensors", "elements", "size", "bytes"}),
        (
            "sum", f"{sum(share.tensors for share in shares):,}", f"{sum(share.elements for share in shares):,}",
            format_bytes(total, units), f"{total:,}",
        ),
    )  # fmt: skip


def tensors(report: Estimate, view: View) -> Table:
    """Every stored tensor, or the largest ones."""
    listed = list(report.tensors)
    title = f"Stored tensors ({len(listed)})"
    if view.top is not None:
        listed = sorted(listed, key=lambda tensor: -tensor.nbytes)[: view.top]
        title = f"The {len(listed)} largest of {len(report.tensors)} stored tensors"
    rows = [
        (
            tensor.name, tensor.shape, tensor.dtype, tensor.role, format_bytes(tensor.nbytes, view.units),
            f"{tensor.nbytes:,}",
        )
        for tensor in listed
    ]  # fmt: skip
    rest = len(report.tensors) - len(listed)
    if rest:
        size = sum(tensor.nbytes for tensor in report.tensors) - sum(tensor.nbytes for tensor in listed)
        rows.append((f"and {rest} more", "", "", "", format_bytes(size, view.units), f"{size:,}"))
    total = sum(tensor.nbytes for tensor in report.tensors)
    return Table(
        title, ("tensor", "shape", "dtype", "role", "size", "bytes"), tuple(rows), frozenset({"size", "bytes"}),
        ("sum", "", "", "", format_bytes(total, view.units), f"{total:,}"),
    )  # fmt: skip


def details(report: Estimate, units: Units) -> Lines:
    """What the format tells beyond the graph."""
    return Lines(
        "Details",
        tuple(
            f"{detail.name}: {detail.text}"
            + ("" if detail.nbytes is None else f", {format_exact(detail.nbytes, units)}")
            for detail in report.details
        ),
    )


LAYER_COLUMNS = (
    "step", "layer", "operator", "kernel", "stride", "input", "output", "parameters", "weights", "bytes", "times",
)  # fmt: skip


def layers(report: Estimate, view: View) -> Table:
    """The layer table; repeated blocks once with how often they stand, or the largest rows."""
    table = report.layer_table
    rows: list[tuple[str, ...]] = []
    if view.top is not None:
        largest = sorted(table.rows, key=lambda row: -(row.nbytes if row.nbytes is not None else -1))[: view.top]
        rows = [_compact(_layer_cells(row, ""), view) for row in largest]
        title = f"The {len(largest)} largest of {len(table.rows)} layers"
    elif view.depth is not None:
        modules = _modules(table.rows, view.depth)
        rows = [_compact(_module_cells(name, members), view) for name, members in modules]
        title = f"Modules, {view.depth} deep ({len(modules)} of {len(table.rows)} operators)"
    else:
        for group in table.groups:
            for offset in range(group.count):
                times = f"x{group.times}" if group.times > 1 else ""
                rows.append(_compact(_layer_cells(table.rows[group.first + offset], times), view))
        title = f"Layers ({len(table.rows)}; repeated blocks once)"
    counted = sum(1 for row in table.rows if row.nbytes is not None)
    weights = sum(row.weight_bytes for row in table.rows)
    count = sum(row.parameters for row in table.rows)
    total = (
        "", f"sum over {counted} counted layers", "", "", "", "", "", f"{count:,}", f"{weights:,}",
        f"{table.sum_bytes:,}", "",
    )  # fmt: skip
    title += (
        f": bytes = {table.formula} [{table.convention}]; "
        f"max {format_exact(table.max_bytes, view.units)} at {table.max_at or 'none'}"
    )
    return Table(
        title, _compact(LAYER_COLUMNS, view), tuple(rows),
        frozenset({"step", "parameters", "weights", "bytes", "times"}), _compact(total, view),
    )  # fmt: skip


def _modules(rows: Sequence[LayerRow], depth: int) -> list[tuple[str, list[LayerRow]]]:
    """Runs of rows that belong to one module, the path cut at `depth` parts."""
    found: list[tuple[str, list[LayerRow]]] = []
    for row in rows:
        name = "/".join(row.scope.split("/")[:depth]) if row.scope else row.name
        if found and found[-1][0] == name:
            found[-1][1].append(row)
        else:
            found.append((name, [row]))
    return found


def _module_cells(name: str, members: Sequence[LayerRow]) -> tuple[str, ...]:
    first, last = members[0], members[-1]
    counted = [row.nbytes for row in members if row.nbytes is not None]
    operator = first.op_type if len(members) == 1 else f"{len(members)} operators"
    return (
        f"{first.step}" if len(members) == 1 else f"{first.step}..{last.step}", name, operator,
        first.kernel if len(members) == 1 else "", first.stride if len(members) == 1 else "", first.input, last.output,
        f"{sum(row.parameters for row in members):,}", f"{sum(row.weight_bytes for row in members):,}",
        f"{sum(counted):,}" if counted else "", "",
    )  # fmt: skip


COMPACT_COLUMNS = ("layer", "kernel", "input", "output", "weights", "bytes", "times")


def _compact(cells: tuple[str, ...], view: View) -> tuple[str, ...]:
    if not view.compact:
        return cells
    return tuple(cell for name, cell in zip(LAYER_COLUMNS, cells, strict=True) if name in COMPACT_COLUMNS)


def _layer_cells(row: LayerRow, times: str) -> tuple[str, ...]:
    return (
        str(row.step), row.name, row.op_type, row.kernel, row.stride, row.input, row.output,
        f"{row.parameters:,}", f"{row.weight_bytes:,}", "" if row.nbytes is None else f"{row.nbytes:,}", times,
    )  # fmt: skip


def conventions(report: Estimate, view: View) -> Table:
    """Every named definition of memory side by side."""
    columns = 4 if view.compact else 6
    rows = tuple(
        (
            value.name,
            format_bytes(value.nbytes, view.units),
            f"{'>= ' if value.kind == 'lower bound' else ''}{value.nbytes:,}",
            value.formula,
            value.source,
            value.at,
        )[:columns]
        for value in report.conventions
    )
    return Table(
        "Conventions: which memory is meant",
        ("convention", "size", "bytes", "formula", "used by", "at")[:columns],
        rows,
        frozenset({"size", "bytes"}),
    )


def budget(report: Estimate, units: Units) -> Lines:
    """Whether the budget holds."""
    assert report.budget is not None
    item = report.budget
    verdict = "fits, headroom" if item.fits else "does not fit, short of"
    if item.fits and report.kind == "lower bound":
        verdict = "not proved to fit (lower bound), headroom at most"
    return Lines(
        "Budget",
        (
            f"{format_exact(item.limit_bytes, units)} allowed, {format_exact(item.needed_bytes, units)} needed: "
            f"{verdict} {format_exact(abs(item.headroom_bytes), units)}",
        ),
    )


def unknowns(report: Estimate) -> Lines:
    """What could not be told, or that nothing is missing but the workspace."""
    workspace = "workspace of the operators (im2col, packing, tiles): depends on the engine"
    if not report.unknowns:
        return Lines("Unknown", (workspace,))
    many: list[str] = []
    listed = report.unknowns[:20]
    for item in listed:
        hint = f"; try {item.hint}" if item.hint else ""
        many.append(f"{item.op_type} {item.operator}: {item.reason}{hint}")
    if len(report.unknowns) > len(listed):
        many.append(f"and {len(report.unknowns) - len(listed)} more (all of them in --json)")
    if report.peak.activations_known:
        many.append(workspace)
    count = f"{len(report.unknowns)} {'cause' if len(report.unknowns) == 1 else 'causes'}"
    return Lines(f"Unknown ({count}; sizes are lower bounds)", tuple(many))
