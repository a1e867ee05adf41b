"""Where a polynomial is negative, zero and positive, against every whole number tried one by one."""

from hypothesis import given
from hypothesis import strategies as st

from peakmem.formula.envelope import envelope, last_within
from peakmem.formula.polynomial import polynomial
from peakmem.formula.signs import difference, runs


def tried(coefficients, low, high):
    """Runs of one sign, number by number."""
    out = []
    for x in range(low, high + 1):
        value = sum(one * x**power for power, one in enumerate(coefficients))
        sign = (value > 0) - (value < 0)
        if out and out[-1][2] == sign:
            out[-1] = (out[-1][0], x, sign)
        else:
            out.append((x, x, sign))
    return out


@given(st.lists(st.integers(-40, 40), max_size=5), st.integers(-25, 10), st.integers(-1, 70))
def test_runs_are_those_of_trying_each_number(coefficients, low, length):
    assert runs(coefficients, low, low + length) == tried(coefficients, low, low + length)


def test_a_quadratic_with_roots_between_whole_numbers():
    # 4t² - 9 = 0 at ±1.5
    assert runs([-9, 0, 4], -5, 5) == [(-5, -2, 1), (-1, 1, -1), (2, 5, 1)]


def test_an_endless_range_ends_in_an_endless_run():
    # (t - 10)(t - 10^12), by hand
    assert runs([10**13, -(10**12) - 10, 1], 0, None) == [
        (0, 9, 1), (10, 10, 0), (11, 10**12 - 1, -1), (10**12, 10**12, 0), (10**12 + 1, None, 1),
    ]  # fmt: skip
    assert runs([5], 3, None) == [(3, None, 1)]
    assert runs([], 3, None) == [(3, None, 0)]
    assert runs([1, 1], 4, 3) == []


def test_large_numbers_are_exact():
    # t² - (10^15 + 1)² + 1 is negative up to and at 10^15 and positive from 10^15 + 1 on
    side = 10**15 + 1
    assert runs([1 - side**2, 0, 1], 0, None) == [(0, side - 1, -1), (side, None, 1)]


def test_difference():
    assert difference([7, 0, 1]) == [1, 2]  # (t+1)² - t² = 2t + 1
    assert difference([7]) == [0]


CURVES = st.lists(st.builds(polynomial, st.lists(st.integers(-30, 60), max_size=3)), min_size=1, max_size=6)


@given(CURVES, st.integers(0, 5), st.integers(0, 60))
def test_the_envelope_is_the_first_largest_at_every_number(curves, low, length):
    high = low + length
    found = envelope(curves, low, high)
    assert found[0].low == low
    assert found[-1].high == high
    for stretch in found:
        for x in range(stretch.low, stretch.high + 1):
            values = [one(x) for one in curves]
            assert values.index(max(values)) == stretch.winner


def test_an_endless_envelope():
    flat, steep, steeper = polynomial([100]), polynomial([0, 1]), polynomial([0, 0, 1])
    found = envelope([flat, steep, steeper], 0, None)
    assert [(one.low, one.high, one.winner) for one in found] == [(0, 10, 0), (11, None, 2)]


@given(st.lists(st.integers(-20, 40), max_size=4), st.integers(0, 60), st.integers(0, 4000))
def test_the_last_within_is_that_of_trying_each_number(coefficients, high, most):
    curve = polynomial(coefficients)
    fitting = [x for x in range(high + 1) if curve(x) <= most]
    last, above = last_within(curve, 0, high, most)
    assert last == (fitting[-1] if fitting else None)
    if fitting:
        assert above == any(curve(x) > most for x in range(fitting[-1]))


def test_an_endless_run_within_has_no_last():
    assert last_within(polynomial([5]), 0, None, 9) == (-1, False)
    assert last_within(polynomial([5, 1]), 0, None, 9) == (4, False)
