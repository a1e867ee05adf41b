"""The report of a verified training step: predicted beside measured, per phase and category, and where they part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from peakmem.measuring.record import Machine
from peakmem.training.log import Category, Phase

SCHEMA = "peakmem.training_check/1"

Kind = Literal["only measured", "only predicted", "other size", "other lifetime"]


@dataclass(frozen=True, slots=True)
class Top:
    """The highest moment of one side."""

    nbytes: int
    step: int
    phase: Phase
    operator: str
    module: str
    # of the storage that came last


@dataclass(frozen=True, slots=True)
class PhaseLine:
    """The highest moment of one phase of one step."""

    step: int
    phase: Phase
    predicted_bytes: int
    measured_bytes: int
    error: float
    # (predicted - measured) ÷ measured


@dataclass(frozen=True, slots=True)
class CategoryLine:
    """Bytes of one category, each side at its own peak."""

    category: Category
    predicted_bytes: int
    measured_bytes: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Alive at one peak and not, or not as much, at the other."""

    category: Category
    name: str
    # of a parameter, a buffer or what belongs to one
    operator: str
    module: str
    predicted_bytes: int
    measured_bytes: int


@dataclass(frozen=True, slots=True)
class Parting:
    """A storage that one side has and the other has not, or has otherwise."""

    kind: Kind
    step: int
    phase: Phase
    operator: str
    module: str
    predicted_bytes: int
    measured_bytes: int


@dataclass(frozen=True, slots=True)
class ProcessLine:
    """What the kernel says of a clean process in one phase."""

    step: int
    phase: Phase | Literal["imports"]
    resident_bytes: int
    # at its end
    peak_bytes: int
    # within it


@dataclass(frozen=True, slots=True)
class TrainingCheck:
    """One step, predicted and run."""

    name: str
    device: str
    steps: int
    machine: Machine
    versions: dict[str, str]
    predicted: Top
    measured: Top
    bound_bytes: int
    # that the prediction says is not exceeded
    error: float
    # of the peak
    phases: tuple[PhaseLine, ...]
    categories: tuple[CategoryLine, ...]
    differences: tuple[Difference, ...]
    # by size; all of them sum to measured less predicted
    unnamed_bytes: int
    # of the differences beyond those listed, measured less predicted
    partings: tuple[Parting, ...]
    # the first ones, those of at least a millionth of the peak
    partings_in_all: int
    allocator: dict[str, int]
    # what a GPU's allocator says itself: max_memory_allocated, max_memory_reserved
    process: tuple[ProcessLine, ...]
    # of a clean process, without the profiler; empty where it was not looked at
    notes: tuple[str, ...] = ()
    schema: str = SCHEMA

    @property
    def below(self) -> bool:
        """Whether less was predicted than measured."""
        return self.predicted.nbytes < self.measured.nbytes

    def to_json(self) -> str:
        """All of it as indented JSON."""
        from peakmem.report.codec import to_json

        return to_json(self)
