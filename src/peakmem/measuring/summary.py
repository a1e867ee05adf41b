"""A cell in a row: its figures with their spread over processes, and what differs from the cell before.

Resident figures come from plain processes alone, heap figures of the counter from instrumented ones. "Above the
baseline" is above the mark "import" of the same process: the engine loaded and no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import median

from peakmem.measuring.record import Cell, Mark, Row, Run, Spread

LAG_BYTES = 512 * 1024
# VmHWM is up to 308 KiB below the true peak (see docs/measuring); phases closer than this are not told apart by it
FIGURES = {
    "peak_resident": "the highest VmHWM of all phases, or VmRSS at a mark where that is more",
    "peak_above_baseline": "the same, from load on, above VmRSS at the mark import",
    "peak_virtual": "VmPeak at the end",
    "baseline_resident": "VmRSS at the mark import",
    "steady_resident": "VmRSS after the last run",
    "steady_anonymous": "RssAnon after the last run",
    "load_in_use": "mallinfo2 in use after load, above the mark import",
    "steady_in_use": "mallinfo2 in use after the last run, above the mark import",
    "steady_held_free": "mallinfo2 held free after the last run",
    "load_heap": "counter: bytes live after load, above the mark import",
    "load_heap_peak": "counter: most bytes during load, above the mark import",
    "first_heap_peak": "counter: most bytes during the first run, above the mark import",
    "runs_heap_peak": "counter: most bytes during any run, above the mark import",
    "heap_peak": "counter: most bytes from load to the last run, above the mark import",
    "steady_heap": "counter: bytes live after the last run, above the mark import",
}


def spread(values: Iterable[int]) -> Spread | None:
    """n, smallest, median, largest; None for no value."""
    ordered = sorted(values)
    return Spread(len(ordered), ordered[0], int(median(ordered)), ordered[-1]) if ordered else None


def row(cell: Cell) -> Row:
    """`cell`, summed up."""
    plain = [run for run in cell.runs if run.outcome.status == "ok" and not run.instrumented]
    counted = [run for run in cell.runs if run.outcome.status == "ok" and run.instrumented]
    faults = [(run.instrumented, run.outcome) for run in cell.runs if run.outcome.status != "ok"]
    failed = next((outcome for instrumented, outcome in faults if not instrumented or not plain), None)
    reason = failed.reason if failed else "".join(f"no heap figures: {outcome.reason}" for _, outcome in faults[:1])
    # the resident figures stand without the counter
    found = {name: spread(_values(plain, get)) for name, get in _PLAIN.items()}
    found |= {name: spread(_values(counted, get)) for name, get in _COUNTED.items()}
    return Row(
        cell.engine, cell.version, cell.chosen, failed.status if failed else "ok", reason,
        failed.phase if failed else "", {name: value for name, value in found.items() if value is not None},
        _highest(plain, _resident, slack_bytes=LAG_BYTES),
        _highest(counted, lambda mark: mark.counted.peak_bytes if mark.counted else None),
    )  # fmt: skip


def heap_moments(run: Run) -> dict[str, tuple[int, int]]:
    """Counted bytes above the mark "import": what is live at the end and the most at once.

    Args:
        run: an instrumented one; a plain one gives nothing.

    Returns:
        (live, peak) of "load", with what leads to it, of "run 1" and of "steady", the last run; as far as it came.
    """
    marks = {mark.phase: mark for mark in run.marks}
    phases = {"load": _loading(marks), "run 1": _runs(marks)[:1], "steady": _runs(marks)[-1:]}
    base = marks["import"].counted if "import" in marks else None
    found = {}
    for phase, within in phases.items():
        counts = [mark.counted for mark in within if mark.counted is not None]
        if base is not None and counts:
            top = max(one.peak_bytes for one in counts)
            found[phase] = (counts[-1].live_bytes - base.live_bytes, top - base.live_bytes)
    return found


Get = Callable[[dict[str, Mark]], int | None]


def _values(runs: Iterable[Run], get: Get) -> Iterable[int]:
    for run in runs:
        value = get({mark.phase: mark for mark in run.marks})
        if value is not None:
            yield value


def _runs(marks: dict[str, Mark]) -> list[Mark]:
    return [mark for phase, mark in marks.items() if phase.startswith("run ")]


def _work(marks: dict[str, Mark]) -> list[Mark]:
    """From load to the last run."""
    return [mark for phase, mark in marks.items() if phase not in ("interpreter", "import", "release")]


def _vm(name: str, phase: str) -> Get:
    return lambda marks: marks[phase].vm.get(name) if phase in marks else None


def _most(name: str) -> Get:
    return lambda marks: max((mark.vm[name] for mark in marks.values() if name in mark.vm), default=None)


def _resident(mark: Mark) -> int | None:
    """The most that was resident in the phase: the high-water mark lags by up to 300 KiB and may lie below the end."""
    return max((mark.vm[name] for name in ("VmHWM", "VmRSS") if name in mark.vm), default=None)


def _peak(marks: dict[str, Mark]) -> int | None:
    return max((top for mark in marks.values() if (top := _resident(mark)) is not None), default=None)


def _last(name: str) -> Get:
    return lambda marks: _runs(marks)[-1].vm.get(name) if _runs(marks) else None


def _in_use(pick: Callable[[dict[str, Mark]], Mark | None]) -> Get:
    def get(marks: dict[str, Mark]) -> int | None:
        base, mark = marks.get("import"), pick(marks)
        if base is None or mark is None or base.heap is None or mark.heap is None:
            return None
        return mark.heap.in_use_bytes - base.heap.in_use_bytes

    return get


def _steady(marks: dict[str, Mark]) -> Mark | None:
    return _runs(marks)[-1] if _runs(marks) else None


def _held(marks: dict[str, Mark]) -> int | None:
    mark = _steady(marks)
    return mark.heap.held_free_bytes if mark and mark.heap else None


def _heap(pick: Callable[[dict[str, Mark]], list[Mark]], *, peak: bool) -> Get:
    def get(marks: dict[str, Mark]) -> int | None:
        base = marks.get("import")
        picked = [mark.counted for mark in pick(marks) if mark.counted is not None]
        if base is None or base.counted is None or not picked:
            return None
        top = max(one.peak_bytes if peak else one.live_bytes for one in picked)
        return top - base.counted.live_bytes

    return get


def _peak_above(marks: dict[str, Mark]) -> int | None:
    tops = [top for mark in _work(marks) if (top := _resident(mark)) is not None]
    return max(tops) - marks["import"].vm["VmRSS"] if tops and "VmRSS" in marks["import"].vm else None


def _loading(marks: dict[str, Mark]) -> list[Mark]:
    """The marks of loading, with the ones an engine sets on the way."""
    names = list(marks)
    if "load" not in names:
        return []
    return [marks[name] for name in names[names.index("import") + 1 : names.index("load") + 1]]


_PLAIN: dict[str, Get] = {
    "peak_resident": _peak,
    "peak_above_baseline": _peak_above,
    "peak_virtual": _most("VmPeak"),
    "baseline_resident": _vm("VmRSS", "import"),
    "steady_resident": _last("VmRSS"),
    "steady_anonymous": _last("RssAnon"),
    "load_in_use": _in_use(lambda marks: marks.get("load")),
    "steady_in_use": _in_use(_steady),
    "steady_held_free": _held,
}
_COUNTED: dict[str, Get] = {
    "load_heap": _heap(lambda marks: _loading(marks)[-1:], peak=False),
    "load_heap_peak": _heap(_loading, peak=True),
    "first_heap_peak": _heap(lambda marks: _runs(marks)[:1], peak=True),
    "runs_heap_peak": _heap(_runs, peak=True),
    "heap_peak": _heap(_work, peak=True),
    "steady_heap": _heap(lambda marks: _runs(marks)[-1:], peak=False),
}


def _highest(runs: list[Run], get: Callable[[Mark], int | None], *, slack_bytes: int = 0) -> str:
    """The first phase of the first of `runs` that comes within `slack_bytes` of the highest value."""
    if not runs:
        return ""
    known = [(value, mark.phase) for mark in runs[0].marks if (value := get(mark)) is not None]
    top = max((value for value, _ in known), default=0)
    return next((phase for value, phase in known if value >= top - slack_bytes), "")
