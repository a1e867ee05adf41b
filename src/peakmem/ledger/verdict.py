"""Whether a computed value is what a claim prints: right, or how far off. Nothing is computed anew here."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from peakmem.errors import UsageError
from peakmem.ledger.amount import Amount, Printed, Reading, factor, sizes
from peakmem.ledger.value import Item, Shape, Value, plain, said
from peakmem.units import Units

SMALLEST_EXACT = 10**5
# numbers without a unit that will have been bytes
ROUNDED = 4
# a rounding that changes a number by more than one part in so many, 0.6 printed as 1, is no plain one
CUT = 20
# digits that are cut off or rounded up change a number by no more than one part in so many


@dataclass(frozen=True, slots=True)
class Match:
    """One computed value against one printed amount."""

    true: bool
    how: str = ""
    # under which reading of the unit or the digits, where it is not the literal one
    off: str = ""
    partly: bool = False
    # true for some of several values that one amount is claimed of

    @property
    def literal(self) -> bool:
        """Whether it is true as printed."""
        return self.true and not self.how


def matches(claimed: tuple[Amount, ...], computed: Item) -> Match:
    """Whether a claim holds; lists are held item by item, and one amount against each of several values.

    Raises:
        UsageError: the two cannot be compared: a size without a unit, a count against bytes.
    """
    if len(claimed) > 1:
        if not isinstance(computed, tuple) or len(computed) != len(claimed):
            raise UsageError(f"the claim lists {len(claimed)} amounts and the expression gives {said(computed)[:60]}")
        return _all([_match(one, item) for one, item in zip(claimed, computed, strict=True)], several=True)
    if isinstance(computed, tuple):
        if not computed:
            raise UsageError("the expression gives an empty list")
        return _all([_match(claimed[0], item) for item in computed], several=False)
    return _match(claimed[0], computed)


def shown(item: Item, claimed: tuple[Amount, ...], units: Units | None = None) -> str:
    """A computed value in the manner of what is claimed: ratios as ratios, shares in percent."""
    if len(claimed) > 1 and isinstance(item, tuple) and len(item) == len(claimed):
        return " / ".join(said(one, units, amount.sort) for one, amount in zip(item, claimed, strict=True))
    return said(item, units, claimed[0].sort)


def _all(found: list[Match], *, several: bool) -> Match:
    """All together; `several` for a list of amounts, of which each has to be true."""
    if all(one.true for one in found):
        return Match(True, next((one.how for one in found if one.how), ""))
    good = sum(1 for one in found if one.true)
    first = next(one.off for one in found if not one.true)
    if not good:
        return Match(False, "", first)
    return Match(False, "", f"true for {good} of {len(found)}; {first}", partly=not several)


def _match(one: Amount, computed: Item) -> Match:
    if one.sort == "truth":
        if not isinstance(computed, bool):
            raise UsageError(f"the claim is {one.text!r} and {said(computed)[:60]} is neither", expected="a comparison")
        return Match(computed is one.truth, "", "" if computed is one.truth else f"it is {said(computed)}")
    if isinstance(computed, bool):
        raise UsageError(
            f"the expression is a comparison and the claim is {one.text!r}", expected='claim: "yes" or "no"'
        )
    if one.sort == "shape":
        if not isinstance(computed, Shape):
            raise UsageError(f"the claim is a shape and {said(computed)[:60]} is none")
        assert one.shape is not None
        same = one.shape.dims in (computed.dims, *_layouts(computed.dims))
        same = same or _long(one.shape.dims) in (_long(computed.dims), *map(_long, _layouts(computed.dims)))
        return Match(same, "", "" if same else f"it is {computed}")
    if not isinstance(computed, Value):
        raise UsageError(f"the claim is {one.text!r} and {said(computed)[:60]} is no number")
    return _number(one, computed)


def _long(dims: tuple[int, ...]) -> tuple[int, ...]:
    """Dimensions without those of one."""
    return tuple(dim for dim in dims if dim != 1)


def _layouts(dims: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The same batch of maps with channels in the other place, and its rows and columns alone."""
    if len(dims) != 4:
        return ()
    batch, first, second, third = dims
    sides = [(first, second)] if second != third or first == second else []
    sides += [(second, third)] if first != second or second == third else []
    return ((batch, second, third, first), (batch, third, first, second), *sides)


def _number(one: Amount, computed: Value) -> Match:
    """The literal reading first, then other meanings of the unit, then of the digits."""
    literal, *others = readings(one, computed)
    true, how = _holds(one, computed.number / literal[1])
    if true and not how:
        return Match(True)
    for name, worth in others:
        if _holds(one, computed.number / worth) == (True, ""):
            return Match(True, f"{one.unit} read as {name}")
    return Match(True, how) if true else Match(False, "", _off(one, computed, *literal))


