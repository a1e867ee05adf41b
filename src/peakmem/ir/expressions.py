"""Sizes written as formulas of other sizes: read from text, computed, and turned around.

A formula is plain infix (`2*s0`, `s0//2 + 1`, `Max(1, n)`) or the nested calls that SymPy writes
(`Mul(Integer(2), Symbol('s0', positive=True))`). Nothing is evaluated as code; what is not
understood is None, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TypeAlias

LONGEST, DEEPEST, MOST_PARTS = 8192, 60, 200
# characters, nested parentheses and operations of a formula
LARGEST = 1 << 80
# no intermediate result is larger

Formula: TypeAlias = "int | str | Part"
# a number, the name of a size, or an operation


@dataclass(frozen=True, slots=True)
class Part:
    """An operation on formulas."""

    sign: str
    of: tuple[Formula, ...]


class _Unreadable(Exception):
    pass


_TOKEN = re.compile(r"\s*(?:(\d+)|([A-Za-z_][\w.]*)|('[^']{0,200}')|(\*\*|//|[-+*/%(),=]))")
_CALLS: Mapping[str, tuple[str, int]] = {
    "Add": ("+", 0), "Mul": ("*", 0), "Pow": ("**", 2), "Max": ("max", 0), "Min": ("min", 0), "Rational": ("/", 2),
    "FloorDiv": ("//", 2), "CleanDiv": ("//", 2), "IntTrueDiv": ("/", 2), "FloatTrueDiv": ("/", 2),
    "CeilDiv": ("ceildiv", 2), "Mod": ("%", 2), "PythonMod": ("%", 2), "floor": ("floor", 1), "ceiling": ("ceil", 1),
    "FloorToInt": ("floor", 1), "CeilToInt": ("ceil", 1), "TruncToInt": ("trunc", 1), "ToFloat": ("+", 1),
    "Identity": ("+", 1), "PowByNatural": ("**", 2), "ModularIndexing": ("modular", 3), "Abs": ("abs", 1),
}  # fmt: skip
# SymPy's and PyTorch's names: the operation, and how many parts it has (0: any number)
_CONSTANTS = {"One": 1, "Zero": 0, "NegativeOne": -1}


@lru_cache(maxsize=4096)
def parse(text: str) -> Formula | None:
    """The formula that `text` is; None for anything else."""
    if len(text) > LONGEST:
        return None
    try:
        tokens = list(_tokens(text))
        reader = _Reader(tokens)
        found = reader.total(0)
        return found if reader.at == len(tokens) else None
    except (_Unreadable, IndexError):
        return None


def _tokens(text: str) -> Iterator[str]:
    at = 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _Unreadable
        yield match.group(match.lastindex or 0)
        at = match.end()


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        if sum(token in _INFIX or token == "," for token in tokens) > MOST_PARTS:
            raise _Unreadable  # a chain of them nests as deep as it is long
        self.tokens = [*tokens, ""]
        self.at = 0

    def take(self, *wanted: str) -> str:
        token = self.tokens[self.at]
        if token not in wanted:
            return ""
        self.at += 1
        return token

    def total(self, depth: int) -> Formula:
        if depth > DEEPEST:
            raise _Unreadable
        left = self.term(depth)
        while sign := self.take("+", "-"):
            left = Part(sign, (left, self.term(depth)))
        return left

    def term(self, depth: int) -> Formula:
        left = self.power(depth)
        while sign := self.take("*", "//", "/", "%"):
            left = Part(sign, (left, self.power(depth)))
        return left

    def power(self, depth: int) -> Formula:
        if self.take("-"):
            return Part("-", (0, self.power(depth + 1) if depth < DEEPEST else self._deep()))
        left = self.atom(depth)
        return Part("**", (left, self.power(depth + 1))) if self.take("**") else left

    def _deep(self) -> Formula:
        raise _Unreadable

    def atom(self, depth: int) -> Formula:
        if self.take("("):
            inner = self.total(depth + 1)
            if not self.take(")"):
                raise _Unreadable
            return inner
        token = self.tokens[self.at]
        self.at += 1
        if token.isdigit():
            if len(token) > 24:
                raise _Unreadable
            return int(token)
        if not token or not (token[0].isalpha() or token[0] == "_"):
            raise _Unreadable
        return self.call(token, depth) if self.take("(") else _CONSTANTS.get(token.removeprefix("S."), token)

    def call(self, name: str, depth: int) -> Formula:
        name = name.rpartition(".")[2]
        if name == "Symbol":
            quoted = self.tokens[self.at]
            self.at += 1
            while not self.take(")"):  # what SymPy assumes of the symbol
                self.at += 1
                if self.at >= len(self.tokens):
                    raise _Unreadable
            if not re.fullmatch(r"'[A-Za-z_][\w.]*'", quoted):
                raise _Unreadable
            return quoted[1:-1]
        parts = [self.total(depth + 1)]
        while self.take(","):
            parts.append(self.total(depth + 1))
        if not self.take(")"):
            raise _Unreadable
        if name == "Integer":
            return parts[0]
        sign, count = _CALLS.get(name, ("", 0))
        if not sign or (count and len(parts) != count):
            raise _Unreadable
        return Part(sign, tuple(parts))


def written(formula: Formula) -> str:
    """`formula` in infix, the way it is read again; equal formulas give equal text."""
    if not isinstance(formula, Part):
        return str(formula)
    parts = [written(part) for part in formula.of]
    shown = [f"({text})" if isinstance(part, Part) else text for part, text in zip(formula.of, parts, strict=True)]
    if formula.sign in _INFIX and len(parts) > 1:
        return formula.sign.join(shown)
    if formula.sign == "+":
        return parts[0]
    return f"{_SPELLED[formula.sign]}({', '.join(parts)})"


_INFIX = frozenset(("+", "-", "*", "//", "/", "%", "**"))
_SPELLED = {
    "max": "Max", "min": "Min", "floor": "floor", "ceil": "ceiling", "ceildiv": "CeilDiv", "trunc": "TruncToInt",
    "modular": "ModularIndexing", "abs": "Abs",
}  # fmt: skip


def names(formula: Formula) -> set[str]:
    """The sizes a formula is made of."""
    if isinstance(formula, Part):
        return set().union(*(names(part) for part in formula.of))
    return {formula} if isinstance(formula, str) else set()


def value(formula: Formula, values: Mapping[str, int]) -> int | None:
    """The size `formula` gives; None when a name has no value or the result is no whole number."""
    try:
        found = _value(formula, values)
    except (KeyError, ZeroDivisionError, _Unreadable):
        return None
    return found.numerator if found.denominator == 1 else None


def _value(formula: Formula, values: Mapping[str, int]) -> Fraction:
    if isinstance(formula, str):
        return Fraction(values[formula])
    if isinstance(formula, int):
        return Fraction(formula)
    sign, parts = formula.sign, [_value(part, values) for part in formula.of]
    found = parts[0]
    if sign in ("floor", "ceil", "trunc", "abs"):
        down, up = Fraction(found // 1), Fraction(-(-found // 1))
        return {"floor": down, "ceil": up, "trunc": down if found >= 0 else up, "abs": abs(found)}[sign]
    if sign == "modular":
        return Fraction(found // parts[1] % parts[2])
    for part in parts[1:]:
        if sign == "+":
            found += part
        elif sign == "-":
            found -= part
        elif sign == "*":
            found *= part
        elif sign == "/":
            found /= part
        elif sign == "//":
            found = Fraction(found // part)
        elif sign == "ceildiv":
            found = Fraction(-(-found // part))
        elif sign == "%":
            found = found % part
        elif sign == "max":
            found = max(found, part)
        elif sign == "min":
            found = min(found, part)
        elif part.denominator == 1 and -64 <= part <= 64 and abs(found) < 1 << 40:
            found = Fraction(found ** int(part))
        else:
            raise _Unreadable
        if abs(found) > LARGEST or found.denominator > LARGEST:
            raise _Unreadable
    return found


def solved(formula: Formula, result: int) -> tuple[str, int] | None:
    """(name, value) that makes a formula `result`, where it is a multiple of one size plus a number; else None."""
    found = _linear(formula)
    if found is None:
        return None
    name, factor, rest = found
    if not name or not factor:
        return None
    wanted = (result - rest) / factor
    return (name, wanted.numerator) if wanted.denominator == 1 and wanted >= 0 else None


def _linear(formula: Formula) -> tuple[str, Fraction, Fraction] | None:
    if isinstance(formula, str):
        return formula, Fraction(1), Fraction(0)
    if isinstance(formula, int):
        return "", Fraction(0), Fraction(formula)
    if formula.sign not in ("+", "-", "*"):
        return None
    parts = [_linear(part) for part in formula.of]
    name, factor, rest = parts[0] or ("", Fraction(0), Fraction(0))
    for part in parts[1:]:
        if part is None:
            return None
        if formula.sign == "*":
            if name and part[0]:
                return None
            name, factor, rest = name or part[0], factor * part[2] + part[1] * rest, rest * part[2]
        else:
            if name and part[0] and name != part[0]:
                return None
            side = 1 if formula.sign == "+" else -1
            name, factor, rest = name or part[0], factor + side * part[1], rest + side * part[2]
        if abs(factor) > LARGEST or abs(rest) > LARGEST:
            return None
    return None if parts[0] is None else (name, factor, rest)
