"""The report of a reconciliation: what was predicted, what was measured, and each byte of the difference by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from peakmem.measuring.account import Account
from peakmem.measuring.record import Machine, Spread
from peakmem.report.prediction import Candidate

SCHEMA = "peakmem.reconciliation/1"

Source = Literal["model", "prediction", "counter", "process", "remainder"]
# who says so: the model's file, the engine's profile, the allocation counter, kernel and C library, nobody


@dataclass(frozen=True, slots=True)
class Line:
    """One phase: heap above the engine's own."""

    phase: str
    figure: Literal["live", "peak"]
    predicted_bytes: int
    measured_bytes: int

    @property
    def remainder_bytes(self) -> int:
        """Measured less predicted."""
        return self.measured_bytes - self.predicted_bytes

    @property
    def ratio(self) -> float:
        """Predicted ÷ measured; 1 where both are nothing."""
        return self.predicted_bytes / self.measured_bytes if self.measured_bytes else 1.0


@dataclass(frozen=True, slots=True)
class Oracle:
    """A figure that the engine itself gave, beside the profile's."""

    name: str
    predicted: int
    told: int


@dataclass(frozen=True, slots=True)
class Stair:
    """One stair of the waterfall, from the parameters to the process."""

    name: str
    nbytes: int
    # what it adds; a sum where `total` is true
    source: Source
    what: str = ""
    total: bool = False


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """One engine with one choice of settings, predicted and measured."""

    name: str
    machine: Machine
    predicted: Candidate
    status: str
    reason: str
    # why it was not measured, unless ok
    lines: tuple[Line, ...] = ()
    oracles: tuple[Oracle, ...] = ()
    account: Account | None = None
    # of the plain process with the median resident set
    resident: Spread | None = None
    # the highest resident set over the plain processes
    stairs: tuple[Stair, ...] = ()
    remainder_bytes: int = 0
    # heap of the model at the resident peak: measured less predicted
    unexplained_bytes: int = 0
    # of anonymous memory at the resident peak: the remainder, and what no source accounts for; both without their sign
    explained: float = 0.0
    # share of anonymous memory at the resident peak
    foreseen: float = 0.0
    # baseline known beforehand and predicted heap ÷ anonymous memory at the resident peak: nothing of this run is in it
    reasons: tuple[str, ...] = ()
    # why the process needs more than weights and live peak, the largest first
    notes: tuple[str, ...] = ()
    schema: str = SCHEMA

    def to_json(self) -> str:
        """All of it as indented JSON."""
        from peakmem.report.codec import to_json

        return to_json(self)
