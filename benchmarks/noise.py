"""How far the same measurement differs from process to process: engine x metric, and what the fixed environment does.

    python benchmarks/noise.py
    python benchmarks/noise.py --engine ncnn,litert --threads 1 --addresses random --network mobilenet_v2
    python benchmarks/noise.py --file tflm=keyword.tflite --engine tflm

Each with addresses at random, as the system gives them, and fixed, as the harness does it (personality(2)).

Every figure is half the range over fresh processes, in KiB, the largest of all networks. Resident figures come from
plain processes, the counter's from instrumented ones. A network that an engine does not take is named, with the reason.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from peakmem.conversion import convert, kind_of
from peakmem.errors import PeakmemError
from peakmem.measuring import harness
from peakmem.measuring.engine import BUILT_IN, Engine, engine
from peakmem.measuring.environment import PAD
from peakmem.measuring.inputs import Port
from peakmem.measuring.record import Mark, Run

NETWORKS = ("squeezenet1_1", "mobilenet_v2", "resnet18")
PLAIN = ("VmPeak", "VmHWM", "VmRSS", "RssAnon", "RssFile", "in use", "held free")
COUNTED = ("counter live", "counter peak")
PHASES = ("import", "load", "run 1", "run 3")
# a mark that only some engines set belongs to the phase after it
WANTED = 64.0
# KiB either way, of RssAnon and of live bytes
LENGTHS = (0, 333, 800, 1500, 2222, 3000)
# bytes by which the environment or the command line is longer
THRESHOLDS = {"malloc_mmap_threshold": 131072, "malloc_trim_threshold": 131072}


@dataclass(frozen=True, slots=True)
class Model:
    """A network as an engine's file."""

    network: str
    path: str
    ports: tuple[Port, ...]


def model_of(network: str, one: Engine) -> Model:
    """`network`, converted to what the engine reads.

    Raises:
        PeakmemError: it does not get there.
    """
    kind = kind_of(network)
    made = convert(network, kind if kind in one.reads else one.reads[0])
    return Model(network, made.path, tuple(Port(name, of, at) for name, (at, of) in made.input_shapes.items()))


def metrics(mark: Mark) -> dict[str, int]:
    """The figures of one mark by the names of the table."""
    found = {name: mark.vm[name] for name in PLAIN if name in mark.vm}
    if mark.heap is not None:
        found |= {"in use": mark.heap.in_use_bytes, "held free": mark.heap.held_free_bytes}
    if mark.counted is not None:
        return {"counter live": mark.counted.live_bytes, "counter peak": mark.counted.peak_bytes}
    return found


def spread(runs: list[Run]) -> dict[tuple[str, str], float]:
    """Half the range of each figure in KiB, by phase and metric."""
    values: dict[tuple[str, str], list[int]] = {}
    for run in runs:
        for mark in run.marks:
            for name, value in metrics(mark).items():
                values.setdefault((mark.phase, name), []).append(value)
    return {key: (max(found) - min(found)) / 2048 for key, found in values.items() if len(found) == len(runs)}


def processes(
    one: Engine, model: Model, settings: Mapping[str, Any], count: int, *, instrumented: bool = False
) -> list[Run]:
    """`count` fresh processes.

    Raises:
        PeakmemError: one of them did not end well.
    """
    runs = []
    for _ in range(count):
        order = harness.order_for(one, model.path, settings, ports=model.ports, instrumented=instrumented)
        run = harness.run_process(order)
        if run.outcome.status != "ok":
            raise PeakmemError(f"{run.outcome.status}: {run.outcome.reason}", where=model.network)
        runs.append(run)
    return runs


@contextmanager
def addresses(kind: str) -> Iterator[None]:
    """Processes started inside have `fixed` addresses, as the harness does it, or `random` ones as the system gives."""
    before = harness.fixed_addresses
    if kind == "random":
        harness.fixed_addresses = nullcontext
    try:
        yield
    finally:
        harness.fixed_addresses = before


def largest(found: list[dict[tuple[str, str], float]], name: str, phases: tuple[str, ...] = PHASES) -> float | None:
    """The largest spread of a metric, over networks and phases."""
    known = [spreads[phase, name] for spreads in found for phase in phases if (phase, name) in spreads]
    return max(known, default=None)


