"""Networks whose sizes are made-up functions of the knob, so that the right formula is known by construction."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peakmem.dtypes import INT8
from peakmem.ir.graph import Graph, Operator, Tensor
from peakmem.report.formula import Formula
from peakmem.scaling import _report
from peakmem.scaling.evaluation import Setting
from peakmem.scaling.knobs import Knob
from peakmem.scaling.largest import find_largest
from peakmem.scaling.pieces import Explorer
from peakmem.scaling.reach import Reach


def network(*sizes):
    """Operators one after the other, each of whose results is read by the next alone: neighbours are alive together."""
    tensors = {"x": Tensor("x", (0,), INT8, "input")}
    operators = []
    for place, size in enumerate(sizes):
        name = f"t{place}"
        tensors[name] = Tensor(name, (size,), INT8)
        operators.append(Operator(f"op{place}", "MaxPool", ("x" if not place else f"t{place - 1}",), (name,)))
    return Graph("made up", tensors, tuple(operators), ("x",), (f"t{len(sizes) - 1}",))


def explorer(graph, high=None):
    return Explorer(Knob("n", "a size", 1, high, 1, graph, title="made up"), Setting(None, "naive"))


def formula(graph, limits=(1, 300), which="all"):
    return _report(explorer(graph), "", limits, None, which)


def largest(graph, capacity, limits=(1, 300), multiple_of=1):
    looking = explorer(graph)
    reach = Reach(multiple_of, capacity, "resident")
    return find_largest(looking, _report(looking, "", limits, None, reach), capacity, 0, "resident", multiple_of)


def held(found, size, limits=(1, 300)):
    """Whether the formula is the function at every value, and how many it says nothing of."""
    without = 0
    for x in range(limits[0], limits[1] + 1):
        said = found.live_bytes(x)
        if said is None:
            without += 1
        else:
            assert said == size(x), x
    return without


def test_the_winner_changes_where_the_curves_cross():
    """100 against x against x²/10: 100 up to 31, then x² / 10 rounded down (31² = 961, 32² = 1024)."""
    found = formula(lambda x: network(100, 0, x, 0, x * x // 10))
    assert held(found, lambda x: max(100, x, x * x // 10)) == 0
    at = {piece.operator for piece in found.pieces}
    assert at == {"op0", "op4"}
    assert {piece.high for piece in found.pieces if piece.operator == "op0"} == {31}
    assert found.kind == "exact"


def test_one_formula_for_all_values_is_said_once():
    found = formula(lambda x: network(x, x * 3))
    (piece,) = found.pieces
    assert (piece.low, piece.high, piece.modulus, piece.live) == (1, 300, 1, Formula((0, 4)))
    assert found.complete
    assert piece.checked


def test_remainders_are_told_apart_and_put_together():
    """x // 6 differs by remainder; each class has its own formula."""
    found = formula(lambda x: network(x // 6 + 1))
    assert (found.modulus, len(found.pieces)) == (6, 6)
    assert held(found, lambda x: x // 6 + 1) == 0
    even = formula(lambda x: network(12 * (x // 2) // 3))  # modulo 2 is enough for what is left
    assert {piece.modulus for piece in even.pieces} == {2}
    assert held(even, lambda x: 12 * (x // 2) // 3) == 0


def test_one_class_is_shown_unless_all_are_asked_for():
    found = formula(lambda x: network(x // 6 + 1), which="one")
    assert found.residues == (1,)
    assert not found.complete
    assert found.live_bytes(7) == 2
    assert found.live_bytes(8) is None


def test_a_special_value_keeps_its_own_piece():
    found = formula(lambda x: network(500 if x == 40 else x))
    assert held(found, lambda x: 500 if x == 40 else x) == 0
    assert found.piece(40).low == found.piece(40).high == 40


def test_a_special_value_that_changes_nothing_does_not_part_the_range():
    found = formula(lambda x: network(x + 0 if x == 40 else x))
    assert len(found.pieces) == 1
    assert 40 in found.pieces[0].checked


@pytest.mark.parametrize(
    "size",
    [lambda x: len(range(x)) + 5, lambda x: len(range(x)) // 7 * x + 1, lambda x: int(x) + 3, lambda x: int(x * 1.7)],
)
def test_a_number_that_lost_its_memory_is_never_believed(size):
    """`range`, `int` and floats hand out bare numbers; what is then said still has to be right."""
    found = formula(lambda x: network(4, size(x)))
    held(found, lambda x: 4 + size(x))
    assert found.kind == "fitted" or not found.pieces


def test_a_straight_line_that_was_lost_is_fitted():
    found = formula(lambda x: network(len(range(x)) + 5))
    assert (found.kind, len(found.pieces)) == ("fitted", 1)
    assert held(found, lambda x: x + 5) == 0
    assert found.notes


PLAIN = st.sampled_from(
    [
        lambda x, k: k * x, lambda x, k: x * x // k, lambda x, k: (x + k) // 3 * k, lambda _, k: 40 * k,
        lambda x, k: abs(x - 7 * k) * 2, lambda x, k: max(0, 300 - k * x), lambda x, k: x % (k + 1) * 30,
        lambda x, k: (x // 2) * (x // k), lambda x, k: 9 if x > 12 * k else 9 * k, lambda x, k: -(-x // k) * 5,
    ]
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(PLAIN, st.integers(1, 6)), min_size=1, max_size=4))
def test_any_mixture_is_right_at_every_value(parts):
    def sizes(x):
        return [size(x, k) for size, k in parts]

    def live(x):
        there = [0, *sizes(x)]
        return max(a + b for a, b in pairwise(there))

    found = formula(lambda x: network(*sizes(x)), (1, 120))
    assert held(found, live, (1, 120)) == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(PLAIN, st.integers(1, 6)), min_size=1, max_size=3), st.integers(0, 900), st.integers(1, 4))
def test_the_largest_is_that_of_trying_each_value(parts, capacity, step):
    def sizes(x):
        return [size(x, k) for size, k in parts]

    def live(x):
        there = [0, *sizes(x)]
        return max(a + b for a, b in pairwise(there))

    answer = largest(lambda x: network(*sizes(x)), capacity, (1, 120), step)
    fitting = [x for x in range(step, 121, step) if live(x) <= capacity]
    assert answer.value == (fitting[-1] if fitting else 0)
    if fitting:
        assert answer.nbytes == live(answer.value)
        if any(live(x) > capacity for x in range(step, answer.value, step)):
            assert any("may need more" in note or "were not looked at" in note for note in answer.notes)
    following = answer.value + step
    if following <= 120:
        assert (answer.next_value, answer.next_nbytes) == (following, live(following))
        assert answer.next_nbytes > capacity
    else:
        assert answer.next_value is None


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([6, 8, 12, 30]), st.lists(st.integers(0, 400), min_size=30, max_size=30), st.integers(1, 9),
    st.integers(0, 3000),
)  # fmt: skip
def test_the_largest_among_many_remainders_that_go_their_own_ways(modulus, offsets, slope, capacity):
    """Each remainder has its own straight line, so that the peak rises and falls from one value to the next."""

    def live(x):
        rest = x % modulus
        return slope * (x // modulus) + next(offset for at, offset in enumerate(offsets) if at == rest)

    answer = largest(lambda x: network(live(x)), capacity, (1, 2000))
    fitting = [x for x in range(1, 2001) if slope * (x // modulus) + offsets[x % modulus] <= capacity]
    assert answer.value == (fitting[-1] if fitting else 0)


def test_a_smaller_value_of_another_remainder_may_be_the_only_one():
    """Of x modulo 8 only 5 leaves no 1,000 bytes beside x: 397 = 49 · 8 + 5 is the last within 400."""
    answer = largest(lambda x: network(x if x % 8 == 5 else x + 1000), 400, (1, None))
    assert (answer.value, answer.nbytes, answer.next_nbytes) == (397, 397, 1398)


def test_the_largest_without_a_limit():
    """10·x + 3 bytes within 10^9: 99,999,999, by hand."""
    answer = largest(lambda x: network(10 * x + 3), 10**9, (1, None))
    assert (answer.value, answer.nbytes, answer.next_nbytes) == (99_999_999, 999_999_993, 1_000_000_003)
    assert answer.how == "solved"


def test_the_largest_beyond_a_fitted_formula():
    answer = largest(lambda x: network(len(range(x)) * 10 + 3), 10**6, (1, None))
    assert (answer.value, answer.next_nbytes) == (99_999, 1_000_003)


def test_the_largest_where_nothing_is_too_large():
    answer = largest(lambda _: network(8), 100)
    assert (answer.value, answer.next_value) == (300, None)
    assert any("fits" in note for note in answer.notes)


def test_many_special_values_each_keep_their_own():
    special = {7: 900, 11: 950, 40: 1000, 41: 20, 100: 5, 203: 9}

    def size(x):
        for at, there in special.items():
            if x == at:
                return there
        return 2 * x + 1

    found = formula(lambda x: network(size(x)))
    assert held(found, size) == 0
    assert found.kind == "exact"
    assert {piece.low for piece in found.pieces if piece.low == piece.high} == set(special)
