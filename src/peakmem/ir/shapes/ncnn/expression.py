"""Sizes that newer ncnn files write as expressions: `/(0w,2),*(0h,2),64`, prefix notation over blobs.

`0w` is the width of the first blob; a list gives sizes innermost axis first. Functions of the
floating kind are computed in double precision, ncnn uses single. Nothing is executed: a token is a
size, a number or one of the functions below.
Source: `eval_list_expression` in ncnn's `src/expression.cpp` (2026-07).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from peakmem.ir.dims import Dim, Symbol
from peakmem.ir.shapes.call import Call, Unresolved
from peakmem.ir.shapes.ncnn.blob import Blob, larger, quotient

LONGEST, LARGEST = 4096, 2**63
Operand: TypeAlias = Dim | float

_SIZE = re.compile(r"[0-9][whdcn]")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _remainder(left: float, right: float) -> float:
    rest = math.fmod(left, right)
    return rest + right if left * right < 0 else rest


def _round(value: float) -> int:
    return math.floor(value + 0.5) if value >= 0 else math.ceil(value - 0.5)


_SAME_KIND: Mapping[str, Callable[[float], float]] = {
    "abs": abs, "neg": lambda value: -value, "sign": _sign, "square": lambda value: value * value,
}  # fmt: skip
_TO_WHOLE: Mapping[str, Callable[[float], int]] = {
    "trunc": math.trunc, "ceil": math.ceil, "floor": math.floor, "round": _round,
}  # fmt: skip
_REAL: Mapping[str, Callable[[float], float]] = {
    "acos": math.acos, "acosh": math.acosh, "asin": math.asin, "asinh": math.asinh, "atan": math.atan,
    "atanh": math.atanh, "cos": math.cos, "cosh": math.cosh, "erf": math.erf, "exp": math.exp, "log": math.log,
    "log10": math.log10, "reciprocal": lambda value: 1 / value, "rsqrt": lambda value: 1 / math.sqrt(value),
    "sin": math.sin, "sinh": math.sinh, "sqrt": math.sqrt, "tan": math.tan, "tanh": math.tanh,
}  # fmt: skip
_REAL_PAIR: Mapping[str, Callable[[float, float], float]] = {
    "/": lambda left, right: left / right, "atan2": math.atan2, "fmod": math.fmod, "pow": math.pow,
    "remainder": _remainder, "logaddexp": lambda left, right: math.log(math.exp(left) + math.exp(right)),
}  # fmt: skip
_BITS: Mapping[str, Callable[[int, int], int]] = {
    "and": int.__and__, "or": int.__or__, "xor": int.__xor__, "lshift": lambda left, right: left << min(right, 31),
    "rshift": int.__rshift__,
}  # fmt: skip


def evaluate(call: Call, text: str, blobs: Sequence[Blob]) -> list[Dim]:
    """The sizes a list expression stands for, innermost first.

    Raises:
        ShapeError: not an expression, or one that reads a blob that is not there.
        Unresolved: a function of a size without a value.
    """
    if len(text) > LONGEST:
        raise call.error(f"an expression of {len(text):,} characters")
    stack: list[Operand] = []
    try:
        for token in reversed([token for token in re.split(r"[(),]", text) if token]):
            _take(call, token, stack, blobs)
            if isinstance(stack[-1], int) and abs(stack[-1]) > LARGEST:
                raise OverflowError("a number beyond 64 bits")
        return [dim if isinstance(dim, Symbol) else math.trunc(dim) for dim in reversed(stack)]
    except (IndexError, ValueError, OverflowError, ZeroDivisionError) as fault:
        raise call.error(f"the expression {text[:80]!r} cannot be computed ({fault})") from fault


def _take(call: Call, token: str, stack: list[Operand], blobs: Sequence[Blob]) -> None:
    if _SIZE.fullmatch(token):
        source = blobs[int(token[0])]
        stack.append(1 if token[1] == "n" else getattr(source, token[1]))
    elif token in ("+", "-", "*", "//", "max", "min"):
        stack.append(_plain(call, token, stack.pop(), stack.pop()))
    elif token in _SAME_KIND:
        stack.append(_SAME_KIND[token](_known(stack.pop())))
    elif token in _TO_WHOLE:
        value = stack.pop()
        stack.append(value if isinstance(value, Symbol) else _TO_WHOLE[token](value))
    elif token in _REAL:
        stack.append(float(_REAL[token](_known(stack.pop()))))
    elif token in _REAL_PAIR:
        stack.append(float(_REAL_PAIR[token](_known(stack.pop()), _known(stack.pop()))))
    elif token in _BITS:
        left, right = _known(stack.pop()), _known(stack.pop())
        stack.append(_BITS[token](int(left), int(right)))
    elif _NUMBER.fullmatch(token):
        value = float(token)
        stack.append(int(value) if value == int(value) else value)
    else:
        raise ValueError(f"{token[:40]!r} is neither a size nor a function")


def _plain(call: Call, token: str, left: Operand, right: Operand) -> Operand:
    if isinstance(left, Symbol) or isinstance(right, Symbol):
        if isinstance(left, float) or isinstance(right, float):
            raise Unresolved("an expression of sizes without values")
        if token == "max":
            return larger(left, right)
        if token == "min":
            raise Unresolved("an expression of sizes without values")
        return left + right if token == "+" else left - right if token == "-" else (
            left * right if token == "*" else quotient(left, right, call)
        )  # fmt: skip
    if token == "//" and isinstance(left, int) and isinstance(right, int):
        return quotient(left, right, call)
    pairs: Mapping[str, Callable[[float, float], float]] = {
        "+": lambda one, two: one + two, "-": lambda one, two: one - two, "*": lambda one, two: one * two,
        "//": lambda one, two: float(math.floor(one / two)), "max": max, "min": min,
    }  # fmt: skip
    return pairs[token](left, right)


def _known(value: Operand) -> float:
    if isinstance(value, Symbol):
        raise Unresolved(f"the size {value} has no value yet")
    return value
