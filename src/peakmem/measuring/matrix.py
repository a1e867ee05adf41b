"""Which cells a question makes, and all of them measured, one process after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from peakmem.errors import PeakmemError, UsageError
from peakmem.measuring.engine import Engine, said
from peakmem.measuring.harness import Order, run_process
from peakmem.measuring.inputs import Given, Port
from peakmem.measuring.record import Cell, Outcome, Run, Step, Value

MOST_CELLS = 10_000
# of one matrix; more is a slip of the keyboard

Axes = Mapping[str, tuple[Value, ...]]
# values of each setting that is varied


@dataclass(frozen=True, slots=True)
class Plan:
    """One engine, the file it is to load, and the settings to try."""

    engine: Engine
    model: str
    # empty where the model did not get here
    choices: tuple[dict[str, Value], ...] = ({},)
    # one cell each; what is not named stays at its default
    steps: tuple[Step, ...] = ()
    ports: tuple[Port, ...] = ()
    # what is known of the inputs
    fault: Outcome | None = None
    # why it cannot be measured


@dataclass(frozen=True, slots=True)
class Effort:
    """How often and how long."""

    repeat: int = 3
    # plain processes a cell, for resident figures
    counted: int = 1
    # instrumented processes a cell, for the exact heap
    runs: int = 3
    # inferences a process
    timeout: float = 600.0
    # seconds a process
    memory_limit: int = 0
    events: Path | None = None
    timeline: bool = False


def parse_settings(texts: Iterable[str], engines: Sequence[Engine]) -> dict[str, dict[str, tuple[Value, ...]]]:
    """`ncnn.lightmode=on,off` or `threads=1,2` → {"ncnn": {"lightmode": (True, False), …}, …}.

    Without an engine's name a setting goes to every chosen engine that has it.

    Raises:
        UsageError: not NAME=VALUE, an engine that is not measured, a setting that none of them has, a bad value.
    """
    chosen: dict[str, dict[str, tuple[Value, ...]]] = {engine.name: {} for engine in engines}
    for text in texts:
        name, equals, values = text.partition("=")
        owner, dot, setting = name.rpartition(".")
        if not equals or not setting or not values:
            form = "[ENGINE.]NAME=VALUE,…"
            raise UsageError(f"--set {text!r} is not a setting", expected=form, hint="peakmem engines")
        if dot and owner not in chosen:
            hint = f"--engine {owner}"
            raise UsageError(f"--set {text!r}: {owner!r} is not measured", expected=", ".join(chosen), hint=hint)
        meant = [one for one in engines if (one.name == owner if dot else _has(one, setting))]
        if not meant:
            hint = f"peakmem engines {engines[0].name}"
            raise UsageError(f"--set {text!r}: no setting {setting!r} in {', '.join(chosen)}", hint=hint)
        for one in meant:
            if setting in chosen[one.name]:
                raise UsageError(f"--set gives {one.name}.{setting} twice", hint=f"--set {setting}={values},…")
            parsed = tuple(one.setting(setting).parse(value) for value in values.split(","))
            chosen[one.name][setting] = tuple(dict.fromkeys(parsed))
    return chosen


def _has(engine: Engine, setting: str) -> bool:
    return any(one.name == setting for one in engine.settings)


def parse_cells(texts: Iterable[str], engines: Sequence[Engine]) -> dict[str, list[dict[str, Value]]]:
    """`lightmode=off fp16_storage=off` is one cell of every engine that has these settings; `defaults` is one, too.

    Raises:
        UsageError: as `parse_settings`, and for two values of one setting.
    """
    found: dict[str, list[dict[str, Value]]] = {engine.name: [] for engine in engines}
    for text in texts:
        chosen = parse_settings([] if text.strip() == "defaults" else text.split(), engines)
        if not text.strip():
            raise UsageError("--cell names no setting", expected="NAME=VALUE …, or defaults")
        for name, settings in chosen.items():
            if any(len(values) > 1 for values in settings.values()):
                raise UsageError(f"--cell {text!r} gives a setting several values", hint="--set for a matrix")
            if settings or text.strip() == "defaults":
                found[name].append({setting: values[0] for setting, values in settings.items()})
    return found


def choices(engine: Engine, axes: Axes, *, singly: bool = False) -> tuple[dict[str, Value], ...]:
    """The cells of `axes`: every combination, or the defaults and then each other value alone.

    Raises:
        UsageError: more than MOST_CELLS.
    """
    if singly:
        alone = ((name, value) for name, values in axes.items() for value in values)
        return ({}, *({name: value} for name, value in alone if value != engine.setting(name).default))
    count = 1
    for values in axes.values():
        count *= len(values)
    if count > MOST_CELLS:
        raise UsageError(f"{count:,} combinations of settings", expected=f"at most {MOST_CELLS:,}")
    return tuple(dict(zip(axes, values, strict=True)) for values in product(*axes.values()))


Progress = Callable[[str, int, int], None]
# what is measured now, how many processes are done, of how many


def measure_cells(
    plans: Sequence[Plan], effort: Effort, *, given: Given | None = None, progress: Progress | None = None
) -> tuple[Cell, ...]:
    """All cells of `plans`, in their order; the repeats go round, so that drift meets every cell alike.

    A cell that fails once is not tried again. An interrupt ends the round; what was measured is kept.
    """
    cells = [_cell(plan, choice) for plan in plans for choice in plan.choices]
    jobs = [(plan, index) for index, plan in enumerate(plan for plan in plans for _ in plan.choices)]
    rounds = [False] * effort.repeat + [True] * effort.counted
    done = 0
    try:
        for instrumented in rounds:
            for plan, index in jobs:
                done += 1
                cell = cells[index]
                if plan.fault is not None or _hopeless(cell, instrumented):
                    continue
                if progress is not None:
                    progress(f"{cell.engine} {_words(cell.chosen)}".strip(), done - 1, len(rounds) * len(jobs))
                order = Order(
                    plan.engine, plan.model, cell.settings, effort.runs, given or Given(), plan.ports, instrumented,
                    effort.timeline and instrumented, effort.timeout, effort.memory_limit,
                    effort.events if instrumented else None,
                )  # fmt: skip
                cells[index] = replace(cell, runs=(*cell.runs, _run(order)))
    except KeyboardInterrupt:
        stopped = Outcome("interrupted", "stopped before all of its processes had run")
        cells = [
            cell if len(cell.runs) == len(rounds) or any(run.outcome.status != "ok" for run in cell.runs)
            # one that has figures keeps them
            else replace(cell, runs=(*cell.runs, Run(bool(cell.runs), stopped, (), {})))
            for cell in cells
        ]  # fmt: skip
    return tuple(cells)


def _run(order: Order) -> Run:
    try:
        return run_process(order)
    except (PeakmemError, OSError) as fault:
        # inputs that do not fit this engine's view of the network, no temporary folder: this cell's alone
        return Run(order.instrumented, Outcome("failed", str(fault), "inputs"), (), {})


def _cell(plan: Plan, choice: Mapping[str, Value]) -> Cell:
    runs = (Run(False, plan.fault, (), {}),) if plan.fault is not None else ()
    return Cell(
        plan.engine.name, plan.engine.version(), {**plan.engine.defaults(), **choice}, dict(choice), plan.model,
        plan.steps, runs,
    )  # fmt: skip


def _hopeless(cell: Cell, instrumented: bool) -> bool:
    """Whether the last process of this kind, or any plain one, failed in a way that will not change."""
    return any(
        run.outcome.status in ("unsupported", "missing", "not converted", "denied", "interrupted")
        or (run.outcome.status != "ok" and run.instrumented == instrumented)
        for run in cell.runs
    )


def _words(chosen: Mapping[str, Value]) -> str:
    return " ".join(f"{name}={said(value)}" for name, value in chosen.items())
