"""Measure every cell that `measured/ENGINE.jsonl` does not hold yet; one line a cell, in bytes.

    python -m benchmarks.accuracy.measure --engines ncnn,onnxruntime
    python -m benchmarks.accuracy.measure --engines ncnn,onnxruntime --oracles

Needs the extra `engines`. A line holds the heap above the engine's own in three phases, from one process with the
allocation counter, and the account of the resident set at its highest, from plain ones. Heap figures repeat to the
byte on one machine, so lines are kept and predictions are compared with them again and again.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.accuracy.cells import CELLS, SLOW, networks

import peakmem
from peakmem.engines.prediction import Processor
from peakmem.measuring.engine import said
from peakmem.measuring.record import Cell, Measurement, Run
from peakmem.measuring.summary import heap_moments
from peakmem.reconciliation import ORACLES

FOLDER = Path(__file__).parent / "measured"
NOISE = ("largest ", "network", "addresses", "outputs", "processors", "segment bytes")
# facts that say nothing of memory


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default=",".join(CELLS))
    parser.add_argument("--networks", help="only these, comma between; several with ';' where they have options")
    parser.add_argument("--repeat", type=int, default=1, help="plain processes a cell")
    parser.add_argument("--oracles", action="store_true", help="instead, what engines tell of themselves when asked to")
    given = parser.parse_args()
    for engine in given.engines.split(","):
        if given.oracles:
            _ask(engine)
            continue
        kept = {(line["network"], line["cell"]) for line in lines(engine)}
        rules, untouched = networks(engine)
        for network in given.networks.split(";") if given.networks else (*rules, *untouched):
            missing = tuple(cell for cell in CELLS[engine] if (network, cell) not in kept)
            wanted = tuple(cell for cell in missing if network not in SLOW.get((engine, cell), ()))
            if not wanted:
                continue
            report = peakmem.measure(
                network, engines=[engine], cells=wanted, repeat=given.repeat, counted=1,
                runs=1 if engine == "tflm" else 3, timeout=1800,
            )  # fmt: skip
            _same_machine(report)
            with (FOLDER / f"{engine}.jsonl").open("a", encoding="utf-8") as file:
                for words, cell in zip(wanted, report.cells, strict=True):
                    file.write(json.dumps(_line(network, words, cell), separators=(",", ":")) + "\n")
            print(engine, network, [row.status for row in report.rows], flush=True)


def _ask(engine: str) -> None:
    """Facts of the cells "defaults" in a process that is made to tell more; one line a network."""
    asked = ORACLES.get(engine)
    if asked is None:
        return
    words = " ".join(f"{name}={said(value)}" for name, value in asked.items())
    kept = {line["network"] for line in told(engine)}
    for network in (name for group in networks(engine) for name in group if name not in kept):
        report = peakmem.measure(network, engines=[engine], cells=[words], repeat=1, counted=0, timeout=1800)
        facts = {name: value for run in report.cells[0].runs for name, value in run.facts.items() if value.isdecimal()}
        with (FOLDER / f"{engine}.told.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"network": network, "asked": words, "facts": facts}) + "\n")


def told(engine: str) -> list[dict[str, Any]]:
    """What the engine told of itself."""
    file = FOLDER / f"{engine}.told.jsonl"
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def _same_machine(report: Measurement) -> None:
    """Lines of two machines are never in one folder: engines look at processors and caches."""
    one = report.machine
    here = {
        "processor": one.processor, "features": list(one.features), "caches": one.caches,
        "cores": one.cores or one.cpus, "libc": one.libc, "kernel": one.kernel, "python": one.python,
    }  # fmt: skip
    file = FOLDER / "machine.json"
    if not file.exists():
        file.write_text(json.dumps(here, indent=1) + "\n")
    there = json.loads(file.read_text("utf-8"))
    if any(there[name] != here[name] for name in ("processor", "features", "caches", "cores")):
        raise SystemExit(f"{FOLDER} holds lines of another machine: move them away first")


def processor() -> Processor:
    """The processor that the lines were measured on."""
    there = json.loads((FOLDER / "machine.json").read_text("utf-8"))
    caches = there["caches"]
    return Processor(
        "x86_64", frozenset(there["features"]), caches["L1d"], caches["L2"], caches.get("L3", 0), there["cores"]
    )


def lines(engine: str) -> list[dict[str, Any]]:
    """Every measured line of an engine."""
    file = FOLDER / f"{engine}.jsonl"
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def _line(network: str, words: str, cell: Cell) -> dict[str, Any]:
    good = [run for run in cell.runs if run.outcome.status == "ok"]
    failed = next((run.outcome for run in cell.runs if run.outcome.status != "ok"), None)
    counted = next((run for run in good if run.instrumented), None)
    plain = [run for run in good if not run.instrumented]
    facts = {name: value for run in good[:1] for name, value in run.facts.items() if not name.startswith(NOISE)}
    return {
        "network": network, "cell": words, "version": cell.version,
        "reason": without_folders(failed.reason) if failed else "",
        "heap": heap_moments(counted) if counted else None,
        "resident": [_resident(run) for run in plain],
        "fullest": _fullest(counted, {phase for run in plain for phase in _resident(run)}) if counted else {},
        "facts": {name: value[:300] for name, value in facts.items()},
    }  # fmt: skip


def _resident(run: Run) -> dict[str, Any]:
    """What the kernel and glibc say of the engine alone and of the phase with the highest resident set."""
    work = [mark for mark in run.marks if mark.phase not in ("interpreter", "import", "release")]
    top = max(work, key=lambda mark: mark.vm.get("VmHWM", 0))
    return {
        mark.phase: {
            **{name: mark.vm[name] for name in ("VmHWM", "VmRSS", "RssAnon", "RssFile", "VmPeak") if name in mark.vm},
            "buckets": {
                name: [one.size_bytes, one.rss_bytes, one.anonymous_bytes] for name, one in mark.buckets.items()
            },
            "heap": [mark.heap.in_use_bytes, mark.heap.mapped_bytes, mark.heap.held_free_bytes] if mark.heap else None,
        }
        for mark in run.marks
        if mark.phase == "import" or mark is top
    }  # fmt: skip


def without_folders(text: str) -> str:
    """A message with the names of files and without where they lie, at most 300 characters of it."""
    return re.sub(r"(/[^/\s'\"]+)+/", "", text)[:300]


def _fullest(run: Run, phases: set[str]) -> dict[str, dict[str, int]]:
    """Of each phase the moment with most resident, by the counter."""
    marks = {mark.phase: mark.counted for mark in run.marks if mark.counted is not None}
    return {
        phase: {**asdict(count.fullest), "usable_live_bytes": count.usable_live_bytes}
        for phase, count in marks.items()
        if phase in phases and count.fullest is not None
    }


if __name__ == "__main__":
    main()
