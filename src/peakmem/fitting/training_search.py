"""Which changes make a training step fit: each alone, then sets, the cheapest first, each by the whole analysis.

A set is tried when no part of it fits already, when it is no dearer in kind than what is known to fit, and when what
its members save phase by phase would add up to enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from math import prod

from peakmem.errors import PeakmemError
from peakmem.fitting import training_table as _table  # noqa: F401  # it fills CHANGES
from peakmem.fitting.training_analysis import Analyses, Analysis, Case
from peakmem.fitting.training_changes import CHANGES, Change, Situation, changed
from peakmem.fitting.training_prices import ORDER, order

SETS = 8
# that are analysed at most
LARGEST_SET = 4
ENOUGH = 3
# sets that fit, after which no more are looked for
SLACK = 0.1
# of the capacity: by so much a set may do better than its members promise


@dataclass(frozen=True, slots=True)
class Attempt:
    """One change, or several together, and what came of it."""

    changes: tuple[Change, ...]
    texts: tuple[str, ...]
    analysis: Analysis | None
    refused: str
    # why there is no analysis; "" otherwise
    work: float
    # FLOPs as a share of those without it; 1 where they are not counted
    devices: int = 1

    @property
    def price(self) -> tuple[float, ...]:
        """What attempts are sorted by."""
        return order(tuple(change.kind for change in self.changes), self.devices, self.work, len(self.changes))


def search(analyses: Analyses, here: Situation) -> list[Attempt]:
    """All that was tried, in the order of the tries."""
    before = analyses.of(here.base)
    good = _better(before)
    singles = [attempt for change in _ordered() for attempt in _alone(analyses, here, change, good)]
    return [*singles, *_together(analyses, here, singles, before, good)]


def _better(before: Analysis) -> Callable[[Attempt], bool]:
    """Whether an attempt answers more than the step did without it."""
    wanted = ("fits",) if before.outcome == "may fit" else ("fits", "may fit")
    return lambda attempt: attempt.analysis is not None and attempt.analysis.outcome in wanted


def _ordered() -> list[Change]:
    return sorted(CHANGES.values(), key=lambda change: ORDER[change.kind])


def _alone(
    analyses: Analyses, here: Situation, change: Change, good: Callable[[Attempt], bool]
) -> Iterator[Attempt]:  # fmt: skip
    for text in change.values(here):
        if reason := change.pointless(here) if change.pointless else "":
            yield Attempt((change,), (text,), None, reason, 1.0)
            return
        found = attempt(analyses, here, (change,), (text,))
        yield found
        if good(found):
            return


def attempt(analyses: Analyses, here: Situation, changes: tuple[Change, ...], texts: tuple[str, ...]) -> Attempt:
    """The whole analysis with some changes."""
    case = here.base
    try:
        for text in texts:
            case = changed(case, text)
        if analyses.spent and not analyses.has(case.scenario):
            return Attempt(changes, texts, None, f"not tried: {analyses.traces} steps were traced already", 1.0)
        found = analyses.of(case)
    except PeakmemError as fault:
        return Attempt(changes, texts, None, str(fault), 1.0)
    before = analyses.of(here.base).flops
    split = case.scenario.sharding
    work = found.flops * _times(case, here) / before if before and found.flops else 1.0
    return Attempt(changes, texts, found, "", work, split.ranks * split.tensor)


def _times(case: Case, here: Situation) -> float:
    """How often a smaller forward has to run for as many samples as before."""
    now, before = case.scenario.batch, here.samples
    if not now or not before:
        return 1.0
    return float(before / (now * case.scenario.accumulate))


def _together(
    analyses: Analyses, here: Situation, singles: list[Attempt], before: Analysis, good: Callable[[Attempt], bool]
) -> Iterator[Attempt]:  # fmt: skip
    fitting = [one for one in singles if good(one)]
    members = [one for one in _smallest(singles) if not good(one) and _saves(one, before)]
    dearest = min((one.price[0] for one in fitting), default=None)
    capacity, tried, found = analyses.capacity.nbytes, 0, list[Attempt]()
    for group in sorted(_groups(members), key=_price):
        if tried >= SETS or len(found) >= ENOUGH or (dearest is not None and _price(group)[0] > dearest):
            return
        names = {change for one in group for change in one.changes}
        if any(names >= set(one.changes) for one in found) or _promised(group, before) > capacity * (1 + SLACK):
            continue
        texts = tuple(text for one in group for text in one.texts)
        result = attempt(analyses, here, tuple(change for one in group for change in one.changes), texts)
        yield result
        tried += 1
        if good(result):
            found.append(result)
            dearest = result.price[0] if dearest is None else min(dearest, result.price[0])


def _smallest(singles: list[Attempt]) -> list[Attempt]:
    """Of the values of one change the one that leaves least."""
    best: dict[str, Attempt] = {}
    for one in singles:
        known = best.get(one.changes[0].name)
        if one.analysis is not None and (
            known is None or known.analysis is None or one.analysis.needed_bytes < known.analysis.needed_bytes
        ):
            best[one.changes[0].name] = one
    return list(best.values())


def _saves(one: Attempt, before: Analysis) -> bool:
    """Whether it needs less, in all or in one phase."""
    assert one.analysis is not None
    held = dict(before.phases)
    lower = any(nbytes < held.get(phase, 0) for phase, nbytes in one.analysis.phases if phase != "build")
    return lower or one.analysis.needed_bytes < before.needed_bytes


def _groups(members: list[Attempt]) -> Iterator[tuple[Attempt, ...]]:
    for size in range(2, LARGEST_SET + 1):
        for group in combinations(members, size):
            slots = [one.changes[0].slot or one.changes[0].name for one in group]
            if len(set(slots)) == size:
                yield group


def _price(group: tuple[Attempt, ...]) -> tuple[float, ...]:
    kinds = tuple(change.kind for one in group for change in one.changes)
    return order(kinds, prod(one.devices for one in group), prod(one.work for one in group), len(group))


def _promised(group: tuple[Attempt, ...], before: Analysis) -> int:
    """What would be needed if the savings of all members added up, phase by phase."""
    around = before.needed_bytes - before.tensors.nbytes
    # what the allocator and the process hold beside the tensors
    found = [0]
    for phase, nbytes in before.phases:
        if phase != "build":
            with_each = [dict(one.analysis.phases).get(phase, 0) for one in group if one.analysis is not None]
            found.append(nbytes - sum(nbytes - other for other in with_each))
    saved = sum(before.needed_bytes - one.analysis.needed_bytes for one in group if one.analysis is not None)
    return min(max(found) + around, before.needed_bytes - saved)
