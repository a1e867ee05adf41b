"""Cells with faults injected at random: is every one accounted for, and is nothing left behind?

    python benchmarks/faults.py --cells 1000 --seed 11

The engine is tests/unit/measuring/faulty.py: it raises, exits, crashes, hangs, is killed or stopped, starves, writes
garbage on its streams and on the wire to the harness, and leaves children behind in sessions of their own. Each cell
must end in the outcome of its fault, with its phase, without harm to the cells beside it. Some processes are also
killed from outside at a random moment. Exit code 1 when a cell is not as it should be or something is left.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from peakmem.measuring.engine import Engine, describe
from peakmem.measuring.environment import TOKEN
from peakmem.measuring.harness import order_for, run_process
from peakmem.measuring.record import Run

EXPECTED = {
    "none": {"ok"}, "raise": {"failed"}, "unsupported": {"unsupported"}, "missing": {"missing"}, "exit": {"crashed"},
    "segfault": {"crashed"}, "abort": {"crashed"}, "kill": {"crashed"}, "stop": {"timeout"}, "hang": {"timeout"},
    "spin": {"timeout"}, "leave": {"crashed"}, "daemon": {"ok"}, "noise": {"ok"}, "babble": {"timeout"},
    "garble": {"failed"}, "forge": {"failed"}, "turn": {"crashed"}, "escape": {"ok"},
    "deaf": {"crashed"}, "starve": {"out of memory"}, "fill": {"ok"},
}  # fmt: skip
PHASES = {"start": "import", "load": "load", "feed": "inputs", "run": "run 1", "release": "after run 2"}
LIMIT = 192 << 20
# bytes, for those that starve


def faulty() -> Engine:
    """The engine of the tests."""
    path = Path(__file__).parent.parent / "tests" / "unit" / "measuring" / "faulty.py"
    spec = importlib.util.spec_from_file_location("faulty", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return describe(module)


def measured(folder: str) -> list[int]:
    """Processes of measurements with their temporary files in `folder` that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                running = (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
                variables = (entry / "environ").read_bytes()
                if running and f"{TOKEN}=".encode() in variables and f"TMPDIR={folder}/".encode() in variables:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


class Sniper:
    """Kills a child of ours at a random moment, when told to."""

    def __init__(self, draw: random.Random, folder: str) -> None:
        self.draw = draw
        self.folder = folder

    def shoot(self) -> threading.Thread:
        """One shot, within 60 ms."""

        def fire(after: float) -> None:
            time.sleep(after)
            for pid in measured(self.folder):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue

        thread = threading.Thread(target=fire, args=(self.draw.uniform(0.005, 0.06),))
        thread.start()
        return thread


def good(fault: str, at: str, run: Run, *, shot: bool) -> bool:
    """Whether the run ended as the fault says."""
    if shot and run.outcome.status in ("crashed", "out of memory") and "SIGKILL" in run.outcome.reason:
        return True
    if run.outcome.status not in EXPECTED[fault]:
        return False
    whole = [mark.phase for mark in run.marks]
    if run.outcome.status == "ok":
        return whole == ["interpreter", "import", "load", "inputs", "run 1", "run 2", "release"]
    return run.outcome.phase == PHASES[at] and bool(run.outcome.reason)


def main() -> int:
    """Run the cells and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--timeout", type=float, default=0.6, help="seconds a process; cells that hang take all of it")
    chosen = parser.parse_args()
    draw = random.Random(chosen.seed)
    engine = faulty()
    outcomes: Counter[tuple[str, str]] = Counter()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        tempfile.tempdir = folder
        sniper = Sniper(draw, folder)
        began = time.monotonic()
        for number in range(chosen.cells):
            fault, at = draw.choice(sorted(EXPECTED)), draw.choice(sorted(PHASES))
            instrumented, shot = draw.random() < 0.2, draw.random() < 0.1
            order = order_for(
                engine, "model.onnx", {"fault": fault, "at": at, "load_bytes": draw.randrange(1, 10**6)}, runs=2,
                timeout=chosen.timeout if fault in ("stop", "hang", "spin", "babble") else 20.0,
                memory_limit=LIMIT if fault == "starve" else 0, instrumented=instrumented,
            )  # fmt: skip
            thread = sniper.shoot() if shot else None
            run = run_process(order)
            if thread is not None:
                thread.join()
            outcomes[fault, run.outcome.status] += 1
            if not good(fault, at, run, shot=shot):
                wrong.append(f"{number}: {fault} at {at}{' (shot)' if shot else ''}: {run.outcome}")
        seconds = time.monotonic() - began
        alive = measured(folder)
        left = [path.name for path in Path(folder).iterdir()]
        tempfile.tempdir = None
    listed = ["ps", "--ppid", str(os.getpid()), "-o", "stat="]
    dead = subprocess.run(listed, capture_output=True, text=True, check=False).stdout.count("Z")
    print("| fault | outcome | cells |\n|---|---|---:|")
    for (fault, status), count in sorted(outcomes.items()):
        print(f"| {fault} | {status} | {count} |")
    print(f"\n{sum(outcomes.values())} cells in {seconds:.0f} s, {len(wrong)} not as they should be;")
    print(f"left behind: {len(alive)} processes, {dead} zombies, {len(left)} folders or files")
    print("\n".join(wrong[:20]))
    return 1 if wrong or alive or left or dead else 0


if __name__ == "__main__":
    raise SystemExit(main())
