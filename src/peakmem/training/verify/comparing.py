"""Two logs of one step held against each other: phases, categories at the peak, what differs there, where they part.

Knows no torch and does not care how the logs came about.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from peakmem.training import account
from peakmem.training.log import CATEGORIES, Category, Log, Phase, Storage

NUMBER = 8
# bytes of a Python number as a tensor, which no operator makes
AHEAD = 200
# allocations looked ahead for where two sequences meet again
MOST = 20
# partings that are named one by one
MILLION = 1_000_000

Kind = Literal["only measured", "only predicted", "other size", "other lifetime"]


@dataclass(frozen=True, slots=True)
class PhaseLine:
    """The highest moment of one phase of one step in both."""

    step: int
    # -1 while the network is built
    phase: Phase
    predicted_bytes: int
    measured_bytes: int

    @property
    def error(self) -> float:
        """Signed, as a share of what was measured; below 0 is predicted too low."""
        return share(self.predicted_bytes, self.measured_bytes)


@dataclass(frozen=True, slots=True)
class CategoryLine:
    """Bytes of one category, each log at its own peak."""

    category: Category
    predicted_bytes: int
    measured_bytes: int


@dataclass(frozen=True, slots=True)
class Difference:
    """What is alive at the measured peak and not at the predicted one, or the other way round, under one name."""

    category: Category
    name: str
    # of a parameter, a buffer or what belongs to one; those are not told apart by their operator
    operator: str
    module: str
    predicted_bytes: int
    measured_bytes: int

    @property
    def nbytes(self) -> int:
        """Measured less predicted."""
        return self.measured_bytes - self.predicted_bytes


@dataclass(frozen=True, slots=True)
class Parting:
    """A moment at which the two do not allocate the same, workspaces aside."""

    kind: Kind
    step: int
    phase: Phase
    operator: str
    module: str
    predicted_bytes: int
    measured_bytes: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Predicted and measured, in bytes as requested."""

    predicted: account.Peak
    measured: account.Peak
    bound_bytes: int
    # what the prediction says is not exceeded
    phases: tuple[PhaseLine, ...]
    categories: tuple[CategoryLine, ...]
    differences: tuple[Difference, ...]
    # by size; they sum to measured less predicted
    partings: tuple[Parting, ...]
    # the first ones of at least a millionth of the peak
    partings_in_all: int
    # of any size

    @property
    def error(self) -> float:
        """Of the peak, signed, as a share of what was measured."""
        return share(self.predicted.nbytes, self.measured.nbytes)


def share(predicted: int, measured: int) -> float:
    """(predicted - measured) ÷ measured; 0 where both are nothing."""
    if predicted == measured:
        return 0.0
    return (predicted - measured) / measured if measured else float("inf")


def compare(predicted: Log, measured: Log) -> Comparison:
    """Hold one against the other.

    Raises:
        ValueError: a log without a moment.
    """
    tops = account.peak(predicted), account.peak(measured)
    partings = list(_partings(predicted, measured))
    worth = [one for one in partings if max(one.predicted_bytes, one.measured_bytes) * MILLION >= tops[1].nbytes]
    return Comparison(
        tops[0], tops[1], account.bound(predicted), tuple(_phases(predicted, measured)),
        tuple(CategoryLine(one, tops[0].categories[one], tops[1].categories[one]) for one in CATEGORIES),
        tuple(_differences(predicted, tops[0].moment, measured, tops[1].moment)),
        tuple(worth[:MOST]), len(partings),
    )  # fmt: skip


def _phases(predicted: Log, measured: Log) -> Iterator[PhaseLine]:
    highest: dict[tuple[int, Phase], list[int]] = {}
    for side, log in enumerate((predicted, measured)):
        for one in account.peaks(log):
            pair = highest.setdefault((one.step, one.phase), [0, 0])
            pair[side] = max(pair[side], one.nbytes)
    for (step, phase), (first, second) in highest.items():
        yield PhaseLine(step, phase, first, second)


