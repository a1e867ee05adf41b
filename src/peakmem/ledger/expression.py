"""The language of `compute`: Python's syntax read as a tree, and never run by Python.

Numbers are exact; names are those of the registry. What is not listed here cannot be written: no attributes, no
comprehensions, no assignment. Sizes and depth are bounded before anything is computed.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from peakmem.errors import UsageError
from peakmem.ledger.value import Item

LONGEST = 4000
# characters
MOST_NODES = 600
DEEPEST = 40
_SIZE = re.compile(r"(?<![\w.\"'])\d[\d.,]*\s*[kKMGT]i?B\b")
# a size with its unit, which an expression has as a text
_NUMBER = re.compile(r"^\d[\d_]*(\.[\d_]*)?(e[+-]?\d{1,2})?$|^\.\d[\d_]*(e[+-]?\d{1,2})?$", re.IGNORECASE)

_ALLOWED = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.keyword, ast.Name, ast.Constant,
    ast.Tuple, ast.List, ast.IfExp, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context,
)  # fmt: skip
_NOT_HERE = (
    ast.MatMult, ast.BitOr, ast.BitAnd, ast.BitXor, ast.LShift, ast.RShift, ast.Invert, ast.Is, ast.IsNot,
)  # fmt: skip
OWN = ("min", "max", "sum", "abs", "round", "floor", "ceil", "all", "any", "len")
# functions of the language itself
CONSTANTS: Mapping[str, Item] = {"True": True, "False": False, "yes": True, "no": False}


@dataclass(frozen=True, slots=True)
class Expression:
    """A text that was read and found to hold nothing but this language."""

    text: str
    tree: ast.expr


def parse(text: str, functions: Sequence[str]) -> Expression:
    """The expression, its functions known.

    Raises:
        UsageError: it is none, with the position of the fault.
    """
    if len(text) > LONGEST:
        raise UsageError(f"the expression has {len(text):,} characters", expected=f"{LONGEST:,} or fewer")
    source = " ".join(text.split())
    if not source:
        raise UsageError("the expression is empty", expected="weights() or live_fused(batch=8)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "1if": what Python warns of is refused below or means what it says
            tree = ast.parse(source, mode="eval")
    except SyntaxError as fault:
        size = _SIZE.search(source)
        hint = f'parse("{size[0]}")' if size else ""
        raise _fault(source, (fault.offset or 1) - 1, f"this cannot be read: {fault.msg}", hint=hint) from None
    except (ValueError, RecursionError, MemoryError, OverflowError):
        raise UsageError(f"the expression {source[:60]!r} cannot be read") from None
    _check(tree.body, source, functions)
    return Expression(source, tree.body)


def _check(tree: ast.expr, source: str, functions: Sequence[str]) -> None:
    todo: list[tuple[ast.AST, int]] = [(tree, 0)]
    seen = 0
    while todo:
        node, depth = todo.pop()
        seen += 1
        if seen > MOST_NODES or depth > DEEPEST:
            raise UsageError("the expression is too long or too deep", expected=f"{MOST_NODES} parts or fewer")
        at = column(node, source)
        if not isinstance(node, _ALLOWED) or isinstance(node, _NOT_HERE):
            what = _WORDS.get(type(node).__name__, type(node).__name__.lower())
            raise _fault(source, at, f"{what} cannot be written here")
        if isinstance(node, ast.Call):
            _check_call(node, source, functions)
        elif isinstance(node, ast.Constant):
            _check_constant(node, source, at)
        elif isinstance(node, ast.Name) and node.id not in CONSTANTS and not _called(node, tree):
            hint = f"{node.id}()" if node.id in functions or node.id in OWN else f'"{node.id}"'
            raise _fault(source, at, f"{node.id!r} is neither called nor quoted", hint=hint)
        todo += [(child, depth + 1) for child in ast.iter_child_nodes(node)]


def _called(name: ast.Name, tree: ast.expr) -> bool:
    return any(isinstance(node, ast.Call) and node.func is name for node in ast.walk(tree))


def _check_call(node: ast.Call, source: str, functions: Sequence[str]) -> None:
    at = column(node, source)
    if not isinstance(node.func, ast.Name):
        raise _fault(source, at, "only functions by name can be called")
    name = node.func.id
    if name not in functions and name not in OWN:
        raise unknown_function(name, functions, source, at)
    if any(keyword.arg is None for keyword in node.keywords) or any(isinstance(one, ast.Starred) for one in node.args):
        raise _fault(source, at, "stars cannot be written here")


def unknown_function(name: str, functions: Sequence[str], source: str = "", at: int = 0) -> UsageError:
    """That no function is called so, with the nearest that is."""
    near = get_close_matches(name, (*functions, *OWN), n=3, cutoff=0.5)
    what = f"no function is called {name[:60]!r}"
    expected = f"one of {', '.join(near)}" if near else "one of docs/guides/claims.md"
    hint = f"{near[0]}()" if near else ""
    if not source:
        return UsageError(what, expected=expected, hint=hint)
    return _fault(source, at, what, expected=expected, hint=hint)


def _check_constant(node: ast.Constant, source: str, at: int) -> None:
    value = node.value
    if isinstance(value, bool | str):
        return
    if isinstance(value, int | float):
        text = segment(node, source)
        if _NUMBER.fullmatch(text) is None or len(text) > 60:
            raise _fault(source, at, f"{text[:40]!r} is no number that can be written here", expected="17.5 or 1_000")
        return
    raise _fault(source, at, f"{segment(node, source)[:40]!r} cannot be written here", expected='a number or "text"')


def segment(node: ast.expr, source: str) -> str:
    return ast.get_source_segment(source, node) or ""


def column(node: ast.AST, source: str) -> int:
    """Characters in front of a node."""
    offset = getattr(node, "col_offset", 0)
    return len(source.encode()[:offset].decode(errors="ignore"))


def _fault(source: str, at: int, what: str, *, expected: str = "", hint: str = "") -> UsageError:
    shown = source[at : at + 40]
    return UsageError(f"{what}, at character {at + 1} of the expression: {shown!r}", expected=expected, hint=hint)


_WORDS = {
    "Attribute": "a dot", "Subscript": "an index", "Lambda": "lambda", "ListComp": "a comprehension",
    "GeneratorExp": "a comprehension", "SetComp": "a comprehension", "DictComp": "a comprehension",
    "Dict": "a mapping", "Set": "a set", "JoinedStr": "an f-string", "NamedExpr": "an assignment",
    "Await": "await", "Yield": "yield", "Starred": "a star", "BitXor": "^ (a power is **)", "MatMult": "@",
}  # fmt: skip


def names(expression: Expression) -> set[str]:
    """The functions that an expression calls."""
    return {
        node.func.id
        for node in ast.walk(expression.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
