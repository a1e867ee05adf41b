"""Folding with symbols among the numbers: the few operators that shape arithmetic is made of.

What the arithmetic of symbols lacks (rounding, minimum, remainder) gives a symbol whose name says
how it was made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from peakmem.ir.dims import Dim, Symbol
from peakmem.ir.shapes.fold import WHOLE, divided, equal
from peakmem.ir.shapes.fold_work import Array, Fold, Work, reduction


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _with_symbols(compute: Callable[..., Any]) -> Fold:
    def run(work: Work) -> Array | None:
        arrays = np.broadcast_arrays(*(array.astype(object) for array in work.x))
        out = np.empty(arrays[0].shape, dtype=object)
        for at in np.ndindex(*out.shape):
            out[at] = compute(*(_whole(array[at]) for array in arrays))
            if out[at] is None:
                return None
        return out

    return run


def _named(text: str) -> Callable[..., Any]:
    """A symbol that remembers how it was made, for what the arithmetic of symbols lacks."""

    def compute(*values: Any) -> Any:
        return Symbol(text.format(*values)) if any(isinstance(value, Symbol) for value in values) else None

    return compute


def _rounded(name: str) -> Callable[[Any], Any]:
    def compute(value: Any) -> Any:
        if isinstance(value, Symbol):
            # A symbol made without fractions is whole already.
            return Symbol(f"{name}({value})") if "." in value.name or "/" in value.name else value
        return value if isinstance(value, int) else int(getattr(np, name)(value))

    return compute


def _smaller_or_larger(name: str) -> Callable[[Any, Any], Any]:
    pick = min if name == "min" else max

    def compute(a: Any, b: Any) -> Any:
        if isinstance(a, Symbol) or isinstance(b, Symbol):
            return a if a == b else Symbol(f"{name}({a},{b})")
        return pick(a, b)

    return compute


def _quotient(work: Work) -> Array | None:
    dtype = work.call.dtype()
    floats = dtype is not None and dtype.kind == "float"

    def compute(a: Any, b: Any) -> Dim | float | None:
        if b == 0:
            return None
        if not isinstance(a, Symbol) and not isinstance(b, Symbol):
            quotient: Dim | float | None = a / b if floats else divided(a, b)
            return quotient
        if floats and b != 1:
            return Symbol(f"({a}/{b})")
        out: Dim = a // b
        return out

    return _with_symbols(compute)(work)


_truncated = _with_symbols(lambda value: int(value) if isinstance(value, float) else value)


def _cast(work: Work) -> Array | None:
    want = work.call.dtype_attr("to")
    if want is None or want.kind == "bool":
        return None
    return _truncated(work) if want.kind in WHOLE else work.x[0]


SYMBOLIC: dict[str, Fold] = {
    "Add": _with_symbols(lambda a, b: a + b),
    "Cast": _cast,
    "Ceil": _with_symbols(_rounded("ceil")),
    "Div": _quotient,
    "Equal": _with_symbols(equal),
    "Floor": _with_symbols(_rounded("floor")),
    "Max": _with_symbols(_smaller_or_larger("max")),
    "Min": _with_symbols(_smaller_or_larger("min")),
    "Mod": _with_symbols(_named("({}%{})")),
    "Mul": _with_symbols(lambda a, b: a * b),
    "Neg": _with_symbols(lambda a: -a),
    "ReduceProd": reduction("prod"),
    "ReduceSum": reduction("sum"),
    "Round": _with_symbols(_rounded("round")),
    "Sub": _with_symbols(lambda a, b: a - b),
}
