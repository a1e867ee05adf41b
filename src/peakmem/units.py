"""Bytes as people write them, and back.

Inside and in data every size is an exact `int` of bytes. On screen a size carries its unit:
IEC (KiB = 1024 B) unless decimal (kB = 1000 B) is asked for. A bare "MB" never means MiB.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

from peakmem.errors import UsageError

Units = Literal["iec", "si", "bytes"]
UNITS: tuple[str, ...] = get_args(Units)

_STEPS: dict[str, tuple[int, tuple[str, ...]]] = {
    "iec": (1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB")),
    "si": (1000, ("B", "kB", "MB", "GB", "TB", "PB")),
}
_FACTORS: dict[str, int] = {
    unit.lower(): base**power for base, names in _STEPS.values() for power, unit in enumerate(names)
}
MOST_DIGITS = 40
# of a size: more than bytes there are
_SIZE = re.compile(r"^\s*((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9][0-9_]*)(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*$")


def format_bytes(nbytes: int, units: Units = "iec") -> str:
    """`nbytes` for a reader: `5.74 MiB`, `6.02 MB` or `6,021,120 B`."""
    if units == "bytes" or abs(nbytes) < _STEPS[units][0]:
        return f"{nbytes:,} B"
    base, names = _STEPS[units]
    value, power = float(nbytes), 0
    # The limit sits where two decimals would round up to a full step.
    while abs(value) >= base - 0.005 and power < len(names) - 1:
        value /= base
        power += 1
    return f"{value:.2f} {names[power]}"


def format_exact(nbytes: int, units: Units = "iec") -> str:
    """`nbytes` with its exact count beside it: `5.74 MiB (6,021,120 B)`."""
    short = format_bytes(nbytes, units)
    return short if short.endswith(" B") else f"{short} ({nbytes:,} B)"


def parse_size(text: str) -> int:
    """Bytes meant by `320KiB`, `1.5 MB`, `4096`; KiB and kB are told apart, a bare K is refused.

    Raises:
        UsageError: not a size, or a unit that could mean two things.
    """
    match = _SIZE.match(text)
    unit = match.group(2).lower() if match else ""
    if match is None or (unit and unit not in _FACTORS):
        raise UsageError(
            f"{text[:80]!r} is not a size", expected="a number and a unit: B, kB, KiB, MB, MiB, GB, GiB",
            hint="320KiB",
        )  # fmt: skip
    number = match.group(1).replace(",", "").replace("_", "")
    if len(number) > MOST_DIGITS:
        raise UsageError(f"{text[:20]!r}… has {len(number):,} digits", expected=f"a size of at most {MOST_DIGITS}",
                         hint="320KiB")  # fmt: skip
    factor = _FACTORS.get(unit, 1)
    return int(number) * factor if "." not in number else round(float(number) * factor)


_PRINTED = re.compile(r"^(?:([kmg])(i?)(?:b|byte|bytes)?|(?:b|byte|bytes))?$")


def readings(unit: str) -> tuple[tuple[str, int], ...]:
    """What a unit printed by others may mean, as (name, bytes), the literal meaning first; () for no unit of size.

    "MB" is 10^6 bytes and "MiB" 2^20; a bare "M" or "M bytes" may be either.
    """
    match = _PRINTED.match("".join(unit.lower().split()))
    if match is None:
        return ()
    if match.group(1) is None:
        return (("B", 1),)
    power = "kmg".index(match.group(1)) + 1
    decimal, binary = ((_STEPS[name][1][power], _STEPS[name][0] ** power) for name in ("si", "iec"))
    if match.group(2):
        return (binary,)
    return (decimal,) if unit.lower().strip() in ("kb", "mb", "gb") else (decimal, binary)
