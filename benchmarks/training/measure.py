"""Train every cell for real that `measured/steps.jsonl` does not hold yet; one line a cell, in bytes.

    python -m benchmarks.training.measure
    python -m benchmarks.training.measure --networks resnet18,benchmarks.training.models:moe

Needs PyTorch. A cell is two steps in a process of its own under torch's profiler, which is started before
the model exists; its figures are sums of what the allocator handed out, so that they repeat to the byte on one kind of
processor with one number of threads.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.training.cells import Cell, cells

from peakmem.errors import PeakmemError
from peakmem.measuring.machine import machine
from peakmem.training import account
from peakmem.training.log import Log
from peakmem.training.verify.running import measured

FOLDER = Path(__file__).parent / "measured"
FILE = FOLDER / "steps.jsonl"
RESOLVE = "benchmarks.training.cells:workload"


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", help="only these, comma between")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    given = parser.parse_args()
    wanted = given.networks.split(",") if given.networks else None
    _same_machine()
    kept = {(line["network"], line["setting"]) for line in lines()}
    for cell in cells():
        if (cell.network.target, cell.setting) in kept or (wanted and cell.network.target not in wanted):
            continue
        begun = time.monotonic()
        try:
            run = measured(cell.network.target, cell.scenario, resolve=RESOLVE, threads=given.threads)
        except PeakmemError as fault:
            print(f"{cell.name}: {fault}", flush=True)
            continue
        with FILE.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_line(cell, run.log, run.facts), separators=(",", ":")) + "\n")
        print(f"{cell.name}: {account.peak(run.log).nbytes:,} B, {time.monotonic() - begun:.0f} s", flush=True)


def lines() -> list[dict[str, Any]]:
    """Every measured line."""
    return [json.loads(line) for line in FILE.read_text("utf-8").splitlines()] if FILE.exists() else []


def summary(log: Log) -> dict[str, Any]:
    """The peak of a log, where it is and what is alive there; the highest of each phase of each step."""
    top = account.peak(log)
    phases: dict[tuple[int, str], account.Peak] = {}
    for one in account.peaks(log):
        key = (one.step, one.phase)
        if key not in phases or phases[key].nbytes < one.nbytes:
            phases[key] = one
    return {
        "peak": [top.nbytes, top.step, top.phase, top.operator, top.module], "categories": _some(top.categories),
        "phases": [[step, phase, one.nbytes, _some(one.categories)] for (step, phase), one in phases.items()],
    }  # fmt: skip


def _some(categories: Any) -> dict[str, int]:
    return {name: nbytes for name, nbytes in categories.items() if nbytes}


def _line(cell: Cell, log: Log, facts: dict[str, str]) -> dict[str, Any]:
    return {
        "network": cell.network.target, "setting": cell.setting, **facts, **summary(log),
        "storages": len(log.storages), "notes": list(log.notes),
    }  # fmt: skip


def _same_machine() -> None:
    """Lines of two kinds of processor are never in one folder: kernels are chosen by what it can do."""
    one = machine()
    here = {
        "processor": one.processor, "features": list(one.features), "caches": one.caches,
        "cores": one.cores or one.cpus, "kernel": one.kernel, "python": one.python,
    }  # fmt: skip
    file = FOLDER / "machine.json"
    if not file.exists():
        FOLDER.mkdir(exist_ok=True)
        file.write_text(json.dumps(here, indent=1) + "\n")
    there = json.loads(file.read_text("utf-8"))
    if any(there[name] != here[name] for name in ("processor", "features", "cores")):
        raise SystemExit(f"{FOLDER} holds lines of another machine: move them away first")


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
