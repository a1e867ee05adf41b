"""The question "how much memory does it take on this engine?", answered by running it.

Puts together what stands apart: the conversion of a model into an engine's format and the instrument, which knows
nothing of models. Nothing is estimated here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from peakmem.errors import MissingLibrary, PeakmemError, UsageError
from peakmem.measuring.engine import BUILT_IN, Engine, Setting, engine
from peakmem.measuring.environment import FIXED
from peakmem.measuring.inputs import Given, Port
from peakmem.measuring.machine import machine
from peakmem.measuring.matrix import Effort, Plan, Progress, choices, measure_cells, parse_cells, parse_settings
from peakmem.measuring.record import Measurement, Outcome, Value
from peakmem.measuring.summary import row

if TYPE_CHECKING:
    from peakmem.conversion.step import Step


WITH_INPUTS = ("factory", "torch", "keras", "ort", "pte", "mnn")
# kinds of model whose inputs the user may have to tell
LONGEST = 10**7
# seconds of a timeout, about four months


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
    from peakmem.conversion.route import kind_of

    if repeat < 0 or counted < 0 or repeat + counted == 0 or runs < 1:
        raise UsageError("nothing to measure", expected="--repeat or --counted of 1 or more, --runs of 1 or more")
    if not 0 < timeout <= LONGEST:
        raise UsageError(f"a timeout of {timeout:g} s", expected=f"more than 0, at most {LONGEST:,} s")
    if memory_limit < 0:
        raise UsageError(f"a memory limit of {memory_limit:,} B", expected="1 B or more, 0 for none")
    if inputs and kind_of(model) not in WITH_INPUTS:
        raise UsageError("--input is for live modules, this is a model file", where=model, hint="--shape NAME=DIMS")
    ways = _Ways(model, batch, shapes, dims, inputs, cache, timeout)
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


def choose(names: Sequence[str]) -> list[Engine]:
    """The engines of these names, each once; "all" for every installed one.

    Raises:
        UsageError: an unknown name, none at all, or "all" where none is installed.
    """
    for name in names:
        if name != "all":
            engine(name)
    if "all" in names:
        found = [one for one in map(engine, BUILT_IN) if one.version()]
        if not found:
            raise UsageError("no engine is installed", hint="pip install 'peakmem[onnxruntime]'")
        return found
    if not names:
        raise UsageError("no engine is named", expected=", ".join(BUILT_IN), hint="--engine onnxruntime")
    return [engine(name) for name in dict.fromkeys(names)]


def convertible(one: Engine, kind: str = "zoo") -> Engine:
    """`one` with the options of the conversions that lead to it from a model of `kind` as settings beside its own."""
    ways = _routes(kind, one)
    settings = {
        option.name: Setting(
            option.name, option.default, option.choices, f"conversion to {step.target}: {option.effect}"
        )
        for way in ways.values()
        for step in way
        for option in step.options
    }
    if len(ways) > 1:
        first = min(ways, key=lambda read: len(ways[read]))
        settings["format"] = Setting("format", first, tuple(ways), "conversion: which kind of file the engine is given")
    return replace(one, settings=(*one.settings, *settings.values()), conversion=tuple(settings))


def _routes(kind: str, one: Engine) -> dict[str, tuple[Step, ...]]:
    """The steps to each kind that the engine reads, as far as there is a way."""
    from peakmem.conversion.route import route

    if kind == "factory":
        kind = "torch"
        # what its code makes is only known when it runs
    if kind in one.reads:
        return {kind: ()}
    ways = {}
    for read in one.reads:
        with suppress(UsageError):
            ways[read] = route(kind, read)
    return ways


class _Ways:
    """How the model reaches each engine, each conversion made once."""

    def __init__(
        self, model: str, batch: int | None, shapes: Mapping[str, Sequence[int]] | None,
        dims: Mapping[str, int] | None, inputs: Sequence[str], cache: Path | None, timeout: float,
    ) -> None:  # fmt: skip
        from peakmem.conversion.route import kind_of

        self.model, self.kind = model, kind_of(model)
        self.batch, self.shapes, self.dims, self.inputs = batch, shapes, dims, inputs
        self.cache, self.timeout = cache, timeout
        self.made: dict[tuple[object, ...], Plan] = {}
        self.notes: list[str] = []
        self.refused: list[UsageError] = []
        # ways that the user's words do not fit

    def plan(self, one: Engine, choice: dict[str, Value]) -> Plan:
        """The plan of one cell."""
        options = {name: choice.get(name, one.setting(name).default) for name in one.conversion}
        key = (one.name, *options.items())
        if key not in self.made:
            self.made[key] = self._convert(one, options)
        return replace(self.made[key], choices=(choice,))

    def _convert(self, one: Engine, options: dict[str, Value]) -> Plan:
        from peakmem.conversion.route import convert

        if not one.version():
            hint = f"pip install 'peakmem[{one.extra}]'"
            return Plan(one, "", fault=Outcome("missing", f"{one.name} is not installed. Try: {hint}", "convert"))
        ways = _routes(self.kind, one)
        shortest = min(ways, key=lambda read: len(ways[read]), default=one.reads[0])
        kind = str(options.get("format", shortest))
        taken = {option.name for step in ways.get(kind, ()) for option in step.options}
        try:
            made = convert(
                self.model, kind, options={name: value for name, value in options.items() if name in taken},
                batch=self.batch, shapes=self.shapes, dims=self.dims, inputs=self.inputs, cache=self.cache,
                timeout=self.timeout,
            )  # fmt: skip
        except UsageError as fault:
            self.refused.append(fault)
            return Plan(one, "", fault=Outcome("not converted", str(fault), "convert"))
        except MissingLibrary as fault:
            return Plan(one, "", fault=Outcome("missing", str(fault), "convert"))
        except PeakmemError as fault:
            return Plan(one, "", fault=Outcome("not converted", str(fault), "convert"))
        self.notes += [note for note in made.notes if note not in self.notes]
        ports = tuple(Port(name, dtype, tuple(shape)) for name, (shape, dtype) in made.input_shapes.items())
        return Plan(one, made.path, steps=made.steps, ports=ports)
