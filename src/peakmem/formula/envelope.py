"""Which of many polynomials is the largest where: their upper envelope over a range of whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peakmem.formula.polynomial import Polynomial, value
from peakmem.formula.signs import runs


@dataclass(frozen=True, slots=True)
class Stretch:
    """A range of the variable in which one polynomial is the largest."""

    low: int
    high: int | None
    # both included; None for no end
    winner: int
    # its place in the list; the first of those that are equal


def envelope(curves: Sequence[Polynomial], low: int, high: int | None) -> list[Stretch]:
    """The largest of `curves` on the whole numbers from `low` to `high`, stretch by stretch.

    Of curves that are equal somewhere the one that stands first in the list wins there.
    """
    first: dict[Polynomial, int] = {}
    for place, curve in enumerate(curves):
        first.setdefault(curve, place)
    field = [(place, curve) for curve, place in first.items()]
    found: list[Stretch] = []
    at = low
    while field:
        winner, best = max(field, key=lambda one: (one[1](at), -one[0]))
        end = high
        for place, curve in field:
            if place != winner:
                over = _first_over(curve - best, at, end, ties=place < winner)
                end = end if over is None else over - 1
        found.append(Stretch(at, end, winner))
        if end is None or end == high:
            break
        at = end + 1
    return found


def _first_over(gap: Polynomial, low: int, high: int | None, *, ties: bool) -> int | None:
    """The first place from `low` to `high` where `gap` is positive, or zero where `ties` count."""
    for start, _, sign in runs(gap.coefficients, low, high):
        if sign > 0 or (ties and sign == 0):
            return start
    return None


def last_within(curve: Polynomial, low: int, high: int | None, most: int) -> tuple[int | None, bool]:
    """(the last whole number from `low` to `high` with curve ≤ most, whether a smaller one is above).

    The number is None where there is none; with no end to the range it is `high` or the end of the last run,
    and an endless run that stays within gives -1: there is no last.
    """
    room = list(curve.coefficients) or [0]
    room[0] -= most * curve.denominator
    found, above, over = None, False, False
    for _, end, sign in runs(room, low, high):
        if sign > 0:
            over = True
            continue
        if end is None:
            return -1, over
        found, above = end, over
    return found, above


def at(curve: Polynomial, x: int) -> int:
    """The value of a curve that is whole at `x`."""
    whole, rest = divmod(value(curve.coefficients, x), curve.denominator)
    if rest:
        raise ValueError(f"{curve} is not a whole number at {x}")
    return whole
