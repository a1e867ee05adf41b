"""The report on the claims of a layer table: frozen data that renderers read and JSON carries.

Every recomputed value is exact; nothing here is computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SCHEMA = "peakmem.claims/1"

Verdict = Literal["right", "wrong", "ambiguous", "unchecked"]
# ambiguous: true under one reading that the table leaves open and false under another;
# unchecked: not a number, or of a row that cannot be computed


@dataclass(frozen=True, slots=True)
class Explanation:
    """One change under which a claim would be true."""

    where: str
    # "row 18" or "column Memory"
    change: str
    # "stride 1 instead of 2"
    value: str
    # what is then computed, exact
    support: str = ""
    # what else in the table speaks for it


@dataclass(frozen=True, slots=True)
class Claim:
    """One printed cell and what is recomputed for it."""

    row: int
    line: int
    # of the file; 0 where it is not known
    layer: str
    column: str
    printed: str
    quantity: str
    # what the column means: "output", "kernel", "input + output + kernel"
    recomputed: str
    # exact: bytes, elements or a shape; empty where nothing can be computed
    value: int | None
    # the same as a number; None for shapes
    verdict: Verdict
    reason: str = ""
    # why it is ambiguous or unchecked
    off: str = ""
    # how far a wrong number is off
    explanations: tuple[Explanation, ...] = ()
    # in order of plausibility; empty for a wrong claim that nothing tried explains


@dataclass(frozen=True, slots=True)
class Reading:
    """One meaning of a column and how many of its claims are true under it."""

    quantity: str
    convention: str
    # name of the convention where it is one of the registry
    unit: str
    dtype: str
    right: int


@dataclass(frozen=True, slots=True)
class ColumnVerdict:
    """What the claims of a column mean, and under which single meaning most of them are true."""

    column: str
    reading: Reading
    # by which its claims were judged: as stated, and what is not stated by what makes most rows right
    stated: tuple[str, ...]
    # parts of it that the table or the caller gave: "unit", "dtype", "quantity"
    claims: int
    others: tuple[Reading, ...] = ()
    # as good or better ones, best first


@dataclass(frozen=True, slots=True)
class Repair:
    """One change and the claims that it makes true."""

    where: str
    change: str
    makes_true: int
    claims: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Claims:
    """A published table checked row by row."""

    source: str
    layers: int
    layout: str
    right: int
    wrong: int
    ambiguous: int
    unchecked: int
    columns: tuple[ColumnVerdict, ...]
    claims: tuple[Claim, ...]
    repairs: tuple[Repair, ...]
    # those that make the most claims true first
    notes: tuple[str, ...]
    schema: str = SCHEMA
    peakmem: str = ""

    def to_json(self) -> str:
        """The report as indented JSON."""
        import msgspec

        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()
