from hypothesis import given
from hypothesis import strategies as st

from peakmem.ir.dims import Symbol, element_count, format_shape, least, product
from peakmem.ir.shapes.binding import bound_value

N = Symbol("n")


def test_neutral_elements_leave_a_symbol_alone():
    assert all(same == N for same in (N + 0, 0 + N, N - 0, N * 1, 1 * N, N // 1))
    assert N * 0 == 0 * N == N - N == 0
    assert N // N == 1


def test_what_is_computed_is_another_symbol():
    assert (N + 1).name == "(n+1)"
    assert 2 * N != N * 3
    assert (7 - N).name == "(7-n)"
    assert (7 // N).name == "(7//n)"
    assert isinstance(-N, Symbol)


@given(st.lists(st.sampled_from(["+", "-", "*", "//"]), min_size=1, max_size=60))
def test_names_stay_short_and_equal_ways_give_equal_names(signs):
    def walk():
        dim = N
        for sign in signs:
            dim = {"+": dim + 3, "-": dim - 2, "*": dim * 5, "//": dim // 7}[sign]
        return dim

    assert walk() == walk()
    assert len(walk().name) < 100


def test_products_and_counts():
    assert product((2, 3, 4)) == 24
    assert product(()) == 1
    assert element_count((2, N)) is None
    assert element_count(None) is None
    assert element_count((2, 0, 5)) == 0
    assert format_shape((1, N, 3)) == "1xnx3"
    assert (format_shape(()), format_shape(None)) == ("scalar", "?")


def test_the_smaller_of_two_is_a_formula_until_it_is_known():
    assert (least(3, 8), least(9, 8)) == (3, 8)
    symbol = least(N, 8)
    assert symbol == least(N, 8) != least(N, 9)
    assert symbol.is_computed
    assert not N.is_computed
    assert [bound_value(symbol, {"n": size}) for size in (5, 8, 50)] == [5, 8, 8]
    assert bound_value(least(2 * N + 1, 8), {"n": 2}) == 5
    assert bound_value(symbol, {"m": 5}) == symbol
