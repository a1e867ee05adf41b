"""Bits of a weight where more may be needed than is predicted."""

from __future__ import annotations

from fractions import Fraction

from peakmem.fitting.parts import Answer
from peakmem.fitting.short import bits_per_weight
from peakmem.report.fit import Part


def answer(bound: int | None) -> Answer:
    """1,000 weights of 4 bytes beside 1,000 bytes of all else, in 4,000 bytes."""
    part = Part("GPU memory", 5000, 4000, "does not fit", "", "estimate", bound, shares=(("weights", 4000),))
    return Answer("network", (part,), 1000, 4000, 1000, (), ())


def test_bits_leave_room_for_what_is_needed_at_most():
    assert bits_per_weight(answer(None), 1) == Fraction(3000 * 8, 1000)
    assert bits_per_weight(answer(5000), 1) == 24
    assert bits_per_weight(answer(5500), 1) == Fraction(2500 * 8, 1000)


def test_no_room_beside_what_is_needed_at_most():
    assert bits_per_weight(answer(8000), 1) is None
