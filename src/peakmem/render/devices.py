"""Devices on a page: a table of all, or one with every figure beside its source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from fractions import Fraction
from typing import Any

from peakmem.devices import Device
from peakmem.render.blocks import Block, Lines, Table
from peakmem.units import Units, format_bytes, format_exact

COLUMNS = ("name", "kind", "RAM", "storage", "a process gets", "weights in flash", "source")


def rows(devices: Sequence[Device], units: Units = "iec") -> tuple[tuple[str, ...], ...]:
    """A row of the table for each device."""
    return tuple(
        (
            device.name, device.kind, size(device.memory_bytes, units), size(device.storage_bytes, units),
            gets(device, units), "yes" if device.weights_in_flash else "no",
            device.source or device.storage_source,
        )
        for device in devices
    )  # fmt: skip


def listing(devices: Sequence[Device], units: Units = "iec") -> list[Block]:
    """All of them."""
    note = "all that is printed: nobody says what a process gets. peakmem devices NAME shows who says each figure."
    return [
        Table(f"Devices ({len(devices)})", COLUMNS, rows(devices, units), frozenset(COLUMNS[2:5])),
        Lines("≈", (note,)),
    ]


def one(device: Device, units: Units = "iec") -> list[Block]:
    """One device: what is known, what is not, and who says so."""
    kept = [
        ("kind", device.kind, ""),
        ("also called", ", ".join(device.aliases) or "–", ""),
        ("RAM as printed", device.memory or "none: only storage is limited", device.source),
        (
            "RAM",
            _exact(device.memory_bytes, units),
            device.memory_source or ("the unit as it stands" * bool(device.memory)),
        ),
        ("storage as printed", device.storage or "not known", device.storage_source),
        ("storage", _exact(device.storage_bytes, units), ""),
        ("one memory for processor and graphics", "yes" if device.unified else "no", ""),
        ("weights are read in flash", "yes" if device.weights_in_flash else "no", device.weights_source),
        ("a process gets", gets(device, units, exact=True), _why(device)),
        ("longest arena", _exact(device.arena_bytes, units), "" if device.contiguous_bytes is None else "banks below"),
        ("alignment in an arena", f"{device.alignment} B", device.alignment_source),
        ("who may change that", device.override, ""),
    ]
    if device.total_bytes is not None:
        kept.append(("total in nvidia-smi", _exact(device.total_bytes, units), device.total_source))
    if device.kind == "gpu" or device.capability is not None:
        context = _exact(device.context_bytes, units)
        kept += [
            ("CUDA context and kernels", context, device.context_source),
            ("compute capability", ".".join(map(str, device.capability or ())) or "not known", ""),
            ("multiprocessors", str(device.multiprocessors or "not known"), ""),
        ]
    if device.note:
        kept.append(("note", device.note, ""))
    if device.origin:
        kept.append(("from", device.origin, ""))
    shown: list[Block] = [Table(f"{device.name}: {device.title}", ("what", "figure", "source"), tuple(kept))]
    if device.memories:
        banks = tuple((name, _exact(nbytes, units)) for name, nbytes in device.memories)
        shown.append(Table("Banks of RAM", ("bank", "size"), banks, frozenset({"size"})))
    return shown


def plain_data(device: Device) -> dict[str, Any]:
    """All fields of a device, those that follow from them too, as JSON has them."""
    data: dict[str, Any] = {entry.name: getattr(device, entry.name) for entry in fields(Device)}
    data |= {
        "capacity_bytes": device.capacity_bytes, "capacity_known": device.capacity_known,
        "capacity_said": device.capacity_said, "arena_bytes": device.arena_bytes,
    }  # fmt: skip
    return {name: float(value) if isinstance(value, Fraction) else value for name, value in data.items()}


def size(nbytes: int | None, units: Units = "iec") -> str:
    """A size, or a dash where it is not known."""
    return "–" if nbytes is None else format_bytes(nbytes, units)


def gets(device: Device, units: Units = "iec", *, exact: bool = False) -> str:
    """What a process gets; with ≈ where nobody says it and all is taken."""
    if device.capacity_bytes is None:
        return "not known" if exact else "–"
    mark = "" if device.capacity_known else "≈ "
    return mark + (_exact if exact else size)(device.capacity_bytes, units)


def _exact(nbytes: int | None, units: Units) -> str:
    return "not known" if nbytes is None else format_exact(nbytes, units)


def _why(device: Device) -> str:
    if device.capacity_bytes is None:
        return ""
    if device.usable_source:
        return device.usable_source
    if device.total_bytes is not None:
        return device.capacity_said
    return "all of it" if device.capacity_known else "all of it: nobody was found who says what the system leaves"
