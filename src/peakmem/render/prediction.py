"""Predictions as titled tables of strings: the engines first, then each one's categories, then what is not known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from peakmem.engines.bands import Band
from peakmem.engines.prediction import CATEGORIES
from peakmem.render.blocks import Block, Lines, Table
from peakmem.render.measurement import words
from peakmem.report.prediction import Candidate, Predictions
from peakmem.units import Units, format_bytes, format_exact

MOST_SHOWN = 2
# candidates whose categories are shown unasked
COLUMNS = ("load peak", "after load", "run 1 peak", "after run 1", "steady peak", "steady")


@dataclass(frozen=True, slots=True)
class View:
    """What to show."""

    units: Units = "iec"
    every: bool = False
    # the categories of every candidate


def blocks(report: Predictions, view: View) -> list[Block]:
    """The blocks of `report` in reading order."""
    shown: list[Block] = [Lines(report.name, tuple(_headline(report, view)))]
    good = [one for one in report.candidates if one.outcome == "predicted"]
    if len(good) > 1:
        shown.append(_engines(report, good, view))
    for one in good if view.every or len(good) <= MOST_SHOWN else ():
        shown += _one(one, view)
    refused = [one for one in report.candidates if one.outcome != "predicted"]
    if refused:
        rows = tuple((one.engine, words(one.chosen), str(one.outcome), one.reason) for one in refused)
        shown.append(Table("Not predicted", ("engine", "settings", "outcome", "reason"), rows))
    missing = [(one.engine, words(one.chosen), lack) for one in good for lack in one.unmodelled]
    if missing:
        lacks = tuple(
            (name, text, lack.what, f"{lack.nbytes:,}" if lack.nbytes else "not known", lack.reason)
            for name, text, lack in missing
        )
        columns = ("engine", "settings", "what", "bytes at most", "why")
        shown.append(Table("No rule for", columns, tuple(dict.fromkeys(lacks)), frozenset({"bytes at most"})))
    shown.append(Lines("How it was predicted", tuple(_how(report, good))))
    return shown


def band_words(band: Band) -> str:
    """`0.9980–1.0021 of what was measured, median 0.9999 (n=63, networks never looked at)`."""
    return (
        f"{band.min:.4f}–{band.max:.4f} of what was measured, median {band.median:.4f} (n={band.n}, "
        f"{'networks never looked at' if band.group == 'untouched' else 'networks the rules were written with'})"
    )


def _headline(report: Predictions, view: View) -> Iterator[str]:
    good = [one for one in report.candidates if one.outcome == "predicted"]
    if report.within_bytes is not None:
        limit = format_exact(report.within_bytes, view.units)
        fits = report.fitting
        known = [one for one in good if one.process_bytes is not None]
        if fits:
            first = fits[0]
            what = "" if first.baseline is not None else " of arena"
            yield (
                f"{len(fits)} of {len(known)} choices hold it in {limit}; the smallest is {first.engine} "
                f"{words(first.chosen)}: {format_exact(first.process_bytes or 0, view.units)}{what} [{first.kind}]"
            )
        elif known:
            yield f"none of {len(known)} choices holds it in {limit}"
        unknown = sorted({one.engine for one in good if one.process_bytes is None})
        if unknown:
            yield f"not judged, because a process of theirs without a model was not measured: {', '.join(unknown)}"
    elif good:
        one = good[0]
        yield (
            f"{one.engine} {words(one.chosen)}: heap {format_exact(one.heap_peak_bytes, view.units)} above the "
            f"engine's own, in phase {one.peak_phase} [{one.kind}]"
        )
        if one.low_bytes is not None and one.high_bytes is not None:
            low, high = format_bytes(one.low_bytes, view.units), format_bytes(one.high_bytes, view.units)
            yield f"between {low} and {high} if it is like the networks the profile was measured with"
        if one.process_bytes is not None and one.baseline is not None:
            yield (
                f"process, anonymous memory: {format_exact(one.process_bytes, view.units)}, with a baseline of "
                f"{format_bytes(one.baseline.anonymous_bytes, view.units)} measured with version "
                f"{one.baseline.version}, {one.baseline.python}"
            )
        elif one.process_bytes is not None:
            yield f"smallest arena that runs: {format_exact(one.process_bytes, view.units)}"
    if report.weights_bytes is not None and report.live_peak_bytes is not None:
        total = report.weights_bytes + report.live_peak_bytes
        yield (
            f"by hand: weights {report.weights_bytes:,} B + live peak {report.live_peak_bytes:,} B = "
            f"{format_exact(total, view.units)} [estimate, fused]"
        )


def _engines(report: Predictions, good: list[Candidate], view: View) -> Table:
    ordered = good if report.within_bytes is None else sorted(good, key=lambda one: one.process_bytes or 1 << 62)
    rows = tuple(
        (
            one.engine, words(one.chosen), *(_size(nbytes, view) for nbytes in _phases(one)),
            "not measured" if one.low_bytes is None else f"{_size(one.low_bytes, view)}–{_size(one.high_bytes, view)}",
            _size(one.process_bytes, view), one.kind, str(len(one.unmodelled) or ""),
        )
        for one in ordered
    )  # fmt: skip
    title = "What each holds above the engine's own heap"
    columns = ("engine", "settings", *COLUMNS, "peak lies in", "process", "kind", "without rule")
    return Table(title, columns, rows, frozenset((*COLUMNS, "process", "without rule")))


def _phases(one: Candidate) -> Iterator[int | None]:
    for moment in one.moments:
        yield moment.peak_bytes
        yield moment.live_bytes


def _size(nbytes: int | None, view: View) -> str:
    return "" if nbytes is None else format_bytes(nbytes, view.units)


def _one(one: Candidate, view: View) -> Iterator[Block]:
    title = f"{one.engine} {words(one.chosen)}"
    yield categories(one, view.units)
    parts = [
        (moment.phase, part.category, f"{part.nbytes:,}", part.what)
        for moment in one.moments
        if moment.phase == one.peak_phase
        for part in sorted(moment.peak, key=lambda part: -part.nbytes)
        if part.nbytes
    ]
    at = next(moment.peak_at for moment in one.moments if moment.phase == one.peak_phase)
    title_at = f"At the peak of {title}, in {one.peak_phase}{f' at {at}' if at else ''}"
    yield Table(title_at, ("phase", "category", "bytes", "what"), tuple(parts), frozenset({"bytes"}))
    outside = [
        (moment.phase, part.category, f"{part.nbytes:,}", part.what)
        for moment in one.moments
        for part in moment.outside
    ]
    if outside:
        columns = ("phase", "category", "bytes", "what")
        yield Table(f"Outside the heap of {title}", columns, tuple(outside), frozenset({"bytes"}))
    if one.details:
        rows_told = tuple((name, f"{nbytes:,}") for name, nbytes in one.details.items())
        yield Table(f"What {one.engine} itself would say", ("figure", "value"), rows_told, frozenset({"value"}))


def categories(one: Candidate, units: Units) -> Table:
    """What each category holds in each phase."""
    sums = [{side: _sums(getattr(moment, side)) for side in ("peak", "live")} for moment in one.moments]
    present = [name for name in CATEGORIES if any(name in side for moment in sums for side in moment.values())]
    rows = tuple(
        (name, *(format_bytes(moment[side].get(name, 0), units) for moment in sums for side in ("peak", "live")))
        for name in present
    )
    total = ("sum", *(format_bytes(nbytes or 0, units) for nbytes in _phases(one)))
    title = f"Heap of {one.engine} {words(one.chosen)} by category, predicted"
    return Table(title, ("category", *COLUMNS), rows, frozenset(COLUMNS), total)


def _sums(parts: tuple[object, ...]) -> dict[str, int]:
    from peakmem.engines.prediction import Holding

    found: dict[str, int] = {}
    for part in parts:
        assert isinstance(part, Holding)
        found[part.category] = found.get(part.category, 0) + part.nbytes
    return found


def _how(report: Predictions, good: list[Candidate]) -> Iterator[str]:
    chip = report.processor
    yield (
        f"for {chip.architecture}, {chip.cores} cores, caches {chip.l1_data_bytes:,} / {chip.l2_bytes:,} / "
        f"{chip.l3_bytes:,} B, {' '.join(sorted(chip.features)) or 'no features told'}"
    )
    yield "heap: what is asked of the allocator above the engine's own, loaded and without a model"
    yield from how(good)
    yield from report.notes


def how(good: list[Candidate]) -> Iterator[str]:
    """Bands, notes and baselines of the candidates, each once."""
    said: dict[str, None] = {}
    for one in good:
        for band in one.bands:
            if band.phase == one.peak_phase and band.figure == "peak":
                said[f"{one.engine}, peak of {band.phase}: predicted {band_words(band)}"] = None
        if not one.bands:
            said[f"{one.engine}: the profile was not measured with these settings on such a processor"] = None
        said.update(dict.fromkeys(f"{one.engine} {words(one.chosen)}: {note}" for note in one.notes))
        if one.baseline is not None:
            said[
                f"{one.engine} {one.baseline.version}: baseline {one.baseline.anonymous_bytes:,} B anonymous, "
                f"{one.baseline.file_bytes:,} B of files [measurement, n={one.baseline.n}, {one.baseline.python}]"
            ] = None
    yield from said
