"""Numbers that remember: what they say holds wherever they say it does, against plain ints."""

from fractions import Fraction
from math import ceil, floor, prod, trunc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peakmem.formula.number import Number, Trace
from peakmem.formula.polynomial import polynomial

KINDS = ("+", "-", "*", "x", "//", "%", "min", "max", "if", "by", "abs", "=")
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 9)), min_size=1, max_size=7)


def walked(x, steps):
    """A little program of the kind that shape rules are made of, on whatever `x` is."""
    now = x
    for what, by in steps:
        if what == "+":
            now = now + by
        elif what == "-":
            now = now - 3 * by
        elif what == "*":
            now = by * now
        elif what == "x":
            now = now * (x + by)
        elif what == "//":
            now = now // by
        elif what == "%":
            now = x + now % (by + 1)
        elif what == "min":
            now = min(now, 5 * by + x)
        elif what == "max":
            now = max(now, 2 * x - by)
        elif what == "if":
            now = now + 7 if now > 10 * by else now - x
        elif what == "by":
            now = (now * x + by) // (x + by)
        elif what == "abs":
            now = abs(now - 20 * by)
        elif what == "=":
            now = now + 1000 if now == 4 * by else now
    return now


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(1, 60))
def test_a_polynomial_holds_in_its_whole_region(steps, x0):
    trace = Trace(x0)
    found = walked(trace.variable(), steps)
    curve = found.polynomial if isinstance(found, Number) else polynomial([found])
    low, high, doubts = trace.region(1, 4000)
    assert low <= x0 <= high
    assert int.__index__(found) == walked(x0, steps)
    assert not trace.pinned
    for x in range(low, min(high, low + 60 * trace.modulus) + 1, trace.modulus):
        if x not in doubts:
            assert curve(x) == walked(x, steps)


def test_a_stride_makes_the_modulus():
    """The stem of a ResNet: (x + 6 - 7) // 2 + 1, then (y + 2 - 3) // 2 + 1; 224 → 112 → 56."""
    trace = Trace(224)
    x = trace.variable()
    y = (x + 6 - 7) // 2 + 1
    z = (y + 2 - 3) // 2 + 1
    assert (int.__index__(y), int.__index__(z), trace.modulus) == (112, 56, 4)
    assert z.polynomial == polynomial([0, 1], 4)
    assert trace.region(1, None) == (4, None, [])


def test_bytes_of_elements_need_no_modulus():
    trace = Trace(7)
    assert ((3 * trace.variable()) * 32 + 7) // 8 == 84
    assert trace.modulus == 1
    int4 = ((3 * trace.variable()) * 4 + 7) // 8
    assert trace.modulus == 2
    assert int4.polynomial == polynomial([1, 3], 2)  # 11 bytes for 21 elements of half a byte


def test_dividing_by_what_it_is_made_of_is_exact():
    trace = Trace(8)
    x = trace.variable()
    assert (x * x * 12) // x == 96
    assert ((x * x * 12) // x).polynomial == polynomial([0, 12])
    assert (x * (x + 1)) // (x + 1) is not None
    assert trace.modulus == 1


def test_what_is_the_same_everywhere_is_a_plain_number():
    trace = Trace(5)
    x = trace.variable()
    for found in (x - x, x // x, 0 * x, x + 1 - x, (x * 4) % 2):
        assert type(found) is int


def test_comparisons_are_written_down():
    trace = Trace(10)
    x = trace.variable()
    assert x < 20
    assert x > 3
    assert trace.region(1, None) == (4, 19, [])
    assert x != 12
    assert trace.region(1, None) == (4, 19, [12])
    assert x != 30
    assert trace.region(1, None) == (4, 19, [12])
    assert x == 10
    assert trace.region(1, None) == (10, 10, [])


def test_equal_polynomials_are_equal_everywhere():
    trace = Trace(6)
    x = trace.variable()
    assert (x, x * 2) == (x + 0, 2 * x)
    assert not trace.conditions


def test_truth_and_signs():
    trace = Trace(3)
    x = trace.variable()
    assert bool(x - 1)
    assert int.__index__(abs(x - 5)) == 2
    assert -x < 0
    assert trace.region(1, None) == (1, 4, [1])


def test_a_sum_and_a_product_stay_exact():
    trace = Trace(4)
    x = trace.variable()
    assert sum([x, 3, x]).polynomial == polynomial([3, 2])
    assert prod([x, 3, x]).polynomial == polynomial([0, 0, 3])
    assert divmod(x + 2, 2) == (3, 0)
    assert (x**3).polynomial == polynomial([0, 0, 0, 1])
    assert (x << 2).polynomial == polynomial([0, 4])
    assert (x >> 1).polynomial == polynomial([0, 1], 2)


def test_whole_floats_are_followed():
    trace = Trace(6)
    x = trace.variable()
    assert (x * 0.5).polynomial == polynomial([0, 1], 2)
    assert trace.modulus == 2
    assert x > 5.5
    assert trace.region(1, None)[0] == 6
    assert floor(x) is x
    assert ceil(x) is x
    assert trunc(x) is x
    assert not trace.pinned


@pytest.mark.parametrize(
    "use",
    [int, float, lambda x: x / 4, lambda x: x * 0.3, lambda x: x + 0.5, lambda x: x - 2.5, lambda x: x & 3,
     lambda x: x.bit_length(), lambda x: x // 2.5, lambda x: 2**x, lambda x: 1 << x],
)  # fmt: skip
def test_what_cannot_be_followed_is_pinned(use):
    trace = Trace(9)
    assert use(trace.variable()) == use(9)
    assert trace.pinned


def test_a_fraction_of_a_size_is_read_through():
    """`ir.expressions` computes with fractions; a whole number among them goes through."""
    from peakmem.ir.expressions import parse, value

    trace = Trace(8)
    found = value(parse("2*s//4 + 1"), {"s": trace.variable()})
    assert found == 5
    assert found.polynomial == polynomial([2, 1], 2)
    assert Fraction(trace.variable()).numerator == 8


def test_division_by_zero_is_refused():
    x = Trace(3).variable()
    with pytest.raises(ZeroDivisionError):
        x // 0
    with pytest.raises(ZeroDivisionError):
        1 // (x - 3)
