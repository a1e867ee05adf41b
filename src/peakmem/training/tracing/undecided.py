"""A number that was read from a tensor without content: it may be shown and reckoned with, and decides nothing.

Training loops read the loss to print it. Such a read needs no declared value as long as the number stays out of every
decision; where it is compared, taken as a size or as a truth, the step is refused.
"""

# ruff: noqa: ARG002
# PyTorch calls these with arguments of its own

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

HEALTHY = 1.0
# what it counts as where nothing can be noticed (`math.isfinite`): a loss that is neither huge, zero nor undefined


class Undecided(float):
    """One of those numbers; what is reckoned from it is one as well."""

    __slots__ = ("refuse",)
    refuse: Callable[[], Exception]

    def __new__(cls, refuse: Callable[[], Exception]) -> Undecided:
        made = super().__new__(cls, HEALTHY)
        made.refuse = refuse
        return made

    def _another(self, *others: Any) -> Any:
        return Undecided(self.refuse) if all(isinstance(item, int | float) for item in others) else NotImplemented

    def _decides(self, *others: Any) -> NoReturn:
        raise self.refuse()

    __hash__ = float.__hash__
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _another
    __truediv__ = __rtruediv__ = __pow__ = __rpow__ = _another
    __neg__ = __pos__ = __abs__ = __round__ = _another
    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = _decides
    __bool__ = __int__ = __float__ = __trunc__ = __floor__ = __ceil__ = _decides
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __divmod__ = __rdivmod__ = _decides
