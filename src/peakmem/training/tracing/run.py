"""A workload and a scenario to the log of its steps, on tensors without memory. Imported with torch at hand."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from peakmem.frontends.torch.fake import quiet
from peakmem.training import workspaces
from peakmem.training.log import Log
from peakmem.training.recorder import Recorder
from peakmem.training.scenario import Scenario
from peakmem.training.tracing.content import Answers, answers
from peakmem.training.tracing.phases import Follower
from peakmem.training.tracing.step import Workload, assemble
from peakmem.training.tracing.tracer import Tracer


def trace(workload: Workload, scenario: Scenario) -> Log:
    """The log of `scenario.steps` steps. Nothing is computed and no tensor has memory.

    Raises:
        UsageError: code that asks for the content of a tensor, a step that raises, an optimizer that is not known.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    from peakmem.training.tracing import refusals

    with ExitStack() as stack:
        stack.enter_context(quiet())
        answered = stack.enter_context(_device(scenario))
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        fake.__deepcopy__ = lambda _: fake
        # a copied tensor belongs to the same mode: nn.Transformer copies its layers
        stack.enter_context(fake)
        try:
            log = record(workload, scenario, device=scenario.device, put_back=True)
        except Exception as fault:
            raise refusals.refusal(workload.name, fault) from fault
    unread = [f"the value declared for {line} was never asked for" for line, _ in scenario.values
              if line not in answered.used]  # fmt: skip
    return replace(log, notes=(*log.notes, *answered.notes, *unread))


def record(workload: Workload, scenario: Scenario, *, device: str, put_back: bool = False) -> Log:
    """The log of a workload's steps as they run here, on whatever tensors it makes.

    With `put_back`, parameters and optimizers that were there before are left as they were.
    """
    import torch

    recorder = Recorder(device=device, origin="trace")
    tracer = Tracer(recorder, device=device, machine=_machine(scenario, device))
    follower = Follower(tracer, puts_back=put_back)
    with ExitStack() as stack:
        stack.enter_context(_collected())
        if put_back:
            stack.callback(follower.put_back)
        stack.enter_context(torch.enable_grad())
        stack.enter_context(follower.following())
        stack.enter_context(tracer)
        parts = workload.build()
        step = assemble(parts, scenario)
        if parts.model is not None:
            follower.adopt(parts.model)
        recorder.notes += parts.notes
        recorder.settle("input")
        kept = None
        for number in range(scenario.steps):
            recorder.enter("forward", number)
            kept = step()
            follower.gradients()
            gc.collect()
        if recorder.reused:
            recorder.notes.append(
                f"{recorder.reused:,} results are written over their operand, as autograd does it unless it is watched"
            )
        log = recorder.finish()
    del kept, parts, step
    return log


def _machine(scenario: Scenario, device: str) -> workspaces.Machine:
    """What workspaces depend on: this processor, and the card that is meant."""
    here = workspaces.machine_here()
    if device != "cuda":
        return here
    card = workspaces.AMPERE
    return replace(
        here,
        capability=scenario.capability or card.capability,
        multiprocessors=scenario.multiprocessors or card.multiprocessors,
    )


@contextmanager
def _device(scenario: Scenario) -> Iterator[Answers]:
    with ExitStack() as stack:
        held = stack.enter_context(answers(scenario.values))
        if scenario.device == "cuda":
            from peakmem.training.tracing import cuda

            stack.enter_context(cuda.faked(scenario.capability or cuda.AMPERE))
        yield held


@contextmanager
def _collected() -> Iterator[None]:
    """Cycles go between the steps, not at moments that depend on what else runs."""
    running = gc.isenabled()
    gc.freeze()  # what is there already is not looked through again
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if running:
            gc.enable()
