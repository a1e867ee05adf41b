"""An ncnn benchmark, done again: nine networks, every option that moves memory, and each of its conclusions judged.

    python benchmarks/ncnn_post.py --json ncnn_post.json --page docs/measuring/ncnn-post.md
    python benchmarks/ncnn_post.py --from ncnn_post.json --page docs/measuring/ncnn-post.md
    python benchmarks/ncnn_post.py --networks resnet18,mobilenet_v2 --repeat 1

The article is "NCNN Peak Memory Benchmark: A Layer-by-Layer Analysis of MobileNet"; what it prints is in
ncnn_post_facts.toml, the rules by which its claims are judged are in ncnn_post_verdicts.py. Networks go from the zoo by
ONNX and pnnx to ncnn. All nine take 15 to 30 minutes and 2 GB of memory. --json is written after each network, and what
is in a --from file is not measured again. Exit code 1 when a cell could not be measured.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from ncnn_post_figures import (
    CELLS,
    LOOPED,
    RECORDED,
    Blobs,
    Figures,
    Result,
    article,
    blobs,
    figures,
    run_peaks,
    weights,
)
from ncnn_post_page import page, runs_of

import peakmem
from peakmem.measuring.engine import engine
from peakmem.measuring.matrix import parse_cells
from peakmem.measuring.record import Measurement, Value

SCHEMA = "ncnn_post/1"
Data = dict[str, Any]
# of one network: its measurements, and sizes of its files
PARTS = ("cells", "recorded", "looped")


def measure(network: str, repeat: int, runs: int, loop: int) -> Data:
    """Every cell of one network."""

    def progress(cell: str, done: int, of: int) -> None:
        print(f"{network}: {done + 1} of {of}, {cell}", file=sys.stderr)

    cells = peakmem.measure(
        network, engines=["ncnn"], cells=list(CELLS.values()), repeat=repeat, runs=runs, progress=progress
    )
    recorded = peakmem.measure(
        network, engines=["ncnn"], cells=list(RECORDED.values()), repeat=1, counted=0, runs=runs, progress=progress
    )
    looped = peakmem.measure(
        network, engines=["ncnn"], cells=list(LOOPED.values()), repeat=0, runs=loop, progress=progress
    )
    return {"cells": cells, "recorded": _short(recorded), "looped": looped, **_files(cells)}


def _short(recorded: Measurement) -> Measurement:
    """Without the lists of events, which are long; `ncnn_events.py` is about them."""
    return replace(
        recorded,
        cells=tuple(
            replace(
                cell,
                runs=tuple(
                    replace(
                        run, facts={name: text for name, text in run.facts.items() if not name.startswith("events")}
                    )
                    for run in cell.runs
                ),
            )
            for cell in recorded.cells
        ),
    )


def _files(cells: Measurement) -> Data:
    """Sizes of the converted files, and of the weights that the .param names."""
    steps = cells.cells[0].steps
    found = {"onnx_bytes": 0, "bin_bytes": 0, "weights": 0, "products": 0}
    if len(steps) == 2:
        # zoo to ONNX to ncnn
        param = Path(cells.cells[0].model)
        found["onnx_bytes"] = steps[0].nbytes
        found["bin_bytes"] = param.with_suffix(".bin").stat().st_size
        found["weights"], found["products"] = weights(param.read_text(encoding="utf-8"))
    return found


def save(path: Path, networks: dict[str, Data]) -> None:
    """Write what was measured so far; the file is whole at any time."""
    text = msgspec.json.encode({"schema": SCHEMA, "networks": networks})
    part = path.with_name(path.name + ".part")
    part.write_bytes(text)
    part.replace(path)


def load(path: Path) -> dict[str, Data]:
    """What an earlier run saved.

    Raises:
        SystemExit: not such a file.
    """
    try:
        data = json.loads(path.read_bytes())
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']!r}")
        found = {
            name: {**one, **{key: msgspec.convert(one[key], Measurement) for key in PARTS}}
            for name, one in data["networks"].items()
        }
    except OSError as fault:
        raise SystemExit(f"{path}: {fault.strerror}") from fault
    except (ValueError, LookupError, TypeError, AttributeError) as fault:
        raise SystemExit(f"{path}: not written by this program (expected schema {SCHEMA}): {fault}") from fault
    for name, one in found.items():
        if [cell.chosen for cell in one["cells"].cells] != choices(CELLS.values()):
            raise SystemExit(
                f"{path}: {name} was measured with other cells; leave it out of --from to measure it again"
            )
    return found


def choices(cells: Iterable[str]) -> list[dict[str, Value]]:
    """The settings of each cell."""
    return parse_cells(list(cells), [engine("ncnn")])["ncnn"]


def result(network: str, data: Data) -> Result:
    """The figures of one network."""
    found: dict[str, Figures] = {}
    failed = []
    for name, cell in zip(CELLS, data["cells"].cells, strict=True):
        one = figures(cell)
        if isinstance(one, str):
            failed.append((name, one))
        else:
            found[name] = one
    told: dict[bool, Blobs] = {}
    for light, cell in zip(RECORDED, data["recorded"].cells, strict=True):
        some = blobs(cell.runs[0].facts) if cell.runs else None
        if some is not None:
            told[light] = some
    looped = {name: run_peaks(cell) for name, cell in zip(LOOPED, data["looped"].cells, strict=True)}
    looped = {name: peaks for name, peaks in looped.items() if peaks}
    sizes = {key: data[key] for key in ("onnx_bytes", "bin_bytes", "weights", "products")}
    return Result(network, cells=found, blobs=told, looped=looped, failed=tuple(failed), **sizes)


def main() -> int:
    post = article()
    known = [one.name for one in post.networks]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(known), help="of the nine, with commas")
    parser.add_argument("--repeat", type=int, default=3, help="plain processes a cell")
    parser.add_argument("--runs", type=int, default=10, help="inferences a process")
    parser.add_argument(
        "--loop", type=int, default=100, help="inferences of one more process, with light mode and without"
    )
    parser.add_argument("--json", type=Path, help="write everything measured, after each network")
    parser.add_argument("--from", dest="earlier", type=Path, action="append", default=[], help="a file of --json")
    parser.add_argument("--again", type=Path, help="a file of --json of a second run: how far it differs")
    parser.add_argument("--page", type=Path, help="write the page; standard output otherwise")
    chosen = parser.parse_args()
    wanted = [name for name in chosen.networks.split(",") if name]
    if unknown := [name for name in wanted if name not in known]:
        parser.error(f"not one of the nine: {', '.join(unknown)} (choose from {', '.join(known)})")
    if chosen.repeat < 1 or chosen.runs < 2 or chosen.loop < 2:
        parser.error("--repeat takes 1 or more, --runs and --loop 2 or more")
    if not wanted:
        parser.error("--networks names none")
    networks: dict[str, Data] = {}
    for path in chosen.earlier:
        networks |= {name: one for name, one in load(path).items() if name in wanted}
    for name in wanted:
        if name not in networks:
            networks[name] = measure(name, chosen.repeat, chosen.runs, chosen.loop)
        if chosen.json is not None:
            save(chosen.json, networks)
    first = networks[wanted[0]]
    again = [result(name, data) for name, data in load(chosen.again).items()] if chosen.again else []
    repeat, runs, loop = first["cells"].repeat, runs_of(first["cells"]), runs_of(first["looped"])
    command = f"python benchmarks/ncnn_post.py --repeat {repeat} --runs {runs} --loop {loop}"
    if again:
        command += " --again earlier.json"
    if set(wanted) != set(known):
        command += f" --networks {','.join(wanted)}"
    results = {name: result(name, networks[name]) for name in known if name in networks}
    text = page(
        list(results.values()), {name: networks[name]["cells"] for name in results}, post,
        f"{command} --json ncnn_post.json --page docs/measuring/ncnn-post.md", again,
    )  # fmt: skip
    if chosen.page is not None:
        chosen.page.write_text(text, encoding="utf-8")
    else:
        print(text)
    return int(any(one.failed for one in results.values()))


if __name__ == "__main__":
    sys.exit(main())
