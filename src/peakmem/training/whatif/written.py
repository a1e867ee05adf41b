"""What no producer steps with is written into its log: optimizers of others, master copies, what is split over ranks.

A producer traces (or follows a graph) under `traceable(scenario)` and hands its log to `written`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from peakmem.training.log import Log
from peakmem.training.optimizers import with_optimizer
from peakmem.training.scenario import Optimizer, Scenario, Sharding
from peakmem.training.whatif.parallel import parallel
from peakmem.training.whatif.sharding import sharded

TORCH_HAS = frozenset({"sgd", "momentum", "adam", "adamw", "rmsprop", "adagrad", "adafactor"})
# optimizers that a producer can step with


@dataclass(frozen=True, slots=True)
class Written:
    """A whole log, and what its ranks send each other for it."""

    log: Log
    sent_bytes: int = 0
    # by one rank in one step
    note: str = ""


def is_written(scenario: Scenario) -> bool:
    """Whether the optimizer's phase is written instead of traced."""
    optimizer = scenario.optimizer
    foreign = optimizer is not None and (optimizer.name not in TORCH_HAS or bool(optimizer.options))
    return foreign or scenario.precision == "bf16-master"


def traceable(scenario: Scenario) -> Scenario:
    """The scenario without what is written afterwards."""
    optimizer = None if is_written(scenario) else scenario.optimizer
    return replace(scenario, optimizer=optimizer, sharding=Sharding())


def written(log: Log, scenario: Scenario, units: Sequence[str] = ()) -> Written:
    """A producer's log with all that the scenario asks for beyond.

    Args:
        log: of `traceable(scenario)`.
        units: module paths of the repeated blocks, see `gathering` and `parallel`.

    Raises:
        UsageError: a split for which the log has no units or names.
    """
    if is_written(scenario):
        optimizer = scenario.optimizer or Optimizer()
        if scenario.precision == "bf16-master":
            optimizer = replace(optimizer, options=(*optimizer.options, ("master", True)))
        log = with_optimizer(log, optimizer, scenario.device)
    split = scenario.sharding
    if split == Sharding():
        return Written(log)
    from peakmem.training.formulas.communication import data_parallel

    nbytes = sum(item.nbytes for item in log.storages if item.category == "parameter")
    sent = data_parallel(nbytes, nbytes, split.ranks, split.stage).nbytes if split.ranks > 1 else 0
    note = "what the ranks of a tensor send each other is not counted" if split.tensor > 1 else ""
    made = parallel(sharded(log, split, units), split.tensor, sequence=split.sequence, units=units)
    return Written(made, sent, note)
