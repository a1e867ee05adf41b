"""Exact polynomials, against hand arithmetic and Python's own fractions."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from peakmem.formula.polynomial import ONE, ZERO, X, of_fractions, polynomial, through

WHOLE = st.integers(-50, 50)
SOME = st.builds(polynomial, st.lists(WHOLE, max_size=5), st.integers(1, 12))


def test_lowest_terms():
    assert polynomial([4, 6, 0], 8) == polynomial([2, 3], 4)
    assert polynomial([2, -4], -2) == polynomial([-1, 2])
    assert polynomial([0, 0], 7) is ZERO


def test_degree_and_coefficients():
    cubic = polynomial([1, 0, 0, 5], 2)
    assert (cubic.degree, cubic.constant, cubic.coefficient(3), cubic.coefficient(9)) == (3, False, Fraction(5, 2), 0)
    assert ZERO.degree == 0
    assert ZERO.constant


@given(SOME, SOME, WHOLE)
def test_arithmetic_is_that_of_the_values(a, b, x):
    assert (a + b)(x) == a(x) + b(x)
    assert (a - b)(x) == a(x) - b(x)
    assert (a * b)(x) == a(x) * b(x)


@given(SOME, SOME.filter(lambda one: one.coefficients), WHOLE)
def test_division_leaves_a_smaller_remainder(a, b, x):
    quotient, rest = a.divided(b)
    assert quotient(x) * b(x) + rest(x) == a(x)
    assert len(rest.coefficients) < len(b.coefficients)


@given(SOME, WHOLE, st.integers(1, 40), WHOLE)
def test_shifting_is_putting_in(a, start, stride, t):
    assert a.shifted(start, stride)(t) == a(start + stride * t)


@given(st.lists(WHOLE, min_size=1, max_size=4))
def test_a_polynomial_is_found_again_through_its_points(coefficients):
    wanted = polynomial(coefficients)
    assert through([(x, int(wanted(x))) for x in (3, 4, 7, 20)]) == wanted


def test_known_ones():
    assert (X * X + ONE).coefficients == (1, 0, 1)
    assert of_fractions([Fraction(1, 2), Fraction(1, 3)]) == polynomial([3, 2], 6)
