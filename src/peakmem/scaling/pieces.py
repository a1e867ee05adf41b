"""From runs of the analysis to pieces of the formula, each held against plain evaluation before it is believed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import isqrt, lcm

from peakmem.errors import PeakmemError
from peakmem.formula.envelope import envelope
from peakmem.formula.number import Number, Trace
from peakmem.formula.polynomial import Polynomial, polynomial
from peakmem.scaling.evaluation import Measured, Point, Setting, measured, point
from peakmem.scaling.knobs import Knob

LARGEST_VALUE = 1 << 40
# no size is larger, see `binding`
BEYOND_BYTES = 1 << 50
# a peak that no machine holds: how the formula goes on from there is not looked at
BEYOND = ""
# the reason of a hole that lies there
MOST_TRACES = 48
# of one class; what is left after them is a gap
MOST_LOST = 2
FEW_CLASSES = 4
# with more of them, the formula of each is checked at its ends and where it was read off


@dataclass(frozen=True, slots=True)
class Fault:
    """That the network cannot be run at some values."""

    reason: str
    error: PeakmemError


@dataclass(frozen=True, slots=True)
class Traced:
    """One run on a number that remembers, or the fault it ended in, and where it would have gone the same way."""

    at: int
    modulus: int
    low: int
    high: int | None
    doubts: tuple[int, ...]
    found: Measured | Fault
    pinned: str


@dataclass(frozen=True, slots=True)
class Span:
    """A range of one class with one formula; `Gap` is one with a reason and none."""

    low: int
    high: int
    live: Polynomial
    weights: Polynomial
    state: Polynomial
    operator: tuple[str, str]
    step: int
    anchor: int
    unknown: bool
    checked: frozenset[int] = frozenset()

    def agrees(self, x: int, seen: Point | Fault) -> bool:
        """Whether plain evaluation at `x` gave what the formulas give there."""
        return (
            isinstance(seen, Point)
            and seen.operator == self.operator[0]
            and self.live(x) == seen.live_bytes
            and self.weights(x) == seen.weights_bytes
            and self.state(x) == seen.state_bytes
        )

    @property
    def formulas(self) -> tuple[object, ...]:
        """What makes two neighbouring ranges one."""
        return self.live, self.weights, self.state, self.operator, self.step


@dataclass(frozen=True, slots=True)
class Hole:
    """A range of one class without a formula."""

    low: int
    high: int
    reason: str


class Lost(Exception):
    """The numbers lost their memory somewhere: plain evaluation disagrees again and again."""


class Finer(Exception):
    """A class that has to be cut into finer ones."""

    def __init__(self, modulus: int) -> None:
        self.modulus = modulus
        super().__init__(modulus)


@dataclass
class Explorer:
    """Evaluations and traces of one knob, each made once."""

    knob: Knob
    setting: Setting
    seen: dict[int, Point | Fault] = field(default_factory=dict)
    traced: dict[int, Traced] = field(default_factory=dict)
    lost: int = 0
    # ranges that plain evaluation did not bear out
    lean: bool = False
    # fewer checks of each formula, where there are many
    brief: bool = False
    # only where each was read off and at its ends, where a class only has to be ruled out
    guessed: str = ""
    # what a bare number was used for

    def plain(self, x: int) -> Point | Fault:
        """The ordinary analysis at `x`."""
        found = self.seen.get(x)
        if found is None:
            try:
                found = point(measured(self.knob.graph(x), self.setting))
            except PeakmemError as fault:
                found = Fault(fault.what, fault)
            self.seen[x] = found
        return found

    def trace(self, x0: int) -> Traced:
        """The ordinary analysis at `x0` with a number that remembers."""
        if x0 not in self.traced:
            trace = Trace(x0)
            found: Measured | Fault
            try:
                found = measured(self.knob.graph(trace.variable()), self.setting)
            except PeakmemError as fault:
                found = Fault(fault.what, fault)
            low, high, doubts = trace.region(self.knob.low, self.knob.high)
            pinned = trace.pinned[0] if trace.pinned else ""
            self.traced[x0] = Traced(x0, trace.modulus, low, high, tuple(doubts), found, pinned)
        return self.traced[x0]

    # -- one class -----------------------------------------------------------------------

    def cover(self, modulus: int, residue: int, low: int, high: int | None, near: int) -> list[Span | Hole]:
        """The values ≡ `residue` modulo `modulus` from `low` to `high`, cut into ranges with one formula each.

        Args:
            near: the value to begin with, if it is of the class.

        Raises:
            Finer: the formulas hold for classes of a multiple of `modulus` only.
            Lost: plain evaluation disagrees with most of them.
        """
        first = low + (residue - low) % modulus
        top = LARGEST_VALUE if high is None else high
        last = top - (top - residue) % modulus
        waiting = [(first, last)] if first <= last else []
        found: list[Span | Hole] = []
        tries = 0
        while waiting:
            begin, end = waiting.pop()
            if tries >= MOST_TRACES:
                found.append(Hole(begin, end, f"not looked at: more than {MOST_TRACES} formulas below"))
                continue
            tries += 1
            x0 = _start(begin, end, near, residue, modulus)
            run = self.trace(x0)
            if modulus % run.modulus:
                raise Finer(lcm(modulus, run.modulus))
            lower = max(begin, run.low + (residue - run.low) % modulus)
            upper = end if run.high is None else min(end, run.high - (run.high - residue) % modulus)
            if begin < lower:
                waiting.append((begin, lower - modulus))
            if isinstance(run.found, Fault):
                seen = self.plain(lower)
                reason = seen.reason if isinstance(seen, Fault) else run.found.reason
                found.append(Hole(lower, upper, self._general(reason, lower)))
            else:
                for item in self._believed(run, run.found, lower, upper, modulus):
                    if isinstance(item, tuple):
                        waiting.append(item)
                    else:
                        found.append(item)
                if high is None and upper < end and self._beyond(upper):
                    found.append(Hole(upper + modulus, end, BEYOND))
                    continue
            if upper < end:
                waiting.append((upper + modulus, end))
        return joined(sorted(found, key=lambda one: one.low), modulus, self)

    def _general(self, reason: str, x: int) -> str:
        """A reason without the one value it was found at."""
        reason = re.sub(rf"\b{x}x{x}\b", "NxN", reason)
        return re.sub(rf"\b{re.escape(self.knob.name)}={x}\b", f"{self.knob.name}=N", reason)

    def _beyond(self, x: int) -> bool:
        seen = self.plain(x)
        return isinstance(seen, Point) and seen.resident_bytes > BEYOND_BYTES

    def _believed(
        self, run: Traced, found: Measured, low: int, high: int, modulus: int
    ) -> Iterator[Span | Hole | tuple[int, int]]:
        """The envelope of one run from `low` to `high`: what plain evaluation bears out, and ranges to look at anew."""
        curves = [_formula(nbytes).shifted(run.at, modulus) for nbytes in found.live]
        weights, state = _formula(found.weights_bytes), _formula(found.state_bytes)
        for stretch in envelope(curves, (low - run.at) // modulus, (high - run.at) // modulus):
            assert stretch.high is not None
            step = stretch.winner
            start, stop = run.at + modulus * stretch.low, run.at + modulus * stretch.high
            span = Span(
                start, stop, _formula(found.live[step]), weights, state,
                found.operators[step] if found.operators else ("", ""), step,
                min(max(run.at, start), stop), found.unknown,
            )  # fmt: skip
            doubts = [x for x in run.doubts if start <= x <= stop and (x - start) % modulus == 0]
            special = [x for x in doubts if not span.agrees(x, self.plain(x))]
            if run.pinned:
                self.guessed = run.pinned
                doubts += _dense(start, stop, modulus)
            for item in _parted(span, special, modulus):
                if isinstance(item, Span):
                    yield from self._checked(item, modulus, [x for x in doubts if item.low <= x <= item.high])
                else:
                    yield item

    def _checked(self, span: Span, modulus: int, doubts: list[int]) -> Iterator[Span | Hole | tuple[int, int]]:
        """`span` where plain evaluation agrees at its ends and inside, the doubts among it; else the part that does."""
        if not span.agrees(span.anchor, self.plain(span.anchor)):
            self._disappointed()
            yield Hole(span.anchor, span.anchor, "the formula and plain evaluation disagree")
            if span.low < span.anchor:
                yield span.low, span.anchor - modulus
            if span.anchor < span.high:
                yield span.anchor + modulus, span.high
            return
        places = {span.anchor, *self._places(span, modulus), *doubts}
        wrong = [x for x in sorted(places) if not span.agrees(x, self.plain(x))]
        low, high = span.low, span.high
        if wrong:
            self._disappointed()
            below, above = [x for x in wrong if x < span.anchor], [x for x in wrong if x > span.anchor]
            low = self._edge(span, span.anchor, below[-1], modulus) if below else low
            high = self._edge(span, span.anchor, above[0], modulus) if above else high
            places |= {low, high, *_samples(low, high, span.anchor, modulus)}
            if not all(span.agrees(x, self.plain(x)) for x in places if low <= x <= high):
                low = high = span.anchor
        kept = frozenset(x for x in places if low <= x <= high)
        yield single(low, span) if low == high else replace(span, low=low, high=high, checked=kept)
        if span.low < low:
            yield span.low, low - modulus
        if high < span.high:
            yield high + modulus, span.high

    def _places(self, span: Span, modulus: int) -> set[int]:
        if self.brief:
            return {span.low, span.high}
        return _samples(span.low, span.high, span.anchor, modulus, few=self.lean)

    def _disappointed(self) -> None:
        self.lost += 1
        if self.lost > MOST_LOST:
            raise Lost

    def _edge(self, span: Span, good: int, bad: int, modulus: int) -> int:
        """The last place on the way from `good` to `bad` where plain evaluation agrees, by bisection."""
        beside = good + (modulus if bad > good else -modulus)
        if not span.agrees(beside, self.plain(beside)):
            return good
        while abs(bad - good) > modulus:
            middle = good + (bad - good) // modulus // 2 * modulus
            if middle == good:
                middle = good + (modulus if bad > good else -modulus)
            if span.agrees(middle, self.plain(middle)):
                good = middle
            else:
                bad = middle
        return good


def _parted(span: Span, special: list[int], modulus: int) -> Iterator[Span | tuple[int, int]]:
    """`span` without the values at which something else holds; those as ranges of their own, to be looked at."""
    low = span.low
    for x in [*special, span.high + modulus]:
        if low < x:
            yield replace(span, low=low, high=x - modulus, anchor=min(max(span.anchor, low), x - modulus))
        if x <= span.high:
            yield x, x
        low = x + modulus


def single(x: int, span: Span) -> Span:
    """`span` at one value: what it gives there, as constants."""
    live, weights, state = (
        polynomial((found.numerator(x) // found.denominator,)) for found in (span.live, span.weights, span.state)
    )
    return Span(x, x, live, weights, state, span.operator, span.step, x, span.unknown, frozenset((x,)))


def _formula(nbytes: int) -> Polynomial:
    return nbytes.polynomial if isinstance(nbytes, Number) else polynomial((nbytes,))


def _start(begin: int, end: int, near: int, residue: int, modulus: int) -> int:
    """Where to begin in a range: at `near`, or a little away from the end that lies closer to it."""
    if near < begin:
        return min(begin + 12 * modulus, end - (end - begin) // modulus // 2 * modulus)
    if near > end:
        return end
    return near - (near - residue) % modulus if near - (near - residue) % modulus >= begin else begin


def _samples(low: int, high: int, anchor: int, modulus: int, *, few: bool = False) -> set[int]:
    """Places of a class to check between `low` and `high`: the ends, their neighbours, and some in between."""
    steps = (high - low) // modulus
    inside = {0, steps, steps * 5 // 8}
    if not few:
        inside |= {1, steps - 1, isqrt(steps), (anchor - low) // modulus + 1}
    return {low + modulus * step for step in inside if 0 <= step <= steps}


def _dense(low: int, high: int, modulus: int) -> list[int]:
    """More places to check where a formula is a guess: the first ones, and then further and further apart."""
    steps = (high - low) // modulus
    inside = {*range(16), *(round(1.7**power) for power in range(3, 60))}
    return [low + modulus * step for step in sorted(inside) if step <= steps]


def joined(found: list[Span | Hole], modulus: int, explorer: Explorer) -> list[Span | Hole]:
    """Neighbours with the same formulas as one; a single value joins a neighbour whose formula is right there, too."""
    out: list[Span | Hole] = []
    for item in found:
        last = out[-1] if out else None
        if isinstance(item, Hole):
            if isinstance(last, Hole) and last.high + modulus == item.low and _alike(last.reason, item.reason):
                out[-1] = replace(last, high=item.high)
            else:
                out.append(item)
            continue
        while isinstance(last, Span) and last.high + modulus == item.low:
            if last.formulas == item.formulas or _covers(last, item, explorer):
                item = replace(last, high=item.high, checked=last.checked | item.checked)
            elif _covers(item, last, explorer):
                item = replace(item, low=last.low, checked=last.checked | item.checked)
            else:
                break
            out.pop()
            last = out[-1] if out else None
        out.append(item)
    return out


def _alike(one: str, other: str) -> bool:
    """Whether two reasons differ in numbers alone."""
    return re.sub(r"\d+", "N", one) == re.sub(r"\d+", "N", other)


def _covers(wide: Span, single: Span, explorer: Explorer) -> bool:
    """Whether the formula of a range is right at the single value beside it."""
    return single.low == single.high and wide.low < wide.high and wide.agrees(single.low, explorer.plain(single.low))
