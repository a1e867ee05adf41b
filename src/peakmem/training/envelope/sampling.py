"""At which values of a knob a step is traced: few to begin with, more where its structure changes. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from peakmem.errors import PeakmemError
from peakmem.training.envelope.matching import Stretch, stretches
from peakmem.training.log import Log

ENOUGH = 4
# logs of one structure: a line through two, checked at two; a square through three, checked at one


@dataclass(frozen=True, slots=True)
class Sample:
    """Logs of one step at several values."""

    logs: dict[int, Log]
    refused: dict[int, str]
    # values at which there is no such step, and why
    stride: int

    @property
    def stretches(self) -> list[Stretch]:
        """The logs, cut where the structure changes."""
        return stretches(self.logs)


def sample(log: Callable[[int], Log], values: Sequence[int], *, stride: int = 1, most: int = 16) -> Sample:
    """Logs at `values`, and at others between them: where the structure changes, and where a structure has few.

    Args:
        log: the log at one value.
        values: all of one residue class modulo `stride`; those that the step refuses are left out.
        most: how many logs there may be in all.

    Raises:
        PeakmemError: no value can be traced.
    """
    found = Sample({}, {}, stride)
    fault: PeakmemError | None = None
    for value in values:
        try:
            found.logs[value] = log(value)
        except PeakmemError as refusal:
            found.refused[value], fault = str(refusal), refusal
    if not found.logs and fault is not None:
        raise fault
    while len(found.logs) < most and (at := _wanted(found)) is not None:
        try:
            found.logs[at] = log(at)
        except PeakmemError as refusal:
            found.refused[at] = str(refusal)
    return found


def _wanted(found: Sample) -> int | None:
    """The next value: in the narrowest gap in which the structure changes, else in a stretch with few logs."""
    cut = found.stretches
    gaps = [(one.high, other.low) for one, other in pairwise(cut)]
    for low, high in sorted(gaps, key=lambda pair: pair[1] - pair[0]):
        if (between := _between(low, high, found)) is not None:
            return between
    for one in cut:
        if len(one.logs) < ENOUGH:
            known = sorted(one.logs)
            for low, high in sorted(pairwise(known), key=lambda pair: pair[0] - pair[1]):
                if (between := _between(low, high, found)) is not None:
                    return between
    return None


def _between(low: int, high: int, found: Sample) -> int | None:
    """A value of the class in the middle of two that was not tried."""
    steps = (high - low) // found.stride
    at = low + steps // 2 * found.stride
    return at if low < at < high and at not in found.refused else None
