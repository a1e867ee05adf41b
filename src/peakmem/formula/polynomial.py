"""A polynomial of one variable with exact rational coefficients; nothing is rounded anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import comb, gcd


@dataclass(frozen=True, slots=True)
class Polynomial:
    """Σ coefficients[i] · xⁱ / denominator, in lowest terms; made by `polynomial`."""

    coefficients: tuple[int, ...]
    # the constant first; the last is not zero; () is zero
    denominator: int = 1

    @property
    def degree(self) -> int:
        """Of the highest power; 0 for a constant and for zero."""
        return max(len(self.coefficients) - 1, 0)

    @property
    def constant(self) -> bool:
        """Whether it is the same everywhere."""
        return len(self.coefficients) < 2

    def coefficient(self, power: int) -> Fraction:
        """The factor of xᵖᵒʷᵉʳ."""
        return Fraction(self.coefficients[power] if power < len(self.coefficients) else 0, self.denominator)

    def numerator(self, x: int) -> int:
        """The value at `x` times the denominator."""
        return value(self.coefficients, x)

    def __call__(self, x: int) -> Fraction:
        return Fraction(self.numerator(x), self.denominator)

    def __add__(self, other: Polynomial) -> Polynomial:
        return _sum(self, other, 1)

    def __sub__(self, other: Polynomial) -> Polynomial:
        return _sum(self, other, -1)

    def __mul__(self, other: Polynomial) -> Polynomial:
        left, right = self.coefficients, other.coefficients
        if not left or not right:
            return ZERO
        if len(right) == 1:
            out = [one * right[0] for one in left]
        else:
            out = [0] * (len(left) + len(right) - 1)
            for i, a in enumerate(left):
                for j, b in enumerate(right):
                    out[i + j] += a * b
        return polynomial(out, self.denominator * other.denominator)

    def divided(self, by: Polynomial) -> tuple[Polynomial, Polynomial]:
        """(quotient, remainder) of the division by another that is not zero; the remainder is of lower degree."""
        rest = [Fraction(one, self.denominator) for one in self.coefficients]
        divisor = [Fraction(one, by.denominator) for one in by.coefficients]
        quotient = [Fraction(0)] * max(len(rest) - len(divisor) + 1, 0)
        for at in reversed(range(len(quotient))):
            factor = rest[at + len(divisor) - 1] / divisor[-1]
            quotient[at] = factor
            for i, one in enumerate(divisor):
                rest[at + i] -= factor * one
        return of_fractions(quotient), of_fractions(rest[: len(divisor) - 1])

    def shifted(self, start: int, stride: int) -> Polynomial:
        """The polynomial in t that is this one at x = start + stride·t."""
        out = [0] * len(self.coefficients)
        for power, one in enumerate(self.coefficients):
            if one:
                for i in range(power + 1):
                    out[i] += one * comb(power, i) * stride**i * start ** (power - i)
        return polynomial(out, self.denominator)


def value(coefficients: Iterable[int], x: int) -> int:
    """Σ coefficients[i] · xⁱ."""
    total = 0
    for one in reversed(tuple(coefficients)):
        total = total * x + one
    return total


def polynomial(coefficients: Iterable[int], denominator: int = 1) -> Polynomial:
    """Σ coefficients[i] · xⁱ / denominator, brought to lowest terms."""
    kept = list(coefficients)
    while kept and not kept[-1]:
        kept.pop()
    if not kept:
        return ZERO
    if denominator != 1:
        common = gcd(denominator, *kept)
        if denominator < 0:
            common = -common
        kept, denominator = [one // common for one in kept], denominator // common
    return Polynomial(tuple(kept), denominator)


def of_fractions(coefficients: Iterable[Fraction]) -> Polynomial:
    """The polynomial with these coefficients, the constant first."""
    kept = list(coefficients)
    common = 1
    for one in kept:
        common = common * one.denominator // gcd(common, one.denominator)
    return polynomial([one.numerator * (common // one.denominator) for one in kept], common)


def through(points: Iterable[tuple[int, int]]) -> Polynomial:
    """The polynomial of lowest degree through all `points` (x, y), whose x differ; Newton's divided differences."""
    known = list(points)
    table = [Fraction(y) for _, y in known]
    found, basis = ZERO, ONE
    for level in range(len(known)):
        found = found + of_fractions([table[0]]) * basis
        basis = basis * polynomial([-known[level][0], 1])
        table = [
            (later - earlier) / (known[level + 1 + at][0] - known[at][0])
            for at, (earlier, later) in enumerate(pairwise(table))
        ]
    return found


def _sum(left: Polynomial, right: Polynomial, sign: int) -> Polynomial:
    a, b = left.coefficients, right.coefficients
    scale_a, scale_b, denominator = 1, sign, left.denominator
    if left.denominator != right.denominator:
        scale_a, scale_b = right.denominator, sign * left.denominator
        denominator = left.denominator * right.denominator
    out = [scale_a * one for one in a] + [0] * (len(b) - len(a))
    for at, one in enumerate(b):
        out[at] += scale_b * one
    return polynomial(out, denominator)


ZERO = Polynomial(())
ONE = Polynomial((1,))
X = Polynomial((0, 1))
