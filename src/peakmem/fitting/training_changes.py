"""Changes that may make a training step fit: what one is, what it is told of the step, and the table they stand in.

The table may be added to: `register(Change(…))`. Those of this package stand in `training_table`. Whether a change
helps is never said here: it is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from peakmem.fitting.training_analysis import Case
from peakmem.fitting.training_largest import Found, Knob
from peakmem.fitting.training_prices import Kind
from peakmem.producing import Made
from peakmem.training.scenario import Scenario
from peakmem.training.whatif import parse

CONF = "conf:"
# what settings of the allocator begin with, to be told from what-ifs


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known of a step when changes are looked for."""

    base: Case
    made: Made
    on_cuda: bool
    optimizer: str
    # that steps; "" where it is not known
    implementation: str
    largest: dict[Knob, Found]
    needed_bytes: int
    shards: int | None
    # ranks over which parameters, gradients and state have to be split, each with the whole batch

    @property
    def scenario(self) -> Scenario:
        """Of the step."""
        return self.base.scenario

    @property
    def samples(self) -> int:
        """Of one forward; 0 where only the step knows."""
        return self.scenario.batch or self.made.samples

    @property
    def state_share(self) -> float:
        """What the optimizer's state is of all that is needed."""
        state = sum(item.nbytes for item in self.made.log.storages if item.category == "optimizer state")
        return state / max(self.needed_bytes, 1)

    @property
    def is_transformer(self) -> bool:
        """Whether its blocks are of products alone, as adapters and tensor parallelism take them."""
        return bool(self.made.blocks) and not self.has("convolution") and self.has("attention", "softmax")

    def has(self, *parts: str) -> bool:
        """Whether an operator with one of these in its name ran."""
        return any(part in item.operator for item in self.made.log.storages for part in parts)


Values = Callable[[Situation], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Change:
    """One change with the values that are worth a try."""

    name: str
    title: str
    kind: Kind
    because: str
    # why this kind of price
    values: Values
    # as `--what-if` takes them, or `conf:` and settings of the allocator, the cheapest first; none where it does not
    # apply. The first that fits ends the tries
    slot: str = ""
    # of two changes with one slot a step takes only one; "" for its own name
    pointless: Callable[[Situation], str] | None = None
    # why it is not worth a try here; "" where it is


CHANGES: dict[str, Change] = {}


def register(change: Change) -> None:
    """Add a change to the table, or replace the one of its name."""
    CHANGES[change.name] = change


def changed(base: Case, text: str) -> Case:
    """A case with one change: a what-if, or `conf:` and settings of the allocator.

    Raises:
        UsageError: it cannot be made.
    """
    if text.startswith(CONF):
        return replace(base, conf=",".join(part for part in (base.conf, text.removeprefix(CONF)) if part))
    return replace(base, scenario=parse(text)[1](base.scenario))
