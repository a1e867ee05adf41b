"""Budgets that contradict each other: refused before anything is computed, with both lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from peakmem.errors import UsageError

if TYPE_CHECKING:
    from peakmem.budgets.config import Budget, Case

ARENAS = ("tflm",)
# engines that run in one arena whose size is predicted
PARTS = (
    ("peak", "resident", "weights and activations are resident together"),
    ("weights", "resident", "weights and activations are resident together"),
    ("step_peak", "reserved", "what tensors take is reserved"),
)
# (part, whole, why): no budget of the part may allow more than the whole has


def refuse_contradictions(cases: Sequence[Case], file: str) -> None:
    """Raise for the first two budgets that cannot both be meant.

    Raises:
        UsageError: with the lines of both.
    """
    for case in cases:
        _within(case, file)
        _answerable(case, file)
    _between(cases, file)


def _within(case: Case, file: str) -> None:
    allowed = {one.quantity: one for one in case.budgets}
    for part, whole, why in PARTS:
        if part in allowed and whole in allowed and allowed[part].allowed > allowed[whole].allowed:
            raise UsageError(
                f"{part} = {allowed[part].written!r} allows more than {whole} = {allowed[whole].written!r} in line "
                f"{allowed[whole].line}: {why}",
                where=f"{file}, line {allowed[part].line}", expected=f"{part} of at most {whole}",
                hint=f"a smaller {part}, or none",
            )  # fmt: skip


def _answerable(case: Case, file: str) -> None:
    """Budgets of something that is not asked for."""
    train, engine = case.options.train, case.options.engine
    asked = [(one.quantity, one.line) for one in case.budgets]
    asked += [(one.quantity, one.line) for one in case.growths if one.quantity]
    for quantity, line in asked:
        where = f"{file}, line {line}"
        if quantity == "arena" and engine and engine not in ARENAS:
            raise UsageError(
                f"an arena, and engine = {engine!r} has none that is predicted", where=where,
                expected='engine = "tflm", or none', hint='engine = "tflm"',
            )  # fmt: skip
        if quantity in ("step_peak", "reserved") and train is None:
            raise UsageError(f"{quantity} is of a training step, and none is named", where=where,
                             expected="a table train", hint='train = { optimizer = "adamw", batch = 32 }')  # fmt: skip
        if quantity == "reserved" and train is not None and train.scenario.device != "cuda":
            raise UsageError(
                "reserved is of torch's CUDA allocator, and the step runs on the processor", where=where,
                expected="a CUDA device", hint='train = { device = "cuda" }, or step_peak',
            )  # fmt: skip


def _between(cases: Sequence[Case], file: str) -> None:
    """Two budgets for one quantity of the same model, looked at in the same way."""
    seen: list[tuple[Case, Budget]] = []
    for case in cases:
        for one in case.budgets:
            for other, known in seen:
                same = known.quantity == one.quantity and known.line != one.line and other.source == case.source
                if same and other.options == case.options and not _is_exception(other, case):
                    raise UsageError(
                        f"{one.quantity} of {case.name!r} has two budgets: {one.written!r} here, {known.written!r} for "
                        f"{other.name!r} in line {known.line}, and both look at the same",
                        where=f"{file}, line {one.line}", expected="one of them, or options that differ",
                    )  # fmt: skip
            seen.append((case, one))


def _is_exception(a: Case, b: Case) -> bool:
    """Whether one of them is a file that a pattern found and that has a table of its own."""
    return ("/" in a.model) != ("/" in b.model)
