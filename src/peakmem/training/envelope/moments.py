"""Live bytes of a step as polynomials, moment by moment, and their upper envelope: the peak, range by range.

No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm

from peakmem.formula import envelope as curves_of
from peakmem.formula.polynomial import ZERO, Polynomial, polynomial
from peakmem.training.account import at
from peakmem.training.envelope.series import Series
from peakmem.training.log import Phase

ENDLESS = -1
# what `formula.envelope.last_within` says of a range without an end


@dataclass(frozen=True, slots=True)
class Reign:
    """A range of the knob in which one moment of the step is the peak."""

    low: int
    high: int | None
    # both included; None: no end in sight
    nbytes: Polynomial
    moment: int
    step: int
    phase: Phase
    operator: str
    module: str
    # of the storage that comes at that moment
    irregular: Polynomial
    # of `nbytes`, what stands for storages that follow no polynomial: an upper bound of these; zero where there is none


def reigns(series: Series, low: int, high: int | None) -> list[Reign]:
    """The peak from `low` to `high`: which moment it is where.

    Where a moment without irregular storages is the highest although all others have theirs at most, it is exact.
    """
    curves, odd = live(series), live(series, only=series.irregular)
    moments = _highest(curves)
    found = []
    for stretch in curves_of.envelope([curves[moment] for moment in moments], low, high):
        moment = moments[stretch.winner]
        place = at(series.form, moment)
        found.append(
            Reign(
                stretch.low, stretch.high, curves[moment], moment, place.step, place.phase, place.operator,
                place.module, odd[moment],
            )
        )  # fmt: skip
    return found


def last_within(found: Sequence[Reign], most: int) -> int | None:
    """The last value of the first range that ends within `most` bytes; None where the peak never exceeds them.

    One less than the first value where that is too much already. Between two values of one range the peak may exceed
    it only if it falls again, which the bytes of a step that grows do not.
    """
    for reign in found:
        last, _ = curves_of.last_within(reign.nbytes, reign.low, reign.high, most)
        if last is None:
            return reign.low - 1
        if last == ENDLESS:
            return None
        if reign.high is None or last < reign.high:
            return last
    return found[-1].high if found else None


def live(series: Series, *, only: frozenset[int] | None = None) -> list[Polynomial]:
    """Bytes alive after each moment (of some storages)."""
    form = series.form
    common = lcm(*(curve.denominator for curve in set(series.storages))) if series.storages else 1
    width = max((len(curve.coefficients) for curve in set(series.storages)), default=0)
    change: list[list[int] | None] = [None] * (form.moments + 1)
    for number, (item, curve) in enumerate(zip(form.storages, series.storages, strict=True)):
        if curve.coefficients and (only is None or number in only):
            terms = [one * (common // curve.denominator) for one in curve.coefficients]
            change[item.start] = terms
            if item.stop < form.moments:
                change[item.stop] = [-one for one in terms]
    total, found, last = [0] * width, [], ZERO
    for one in change[: form.moments]:
        if one is not None:
            for power, term in enumerate(one):
                total[power] += term
            last = polynomial(total, common)
        found.append(last)
    return found


def _highest(curves: list[Polynomial]) -> list[int]:
    """Moments that may be the peak somewhere from 1 on: those that no other exceeds in each coefficient."""
    first: dict[Polynomial, int] = {}
    for moment, curve in enumerate(curves):
        first.setdefault(curve, moment)
    width = max((len(curve.coefficients) for curve in first), default=0)
    terms = {moment: tuple(curve.coefficient(power) for power in range(width)) for curve, moment in first.items()}
    kept: list[int] = []
    for moment in sorted(terms, key=lambda number: tuple(reversed(terms[number])), reverse=True):
        here = terms[moment]
        if not any(all(a >= b for a, b in zip(terms[other], here, strict=True)) for other in kept):
            kept.append(moment)
    return sorted(kept)
