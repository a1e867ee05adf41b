"""The largest value that fits: solved from the pieces, proved by evaluating it and the next one."""

from __future__ import annotations

from collections.abc import Callable

from peakmem.formula.envelope import last_within
from peakmem.formula.polynomial import polynomial
from peakmem.report.formula import Largest, PeakFormula, Piece, Quantity
from peakmem.scaling.evaluation import Point
from peakmem.scaling.pieces import LARGEST_VALUE, Explorer

Needed = Callable[[int], int | None]
# bytes at a value, None where there is no network
MOST_SKIPPED = 4096
# values without a network that are passed over on the way to the next one


def find_largest(
    explorer: Explorer, found: PeakFormula, capacity_bytes: int, fixed_bytes: int, quantity: Quantity, multiple_of: int
) -> Largest:
    """The answer for one capacity from a formula over every class that is wanted."""
    room = capacity_bytes - fixed_bytes

    def needed(x: int) -> int | None:
        seen = explorer.plain(x)
        if not isinstance(seen, Point):
            return None
        return fixed_bytes + (seen.live_bytes if quantity == "live" else seen.resident_bytes)

    notes: list[str] = []
    best, over = 0, False
    for piece in found.pieces:
        value, above = _solved(piece, room, quantity, found.high if found.kind == "fitted" else piece.high)
        over = over or above
        if value is not None and value > best:
            best = value
    how = "solved" if found.pieces else "searched"
    known = needed(best) if best else 0
    if known is None or known > capacity_bytes or not found.pieces:
        best, how = _searched(found, needed, capacity_bytes, multiple_of, 0), "searched"
    for _ in range(2 * found.modulus + 2):
        nearest = _next(found, best, multiple_of, needed)
        if nearest is None or nearest[1] > capacity_bytes:
            break
        best, how = nearest[0], "searched"  # no formula holds here
    else:
        best = _searched(found, needed, capacity_bytes, multiple_of, best)
        nearest = _next(found, best, multiple_of, needed)
    nbytes = needed(best) if best else 0
    assert nbytes is not None
    assert nbytes <= capacity_bytes
    if over or any(_begins_over(piece, best, room, quantity) for piece in found.pieces):
        notes.append(f"a smaller {found.knob} may need more: not every value below {best:,} fits")
    seen = explorer.plain(best) if best else None
    unlimited = nearest is None and bool(best) and best >= (found.high or LARGEST_VALUE) - multiple_of
    if unlimited:
        notes.append(f"every {found.knob} up to {best:,} was asked for fits" if found.high else "no value is too large")
    formula = "a formula through evaluations" if found.kind == "fitted" else "the formula"
    ways = f"solved from {formula}" if how == "solved" else "found by evaluation"
    return Largest(
        name=found.name, knob=found.knob, meaning=found.meaning, quantity=quantity, capacity_bytes=capacity_bytes,
        fixed_bytes=fixed_bytes, value=best, nbytes=nbytes,
        next_value=None if nearest is None else nearest[0], next_nbytes=None if nearest is None else nearest[1],
        multiple_of=multiple_of, operator=seen.operator if isinstance(seen, Point) else "",
        how="solved" if how == "solved" else "searched",
        proof=f"{ways}, {'both neighbours' if nearest and best else 'the value' if best else 'the smallest'} evaluated",
        notes=(*found.notes, *notes), bytes_kind=found.bytes_kind,
    )  # fmt: skip


def _solved(piece: Piece, room: int, quantity: Quantity, high: int | None) -> tuple[int | None, bool]:
    """(the largest value of a piece up to `high` that fits, whether a smaller one of it does not)."""
    formula = piece.live if quantity == "live" else piece.resident
    curve = polynomial(formula.coefficients, formula.denominator).shifted(piece.low, piece.modulus)
    top = LARGEST_VALUE if high is None else high
    steps, above = last_within(curve, 0, (top - piece.low) // piece.modulus, room)
    return None if steps is None else piece.low + piece.modulus * steps, above


def _begins_over(piece: Piece, best: int, room: int, quantity: Quantity) -> bool:
    """Whether some value of a piece below `best` does not fit."""
    if piece.low >= best:
        return False
    formula = piece.live if quantity == "live" else piece.resident
    curve = polynomial(formula.coefficients, formula.denominator).shifted(piece.low, piece.modulus)
    last = (min(piece.high, best) - piece.low) // piece.modulus
    within, above = last_within(curve, 0, last, room)
    return above or within != last


def _next(found: PeakFormula, best: int, multiple_of: int, needed: Needed) -> tuple[int, int] | None:
    """(the next value there is a network for, its bytes)."""
    top = LARGEST_VALUE if found.high is None else found.high
    x = max(best + multiple_of, found.low + (-found.low) % multiple_of)
    for _ in range(MOST_SKIPPED):
        if x > top:
            return None
        nbytes = needed(x)
        if nbytes is not None:
            return x, nbytes
        x += multiple_of
    return None


def _searched(found: PeakFormula, needed: Needed, capacity_bytes: int, multiple_of: int, start: int) -> int:
    """The largest value from `start` on that fits, by doubling and bisection: right where more never needs less."""
    top = LARGEST_VALUE if found.high is None else found.high
    low, step = max(start, (found.low - 1) // multiple_of * multiple_of), multiple_of

    def fits(x: int) -> bool:
        nbytes = needed(x)
        return nbytes is not None and nbytes <= capacity_bytes

    begin = low
    while low + step <= top and fits(low + step):
        low, step = low + step, step * 2
    while step > multiple_of:
        step //= 2
        if low + step <= top and fits(low + step):
            low += step
    return low if low > begin else start
