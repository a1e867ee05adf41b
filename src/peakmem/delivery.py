"""How a model reaches an engine: the engines that are meant, the conversions that lead to their formats, made once.

Shared by those who run an engine and those who predict it: both look at the same file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from peakmem.errors import MissingLibrary, PeakmemError, UsageError
from peakmem.measuring.engine import BUILT_IN, Engine, Setting, engine
from peakmem.measuring.inputs import Port
from peakmem.measuring.matrix import Plan
from peakmem.measuring.record import Outcome, Value

if TYPE_CHECKING:
    from peakmem.conversion.step import Step

WITH_INPUTS = ("factory", "torch", "keras", "ort", "pte", "mnn")
# kinds of model whose inputs the user may have to tell
LONGEST = 10**7
# seconds of a timeout, about four months


def checked(model: str, inputs: Sequence[str], timeout: float, memory_limit: int = 0) -> None:
    """What predicting and measuring have in common to refuse.

    Raises:
        UsageError: inputs of what is no live module, a limit that is none, a model that is no text.
    """
    from peakmem.conversion.route import kind_of

    if not isinstance(model, str | Path):
        raise UsageError("an engine loads a file, not an object", expected="a path, a network's name or module:factory")
    if not 0 < timeout <= LONGEST:
        raise UsageError(f"a timeout of {timeout:g} s", expected=f"more than 0, at most {LONGEST:,} s")
    if memory_limit < 0:
        raise UsageError(f"a memory limit of {memory_limit:,} B", expected="1 B or more, 0 for none")
    if inputs and kind_of(model) not in WITH_INPUTS:
        raise UsageError("--input is for live modules, this is none", where=str(model), hint="--shape NAME=DIMS")


def listed(words: Iterable[str]) -> list[str]:
    """The words of a list, or the one word that was given in its place."""
    return [words] if isinstance(words, str) else list(words)


def choose(names: Sequence[str], *, known: Sequence[str] = ()) -> list[Engine]:
    """The engines of these names, each once; "all" for every installed one.

    Args:
        names: as they were typed.
        known: what "all" means instead.

    Raises:
        UsageError: an unknown name, none at all, or "all" where none is installed.
    """
    for name in names:
        if name != "all":
            engine(name)
    if "all" in names and known:
        return [engine(name) for name in known]
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
    ways = routes(kind, one)
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


def routes(kind: str, one: Engine) -> dict[str, tuple[Step, ...]]:
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


class Delivery:
    """One model on its way to engines, each conversion made once."""

    def __init__(
        self, model: str, batch: int | None, shapes: Mapping[str, Sequence[int]] | None,
        dims: Mapping[str, int] | None, inputs: Sequence[str], cache: Path | None, timeout: float, *,
        installed: bool = True,
    ) -> None:  # fmt: skip
        """Nothing is converted yet.

        Args:
            model, batch, shapes, dims, inputs, cache, timeout: see `peakmem.measure`.
            installed: only engines that can run here; what is not installed becomes a fault.
        """
        from peakmem.conversion.route import kind_of

        self.model, self.kind = model, kind_of(model)
        self.batch, self.shapes, self.dims, self.inputs = batch, shapes, dims, inputs
        self.cache, self.timeout, self.installed = cache, timeout, installed
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

        if self.installed and not one.version():
            hint = f"pip install 'peakmem[{one.extra}]'"
            return Plan(one, "", fault=Outcome("missing", f"{one.name} is not installed. Try: {hint}", "convert"))
        ways = routes(self.kind, one)
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
