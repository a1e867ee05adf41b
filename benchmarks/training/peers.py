"""What other tools say of the same steps: torch's MemTracker on tensors without memory, and torchinfo's total.

    pip install torchinfo==1.8.0
    python -m benchmarks.training.peers

Writes `peers.jsonl`, one line a cell; cells that it holds are left alone. MemTracker
(torch.distributed._tools.mem_tracker) watches the same two steps from before the model exists, under FakeTensorMode;
torchinfo sums parameters, inputs and outputs of modules of one forward and knows neither optimizer nor step.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.training.cells import Cell, cells, workload

FILE = Path(__file__).with_name("peers.jsonl")


def main() -> None:
    """Ask for what is missing, a process each: what one tool leaves behind must not meet the next."""
    import torchinfo  # noqa: F401  (once for all processes)
    from torch.distributed._tools import mem_tracker  # noqa: F401

    kept = {(line["network"], line["setting"]) for line in lines()}
    wanted = [cell for cell in cells() if (cell.network.target, cell.setting) not in kept]
    with get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        for line in pool.imap(_asked, wanted):
            with FILE.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, separators=(",", ":")) + "\n")
            print(line, flush=True)


def lines() -> list[dict[str, Any]]:
    """Every line so far."""
    return [json.loads(line) for line in FILE.read_text("utf-8").splitlines()] if FILE.exists() else []


def _asked(cell: Cell) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    return {
        "network": cell.network.target, "setting": cell.setting,
        "MemTracker": _tried(lambda: memtracker(cell)), "torchinfo": _tried(lambda: torchinfo(cell)),
        "versions": {"torch": version("torch"), "torchinfo": version("torchinfo")},
    }  # fmt: skip


def memtracker(cell: Cell) -> int:
    """Its peak of the total over two steps, in bytes."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    from peakmem.training.tracing.step import assemble

    tracker = MemTracker()
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    fake.__deepcopy__ = lambda _: fake  # else nn.Transformer cannot be built in it
    with fake, tracker:
        parts = workload(cell.network.target, cell.scenario).build()
        step = assemble(parts, cell.scenario)
        for _ in range(cell.scenario.steps):
            kept = step()
            tracker.reset_mod_stats()
        peak = tracker.get_tracker_snapshot("peak")
    del kept
    return int(peak[torch.device("cpu")]["Total"])


def torchinfo(cell: Cell) -> int:
    """Its Estimated Total Size of the model in training mode, called as the step calls it."""
    import torch
    from torchinfo import summary

    from peakmem.training.tracing.step import assemble

    parts = workload(cell.network.target, cell.scenario).build()
    called: list[tuple[Any, Any]] = []
    hook = parts.model.register_forward_pre_hook(
        lambda _, given, named: called.append((given, named)), with_kwargs=True
    )
    assemble(parts, cell.scenario)()
    hook.remove()
    given, named = called[0]
    with torch.enable_grad():
        told = summary(parts.model, input_data=given or None, mode="train", verbose=0, **named)
    return int(told.total_param_bytes + told.total_input + told.total_output_bytes)


def _tried(get: Callable[[], int]) -> int | str:
    try:
        return get()
    except Exception as fault:
        return f"fails: {type(fault).__name__}: {fault}"[:200]


if __name__ == "__main__":
    main()
