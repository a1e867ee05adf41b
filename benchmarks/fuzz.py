"""Damage thousands of model files and hold peakmem to: a report or a PeakmemError, soon, in little memory.

    python benchmarks/fuzz.py --cases 5000
    python benchmarks/fuzz.py --format tflite --cases 5000

The cases run in worker processes, so that a crash or a hang of one is an entry in the table and
not the end. Exits with 1 on a violation, and prints what repeats it (`--seed S --case N`).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.fuzz import formats, mutation, seeds

HANG_SECONDS = 30
# a worker that says nothing for so long is ended
ADDRESS_SPACE = 12 << 30
# bytes a worker may map; protects the machine, the tests hold a tighter limit


@dataclass(frozen=True)
class Format:
    """What is damaged, and how."""

    suffix: str
    files: dict[str, bytes]
    damage: mutation.Damage
    blind: float


def chosen(name: str) -> Format:
    if name == "onnx":
        files = {**seeds.built(), **seeds.light(seeds.LIGHT + seeds.LARGER)}
        return Format(".onnx", files, mutation.damage_onnx, 0.35)
    module = formats.module(name)
    return Format(module.SUFFIX, module.seeds(), module.damage, 0.5)


def work(name: str, seed: int, first: int, last: int, keep: Path | None) -> None:
    """Run cases `first` to `last` and write one JSON line before and one after each."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    form = chosen(name)
    with tempfile.TemporaryDirectory() as folder:
        seeds.lay_out(Path(folder))
        path = Path(folder) / f"mutant{form.suffix}"
        for title, data in form.files.items():  # whatever is imported late is imported now
            path.write_bytes(data)
            if mutation.outcome(path).kind not in ("report", "UnboundDimension"):
                raise SystemExit(f"the seed {title} is refused")
        for case in range(first, last):
            data, what = mutation.mutant(form.files, case, seed, form.damage, form.blind)
            path.write_bytes(data)
            if keep is not None:
                (keep / f"{seed}-{case}{form.suffix}").write_bytes(data)
            asked = mutation.questions(case, seed)
            told = f"{what[:400]}, asked {asked}" if asked else what[:400]
            print(json.dumps({"start": case, "what": told, "bytes": len(data)}), flush=True)
            done = mutation.outcome(path, asked)
            line = {"case": case, "kind": done.kind, "detail": done.detail[:600], "seconds": done.seconds}
            print(json.dumps({**line, "new_bytes": done.new_bytes, "peak": mutation.peak_bytes()}), flush=True)


def run(name: str, seed: int, first: int, last: int) -> list[dict[str, object]]:
    """The results of all cases, workers restarted after a crash or a hang."""
    results: list[dict[str, object]] = []
    while first < last:
        arguments = ["--format", name, "--seed", str(seed), "--work", str(first), str(last)]
        worker = subprocess.Popen(
            [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        begun: dict[str, object] = {"start": first, "what": "the start of the worker"}
        assert worker.stdout is not None
        pending = b""
        with selectors.DefaultSelector() as selector:
            selector.register(worker.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(HANG_SECONDS):
                    worker.kill()
                    break
                got = os.read(worker.stdout.fileno(), 1 << 16)
                if not got:
                    break
                *lines, pending = (pending + got).split(b"\n")
                for line in lines:
                    entry = json.loads(line)
                    if "start" in entry:
                        begun = entry
                    else:
                        results.append({**entry, "what": begun["what"], "file": begun["bytes"]})
                        first = entry["case"] + 1
        _, noise = worker.communicate()
        if first < last:
            fault = f"the process ended with {worker.returncode}: {noise.decode(errors='replace')[-300:]}"
            results.append(
                {"case": begun["start"], "kind": "VIOLATION", "detail": fault, "seconds": 0.0, "what": begun["what"],
                 "file": begun.get("bytes", 0), "peak": 0}
            )  # fmt: skip
            first = max(first, int(str(begun["start"]))) + 1
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", default="onnx", choices=("onnx", *formats.names()))
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="only this one")
    parser.add_argument("--keep", type=Path, help="with --case: leave the mutant in this folder")
    parser.add_argument("--work", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.format, options.seed, *options.work, None)
        return 0
    if options.case is not None:
        work(options.format, options.seed, options.case, options.case + 1, options.keep)
        return 0
    start = time.perf_counter()
    results = run(options.format, options.seed, 0, options.cases)
    seconds = time.perf_counter() - start
    slowest = max(results, key=lambda entry: float(str(entry["seconds"])))
    print(f"| outcome | cases of {len(results)} |\n|---|---:|")
    for kind, count in Counter(str(entry["kind"]) for entry in results).most_common():
        print(f"| {kind} | {count} |")
    print(f"\nslowest: {slowest['seconds']:.2f} s, case {slowest['case']}, {slowest['file']} bytes: {slowest['what']}")
    print(f"peak resident memory of a worker: {max(int(str(entry['peak'])) for entry in results) / 2**20:.0f} MiB")
    print(f"seed {options.seed}, {seconds:.0f} s in all")
    violations = [entry for entry in results if entry["kind"] == "VIOLATION"]
    for entry in violations:
        repeat = f"--format {options.format} --seed {options.seed} --case {entry['case']}"
        print(f"\nVIOLATION {repeat}\n  {entry['what']}\n  {entry['detail']}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
