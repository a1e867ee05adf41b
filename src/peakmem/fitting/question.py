"""What is asked: a network, how it is run, by which engine; and the words that ask it again. Nothing is computed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from peakmem.passes.assume import DEFAULT_ASSUMPTION

FLAGS = {
    "batch": "--batch", "dtype": "--dtype", "weights": "--weights-dtype", "assume": "--assume", "form": "--format",
    "engine": "--engine", "devices": "--devices", "file": "--file",
}  # fmt: skip
# fields of one word, and the flag that says each


@dataclass(frozen=True, slots=True)
class Question:
    """One network, run in one way; two that are equal have one answer."""

    source: object
    # what `peakmem.load` takes
    batch: int | None = None
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    dims: tuple[tuple[str, int], ...] = ()
    inputs: tuple[str, ...] = ()
    dtype: str = ""
    # floating tensors are counted in it; "" as stored
    weights: str = ""
    # the stored weights alone are counted in it; "" as `dtype` says
    assume: str = DEFAULT_ASSUMPTION
    form: str = ""
    options: tuple[tuple[str, str], ...] = ()
    engine: str = ""
    # "" for the graph alone
    settings: tuple[str, ...] = ()
    # of the engine: "NAME=VALUE"
    devices: int = 1
    # that hold the weights together, split evenly
    file: str = ""
    # format of the model file on the device; "" is chosen by what is known

    @property
    def is_written(self) -> bool:
        """Whether the source can be typed: a name or a path, no model in memory."""
        return isinstance(self.source, str | Path)

    @property
    def key(self) -> tuple[object, ...]:
        """What an answer is kept under; a model in memory goes by its identity."""
        source = self.source if isinstance(self.source, str | Path) else id(self.source)
        return (source, *(getattr(self, field.name) for field in fields(self) if field.name != "source"))

    def words(self) -> tuple[str, ...]:
        """The source and the flags that differ from their defaults."""
        return (str(self.source), *self._flags())

    def _flags(self) -> Iterator[str]:
        defaults = {field.name: field.default for field in fields(self)}
        for name, flag in FLAGS.items():
            value = getattr(self, name)
            if value != defaults[name]:
                yield from (flag, str(value))
        for name, shape in self.shapes:
            said = "x".join(map(str, shape))
            yield from ("--shape", f"{name}={said}" if name else said)
        for name, size in self.dims:
            yield from ("--dim", f"{name}={size}")
        for text in self.inputs:
            yield from ("--input", text)
        for name, text in self.options:
            yield from ("--option", f"{name}={text}")
        for text in self.settings:
            yield from ("--set", text)


def command(question: Question, place: tuple[str, ...]) -> str:
    """What to type to ask it of a device, named by the flags in `place`; "" for a model in memory."""
    return shlex.join(("peakmem", "fit", *question.words(), *place)) if question.is_written else ""
