"""The question "where does every byte of this process come from?": one prediction and one measurement, side by side.

The same file goes to the profile and to the engine; neither knows of the other. What they do not agree on is the
remainder, with its sign.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from peakmem.delivery import Delivery, checked, choose, listed
from peakmem.engines.prediction import Category, Holding, Moment, Value
from peakmem.errors import PeakmemError, UsageError
from peakmem.measuring.account import Account, account
from peakmem.measuring.engine import Engine
from peakmem.measuring.inputs import Given
from peakmem.measuring.machine import machine
from peakmem.measuring.matrix import Effort, Plan, Progress, measure_cells, parse_settings
from peakmem.measuring.record import Cell, Run
from peakmem.measuring.summary import heap_moments, spread
from peakmem.prediction import by_hand, candidate, delivered, reading, this_processor
from peakmem.report.prediction import Candidate
from peakmem.report.reconciliation import Line, Oracle, Reconciliation, Stair

ORACLES: dict[str, dict[str, Value]] = {"ncnn": {"record_allocators": "pool"}, "onnxruntime": {"log": True}}
# what makes an engine tell more of itself; in a process of its own, since telling takes memory, too
MOST_REASONS = 3
PLACED: tuple[Category, ...] = ("activations", "inputs and outputs", "pools")
# categories that stand where the live peak of activations does in the sum by hand
PASSING = "pages of files that were resident within the phase"
ELSEWHERE = "given back, or not asked for yet, when most was resident"
_NUMBER = re.compile(r"(\d+)( B)?(,.*)?")


def reconcile(
    model: str, *, engine: str, settings: Iterable[str] = (), repeat: int = 3, runs: int = 3, batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None, dims: Mapping[str, int] | None = None,
    inputs: Sequence[str] = (), feed: str | Path | Sequence[str | Path] | None = None, timeout: float = 600.0,
    memory_limit: int = 0, cache: Path | None = None, progress: Progress | None = None,
) -> Reconciliation:  # fmt: skip
    """Predict `model` on `engine`, run it, and account for the difference.

    Args:
        engine: one name of `peakmem engines`, which must be installed.
        settings: "NAME=VALUE" each, one value.
        repeat: plain processes, for the resident set; there is one with the allocation counter beside them.
        runs: inferences a process, 3 or more: the third is what "steady" means.
        model, batch, shapes, dims, inputs, feed, timeout, memory_limit, cache, progress: see `peakmem.measure`.

    Raises:
        UsageError: an engine that is not installed or has no profile, a setting with several values, or one that the
            profile does not model.
        PeakmemError: the model cannot be read, converted or predicted.
    """
    if repeat < 1 or runs < 3:
        raise UsageError(f"--repeat {repeat}, --runs {runs}", expected="--repeat of 1 or more, --runs of 3 or more")
    checked(model, inputs, timeout, memory_limit)
    model, settings = str(model), listed(settings)
    names = [name for name in engine.split(",") if name]
    if len(names) != 1 or names == ["all"]:
        raise UsageError(f"{engine!r} is not one engine", expected="one, each is a report of its own")
    delivery = Delivery(model, batch, shapes, dims, inputs, cache, timeout)
    one = reading(choose(names)[0], delivery.kind)
    axes = parse_settings(settings, [one])[one.name]
    if any(len(values) > 1 for values in axes.values()):
        raise UsageError("a setting has several values", expected="one: a reconciliation is of one process")
    choice = {name: values[0] for name, values in axes.items()}
    plan = delivery.plan(one, choice)
    if plan.fault is not None:
        raise delivery.refused[0] if delivery.refused else PeakmemError(plan.fault.reason)
    graph = delivered(plan, inputs)
    told = candidate(one, choice, plan, graph, this_processor())
    cell, oracle = _measured(
        one, plan, choice, Effort(repeat, 1, runs, timeout, memory_limit), given(feed, shapes), progress
    )
    by = by_hand(model, batch, shapes, dims, inputs)
    report = Reconciliation(model, machine(), told, "ok", "", notes=tuple(delivery.notes))
    return _put_together(report, cell, oracle, by)


def given(feed: str | Path | Sequence[str | Path] | None, shapes: Mapping[str, Sequence[int]] | None) -> Given:
    """What the network is fed."""
    return Given(feed, {name: tuple(shape) for name, shape in (shapes or {}).items()})


def _measured(
    one: Engine, plan: Plan, choice: dict[str, Value], effort: Effort, fed: Given, progress: Progress | None
) -> tuple[Cell, Run | None]:
    """The cell, and a run in which the engine tells more of itself where it can be made to."""
    cell = measure_cells([replace(plan, choices=(choice,))], effort, given=fed, progress=progress)[0]
    asked = ORACLES.get(one.name)
    if asked is None or any(name in choice for name in asked) or int(cell.settings["threads"]) != 1:
        good = [run for run in cell.runs if run.outcome.status == "ok"]
        return cell, good[0] if good else None
    telling = replace(effort, repeat=1, counted=0)
    other = measure_cells([replace(plan, choices=({**choice, **asked},))], telling, given=fed)[0].runs[0]
    return cell, other if other.outcome.status == "ok" else None


def _put_together(
    report: Reconciliation, cell: Cell, oracle: Run | None, by: tuple[int | None, int | None]
) -> Reconciliation:
    plain = [run for run in cell.runs if run.outcome.status == "ok" and not run.instrumented]
    counted = next((run for run in cell.runs if run.outcome.status == "ok" and run.instrumented), None)
    failed = next((run.outcome for run in cell.runs if run.outcome.status != "ok"), None)
    if failed is not None and (not plain or counted is None):
        return replace(report, status=failed.status, reason=failed.reason or f"ended in phase {failed.phase}")
    lines = tuple(_lines(report.predicted, heap_moments(counted))) if counted else ()
    accounts = [(found.resident_bytes, found) for run in plain if (found := account(run, counted)) is not None]
    accounts.sort(key=lambda pair: pair[0])
    middle = accounts[(len(accounts) - 1) // 2][1] if accounts else None
    report = replace(
        report, lines=lines, oracles=tuple(_oracles(report.predicted, oracle)), account=middle,
        resident=spread(nbytes for nbytes, _ in accounts),
    )  # fmt: skip
    if middle is None or counted is None:
        return replace(report, notes=(*report.notes, "the system did not tell enough of the process for an account"))
    at = moment_of(report.predicted, middle.phase)
    held = at.peak if middle.transient else at.live
    asked = _asked(counted, middle)
    predicted = sum(part.nbytes for part in held)
    stairs = tuple(waterfall(held, by, asked, middle))
    unexplained = abs(asked - predicted) + abs(middle.remainder_bytes)
    base = report.predicted.baseline
    foreseen = (base.anonymous_bytes if base else 0) + predicted
    return replace(
        report, stairs=stairs, remainder_bytes=asked - predicted, unexplained_bytes=unexplained,
        explained=1 - unexplained / middle.anonymous_bytes, foreseen=foreseen / middle.anonymous_bytes,
        reasons=tuple(reasons(stairs)),
    )  # fmt: skip


def _lines(told: Candidate, measured: Mapping[str, tuple[int, int]]) -> Iterator[Line]:
    for moment in told.moments:
        if moment.phase in measured:
            live, peak = measured[moment.phase]
            yield Line(moment.phase, "peak", moment.peak_bytes, peak)
            yield Line(moment.phase, "live", moment.live_bytes, live)


def _oracles(told: Candidate, run: Run | None) -> Iterator[Oracle]:
    """Figures of the profile and facts of the engine that have the same name."""
    for name, predicted in (told.details or {}).items():
        fact = _NUMBER.fullmatch(run.facts.get(name, "")) if run is not None else None
        if fact is not None:
            yield Oracle(name, predicted, int(fact[1]))


def moment_of(told: Candidate, phase: str) -> Moment:
    """The predicted phase of a measured one: "run 2" and later are steady, "inputs" belongs to loading."""
    wanted = "run 1" if phase == "run 1" else "steady" if phase.startswith("run ") else "load"
    return next(moment for moment in told.moments if moment.phase == wanted)


def _asked(counted: Run, at: Account) -> int:
    """Bytes that the model had asked for at the resident peak, by the counter."""
    marks = {mark.phase: mark.counted for mark in counted.marks}
    base, top = marks["import"], marks[at.phase]
    assert base is not None
    assert top is not None
    return (top.peak_bytes if at.transient else top.live_bytes) - base.live_bytes


def waterfall(held: Sequence[Holding], by: tuple[int | None, int | None], asked: int, at: Account) -> Iterator[Stair]:
    """From the parameters to the address space, each stair with who says so.

    Args:
        held: what the profile says is held at the resident peak.
        by: weights as stored, and live peak of the fused graph; None where the model does not tell.
        asked: bytes asked for at that moment, by the counter.
        at: the account of the process.
    """
    sums: dict[str, int] = {}
    for part in held:
        sums[part.category] = sums.get(part.category, 0) + part.nbytes
    weights, live = by[0] or 0, by[1] or 0
    yield Stair("parameters", weights, "model", "as the model stores them")
    yield Stair("live peak of activations", live, "model", "by live ranges, fused")
    yield Stair("weights + live peak", weights + live, "model", total=True)
    kept = sums.get("weights", 0) + sums.get("repacked weights", 0)
    yield Stair(
        "weights, as the engine holds them", kept - weights, "prediction", _largest(held, "repacked weights", "weights")
    )
    placed = sum(sums.get(category, 0) for category in PLACED)
    yield Stair("activations, as the engine places them", placed - live, "prediction", _largest(held, *PLACED))
    for category in ("workspace", "file", "state", "objects", "allocator"):
        if sums.get(category):
            yield Stair(category, sums[category], "prediction", _largest(held, category))
    predicted = sum(sums.values())
    yield Stair("heap of the model, predicted", predicted, "prediction", total=True)
    yield Stair("unexplained", asked - predicted, "remainder", "asked for and not predicted")
    yield Stair("heap of the model, measured", asked, "counter", total=True)
    if at.transient and at.model_bytes < asked:
        yield Stair(ELSEWHERE, at.model_bytes - asked, "counter", "heap and resident set are highest at two moments")
    else:
        yield Stair("headers and rounding of blocks", at.model_bytes - asked, "process", "in use less asked for")
    for told in at.parts:
        yield Stair(told.name, told.nbytes, "process", told.source)
    if at.remainder_bytes:
        what = "pages not touched at that moment, other arenas" if at.transient else "no source tells"
        yield Stair("unexplained in the process", at.remainder_bytes, "remainder", what)
    yield Stair("anonymous memory at the peak", at.anonymous_bytes, "process", total=True)
    if at.mapped_model_bytes:
        yield Stair("pages of the mapped model", at.mapped_model_bytes, "process", "smaps")
    if at.passing_file_bytes:
        yield Stair(PASSING, at.passing_file_bytes, "process", "smaps and VmHWM: gone when the phase ended")
    files = at.resident_bytes - at.anonymous_bytes - at.mapped_model_bytes - at.passing_file_bytes
    yield Stair("pages of other files", files, "process", "text and read-only data of libraries")
    yield Stair("resident set at the peak", at.resident_bytes, "process", total=True)
    yield Stair(
        "address space that is not resident", at.virtual_bytes - at.resident_bytes, "process", "untouched or given back"
    )
    yield Stair("address space at the peak (VmPeak)", at.virtual_bytes, "process", total=True)


def _largest(held: Sequence[Holding], *categories: str) -> str:
    parts = [part for part in held if part.category in categories and part.what]
    return max(parts, key=lambda part: part.nbytes).what if parts else ""


def reasons(stairs: Sequence[Stair]) -> Iterator[str]:
    """The largest stairs between weights + live peak and the resident set, in words."""
    first = next((at for at, one in enumerate(stairs) if one.total), 0)
    last = next((at for at, one in enumerate(stairs) if one.name == "resident set at the peak"), len(stairs))
    between = [one for one in stairs[first:last] if not one.total and one.nbytes > 0]
    by_size = sorted(between, key=lambda one: -one.nbytes)
    for one in by_size[:MOST_REASONS]:
        said = WORDS.get(one.name, one.name)
        detail = f": {one.what}" if one.what and one.source == "prediction" else ""
        yield f"{one.nbytes:,} B, {said}{detail}"


WORDS = {
    "weights, as the engine holds them": "the engine keeps its weights in a larger form, or more than one copy of them",
    "activations, as the engine places them": "arenas and pools for activations take more than what is alive at once",
    "workspace": "operators need room to compute in",
    "file": "the model file stands in memory beside what was made of it",
    "objects": "the engine's own structures",
    "allocator": "rounding and headers of the engine's allocator",
    "unexplained": "asked for by the engine and not in its profile",
    "headers and rounding of blocks": "the C library rounds each block and puts a header before it",
    "data of libraries": "writable data of the loaded libraries",
    "heap before the model": "the interpreter and the engine hold heap before any model is there",
    "mappings before the model: Python's own arenas, generated code": "Python's arenas stand before any model is there",
    "given back to glibc and kept by it": "loading freed blocks that the C library does not give back to the system",
    "free in glibc's arena at that moment": "the heap has free room that no block fitted",
    "mappings that are not glibc's": "the engine maps memory beside the allocator",
    "unexplained in the process": "no source accounts for it",
    "pages of the mapped model": "the model file is mapped, and its pages are resident beside what was made of them",
    PASSING: "a file, as the model, was mapped and read through, and its pages stood beside what was made of them",
    "pages of other files": "text and read-only data of the interpreter and the engine's libraries",
}
# why a process has them
