"""The peak as a formula of one size, as data: polynomials with exact coefficients, and where each holds."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from peakmem._version import __version__

SCHEMA = "peakmem.formula/1"
LARGEST_SCHEMA = "peakmem.largest/1"
Kind = Literal["exact", "fitted"]
# "exact" is read off the analysis itself and checked; "fitted" goes through evaluations and is checked at others
Quantity = Literal["live", "resident"]
# the live peak alone, or weights + state + live peak


@dataclass(frozen=True, slots=True)
class Formula:
    """Bytes: Σ coefficients[i] · xⁱ / denominator."""

    coefficients: tuple[int, ...]
    # the constant first; () is 0
    denominator: int = 1

    def at(self, x: int) -> int:
        """The bytes at `x`, which is where the formula holds."""
        total = 0
        for one in reversed(self.coefficients):
            total = total * x + one
        whole, rest = divmod(total, self.denominator)
        if rest:
            raise ValueError(f"the formula does not hold at {x}")
        return whole

    def coefficient(self, power: int) -> Fraction:
        """The factor of xᵖᵒʷᵉʳ."""
        return Fraction(self.coefficients[power] if power < len(self.coefficients) else 0, self.denominator)


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of the knob in which one operator holds the peak and one formula gives it."""

    low: int
    high: int
    # both included, and both of the class
    modulus: int
    residue: int
    # the formula holds for values ≡ residue modulo modulus; 0 and 1 are all values
    live: Formula
    # bytes of activations and inputs at the peak
    weights: Formula
    state: Formula
    resident: Formula
    # weights + state + live
    operator: str
    # at which the peak stands
    op_type: str
    step: int
    kind: Kind
    checked: tuple[int, ...]
    # values at which plain evaluation gave the same bytes at the same operator
    unbroken: bool = False
    # the range ends because nothing larger was asked for or is possible, not because another formula begins

    def holds(self, x: int) -> bool:
        """Whether the formula is for `x`."""
        return self.low <= x <= self.high and x % self.modulus == self.residue


@dataclass(frozen=True, slots=True)
class Gap:
    """Values without a formula, and why."""

    low: int
    high: int
    modulus: int
    residue: int
    reason: str


@dataclass(frozen=True, slots=True)
class PeakFormula:
    """The peak of a network as a piecewise formula of one size."""

    name: str
    source: str
    format: str
    knob: str
    meaning: str
    # what the knob sets
    usual: int
    # its value when nobody turns it
    settings: tuple[str, ...]
    # what was set beside it: "batch = 1"
    assume: str
    assume_title: str
    dtype: str
    kind: Kind
    bytes_kind: Literal["estimate", "lower bound"]
    low: int
    high: int | None
    # values that were asked for; None for as far as it goes
    modulus: int
    residues: tuple[int, ...]
    # classes that were looked at; all of `modulus` or some of them
    pieces: tuple[Piece, ...]
    gaps: tuple[Gap, ...]
    traces: int
    # times the analysis ran on numbers that remember
    evaluations: int
    # times it ran on plain numbers, to check or to fit
    notes: tuple[str, ...] = ()
    peakmem: str = __version__
    schema: str = SCHEMA

    @property
    def complete(self) -> bool:
        """Whether every class of values was looked at."""
        return len(self.residues) == self.modulus

    def piece(self, x: int) -> Piece | None:
        """The piece for a value of the knob, None where no formula holds."""
        return next((piece for piece in self.pieces if piece.holds(x)), None)

    def live_bytes(self, x: int) -> int | None:
        """The live peak at `x`, None where no formula holds."""
        piece = self.piece(x)
        return None if piece is None else piece.live.at(x)

    def resident_bytes(self, x: int) -> int | None:
        """Weights, state and live peak at `x`, None where no formula holds."""
        piece = self.piece(x)
        return None if piece is None else piece.resident.at(x)

    def to_json(self) -> str:
        """All of it as indented JSON."""
        from peakmem.report.codec import to_json

        return to_json(self)


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest value of a knob that fits a capacity, with both neighbours evaluated."""

    name: str
    knob: str
    meaning: str
    quantity: Quantity
    capacity_bytes: int
    fixed_bytes: int
    # taken from the capacity before anything of the network
    value: int
    # 0: not even the smallest fits
    nbytes: int
    # at the value, what is fixed included; 0 without one
    next_value: int | None
    # the smallest larger value there is; None where nothing is larger or it cannot be run
    next_nbytes: int | None
    multiple_of: int
    operator: str
    # at which the peak stands at the value
    how: Literal["solved", "searched"]
    # "solved" from formulas; "searched" by evaluations, where there is none
    proof: str
    notes: tuple[str, ...] = ()
    bytes_kind: Literal["estimate", "lower bound"] = "estimate"
    # of a lower bound nothing fits for sure: the value is the largest that may
    peakmem: str = __version__
    schema: str = LARGEST_SCHEMA

    def to_json(self) -> str:
        """All of it as indented JSON."""
        from peakmem.report.codec import to_json

        return to_json(self)
