"""Blobs and workspace of ncnn: what its own allocators were asked for, against what the allocation counter saw.

    python benchmarks/ncnn_events.py [--models FOLDER] [--runs 2] [NETWORK …]

Four processes for each network and each state of light mode, all of them with the counter:

    direct      allocators of ours note each request and each return; nothing is kept, so each request reaches malloc
    no pools    ncnn as it is, without its pools: no allocator of ours is in the process
    pool        the same allocators of ours, before pools of ncnn's
    default     ncnn as it is, with its pools

Compared event by event, in order: size of each request, and which request each return belongs to. ncnn asks the system
for 64 bytes more than its allocators are asked for (NCNN_MALLOC_OVERREAD in allocator.h: kernels read past the end).
Of the counter's log those events count that come from ncnn's calls of posix_memalign; where these calls are is read
from the machine code of its library. For the two processes with pools the log is compared with what the pool's rule
(PoolAllocator::fastMalloc in allocator.cpp) makes of the requests of `direct`.

The files are made from the zoo by way of ONNX and pnnx, or taken from FOLDER (NETWORK.ncnn.param and .bin).
x86-64 only. Exit code 1 when anything differs.
"""

from __future__ import annotations

import argparse
import json
import re
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from peakmem.measuring.engine import engine
from peakmem.measuring.harness import order_for, run_process
from peakmem.measuring.inputs import Given
from peakmem.measuring.record import Run

NETWORKS = ("mobilenet_v2", "resnet18", "squeezenet1_1")
SHAPE = (1, 3, 224, 224)
OVERREAD = 64
POOL_KEEPS = 10
# size_drop_threshold of PoolAllocator
BORN, DIED, NOTE = 1, 2, 5
# kinds of records in counter.c
PROCESSES: dict[str, dict[str, Any]] = {
    "direct": {"record_allocators": "direct"},
    "no pools": {"pool_allocator": False},
    "pool": {"record_allocators": "pool"},
    "default": {},
}


@dataclass(frozen=True, slots=True)
class Event:
    """A request (its size) or a return (the number of its request, from 1)."""

    nbytes: int = 0
    returns: int = 0


