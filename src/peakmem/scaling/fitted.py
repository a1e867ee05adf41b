"""Formulas through evaluations, for models that are captured anew at every size; said to be fitted, never exact.

A polynomial is put through the live bytes of each step at a few values, and held against evaluations at others, one
of them far away. Where that fails finer classes of values are tried, then the peak alone where the number of steps
is what changes, and then nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from peakmem.errors import PeakmemError
from peakmem.formula.envelope import envelope
from peakmem.formula.polynomial import Polynomial, through
from peakmem.scaling.evaluation import Measured, measured, point
from peakmem.scaling.pieces import Explorer, Fault, Hole, Span

STEPS = (0, 1, 3, 7)
# values a polynomial is put through, in strides of the class: degree 3 at most
CHECKS = (2, 12, 61)
# values it is held against, besides the smallest and a far one
FAR = 1 << 12
MODULI = (1, 2, 4, 8, 16, 32)


def fitted(explorer: Explorer, low: int, high: int | None, near: int) -> tuple[int, list[Span | Hole]]:
    """(modulus, ranges) for the class of `near`; no range where nothing fits."""
    for modulus in MODULI:
        found = _class(explorer, modulus, low, high, near, _as_it_is)
        if found:
            return modulus, found
    return 1, _class(explorer, 1, low, high, near, _peak_alone)


def _as_it_is(found: Measured) -> Measured:
    return found


def _peak_alone(found: Measured) -> Measured:
    """The peak as the only step there is: what is left where networks of two sizes have other operators."""
    peak = point(found)
    return replace(found, live=(peak.live_bytes,), operators=((peak.operator, peak.op_type),))


def _class(
    explorer: Explorer, modulus: int, low: int, high: int | None, near: int, view: Callable[[Measured], Measured]
) -> list[Span | Hole]:
    first = low + (near - low) % modulus
    top = max(FAR, near * 4) if high is None else high
    last = top - (top - near) % modulus
    begin = min(max(first, near), max(last - STEPS[-1] * modulus, first))
    values = [begin + step * modulus for step in STEPS if begin + step * modulus <= last]
    seen: list[tuple[int, Measured]] = []
    for x in values:
        there = _evaluated(explorer, x)
        found = None if there is None else view(there)
        if found is None or (seen and found.operators != seen[0][1].operators):
            return []
        seen.append((x, found))
    if len(seen) < 2:
        return []
    columns = zip(*(found.live for _, found in seen), strict=True)
    curves = [_through(seen, column) for column in columns]
    weights = _through(seen, tuple(found.weights_bytes for _, found in seen))
    state = _through(seen, tuple(found.state_bytes for _, found in seen))
    checks = sorted({first, last, *(begin + step * modulus for step in CHECKS if begin + step * modulus <= last)})
    operators = seen[0][1].operators
    spans: list[Span | Hole] = []
    for stretch in envelope([curve.shifted(begin, modulus) for curve in curves], (first - begin) // modulus,
                            (last - begin) // modulus):  # fmt: skip
        assert stretch.high is not None
        start, stop = begin + modulus * stretch.low, begin + modulus * stretch.high
        span = Span(
            start, stop, curves[stretch.winner], weights, state, operators[stretch.winner] if operators else ("", ""),
            stretch.winner, start, seen[0][1].unknown,
            frozenset(x for x in {*checks, start, stop} if start <= x <= stop and x not in values),
        )  # fmt: skip
        if not all(span.agrees(x, explorer.plain(x)) for x in span.checked):
            return []
        spans.append(span)
    return spans


def _through(seen: list[tuple[int, Measured]], column: tuple[int, ...]) -> Polynomial:
    return through((x, nbytes) for (x, _), nbytes in zip(seen, column, strict=True))


def _evaluated(explorer: Explorer, x: int) -> Measured | None:
    try:
        found = measured(explorer.knob.graph(x), explorer.setting)
    except PeakmemError as fault:
        explorer.seen[x] = Fault(fault.what, fault)
        return None
    explorer.seen[x] = point(found)
    return found
