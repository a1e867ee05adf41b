"""Contents that follow from constants: plain Python against NumPy, symbols against numbers."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from peakmem.dtypes import BOOL, FLOAT32, INT32, INT64, DType
from peakmem.ir.dims import Symbol
from peakmem.ir.graph import Operator
from peakmem.ir.shapes import fold_arrays, infer_operator
from peakmem.ir.shapes.call import Call
from peakmem.ir.shapes.facts import Fact
from peakmem.ir.shapes.fold import LARGEST_FOLD, PLAIN

FEW = settings(derandomize=True, deadline=None, max_examples=200, database=None)


def listed(*values: Any, dtype: DType = INT64) -> Fact:
    return Fact((len(values),), dtype, values)


def scalar(value: Any, dtype: DType = INT64) -> Fact:
    return Fact((), dtype, (value,))


def run(op_type: str, *facts: Fact, **attributes: Any) -> tuple[Any, ...] | None:
    operator = Operator("node", op_type, tuple(f"i{i}" for i in range(len(facts))), ("o",), attributes)
    return infer_operator(operator, list(facts), {"": 17})[0].values


def by_arrays(op_type: str, *facts: Fact, **attributes: Any) -> tuple[Any, ...] | None:
    operator = Operator("node", op_type, tuple(f"i{i}" for i in range(len(facts))), ("o",), attributes)
    fact = infer_operator(operator, list(facts), {"": 17})[0]
    call = Call(operator, [f.shape for f in facts], [f.dtype for f in facts], [f.values for f in facts], 17)
    return fold_arrays.fold(call, [(fact.shape, fact.dtype)])[0]


numbers = st.integers(-20, 20)
lists = st.lists(numbers, min_size=1, max_size=5)


@FEW
@given(st.sampled_from(["Add", "Sub", "Mul", "Div", "Equal"]), lists, st.data())
def test_arithmetic_of_lists(op_type: str, left: list[int], data: st.DataObject) -> None:
    right = data.draw(
        st.one_of(st.lists(numbers, min_size=len(left), max_size=len(left)), st.lists(numbers, min_size=1, max_size=1))
    )
    facts = (listed(*left), listed(*right))
    assert run(op_type, *facts) == by_arrays(op_type, *facts)


@FEW
@given(lists, st.lists(st.integers(-9, 9), min_size=3, max_size=3))
def test_slices_of_lists(values: list[int], bounds: list[int]) -> None:
    start, end, step = bounds
    facts = (listed(*values), listed(start), listed(end), listed(0), listed(step or 1))
    assert run("Slice", *facts) == by_arrays("Slice", *facts)


@FEW
@given(lists, lists, st.lists(st.integers(-5, 4), min_size=1, max_size=3))
def test_moves_of_lists(left: list[int], right: list[int], picks: list[int]) -> None:
    facts = (listed(*left), listed(*right))
    assert run("Concat", *facts, axis=0) == by_arrays("Concat", *facts, axis=0) == (*left, *right)
    facts = (listed(*left), listed(*picks))
    assert run("Gather", *facts) == by_arrays("Gather", *facts)
    facts = (listed(*(value > 0 for value in left), dtype=BOOL), listed(*left), listed(7))
    assert run("Where", *facts) == by_arrays("Where", *facts)


@FEW
@given(numbers, numbers, numbers.filter(bool))
def test_ranges(start: int, limit: int, step: int) -> None:
    facts = (scalar(start), scalar(limit), scalar(step))
    assert run("Range", *facts) == by_arrays("Range", *facts) == tuple(range(start, limit, step))


@FEW
@given(
    st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=3), st.sampled_from(["int32", "uint8", "int64", "bool"])
)
def test_casts_of_lists(values: list[int], to: str) -> None:
    assert run("Cast", listed(*values), to=to) == by_arrays("Cast", listed(*values), to=to)


def test_everything_plain_has_a_second_opinion() -> None:
    assert set(PLAIN) - {"ConstantOfShape"} <= set(fold_arrays.FOLDS)


def test_products_that_do_not_fit_wrap_as_they_do_in_an_engine() -> None:
    big = scalar(2**30, INT32)
    assert run("Mul", big, scalar(4, INT32)) == (0,)
    assert run("Add", big, big) == (-(2**31),)


def test_division_by_zero_says_nothing() -> None:
    assert run("Div", listed(4), listed(0)) is None
    assert run("Mod", listed(4), listed(0)) is None


def test_long_contents_are_not_followed() -> None:
    length = scalar(LARGEST_FOLD + 1)
    assert run("Range", scalar(0), length, scalar(1)) is None
    assert run("ConstantOfShape", listed(LARGEST_FOLD), value=(3,), value_dtype="int64") == (3,) * LARGEST_FOLD


# -- symbols -----------------------------------------------------------------------------

N = Symbol("n")
WORDS: dict[str, Any] = {"__builtins__": {}, "min": min, "max": max}
CHAINS = st.lists(
    st.tuples(st.sampled_from(["Add", "Mul", "Div", "Mod", "Min", "Max"]), st.integers(1, 7), st.booleans()),
    min_size=1, max_size=4,
)  # fmt: skip


@FEW
@given(CHAINS, st.integers(1, 30))
def test_a_symbol_stands_for_what_the_numbers_give(chain: list[tuple[str, int, bool]], size: int) -> None:
    symbol, number = scalar(N), scalar(size)
    for op_type, other, swap in chain:
        pair = (scalar(other), symbol) if swap and op_type not in ("Div", "Mod") else (symbol, scalar(other))
        twin = (scalar(other), number) if swap and op_type not in ("Div", "Mod") else (number, scalar(other))
        symbol, number = scalar(*(run(op_type, *pair) or ())), scalar(*(run(op_type, *twin) or ()))
    assert symbol.values is not None
    assert number.values is not None
    (found,), (want,) = symbol.values, number.values
    if isinstance(found, Symbol) and not found.name.startswith("?"):
        found = eval(found.name, WORDS, {"n": size})
    assert isinstance(found, Symbol) or found == want


def test_rounding_of_a_scaled_symbol() -> None:
    """Interpolation by a factor: a size becomes a float, is scaled, rounded down and cast back."""
    sizes = listed(N, 7)
    scaled = run("Mul", Fact((2,), FLOAT32, run("Cast", sizes, to="float32")), listed(1.5, 1.5, dtype=FLOAT32))
    floor = run("Floor", Fact((2,), FLOAT32, scaled))
    assert run("Cast", Fact((2,), FLOAT32, floor), to="int64") == (Symbol("floor((n*1.5))"), 10)
    doubled = run("Mul", Fact((2,), FLOAT32, sizes.values), listed(2.0, 2.0, dtype=FLOAT32))
    assert run("Floor", Fact((2,), FLOAT32, doubled)) == (Symbol("(n*2)"), 14)


def test_moves_keep_symbols() -> None:
    square = Fact((2, 2), INT64, (N, 1, 2, N))
    assert run("Transpose", square, perm=(1, 0)) == (N, 2, 1, N)
    assert run("Slice", square, listed(-1), listed(-9), listed(1), listed(-1)) == (1, N, N, 2)
    assert run("ReduceProd", listed(N, 3, 2), keepdims=0) == (Symbol("((n*3)*2)"),)
    assert run("Size", Fact((N, 3), FLOAT32)) == (Symbol("(n*3)"),)
    assert run("Greater", listed(N), listed(3)) is None
    assert run("Cast", listed(N), to="bool") is None
