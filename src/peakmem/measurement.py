"""The question "how much memory does it take on this engine?", answered by running it.

Puts together what stands apart: the conversion of a model into an engine's format and the instrument, which knows
nothing of models. Nothing is estimated here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from peakmem.delivery import Delivery, checked, choose, convertible
from peakmem.errors import UsageError
from peakmem.measuring.engine import BUILT_IN, Engine, engine
from peakmem.measuring.environment import FIXED
from peakmem.measuring.inputs import Given
from peakmem.measuring.machine import machine
from peakmem.measuring.matrix import Effort, Progress, choices, measure_cells, parse_cells, parse_settings
from peakmem.measuring.record import Measurement
from peakmem.measuring.summary import row


def measure(
    model: str, *, engines: Sequence[str] = ("onnxruntime",), settings: Iterable[str] = (), singly: bool = False,
    cells: Sequence[str] = (), repeat: int = 3, counted: int = 1, runs: int = 3, batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None, dims: Mapping[str, int] | None = None,
    inputs: Sequence[str] = (), feed: str | Path | Sequence[str | Path] | None = None, timeout: float = 600.0,
    memory_limit: int = 0, cache: Path | None = None, events: Path | None = None, timeline: bool = False,
    progress: Progress | None = None,
) -> Measurement:  # fmt: skip
    """Run `model` on `engines` with every combination of `settings`, each cell in processes of its own.

    Args:
        model: a model file, a built-in network, or 'package.module:factory'.
        engines: names of `peakmem engines`; "all" for every installed one.
        settings: "[ENGINE.]NAME=VALUE,…" each; several values make a matrix.
        singly: instead of all combinations, the defaults and then each other value alone.
        cells: "NAME=VALUE NAME=VALUE …" each, one cell; "defaults" for one without.
        repeat: plain processes a cell.
        counted: processes a cell with the allocation counter.
        runs: inferences a process.
        batch, shapes, dims: values of free dimensions, as in `estimate`.
        inputs: what a live module is called with, "[NAME=]DIMS[:DTYPE]" each.
        feed: the user's inputs: .npy, .npz or a folder of them; random otherwise.
        timeout: seconds a process, and a conversion.
        memory_limit: bytes of private writable memory a process may have; 0 for no limit.
        cache: folder of converted models.
        events: folder that keeps the allocation event lists.
        timeline: note operators in the event list, where the engine lets us.
        progress: called before each process.

    Raises:
        UsageError: an engine, a setting or an input that does not fit.
        PeakmemError: the model cannot be read.
    """
    if repeat < 0 or counted < 0 or repeat + counted == 0 or runs < 1:
        raise UsageError("nothing to measure", expected="--repeat or --counted of 1 or more, --runs of 1 or more")
    checked(model, inputs, timeout, memory_limit)
    ways = Delivery(model, batch, shapes, dims, inputs, cache, timeout)
    chosen = [convertible(one, ways.kind) for one in choose(engines)]
    axes, single = parse_settings(settings, chosen), parse_cells(cells, chosen)
    wanted = {
        one.name: list(choices(one, axes[one.name], singly=singly)) if axes[one.name] or not single[one.name] else []
        for one in chosen
    }
    plans = [ways.plan(one, choice) for one in chosen for choice in (*wanted[one.name], *single[one.name])]
    if ways.refused and all(plan.fault is not None for plan in plans):
        raise ways.refused[0]
        # nothing is left to measure, and the user can do something about it
    effort = Effort(repeat, counted, runs, timeout, memory_limit, events, timeline)
    given = Given(feed, {name: tuple(shape) for name, shape in (shapes or {}).items()})
    done = measure_cells(plans, effort, given=given, progress=progress)
    return Measurement(
        name=model, machine=machine(), environment=dict(FIXED), repeat=repeat, cells=done,
        rows=tuple(row(cell) for cell in done), notes=tuple(ways.notes),
    )  # fmt: skip


def list_engines() -> tuple[Engine, ...]:
    """Every engine there is, installed or not.

    Each has a `name`, a `version()` that is empty where it is not installed, the kinds of model that it `reads`, and
    its `settings`: `name`, `default`, `choices` and `effect` of each, with those of the conversions that lead to it
    from a built-in network.
    """
    return tuple(convertible(engine(name)) for name in BUILT_IN)
