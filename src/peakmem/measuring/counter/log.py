"""The counter's event log as data: what each phase and each library held, and a timeline with operators.

The log is written by counter.c: a header of 64 bytes, then records of 32. A phase's note stands at its end, an
operator's at its beginning. What a record says is held against the sums before it, so a damaged log is not read as
a wrong account. Works on whole columns: five million events take about two seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peakmem.errors import FormatError
from peakmem.measuring.record import LibraryShare

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Column = npt.NDArray[np.int64]

BORN, DIED, MAPPED, UNMAPPED, NOTE, RESET, START = range(1, 8)
FULL, LOST = 1, 2
_HEAD, _RECORD = 64, 32
UNKNOWN = "?"
# the library of an address in no mapped file: code made at run time, or a library that was closed again


@dataclass(frozen=True, slots=True)
class PhaseAccount:
    """One phase; bytes as they were asked for."""

    name: str
    live_bytes: int
    # at its end
    peak_bytes: int
    blocks: int
    # live at its end
    allocations: int
    # calls since the process began
    mapped_bytes: int
    # anonymous mappings made outside the C library, live at its end
    mapped_peak_bytes: int
    libraries: tuple[LibraryShare, ...]
    # largest at the peak first
    complete: bool
    # false where something could not be booked; a phase that ended after the log was full is not in it


@dataclass(frozen=True, slots=True)
class Interval:
    """From one note to the next."""

    phase: str
    # in which it lies; empty after the last phase
    operator: str
    # whose note begins it; empty from a phase's beginning to its first operator
    live_bytes: int
    # at its end
    peak_bytes: int
    allocations: int
    # calls in it


@dataclass(frozen=True, slots=True)
class LiveBlock:
    """A block alive at the peak of the whole log."""

    nbytes: int
    library: str
    phase: str
    operator: str
    # in which interval it was born


@dataclass(frozen=True, slots=True)
class Log:
    """Everything that was read from one event log."""

    phases: tuple[PhaseAccount, ...]
    intervals: tuple[Interval, ...]
    peak_bytes: int
    peak_phase: str
    peak_operator: str
    # the interval of the peak
    largest: tuple[LiveBlock, ...]
    # alive at the peak, largest first
    events: int
    complete: bool
    # false where it was full before the process ended, or something could not be booked
    pid: int


def read_log(path: Path, names: Mapping[int, str], maps: str, *, largest: int = 50) -> Log:
    """The event log at `path`.

    Args:
        path: the file that PEAKMEM_COUNTER_LOG named.
        names: what the ids of notes stand for; `phase:NAME` for the end of a phase. An id without a name is `note ID`.
        maps: /proc/PID/maps of the process, read near its end; several may follow each other.
        largest: how many blocks alive at the peak are listed.

    Raises:
        FormatError: not a log, cut short, or it contradicts itself.
    """
    import numpy as np

    table, head = open_columns(path)
    kind: Column = table["kind"].astype(np.int64)
    size: Column = table["size"].astype(np.int64)
    count = len(kind)
    if count and not 1 <= kind.min() <= kind.max() <= START:
        raise FormatError("a record of an unknown kind", where=str(path), expected="a log of peakmem's counter")
    heap = np.where((kind == BORN) | (kind == DIED), size, 0)
    live: Column = np.cumsum(heap)
    mapping: Column = np.cumsum(np.where((kind == MAPPED) | (kind == UNMAPPED), size, 0))
    lost = bool(head["flags"] & LOST)
    verify(path, table, kind, size, live, mapping)

    notes = np.flatnonzero(kind == NOTE)
    titles = [names.get(int(number), f"note {int(number)}") for number in table["pointer"][notes].astype(np.int64)]
    ends = [(int(at), title[6:]) for at, title in zip(notes, titles, strict=True) if title.startswith("phase:")]
    born: Column = np.cumsum(kind == BORN)
    blocks: Column = 2 * born - np.cumsum((kind == BORN) | (kind == DIED))
    before = _calls_before(table, kind, born)
    library_of, libraries = libraries_of(table["caller"], maps)
    complete = not (int(head["flags"]) & (FULL | LOST))

    phases = []
    held = np.zeros(len(libraries), dtype=np.int64)
    begin = 0
    begins = _beginnings(kind, [at for at, _ in ends])
    for (at, name), first in zip(ends, begins, strict=True):
        peak, top = _peak(live, first, at)
        mapped_peak, _ = _peak(mapping, first, at)
        earlier = np.flatnonzero(kind[first:at] == START)
        # what was the most before the log was opened
        if len(earlier):
            peak = max(peak, int(size[first + earlier[0]]))
            mapped_peak = max(mapped_peak, int(table["pointer"][first + earlier[0]]))
        at_peak = held + _sums(library_of[begin : top + 1], heap[begin : top + 1], len(libraries))
        held = held + _sums(library_of[begin:at], heap[begin:at], len(libraries))
        phases.append(
            PhaseAccount(
                name, int(live[at]), peak, int(blocks[at]), int(born[at]) + before, int(mapping[at]), mapped_peak,
                _shares(libraries, held, at_peak), not lost,
            )
        )  # fmt: skip
        begin = at

    bounds = [0, *(int(at) for at in notes), count]
    labels = _labels(titles)
    intervals = []
    for number, (phase, operator) in enumerate(labels):
        first, last = bounds[number], bounds[number + 1]
        if last == first:
            # nothing before the first note, or no log at all
            continue
        peak, _ = _peak(live, first, last - 1)
        calls = int(born[last - 1] - (born[first - 1] if first else 0))
        intervals.append(Interval(phase, operator, int(live[last - 1]), peak, calls))

    peak, top = _peak(live, 0, count - 1) if count else (0, -1)
    blocks_at = _alive(table, kind, size, top, largest)
    where = np.searchsorted(notes, blocks_at, side="right")
    alive = tuple(
        LiveBlock(int(size[at]), libraries[int(library_of[at])], *labels[int(number)])
        for at, number in zip(blocks_at, where, strict=True)
    )
    at_top = labels[int(np.searchsorted(notes, top, side="right"))]
    return Log(tuple(phases), tuple(intervals), peak, *at_top, alive, count, complete, int(head["pid"]))


def open_columns(path: Path) -> tuple[Any, Any]:
    """The records, mapped read-only, and the header."""
    import numpy as np

    head_type = np.dtype(
        [("magic", "S8"), ("version", "<u4"), ("record", "<u4"), ("count", "<u8"), ("flags", "<u8"), ("lost", "<u8"),
         ("pid", "<u8"), ("page", "<u8"), ("limit", "<u8")]
    )  # fmt: skip
    record_type = np.dtype([("size", "<i8"), ("pointer", "<u8"), ("caller", "<u8"), ("thread", "<u4"), ("kind", "<u4")])
    try:
        length = path.stat().st_size
        with path.open("rb") as file:
            data = file.read(_HEAD)
    except OSError as fault:
        raise FormatError(f"the event log cannot be read: {fault.strerror}", where=str(path)) from None
    if len(data) < _HEAD or data[:8] != b"PEAKMEM\0":
        raise FormatError("this is no event log", where=str(path), expected="a log of peakmem's counter")
    head = np.frombuffer(data, head_type)[0]
    if head["version"] != 1 or head["record"] != _RECORD:
        raise FormatError(f"an event log of version {int(head['version'])}", where=str(path), expected="version 1")
    count = int(head["count"])
    if count > (length - _HEAD) // _RECORD:
        raise FormatError(
            "the event log is cut short", where=str(path), expected=f"{count} records, there is room for "
            f"{(length - _HEAD) // _RECORD}"
        )  # fmt: skip
    if not count:
        return np.empty(0, record_type), head
    return np.memmap(path, record_type, mode="r", offset=_HEAD, shape=(count,)), head


def verify(path: Path, table: Any, kind: Column, size: Column, live: Column, mapping: Column) -> None:
    """Hold what the counter wrote into its notes against the sums of the records."""
    import numpy as np

    wrong_sign = ((kind == BORN) | (kind == MAPPED)) & (size < 0) | ((kind == DIED) | (kind == UNMAPPED)) & (size > 0)
    told = np.flatnonzero((kind == NOTE) | (kind == RESET))
    bad = wrong_sign.any() or (live < 0).any() or (mapping < 0).any()
    bad = bad or (live[told] != size[told]).any() or (mapping[told] != table["caller"][told].astype(np.int64)).any()
    if bad:
        raise FormatError("the event log contradicts itself", where=str(path), expected="sums that are in its notes")


def _calls_before(table: Any, kind: Column, born: Column) -> int:
    """Allocations before the log was opened that it does not list: their blocks were given back by then."""
    import numpy as np

    start = np.flatnonzero(kind == START)
    return int(table["caller"][start[0]]) - int(born[start[0]]) if len(start) else 0


def _beginnings(kind: Column, ends: list[int]) -> list[int]:
    """For each phase the record from which its peak counts: the last reset in it, else the end of the one before."""
    import numpy as np

    resets = np.flatnonzero(kind == RESET)
    found = []
    previous = 0
    for at in ends:
        inside = resets[(resets >= previous) & (resets < at)]
        found.append(int(inside[-1]) if len(inside) else previous)
        previous = at
    return found


def _peak(running: Column, first: int, last: int) -> tuple[int, int]:
    """The most from record `first` to `last`, both included, and the record where it is first reached."""
    top = first + int(running[first : last + 1].argmax())
    return int(running[top]), top


def _sums(group: Column, size: Column, groups: int) -> Column:
    """Sizes summed by group; exact below 2^53."""
    import numpy as np

    return np.bincount(group, weights=size, minlength=groups).astype(np.int64)


def _shares(libraries: list[str], live: Column, at_peak: Column) -> tuple[LibraryShare, ...]:
    shares = [
        LibraryShare(name, int(now), int(then))
        for name, now, then in zip(libraries, live, at_peak, strict=True)
        if now or then
    ]
    return tuple(sorted(shares, key=lambda share: (-share.at_peak_bytes, -share.live_bytes, share.library)))


def _labels(titles: list[str]) -> list[tuple[str, str]]:
    """(phase, operator) of each interval: before the first note, then after each."""
    operators = [""] + ["" if title.startswith("phase:") else title for title in titles]
    phases = [""] * len(operators)
    current = ""
    for number in range(len(titles) - 1, -1, -1):
        # a phase's name comes at its end
        if titles[number].startswith("phase:"):
            current = titles[number][6:]
        phases[number] = current
    return list(zip(phases, operators, strict=True))


_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \d+ +(/.*)$")


def libraries_of(callers: Any, maps: str) -> tuple[Column, list[str]]:
    """For each record the number of its library, and the libraries' file names."""
    import numpy as np

    spans: dict[tuple[int, int], str] = {}
    for line in maps.splitlines():
        if match := _MAPPING.match(line):
            name = match[3].removesuffix(" (deleted)").rpartition("/")[2]
            spans[int(match[1], 16), int(match[2], 16)] = name
    ordered = sorted(spans)
    starts = np.array([0, *(start for start, _ in ordered)], dtype=np.uint64)
    stops = np.array([0, *(stop for _, stop in ordered)], dtype=np.uint64)
    found = [UNKNOWN, *(spans[span] for span in ordered)]
    libraries = sorted(set(found))
    number = np.array([libraries.index(name) for name in found], dtype=np.int64)
    unknown = libraries.index(UNKNOWN)
    asked, inverse = np.unique(np.asarray(callers), return_inverse=True)
    span = np.searchsorted(starts, asked, side="right") - 1
    return np.where(asked < stops[span], number[span], unknown)[inverse], libraries


def _alive(table: Any, kind: Column, size: Column, top: int, largest: int) -> Column:
    """Records of the largest blocks that are alive after record `top`."""
    import numpy as np

    nothing: Column = np.empty(0, dtype=np.int64)
    if top < 0 or largest < 1:
        return nothing
    heap = (kind[: top + 1] == BORN) | (kind[: top + 1] == DIED)
    found = nothing
    for least in (1 << 20, 1 << 12, 0):
        # a block's end carries its size too, so small ones can be left out together with their ends
        events = np.flatnonzero(heap & (np.abs(size[: top + 1]) >= least))[::-1]
        _, last = np.unique(table["pointer"][events], return_index=True)
        found = events[last]
        found = found[kind[found] == BORN]
        if len(found) >= largest:
            break
    order = np.lexsort((found, -size[found]))
    return found[order][:largest]
