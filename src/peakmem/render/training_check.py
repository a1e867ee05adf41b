"""A verified training step as titled tables of strings: the verdict, phases, categories, differences, the process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from peakmem.render.blocks import Block, Lines, Table
from peakmem.report.training_check import Top, TrainingCheck
from peakmem.units import Units, format_bytes, format_exact

SIZES = ("predicted", "measured", "difference")


@dataclass(frozen=True, slots=True)
class View:
    """What to show."""

    units: Units = "iec"


def blocks(report: TrainingCheck, view: View) -> list[Block]:
    """The blocks of `report` in reading order."""
    title = f"{report.name}, {report.steps} training steps on {report.device}, predicted and run"
    shown: list[Block] = [Lines(title, tuple(_headline(report, view))), _phases(report), _categories(report)]
    if report.differences:
        shown.append(_differences(report))
    if report.partings:
        shown.append(_partings(report))
    if report.process:
        shown.append(_process(report, view))
    shown.append(Lines("How it was done", tuple(_how(report))))
    return shown


def _headline(report: TrainingCheck, view: View) -> Iterator[str]:
    yield f"measured: {format_exact(report.measured.nbytes, view.units)} of tensors, {_where(report.measured)}"
    yield f"predicted: {format_exact(report.predicted.nbytes, view.units)}, {_where(report.predicted)}"
    off = report.predicted.nbytes - report.measured.nbytes
    if not off:
        yield "they are equal to the byte"
    else:
        side = "too low" if off < 0 else "too high"
        yield f"predicted {side} by {abs(off):,} B, {report.error:+.4%} of what was measured"
    if report.bound_bytes > report.predicted.nbytes:
        held = "was not exceeded" if report.bound_bytes >= report.measured.nbytes else "WAS EXCEEDED"
        yield f"the bound of the prediction, {format_exact(report.bound_bytes, view.units)}, {held}"
    for name, nbytes in report.allocator.items():
        yield f"{name}: {format_exact(nbytes, view.units)}"


def _where(top: Top) -> str:
    operator = f" at {top.operator}" if top.operator else ""
    module = f" of {top.module}" if top.module else ""
    return f"in the {top.phase} of step {top.step}{operator}{module}"


def _phases(report: TrainingCheck) -> Table:
    rows = tuple(
        (
            "" if one.step < 0 else str(one.step), one.phase, f"{one.predicted_bytes:,}", f"{one.measured_bytes:,}",
            f"{one.measured_bytes - one.predicted_bytes:+,}", f"{one.error:+.4%}",
        )
        for one in report.phases
    )  # fmt: skip
    columns = (*SIZES, "error")
    return Table("The highest moment of each phase, bytes", ("step", "phase", *columns), rows, frozenset(columns))


def _categories(report: TrainingCheck) -> Table:
    rows = tuple(
        (
            one.category, f"{one.predicted_bytes:,}", f"{one.measured_bytes:,}",
            f"{one.measured_bytes - one.predicted_bytes:+,}",
        )
        for one in report.categories
        if one.predicted_bytes or one.measured_bytes
    )  # fmt: skip
    off = report.measured.nbytes - report.predicted.nbytes
    total = ("total", f"{report.predicted.nbytes:,}", f"{report.measured.nbytes:,}", f"{off:+,}")
    return Table("Alive at the peak, bytes", ("category", *SIZES), rows, frozenset(SIZES), total)


def _differences(report: TrainingCheck) -> Table:
    rows: tuple[tuple[str, ...], ...] = tuple(
        (
            one.category, one.operator or one.name, one.module, f"{one.predicted_bytes:,}", f"{one.measured_bytes:,}",
            f"{one.measured_bytes - one.predicted_bytes:+,}",
        )
        for one in report.differences
    )  # fmt: skip
    if report.unnamed_bytes:
        rows = (*rows, ("the rest", "", "", "", "", f"{report.unnamed_bytes:+,}"))
    columns = ("category", "operator or parameter", "module", *SIZES)
    return Table("What differs at the peak, bytes", columns, rows, frozenset(SIZES))


def _partings(report: TrainingCheck) -> Table:
    rows = tuple(
        (
            one.kind, str(one.step), one.phase, one.operator, one.module, f"{one.predicted_bytes:,}",
            f"{one.measured_bytes:,}",
        )
        for one in report.partings
    )  # fmt: skip
    columns = ("what", "step", "phase", "operator", "module", "predicted", "measured")
    title = f"Where they part, in order ({report.partings_in_all:,} storages in all)"
    return Table(title, columns, rows, frozenset(("step", "predicted", "measured")))


def _process(report: TrainingCheck, view: View) -> Table:
    rows = tuple(
        (
            "" if one.step < 0 else str(one.step), one.phase, format_bytes(one.peak_bytes, view.units),
            f"{one.peak_bytes:,}", format_bytes(one.resident_bytes, view.units),
        )
        for one in report.process
    )  # fmt: skip
    columns = ("VmHWM", "bytes", "VmRSS at the end")
    return Table("The process, without the profiler", ("step", "phase", *columns), rows, frozenset(columns))


def _how(report: TrainingCheck) -> Iterator[str]:
    at = report.machine
    versions = ", ".join(f"{name} {value}" for name, value in report.versions.items())
    yield f"{at.processor}, {at.cpus} processors, kernel {at.kernel}, {at.libc}, Python {at.python}; {versions}"
    yield "predicted: the step traced on tensors without memory"
    if report.device == "cpu":
        yield "measured: the allocator's events under torch's profiler, started before the model, in its own process"
    else:
        yield "measured: the caching allocator's events and history, from before the model, in a process of its own"
    if report.process:
        yield "the process: another one, without the profiler, looked at from outside at the end of each phase"
    yield from report.notes
