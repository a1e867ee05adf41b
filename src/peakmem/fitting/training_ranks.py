"""How many devices a training step needs: the batch split over them, parameters, gradients and state split or not.

The count is looked for on logs written from the step's polynomials, and proved by the whole analysis at it and at one
less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from peakmem.errors import PeakmemError
from peakmem.fitting.training_analysis import Analyses, Analysis, Case, divided
from peakmem.training.envelope import Series
from peakmem.training.log import Log
from peakmem.training.scenario import Sharding

MOST = 1024
# devices


@dataclass(frozen=True, slots=True)
class Ranks:
    """So many devices hold the step together, one less does not."""

    count: int
    samples: int
    # on each; 0 where only the step knows, and each has them all
    sharded: bool
    # whether parameters, gradients and state are split as well
    there: Analysis
    fewer: Analysis
    # on the device that has most, of one less


def split(analyses: Analyses, base: Case, samples: int, near: Series | None) -> Ranks | None:
    """The fewest devices among which the batch may be divided: with whole copies of the network, or full shard.

    Args:
        samples: of the whole batch; 0 where it cannot be divided.
        near: the step as polynomials of its batch, around the largest that fits on one device.
    """
    found = [_split(analyses, base, samples, near, shard=False)] if samples > 1 else []
    found.append(_split(analyses, base, samples, near, shard=True))
    known = [one for one in found if one is not None]
    return min(known, key=lambda one: (one.count, one.sharded)) if known else None


def shards(analyses: Analyses, base: Case) -> int | None:
    """The fewest ranks of full shard at which each holds the whole batch asked; None where none will do."""
    found = _split(analyses, base, 0, None, shard=True)
    return None if found is None else found.count


def _split(analyses: Analyses, base: Case, samples: int, near: Series | None, *, shard: bool) -> Ranks | None:
    def case(count: int) -> Case:
        scenario = replace(base.scenario, batch=-(-samples // count)) if samples else base.scenario
        if shard:
            scenario = replace(scenario, sharding=Sharding(count, 3))
        return replace(base, scenario=scenario)

    def there(count: int) -> Analysis | None:
        try:
            return analyses.of(case(count))
        except PeakmemError:
            return None

    made = analyses.made(base.scenario)

    def log(count: int) -> Log:
        """By the polynomials, where they are no stretch; else traced."""
        size = -(-samples // count)
        if not samples or near is None or not near.traced[0] <= size <= near.traced[-1]:
            return analyses.log(case(count).scenario)
        return divided(near.at(size), Sharding(count, 3), made.blocks) if shard else near.at(size)

    most = min(samples, MOST) if samples and not shard else MOST
    try:
        guess = _first(lambda count: analyses.runs(log(count), base.conf), most)
    except PeakmemError:
        return None  # no names, no units: nothing to be split by
    for _ in range(4):
        if guess is None or guess < 2:
            return None
        found, fewer = there(guess), there(guess - 1)
        if found is None or fewer is None:
            return None
        if found.outcome == "does not fit":
            guess = guess + 1 if guess < most else None
        elif fewer.outcome != "does not fit":
            guess -= 1
        else:
            return Ranks(guess, -(-samples // guess) if samples else 0, shard, found, fewer)
    return None


def _first(good: Callable[[int], bool], most: int) -> int | None:
    """The first count from 1 on that is good, where a larger one is good if a smaller one is."""
    high = 1
    while not good(high):
        if high >= most:
            return None
        high = min(2 * high, most)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if good(middle) else (middle, high)
    return high
