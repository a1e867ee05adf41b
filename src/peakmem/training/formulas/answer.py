"""What a closed form answers: bytes in named parts, and the formula itself as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from peakmem.training.formulas.facts import Facts


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes, part by part."""

    parts: tuple[tuple[str, int], ...]

    @property
    def nbytes(self) -> int:
        """All parts together."""
        return sum(nbytes for _, nbytes in self.parts)

    def part(self, name: str) -> int:
        """One part."""
        return dict(self.parts)[name]


def answer(**parts: int | Fraction) -> Answer:
    """An answer; fractions of a byte are dropped, underscores in names are spaces."""
    return Answer(tuple((name.replace("_", " "), int(nbytes)) for name, nbytes in parts.items()))


@dataclass(frozen=True, slots=True)
class Formula:
    """One named closed form."""

    name: str
    title: str
    formula: str
    source: str
    # who published it
    users: str
    # who uses it, and for what
    includes: str
    excludes: str
    compute: Callable[[Facts], Answer]
    needs: tuple[str, ...] = ()
    # facts without which it says nothing: "feature maps", "shape"

    def missing(self, facts: Facts) -> str:
        """The first fact that it needs and has not got; empty when it can be computed."""
        known = {"feature maps": facts.feature_map_bytes > 0, "shape": facts.shape is not None}
        return next((need for need in self.needs if not known[need]), "")
