"""As much of the formula as the largest value that fits depends on: one class whole, the others from there up.

The class of the usual value is solved first. What it gives fits, so of every other class only what lies above it can
matter; whatever one of them gives moves that up again. Nothing above the last one is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm

from peakmem.formula.envelope import last_within
from peakmem.report.formula import Quantity
from peakmem.scaling.classes import Ranges
from peakmem.scaling.pieces import FEW_CLASSES, Explorer, Finer, Span


@dataclass(frozen=True, slots=True)
class Reach:
    """What the largest value is asked of."""

    multiple_of: int
    room: int
    # bytes
    quantity: Quantity


def reached(
    explorer: Explorer, low: int, high: int | None, near: int, reach: Reach, most: int
) -> tuple[int, dict[int, Ranges]]:
    """(modulus, ranges by residue): the class of `near` from `low` on, of each other what lies above what fits there.

    Args:
        near: the value to begin with; the multiple below it, where only multiples are wanted.
        most: classes; with more of them only that of `near` is looked at.

    Raises:
        Lost: see `Explorer.cover`.
    """
    by = reach.multiple_of
    near = max(near - near % by, low + -low % by)
    modulus = lcm(explorer.trace(near).modulus, by)
    while True:
        first = near % modulus
        count = modulus // by
        others = [one for one in range(0, modulus, by) if one != first] if count <= most else []
        explorer.lean = count > FEW_CLASSES
        try:
            explorer.brief = False
            classes = {first: explorer.cover(modulus, first, low, high, near)}
            begin = max(low, _last(classes[first], modulus, reach) + 1) if explorer.lean else low
            explorer.brief = explorer.lean
            for residue in others:
                classes[residue] = explorer.cover(modulus, residue, begin, high, max(begin, near))
                if explorer.lean:
                    begin = max(begin, _last(classes[residue], modulus, reach) + 1)
            return modulus, classes
        except Finer as finer:
            modulus = lcm(finer.modulus, by)


def _last(ranges: Ranges, modulus: int, reach: Reach) -> int:
    """The largest value of a class that fits by its formulas; 0 for none."""
    found = 0
    for one in ranges:
        if isinstance(one, Span):
            curve = one.live if reach.quantity == "live" else one.live + one.weights + one.state
            steps, _ = last_within(curve.shifted(one.low, modulus), 0, (one.high - one.low) // modulus, reach.room)
            found = max(found, 0 if steps is None else one.low + modulus * steps)
    return found
