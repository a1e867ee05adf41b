"""The language: what can be written, what is computed exactly, what is refused and where."""

import contextlib
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakmem.errors import UsageError
from peakmem.ledger.evaluation import evaluate
from peakmem.ledger.expression import parse
from peakmem.ledger.value import Shape, Value

KNOWN = ("size", "count", "name", "sides", "listed")


def call(name, _given, _keywords):
    return {
        "size": Value(Fraction(1000), "B", "estimate", "conv1"),
        "count": Value(Fraction(10), "elements", "estimate"),
        "name": "conv1",
        "sides": Shape((2, 3)),
        "listed": (Value(Fraction(3), "B"), Value(Fraction(5), "B")),
    }[name]


def run(text):
    return evaluate(parse(text, KNOWN), call)


@pytest.mark.parametrize(
    ("text", "number", "unit"),
    [
        ("0.1 + 0.2", Fraction(3, 10), ""),
        ("2 ** 10 // 3", 341, ""),
        ("7 % 4 - 1", 2, ""),
        ("-3 + +5", 2, ""),
        ("1_000 * 2", 2000, ""),
        ("size() * 2 + 24", 2024, "B"),
        ("size() / size()", 1, ""),
        ("size() / count()", 100, "B"),
        ("4 * count()", 40, ""),
        ("count() + 1", 11, "elements"),
        ("min(size(), 3)", 3, "B"),
        ("max(listed())", 5, "B"),
        ("sum(listed()) + sum(1, 2)", 11, "B"),
        ("abs(2 - 5)", 3, ""),
        ("round(7 / 3, 2)", Fraction(233, 100), ""),
        ("floor(7 / 2) + ceil(7 / 2)", 7, ""),
        ("len([1, 2, 3])", 3, ""),
        ("1 if size() > 3 else 2", 1, ""),
    ],
)
def test_numbers_are_exact_and_keep_their_unit(text, number, unit):
    found = run(text)
    assert (found.number, found.unit) == (number, unit)


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("1 < 2 <= 2", True), ("1 < 2 > 5", False), ("not 1 == 2", True), ("size() == 1000", True),
        ("1 == 1 and 2 == 3", False), ("1 == 2 or 2 == 2", True), ("name() == 'conv1'", True),
        ("'conv' in name()", True), ("3 in [1, 2]", False), ("sides() == '2x3'", True), ("sides() != '3x2'", True),
        ("all([1 < 2, 2 < 1])", False), ("any(1 < 2, 2 < 1)", True), ("True", True), ("yes and not no", True),
    ],
)  # fmt: skip
def test_comparisons(text, truth):
    assert run(text) is truth


def test_lists_are_taken_item_by_item():
    assert [one.number for one in run("2 * [1, 2] + [10, 20]")] == [12, 24]
    assert [one.unit for one in run("listed() / 1")] == ["B", "B"]


def test_what_is_known_least_surely_decides_the_kind():
    assert run("size() + 1").kind == "estimate"
    assert run("1 + 1").kind == "arithmetic"
    assert run("size() * 2").where == "conv1"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("().__class__", "a dot"), ("size.real", "a dot"), ("[1][0]", "an index"), ("lambda: 1", "lambda"),
        ("[x for x in [1]]", "comprehension"), ("{1: 2}", "mapping"), ("f'{1}'", "f-string"), ("size(*[1])", "star"),
        ("size(**{})", "stars"), ("(x := 1)", "assignment"), ("1 ^ 2", r"\*\*"), ("1 @ 2", "@"), ("~1", "invert"),
        ("1 | 2", "bitor"), ("size() is 1", "is"), ("__import__('os')", "no function is called '__import__'"),
        ("siez()", "expected one of size"), ("size", "neither called nor quoted"), ("conv1", "neither called"),
        ("1 +", "cannot be read"), ("", "empty"), ("1; 2", "cannot be read"), ("import os", "cannot be read"),
        ("1e999", "no number"), ("0x10", "no number"), ("1j", "no number|cannot be written"),
        ("b'x'", "cannot be written"),
        ("None", "cannot be written"), ("...", "cannot be written"), ("1 / 0", "divided by nothing"),
        ("9 ** 9 ** 9", "not computed"), ("2 ** 0.5", "not computed"), ("0 ** -1", "not computed"),
        ("size() ** 2", "not computed"), ("size() + count()", "not added"), ("size() < count()", "not compared"),
        ("'a' * 3", "no number"), ("'a' < 'b'", "no number"), ("1 and 2", "neither true nor false"),
        ("[1, 2] + [1]", "do not go together"), ("sum([])", "0 things"), ("min()", "0 things"), ("len(1)", "one list"),
        ("round(1, 2, 3)", "one or two"), ("round(1, 0.5)", "whole places"), ("size(a=1, a=2)", "cannot be read|twice"),
        ("min(1, key=2)", "no keyword"), ("all(1, 2)", "comparisons"), ("1 in 2", "nothing is in"),
        ("(" * 60 + "1" + ")" * 60 + "+" * 50 + "1", "too deep"), ("1+" * 500 + "1", "too long"),
        ("1" * 5000, "characters"),
        ("(" * 3000 + "1" + ")" * 900, "cannot be read"),
        ("10**128" + "*10**128" * 12, "300 digits"),
    ],
)  # fmt: skip
def test_everything_else_is_refused(text, says):
    with pytest.raises(UsageError, match=says):
        run(text)


def test_an_error_tells_the_position():
    with pytest.raises(UsageError, match=r"at character 5 of the expression: 'siez\(\)'"):
        parse("2 * siez()", KNOWN)
    with pytest.raises(UsageError, match=r"\[in '1 / 0'\]"):
        run("2 + 1 / 0")


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(UsageError):
        run(text)


leaf = st.integers(0, 50).map(str)
tree = st.recursive(
    leaf,
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda part: f"({' '.join(part)})"),
    max_leaves=12,
)


@given(tree)
def test_arithmetic_is_that_of_fractions(text):
    import re

    exact = re.sub(r"(\d+)", r"Fraction(\1)", text)
    try:
        wanted = eval(exact, {"Fraction": Fraction})
    except ZeroDivisionError:
        with pytest.raises(UsageError, match="divided by nothing"):
            run(text)
        return
    assert run(text).number == wanted
