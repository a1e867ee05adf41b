"""One dimension of a shape: a number, or a symbol whose value is not known yet.

Arithmetic on a symbol gives another symbol that only remembers how it was made, so shape rules
are written once, in plain arithmetic, for both. Binding happens by inferring again with values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

_LONGEST_NAME = 96
_MIN = "Min("


@dataclass(frozen=True, slots=True)
class Symbol:
    """A dimension without a value: `batch`, or something computed from one."""

    name: str

    def __str__(self) -> str:
        return self.name

    @property
    def is_computed(self) -> bool:
        """Whether arithmetic here made it, so that its name is none of the model's."""
        return self.name.startswith(("(", "?", _MIN))

    def __add__(self, other: Dim) -> Dim:
        return self if other == 0 else _derived(self, "+", other)

    def __radd__(self, other: Dim) -> Dim:
        return self if other == 0 else _derived(other, "+", self)

    def __sub__(self, other: Dim) -> Dim:
        if other == 0:
            return self
        return 0 if other == self else _derived(self, "-", other)

    def __rsub__(self, other: Dim) -> Dim:
        return _derived(other, "-", self)

    def __mul__(self, other: Dim) -> Dim:
        if other == 0:
            return 0
        return self if other == 1 else _derived(self, "*", other)

    def __rmul__(self, other: Dim) -> Dim:
        return self.__mul__(other) if isinstance(other, int) and other in (0, 1) else _derived(other, "*", self)

    def __floordiv__(self, other: Dim) -> Dim:
        if other == 1:
            return self
        return 1 if other == self else _derived(self, "//", other)

    def __rfloordiv__(self, other: Dim) -> Dim:
        return _derived(other, "//", self)

    def __neg__(self) -> Dim:
        return _derived(0, "-", self)


Dim: TypeAlias = int | Symbol
Shape: TypeAlias = tuple[Dim, ...]


def _derived(left: Dim, sign: str, right: Dim) -> Symbol:
    return _named(f"({left}{sign}{right})")


def _named(name: str) -> Symbol:
    """The symbol of a formula as `ir.expressions` reads it; one that is too long is only told from others."""
    if len(name) > _LONGEST_NAME:
        from hashlib import blake2b  # slow to import, and rarely needed

        name = "?" + blake2b(name.encode(), digest_size=6).hexdigest()
    return Symbol(name)


def bare(number: int) -> int:
    """The number itself, without what a subclass of int may remember of where it comes from."""
    return int.__index__(number)


def remembers(value: object) -> bool:
    """Whether `value` is an int of a kind of its own, which arithmetic alone carries on."""
    return isinstance(value, int) and value.__class__ is not int and value.__class__ is not bool


def least(dim: Dim, most: int) -> Dim:
    """The smaller of a dimension and a number; a symbol while the dimension is one."""
    return min(dim, most) if isinstance(dim, int) else _named(f"{_MIN}{dim}, {most})")


def product(dims: Shape | list[Dim]) -> Dim:
    """The number of elements of a shape; a symbol when a dimension is one."""
    total: Dim = 1
    for dim in dims:
        total = total * dim
    return total


def element_count(shape: Shape | None) -> int | None:
    """The number of elements, or None while it is not known."""
    if shape is None:
        return None
    total = 1
    for dim in shape:
        if not isinstance(dim, int):
            return None
        total *= dim
    return total


def format_shape(shape: Shape | None) -> str:
    """`1x3x224x224`; `scalar` for rank 0, `?` for an unknown rank."""
    if shape is None:
        return "?"
    return "x".join(str(dim) for dim in shape) or "scalar"
