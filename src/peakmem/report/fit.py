"""Does it fit: the answer as data. Nothing is computed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from peakmem._version import __version__

SCHEMA = "peakmem.fit/1"
Outcome = Literal["fits", "may fit", "does not fit", "cannot tell"]
# "fits" only where the bound fits; "may fit" where the estimate fits and the bound does not, or there is none


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of room on the device, and what the network needs of it."""

    name: str
    # "RAM", "flash", "arena", "GPU memory", "storage"
    needed_bytes: int
    capacity_bytes: int
    outcome: Outcome
    convention: str
    # what was counted: "weights + state + live peak [fused]", "TFLM arena", "reserved + CUDA context"
    kind: str
    # "exact", "estimate", "lower bound"
    bound_bytes: int | None = None
    said: str = ""
    # where the capacity is from, in words
    shares: tuple[tuple[str, int], ...] = ()
    # what the need is made of, in bytes; adds up to needed_bytes
    reason: str = ""
    # why it may fit or cannot be told, or which memory holds it; "" otherwise

    @property
    def headroom_bytes(self) -> int:
        """Room that is left; negative for a shortfall."""
        return self.capacity_bytes - self.needed_bytes


@dataclass(frozen=True, slots=True)
class UnitReading:
    """A unit read in another sense, where it turns the verdict."""

    part: str
    text: str
    # "102.23 MB in 100 MB: over; 97.49 MiB in 100 MiB: fits"
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest value of a knob that fits, with both neighbours evaluated."""

    knob: str
    # "batch", "resolution", "sequence", "context", "width"
    value: int | float
    # 0: not even the smallest fits
    needed_bytes: int
    # of the part that decides: its bound, or where none is known what is predicted
    next_value: int | float | None
    # the smallest that does not fit; None where none was found up to the limit of the question
    next_needed_bytes: int | None
    part: str
    # that decides
    proof: str
    # "solved from the formula, both neighbours evaluated"


@dataclass(frozen=True, slots=True)
class Tried:
    """A change that was tried: the whole analysis run again with it."""

    names: tuple[str, ...]
    # one, or several together: ("dtype=int8", "inplace")
    title: str
    outcome: Outcome | Literal["refused"]
    reason: str
    # why refused; "" otherwise
    needed: tuple[tuple[str, int], ...]
    # (part, bytes) with it
    rank: int
    # 1 is the cheapest that makes it fit; 0 for those that do not
    price: str
    # what it costs, in words: "4x smaller weights, needs calibration", "+33 % work"
    command: str = ""
    # what to type to see it


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a network fits a device, by how much, and what would make it fit."""

    name: str
    device: str
    title: str
    mode: Literal["inference", "training"]
    engine: str
    # "" for the graph alone
    outcome: Outcome
    parts: tuple[Part, ...]
    over: tuple[str, ...]
    # parts that do not fit
    gap: float
    # need over capacity of the worst part
    readings: tuple[UnitReading, ...] = ()
    largest: tuple[Largest, ...] = ()
    changes: tuple[Tried, ...] = ()
    devices_needed: int | None = None
    # when it cannot fit on one: how many would hold it, split evenly
    bits_per_weight: float | None = None
    # that weights may have at most, everything else as it is; None where even none would do
    bits_dtype: str = ""
    # the widest dtype of no more bits with which the weights have room, as the analysis with it says; "" for none
    searched: str = ""
    # how far changes were looked for, and how many analyses that took
    assumptions: tuple[str, ...] = ()
    unknowns: tuple[str, ...] = ()
    peakmem: str = __version__
    schema: str = SCHEMA

    def to_json(self) -> str:
        """All of it as indented JSON."""
        from peakmem.report.codec import to_json

        return to_json(self)
