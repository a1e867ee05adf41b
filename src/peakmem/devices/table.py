"""The built-in table, and the files of users beside it; names are looked up here and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fractions import Fraction
from functools import cache
from importlib.resources import files
from pathlib import Path

from peakmem.devices.device import Device
from peakmem.devices.reading import devices_in, read
from peakmem.errors import UsageError
from peakmem.units import parse_size

TABLES = ("gpu", "accelerator", "computer", "board", "phone", "mcu", "limit")
# files in tables/, in the order in which they are listed
SHOWN_NAMES = 12


@cache
def listed() -> tuple[Device, ...]:
    """The whole built-in table."""
    folder = files("peakmem.devices") / "tables"
    read_in: tuple[Device, ...] = ()
    for name in TABLES:
        place = folder / f"{name}.toml"
        if place.is_file():
            read_in += devices_in(place.read_text("utf-8"), f"{name}.toml", known=read_in, built_in=True)
    return read_in


def using(paths: Iterable[str | Path]) -> tuple[Device, ...]:
    """The built-in table with the rows of `paths`: a row with the name of a built-in one stands in its place.

    Raises:
        UsageError: a file that cannot be read or understood, or two files with a row of one name.
    """
    rows = list(listed())
    for path in paths:
        for row in read(path, known=rows):
            same = next((index for index, one in enumerate(rows) if one.name == row.name), None)
            if same is None:
                rows.append(row)
            elif rows[same].origin:
                raise UsageError(
                    f"device {row.name!r} stands in {rows[same].origin} already", where=str(path), hint="another name",
                )  # fmt: skip
            else:
                rows[same] = row
    return tuple(rows)


def find(name: str, among: Sequence[Device] | None = None) -> Device:
    """The device called `name`; case, blanks and underscores do not count.

    Args:
        among: rows of `using`; the built-in table without it.

    Raises:
        UsageError: no device is called so, or several are.
    """
    rows = listed() if among is None else among
    wanted = _plain(name)
    names: dict[str, Device] = {}
    for device in sorted(rows, key=lambda one: bool(one.origin)):
        # the names of a user's row count before those of the table
        names |= {_plain(known): device for known in (device.title, *device.aliases, device.name)}
    if wanted in names:
        return names[wanted]
    meant = [
        device for device in rows
        if wanted and any(known.startswith(f"{wanted}-") for known in (device.name, *device.aliases))
    ]  # fmt: skip
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise UsageError(
            f"{name!r} may be several devices", expected=f"one of {', '.join(device.name for device in meant)}",
            hint=f"--device {meant[0].name}",
        )  # fmt: skip
    if _is_size(name):
        raise UsageError(
            f"{name!r} is a size, not a device", expected="a device by name", hint=f"--capacity {name.strip()}"
        )
    near = list(dict.fromkeys(names[one].name for one in get_close_matches(wanted, names, n=5, cutoff=0.5)))
    raise UsageError(
        f"no device is called {name[:80]!r}",
        expected=f"one of {', '.join(near)} … ({len(rows)} devices: peakmem devices)" if near
        else "cpu, cuda or a name that peakmem devices lists",
        hint=f"--device {near[0]}" if near else "--device cuda --capacity 24GiB",
    )  # fmt: skip


@cache
def least_left() -> float:
    """The smallest share of nvidia-smi's total that a process gets, over the devices of which both are known."""
    known = [(one.usable_bytes, one.total_bytes) for one in listed()]
    return min(usable / total for usable, total in known if usable is not None and total is not None)


@cache
def least_share(kind: str) -> Fraction:
    """The smallest share of its RAM that a process gets, over the devices of a kind of which somebody tells it."""
    known = [
        Fraction(one.capacity_bytes, one.memory_bytes)
        for one in listed()
        if one.kind == kind and one.capacity_known and one.capacity_bytes is not None and one.memory_bytes
    ]
    return min(Fraction(1), *known)


def largest_context() -> Device:
    """The device with the largest context that was published: a bound where that of another is not known."""
    return max(listed(), key=lambda device: device.context_bytes or 0)


def _is_size(name: str) -> bool:
    try:
        return parse_size(name) > 0
    except UsageError:
        return False


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "-", name.strip().lower()).removeprefix("nvidia-").removeprefix("geforce-")
