"""What is traced: a workload builds its parts, and the parts make one training step.

A workload comes from `training.networks` (built-in networks, configurations) or from the user's own code (`given`).
`assemble` turns parts into a step the way a training loop is written: gradients cleared, forward and loss under the
precision asked for, backward, optimizer; a step of the user's own is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from peakmem.training.scenario import Scenario


@dataclass(slots=True)
class Parts:
    """What a workload is made of; `step` alone, or `model` and `loss` from which a step is assembled."""

    model: Any = None
    # a torch.nn.Module on the scenario's device, in training mode
    loss: Callable[[], Any] | None = None
    # runs the forward on the batch that it holds and gives the loss, a tensor of one element, or (loss, result): the
    # result of the network then lives until the step ends, as in a loop that has it in a variable
    optimizer: Any = None
    # a torch.optim.Optimizer of the user's own; None: made from the scenario
    step: Callable[[], Any] | None = None
    # one whole training step; what it returns is kept until the next has run, as a loop's variable keeps it
    blocks: tuple[str, ...] = ()
    # paths of the repeated modules, those that recompute drops and makes again
    samples: int = 1
    # of one batch
    notes: tuple[str, ...] = ()
    # what was assumed (the loss, the batch, dropout rates)


class Workload(Protocol):
    """Something to train."""

    @property
    def name(self) -> str:
        """What it is called in reports."""
        ...

    def build(self) -> Parts:
        """Make its parts. Called once per log, under the tracer or for real: all it allocates is written down."""
        ...


def assemble(parts: Parts, scenario: Scenario) -> Callable[[], Any]:
    """One training step of these parts under a scenario.

    Raises:
        UsageError: an optimizer that is not known, a scenario that the parts cannot be put under.
    """
    from peakmem.training.tracing import loop

    return loop.assembled(parts, scenario)
