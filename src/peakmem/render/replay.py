"""The report on a recorded trace as titled tables of strings; writers lay them out."""

from __future__ import annotations

from peakmem.render.blocks import Block, Lines, Table
from peakmem.report.replay import Device, Replay, WhatIf
from peakmem.units import Units, format_bytes, format_exact


def blocks(report: Replay, units: Units = "iec", top: int = 10) -> list[Block]:
    """Verdict, levels of record and simulation, what holds the peak, what else was tried, and the assumptions."""
    shown: list[Block] = [_headline(report)]
    for device in report.devices:
        shown.append(_match(device))
        shown.append(_levels(device, units))
        if device.first_difference is not None:
            shown.append(_difference(device))
        if device.kinds:
            shown.append(_kinds(device, units))
        if device.sites:
            shown.append(_sites(device, units, top))
        if device.what_if is not None:
            shown.append(_what_if(device, device.what_if, units))
    shown.append(Lines("Assumptions", report.notes or ("none",)))
    return shown


def _headline(report: Replay) -> Lines:
    events = sum(device.events for device in report.devices)
    if not report.devices:
        verdict = "nothing to replay"
    elif not events:
        verdict = "no event recorded: only the last state is known"
    elif report.equal:
        verdict = "record and simulation are equal: every address, every segment, every block of the last state"
    else:
        verdict = "record and simulation part; below, where first and why"
    count = len(report.devices)
    return Lines(
        report.source,
        (verdict, f"{events:,} events of {count} {'device' if count == 1 else 'devices'}; settings: {report.settings}"),
    )


def _match(device: Device) -> Table:
    rows = [
        ("addresses of blocks", f"{device.allocations:,}", f"{device.addresses_equal:,}"),
        ("segments from the driver", f"{device.segments:,}", f"{device.segments_equal:,}"),
        ("given back to the driver", f"{device.releases:,}", f"{device.releases_equal:,}"),
        ("blocks of the last state", f"{device.blocks:,}", f"{device.blocks_equal:,}"),
    ]
    if device.ooms:
        rows.append(("requests that ran out of memory", f"{device.ooms:,}", ""))
    if device.followed:
        rows.append(("given back as recorded, not predicted", f"{device.followed:,}", ""))
    return Table(
        f"Device {device.device}: record against simulation", ("what", "recorded", "equal"), tuple(rows),
        frozenset({"recorded", "equal"}),
    )  # fmt: skip


def _levels(device: Device, units: Units) -> Table:
    record, simulation, rows = device.record, device.simulation, []
    start = device.start
    for name, recorded, simulated in (
        ("requested, most", record.requested_bytes, simulation.requested_bytes),
        ("allocated, most", record.allocated_bytes, simulation.allocated_bytes),
        ("reserved, most", record.reserved_bytes, simulation.reserved_bytes),
        ("allocated, at the end", record.end_allocated_bytes, simulation.end_allocated_bytes),
        ("reserved, at the end", record.end_reserved_bytes, simulation.end_reserved_bytes),
        ("requested, at the start", start.requested_bytes, start.requested_bytes),
        ("reserved, at the start", start.reserved_bytes, start.reserved_bytes),
    ):
        rows.append(
            (
                name, "not in it" if recorded is None else format_exact(recorded, units),
                "" if simulated is None else format_exact(simulated, units),
            )
        )  # fmt: skip
    return Table(
        f"Device {device.device}: memory", ("counter", "record", "simulation"), tuple(rows),
        frozenset({"record", "simulation"}),
    )  # fmt: skip


def _difference(device: Device) -> Lines:
    first = device.first_difference
    assert first is not None
    lines = [
        f"event {first.event:,} of {device.events:,}, {first.what}{f', at {first.place}' if first.place else ''}",
        f"recorded: {first.recorded}",
        f"simulated: {first.simulated}",
        f"likely because {first.reason}",
    ]
    if device.order != "address":
        lines.append(f"among free blocks of one size, the order by {device.order} fits best")
    return Lines(f"Device {device.device}: where they part first", tuple(lines))


def _kinds(device: Device, units: Units) -> Table:
    rows = tuple(
        (share.kind, format_exact(share.requested_bytes, units), f"{share.blocks:,}") for share in device.kinds
    )
    where = "before the first event" if device.peak_event < 0 else f"at event {device.peak_event:,}"
    return Table(
        f"Device {device.device}: alive at the peak of requested bytes, {where}", ("kind", "requested", "blocks"), rows,
        frozenset({"requested", "blocks"}),
    )  # fmt: skip


def _sites(device: Device, units: Units, top: int) -> Table:
    rows = tuple(
        (share.place, share.kind, format_bytes(share.requested_bytes, units), f"{share.blocks:,}")
        for share in device.sites[:top]
    )
    return Table(
        f"Device {device.device}: the lines that hold most of it", ("line", "kind", "requested", "blocks"), rows,
        frozenset({"requested", "blocks"}),
    )  # fmt: skip


def _what_if(device: Device, tried: WhatIf, units: Units) -> Lines:
    size = "no limit" if tried.capacity_bytes is None else format_exact(tried.capacity_bytes, units)
    lines = [
        f"settings: {tried.settings}; capacity: {size}",
        f"reserved at most: {format_exact(tried.reserved_bytes, units)}, "
        f"recorded {format_exact(device.record.reserved_bytes, units)}",
        f"allocated at most: {format_exact(tried.allocated_bytes, units)}; "
        f"{tried.segments:,} segments asked for; {tried.retries:,} requests waited until cached memory was given back",
    ]
    stop = tried.stop
    if stop is None:
        if tried.capacity_bytes is not None:
            lines.insert(0, "it runs to the end of the trace")
    else:
        where = "for what lived when the trace began" if stop.event < 0 else f"at event {stop.event:,}"
        lines.insert(
            0,
            f"out of memory {where}{f', {stop.place}' if stop.place else ''}: tried to allocate "
            f"{format_exact(stop.tried_bytes, units)} for a request of {format_exact(stop.requested_bytes, units)}; "
            f"{format_bytes(stop.free_bytes, units)} free, {format_bytes(stop.allocated_bytes, units)} allocated, "
            f"{format_bytes(stop.reserved_bytes - stop.allocated_bytes, units)} reserved but unallocated",
        )
    return Lines(f"Device {device.device}: what if", tuple(lines))
