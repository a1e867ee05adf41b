"""The report on what storing models costs: frozen data. Money is exact; nothing is computed or rounded here."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from peakmem._version import __version__

SCHEMA = "peakmem.cost/1"


@dataclass(frozen=True, slots=True)
class Row:
    """One dtype."""

    dtype: str
    nbytes: int
    # one copy
    total_bytes: int
    # all copies
    stored: Decimal
    # all copies in the unit that is charged
    monthly: Decimal
    yearly: Decimal
    whole: Decimal
    # over the months that were asked for
    saving_monthly: Decimal
    saving_yearly: Decimal
    # against the first row; negative where it costs more
    other_monthly: Decimal
    other_yearly: Decimal
    # with the unit read in its other sense


@dataclass(frozen=True, slots=True)
class Cost:
    """What copies of a model cost to store, per dtype."""

    name: str
    copies: int
    price: str
    # as it was given
    amount: Decimal
    currency: str
    # free text; empty where none was given
    unit: str
    # what is charged for: "GB" (10^9 bytes) or "GiB" (2^30)
    unit_bytes: int
    other_unit: str
    other_unit_bytes: int
    # the other sense of it
    months: int
    counted: str
    # what the bytes are: "parameters × bytes of the dtype", "onnx file", "size as given"
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    peakmem: str = __version__
    schema: str = SCHEMA

    def to_json(self) -> str:
        """All of it as indented JSON; money as texts, exact."""
        import msgspec

        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()
