"""A workload with a look at what it builds and which optimizer its steps use. Imported with torch at hand."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer as TorchOptimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from peakmem.training.log import Log
from peakmem.training.scenario import Implementation, Optimizer, Scenario
from peakmem.training.tracing.run import trace
from peakmem.training.tracing.step import Parts, Workload

NAMED = {
    "SGD": "sgd", "Adam": "adam", "AdamW": "adamw", "RMSprop": "rmsprop", "Adagrad": "adagrad",
    "Adafactor": "adafactor",
}  # fmt: skip
# torch's classes by the names of a scenario
KEPT = ("momentum", "amsgrad", "centered", "nesterov", "maximize")
# their arguments that change what a step allocates


class Watched:
    """Passes on what a workload builds and remembers it."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.samples = 0
        # of one batch; 0 where only the step knows
        self.blocks: tuple[str, ...] = ()
        self.notes: tuple[str, ...] = ()
        # what was assumed
        self.own = False
        # whether step or optimizer are the user's own
        self.optimizer: Optimizer | None = None
        # the one that its steps used, as a scenario says it; None where a scenario cannot
        self.stepped = False

    @property
    def name(self) -> str:
        """What it is called in reports."""
        return self.workload.name

    def build(self) -> Parts:
        """See `step.Workload`."""
        parts = self.workload.build()
        self.own = parts.step is not None or parts.optimizer is not None
        self.samples = parts.samples if parts.step is None else 0
        self.blocks = parts.blocks
        self.notes = tuple(parts.notes)
        return parts

    def log(self, scenario: Scenario) -> Log:
        """Trace it, and see which optimizer steps."""

        def stepping(optimizer: Any, *_: Any) -> None:
            if not self.stepped:
                self.stepped, self.optimizer = True, said(optimizer)

        handle = register_optimizer_step_pre_hook(stepping)
        try:
            return trace(self, scenario)
        finally:
            handle.remove()


def said(optimizer: TorchOptimizer) -> Optimizer | None:
    """A torch optimizer in the words of a scenario; None for a class that is not torch's or has no name there."""
    kind = type(optimizer)
    name = NAMED.get(kind.__name__) if kind.__module__.startswith("torch.optim") else None
    if name is None:
        return None
    given = optimizer.defaults
    implementation: Implementation | None = None
    if given.get("fused"):
        implementation = "fused"
    elif given.get("foreach") is not None:
        implementation = "foreach" if given["foreach"] else "single"
    options = [(key, given[key]) for key in KEPT if given.get(key)]
    if name == "sgd" and given.get("momentum") == 0.9 and len(options) == 1:
        name, options = "momentum", []
    return Optimizer(name, implementation, tuple(options))
