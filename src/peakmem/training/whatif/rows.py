"""What-ifs in rows: each change alone, and all of them together; bytes by a log of their own, and the price.

What can be traced is traced again with the change made; what cannot is written into the log, see `written`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from peakmem.errors import PeakmemError
from peakmem.training.log import Log
from peakmem.training.scenario import Scenario
from peakmem.training.whatif.names import parse
from peakmem.training.whatif.written import Written


@dataclass(frozen=True, slots=True)
class Price:
    """What a change costs besides memory, in one optimizer step."""

    flops: float | None = None
    # of products and convolutions, as a share of those without the change: 1.33 is a third more; None: not counted
    communicated_bytes: int = 0
    # sent by one rank
    note: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One row."""

    name: str
    log: Log | None
    # None: it cannot be had, and `refused` says why
    price: Price = Price()
    refused: str = ""


def rows(
    produce: Callable[[Scenario], Written],
    base: Scenario,
    log: Log,
    names: Sequence[str],
    *,
    combined: bool = True,
) -> tuple[Change, ...]:
    """Each of `names` alone, then all together where there are several.

    Args:
        produce: the whole log of a scenario, see `written`.
        base: what `log` is of.

    Raises:
        UsageError: a name that stands for nothing.
    """
    texts = [*names, "+".join(names)] if combined and len(names) > 1 else list(names)
    changes = [parse(text) for text in texts]
    return tuple(_row(name, change, produce, base, log) for name, change in changes)


def _row(
    name: str, change: Callable[[Scenario], Scenario], produce: Callable[[Scenario], Written], base: Scenario, log: Log
) -> Change:
    try:
        wanted = change(base)
        made = Written(log) if wanted == base else produce(wanted)
    except PeakmemError as fault:
        return Change(name, None, refused=str(fault))
    flops, before = total_flops(made.log), total_flops(log)
    return Change(name, made.log, Price(flops / before if flops and before else None, made.sent_bytes, made.note))


def total_flops(log: Log) -> int:
    """Floating-point operations of the last step."""
    last = log.steps - 1
    return sum(item.flops for item in log.work if item.step == last)
