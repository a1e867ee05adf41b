import random

import pytest

from peakmem.ir.expressions import names, parse, solved, value, written


@pytest.mark.parametrize(
    ("text", "at", "expected"),
    [
        ("2*s0", {"s0": 7}, 14),
        ("s0//2 + 1", {"s0": 7}, 4),
        ("Mul(Integer(2), Symbol('s77', positive=True, integer=True))", {"s77": 5}, 10),
        ("Add(FloorDiv(Symbol('s0'), Integer(2)), Integer(-1))", {"s0": 9}, 3),
        ("Max(1, s0 - 4)", {"s0": 2}, 1),
        ("Add(Mul(Rational(1, 2), Symbol('a')), Integer(-1))", {"a": 8}, 3),
        ("-s0 + 4", {"s0": 1}, 3),
        ("2**s0", {"s0": 5}, 32),
        ("CeilDiv(s0, 4)", {"s0": 9}, 3),
        ("floor(s0/2)", {"s0": 7}, 3),
        ("Mod(s0, 4)", {"s0": 7}, 3),
        ("(batch*4)", {"batch": 3}, 12),
    ],
)
def test_formulas_are_computed(text, at, expected):
    formula = parse(text)
    assert value(formula, at) == expected
    assert parse(written(formula)) == formula
    assert names(formula) == set(at)


@pytest.mark.parametrize(
    "text",
    [
        "", "a b", "foo(1)", "1/", "__import__('os').getcwd()", "(" * 500, "9" * 99, "Symbol('')", "Mul(s0", "a" * 9000,
        "+".join(["s0"] * 3000), "Piecewise((1, a), (2, True))", "s0[0]", "a.b.c(1)", "Pow(1)", "'x'", "lambda: 1",
    ],
)  # fmt: skip
def test_what_is_no_formula_is_none(text):
    assert parse(text) is None


def test_values_that_cannot_be_told():
    assert value(parse("a + b"), {"a": 1}) is None
    assert value(parse("a/2"), {"a": 1}) is None  # no whole number
    assert value(parse("a//0"), {"a": 1}) is None
    assert value(parse("9**9**9"), {}) is None
    assert value(parse("a**a"), {"a": 2**50}) is None


@pytest.mark.parametrize(
    ("text", "result", "expected"),
    [
        ("2*s0", 64, ("s0", 32)),
        ("3*s0 - 1", 8, ("s0", 3)),
        ("(s0 + 1)*4 - s0", 10, ("s0", 2)),
        ("2*s0", 7, None),
        ("s0*s0", 9, None),
        ("s0//2", 4, None),
        ("s0 + s1", 4, None),
        ("7", 7, None),
        ("s0 + 5", 2, None),  # it would be negative
    ],
)
def test_formulas_are_turned_around(text, result, expected):
    assert solved(parse(text), result) == expected


def test_python_agrees():
    rng = random.Random(0)
    for _ in range(300):
        text = "a"
        for _ in range(rng.randrange(1, 6)):
            sign = rng.choice(("+", "-", "*", "//", "%"))
            other = rng.choice(("a", "b", str(rng.randrange(1, 9))))
            text = f"({text}){sign}{other}" if rng.random() < 0.5 else f"{other}{sign}({text})"
        at = {"a": rng.randrange(1, 50), "b": rng.randrange(1, 50)}
        try:
            expected = eval(text, {}, at)
        except ZeroDivisionError:
            expected = None
        assert value(parse(text), at) == expected, text
