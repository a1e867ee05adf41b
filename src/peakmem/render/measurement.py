"""A measurement as titled tables of strings: the matrix first, then phases, then what was done and where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from peakmem.measuring.engine import said
from peakmem.measuring.record import Cell, Mark, Measurement, Row, Run, Value
from peakmem.render.blocks import Block, Lines, Table
from peakmem.units import Units, format_bytes, format_exact

COLUMNS = (
    ("peak_resident", "peak resident"),
    ("peak_above_baseline", "above baseline"),
    ("peak_virtual", "peak virtual"),
    ("steady_anonymous", "anonymous"),
    ("load_heap_peak", "heap, load peak"),
    ("load_heap", "heap, loaded"),
    ("runs_heap_peak", "heap, runs peak"),
    ("steady_heap", "heap, steady"),
)
# figure of a row, and what its column is called
OF_THE_PROCESS = ("network", "addresses")
# facts of the harness, not of the engine


@dataclass(frozen=True, slots=True)
class View:
    """What is shown."""

    units: Units = "iec"
    phases: bool = False
    # every mark of every cell
    buckets: bool = False
    # the resident set of each mark by kind of mapping
    libraries: bool = False
    # who asked for the heap at its peak


def blocks(report: Measurement, view: View) -> list[Block]:
    """The blocks of `report` in reading order."""
    shown: list[Block] = [Lines(report.name, tuple(_headline(report, view)))]
    measured = [one for one in report.rows if one.figures]
    if measured:
        shown.append(_matrix(measured, view))
        shown.append(_spread(measured))
        differences = _differences(measured)
        if differences.rows:
            shown.append(differences)
    failed = [one for one in report.rows if one.status != "ok" or one.reason]
    if failed:
        shown.append(
            Table(
                "Not measured",
                ("engine", "settings", "outcome", "phase", "reason"),
                tuple((one.engine, words(one.chosen), one.status, one.phase, one.reason) for one in failed),
            )
        )
    for cell in report.cells if view.phases else ():
        shown += _phases(cell, view)
    for cell in report.cells if view.buckets else ():
        shown += _buckets(cell, view)
    for cell in report.cells if view.libraries else ():
        shown += _libraries(cell)
    for cell in report.cells:
        shown += _timeline(cell, view)
    said = [line for cell in report.cells for line in _facts(cell)]
    if said:
        shown.append(Table("What the engines say", ("engine", "settings", "fact", "value"), tuple(dict.fromkeys(said))))
    steps = [
        (cell.engine, step.tool, step.target, format_exact(step.nbytes, view.units), "kept" if step.kept else "new")
        for cell in report.cells
        for step in cell.steps
    ]
    if steps:
        shown.append(Table("Conversions", ("engine", "tool", "file", "size", ""), tuple(dict.fromkeys(steps))))
    shown.append(Lines("How it was measured", tuple(_how(report))))
    return shown


def words(chosen: Mapping[str, Value]) -> str:
    """The settings of a cell as they are typed."""
    return " ".join(f"{name}={said(value)}" for name, value in chosen.items()) or "defaults"


def _headline(report: Measurement, view: View) -> Iterator[str]:
    for one in report.rows:
        top = one.figures.get("peak_resident")
        if top is not None:
            heap = one.figures.get("heap_peak")
            text = f"{one.engine} {one.version} {words(one.chosen)}: {format_exact(top.median, view.units)} resident"
            text += f" at the peak, in phase {one.peak_phase}"
            if heap is not None:
                text += f"; heap {format_exact(heap.median, view.units)} above the engine's own"
            yield f"{text} [measurement, n={top.n}]"
            return
    yield "nothing was measured"


def _matrix(rows: Sequence[Row], view: View) -> Table:
    present = [(name, title) for name, title in COLUMNS if any(name in one.figures for one in rows)]
    return Table(
        "Matrix, medians",
        ("engine", "settings", *(title for _, title in present), "peak in"),
        tuple(
            (one.engine, words(one.chosen), *(_size(one, name, view) for name, _ in present), one.peak_phase)
            for one in rows
        ),
        frozenset(title for _, title in present),
    )


def _size(one: Row, name: str, view: View) -> str:
    spread = one.figures.get(name)
    return "" if spread is None else format_bytes(spread.median, view.units)


def _spread(rows: Sequence[Row]) -> Table:
    kept = ("peak_resident", "peak_virtual", "steady_anonymous", "steady_in_use")
    return Table(
        "Spread over processes",
        ("engine", "settings", "figure", "n", "min", "median", "max"),
        tuple(
            (
                one.engine, words(one.chosen), name.replace("_", " "), str(spread.n), f"{spread.min:,}",
                f"{spread.median:,}", f"{spread.max:,}",
            )
            for one in rows
            for name in kept
            if (spread := one.figures.get(name)) is not None
        ),
        frozenset({"n", "min", "median", "max"}),
    )  # fmt: skip


def _differences(rows: Sequence[Row]) -> Table:
    """Each row against the first row of its engine."""
    first: dict[str, Row] = {}
    lines = []
    names = [(name, title) for name, title in COLUMNS if any(name in one.figures for one in rows)]
    for one in rows:
        base = first.setdefault(one.engine, one)
        if base is one:
            continue
        changes = (_change(base, one, name) for name, _ in names)
        lines.append((one.engine, words(one.chosen), words(base.chosen), *changes))
    return Table(
        "Differences, bytes",
        ("engine", "settings", "against", *(title for _, title in names)),
        tuple(lines),
        frozenset(title for _, title in names),
    )


def _change(base: Row, one: Row, name: str) -> str:
    a, b = base.figures.get(name), one.figures.get(name)
    return "" if a is None or b is None else f"{b.median - a.median:+,}"


def _shown(cell: Cell, *, instrumented: bool) -> Run | None:
    """The run that stands for the cell: its first good one of the kind, else the first that came anywhere."""
    runs = [run for run in cell.runs if run.instrumented == instrumented and run.marks]
    return next((run for run in runs if run.outcome.status == "ok"), runs[0] if runs else None)


def _phases(cell: Cell, view: View) -> Iterator[Table]:
    plain, counted = _shown(cell, instrumented=False), _shown(cell, instrumented=True)
    marks: list[Mark] = list((plain or counted or Run(False, cell.runs[0].outcome, (), {})).marks)
    if not marks:
        return
    heap = {mark.phase: mark.counted for mark in (counted.marks if counted else ()) if mark.counted}
    vm = ("VmHWM", "VmRSS", "RssAnon", "RssFile", "VmPeak")
    rows = []
    for mark in marks:
        account = heap.get(mark.phase)
        rows.append(
            (
                mark.phase,
                *(format_bytes(mark.vm[name], view.units) if name in mark.vm and plain else "" for name in vm),
                format_bytes(mark.heap.in_use_bytes, view.units) if mark.heap and plain else "",
                format_bytes(mark.heap.held_free_bytes, view.units) if mark.heap and plain else "",
                format_bytes(account.live_bytes, view.units) if account else "",
                format_bytes(account.peak_bytes, view.units) if account else "",
            )
        )
    columns = (*vm, "heap in use", "held free", "heap live", "heap peak")
    yield Table(f"Phases of {cell.engine} {words(cell.chosen)}", ("phase", *columns), tuple(rows), frozenset(columns))


def _buckets(cell: Cell, view: View) -> Iterator[Table]:
    plain = _shown(cell, instrumented=False)
    if plain is None:
        return
    names = list(dict.fromkeys(name for mark in plain.marks for name in mark.buckets))
    yield Table(
        f"Resident pages of {cell.engine} {words(cell.chosen)}",
        ("kind of mapping", *(mark.phase for mark in plain.marks)),
        tuple(
            (
                name,
                *(
                    format_bytes(mark.buckets[name].rss_bytes, view.units) if name in mark.buckets else ""
                    for mark in plain.marks
                ),
            )
            for name in names
        ),
        frozenset(mark.phase for mark in plain.marks),
    )


def _libraries(cell: Cell) -> Iterator[Table]:
    counted = _shown(cell, instrumented=True)
    if counted is None:
        return
    rows = [
        (mark.phase, share.library, f"{share.at_peak_bytes:,}", f"{share.live_bytes:,}")
        for mark in counted.marks
        if mark.counted is not None
        for share in mark.counted.libraries
    ]
    columns = ("bytes at the peak", "bytes at the end")
    yield Table(
        f"Who asked for the heap of {cell.engine} {words(cell.chosen)}", ("phase", "library", *columns), tuple(rows),
        frozenset(columns),
    )  # fmt: skip


def _timeline(cell: Cell, view: View) -> Iterator[Block]:
    counted = _shown(cell, instrumented=True)
    if counted is None or counted.timeline is None:
        return
    line = counted.timeline
    peak = line.peak
    title = f"Timeline of {cell.engine} {words(cell.chosen)}, {line.phase}"
    parts = (
        ("activations and inputs", peak.activation_bytes), ("workspace", peak.workspace_bytes),
        ("other", peak.other_bytes),
    )  # fmt: skip
    yield Lines(
        title,
        (
            f"peak: {format_exact(line.peak_bytes, view.units)} made by the run and its inputs, at {peak.operator}"
            f" ({peak.op_type}), step {peak.step} of 0..{len(line.timeline) - 1} [measurement, n=1]",
            "of it: " + ", ".join(f"{name} {nbytes:,} B" for name, nbytes in parts),
            f"beside it: weights {peak.weights_bytes:,} B, standing since before the run {peak.standing_bytes:,} B",
            f"Python's own: {line.python_bytes:,} B, mappings: {line.mapped_bytes:,} B, in no other figure",
            *line.notes,
        ),
    )
    columns = ("live", "peak", "workspace")
    yield Table(
        "Live bytes, operator by operator",
        ("step", "operator", "op type", *columns),
        tuple(
            (
                str(point.step), point.operator, point.op_type, f"{point.live_bytes:,}", f"{point.peak_bytes:,}",
                f"{point.workspace_bytes:,}",
            )
            for point in line.timeline
        ),
        frozenset(("step", *columns)),
    )  # fmt: skip
    yield Table(
        "Alive at the measured peak",
        ("block", "shape", "dtype", "role", "bytes", "made by", "live range", "library"),
        tuple(
            (
                block.name, block.shape, block.dtype, block.role, f"{block.nbytes:,}", block.made_by,
                f"[{block.start}, {block.stop})", block.library,
            )
            for block in peak.alive
        ),
        frozenset({"bytes"}),
    )  # fmt: skip


def _facts(cell: Cell) -> Iterator[tuple[str, str, str, str]]:
    run = _shown(cell, instrumented=False) or _shown(cell, instrumented=True)
    for name, value in (run.facts if run else {}).items():
        if name not in OF_THE_PROCESS:
            yield cell.engine, words(cell.chosen), name, value if len(value) <= 200 else value[:200] + " …"


def _how(report: Measurement) -> Iterator[str]:
    at = report.machine
    yield f"{at.processor}, {at.cpus} processors, kernel {at.kernel}, {at.libc}, Python {at.python}"
    plain = max((sum(not run.instrumented for run in cell.runs) for cell in report.cells), default=0)
    counted = max((sum(run.instrumented for run in cell.runs) for cell in report.cells), default=0)
    yield f"{plain} processes a cell for resident figures, {counted} with the allocation counter for the heap"
    for name in OF_THE_PROCESS:
        told = {run.facts[name] for cell in report.cells for run in cell.runs if name in run.facts}
        yield from (f"{name}: {text}" for text in sorted(told))
    used = {
        (one.name, "x".join(map(str, one.shape)), one.dtype, one.source)
        for cell in report.cells
        for run in cell.runs
        for one in run.inputs
    }
    yield from (f"input {name}: {shape} {dtype}, {source}" for name, shape, dtype, source in sorted(used))
    yield "baseline: the engine imported, no model loaded (phase import of the same process)"
    yield "resident is what the kernel counts (VmHWM, reset at each phase); heap is what was asked of the allocator"
    yield from report.notes