def make(network: str, folder: Path) -> Path:
    """NETWORK.ncnn.param in `folder`, by way of ONNX."""
    param = folder / f"{network}.ncnn.param"
    if not param.exists():
        onnx = folder / f"{network}.onnx"
        subprocess.run(
            [sys.executable, "-m", "peakmem", "zoo", "export", network, str(onnx)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        shape = ",".join(map(str, SHAPE))
        pnnx = Path(sys.executable).with_name("pnnx")
        subprocess.run(
            [str(pnnx), onnx.name, f"inputshape=[{shape}]f32", "fp16=0"],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    return param


def measure(param: Path, chosen: dict[str, Any], runs: int, folder: Path) -> tuple[Run, Path]:
    """One process with the counter, and the file of its events."""
    ncnn = engine("ncnn")
    order = order_for(
        ncnn, str(param), chosen, runs=runs, given=Given(shapes={"in0": SHAPE}), instrumented=True, events=folder
    )
    run = run_process(order)
    if run.outcome.status != "ok":
        raise SystemExit(f"{param.name}, {chosen}: {run.outcome.status}: {run.outcome.reason}\n{run.output}")
    return run, Path(run.events_file)


def told(run: Run, runs: int) -> list[list[Event]]:
    """The events of each run as the allocators noted them."""
    found = []
    for number in range(1, runs + 1):
        words = run.facts[f"events run {number}"].split()
        found.append([Event(returns=int(w[1:])) if w[0] == "-" else Event(int(w[1:]) + OVERREAD) for w in words])
    return found


def logged(path: Path, sites: set[int], runs: int) -> tuple[list[list[Event]], Counter[int]]:
    """The events of each run in the counter's log that come from `sites`, and the sizes of ncnn's other requests.

    A return is one of the request that lived at its address. Requests before the first run have numbers below 1.
    """
    kinds = np.dtype([("size", "<i8"), ("pointer", "<u8"), ("caller", "<u8"), ("thread", "<u4"), ("kind", "<u4")])
    count = int(np.fromfile(path, "<u8", 1, offset=16)[0])
    table = np.fromfile(path, kinds, count, offset=64)
    beside = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    base, end = span(beside["maps"])
    ends = {}
    for at in np.flatnonzero(table["kind"] == NOTE).tolist():
        ends[beside["names"][str(table["pointer"][at])].removeprefix("phase:")] = at
    first, last = ends["inputs"], [ends[f"run {number}"] for number in range(1, runs + 1)]
    alive: dict[int, int] = {}
    events: list[list[Event]] = [[] for _ in range(runs)]
    others: Counter[int] = Counter()
    number = 0
    for at in range(first, last[-1]):
        size, pointer, caller, _, kind = table[at].tolist()
        run = sum(at >= stop for stop in last)
        if kind == BORN and base <= caller < end:
            if caller - base in sites:
                number += 1
                alive[pointer] = number
                events[run].append(Event(size))
            else:
                others[size] += 1
        elif kind == DIED and pointer in alive:
            events[run].append(Event(returns=alive.pop(pointer)))
    return events, others


def span(maps: str) -> tuple[int, int]:
    """Where ncnn's library lies in the process."""
    places = [
        (int(match[1], 16), int(match[2], 16))
        for match in re.finditer(r"^([0-9a-f]+)-([0-9a-f]+) .*/ncnn/ncnn\.[^/\n]*\.so$", maps, re.M)
    ]
    return min(start for start, _ in places), max(end for _, end in places)


def call_sites(library: Path, symbol: bytes) -> set[int]:
    """Addresses to which calls of `symbol` return, relative to where the library is loaded (ELF, x86-64)."""
    data = library.read_bytes()
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count, names_at = struct.unpack_from("<HHH", data, 58)
    sections = []
    for at in range(count):
        name, _, _, address, offset, length, link = struct.unpack_from("<IIQQQQI", data, table + at * size)
        sections.append((name, address, offset, length, link))
    names = sections[names_at][2]

    def called(section: tuple[int, ...]) -> bytes:
        return data[names + section[0] : data.index(b"\0", names + section[0])]

    slots = set()
    for section in sections:
        if not called(section).startswith(b".rela"):
            continue
        _, _, symbols, _, strings_at = sections[section[4]]
        strings = sections[strings_at][2]
        for at in range(section[2], section[2] + section[3], 24):
            slot, info = struct.unpack_from("<QQ", data, at)
            if info >> 32:
                (name,) = struct.unpack_from("<I", data, symbols + 24 * (info >> 32))
                if data[strings + name : data.index(b"\0", strings + name)] == symbol:
                    slots.add(slot)
    sites: set[int] = set()
    stubs: set[int] = set()
    code = [s for s in sections if called(s) == b".text" or called(s).startswith(b".plt")]
    for _, address, offset, length, _ in code:
        piece = np.frombuffer(data, np.uint8, length, offset)
        for at in np.flatnonzero((piece[:-5] == 0xFF) & ((piece[1:-4] == 0x25) | (piece[1:-4] == 0x15))).tolist():
            # jmp or call *slot(%rip)
            (away,) = struct.unpack_from("<i", data, offset + at + 2)
            if address + at + 6 + away in slots:
                (sites if piece[at + 1] == 0x15 else stubs).add(address + at + (6 if piece[at + 1] == 0x15 else 0))
    stubs |= {stub - 4 for stub in stubs} | {stub - 1 for stub in stubs} | {stub - 5 for stub in stubs}
    # endbr64 or bnd before the jump
    for _, address, offset, length, _ in code:
        piece = np.frombuffer(data, np.uint8, length, offset)
        calls = np.flatnonzero(piece[:-5] == 0xE8)
        away = np.lib.stride_tricks.sliding_window_view(piece, 4)[calls + 1].copy().view("<i4")[:, 0]
        hit = np.isin(address + calls + 5 + away, list(stubs))
        sites |= {int(address + place + 5) for place in calls[hit]}
    return sites


def pooled(runs: list[list[Event]], signs: list[list[str]]) -> list[list[Event]]:
    """What reaches the system when two pools serve these requests, one for blobs and one for workspace."""
    kept: dict[str, list[tuple[int, int]]] = {"b": [], "w": []}
    # (bytes asked of the system, number of that request), the oldest first
    out: dict[int, tuple[str, int, int]] = {}
    asked = made = 0
    found = []
    for events, kinds in zip(runs, signs, strict=True):
        reach: list[Event] = []
        for event, sign in zip(events, kinds, strict=True):
            if event.returns:
                whose, nbytes, number = out.pop(event.returns)
                kept[whose].append((nbytes, number))
                continue
            asked += 1
            pool = kept[sign]
            fit = next((at for at, (nbytes, _) in enumerate(pool) if nbytes >= event.nbytes), None)
            if fit is not None:
                out[asked] = (sign, *pool.pop(fit))
                continue
            if len(pool) >= POOL_KEEPS:
                smallest = min(range(len(pool)), key=lambda at: pool[at][0])
                reach.append(Event(returns=pool.pop(smallest)[1]))
            made += 1
            reach.append(event)
            out[asked] = (sign, event.nbytes, made)
        found.append(reach)
    return found


def peak(runs: list[list[Event]]) -> int:
    """The most bytes at once."""
    sizes: list[int] = []
    live = most = 0
    for event in (event for events in runs for event in events):
        if event.returns:
            live -= sizes[event.returns - 1]
        else:
            sizes.append(event.nbytes)
            live += event.nbytes
        most = max(most, live)
    return most


def verdict(expected: list[list[Event]], seen: list[list[Event]]) -> str:
    """ "equal", or where the first difference is."""
    for number, (one, two) in enumerate(zip(expected, seen, strict=True), 1):
        for at, (a, b) in enumerate(zip(one, two, strict=False)):
            if a != b:
                return f"run {number}, event {at + 1}: {a} expected, {b} seen"
        if len(one) != len(two):
            return f"run {number}: {len(one)} events expected, {len(two)} seen"
    return "equal"


def without_copies(seen: list[list[Event]], outputs: int) -> tuple[list[list[Event]], list[int]]:
    """`seen` without what `extract` copies out of the network's pool, the last requests of each run; their sizes."""
    gone: set[int] = set()
    sizes = []
    number = 0
    for events in seen:
        births = [event for event in events if not event.returns]
        for place, event in enumerate(births, number + 1):
            if place > number + len(births) - outputs:
                gone.add(place)
                sizes.append(event.nbytes)
        number += len(births)
    renamed: dict[int, int] = {}
    found: list[list[Event]] = []
    number = 0
    for events in seen:
        kept = []
        for event in events:
            if event.returns:
                if event.returns not in gone:
                    kept.append(Event(returns=renamed[event.returns]))
                continue
            number += 1
            if number not in gone:
                renamed[number] = len(renamed) + 1
                kept.append(event)
        found.append(kept)
    return found, sizes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--models", type=Path, help="a folder of NETWORK.ncnn.param and .bin")
    parser.add_argument("--runs", type=int, default=2)
    chosen = parser.parse_args()
    import ncnn.ncnn as library

    sites = call_sites(Path(library.__file__), b"posix_memalign")
    print(f"ncnn {engine('ncnn').version()}: {len(sites)} calls of posix_memalign in its library")
    differ = False
    with tempfile.TemporaryDirectory() as name:
        folder = chosen.models or Path(name)
        for network in chosen.networks:
            param = make(network, folder)
            for light in (True, False):
                differ |= not compare(network, param, light, chosen.runs, sites, Path(name))
    return int(differ)


def compare(network: str, param: Path, light: bool, runs: int, sites: set[int], folder: Path) -> bool:
    """Print one block of the table; whether all is equal."""
    requests: list[list[Event]] = []
    signs: list[list[str]] = []
    fine = True
    print(f"\n{network}, light mode {'on' if light else 'off'}")
    print(f"  {'process':9} {'requests':>9} {'events':>7} {'peak, B':>12}  {'against it':10} ncnn's other requests")
    for process, settings in PROCESSES.items():
        run, path = measure(param, {"lightmode": light, **settings}, runs, folder)
        seen, others = logged(path, sites, runs)
        extra = ""
        if process == "direct":
            requests = told(run, runs)
            signs = [[word[0] for word in run.facts[f"events run {at}"].split()] for at in range(1, runs + 1)]
        elif process == "default":
            seen, copies = without_copies(seen, len(run.facts["outputs"].split()))
            extra = f"; copies of outputs: {copies}"
        elif process == "pool" and told(run, runs) != requests:
            fine = False
            extra = "; asked for other sizes than direct"
        expected = requests if process in ("direct", "no pools") else pooled(requests, signs)
        answer = verdict(expected, seen)
        fine = fine and answer == "equal"
        asked = sum(not event.returns for events in seen for event in events)
        largest = f"{sum(others.values())}, largest {max(others, default=0)} B"
        print(f"  {process:9} {asked:9} {sum(map(len, seen)):7} {peak(seen):12}  {answer:10} {largest}{extra}")
    return fine


if __name__ == "__main__":
    raise SystemExit(main())
