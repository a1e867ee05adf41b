"""The largest batch, sequence or resolution of a training step that fits: solved from polynomials, proved by traces.

Logs of two or more values give the bytes of each storage as a polynomial. Their envelope is solved for the tensors;
what that gives is settled with the allocator on a log written from the polynomials, and is a guess. Proof is the whole
analysis at the value and at the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from peakmem.errors import PeakmemError
from peakmem.fitting.training_analysis import Analyses, Analysis, Case, varied
from peakmem.training.envelope import Series, last_within, reigns, series, stretches
from peakmem.training.log import Log

Knob = Literal["batch", "sequence", "resolution"]
KNOBS: tuple[Knob, ...] = get_args(Knob)
STEPS: dict[Knob, int] = {"batch": 1, "sequence": 64, "resolution": 32}
# between neighbours: sizes of one residue class, in which strides of convolutions and tiles of attention do not round

HIGHEST: dict[Knob, int] = {"batch": 1 << 16, "sequence": 1 << 20, "resolution": 1 << 13}
# where the search ends

GUESSES = 8
# from polynomials; after them the gap is halved
CONFIRMED = 3
# values at which the upper bound is tried


@dataclass(frozen=True, slots=True)
class Found:
    """The largest value that fits and the next one, both analysed."""

    knob: Knob
    start: int
    # what the step has
    value: int
    # 0: not even the smallest fits
    there: Analysis | None
    next_value: int | None
    beyond: Analysis | None
    stopped: str
    # why there is no next value
    sure: int | None
    # the largest value found for which the upper bound fits, too; None where there is no bound or no such value
    series: Series | None
    # the step near the value
    traces: int
    # made for the answer


def largest(analyses: Analyses, base: Case, knob: Knob, start: int) -> Found:
    """The largest value of a knob with which a case fits or may fit.

    Args:
        start: the value that the case has, whoever said it.

    Raises:
        PeakmemError: the step has no such knob.
    """
    before = analyses.traces
    gap = _Gap(analyses, base, knob, start)
    gap.close()
    there = analyses.of(varied(base, knob, gap.low)) if gap.low else None
    beyond = None if gap.high is None else analyses.of(varied(base, knob, gap.high))
    near = gap.near()
    sure = None
    if there is not None and there.bound_bytes is not None:
        sure = gap.low if there.outcome == "fits" else gap.surely()
    return Found(knob, start, gap.low, there, gap.high, beyond, gap.stopped, sure, near, analyses.traces - before)


class _Gap:
    """Between a value that is known to fit and one that is known not to; guesses make it narrower."""

    def __init__(self, analyses: Analyses, base: Case, knob: Knob, start: int) -> None:
        self.analyses, self.base, self.knob, self.start = analyses, base, knob, start
        self.step = STEPS[knob]
        self.first = start % self.step or self.step
        # the smallest value of the residue class of `start`
        self.low = 0
        self.high: int | None = None
        self.most = HIGHEST[knob] - (HIGHEST[knob] - start) % self.step
        # beyond it is not looked, or the network refuses
        self.stopped = ""
        self.logs: dict[int, Log] = {}
        self.guesses = 0

    def close(self) -> None:
        """Narrow the gap until its ends are neighbours."""
        self.analyses.log(varied(self.base, self.knob, self.start).scenario)  # raises where there is no such knob
        self._try(self.start)
        if not self._closed():
            second = min(2 * self.start, self.most) if self.low else max(self._middle(0, self.start), self.first)
            if second != self.start:
                self._try(second - (second - self.start) % self.step)
        while not self._closed():
            self._try(self._guess())

    def near(self) -> Series | None:
        """The step near the largest value, as polynomials through its logs."""
        found = [one for one in stretches(self.logs) if len(one.logs) > 1]
        at = self.low or self.first
        if not found:
            return None
        return series(min(found, key=lambda one: max(one.low - at, at - one.high, 0)), checks=0)

    def surely(self) -> int | None:
        """The largest value up to `low` for which the upper bound fits, too, as a trace confirms; None for none."""
        high = self.low
        for _ in range(CONFIRMED):
            near = self.near()
            if near is None or high < self.first:
                return None
            value = self._last(lambda one: self._outcome(one) == "fits", near, 0, high)
            if not value:
                return None
            case = varied(self.base, self.knob, value)
            self.logs[value] = self.analyses.log(case.scenario)
            if self.analyses.of(case).outcome == "fits":
                return value
            high = value - self.step
        return None

    def _outcome(self, log: Log) -> str:
        return self.analyses.judged(log, self.base.conf).outcome

    def _closed(self) -> bool:
        if self.high is not None:
            return self.high - (self.low or self.first - self.step) <= self.step
        if self.low >= self.most:
            self.stopped = self.stopped or f"the search ended at {self.low:,}"
            return True
        return False

    def _try(self, value: int) -> None:
        """Analyse a value; beyond one that the network refuses is none."""
        case = varied(self.base, self.knob, value)
        try:
            self.logs[value] = self.analyses.log(case.scenario)
        except PeakmemError as fault:
            self.stopped, self.most = str(fault), value - self.step
            if self.most > self.low + self.step:
                self._try(self.low + self.step)  # most often it takes none beyond what it has
            return
        if self.analyses.of(case).outcome != "does not fit":
            self.low = max(self.low, value)
        else:
            self.high = value if self.high is None else min(self.high, value)

    def _guess(self) -> int:
        """The next value to analyse, strictly within the gap."""
        self.guesses += 1
        floor, near = self.low or self.first - self.step, self.near()
        top = self.most if self.high is None else self.high - self.step
        if near is None or self.guesses > GUESSES:
            return min(2 * max(floor, self.step), top) if self.high is None else self._middle(floor, self.high)
        room = self.analyses.capacity.nbytes - self.analyses.beside_bytes
        solved = last_within(reigns(near, self.first, top), room)
        tensors = top if solved is None else solved
        tensors -= (tensors - self.first) % self.step
        found = self._last(lambda one: self.analyses.runs(one, self.base.conf), near, floor, max(tensors, floor))
        return min(max(found, floor + self.step), top)

    def _last(self, good: Callable[[Log], bool], near: Series, low: int, high: int) -> int:
        """The last value from `low` on, which is good, to `high` whose log by the polynomials is good."""
        low = low or self.first - self.step
        while high > low:
            middle = low + -(-(high - low) // self.step + 1) // 2 * self.step
            middle = min(max(middle, low + self.step), high)
            if good(near.at(middle)):
                low = middle
            else:
                high = middle - self.step
        return low if low >= self.first else 0

    def _middle(self, low: int, high: int) -> int:
        """A value of the class between two."""
        low = max(low, self.first - self.step)
        return low + max((high - low) // self.step // 2, 1) * self.step
