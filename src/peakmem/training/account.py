"""What a log says: its peak, what is alive there, the peak of each phase, and what it may be at most."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from peakmem.training.log import CATEGORIES, Category, Log, Phase, live_bytes, spans


@dataclass(frozen=True, slots=True)
class Peak:
    """The most bytes alive at once, as requested, and where."""

    nbytes: int
    moment: int
    step: int
    phase: Phase
    operator: str
    module: str
    # of the storage that came at this moment
    categories: dict[Category, int]
    # bytes alive there; they sum to nbytes


def peak(log: Log, *, step: int | None = None, phase: Phase | None = None) -> Peak:
    """The first moment with most bytes alive (of one step, of one phase).

    Raises:
        ValueError: no such step or phase in the log.
    """
    live = live_bytes(log)
    ranges = [
        (mark.moment, end)
        for mark, end in spans(log)
        if (step is None or mark.step == step) and (phase is None or mark.phase == phase) and end > mark.moment
    ]
    if not ranges:
        raise ValueError(f"the log holds no {phase or 'phase'} of step {step}")
    moment = max((max(range(begin, end), key=live.__getitem__) for begin, end in ranges), key=live.__getitem__)
    return at(log, moment, live[moment])


def at(log: Log, moment: int, nbytes: int | None = None) -> Peak:
    """What is alive after one moment."""
    totals = dict.fromkeys(CATEGORIES, 0)
    cause = None
    for storage in log.storages:
        if storage.start <= moment < storage.stop:
            totals[storage.category] += storage.nbytes
            cause = storage  # the last to come
    mark = log.marks[max(bisect_right([item.moment for item in log.marks], moment) - 1, 0)]
    return Peak(
        sum(totals.values()) if nbytes is None else nbytes, moment, mark.step, mark.phase,
        cause.operator if cause else "", cause.module if cause else "", totals,
    )  # fmt: skip


def peaks(log: Log) -> list[Peak]:
    """The peak of each phase of each step, in order; a phase that comes several times in a step has one each time."""
    live = live_bytes(log)
    found = []
    for mark, end in spans(log):
        if end > mark.moment:
            moment = max(range(mark.moment, end), key=live.__getitem__)
            found.append(at(log, moment, live[moment]))
    return found


def bound(log: Log) -> int:
    """Bytes as requested that are not exceeded, if each operator without a row takes the most it may."""
    live = live_bytes(log)
    doubted = (live[doubt.moment] + doubt.nbytes for doubt in log.doubts)
    return max((*live, *doubted), default=0)


def kept(log: Log) -> dict[Category, int]:
    """Bytes alive at the end, by category: what one step leaves to the next."""
    totals = dict.fromkeys(CATEGORIES, 0)
    for storage in log.storages:
        if storage.stop == log.moments:
            totals[storage.category] += storage.nbytes
    return totals
