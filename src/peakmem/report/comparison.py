"""The report of a comparison of two readings of one network: frozen data, nothing computed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

SCHEMA = "peakmem.comparison/1"

Verdict = Literal["same", "dtype differs", "size differs", "only in A", "only in B"]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two readings."""

    source: str
    format: str
    operators: int
    kind: str
    # "estimate" or "lower bound"


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number of both readings."""

    name: str
    unit: str
    # "bytes" or "elements"
    a: int
    b: int
    why: str = ""
    # what accounts for the difference, as far as it is known

    @property
    def same(self) -> bool:
        """Whether the two are equal."""
        return self.a == self.b


@dataclass(frozen=True, slots=True)
class Item:
    """A tensor of one reading."""

    name: str
    made_by: str
    # operator and its type; for a stored tensor its role
    shape: str
    dtype: str
    nbytes: int | None


@dataclass(frozen=True, slots=True)
class Pair:
    """A tensor of A beside the one of B that stands for the same thing; one of them may be missing."""

    verdict: Verdict
    a: Item | None
    b: Item | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two readings side by side: quantities, stored tensors, activations."""

    a: Side
    b: Side
    assume: str
    same: bool
    # every quantity that must be equal is, and every activation has its like; where a side holds weights only,
    # every stored tensor has its like in size and dtype
    quantities: tuple[Quantity, ...]
    stored: tuple[Pair, ...]
    activations: tuple[Pair, ...]
    # empty where a side holds weights only
    differences: tuple[str, ...]
    # each in one sentence
    schema: str = SCHEMA
    peakmem: str = ""

    def to_json(self) -> str:
        """The comparison as JSON text."""
        from peakmem.report.codec import to_json

        return to_json(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and numbers."""
        from peakmem.report.codec import to_dict

        return to_dict(self)