def shown(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


Table = dict[tuple[str, str, int], list[dict[tuple[str, str], float]]]
# kind of addresses, engine, threads: the spreads of each network


def measure(engines: list[Engine], arguments: argparse.Namespace) -> tuple[Table, list[str]]:
    """The spreads of every engine and number of threads, one dictionary a network; and what could not be measured."""
    table: Table = {}
    notes: list[str] = []
    for one in engines:
        for network in arguments.files.get(one.name, arguments.network):
            try:
                model = model_of(network, one)
                for threads, kind in product(arguments.threads, arguments.addresses):
                    with addresses(kind):
                        found = spread(processes(one, model, {"threads": threads}, arguments.processes))
                        found |= spread(
                            processes(one, model, {"threads": threads}, arguments.processes, instrumented=True)
                        )
                    table.setdefault((kind, one.name, threads), []).append(found)
                    print(
                        f"{one.name} {threads} {network} {kind}: {shown(largest([found], 'RssAnon'))}", file=sys.stderr
                    )
            except PeakmemError as fault:
                notes.append(f"{one.name}, {Path(network).name}: {fault}")
    return table, notes


def print_table(table: Table) -> None:
    names = (*PLAIN, *COUNTED)
    print(f"| addresses | engine | threads | networks | {' | '.join(names)} |")
    print(f"|---|---|---:|---:|{'---:|' * len(names)}")
    for (kind, name, threads), found in sorted(table.items(), reverse=True):
        cells = " | ".join(shown(largest(found, metric)) for metric in names)
        print(f"| {kind} | {name} | {threads} | {len(found)} | {cells} |")


def print_phases(table: Table, metric: str) -> None:
    print(f"| addresses | engine | threads | {' | '.join(PHASES)} |")
    print(f"|---|---|---:|{'---:|' * len(PHASES)}")
    for (kind, name, threads), found in sorted(table.items(), reverse=True):
        cells = " | ".join(shown(largest(found, metric, (phase,))) for phase in PHASES)
        print(f"| {kind} | {name} | {threads} | {cells} |")


@contextmanager
def longer(kind: str, length: int) -> Iterator[None]:
    """Processes started inside have `length` bytes more: of the caller's environment, of their own, or of argv."""
    before = harness.environment, harness.CHILD
    with TemporaryDirectory() as folder:
        if kind == "caller's environment":
            os.environ["NOISE"] = "." * length
        elif kind == "environment":

            def unpadded(*given: Any, **named: Any) -> dict[str, str]:
                return {**before[0](*given, **named), PAD: "." * length}

            harness.environment = unpadded
        else:
            place = Path(folder)
            for start in range(0, length, 200):
                place /= "." * 3 + "x" * (min(200, length - start) - 3)
            place.mkdir(parents=True, exist_ok=True)
            harness.CHILD = Path(shutil.copy(before[1], place))
        try:
            yield
        finally:
            harness.environment, harness.CHILD = before
            os.environ.pop("NOISE", None)


def print_lengths(engines: list[Engine], arguments: argparse.Namespace) -> None:
    print("| engine | what differs in length | allocator | VmPeak | VmRSS | RssAnon | in use | held free |")
    print("|---|---|---|---:|---:|---:|---:|---:|")
    for one in engines:
        for network in arguments.files.get(one.name, arguments.network)[:1]:
            model = model_of(network, one)
            for kind in ("caller's environment", "environment", "command line"):
                for allocator, settings in (("as it is", {}), ("thresholds 131072", THRESHOLDS)):
                    runs = []
                    for length in LENGTHS:
                        with longer(kind, length):
                            runs += processes(one, model, settings, arguments.lengths)
                    found = [spread(runs)]
                    cells = [
                        shown(largest(found, name)) for name in ("VmPeak", "VmRSS", "RssAnon", "in use", "held free")
                    ]
                    print(f"| {one.name} | {kind} | {allocator} | {' | '.join(cells)} |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="", help="names, with commas; all that are installed otherwise")
    parser.add_argument("--network", default=",".join(NETWORKS), help="of the zoo, with commas")
    parser.add_argument("--file", action="append", default=[], metavar="ENGINE=FILE", help="instead, for one engine")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--addresses", default="random,fixed")
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--lengths", type=int, default=1, help="processes for each length; 0 leaves that table away")
    parser.add_argument("--vary", default="ncnn,onnxruntime,litert", help="engines for the table of lengths")
    arguments = parser.parse_args()
    arguments.network = arguments.network.split(",")
    arguments.threads = [int(count) for count in arguments.threads.split(",")]
    arguments.addresses = arguments.addresses.split(",")
    arguments.files = {}
    for text in arguments.file:
        name, _, path = text.partition("=")
        arguments.files.setdefault(name, []).append(path)
    engines = [engine(name) for name in (arguments.engine.split(",") if arguments.engine else BUILT_IN)]
    engines = [one for one in engines if one.version()]
    table, notes = measure(engines, arguments)
    print(f"Half the range over {arguments.processes} processes, KiB, the largest of {', '.join(PHASES)}:\n")
    print_table(table)
    print("\nRssAnon by phase:\n")
    print_phases(table, "RssAnon")
    over = [
        f"{name} {metric} {shown(worst)} ({kind})"
        for (kind, name, threads), found in table.items()
        for metric in ("RssAnon", "counter live")
        if threads == 1 and (worst := largest(found, metric)) is not None and worst > WANTED
    ]
    print(f"\nWith one thread, more than {WANTED:g} KiB: {', '.join(over) or 'none'}")
    for note in notes:
        print(f"- not measured: {note}")
    if arguments.lengths:
        kind = arguments.addresses[-1]
        print(f"\nOver {len(LENGTHS)} lengths, {arguments.lengths} processes each, {kind} addresses, KiB:\n")
        with addresses(kind):
            print_lengths([one for one in engines if one.name in arguments.vary.split(",")], arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
