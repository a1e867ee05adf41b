"""What expressions compute with: exact numbers that know whether they are bytes, elements, money or plain.

Nothing is rounded here; a number is a Fraction to the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeAlias

from peakmem.errors import UsageError
from peakmem.units import Units, format_bytes, format_exact

Unit = Literal["", "B", "elements", "$"]
Kind = Literal["arithmetic", "data", "estimate", "lower bound", "measurement"]
# how it came about: plain arithmetic, a row of a table, computed from a graph, that with something unknown, measured

KINDS: tuple[Kind, ...] = ("arithmetic", "data", "estimate", "lower bound", "measurement")
LARGEST_BITS = 1000
# of numerator and denominator


@dataclass(frozen=True, slots=True)
class Value:
    """One number."""

    number: Fraction
    unit: Unit = ""
    kind: Kind = "arithmetic"
    where: str = ""
    # operator at which a maximum is reached


@dataclass(frozen=True, slots=True)
class Shape:
    """Dimensions."""

    dims: tuple[int, ...]

    def __str__(self) -> str:
        return "x".join(map(str, self.dims)) or "scalar"


Item: TypeAlias = "Value | Shape | bool | str | tuple[Item, ...]"
# what an expression may give


def number(value: Fraction | int, unit: Unit = "", kind: Kind = "arithmetic", where: str = "") -> Value:
    """A number, refused where it is beyond all that is counted here.

    Raises:
        UsageError: it has thousands of digits.
    """
    fraction = Fraction(value)
    if fraction.numerator.bit_length() > LARGEST_BITS or fraction.denominator.bit_length() > LARGEST_BITS:
        raise UsageError("a number of more than 300 digits", expected="a size, a count or a ratio")
    return Value(fraction, unit, kind, where)


def nbytes(value: int, kind: Kind = "estimate", where: str = "") -> Value:
    """Bytes."""
    return Value(Fraction(value), "B", kind, where)


def joined(left: Kind, right: Kind) -> Kind:
    """What is made of two numbers is as sure as the less sure of them."""
    return KINDS[max(KINDS.index(left), KINDS.index(right))]


def plain(value: Fraction, places: int = 4) -> str:
    """A number for a reader: whole ones with commas, others with a few digits behind the point."""
    if value.denominator == 1:
        return f"{value.numerator:,}" if abs(value) < 10**30 else f"{float(value):.6g}"
    if abs(value) >= 1000:
        return f"{float(round(value, 2)):,.2f}"
    text = f"{float(value):.{places}g}"
    return text if "e" not in text else f"{float(value):.6g}"


def decimal(value: Fraction) -> str:
    """Bytes in both readings of a unit, exact at the end: `14.02 MB = 13.37 MiB (14,019,488 B)`."""
    whole, exact = round(value), plain(value, 6)
    if abs(whole) < 1000:
        return f"{exact} B"
    iec = format_bytes(whole)
    both = format_bytes(whole, "si") + (f" = {iec}" if not iec.endswith(" B") else "")
    return f"{both} ({exact} B)"


def said(item: Item, units: Units | None = None, sort: str = "") -> str:
    """What stands in a report: bytes in both readings, or in the one that is asked for.

    `sort` says how plain numbers are claimed: a "ratio" is shown as 3.5x, a "percent" as 12.5 %.
    """
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, str):
        return item
    if isinstance(item, tuple):
        return " / ".join(said(one, units, sort) for one in item)
    if isinstance(item, Shape):
        return str(item)
    if item.unit == "B":
        exact = item.number.denominator == 1
        return format_exact(int(item.number), units) if units is not None and exact else decimal(item.number)
    if item.unit == "$":
        return f"${float(item.number):,.2f}"
    if not item.unit and sort == "percent":
        return f"{plain(item.number * 100)} %"
    return f"{plain(item.number)}x" if not item.unit and sort == "ratio" else plain(item.number)
