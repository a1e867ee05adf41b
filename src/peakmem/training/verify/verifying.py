"""Predict a training step, run it, compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from peakmem.errors import UsageError
from peakmem.training.scenario import Scenario
from peakmem.training.verify import wire
from peakmem.training.verify.comparing import Comparison, compare
from peakmem.training.verify.running import Measured, Resident, measured, resident

Progress = Callable[[str, int, int], None]
# told what is under way, how much is done and of how much


@dataclass(frozen=True, slots=True)
class Verification:
    """One step, predicted and measured."""

    name: str
    scenario: Scenario
    comparison: Comparison
    facts: dict[str, str]
    counters: dict[str, int]
    resident: tuple[Resident, ...]
    # of a clean process; empty where it was not looked at
    notes: tuple[str, ...]


def silent(_what: str, _done: int, _total: int) -> None:
    """Says nothing of what is under way."""


def verify(
    target: str,
    scenario: Scenario,
    *,
    inputs: tuple[str, ...] = (),
    resolve: str = wire.NAMED,
    process: bool = True,
    timeout: float = 1800.0,
    progress: Progress = silent,
) -> Verification:
    """Trace `target` on tensors without memory, train it for real, and hold one against the other.

    `resolve` names the function (module:function) that makes a workload of target, scenario and inputs.

    Raises:
        UsageError: a device that is not here, a workload that cannot be traced, a step that raises.
        PeakmemError: the process that trains ended early.
    """
    _present(scenario)
    from peakmem.training.tracing.run import trace

    progress("predicting", 0, 2 + process)
    workload = wire.made(resolve, target, scenario, inputs)
    predicted = trace(workload, scenario)
    progress("training under the profiler", 1, 2 + process)
    run: Measured = measured(target, scenario, inputs=inputs, resolve=resolve, timeout=timeout)
    seen: tuple[Resident, ...] = ()
    if process:
        progress("training in a clean process", 2, 3)
        seen = resident(target, scenario, inputs=inputs, resolve=resolve)
    notes = tuple(dict.fromkeys((*predicted.notes, *run.log.notes)))
    return Verification(workload.name, scenario, compare(predicted, run.log), run.facts, run.counters, seen, notes)


def _present(scenario: Scenario) -> None:
    """A step can only be run on a device that is here."""
    import torch

    if scenario.device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "there is no GPU that torch can use, so that a step on cuda can be predicted and not verified",
            hint="--device cpu, or peakmem train for the prediction alone",
        )