def readings(one: Amount, computed: Value) -> tuple[Reading, ...]:
    """All that the unit of a claim may mean for a value of this kind, the literal meaning first.

    Raises:
        UsageError: they are not of one kind.
    """
    if computed.unit == "B":
        if one.sort in ("size", "open"):
            return one.readings if one.sort == "size" else sizes(one.unit)
        if one.sort in ("plain", "count"):
            unit = "MB" if one.low is None or one.low.value < SMALLEST_EXACT else "B"
            raise UsageError(
                f"a claim without a unit: {one.text!r} is compared with {said(computed)}",
                expected="a unit of size: B, kB, KiB, MB, MiB, GB, GiB, M bytes",
                hint="parameters(), which counts" if one.sort == "count" else f"claim: {one.text.split()[-1]} {unit}",
            )  # fmt: skip
        raise UsageError(f"{one.text!r} is compared with {said(computed)}", expected="a size")
    if computed.unit == "elements":
        if one.sort in ("count", "plain"):
            return one.readings
        if one.sort == "open" or one.in_billions:
            return ((one.unit, factor(one.unit)),)
        raise UsageError(
            f"{one.text!r} is compared with a count of {said(computed)} elements", expected="4.2 M parameters",
            hint="parameter_bytes() or weights() for bytes" if one.sort == "size" else "",
        )  # fmt: skip
    if computed.unit == "$" and one.sort not in ("money", "plain"):
        raise UsageError(f"{one.text!r} is compared with {said(computed)}", expected="$12.50")
    if one.sort == "open":
        return ((one.unit, factor(one.unit)), *sizes(one.unit)[1:])
    return one.readings


# -- one number --------------------------------------------------------------------------


def _holds(one: Amount, value: Fraction) -> tuple[bool, str]:
    """(whether the value, in the claim's unit, is what is printed, under what if not literally)."""
    low, high = one.low, one.high
    assert low is not None
    if high is None:
        return _single(one, low, value)
    if one.relation in ("<", "<="):
        if value < low.value or (one.relation == "<=" and value == low.value):
            return True, ""
        return value < high.value, f"under {high.text}, not under {low.text}"
    if one.relation in (">", ">="):
        if value > high.value or (one.relation == ">=" and value == high.value):
            return True, ""
        return value > low.value, f"over {low.text}, not over {high.text}"
    if low.value <= value <= high.value:
        return True, ""
    if one.relation == "~":
        return low.value - low.loose <= value <= high.value + high.loose, ""
    if low.value - low.step / 2 <= value <= high.value + high.step / 2:
        return True, "its ends taken as rounded"
    return False, ""


def _single(one: Amount, printed: Printed, value: Fraction) -> tuple[bool, str]:
    if one.relation == "<":
        return value < printed.value, ""
    if one.relation == ">":
        return value > printed.value, ""
    if one.relation == "<=":
        return value <= printed.value, ""
    if one.relation == ">=":
        return value >= printed.value, ""
    distance = abs(value - printed.value)
    if one.digits in ("cut", "up"):
        return 0 <= (value - printed.value if one.digits == "cut" else printed.value - value) < printed.step, ""
    if 2 * distance <= (printed.loose if one.digits == "filled" else printed.step):
        coarse = one.relation == "=" and ROUNDED * distance > printed.value
        return True, "a rounding to its one digit" if coarse else ""
    if one.relation == "~":
        return distance <= min(printed.loose, printed.value / 10), ""
    if len(str(printed.number)) > 1 and distance < printed.step and CUT * distance <= printed.value:
        return True, "its digits cut off, not rounded" if value > printed.value else "its digits rounded up"
    if printed.loose > printed.step and 2 * distance <= printed.loose:
        return True, "the zeros at its end only filling up"
    return False, ""


def _off(one: Amount, computed: Value, name: str, worth: Fraction) -> str:
    """How far the claim is from the value."""
    assert one.low is not None
    value = computed.number / worth
    near = one.low
    if one.high is not None and value > one.high.value:
        near = one.high
    difference = near.value - value
    unit = f" {name}" if name else ""
    sign = "+" if difference > 0 else "\u2212"
    ratio = f", {plain(near.value / value, 3)} times the value" if value else ""
    which = "" if one.high is None else " at its lower end" if near is one.low else " at its upper end"
    return f"{sign}{plain(abs(difference), 3)}{unit}{which}{ratio}"
