"""A whole number that remembers: beside its value here, what it is as a polynomial of one size, and where that holds.

A `Number` is an int, so that the ordinary analysis runs on it unchanged. Its polynomial is exact for every x that
leaves the same remainder as x0 on division by `Trace.modulus`; a division by a number that does not go in makes the
modulus larger. A comparison answers for x0 and is written down: it says where the analysis would have taken the same
way. What cannot be kept as a polynomial (a bare int, a float) holds at x0 alone, and that is written down, too.

Python hands an int out past these methods in a few places (an index, `range`, a float on the left, a numpy array),
where nothing can be written down. So a formula read off such numbers is only believed where plain numbers agree.
"""

from __future__ import annotations

from fractions import Fraction
from math import floor, gcd, isfinite, lcm
from typing import Any

from peakmem.formula.polynomial import ONE, Polynomial, X, of_fractions, polynomial
from peakmem.formula.signs import runs

ANY_SIGN = frozenset((-1, 0, 1))
MOST_MODULUS = 1 << 40
# beyond it no class is worth naming


class Trace:
    """What was asked of the numbers made from one size: the conditions under which the answers stay the same."""

    def __init__(self, x0: int) -> None:
        self.x0 = x0
        self.modulus = 1
        # the polynomials hold for x ≡ x0 modulo this
        self.conditions: dict[Polynomial, frozenset[int]] = {}
        # polynomial -> signs it may have
        self.pinned: list[str] = []
        # what used a number as it is, so that nothing holds beyond x0

    def variable(self) -> Number:
        """The size itself."""
        return Number(X, self)

    def number(self, found: Polynomial) -> int:
        """`found` as a number; a plain one where it is the same everywhere."""
        if found.constant:
            return _whole(found.coefficient(0))
        return Number(found, self)

    def ask(self, gap: Polynomial, signs: frozenset[int]) -> None:
        """Write down that the sign of `gap` is one of `signs`."""
        if gap.coefficients[-1] < 0:
            gap, signs = Polynomial(tuple(-one for one in gap.coefficients), gap.denominator), _flipped[signs]
        self.conditions[gap] = self.conditions.get(gap, ANY_SIGN) & signs

    def pin(self, what: str) -> None:
        """Write down that a number was used as it is."""
        self.pinned.append(what)

    def floor(self, found: Polynomial) -> Polynomial:
        """The largest whole number below or at `found`, as a polynomial over a class made fine enough."""
        if found.denominator == 1:
            return found
        here = found
        if any(one % found.denominator for one in found.coefficients[1:]):
            here = found.shifted(self.x0, self.modulus)  # over the class itself more divides
            period = lcm(*(here.denominator // gcd(one, here.denominator) for one in here.coefficients[1:]))
            self.modulus *= period
            if self.modulus > MOST_MODULUS:
                self.pin("divisions by too many numbers that do not go in")
            rest = here.coefficients[0] % here.denominator
        else:
            rest = found.coefficients[0] % found.denominator
        return found - of_fractions([Fraction(rest, here.denominator)])

    def region(self, low: int, high: int | None) -> tuple[int, int | None, list[int]]:
        """(first, last, doubts): the range around x0 in which all answers stay, within `low` to `high`.

        The ends are of the class of x0. A doubt is a place inside where something is equal that is not at x0.
        Where something is pinned the range is a guess: what a bare number was used for is not known.
        """
        first = -((self.x0 - low) // self.modulus)
        last = None if high is None else (high - self.x0) // self.modulus
        doubts: set[int] = set()
        for gap, signs in self.conditions.items():
            here = gap.shifted(self.x0, self.modulus).coefficients
            cut = runs(here, first, last)
            at = next(place for place, one in enumerate(cut) if one[1] is None or one[1] >= 0)
            unequal = 0 not in signs and len(signs) == 2
            begin = at
            while begin and _stays(cut[begin - 1], signs, unequal):
                begin -= 1
            end = at
            while end + 1 < len(cut) and _stays(cut[end + 1], signs, unequal):
                end += 1
            first, last = cut[begin][0], cut[end][1]
            if unequal:
                doubts.update(start for start, _, sign in cut[begin : end + 1] if sign == 0)
        kept = sorted(t for t in doubts if first <= t and (last is None or t <= last))
        # a doubt at an end is left out of the range: there is nothing beyond that it would join
        return (
            self.x0 + self.modulus * first,
            None if last is None else self.x0 + self.modulus * last,
            [self.x0 + self.modulus * t for t in kept],
        )


def _stays(run: tuple[int, int | None, int], signs: frozenset[int], unequal: bool) -> bool:
    start, end, sign = run
    return sign in signs or (unequal and sign == 0 and start == end)


_flipped = {
    frozenset(signs): frozenset(-one for one in signs)
    for signs in ((0,), (1,), (-1,), (0, 1), (-1, 0), (-1, 1), (-1, 0, 1), ())
}


class Number(int):
    """An int that knows its polynomial; see the module."""

    polynomial: Polynomial
    trace: Trace

    def __new__(cls, found: Polynomial, trace: Trace) -> Number:
        whole, rest = divmod(found.numerator(trace.x0), found.denominator)
        if rest:
            raise ValueError(f"{found} is not whole: a polynomial left its class")
        made = super().__new__(cls, whole)
        made.polynomial = found
        made.trace = trace
        return made

    # -- kept exactly --------------------------------------------------------------------

    def __add__(self, other: Any) -> Any:
        if other.__class__ is int:
            return self.trace.number(self.polynomial + polynomial((other,))) if other else self
        if isinstance(other, float):
            return self._bare("a sum with a float") + other
        found = _lifted(other)
        return NotImplemented if found is None else self.trace.number(self.polynomial + found)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        if isinstance(other, float):
            return self._bare("a sum with a float") - other
        found = _lifted(other)
        return NotImplemented if found is None else self.trace.number(self.polynomial - found)

    def __rsub__(self, other: Any) -> Any:
        if isinstance(other, float):
            return other - self._bare("a sum with a float")
        found = _lifted(other)
        return NotImplemented if found is None else self.trace.number(found - self.polynomial)

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, float):
            return self._times(other)
        found = _lifted(other)
        return NotImplemented if found is None else self.trace.number(self.polynomial * found)

    __rmul__ = __mul__

    def __neg__(self) -> Any:
        return self.trace.number(polynomial((0,)) - self.polynomial)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return -self if self < 0 else self

    def __floordiv__(self, other: Any) -> Any:
        if isinstance(other, float):
            return self._bare("a division by a float") // other
        found = _lifted(other)
        return NotImplemented if found is None else _floor_divided(self.polynomial, found, self.trace)

    def __rfloordiv__(self, other: Any) -> Any:
        if isinstance(other, float):
            return other // self._bare("a division by a float")
        found = _lifted(other)
        return NotImplemented if found is None else _floor_divided(found, self.polynomial, self.trace)

    def __mod__(self, other: Any) -> Any:
        if isinstance(other, float):
            return self._bare("a remainder by a float") % other
        found = _lifted(other)
        return NotImplemented if found is None else self - (self // other) * other

    def __rmod__(self, other: Any) -> Any:
        if isinstance(other, float):
            return other % self._bare("a remainder by a float")
        found = _lifted(other)
        return NotImplemented if found is None else other - (other // self) * self

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __pow__(self, other: Any, modulo: Any = None) -> Any:
        if other.__class__ is int and 0 <= other <= 16 and modulo is None:
            found = ONE
            for _ in range(other):
                found = found * self.polynomial
            return self.trace.number(found)
        return pow(self._bare("a power"), other, modulo)

    def __lshift__(self, other: Any) -> Any:
        return self * (1 << int(other))

    def __rshift__(self, other: Any) -> Any:
        return self // (1 << int(other))

    def _times(self, factor: float) -> Any:
        """The product with a float, where it is whole here and in a class; whole numbers below 2^53 are exact."""
        if factor == factor and abs(factor) < 2**53:
            found = self.polynomial * of_fractions([Fraction(factor)])
            if found(self.trace.x0).denominator == 1:
                self.trace.floor(found)
                return self.trace.number(found)
        return self._bare("a product with a fraction") * factor

    # -- answered and written down -------------------------------------------------------

    def _asked(self, other: Any, *signs: int) -> Any:
        """Whether the sign of self - other is one of `signs`."""
        if other is self:
            return 0 in signs
        mine = self.polynomial
        if other.__class__ is int:  # by far the most common question
            here = int.__sub__(self, other)
            gap = Polynomial((mine.coefficients[0] - other * mine.denominator, *mine.coefficients[1:]))
        else:
            found = _lifted(other)
            if found is None:
                return NotImplemented
            if found == mine:
                return 0 in signs
            gap = mine - found
            here = gap.numerator(self.trace.x0)
        answer = ((here > 0) - (here < 0)) in signs
        if not gap.constant:
            self.trace.ask(gap, frozenset(signs) if answer else ANY_SIGN - frozenset(signs))
        return answer

    def __eq__(self, other: object) -> Any:
        return self._asked(other, 0)

    def __ne__(self, other: object) -> Any:
        return self._asked(other, -1, 1)

    def __lt__(self, other: Any) -> Any:
        return self._asked(other, -1)

    def __le__(self, other: Any) -> Any:
        return self._asked(other, -1, 0)

    def __gt__(self, other: Any) -> Any:
        return self._asked(other, 1)

    def __ge__(self, other: Any) -> Any:
        return self._asked(other, 0, 1)

    def __bool__(self) -> bool:
        return bool(self != 0)

    __hash__ = int.__hash__

    # -- whole already -------------------------------------------------------------------

    def __floor__(self) -> Any:
        return self

    __ceil__ = __trunc__ = __floor__

    def __round__(self, digits: Any = None) -> Any:
        return self if digits is None or digits >= 0 else round(self._bare("a rounding"), digits)

    @property
    def numerator(self) -> int:
        return self

    # -- not kept: holds here alone ------------------------------------------------------

    def _bare(self, what: str) -> int:
        self.trace.pin(what)
        return int.__index__(self)

    def __int__(self) -> int:
        return self._bare("a bare int")

    def __float__(self) -> float:
        return float(self._bare("a float"))

    def __truediv__(self, other: Any) -> Any:
        return self._bare("a fraction") / other

    def __rtruediv__(self, other: Any) -> Any:
        return other / self._bare("a fraction")

    def __rpow__(self, other: Any, modulo: Any = None) -> Any:
        return pow(other, self._bare("an exponent"), modulo)

    def __rlshift__(self, other: Any) -> Any:
        return other << self._bare("a shift")

    def __rrshift__(self, other: Any) -> Any:
        return other >> self._bare("a shift")

    def __and__(self, other: Any) -> Any:
        return self._bare("bits") & other

    def __or__(self, other: Any) -> Any:
        return self._bare("bits") | other

    def __xor__(self, other: Any) -> Any:
        return self._bare("bits") ^ other

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def bit_length(self) -> int:
        return self._bare("bits").bit_length()

    def __reduce__(self) -> Any:
        return int, (self._bare("a copy"),)


def _lifted(other: Any) -> Polynomial | None:
    """A whole number as a polynomial; None for anything else."""
    if isinstance(other, Number):
        return other.polynomial
    if isinstance(other, int):
        return polynomial((int(other),))
    if isinstance(other, float) and isfinite(other):
        return of_fractions([Fraction(other)])  # compared exactly, as Python compares an int with a float
    return None


def _whole(found: Fraction) -> int:
    if found.denominator != 1:
        raise ValueError(f"{found} is not whole: a polynomial left its class")
    return found.numerator


def _floor_divided(over: Polynomial, under: Polynomial, trace: Trace) -> int:
    """floor(over / under) as a number."""
    if under.constant:
        divisor = under.coefficient(0)
        if not divisor:
            raise ZeroDivisionError("integer division or modulo by zero")
        return trace.number(trace.floor(over * of_fractions([1 / divisor])))
    here = under.numerator(trace.x0)
    if not here:
        raise ZeroDivisionError("integer division or modulo by zero")
    side = frozenset((1 if here > 0 else -1,))
    trace.ask(under, side)
    quotient, rest = over.divided(under)
    quotient_whole = trace.floor(quotient)
    rest = rest + (quotient - quotient_whole) * under
    # over / under = a whole number + rest / under, whose floor is the same for as long as the rest stays in its band
    band = floor(rest(trace.x0) / under(trace.x0))
    if rest.coefficients or band:
        for edge, signs in ((band, side | {0}), (band + 1, _flipped[side])):
            gap = rest - under * polynomial((edge,))
            if not gap.constant:
                trace.ask(gap, frozenset(signs))
    return trace.number(quotient_whole + polynomial((band,)))


__all__ = ["Number", "Trace"]
