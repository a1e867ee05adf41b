"""The process that trains: python -m peakmem.training.verify.child ORDER RECORDING, or ORDER and two descriptors.

With a file to write it runs under torch's profiler, which is started before the model exists, so that no allocation is
missed. With two descriptors it runs clean: it says each phase that ends and waits until it has been looked at.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from peakmem.training.verify import wire


def main(arguments: list[str]) -> None:
    """Carry out the order."""
    order = wire.read_order(Path(arguments[0]))
    import torch

    if order.threads:
        torch.set_num_threads(order.threads)
    torch.manual_seed(0)
    if order.kind == "resident":
        _clean(order, int(arguments[1]), int(arguments[2]))
        return
    try:
        recording = _recorded(order)
    except Exception as fault:
        words = [type(fault).__name__, str(getattr(fault, "what", "") or fault), getattr(fault, "hint", "")]
        recording = wire.Recording(fault=[*words, _line(fault)])
    wire.write(Path(arguments[1]), recording)


def run(order: wire.Order, tell: Callable[[list[Any]], None]) -> list[str]:
    """Build the workload and take its steps, telling of phases, modules and storages; notes for people.

    The same as `tracing.run.record` does on tensors without memory.
    """
    import torch

    from peakmem.training.tracing.phases import Follower
    from peakmem.training.tracing.step import assemble
    from peakmem.training.verify.witness import Witness

    workload = wire.made(order.resolve, order.target, order.scenario, order.inputs)
    witness = Witness(order.scenario.device, tell)
    follower = Follower(cast(Any, witness))
    gc.collect()
    gc.disable()
    with torch.enable_grad(), follower.following():
        parts = workload.build()
        step = assemble(parts, order.scenario)
        if parts.model is not None:
            follower.adopt(parts.model)
        witness.settle("input")
        kept = None
        for number in range(order.scenario.steps):
            witness.enter("forward", number)
            kept = step()
            follower.gradients()
            gc.collect()
        tell(["end"])
    del kept
    return [*parts.notes, *witness.notes]


def _recorded(order: wire.Order) -> wire.Recording:
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    from peakmem.training.verify import tree

    device = order.scenario.device
    notes: list[list[Any]] = []

    def tell(note: list[Any]) -> None:
        with record_function(f"{tree.SIGN}{len(notes)}"):
            notes.append(note)

    counters: dict[str, int] = {}
    history = None
    if device == "cuda":
        from peakmem.training.verify import cuda

        history = cuda.History()
    profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    profiler.start()
    try:
        said = run(order, tell)
    finally:
        profiler.stop()
        if history is not None:
            history.stop()
    events, operators, doubts = tree.flat(profiler.profiler.kineto_results.experimental_event_tree(), device)
    if history is not None:
        events, more = history.requested(events)
        doubts += more
        counters = history.counters
    return wire.Recording(
        events, operators, notes, device, {"torch": str(torch.__version__), "threads": str(torch.get_num_threads())},
        counters, [*said, *doubts],
    )  # fmt: skip


def _clean(order: wire.Order, write: int, read: int) -> None:
    before = "build"

    def tell(note: list[Any]) -> None:
        nonlocal before
        if note[0] in ("phase", "end"):
            os.write(write, f"{before}\n".encode())
            os.read(read, 1)
            before = " ".join(map(str, note[1:]))

    tell(["phase", "build", -1])  # what the imports need
    run(order, tell)


def _line(fault: BaseException) -> str:
    """File and line of the outermost code of the user that was running."""
    trace, place = fault.__traceback__, ""
    here = str(Path(__file__).parents[2])
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith(here) and "site-packages" not in code.co_filename:
            place = f"{Path(code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


if __name__ == "__main__":
    main(sys.argv[1:])
