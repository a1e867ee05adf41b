"""The report of a check of budgets: every model, every budget, and whether it holds. Nothing is computed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

SCHEMA = "peakmem.check/1"

Outcome = Literal["within", "broken", "unanswered"]
# unanswered: the model does not read, or what is known is a lower bound that fits
Rule = Literal["budget", "growth", "fits"]


@dataclass(frozen=True, slots=True)
class Value:
    """One quantity of one model."""

    quantity: str
    value: int
    unit: str
    # "bytes" or "elements"
    kind: str
    # "estimate", "lower bound" or "exact"
    convention: str
    # what was counted
    most: int | None = None
    # what it does not exceed as far as is known, with all that has no rule; None where nobody knows
    at: str = ""
    # the operator at which a maximum is reached


@dataclass(frozen=True, slots=True)
class Finding:
    """One budget and what became of it."""

    model: str
    # name of the table, with "@device" where it is of one
    quantity: str
    rule: Rule
    outcome: Outcome
    said: str
    # in one sentence
    written: str
    # the budget as the file has it
    line: int
    # of the file; 0 where it has none
    unit: str = "bytes"
    value: int | None = None
    allowed: int | None = None
    # None for a device, whose rooms are several
    before: int | None = None
    # what the baseline has, for growth
    kind: str = ""
    convention: str = ""
    why: tuple[str, ...] = ()
    # what is alive at the peak, which operators added the bytes; largest first
    hint: str = ""
    # what to type

    @property
    def excess(self) -> float:
        """How far over it is, as a share of what is allowed: 0.05 is 5 % over; 0 where it holds or cannot be told."""
        if self.outcome != "broken" or self.value is None or self.allowed is None:
            return 0.0
        return self.value / self.allowed - 1 if self.allowed else float("inf")


@dataclass(frozen=True, slots=True)
class Checked:
    """One model, or one model on one device, with one choice of options."""

    name: str
    model: str
    device: str
    source: str
    line: int
    configuration: dict[str, Any]
    # all that decides its numbers
    values: tuple[Value, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Change:
    """One value that a new baseline has and the old one had not, or otherwise."""

    model: str
    quantity: str
    before: int | None
    after: int | None
    unit: str


@dataclass(frozen=True, slots=True)
class Check:
    """All budgets of a file."""

    file: str
    # the configuration
    baseline: str
    # the file of stored values; "" where there is none
    outcome: Outcome
    # broken where one budget is; else unanswered where one could not be told
    within: int
    broken: int
    unanswered: int
    models: tuple[Checked, ...]
    notes: tuple[str, ...] = ()
    updated: tuple[Change, ...] = ()
    # what --update-baseline changed
    peakmem: str = ""
    schema: str = SCHEMA

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings: broken ones first, the worst first; then unanswered ones, then the others."""
        order = {"broken": 0, "unanswered": 1, "within": 2}
        found = [one for model in self.models for one in model.findings]
        return tuple(sorted(found, key=lambda one: (order[one.outcome], -one.excess)))

    @property
    def exit_code(self) -> int:
        """0 all within, 1 one is broken, 2 none is broken and one could not be answered."""
        return {"within": 0, "broken": 1, "unanswered": 2}[self.outcome]

    def to_json(self) -> str:
        """All of it as indented JSON."""
        from peakmem.report.codec import to_json

        return to_json(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and numbers."""
        from peakmem.report.codec import to_dict

        return to_dict(self)
