"""The report on claims: what was said, what is computed, and which of it is true. Frozen data, nothing computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from peakmem._version import __version__

SCHEMA = "peakmem.ledger/1"

Verdict = Literal["right", "wrong", "ambiguous", "practice", "not computed"]
# ambiguous: true under one reading that the text leaves open and false under another; practice: advice, a reference,
# something that needs training data or a person; not computed: a library is missing
VERDICTS: tuple[Verdict, ...] = ("right", "wrong", "ambiguous", "practice", "not computed")
Kind = Literal["arithmetic", "data", "estimate", "lower bound", "measurement"]
# arithmetic: on printed numbers alone; data: from a table with sources


@dataclass(frozen=True, slots=True)
class Computed:
    """What an expression gives, under one reading of the claim."""

    reading: str
    # what is meant; empty for the claim as it stands
    expression: str
    shown: str
    # for a reader: bytes exact and in both units
    values: tuple[float | str | bool, ...]
    # the same as numbers; bytes where the unit is B
    unit: str
    # "B", "elements", "$", or empty
    kind: Kind
    true: bool | None
    # whether the claim holds; None where it was not computed
    off: str = ""
    # how far the claim is from it, where it does not hold
    reason: str = ""
    # why it was not computed


@dataclass(frozen=True, slots=True)
class Explanation:
    """One change under which a wrong claim would be true."""

    change: str
    # "width 0.35 or 0.5", "convention live_eager", "read as MiB"
    shown: str
    # what is then computed


@dataclass(frozen=True, slots=True)
class Statement:
    """One claim and the verdict on it."""

    id: str
    source: str
    line: int
    # of the source; 0: not told
    says: str
    kind: str
    claim: str
    context: str
    # network, batch, dtype …
    verdict: Verdict
    why: str
    computed: tuple[Computed, ...] = ()
    # the claim as it stands first, then its other readings
    explanations: tuple[Explanation, ...] = ()
    # for a claim that is not right: likeliest first
    searched: int = 0
    # changes that were tried for it
    answer: str = ""
    # feature or page that answers it
    disagrees: str = ""
    # why a reference has another verdict
    file: str = ""
    file_line: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """One file of claims, counted."""

    file: str
    source: str
    title: str
    statements: int
    right: int
    wrong: int
    ambiguous: int
    practice: int
    not_computed: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """Claims checked."""

    sources: tuple[Source, ...]
    statements: tuple[Statement, ...]
    right: int
    wrong: int
    ambiguous: int
    practice: int
    not_computed: int
    peakmem: str = __version__
    schema: str = SCHEMA

    @property
    def holds(self) -> bool:
        """Whether every claim that was computed is right."""
        return not self.wrong and not self.ambiguous

    def to_json(self) -> str:
        """All of it as indented JSON."""
        import msgspec

        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()