def _differences(predicted: Log, first: int, measured: Log, second: int) -> list[Difference]:
    sides: list[Counter[tuple[Category, str, str, str]]] = []
    for log, moment in ((predicted, first), (measured, second)):
        found: Counter[tuple[Category, str, str, str]] = Counter()
        for one in log.storages:
            if one.start <= moment < one.stop:
                found[_name(one)] += one.nbytes
        sides.append(found)
    names = sorted({*sides[0], *sides[1]}, key=lambda name: -abs(sides[1][name] - sides[0][name]))
    return [Difference(*name, sides[0][name], sides[1][name]) for name in names if sides[0][name] != sides[1][name]]


def _name(one: Storage) -> tuple[Category, str, str, str]:
    """What a storage is called where it is counted: by its operator, or by the parameter that it belongs to."""
    if one.category in ("parameter", "buffer", "gradient", "optimizer state"):
        return one.category, one.name, "", ""
    return one.category, "", one.operator, one.module


def _partings(predicted: Log, measured: Log) -> Iterator[Parting]:
    sides: list[dict[tuple[int, Phase], list[Storage]]] = []
    for log in (predicted, measured):
        found: dict[tuple[int, Phase], list[Storage]] = {}
        for one in log.storages:
            if one.category != "kernel workspace" and one.nbytes > (0 if one.operator else NUMBER) and one.step >= 0:
                found.setdefault((one.step, one.phase), []).append(one)
        sides.append({key: list(_ordered(those)) for key, those in found.items()})
    ends = _ends(predicted), _ends(measured)
    for key in dict.fromkeys((*sides[1], *sides[0])):
        for first, second in _aligned(sides[0].get(key, []), sides[1].get(key, [])):
            kind: Kind
            if first is None or second is None:
                kind = "only measured" if first is None else "only predicted"
            elif first.nbytes != second.nbytes:
                kind = "other size"
            elif ends[0](first) != ends[1](second):
                kind = "other lifetime"
            else:
                continue
            seen = second or first
            assert seen is not None
            yield Parting(
                kind, seen.step, seen.phase, seen.operator, seen.module, first.nbytes if first else 0,
                second.nbytes if second else 0,
            )  # fmt: skip


def _ordered(those: list[Storage]) -> Iterator[Storage]:
    """Results of one operator by size: which of them is made first is its own affair."""
    for _, run in groupby(those, key=lambda one: (one.operator, one.module)):
        yield from sorted(run, key=lambda one: -one.nbytes)


def _ends(log: Log) -> Callable[[Storage], tuple[int, str]]:
    """In which step and phase a storage ends, as a function of it."""
    moments = [mark.moment for mark in log.marks]

    def end(one: Storage) -> tuple[int, str]:
        if one.stop >= log.moments:
            return log.steps, ""
        mark = log.marks[bisect_right(moments, one.stop) - 1]
        return mark.step, mark.phase

    return end


def _aligned(first: list[Storage], second: list[Storage]) -> Iterator[tuple[Storage | None, Storage | None]]:
    """Pairs in order; where they differ, the nearest place at which they meet again is looked for."""
    left, right = 0, 0
    while left < len(first) and right < len(second):
        if _alike(first[left], second[right]):
            yield first[left], second[right]
            left, right = left + 1, right + 1
            continue
        skip = _meeting(first, left, second, right)
        yield from ((one, None) for one in first[left : left + skip[0]])
        yield from ((None, one) for one in second[right : right + skip[1]])
        left, right = left + skip[0], right + skip[1]
    yield from ((one, None) for one in first[left:])
    yield from ((None, one) for one in second[right:])


def _meeting(first: list[Storage], left: int, second: list[Storage], right: int) -> tuple[int, int]:
    """How many to leave out on either side until two alike, and the two after them, stand opposite."""
    for apart in range(1, AHEAD):
        for skip in range(apart + 1):
            at, beside = left + skip, right + apart - skip
            if at < len(first) and beside < len(second) and _alike(first[at], second[beside]):
                following = at + 1 < len(first) and beside + 1 < len(second)
                if not following or _alike(first[at + 1], second[beside + 1]):
                    return skip, apart - skip
    return 1, 1


def _alike(first: Storage, second: Storage) -> bool:
    """Of one operator in one module, or of one parameter; their sizes may be what differs."""
    if first.name and (first.category, first.name) == (second.category, second.name):
        return True
    return (first.operator, first.module) == (second.operator, second.module)
