"""A workload with a look at what it builds and which optimizer its steps use. Imported with torch at hand."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import replace
from typing import Any

from torch.optim import Optimizer as TorchOptimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from peakmem.errors import UsageError
from peakmem.training.formulas import Shape
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
        self.shape: Shape | None = None
        # of a transformer
        self.own = False
        # whether step or optimizer are the user's own
        self.optimizer: Optimizer | None = None
        # the one that its steps used, as a scenario says it; None where a scenario cannot, and for several

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

        stepped: dict[Optimizer | None, None] = {}

        def stepping(optimizer: Any, *_: Any) -> None:
            stepped[said(optimizer)] = None  # in words: held, it would live longer than in the step

        handle = register_optimizer_step_pre_hook(stepping)
        try:
            with redirect_stdout(sys.stderr):  # what a step prints is not the answer
                log = trace(self, scenario)
        except SystemExit as fault:
            raise UsageError(
                f"the step ended the program with SystemExit({fault.code!r})", where=self.name,
                expected="a step that returns",
            ) from fault  # fmt: skip
        finally:
            handle.remove()
        self.optimizer = next(iter(stepped)) if len(stepped) == 1 else None
        self.shape = shape_of(self.workload, log)
        return log


def shape_of(workload: Workload, log: Log) -> Shape | None:
    """The transformer that a workload of `training.networks` trains, by its numbers; None for all others."""
    from peakmem.training.networks import gpt2
    from peakmem.training.networks.decoder import Decoder

    found: Any = getattr(workload, "shape", None)
    entry = getattr(workload, "entry", None)
    if found is None and entry is not None and entry.builder.startswith("gpt2:") and entry.positional:
        found = gpt2.SIZES.get(entry.positional[0])
    tokens = next((one.shape for one in log.storages if one.category == "input" and len(one.shape) == 2), None)
    if tokens is None or not isinstance(found, gpt2.Shape | Decoder):
        return None
    whole = Shape(
        layers=found.layers, hidden=found.hidden, heads=found.heads, sequence=tokens[1], batch=tokens[0],
        vocabulary=found.vocabulary, feed_forward=found.inner or 0,
    )  # fmt: skip
    if isinstance(found, gpt2.Shape):
        return replace(whole, positions=found.positions)
    gated = found.activation == "silu"
    return replace(
        whole, kv_heads=found.key_heads, head_size=found.head, gated=gated, biases=False, norm_biases=False,
        tied=found.tied,
    )  # fmt: skip


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
