"""The cheapest changes that make a question fit: sets of changes in order of their price, the analysis run with each.

What two changes save is never added up. Only minimal sets are kept: of a set that fits, no larger or stronger one is
looked at. Sets are left out where even the strongest change of each of their kinds together does not fit.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from peakmem.errors import PeakmemError
from peakmem.fitting.answers import Answers, Stopped
from peakmem.fitting.changes import Change
from peakmem.fitting.parts import Answer
from peakmem.fitting.question import Question, command
from peakmem.report.fit import Tried

LARGEST_SET = 4
MOST_SETS = 20_000
# that are looked at, most of them without an analysis


@dataclass(slots=True)
class Search:
    """One search, with what it has found so far."""

    answers: Answers
    question: Question
    families: tuple[tuple[Change, ...], ...]
    flags: tuple[str, ...]
    # that name the place again
    wanted: int = 5
    # sets that fit
    most: int = 120
    # analyses
    found: list[tuple[Change, ...]] = field(default_factory=list)
    likely: Callable[[Sequence[Change]], bool] | None = None
    # what is worth asking an engine about; None to find out by the strongest of each kind
    left_out: int = 0
    # sets that it spoke against
    exhausted: bool = False
    # every set there is was looked at
    stopped: bool = False
    # the time was up
    _hopeless: dict[frozenset[str], bool] = field(default_factory=dict)

    def run(self) -> tuple[Tried, ...]:
        """The sets that fit, cheapest first, then what each kind of change gives at its strongest."""
        try:
            if self.likely is not None:
                self.families = tuple(self._useful())
            self._look()
            if not self.found and not self.exhausted and self.likely is None and (last := self._weakened()):
                self.found.append(last)
        except Stopped:
            self.stopped = True
        ranked = [
            tried(self.answers, self.question, chosen, self.flags, rank=rank)
            for rank, chosen in enumerate(self.found, 1)
        ]
        return (*ranked, *self._alone())

    def _useful(self) -> Iterator[tuple[Change, ...]]:
        """The families without options of an engine that save nothing by themselves: their sets would be many."""
        now = self._answer(())
        for family in self.families:
            if not family[0].is_setting:
                yield family
                continue
            found = [(one, self._answer((one,))) for one in family]
            kept = tuple(
                one
                for one, after in found
                if isinstance(after, Answer) and isinstance(now, Answer) and (after.holds or _helps(now, after))
            )
            if kept:
                yield kept

    def _look(self) -> None:
        begun = self.answers.count
        for chosen in self._sets():
            if len(self.found) >= self.wanted or self.answers.count - begun >= self.most:
                return
            if self._is_beaten(chosen) or self._is_left_out(chosen):
                continue
            if self._holds(chosen):
                self.found.append(chosen)
        self.exhausted = not self.left_out

    def _alone(self) -> Iterator[Tried]:
        """The strongest of each kind by itself, as far as it moves anything and does not fit."""
        now = self._answer(())
        for family in self.families:
            if (self.stopped or self.likely) and not self.answers.is_known(changed(self.question, family[-1:])):
                continue
            found = self._answer(family[-1:])
            if isinstance(now, Answer) and isinstance(found, Answer) and (found.holds or not _helps(now, found)):
                continue
            yield tried(self.answers, self.question, family[-1:], self.flags)

    def _weakened(self) -> tuple[Change, ...]:
        """A set without one to spare, from all kinds at their strongest: what is dearest is taken back first.

        For when the cheapest sets were too many to look at and none of them was enough.
        """
        chosen = {family[0].family: len(family) - 1 for family in self.families if family[0].ordered}

        def made() -> tuple[Change, ...]:
            return tuple(family[chosen[family[0].family]] for family in self.families if family[0].family in chosen)

        if not chosen or not self._holds(made()):
            return ()
        for family in sorted(self.families, key=lambda one: -one[-1].price.cost):
            kind = family[0].family
            if kind not in chosen:
                continue
            place = chosen.pop(kind)
            for milder in (-1, *range(place + 1)):
                # without it, then from the mildest on
                if milder >= 0:
                    chosen[kind] = milder
                if chosen and self._holds(made()):
                    break
        return made()

    def _holds(self, chosen: Sequence[Change]) -> bool:
        found = self._answer(chosen)
        return isinstance(found, Answer) and found.holds

    def _sets(self) -> Iterator[tuple[Change, ...]]:
        """Sets of changes of different families, in order of their price."""
        items = sorted((one for family in self.families for one in family), key=lambda one: one.price.cost)
        costs = [one.price.cost for one in items]
        waiting: list[tuple[float, int, tuple[int, ...]]] = [(costs[0], 1, (0,))] if items else []
        for _ in range(MOST_SETS):
            if not waiting:
                return
            cost, _, chosen = heapq.heappop(waiting)
            after = chosen[-1] + 1
            if after < len(items):
                swapped = (*chosen[:-1], after)
                heapq.heappush(waiting, (cost - costs[chosen[-1]] + costs[after], len(swapped), swapped))
                if len(chosen) < LARGEST_SET:
                    heapq.heappush(waiting, (cost + costs[after], len(chosen) + 1, (*chosen, after)))
            picked = tuple(items[index] for index in chosen)
            if len({one.family for one in picked}) == len(picked):
                yield self._in_order(picked)

    def _in_order(self, chosen: Sequence[Change]) -> tuple[Change, ...]:
        order = [family[0].family for family in self.families]
        return tuple(sorted(chosen, key=lambda one: order.index(one.family)))

    def _is_beaten(self, chosen: Sequence[Change]) -> bool:
        """Whether a set that fits is part of this one, or of a milder one."""
        have = {one.family: one for one in chosen}
        return any(
            all(one.family in have and self._is_as_strong(have[one.family], one) for one in fits) for fits in self.found
        )

    def _is_as_strong(self, one: Change, other: Change) -> bool:
        if one.name == other.name:
            return True
        family = next(family for family in self.families if family[0].family == one.family)
        names = [change.name for change in family]
        return one.ordered and names.index(one.name) > names.index(other.name)

    def _is_left_out(self, chosen: Sequence[Change]) -> bool:
        """Whether it is known, or where an engine is asked made likely, that a set is not enough."""
        if self.likely is None:
            return self._is_hopeless(chosen)
        out = not self.likely(chosen)
        self.left_out += out
        return out

    def _is_hopeless(self, chosen: Sequence[Change]) -> bool:
        """Whether even the strongest of each kind together do not fit."""
        if not all(one.ordered for one in chosen):
            return False
        kinds = frozenset(one.family for one in chosen)
        if kinds not in self._hopeless:
            strongest = tuple(family[-1] for family in self.families if family[0].family in kinds)
            found = self._answer(strongest)
            self._hopeless[kinds] = isinstance(found, Answer) and not found.holds
        return self._hopeless[kinds]

    def _answer(self, chosen: Sequence[Change]) -> Answer | PeakmemError:
        return answer(self.answers, changed(self.question, chosen))


def changed(question: Question, chosen: Sequence[Change]) -> Question:
    """The question with all of `chosen` made."""
    for one in chosen:
        question = one.made(question)
    return question


def _helps(before: Answer, after: Answer) -> bool:
    """Whether a part that is over needs at least a hundredth less."""
    pairs = zip(before.parts, after.parts, strict=True)
    return any(old.outcome != "fits" and new.needed_bytes * 100 <= old.needed_bytes * 99 for old, new in pairs)


def answer(answers: Answers, question: Question) -> Answer | PeakmemError:
    """The answer, or why there is none."""
    try:
        return answers.of(question)
    except Stopped:
        raise
    except PeakmemError as fault:
        return fault


def tried(
    answers: Answers, question: Question, chosen: Sequence[Change], flags: tuple[str, ...], *, rank: int = 0
) -> Tried:
    """A set of changes as the report has it: what the whole analysis says with all of them made."""
    asked = changed(question, chosen)
    found = answer(answers, asked)
    names, title = tuple(one.name for one in chosen), "; ".join(one.title for one in chosen)
    price = "; ".join(dict.fromkeys(one.price.said for one in chosen))
    if isinstance(found, PeakmemError):
        return Tried(names, title, "refused", str(found), (), 0, price, command(asked, flags))
    needed = tuple((part.name, part.needed_bytes) for part in found.parts)
    return Tried(names, title, found.outcome, "", needed, rank, price, command(asked, flags))
