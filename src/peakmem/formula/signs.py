"""Where a polynomial with whole coefficients is negative, zero and positive on the whole numbers; integers only.

Between two sign changes of its forward difference p(t+1) - p(t), which is of lower degree, a polynomial only rises
or only falls on the whole numbers, so that bisection finds each change exactly. No root is ever approximated.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import TypeAlias

from peakmem.formula.polynomial import value

Run: TypeAlias = "tuple[int, int | None, int]"
# (first, last, sign) of whole numbers with one sign, both ends included; last is None for no end


def runs(coefficients: Sequence[int], low: int, high: int | None) -> list[Run]:
    """The whole numbers from `low` to `high` cut into longest runs of one sign."""
    kept = list(coefficients)
    while kept and not kept[-1]:
        kept.pop()
    if high is not None and high < low:
        return []
    if len(kept) < 2:
        return [(low, high, _sign(kept[0]) if kept else 0)]
    if high == low:
        return [(low, high, _sign(value(kept, low)))]
    found: list[Run] = []
    for first, last, slope in runs(difference(kept), low, None if high is None else high - 1):
        end = None if last is None else last + 1
        start = first if first == low else first + 1  # the point at `first` ended the run before
        _monotone(kept, start, end, slope, found)
    return found


def difference(coefficients: Sequence[int]) -> list[int]:
    """Coefficients of p(t+1) - p(t)."""
    out = [0] * max(len(coefficients) - 1, 1)
    for power, one in enumerate(coefficients):
        for i in range(power):
            out[i] += one * comb(power, i)
    return out


def _monotone(coefficients: Sequence[int], start: int, end: int | None, slope: int, found: list[Run]) -> None:
    """Append the runs from `start` to `end`, where the polynomial only rises (1), only falls (-1) or stays (0)."""
    at = start
    while end is None or at <= end:
        sign = _sign(value(coefficients, at))
        last = end
        if slope and sign != slope:
            last = _last_with(coefficients, at, end, sign)
        if found and found[-1][2] == sign:
            found[-1] = (found[-1][0], last, sign)
        else:
            found.append((at, last, sign))
        if last is None:
            return
        at = last + 1


def _last_with(coefficients: Sequence[int], start: int, end: int | None, sign: int) -> int:
    """The last place up to `end` where a monotone polynomial still has the sign it has at `start`."""
    step = 1
    low, high = start, start + 1
    while (end is None or high <= end) and _sign(value(coefficients, high)) == sign:
        low, step = high, step * 2
        high = low + step
    if end is not None and high > end:
        if _sign(value(coefficients, end)) == sign:
            return end
        high = end
    while high - low > 1:
        middle = (low + high) // 2
        if _sign(value(coefficients, middle)) == sign:
            low = middle
        else:
            high = middle
    return low


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
