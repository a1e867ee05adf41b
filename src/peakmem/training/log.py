"""The event log of training steps: each storage that came and went, when, for what and under which operator.

Plain data that knows neither torch nor a graph. Time is counted in moments: each allocation and each release takes
one, so that the order of all of them is kept and nothing happens at once. A storage is alive in its live range
`[start, stop)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

Category = Literal[
    "parameter", "buffer", "input", "saved activation", "temporary", "gradient", "optimizer state", "kernel workspace",
]  # fmt: skip
CATEGORIES: tuple[Category, ...] = get_args(Category)

Phase = Literal["build", "forward", "backward", "optimizer", "zero_grad"]
PHASES: tuple[Phase, ...] = get_args(Phase)


@dataclass(frozen=True, slots=True)
class Storage:
    """One block of memory that tensors share."""

    nbytes: int
    # as requested, before any allocator rounds it
    category: Category
    operator: str
    # that allocated it, without its overload ("aten::mm"); empty when none did
    phase: Phase
    step: int
    # of the allocation; -1 while the network is built
    module: str
    # the path of the module whose forward ran, or whose backward does ("layer1.0.conv1"); empty outside of any
    start: int
    stop: int
    # moments; a stop at the log's number of moments: it outlives the log
    dtype: str = ""
    shape: tuple[int, ...] = ()
    # of the first tensor in it; empty for a workspace
    name: str = ""
    # of a parameter, a buffer, or of the parameter that a gradient or an optimizer's state belongs to
    source: str = ""
    # of a workspace: the row of the table that says it


class Mark(NamedTuple):
    """From this moment on it is this phase of this step."""

    moment: int
    step: int
    phase: Phase


@dataclass(frozen=True, slots=True)
class Doubt:
    """Bytes that may be there and are not in the log: an operator without a row in the table of workspaces."""

    moment: int
    # the event after which they may be there
    nbytes: int
    # at most
    operator: str
    reason: str


class Work(NamedTuple):
    """Floating-point operations of one phase of one step: products and convolutions, two for each multiply and add."""

    step: int
    phase: Phase
    flops: int


@dataclass(frozen=True, slots=True)
class Log:
    """Storages in order of their start, and the phases they fall in."""

    storages: tuple[Storage, ...]
    moments: int
    marks: tuple[Mark, ...]
    device: str
    # "cpu" or "cuda": whose rules it follows
    origin: str
    # how it came about: "trace", "graph", "measured", "record"
    doubts: tuple[Doubt, ...] = ()
    work: tuple[Work, ...] = ()
    emptied: tuple[int, ...] = ()
    # moments before which the step asks the allocator to give back what it only caches
    notes: tuple[str, ...] = ()
    # assumptions and what was corrected, for people

    @property
    def steps(self) -> int:
        """How many training steps it holds."""
        return max((mark.step for mark in self.marks), default=-1) + 1


class Event(NamedTuple):
    """One moment: a storage comes or goes."""

    storage: int
    allocates: bool


def events(log: Log) -> list[Event]:
    """What happens at each moment, in order.

    Raises:
        ValueError: two events at one moment, or a moment without one; a producer is wrong then.
    """
    found: list[Event | None] = [None] * log.moments
    for number, storage in enumerate(log.storages):
        if not 0 <= storage.start < storage.stop <= log.moments or storage.nbytes < 0:
            raise ValueError(f"storage {number} lives in [{storage.start}, {storage.stop}) of {log.moments} moments")
        for moment, allocates in ((storage.start, True), (storage.stop, False)):
            if moment < log.moments:
                if found[moment] is not None:
                    raise ValueError(f"two events at moment {moment}")
                found[moment] = Event(number, allocates)
    if None in found:
        raise ValueError(f"nothing happens at moment {found.index(None)}")
    return [event for event in found if event is not None]


def live_bytes(log: Log) -> list[int]:
    """Bytes alive after each moment, as requested (unrounded)."""
    change = [0] * (log.moments + 1)
    for storage in log.storages:
        change[storage.start] += storage.nbytes
        change[storage.stop] -= storage.nbytes
    total, found = 0, []
    for value in change[: log.moments]:
        total += value
        found.append(total)
    return found


def spans(log: Log) -> Iterator[tuple[Mark, int]]:
    """Each mark with the moment at which the next one begins."""
    for at, mark in enumerate(log.marks):
        yield mark, log.marks[at + 1].moment if at + 1 < len(log.marks) else log.moments


def alive(log: Log, moment: int) -> list[int]:
    """Numbers of the storages alive after a moment."""
    return [number for number, item in enumerate(log.storages) if item.start <= moment < item.stop]
