"""Storages on their way from one log into another, where moments fall between those of the old one. No torch."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from peakmem.training.log import Log, Mark, Storage


@dataclass(slots=True)
class Life:
    """A storage and when it lives, in fractions of the old moments."""

    storage: Storage
    start: float
    stop: float


def end_of_phase(log: Log, moment: int) -> int:
    """The moment at which the phase of a moment is over."""
    return next((mark.moment for mark in log.marks if mark.moment > moment), log.moments)


def renumbered(log: Log, lives: Sequence[Life], note: str) -> Log:
    """The same order of events with a moment for each."""
    events = sorted(
        [(life.start, 1, at) for at, life in enumerate(lives)]
        + [(life.stop, 0, at) for at, life in enumerate(lives) if life.stop < log.moments]
    )
    start: dict[int, int] = {}
    stop: dict[int, int] = {}
    before = []
    for moment, (place, allocates, at) in enumerate(events):
        (start if allocates else stop)[at] = moment
        before.append(place)
    total = len(events)
    storages = sorted(
        (replace(life.storage, start=start[at], stop=stop.get(at, total)) for at, life in enumerate(lives)),
        key=lambda item: item.start,
    )
    marks = tuple(Mark(bisect_left(before, mark.moment - 0.3), mark.step, mark.phase) for mark in log.marks)
    doubts = tuple(
        replace(doubt, moment=max(min(bisect_left(before, doubt.moment), total - 1), 0)) for doubt in log.doubts
    )
    emptied = tuple(bisect_left(before, moment - 0.3) for moment in log.emptied)
    return replace(
        log, storages=tuple(storages), moments=total, marks=marks, doubts=doubts, emptied=emptied,
        notes=(*log.notes, note),
    )  # fmt: skip
