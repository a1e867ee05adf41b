"""A reconciliation as titled tables of strings: the verdict, the waterfall, the phases, what the engine says itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from peakmem.engines.bands import Band
from peakmem.render.blocks import Block, Lines, Table
from peakmem.render.measurement import words
from peakmem.render.prediction import band_words, categories, how
from peakmem.report.reconciliation import Reconciliation
from peakmem.units import Units, format_bytes, format_exact


@dataclass(frozen=True, slots=True)
class View:
    """What to show."""

    units: Units = "iec"


def blocks(report: Reconciliation, view: View) -> list[Block]:
    """The blocks of `report` in reading order."""
    one = report.predicted
    title = f"{report.name} on {one.engine} {one.installed}, {words(one.chosen)}"
    shown: list[Block] = [Lines(title, tuple(_headline(report, view)))]
    if report.reasons:
        sentences = tuple(f"{place}. {text}" for place, text in enumerate(report.reasons, 1))
        shown.append(Lines("Why it is more than weights + live peak", sentences))
    if report.stairs:
        shown.append(_waterfall(report))
    if report.lines:
        shown.append(_phases(report))
    shown.append(categories(one, view.units))
    if report.oracles:
        rows = tuple(
            (it.name, f"{it.predicted:,}", f"{it.told:,}", f"{it.told - it.predicted:+,}") for it in report.oracles
        )
        columns = ("predicted", "told", "difference")
        shown.append(Table(f"What {one.engine} says itself", ("figure", *columns), rows, frozenset(columns)))
    if one.unmodelled:
        rows_missing = tuple(
            (it.what, f"{it.nbytes:,}" if it.nbytes else "not known", it.reason) for it in one.unmodelled
        )
        columns_missing = ("what", "bytes at most", "why")
        shown.append(Table("No rule for", columns_missing, rows_missing, frozenset({"bytes at most"})))
    shown.append(Lines("How it was done", tuple(_how(report))))
    return shown


def _headline(report: Reconciliation, view: View) -> Iterator[str]:
    if report.status != "ok":
        yield f"predicted and not measured: {report.status}, {report.reason}"
        return
    if report.account is None:
        yield "the process could not be accounted for: see the phases"
        return
    at = report.account
    when = "within" if at.transient else "at the end of"
    n = report.resident.n if report.resident else 1
    yield (
        f"resident peak {format_exact(at.resident_bytes, view.units)}, {when} {at.phase}; of it "
        f"{format_exact(at.anonymous_bytes, view.units)} anonymous [measurement, n={n}]"
    )
    share = report.remainder_bytes / at.anonymous_bytes
    yield (
        f"heap of the model: measured {report.remainder_bytes:+,} B against the prediction, {share:+.2%} of anonymous "
        "memory"
    )
    yield f"explained: {report.explained:.2%} of anonymous memory; {report.unexplained_bytes:,} B are not"
    if report.predicted.baseline is not None:
        yield f"foreseen without running it, by the known baseline and the profile: {report.foreseen:.2%} of it"


def _waterfall(report: Reconciliation) -> Table:
    rows, running = [], 0
    for stair in report.stairs:
        running = stair.nbytes if stair.total else running + stair.nbytes
        added = "" if stair.total else f"{stair.nbytes:+,}"
        rows.append((f"= {stair.name}" if stair.total else stair.name, added, f"{running:,}", stair.source, stair.what))
    columns = ("bytes", "running sum")
    return Table(
        "From the parameters to the process", ("stair", *columns, "by", "what"), tuple(rows), frozenset(columns)
    )


def _phases(report: Reconciliation) -> Table:
    rows = tuple(
        (
            line.phase, line.figure, f"{line.predicted_bytes:,}", f"{line.measured_bytes:,}",
            f"{line.remainder_bytes:+,}",
            f"{line.remainder_bytes / line.measured_bytes:+.3%}" if line.measured_bytes else "",
            band_words(band) if (band := _band(report, line.phase, line.figure)) else "not measured",
        )
        for line in report.lines
    )  # fmt: skip
    columns = ("predicted", "measured", "remainder", "of measured")
    title = "Heap above the engine's own, phase by phase"
    return Table(title, ("phase", "figure", *columns, "band of the profile"), rows, frozenset(columns))


def _band(report: Reconciliation, phase: str, figure: str) -> Band | None:
    return next(
        (
            band
            for band in report.predicted.bands
            if (band.phase, band.figure, band.group) == (phase, figure, "untouched")
        ),
        None,
    )


def _how(report: Reconciliation) -> Iterator[str]:
    at = report.machine
    yield f"{at.processor}, {at.cpus} processors, kernel {at.kernel}, {at.libc}, Python {at.python}"
    if report.resident is not None:
        low, high = format_bytes(report.resident.min), format_bytes(report.resident.max)
        yield f"resident peak over {report.resident.n} plain processes: {low} to {high}; the account is of the median"
    yield "predicted: the engine's profile; measured: one process with the allocation counter, the rest from plain ones"
    yield from how([report.predicted])
    yield from report.notes
