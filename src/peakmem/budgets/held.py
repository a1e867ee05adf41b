"""One model against one budget, outside of a file: what tests ask. The message says what is alive at the peak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from peakmem.budgets.answers import Answers, Unanswered
from peakmem.budgets.options import Options
from peakmem.budgets.sizes import read_count, read_size
from peakmem.budgets.words import QUANTITIES, unknown
from peakmem.errors import UsageError
from peakmem.report.check import Value
from peakmem.units import format_exact

OF_LOOK = ("quantity", "batch", "shapes", "dims", "inputs", "dtype", "assume", "hold_inputs", "engine", "settings",
           "options", "form", "processor", "files", "file_format")  # fmt: skip
IN_TESTS = tuple(name for name in QUANTITIES if name not in ("step_peak", "reserved"))
# what a marker may be about


@dataclass(frozen=True, slots=True)
class Held:
    """What a model needs of one quantity."""

    model: str
    value: Value
    why: tuple[str, ...]

    @property
    def said(self) -> str:
        """In one line."""
        return f"{self.model}: {QUANTITIES[self.value.quantity].title} {self._size(self.value.value)}"

    def message(self, budget: object) -> str:
        """Why the budget does not hold; "" where it does.

        Raises:
            UsageError: not a budget.
        """
        value = self.value
        allowed = read_allowed(value.quantity, budget)
        title = QUANTITIES[value.quantity].title
        lines = [
            f"{self.model}: {title} {self._size(value.value)} [{value.convention}; {value.kind}]",
            f"budget: {self._size(allowed)}",
        ]
        if value.value > allowed:
            share = value.value / allowed - 1
            lines[0] = f"over the budget: {lines[0]}"
            lines.append(f"excess: {self._size(value.value - allowed)} ({share:+.1%})")
        elif value.most is None:
            lines[0] = f"cannot be told: {lines[0]}"
            lines.append("it fits as far as is known, but something has no known size or no rule: a lower bound")
        elif value.most > allowed:
            lines[0] = f"cannot be told: {lines[0]}"
            lines.append(f"it may be up to {self._size(value.most)}: something has no rule")
        else:
            return ""
        if value.at and not self.why:
            lines.append(f"reached at {value.at}")
        return "\n".join((*lines, *self.why))

    def _size(self, value: int) -> str:
        return format_exact(value) if self.value.unit == "bytes" else f"{value:,}"


def read_allowed(quantity: str, budget: object) -> int:
    """A budget as a test writes it: "2 MiB", or a whole number of bytes."""
    if QUANTITIES[quantity].unit == "elements":
        return read_count(budget, "peak_memory")
    if isinstance(budget, int) and not isinstance(budget, bool):
        if budget <= 0:
            raise UsageError(f"a budget of {budget:,} B", where="peak_memory", expected="more than 0", hint='"2 MiB"')
        return budget
    return read_size(budget, "peak_memory")


def look(
    model: object, *, quantity: str = "peak", batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None, dims: Mapping[str, int] | None = None, inputs: object = None,
    settings: Mapping[str, object] | Sequence[str] = (), options: Mapping[str, object] | None = None, **rest: Any,
) -> Held:  # fmt: skip
    """One quantity of a model.

    Raises:
        UsageError: an option or a quantity that is not there, or one that cannot be told.
        PeakmemError: the model cannot be read.
    """
    if quantity not in QUANTITIES:
        raise unknown(quantity, IN_TESTS, where="peak_memory", what="quantity", key="quantity")
    if quantity not in IN_TESTS:
        raise UsageError(f"{quantity} is of a training step", where="peak_memory", expected=", ".join(IN_TESTS),
                         hint="peakmem.train(…) in the test, or peakmem check")  # fmt: skip
    known = {one.name for one in fields(Options)}
    for name in rest:
        if name not in OF_LOOK or name not in known:
            raise unknown(name, OF_LOOK, where="peak_memory", what="option")
    said = settings
    if isinstance(settings, Mapping):
        said = [f"{name}={_typed(value)}" for name, value in settings.items()]
    files = rest.pop("files", ())
    asked = Options(
        batch=batch, shapes={name: tuple(shape) for name, shape in (shapes or {}).items()}, dims=dict(dims or {}),
        inputs=_texts(inputs), settings=tuple(said),
        options={name: _typed(value) for name, value in (options or {}).items()},
        files=(files,) if isinstance(files, str) else tuple(files), **rest,
    )  # fmt: skip
    source = str(model) if isinstance(model, Path) else model
    answers = Answers(source, asked, inputs=inputs)
    found = answers.value(quantity)
    if isinstance(found, Unanswered):
        raise UsageError(found.reason, hint=found.hint)
    return Held(str(source) if isinstance(source, str) else answers.named, found, answers.why(quantity))


def _texts(inputs: object) -> tuple[str, ...]:
    """Inputs that are texts; none where they are shapes or tensors."""
    if isinstance(inputs, str):
        return (inputs,)
    listed = inputs if isinstance(inputs, list | tuple) else ()
    return tuple(listed) if all(isinstance(one, str) for one in listed) else ()


def _typed(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
