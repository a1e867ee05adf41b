"""What a printed claim means: its numbers, how exactly they are printed, and what its unit may stand for.

"5-8 MB", "~4 million", "< 4 MB", "17M bytes", "4x", "0.6 %", "4.2 M parameters", "50x75", "yes", "3.9 / 2 / 1 KiB".
Nothing is computed or judged here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from peakmem.errors import UsageError
from peakmem.ledger.value import Shape
from peakmem.units import readings

Sort = Literal["size", "count", "open", "ratio", "percent", "money", "plain", "truth", "shape"]
# "open": a bare k, M or G, which may count bytes or things
Relation = Literal["=", "~", "<", "<=", ">", ">="]
Reading = tuple[str, Fraction]
# a unit and what one of it is in bytes, elements or ones

LONGEST = 200
LONGEST_NUMBER = 30
MOST_NUMBERS = 12
# of a list
MOST_BILLIONS = 10_000
EXAMPLE = '"13.4 MiB", "5-8 MB", "~4 million", "< 4 MB", "4x", "0.6 %", "50x75" or "yes"'

_NUMBER = r"\d{1,3}(?:[, _]\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+"
_DASH = r"\s*(?:-|\u2013|\u2014|~|\bto\b|\.\.)\s*"
_ONE = re.compile(rf"^(?P<money>\$|usd|€)?\s*(?P<sign>[-\u2212])?(?P<number>{_NUMBER})\s*(?P<unit>[^\d]*)$")
_TWO = re.compile(
    rf"^(?P<money>\$|usd|€)?\s*(?P<low>{_NUMBER})\s*(?P<inner>[^\d\-\u2013\u2014~.]{{0,16}}?)"
    rf"{_DASH}(?:\$|€)?\s*(?P<high>{_NUMBER})\s*(?P<unit>[^\d]*)$"
)
_BETWEEN = re.compile(r"^between\s+(?P<low>.+?)\s+and\s+(?P<high>.+)$")
_SHAPE = re.compile(r"^\d+(?:\s*[x\u00d7]\s*\d+)+$")
_LISTED = re.compile(r"^[\[(]\s*\d+(?:\s*,\s*\d+)+\s*,?\s*[\])]$")
# a shape as Python prints it
_BEHIND: tuple[tuple[re.Pattern[str], Relation], ...] = (
    (re.compile(r"\s*(?:or (?:less|fewer|smaller|lower)|at most|max(?:imum|\.)?)$"), "<="),
    (re.compile(r"\s*(?:or (?:more|larger|higher|greater)|at least|and up)$"), ">="),
)
_PLUS = re.compile(r"(?<=\d)\s*\+")
_COMMA = re.compile(r"^\D*\d+,\d{1,2}(?!\d)")
# a decimal comma, which reads like a misplaced thousands separator
_ROOM = re.compile(r"\s+(?:of\s+)?(?:ram|vram|sram|dram|memory|flash|storage|disk)$")
_TIMES = {"half": "0.5x", "twice": "2x", "double": "2x", "triple": "3x"}
_POWER = re.compile(r"(?<=\d)e\+?(3|6|9)\b")
_POWERS = {"3": " thousand", "6": " million", "9": " billion"}
# as programs print numbers: 3.5e6
_EACH = re.compile(
    r"\s*(?:\bper|/)\s*(?:image|sample|example|token|param(?:eter)?|weight|element|value|layer|gpu|device)$"
)
# what the amount is of, which the expression says
_RELATIONS: tuple[tuple[str, Relation], ...] = (
    (r"(?:<=|≤|at most|up to|no more than|not more than|max(?:imum|\.)?)", "<="),
    (r"(?:>=|≥|at least|no less than|not less than|min(?:imum|\.)?)", ">="),
    (r"(?:<|even less than|less than|under|below|fewer than|smaller than)", "<"),
    (r"(?:>|more than|over|above|exceeds|larger than|greater than)", ">"),
    (r"(?:~|≈|\u223c|about|around|approx(?:imately|\.)?|roughly|ca\.?|circa|some|nearly|almost)", "~"),
    (r"(?:(?:just|slightly|a little|a bit) (?:under|below|over|above|less than|more than)|close to)", "~"),
    (r"(?:=|exactly)", "="),
)
_SLASH = re.compile(r"\s*/\s*(?=[\d~≈<>$.]|yes|no)")
_LEADING = tuple((re.compile(rf"^{pattern}(?![a-z])\s*"), relation) for pattern, relation in _RELATIONS)
_WORDS = {"thousand": "k", "million": "m", "millions": "m", "mio": "m", "billion": "b", "billions": "b", "bn": "b"}
_COUNTS: dict[str, int] = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}
_NOUNS = re.compile(r"\b(trainable|params?|parameters?|elements?|weights?|values?|floats?|numbers?|activations?|of)\b")
_RATIO = re.compile(
    r"(x|\u00d7|-?\s?fold|times)(\s+(smaller|larger|bigger|greater|higher|lower|less|more|fewer|as (much|many|large)))?"
)
_PERCENT = re.compile(r"(%|percent|per cent)(\s+(smaller|larger|bigger|greater|higher|lower|less|more|fewer))?")
_THINGS = re.compile(
    r"^(?:(?:conv|convolution|convolutional|linear|dense|fully connected) )?"
    r"(images?|samples?|steps?|layers?|operators?|ops|blocks?|channels?|filters?|kernels?|heads?|tokens?|times|"
    r"devices?|gpus?|dollars?|-?bits?|s|ms|seconds?|maps?)$"
)
_FARTHER: dict[str, tuple[Reading, ...]] = {
    "kbit": (("kbit", Fraction(125)),), "mbit": (("Mbit", Fraction(125_000)),),
    "gbit": (("Gbit", Fraction(125_000_000)),),
    "tb": (("TB", Fraction(10**12)),), "tib": (("TiB", Fraction(2**40)),),
    "pb": (("PB", Fraction(10**15)),), "pib": (("PiB", Fraction(2**50)),),
}  # fmt: skip
_NAMED = {
    "kilobyte": "kb", "kilobytes": "kb", "megabyte": "mb", "megabytes": "mb", "gigabyte": "gb", "gigabytes": "gb",
    "kibibyte": "kib", "kibibytes": "kib", "mebibyte": "mib", "mebibytes": "mib", "gibibyte": "gib",
    "gibibytes": "gib", "terabyte": "tb", "terabytes": "tb", "meg": "m bytes", "megs": "m bytes",
}  # fmt: skip
TRUE = ("yes", "true")
FALSE = ("no", "false")


@dataclass(frozen=True, slots=True)
class Printed:
    """One printed number: `number` in steps of its last digit, `places` of them behind the point."""

    text: str
    number: int
    places: int

    @property
    def value(self) -> Fraction:
        """The number as it stands."""
        return Fraction(self.number, 10**self.places)

    @property
    def step(self) -> Fraction:
        """What one in the last printed digit is worth."""
        return Fraction(1, 10**self.places)

    @property
    def loose(self) -> Fraction:
        """The same where zeros at the end of a whole number only fill up; two digits are always meant."""
        if self.places or not self.number:
            return self.step
        digits = str(abs(self.number))
        zeros = len(digits) - len(digits.rstrip("0"))
        return Fraction(10 ** max(min(zeros, len(digits) - 2), 0))


@dataclass(frozen=True, slots=True)
class Amount:
    """What is claimed."""

    text: str
    sort: Sort
    relation: Relation = "="
    low: Printed | None = None
    high: Printed | None = None
    # None: one number and no range
    readings: tuple[Reading, ...] = ()
    # of the unit, the literal one first
    unit: str = ""
    # as printed
    truth: bool = True
    shape: Shape | None = None
    digits: str = ""
    # how the text prints numbers, where it is known not to round: one of `claim.DIGITS`

    @property
    def in_billions(self) -> bool:
        """Whether a B may stand for billions, as in 7B: of few bytes nobody writes."""
        return self.unit == "B" and self.low is not None and self.low.value < MOST_BILLIONS


def amounts(text: str) -> tuple[Amount, ...]:
    """The one or several (between slashes) amounts that a claim prints.

    Raises:
        UsageError: it prints none.
    """
    said = " ".join(text.split())
    if not said or len(said) > LONGEST:
        raise UsageError(f"the claim {said[:60]!r} is {'too long' if said else 'empty'}", expected=EXAMPLE)
    parts = [part.strip() for part in _SLASH.split(said)]
    if len(parts) > MOST_NUMBERS:
        raise UsageError(f"the claim lists {len(parts)} amounts", expected=f"{MOST_NUMBERS} or fewer")
    if len(parts) > 1:
        unit = _trailing(parts[-1])
        parts = [part if _trailing(part) or not unit else f"{part} {unit}" for part in parts]
    return tuple(_amount(part) for part in parts)


def _trailing(text: str) -> str:
    """The unit behind the last number."""
    found = re.search(r"\d\s*([^\d\s][^\d]*)$", text)
    return found.group(1).strip() if found else ""


def _amount(text: str) -> Amount:
    said = text.lower().rstrip(".").strip()
    if said in (*TRUE, *FALSE):
        return Amount(text, "truth", truth=said in TRUE)
    if _SHAPE.fullmatch(said) or _LISTED.fullmatch(said):
        return Amount(text, "shape", shape=Shape(tuple(int(dim[:12]) for dim in re.findall(r"\d+", said))))
    relation: Relation = "="
    said, relation = _relation(_POWER.sub(lambda found: _POWERS[found.group(1)], said))
    said = _TIMES.get(said, said)
    for pattern, meaning in _BEHIND:
        if relation in ("=", "~") and pattern.search(said):
            said, relation = pattern.sub("", said), meaning
    if relation in ("=", "~") and _PLUS.search(said):
        said, relation = _PLUS.sub(" ", said), ">="
    between = _BETWEEN.match(said)
    if between:
        said = f"{between.group('low')} to {between.group('high')}"
    one = _ONE.fullmatch(said)
    two = None if one else _TWO.fullmatch(said)
    found = one or two
    if found is None:
        hint = text.replace(",", ".", 1)[:80] if _COMMA.match(said) else ""
        raise UsageError(f"{text[:80]!r} is no amount", expected=EXAMPLE, hint=hint)
    if one and one.group("sign"):
        raise UsageError(f"{text[:80]!r} is less than nothing", expected=EXAMPLE)
    unit = _EACH.sub("", _ROOM.sub("", f" {found.group('unit').strip().rstrip('.').strip()}")).strip()
    sort, meant = _unit(unit, bool(found.group("money")), text)
    at = text.lower().rfind(unit)
    lowered, unit = unit, text[at : at + len(unit)] if unit and at >= 0 else unit
    meant = tuple((unit if name == lowered else name, worth) for name, worth in meant)
    if one:
        return Amount(text, sort, relation, _printed(one.group("number"), text), None, meant, unit)
    assert two is not None
    inner = two.group("inner").strip()
    low, high = _printed(two.group("low"), text), _printed(two.group("high"), text)
    if inner and inner != unit.lower():
        inner_sort, inner_meant = _unit(inner, bool(two.group("money")), text)
        if inner_sort != sort or not inner_meant or not meant:
            raise UsageError(f"{text[:80]!r} goes from one unit to another", expected="5-8 MB")
        low = _scaled(low, inner_meant[0][1] / meant[0][1])
    if low.value > high.value:
        raise UsageError(f"{text[:80]!r} runs backwards", expected="the smaller number first")
    return Amount(text, sort, relation, low, high, meant, unit)


def _relation(said: str) -> tuple[str, Relation]:
    """(the rest, what stands before the number); of several the strictest, so "roughly under 4" is under 4."""
    relation: Relation = "="
    for _ in range(3):
        for pattern, meaning in _LEADING:
            match = pattern.match(said)
            if match:
                said = said[match.end() :]
                relation = meaning if relation in ("=", "~") else relation
                break
        else:
            break
    return said, relation


def _printed(text: str, claim: str) -> Printed:
    digits = re.sub(r"[, _]", "", text)
    if len(digits) > LONGEST_NUMBER:
        raise UsageError(f"the number in {claim[:60]!r} has {len(digits)} digits", expected=f"{LONGEST_NUMBER} or less")
    whole, _, behind = digits.partition(".")
    return Printed(text, int((whole or "0") + behind), len(behind))


def _scaled(printed: Printed, factor: Fraction) -> Printed:
    """A number in another unit, exact: 900 kB as 0.9 MB."""
    value, places = printed.value * factor, 0
    while value.denominator != 1 and places < 15:
        value, places = value * 10, places + 1
    return Printed(printed.text, round(value), places)


def _unit(unit: str, money: bool, text: str) -> tuple[Sort, tuple[Reading, ...]]:
    """What a unit counts, and all it may mean."""
    if money:
        return "money", (("$", Fraction(_COUNTS.get(unit, 1))),)
    if _RATIO.fullmatch(unit):
        return "ratio", (("x", Fraction(1)),)
    if _PERCENT.fullmatch(unit):
        return "percent", (("%", Fraction(1, 100)),)
    if unit in ("$", "usd", "dollars", "dollar"):
        return "money", (("$", Fraction(1)),)
    counted = bool(_NOUNS.search(unit))
    short = bare = " ".join(_NOUNS.sub(" ", unit).split())
    for word, letter in _WORDS.items():
        short = re.sub(rf"\b{word}\b", letter, short)
    short = _NAMED.get(short, short)
    size = () if counted else sizes(short)
    if size and bare in ("k", "m", "g", "t"):
        return "open", size
    if size and not (short == "b" and bare != "b") and short not in ("k", "m", "g", "t"):
        return "size", size
    if short in _COUNTS:
        return "count" if counted or short else "plain", ((unit, Fraction(_COUNTS[short])),)
    if _THINGS.fullmatch(short):
        return "plain", ((unit, Fraction(1)),)
    from difflib import get_close_matches

    units = {one.lower(): one for one in ("bytes", "kB", "KiB", "MB", "MiB", "GB", "GiB", "million", "parameters")}
    near = [units[one] for one in get_close_matches(short, units, n=1)]
    raise UsageError(
        f"{unit!r} in {text[:60]!r} is no unit that is known here", expected=f"a unit as in {EXAMPLE}",
        hint=near[0] if near else "",
    )  # fmt: skip


def factor(unit: str) -> Fraction:
    """What a letter counts: k, M, B and G."""
    return Fraction(_COUNTS[unit.lower()])


def sizes(unit: str) -> tuple[Reading, ...]:
    """What a printed unit of size may mean, the literal meaning first: "MB" is 10^6 bytes, and may have been 2^20.

    A bare "M" or "million bytes" is written for 10^6 and for 2^20 alike.
    """
    short = unit.lower().strip()
    if short in _FARTHER:
        return _FARTHER[short]
    if not short:
        return ()
    found = readings(short)
    if short in ("kb", "mb", "gb"):
        found += readings(f"{short[0]}ib")
    return tuple((name, Fraction(factor)) for name, factor in found)
