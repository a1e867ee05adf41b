"""The report of predictions, one candidate for each engine and choice of settings: frozen data, nothing computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from peakmem.engines.bands import Band, Baseline
from peakmem.engines.prediction import Kind, Moment, Processor, Unmodelled, Value
from peakmem.measuring.record import Step

SCHEMA = "peakmem.prediction/1"

Outcome = Literal[
    "predicted",
    "refused",
    # the engine would refuse the model, or the profile a setting
    "not converted",
    # the model did not reach the engine's format
    "missing",
    # a library of the conversion is not installed
]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One engine with one choice of settings."""

    engine: str
    installed: str
    # its version here; empty where it is not installed
    verified: str
    # versions the profile's rules were read from and measured with; empty where they were read and never measured
    outcome: Outcome
    reason: str
    # empty when predicted
    kind: Kind
    settings: dict[str, Value]
    # all of them
    chosen: dict[str, Value]
    # those that differ from the defaults, or were asked for
    model: str
    # the file that was read
    steps: tuple[Step, ...] = ()
    moments: tuple[Moment, ...] = ()
    unmodelled: tuple[Unmodelled, ...] = ()
    notes: tuple[str, ...] = ()
    details: dict[str, int] | None = None
    heap_peak_bytes: int = 0
    # above the engine's own, the most in any phase
    peak_phase: str = ""
    low_bytes: int | None = None
    high_bytes: int | None = None
    # where the measured heap peak lies, by the band of networks never looked at and what has no rule; none where the
    # profile was not measured
    bands: tuple[Band, ...] = ()
    baseline: Baseline | None = None
    process_bytes: int | None = None
    # anonymous memory of the whole process at the peak: baseline and heap peak; for a microcontroller the arena


@dataclass(frozen=True, slots=True)
class Predictions:
    """What engines will hold with one model."""

    name: str
    processor: Processor
    weights_bytes: int | None
    # as stored in the model
    live_peak_bytes: int | None
    # of activations, fused, by live ranges alone: what one adds to the weights by hand
    candidates: tuple[Candidate, ...]
    within_bytes: int | None = None
    # what it was to fit in
    notes: tuple[str, ...] = ()
    schema: str = SCHEMA

    @property
    def fitting(self) -> tuple[Candidate, ...]:
        """The candidates that hold it within what was asked for, the smallest first."""
        limit = self.within_bytes
        sized = [one for one in self.candidates if one.process_bytes is not None]
        found = [one for one in sized if limit is None or (one.process_bytes or 0) <= limit]
        return tuple(sorted(found, key=lambda one: one.process_bytes or 0))

    def to_json(self) -> str:
        """All of it as indented JSON."""
        from peakmem.report.codec import to_json

        return to_json(self)
