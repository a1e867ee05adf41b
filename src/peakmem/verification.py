"""The question "was the prediction of a training step right?", answered by running the step."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import cast

from peakmem.errors import MissingLibrary
from peakmem.measuring.machine import machine
from peakmem.report.training_check import (
    CategoryLine,
    Difference,
    Parting,
    PhaseLine,
    ProcessLine,
    Top,
    TrainingCheck,
)
from peakmem.training.account import Peak
from peakmem.training.log import Phase
from peakmem.training.scenario import Scenario
from peakmem.training.verify.comparing import Comparison, share
from peakmem.training.verify.running import Resident
from peakmem.training.verify.verifying import Progress, Verification, silent, verify

NAMED = 20
# differences at the peak that are listed; the rest is summed


def verify_train(
    source: str, *, scenario: Scenario | None = None, inputs: tuple[str, ...] = (), process: bool = True,
    timeout: float = 1800.0, progress: Progress = silent,
) -> TrainingCheck:  # fmt: skip
    """Predict a training step, run it for real here, and hold one against the other.

    Args:
        source: a built-in network, a folder with a config.json, or 'package.module:factory'.
        scenario: device, batch, optimizer, precision and the rest; a step on the processor with AdamW without it.
        inputs: what a torch.nn.Module is called with, see `peakmem.load`.
        process: also run it in a clean process and read that from outside.
        timeout: seconds that the run under the profiler may take.

    Raises:
        UsageError: no such network, no such device here, a step that cannot be traced or that raises.
        MissingLibrary: torch is not installed.
        PeakmemError: the process that trains ended early, or took too long.
    """
    if find_spec("torch") is None:
        raise MissingLibrary("torch", extra="torch", purpose="running a training step")
    found = verify(source, scenario or Scenario(), inputs=inputs, process=process, timeout=timeout, progress=progress)
    return report_of(found)


def report_of(found: Verification) -> TrainingCheck:
    """A verification as a report."""
    one = found.comparison
    named, rest = one.differences[:NAMED], one.differences[NAMED:]
    return TrainingCheck(
        name=found.name, device=found.scenario.device, steps=found.scenario.steps, machine=machine(),
        versions=found.facts, predicted=_top(one.predicted), measured=_top(one.measured), bound_bytes=one.bound_bytes,
        error=one.error, phases=_phases(one),
        categories=tuple(CategoryLine(it.category, it.predicted_bytes, it.measured_bytes) for it in one.categories),
        differences=tuple(
            Difference(it.category, it.name, it.operator, it.module, it.predicted_bytes, it.measured_bytes)
            for it in named
        ),
        unnamed_bytes=sum(it.nbytes for it in rest),
        partings=tuple(
            Parting(it.kind, it.step, it.phase, it.operator, it.module, it.predicted_bytes, it.measured_bytes)
            for it in one.partings
        ),
        partings_in_all=one.partings_in_all, allocator=found.counters, process=_process(found.resident),
        notes=found.notes,
    )  # fmt: skip


def _top(one: Peak) -> Top:
    return Top(one.nbytes, one.step, one.phase, one.operator, one.module)


def _phases(one: Comparison) -> tuple[PhaseLine, ...]:
    return tuple(
        PhaseLine(
            it.step, it.phase, it.predicted_bytes, it.measured_bytes, share(it.predicted_bytes, it.measured_bytes)
        )
        for it in one.phases
    )


def _process(seen: Iterable[Resident]) -> tuple[ProcessLine, ...]:
    """One line for each phase of each step: a phase that comes again counts with its highest."""
    lines: dict[tuple[int, str], ProcessLine] = {}
    for one in seen:
        phase, _, step = one.phase.partition(" ")
        key = (int(step or -1), phase)
        before = lines.get(key)
        highest = max(one.peak_bytes, before.peak_bytes if before else 0)
        lines[key] = ProcessLine(key[0], cast(Phase, phase), one.resident_bytes, highest)
    return tuple(lines.values())
