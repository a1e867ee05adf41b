"""Expressions computed: exact numbers that keep their unit, comparisons, lists item by item.

What may be written stands in `expression`, what is called in `functions`; nothing is judged here.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

from peakmem.errors import PeakmemError, UsageError
from peakmem.ledger.expression import CONSTANTS, OWN, Expression, column, segment
from peakmem.ledger.value import Item, Shape, Unit, Value, joined, number, said

MOST_ITEMS = 4096
# of a list
LARGEST_POWER = 128

Call = Callable[[str, Sequence[Item], Mapping[str, Item]], Item]
# what runs a function of the registry: name, arguments, keywords

_COMPARES: dict[type[ast.cmpop], Callable[[Fraction, Fraction], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip


def evaluate(expression: Expression, call: Call) -> Item:
    """What the expression gives.

    Raises:
        PeakmemError: what a function raises, or numbers that do not go together.
    """
    return _Run(expression.text, call).item(expression.tree)


@dataclass(frozen=True, slots=True)
class _Run:
    source: str
    call: Call

    def item(self, node: ast.expr) -> Item:
        if isinstance(node, ast.Constant):
            return self._constant(node)
        if isinstance(node, ast.Name):
            return CONSTANTS[node.id]
        if isinstance(node, ast.Tuple | ast.List):
            return tuple(self.item(part) for part in node.elts)
        try:
            return self._made(node)
        except PeakmemError as fault:
            if not fault.where and "character " not in fault.what and " [in " not in fault.what:
                at = column(node, self.source)
                fault.what += f" [in {self.source[at : at + 60]!r}]"
                fault.args = (str(fault),)
            raise

    def _made(self, node: ast.expr) -> Item:
        if isinstance(node, ast.Call):
            return self._called(node)
        if isinstance(node, ast.BinOp):
            return self._binary(node.op, self.item(node.left), self.item(node.right))
        if isinstance(node, ast.UnaryOp):
            return self._unary(node)
        if isinstance(node, ast.BoolOp):
            wanted = isinstance(node.op, ast.Or)
            return wanted if any(self.truth(part) is wanted for part in node.values) else not wanted
        if isinstance(node, ast.IfExp):
            return self.item(node.body if self.truth(node.test) else node.orelse)
        assert isinstance(node, ast.Compare)
        sides = [self.item(part) for part in (node.left, *node.comparators)]
        return all(self._compared(op, left, right) for op, left, right in zip(node.ops, sides, sides[1:], strict=False))

    def _constant(self, node: ast.Constant) -> Item:
        if isinstance(node.value, bool | str):
            return node.value
        return number(Fraction(segment(node, self.source).replace("_", "")))

    def truth(self, node: ast.expr) -> bool:
        found = self.item(node)
        if not isinstance(found, bool):
            raise UsageError(f"{said(found)[:60]} is neither true nor false", expected="a comparison")
        return found

    def _called(self, node: ast.Call) -> Item:
        assert isinstance(node.func, ast.Name)
        name = node.func.id
        given = [self.item(part) for part in node.args]
        keywords = {word.arg: self.item(word.value) for word in node.keywords if word.arg is not None}
        if len(keywords) < len(node.keywords):
            raise UsageError(f"{name} is given one keyword twice")
        return own(name, given, keywords) if name in OWN else self.call(name, given, keywords)

    def _unary(self, node: ast.UnaryOp) -> Item:
        if isinstance(node.op, ast.Not):
            return not self.truth(node.operand)
        value = _number(self.item(node.operand))
        return number(-value.number if isinstance(node.op, ast.USub) else value.number, value.unit, value.kind)

    def _binary(self, op: ast.operator, left: Item, right: Item) -> Item:
        if isinstance(left, tuple) or isinstance(right, tuple):
            return _each(left, right, lambda a, b: self._binary(op, a, b))
        one, two = _number(left), _number(right)
        kind = joined(one.kind, two.kind)
        a, b = one.number, two.number
        if isinstance(op, ast.Add | ast.Sub):
            unit = _same(one, two)
            return number(a + b if isinstance(op, ast.Add) else a - b, unit, kind, one.where or two.where)
        if isinstance(op, ast.Mult):
            return number(a * b, _product(one, two), kind, one.where or two.where)
        if isinstance(op, ast.Pow):
            if b.denominator != 1 or abs(b) > LARGEST_POWER or (not a and b < 0) or one.unit or two.unit:
                raise UsageError(f"{said(one)} ** {said(two)} is not computed here", expected="small whole powers")
            return number(a ** int(b), "", kind)
        if not b:
            raise UsageError(f"{said(one)} is divided by nothing")
        if isinstance(op, ast.Div):
            return number(a / b, _quotient(one, two), kind, one.where)
        unit = _quotient(one, two) if isinstance(op, ast.FloorDiv) else one.unit
        return number(Fraction(a // b) if isinstance(op, ast.FloorDiv) else a % b, unit, kind)

    def _compared(self, op: ast.cmpop, left: Item, right: Item) -> bool:
        if isinstance(op, ast.In | ast.NotIn):
            if isinstance(right, tuple):
                found = any(_equal(left, one) for one in right)
            elif isinstance(left, str) and isinstance(right, str):
                found = left in right
            else:
                raise UsageError(f"nothing is in {said(right)[:60]}", expected="a list or a text")
            return found if isinstance(op, ast.In) else not found
        if isinstance(op, ast.Eq | ast.NotEq) and not (isinstance(left, Value) and isinstance(right, Value)):
            return _equal(left, right) is isinstance(op, ast.Eq)
        one, two = _number(left), _number(right)
        if one.unit and two.unit and one.unit != two.unit:
            raise UsageError(f"{said(one)} and {said(two)} are not compared: one is {_name(one)}, one {_name(two)}")
        return _COMPARES[type(op)](one.number, two.number)


def own(name: str, given: Sequence[Item], keywords: Mapping[str, Item]) -> Item:
    """A function of the language itself.

    Raises:
        UsageError: arguments that it does not take.
    """
    if keywords:
        raise UsageError(f"{name} takes no keyword")
    if name == "len":
        if len(given) == 1 and isinstance(given[0], tuple):
            return number(len(given[0]))
        raise UsageError("len takes one list")
    if name in ("all", "any"):
        truths = _flat(given, name)
        if not all(isinstance(one, bool) for one in truths):
            raise UsageError(f"{name} takes comparisons")
        return all(truths) if name == "all" else any(truths)
    if name in ("abs", "round", "floor", "ceil"):
        if not 1 <= len(given) <= (2 if name == "round" else 1):
            raise UsageError(f"{name} takes {'one or two numbers' if name == 'round' else 'one number'}")
        return _rounded(name, _number(given[0]), given[1:])
    values = [_number(one) for one in _flat(given, name)]
    unit, kind = values[0].unit, values[0].kind
    for one in values[1:]:
        unit, kind = _same(Value(values[0].number, unit), one), joined(kind, one.kind)
    if name == "sum":
        return number(sum((one.number for one in values), Fraction(0)), unit, kind)
    best = (min if name == "min" else max)(values, key=lambda one: one.number)
    return number(best.number, unit, kind, best.where)


def _rounded(name: str, value: Value, places: Sequence[Item]) -> Value:
    if places:
        digits = _number(places[0]).number
        if digits.denominator != 1 or not 0 <= digits <= 30:
            raise UsageError("round takes whole places from 0 to 30")
        return number(Fraction(round(value.number, int(digits))), value.unit, value.kind)
    how: dict[str, Callable[[Fraction], Fraction | int]] = {"abs": abs, "round": round, "floor": floor, "ceil": ceil}
    return number(Fraction(how[name](value.number)), value.unit, value.kind, value.where)


def _flat(given: Sequence[Item], name: str) -> list[Item]:
    found: list[Item] = []
    for one in given:
        found += one if isinstance(one, tuple) else [one]
    if not found or len(found) > MOST_ITEMS:
        raise UsageError(f"{name} of {len(found)} things", expected=f"1 to {MOST_ITEMS:,}")
    return found


def _each(left: Item, right: Item, made: Callable[[Item, Item], Item]) -> Item:
    """A list with a number, or two lists of one length, item by item."""
    if isinstance(left, tuple) and isinstance(right, tuple):
        if len(left) != len(right):
            raise UsageError(f"lists of {len(left)} and {len(right)} do not go together")
        return tuple(made(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, tuple):
        return tuple(made(a, right) for a in left)
    assert isinstance(right, tuple)
    return tuple(made(left, b) for b in right)


def _number(item: Item) -> Value:
    if isinstance(item, Value):
        return item
    raise UsageError(f"{said(item)[:60]!r} is no number", expected="a number or a function that gives one")


def _equal(left: Item, right: Item) -> bool:
    if isinstance(left, Value) and isinstance(right, Value):
        return left.number == right.number
    if isinstance(left, Shape | str) and isinstance(right, Shape | str):
        return str(left) == str(right)
    return type(left) is type(right) and left == right


def _name(value: Value) -> str:
    return {"B": "bytes", "elements": "a count of elements", "$": "money", "": "a plain number"}[value.unit]


def _same(one: Value, two: Value) -> Unit:
    """The unit of a sum: a plain number takes that of the other."""
    if one.unit and two.unit and one.unit != two.unit:
        raise UsageError(f"{_name(one)} and {_name(two)} are not added: {said(one)} and {said(two)}")
    return one.unit or two.unit


def _product(one: Value, two: Value) -> Unit:
    """Elements times bytes are bytes; elements times a plain number are left open, as people write 4 × parameters."""
    units = {one.unit, two.unit} - {""}
    if "$" in units:
        return "$"
    if one.unit == two.unit == "B":
        raise UsageError(
            f"bytes are not multiplied by bytes: {said(one)} and {said(two)}",
            expected='a ratio in parentheses, or a count such as parse("7 billion")',
        )
    return "B" if "B" in units else ""


def _quotient(one: Value, two: Value) -> Unit:
    if one.unit == two.unit:
        return ""
    if one.unit in ("B", "$") and two.unit in ("", "elements"):
        return one.unit
    if one.unit == "elements" and not two.unit:
        return "elements"
    return ""
