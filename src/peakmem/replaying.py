"""A snapshot's report: each device replayed, what holds its peak, and what other settings would have given."""

from __future__ import annotations

from dataclasses import replace

from peakmem._version import __version__
from peakmem.report import replay as report
from peakmem.training.allocator.settings import Settings
from peakmem.training.snapshot.outcome import Levels, Replay
from peakmem.training.snapshot.record import SEGMENT_MAP, Record, Snapshot
from peakmem.training.snapshot.replay import replay
from peakmem.training.snapshot.sites import peak_of, place_of
from peakmem.training.snapshot.start import Start
from peakmem.training.snapshot.whatif import WhatIf, what_if

MOST_SITES = 100
# lines of code in a report


def compose(snapshot: Snapshot, conf: str | None = None, capacity: int | None = None) -> report.Replay:
    """The report on `snapshot`.

    Args:
        conf: settings to try instead of the record's, as in PYTORCH_CUDA_ALLOC_CONF; what it leaves out is torch's.
        capacity: bytes of a device to try.

    Raises:
        UsageError: settings that torch does not take.
    """
    recorded = Settings.of_record(snapshot.stated)
    other = Settings.parse(conf) if conf is not None else None
    notes = list(snapshot.notes)
    devices, equal = [], True
    for record in snapshot.records:
        settings = recorded
        if not snapshot.stated and _grows(record):
            settings = replace(recorded, expandable=True)
        found = replay(record, settings)
        equal = equal and found.equal
        tried = None
        if other is not None or capacity is not None:
            own = found.settings if other is None else replace(other, order=found.settings.order)
            tried = what_if(record, found.start, found.settings, own, capacity)
        devices.append(_device(record, found, tried))
    if not snapshot.stated:
        notes.append("the file states no settings: torch's own are assumed")
    if not snapshot.records:
        notes.append("the file holds no segment and no event")
    if any(not record.events for record in snapshot.records):
        notes.append("a device without events has only its last state: _record_memory_history was off")
    if any(device.start.blocks for device in devices):
        notes.append("blocks older than a trace are known from its last state, with the trace undone backwards")
    if any(device.what_if is not None and device.what_if.rebuilt for device in devices):
        notes.append("under other settings, what lived at the start of a trace is allocated anew, by address")
    return report.Replay(
        snapshot.source, snapshot.form, str(recorded), equal, tuple(devices), tuple(notes), peakmem=__version__
    )


def _grows(record: Record) -> bool:
    return any(segment.expandable for segment in record.segments) or any(
        event.action == SEGMENT_MAP for event in record.events
    )


def _device(record: Record, found: Replay, tried: WhatIf | None) -> report.Device:
    peak = peak_of(record, found.start)
    first = None
    if found.first is not None:
        place = ""
        if found.first.event < len(record.events):
            place = place_of(record.events[found.first.event].frames)
        first = report.Difference(
            found.first.event, found.first.what, found.first.recorded, found.first.simulated, found.first.reason, place
        )
    return report.Device(
        record.device, found.events, found.allocations, found.addresses_equal, found.segments, found.segments_equal,
        found.simulated_segments, found.releases, found.releases_equal, found.followed, found.blocks,
        found.blocks_equal, found.ooms, found.settings.order, _start(found.start), _levels(found.record),
        _levels(found.simulation), first, peak.event,
        tuple(report.Share(kind, "", nbytes, blocks) for kind, nbytes, blocks in peak.kinds),
        tuple(report.Share(site.kind, site.place, site.nbytes, site.blocks) for site in peak.sites[:MOST_SITES]),
        None if tried is None else _what_if(tried),
    )  # fmt: skip


def _start(start: Start) -> report.Start:
    return report.Start(len(start.held), start.requested, start.reserved, start.unsure)


def _levels(levels: Levels) -> report.Levels:
    return report.Levels(
        levels.requested, levels.allocated, levels.reserved, levels.end_requested, levels.end_allocated,
        levels.end_reserved,
    )  # fmt: skip


def _what_if(tried: WhatIf) -> report.WhatIf:
    stop = None
    if tried.stop is not None:
        stop = report.Stop(
            tried.stop.event, place_of(tried.stop.frames), tried.stop.requested_bytes, tried.stop.tried_bytes,
            tried.stop.free_bytes, tried.stop.allocated_bytes, tried.stop.reserved_bytes,
        )  # fmt: skip
    return report.WhatIf(
        str(tried.settings), tried.capacity, tried.requested, tried.allocated, tried.reserved, tried.end_allocated,
        tried.end_reserved, tried.segments, tried.retries, tried.rebuilt, stop,
    )  # fmt: skip
