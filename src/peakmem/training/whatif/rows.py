"""What-ifs in rows: each change alone, and all of them together; bytes by a log of their own, and the price.

What can be traced is traced again with the change made; an optimizer that torch has not, and what is split over ranks,
are written into the log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from peakmem.errors import PeakmemError
from peakmem.training.log import Log
from peakmem.training.scenario import Scenario
from peakmem.training.whatif.names import parse
from peakmem.training.whatif.parallel import parallel
from peakmem.training.whatif.sharding import sharded

TORCH_HAS = frozenset({"sgd", "momentum", "adam", "adamw", "rmsprop", "adagrad", "adafactor"})
# optimizers that a producer can step with; others are written into the log


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
    produce: Callable[[Scenario], Log],
    base: Scenario,
    log: Log,
    names: Sequence[str],
    *,
    units: Sequence[str] = (),
    combined: bool = True,
) -> tuple[Change, ...]:
    """Each of `names` alone, then all together where there are several.

    Args:
        produce: the log of a scenario (a trace, a graph).
        base: what `log` is of.
        units: module paths that stage 3 gathers each at a time.

    Raises:
        UsageError: a name that stands for nothing.
    """
    texts = [*names, "+".join(names)] if combined and len(names) > 1 else list(names)
    changes = [parse(text) for text in texts]
    return tuple(_row(name, change(base), produce, base, log, units) for name, change in changes)


def _row(
    name: str, wanted: Scenario, produce: Callable[[Scenario], Log], base: Scenario, log: Log, units: Sequence[str]
) -> Change:
    try:
        made = changed(produce, wanted, base, log)
        before = total_flops(made)
        sending, note = 0, ""
        if wanted.sharding != base.sharding:
            made, sending, note = _split(made, wanted, units)
        flops = before / total_flops(log) if total_flops(log) and before else None
        return Change(name, made, Price(flops, sending, note))
    except PeakmemError as fault:
        return Change(name, None, refused=str(fault))


def changed(produce: Callable[[Scenario], Log], wanted: Scenario, base: Scenario, log: Log) -> Log:
    """The log of another scenario, sharding left aside."""
    from peakmem.training.optimizers import with_optimizer

    traced = replace(wanted, sharding=base.sharding)
    foreign = wanted.optimizer is not None and wanted.optimizer.name not in TORCH_HAS
    if foreign:
        traced = replace(traced, optimizer=base.optimizer)
    made = log if traced == base else produce(traced)
    return with_optimizer(made, wanted.optimizer, wanted.device) if foreign and wanted.optimizer else made


def _split(log: Log, wanted: Scenario, units: Sequence[str]) -> tuple[Log, int, str]:
    from peakmem.training.formulas.communication import data_parallel

    split = wanted.sharding
    made = parallel(sharded(log, split, units), split.tensor, sequence=split.sequence, units=units)
    nbytes = sum(item.nbytes for item in log.storages if item.category == "parameter")
    sending = data_parallel(nbytes, nbytes, split.ranks, split.stage).nbytes if split.ranks > 1 else 0
    note = "what the ranks of a tensor send each other is not counted" if split.tensor > 1 else ""
    return made, sending, note


def total_flops(log: Log) -> int:
    """Floating-point operations of the last step."""
    last = log.steps - 1
    return sum(item.flops for item in log.work if item.step == last)
