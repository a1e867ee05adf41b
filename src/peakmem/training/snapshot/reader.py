"""Snapshots read from files: torch's pickle, or JSON (plain or gzip) of the same or of a shortened form.

The pickle is what `torch.cuda.memory._dump_snapshot` writes; the shortened form has `segments` and
`trace: [[action, address, size, stream], …]` of one device. Whatever a file holds becomes a `Snapshot` or an error.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from peakmem.errors import FormatError
from peakmem.frontends.bounded_json import parse_json
from peakmem.frontends.door import door
from peakmem.training.snapshot.pickled import load_plain
from peakmem.training.snapshot.record import (
    ACTIONS,
    OOM,
    SEGMENT_ACTIONS,
    SNAPSHOT,
    Event,
    Owner,
    Piece,
    Record,
    Segment,
    Snapshot,
)

LARGEST_FILE = 512 << 20
MOST_EVENTS = 2_000_000
# of all devices; torch keeps as many as it was told to, 100,000 in its documentation
MOST_SEGMENTS = 1_000_000
# and blocks in them
MOST_DEVICES = 256
MOST_PARTS, MOST_COMMAS = 6_000_000, 24_000_000
# of JSON
LARGEST = 1 << 63
_EXPECTED = "a snapshot of torch.cuda.memory._dump_snapshot, or its JSON form"


def read_snapshot(path: Path) -> Snapshot:
    """The snapshot in the file at `path`.

    Raises:
        FormatError: no snapshot, a damaged one, or more than the bounds allow.
    """
    with door(path, zlib.error, EOFError, gzip.BadGzipFile, what="the snapshot"):
        if path.is_dir():
            raise FormatError("this is a folder", expected=_EXPECTED)
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        if data[:2] == b"\x1f\x8b":
            data = _unpacked(data)
        if len(data) > LARGEST_FILE:
            raise FormatError("the snapshot is too large", expected=f"at most {LARGEST_FILE:,} bytes")
        if not data.strip():
            raise FormatError("the file is empty", expected=_EXPECTED)
        if data[:4] == b"PK\x03\x04":
            raise FormatError("this is a zip archive, as torch.save writes", expected=_EXPECTED)
        form = "json" if data.lstrip()[:1] in (b"{", b"[") else "pickle"
        if form == "json":
            value = parse_json(data, what="the snapshot", parts=MOST_PARTS, commas=MOST_COMMAS)
        else:
            value = load_plain(data)
        return _snapshot(value, str(path), form)


def _unpacked(data: bytes) -> bytes:
    engine = zlib.decompressobj(31)
    found = engine.decompress(data, LARGEST_FILE + 1)
    if len(found) <= LARGEST_FILE and not engine.eof:
        raise EOFError
    return found


def _snapshot(value: Any, source: str, form: str) -> Snapshot:
    if isinstance(value, list):
        # torch.cuda.memory_snapshot() gives the segments alone
        value = {"segments": value}
    if not isinstance(value, dict) or not isinstance(value.get("segments"), list):
        raise FormatError("this holds no allocator's segments", expected=_EXPECTED)
    traces = value.get("device_traces")
    if traces is None and "trace" in value:
        traces = [value["trace"]]
    if traces is None:
        traces = []
    if not isinstance(traces, list) or not all(isinstance(trace, list) for trace in traces):
        raise FormatError("the traces are no list of events for each device", expected=_EXPECTED)
    if len(traces) > MOST_DEVICES:
        raise FormatError(f"the snapshot has traces of {len(traces):,} devices", expected=f"at most {MOST_DEVICES}")
    count = sum(map(len, traces))
    if count > MOST_EVENTS:
        raise FormatError(f"the traces have {count:,} events", expected=f"at most {MOST_EVENTS:,}")
    stated = value.get("allocator_settings") or {}
    if not isinstance(stated, dict):
        raise FormatError("the allocator's settings are no dictionary", expected=_EXPECTED)
    segments: dict[int, list[Segment]] = {}
    blocks = len(value["segments"])
    for number, entry in enumerate(value["segments"]):
        where = f"segment {number}"
        device, segment = _segment(entry, where)
        blocks += len(segment.pieces)
        if blocks > MOST_SEGMENTS:
            raise FormatError("the snapshot has too many segments and blocks", expected=f"at most {MOST_SEGMENTS:,}")
        segments.setdefault(device, []).append(segment)
    unknown: dict[str, int] = {}
    records = []
    for device in sorted({*segments, *(at for at, trace in enumerate(traces) if trace)}):
        held = sorted(segments.get(device, ()), key=lambda segment: segment.address)
        for before, after in pairwise(held):
            if before.stop > after.address:
                raise FormatError(f"the segments at {before.address:#x} and {after.address:#x} overlap")
        trace = traces[device] if device < len(traces) else []
        records.append(Record(device, tuple(_events(trace, device, unknown)), tuple(held)))
    notes = [f"{count:,} events of the kind {action[:80]!r} left out" for action, count in unknown.items()]
    return Snapshot(source, form, tuple(records), stated, tuple(notes))


def _whole(value: Any, name: str, where: str) -> int:
    if type(value) is not int or not 0 <= value < 2 * LARGEST:
        shown = str(value)[:40] if isinstance(value, int | float | str) else type(value).__name__
        raise FormatError(f"{where}: {name} is {shown!r}", expected="a whole number of 0 or more")
    return value


def _size(value: Any, name: str, where: str) -> int:
    size = _whole(value, name, where)
    if size >= 1 << 52:
        raise FormatError(f"{where}: {name} is {size:,}", expected="a size below 4 PiB")
    return size


def _stream(value: Any, where: str) -> int:
    if type(value) is not int or not -LARGEST <= value < 2 * LARGEST:
        raise FormatError(f"{where}: the stream is no whole number")
    return value


def _owner(value: Any, where: str) -> Owner:
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(type(part) is int for part in value):
        raise FormatError(f"{where}: the pool is no pair of whole numbers")
    return (value[0], value[1])


def _segment(entry: Any, where: str) -> tuple[int, Segment]:
    if not isinstance(entry, dict) or not isinstance(entry.get("blocks"), list):
        raise FormatError(f"{where} is no dictionary with blocks")
    device = _whole(entry.get("device", 0), "device", where)
    if device >= MOST_DEVICES:
        raise FormatError(f"{where}: the device is {device}", expected=f"below {MOST_DEVICES}")
    address = at = _whole(entry.get("address"), "address", where)
    size = _size(entry.get("total_size"), "total_size", where)
    kind = entry.get("segment_type")
    if kind not in ("small", "large"):
        raise FormatError(f"{where}: the segment_type is neither small nor large")
    pieces = []
    for number, block in enumerate(entry["blocks"]):
        inside = f"{where}, block {number}"
        if not isinstance(block, dict):
            raise FormatError(f"{inside} is no dictionary")
        at = _whole(block.get("address", at), "address", inside)
        nbytes = _size(block.get("size"), "size", inside)
        state = block.get("state")
        requested = block.get("requested_size", nbytes if state == "active_allocated" else 0)
        pieces.append(
            Piece(
                at, nbytes, _size(requested, "requested_size", inside), state == "active_allocated",
                isinstance(state, str) and state.startswith("active"), block.get("frames"),
            )
        )  # fmt: skip
        at += nbytes
    stop = address
    for piece in pieces:
        if piece.address != stop or piece.size == 0:
            raise FormatError(f"{where}: the blocks do not fill it without gaps")
        stop += piece.size
    if stop != address + size:
        raise FormatError(f"{where}: the blocks sum to {stop - address:,} bytes", expected=f"{size:,}")
    rank = entry.get("registration_counter", 0)
    return device, Segment(
        address, size, _stream(entry.get("stream", 0), where), kind == "small", entry.get("is_expandable") is True,
        _owner(entry.get("segment_pool_id", (0, 0)), where), tuple(pieces), rank if type(rank) is int else 0,
    )  # fmt: skip


def _events(trace: list[Any], device: int, unknown: dict[str, int]) -> Iterator[Event]:
    """The events of one device; kinds that nobody knows are counted in `unknown`."""
    owners: dict[Any, Owner] = {}
    for number, entry in enumerate(trace):
        owner: Owner | None = None
        frames = None
        if isinstance(entry, dict):
            action, address, nbytes = entry.get("action"), entry.get("addr"), entry.get("size")
            stream, frames, pool = entry.get("stream", 0), entry.get("frames"), entry.get("pool_id")
            if action == OOM:
                address = entry.get("device_free", address)
            if pool is not None:
                owner = owners.get(id(pool))
                if owner is None:
                    owner = owners[id(pool)] = _owner(pool, f"device {device}, event {number}")
        elif isinstance(entry, list | tuple) and len(entry) >= 3:
            action, address, nbytes = entry[:3]
            stream = entry[3] if len(entry) > 3 else 0
        else:
            raise FormatError(f"device {device}, event {number} is neither a dictionary nor a list")
        if not isinstance(action, str):
            raise FormatError(f"device {device}, event {number}: the action is no text")
        if action not in ACTIONS:
            if len(unknown) < 20 or action in unknown:
                unknown[action] = unknown.get(action, 0) + 1
            continue
        if action == SNAPSHOT:
            address = address or 0
        if action == OOM and address is None:
            address = 0
        if not (type(address) is int and type(nbytes) is int and 0 <= address < LARGEST and 0 <= nbytes < 1 << 52):
            where = f"device {device}, event {number}"
            address, nbytes = _whole(address, "the address", where), _size(nbytes, "the size", where)
        if nbytes == 0 and action in SEGMENT_ACTIONS:
            raise FormatError(f"device {device}, event {number}: a segment of 0 bytes")
        yield Event(action, address, nbytes, _stream(stream, f"device {device}, event {number}"), owner,
                    frames if isinstance(frames, list) and frames else None)  # fmt: skip
