"""Devices by name: how much memory they have and what of it a process gets; data with its sources, nothing estimated.

The table stands in `devices.toml`. A field that no source tells is None, never a guess.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from peakmem.errors import UsageError
from peakmem.units import format_bytes, parse_size

Kind = Literal["gpu"]


@dataclass(frozen=True, slots=True)
class Device:
    """One row of the table."""

    name: str
    title: str
    kind: Kind
    memory: str
    # as its maker prints it
    memory_bytes: int
    # the same, its unit taken as it stands: a lower bound where a maker prints GB and means GiB
    source: str
    aliases: tuple[str, ...] = ()
    usable_bytes: int | None = None
    # that the driver gives a process
    usable_source: str = ""
    total_bytes: int | None = None
    # that nvidia-smi shows
    total_source: str = ""
    capability: tuple[int, int] | None = None
    # compute capability of an NVIDIA GPU
    multiprocessors: int | None = None
    context_bytes: int | None = None
    # held by a process on the device beyond what torch's allocator reserved
    context_source: str = ""

    @property
    def capacity_bytes(self) -> int:
        """What a process gets: as torch told it, else the least that drivers leave of the total, else as printed."""
        if self.usable_bytes is not None:
            return self.usable_bytes
        return self.memory_bytes if self.total_bytes is None else int(self.total_bytes * least_left())

    @property
    def capacity_said(self) -> str:
        """Where `capacity_bytes` is from, in words."""
        if self.usable_bytes is not None:
            return f"{self.title}: a process gets {format_bytes(self.usable_bytes)} ({self.usable_source})"
        if self.total_bytes is None:
            return f"{self.title}: {self.memory} as printed by its maker, the unit as it stands ({self.source})"
        return (
            f"{self.title}: {least_left():.1%} of the {format_bytes(self.total_bytes)} that nvidia-smi shows "
            f"({self.total_source}), the least a process gets on cards of which both are known"
        )


def find(name: str) -> Device:
    """The device called `name`; case, blanks and underscores do not count.

    Raises:
        UsageError: no device is called so, or several are.
    """
    wanted = _plain(name)
    names = {_plain(known): device for device in listed() for known in (device.name, *device.aliases, device.title)}
    if wanted in names:
        return names[wanted]
    meant = [device for device in listed() if device.name.startswith(f"{wanted}-")]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise UsageError(
            f"{name!r} may be several devices", expected=f"one of {', '.join(device.name for device in meant)}",
            hint=f"--device {meant[0].name}",
        )  # fmt: skip
    near = get_close_matches(wanted, names, n=1, cutoff=0.5)
    raise UsageError(
        f"no device is called {name[:80]!r}", expected=f"cpu, cuda or one of {', '.join(one.name for one in listed())}",
        hint=f"--device {names[near[0]].name}" if near else "--device cuda --capacity 24GiB",
    )  # fmt: skip


@cache
def least_left() -> float:
    """The smallest share of nvidia-smi's total that a process gets, over the devices of which both are known."""
    known = [(one.usable_bytes, one.total_bytes) for one in listed()]
    return min(usable / total for usable, total in known if usable is not None and total is not None)


def largest_context() -> Device:
    """The device with the largest context that was published: a bound where that of another is not known."""
    return max(listed(), key=lambda device: device.context_bytes or 0)


@cache
def listed() -> tuple[Device, ...]:
    """The whole table."""
    data = tomllib.loads(files("peakmem.devices").joinpath("devices.toml").read_text("utf-8"))
    return tuple(_device(row, data["sources"]) for row in data["device"])


def _device(row: dict[str, Any], sources: dict[str, str]) -> Device:
    def size(key: str) -> int | None:
        return parse_size(row[key]) if key in row else None

    major, _, minor = row.get("capability", "").partition(".")
    return Device(
        row["name"], row["title"], row["kind"], row["memory"], parse_size(row["memory"]), row["source"],
        tuple(row["aliases"]), size("usable"), row.get("usable_source", ""), size("nvidia_smi"),
        row.get("smi_source", sources["smi"]) if "nvidia_smi" in row else "",
        (int(major), int(minor)) if major else None, row.get("multiprocessors"), size("context"),
        row.get("context_source", ""),
    )  # fmt: skip


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "-", name.strip().lower()).removeprefix("nvidia-").removeprefix("geforce-")
