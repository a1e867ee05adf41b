"""The bytes of each storage of a step as a polynomial of one knob, exact, from logs of one structure. No torch.

A storage of degree d is put through d + 1 logs and has to meet all others to the byte; one that meets them with no
degree is irregular (workspaces that a library rounds or splits), and nothing is said of it but a line through 0 that no
log exceeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from peakmem.formula.polynomial import Polynomial, polynomial, through, value
from peakmem.training.envelope.matching import Stretch
from peakmem.training.log import Log

HIGHEST = 4
# the scores of attention over an image's patches grow with the fourth power of its side


@dataclass(frozen=True, slots=True)
class Series:
    """A step at any value of the knob."""

    form: Log
    # one of its logs: what is the same at all values
    traced: tuple[int, ...]
    storages: tuple[Polynomial, ...]
    # one for each storage of the log
    doubts: tuple[Polynomial, ...]
    irregular: frozenset[int]
    # numbers of storages
    degree: int

    @property
    def checks(self) -> int:
        """How many logs the polynomials met beyond those that the highest degree needs."""
        return len(self.traced) - self.degree - 1

    def at(self, size: int) -> Log:
        """The log at another value; exact where no storage is irregular. Shapes and work are left out.

        Far outside of the traced values a polynomial may fall below zero; no storage does.
        """

        @cache
        def nbytes(curve: Polynomial) -> int:
            return max(-(-value(curve.coefficients, size) // curve.denominator), 0)

        pairs = zip(self.form.storages, self.storages, strict=True)
        doubted = zip(self.form.doubts, self.doubts, strict=True)
        return replace(
            self.form,
            storages=tuple(replace(item, nbytes=nbytes(curve), shape=()) for item, curve in pairs),
            doubts=tuple(replace(item, nbytes=nbytes(curve)) for item, curve in doubted),
            work=(),
        )


def series(stretch: Stretch, *, checks: int = 1) -> Series:
    """Polynomials through the logs of a stretch.

    Args:
        checks: how many logs each polynomial has to meet beyond those that it is put through.
    """
    values, logs = tuple(stretch.logs), tuple(stretch.logs.values())

    @cache
    def fitted(sizes: tuple[int, ...]) -> tuple[Polynomial, bool]:
        found = fit(values, sizes, checks=checks)
        if found is not None:
            return found, True
        return polynomial((0, max(-(-size // at) for at, size in zip(values, sizes, strict=True)))), False

    storages = [fitted(tuple(item.nbytes for item in row)) for row in zip(*(log.storages for log in logs), strict=True)]
    doubts = [fitted(tuple(item.nbytes for item in row)) for row in zip(*(log.doubts for log in logs), strict=True)]
    return Series(
        logs[-1], values, tuple(curve for curve, _ in storages), tuple(curve for curve, _ in doubts),
        frozenset(number for number, (_, exact) in enumerate(storages) if not exact),
        max((curve.degree for curve, exact in (*storages, *doubts) if exact), default=0),
    )  # fmt: skip


def fit(values: Sequence[int], sizes: Sequence[int], *, checks: int = 1) -> Polynomial | None:
    """The polynomial of least degree that meets all sizes, `checks` of them beyond what its degree needs."""
    for degree in range(min(HIGHEST, len(values) - 1 - checks) + 1):
        curve = through(zip(values[: degree + 1], sizes[: degree + 1], strict=True))
        pairs = zip(values[degree + 1 :], sizes[degree + 1 :], strict=True)
        if all(curve.numerator(at) == size * curve.denominator for at, size in pairs):
            return curve
    return None
