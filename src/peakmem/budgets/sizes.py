"""Sizes, counts and growths as they are written in a budget, read exactly; a number without its unit is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from peakmem.errors import UsageError
from peakmem.units import format_bytes, parse_size

_PERCENT = re.compile(r"^\s*\+?([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*%\s*$")
_COUNT = re.compile(r"^\s*([0-9][0-9_,]*(?:\.[0-9]+)?)\s*([kKMGB]?)\s*$")
LARGEST = 2**63 - 1
# bytes or elements; no address space has more
_TIMES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}
# of counts; bytes are never written so


@dataclass(frozen=True, slots=True)
class Growth:
    """How much more than before is allowed: a share of what was there, or so many."""

    share: Fraction | None
    more: int
    written: str

    def allowed(self, before: int) -> int:
        """What is allowed where `before` was there."""
        return before + (self.more if self.share is None else int(before * self.share))


def read_size(value: object, where: str) -> int:
    """Bytes of `"2 MiB"`.

    Raises:
        UsageError: no size, no unit, or not more than 0.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise UsageError(f"{_said(value)} is no size", where=where, expected="a text", hint='"2 MiB"')
    text = str(value).strip()
    if re.fullmatch(r"[+-]?[0-9_,.]+", text) and not text.startswith("-"):
        raise UsageError(
            f"a size without its unit: {text}", where=where, expected="B, kB, KiB, MB, MiB, GB, GiB", hint=_meant(text)
        )
    if text.startswith("-"):
        raise UsageError(f"a budget below 0: {text}", where=where, expected="more than 0", hint='"2 MiB"')
    try:
        nbytes = parse_size(text)
    except UsageError as fault:
        raise UsageError(fault.what, where=where, expected=fault.expected, hint='"2 MiB"') from None
    if nbytes > LARGEST:
        raise UsageError(f"a budget of {text[:80]}", where=where, expected="less than 8,192 PiB", hint='"2 MiB"')
    if nbytes <= 0:
        raise UsageError(f"a budget of {format_bytes(nbytes)}", where=where, expected="more than 0", hint='"2 MiB"')
    return nbytes


def read_count(value: object, where: str) -> int:
    """Elements of `4_200_000`, `"4,200,000"` or `"4.2 M"`.

    Raises:
        UsageError: no count, or not more than 0.
    """
    count: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        count = value
    elif isinstance(value, str) and (match := _COUNT.match(value)):
        found = Fraction(match[1].replace("_", "").replace(",", "")) * _TIMES[match[2]]
        count = int(found) if found.denominator == 1 else None
    if count is None:
        raise UsageError(f"{_said(value)} is no count", where=where, expected="a whole number", hint="4_200_000")
    if count > LARGEST:
        raise UsageError(f"a budget of {str(count)[:40]} …", where=where, expected=f"at most {LARGEST:,}")
    if count <= 0:
        raise UsageError(f"a budget of {count:,}", where=where, expected="more than 0", hint="4_200_000")
    return count


def read_growth(value: object, where: str, *, elements: bool = False) -> Growth:
    """`"2 %"`, `"64 KiB"`; for a count a number, too. Nothing more at all is `"0 %"`.

    Raises:
        UsageError: neither a share nor a size, or below 0.
    """
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and text.startswith("-"):
        raise UsageError(f"a growth below 0: {text}", where=where, expected="0 or more", hint='"2 %"')
    if isinstance(text, str) and (match := _PERCENT.match(text)):
        return Growth(Fraction(match[1]) / 100, 0, text)
    if elements:
        if text == 0:
            return Growth(None, 0, "0")
        count = read_count(text, where)
        return Growth(None, count, f"{count:,}")
    if not isinstance(text, str) or re.fullmatch(r"[0-9_,.]+", text):
        raise UsageError(
            f"a growth without its unit: {_said(text)}", where=where, expected="a share or a size",
            hint='"2 %" or "64 KiB"',
        )  # fmt: skip
    try:
        return Growth(None, parse_size(text), text)
    except UsageError:
        raise UsageError(
            f"{text!r} is no growth", where=where, expected="a share such as 2 % or a size such as 64 KiB", hint='"2 %"'
        ) from None


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, str) else str(value)[:80]


def _meant(text: str) -> str:
    number = text.replace("_", "").replace(",", "")
    whole = number.isdecimal() and int(number) >= 4096
    return f'"{format_bytes(int(number))}" or "{number} B"' if whole and len(number) < 19 else f'"{number} MiB"'
