"""Claims as data: what somebody said, about which network, and how to compute it. Nothing is computed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from peakmem.ledger.context import Context

Sort = Literal["definition", "example", "table", "formula", "practice", "budget", "option", "measured"]
KINDS: tuple[str, ...] = (
    "definition", "example", "table", "formula", "practice", "budget", "option", "measured",
)  # fmt: skip
DIGITS: tuple[str, ...] = ("cut", "up", "filled")
# cut off, rounded up, zeros at the end of a whole number only filling up


@dataclass(frozen=True, slots=True)
class Reading:
    """Another meaning that the text leaves open."""

    meaning: str
    compute: str
    line: int
    loose: bool = False
    # counts only where it is true and the claim as it stands is not: a word that is used for both


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement."""

    id: str
    line: int
    # of the source it stands in; 0: not told
    says: str
    # in words of whoever wrote the claim
    kind: str
    claim: str
    # what is claimed: an amount
    compute: str
    # expression; empty for practice
    readings: tuple[Reading, ...]
    open: str
    # what the figure depends on and the text does not tell; a difference is then no proof against it
    digits: str
    # how the text prints numbers: "" rounded, or one of DIGITS
    because: str
    practice: str
    # why it cannot be computed; empty where it can
    answer: str
    # feature or page that answers it
    disagrees: str
    # why the verdict is another than that of the reference
    context: Context
    file: str
    lines: tuple[tuple[str, int], ...]
    # of the file, for each key; "" is the claim itself

    def where(self, key: str = "") -> str:
        """File and line of a key, for errors."""
        lines = dict(self.lines)
        return f"{self.file}:{lines.get(key, lines.get('', 0))}: {self.id}"


@dataclass(frozen=True, slots=True)
class Claims:
    """One file of them."""

    file: str
    source: str
    # name of the text that the lines count in
    title: str
    claims: tuple[Claim, ...]
