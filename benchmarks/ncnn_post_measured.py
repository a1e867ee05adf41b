"""The figures of ncnn_post.py that published claims are checked against, as data.

    python benchmarks/ncnn_post_measured.py ncnn_post.json src/peakmem/ledger/measured.toml

The first file is what `ncnn_post.py --json` wrote. What it took was measured then; nothing is measured here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from ncnn_post import PARTS, load, result
from ncnn_post_figures import CELLS, Figures, Result, article
from ncnn_post_page import machine, runs_of

from peakmem.measuring.record import Cell, Spread
from peakmem.measuring.summary import spread as summary

KEPT = ("defaults", "light off", "fp16 off", "light off, fp16 off", "int8 off", "fp16, int8 off")
PHASED = "defaults"
# the cell whose phases are told one by one
HEAD = """\
# Figures that were measured by this project and cannot be computed; claims name them by `measured(...)`.
#
# Bytes, each with the number n of fresh processes, the least, the median and the most:
#   CELL.vm_peak    VmPeak at the end of the process
#   CELL.resident   highest resident set of any phase
#   CELL.vm_peak after PHASE, CELL.resident in PHASE
#   CELL.heap       highest heap above the mark import, by the allocation counter in a process of its own
#   CELL.heap after load, CELL.heap in load, CELL.heap in run 1, CELL.heap in later runs
#   CELL.loop       highest heap over RUNS inferences in one process, less that of the first
# Written by benchmarks/ncnn_post_measured.py.
"""


def spread(one: Spread) -> str:
    return f"{{ n = {one.n}, min = {one.min}, median = {one.median}, max = {one.max} }}"


def alone(nbytes: int) -> str:
    return f"{{ n = 1, min = {nbytes}, median = {nbytes}, max = {nbytes} }}"


def figures(name: str, cell: Figures) -> Iterator[tuple[str, str]]:
    """The lines of one cell."""
    yield f"{name}.vm_peak", spread(cell.vm_peak)
    yield f"{name}.resident", spread(cell.rss_peak)
    yield f"{name}.heap", alone(cell.heap_peak)
    yield f"{name}.heap after load", alone(cell.load)


def phases(name: str, cell: Cell, told: Figures) -> Iterator[tuple[str, str]]:
    """The phases of one cell."""
    plain = [{mark.phase: mark.vm for mark in run.marks} for run in cell.runs if not run.instrumented]
    for phase in ("interpreter", "import", "load", "run 1"):
        for key, figure in ((f"vm_peak after {phase}", "VmPeak"), (f"resident in {phase}", "VmHWM")):
            found = summary(marks[phase][figure] for marks in plain)
            assert found is not None
            yield f"{name}.{key}", spread(found)
    yield f"{name}.heap in load", alone(told.load_peak)
    yield f"{name}.heap in run 1", alone(told.run_peaks[0])
    yield f"{name}.heap in later runs", alone(max(told.run_peaks[1:]))


def network(one: Result, phased: Cell) -> Iterator[str]:
    """The table of one network; `phased` is its cell whose phases are told."""
    yield f"[ncnn-post.{one.name}]"
    for name in KEPT:
        cell = one.cells[name]
        lines = [*figures(name, cell), *(phases(name, phased, cell) if name == PHASED else ())]
        if name in one.looped:
            peaks = one.looped[name]
            lines.append((f"{name}.loop", alone(max(peaks) - peaks[0])))
        yield from (f'"{key}" = {value}' for key, value in lines)
    yield ""


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    networks = load(Path(sys.argv[1]))
    first = next(iter(networks.values()))
    cells, looped = first[PARTS[0]], first[PARTS[2]]
    tools = ", ".join(dict.fromkeys(step.tool for one in networks.values() for step in one["cells"].cells[0].steps))
    command = f"python benchmarks/ncnn_post.py --repeat {cells.repeat} --runs {runs_of(cells)} --loop {runs_of(looped)}"
    lines = [
        HEAD,
        "[ncnn-post]",
        f'title = "{article().title}, measured again"',
        'page = "docs/measuring/ncnn-post.md"',
        f'command = "{command} --json ncnn_post.json"',
        f'versions = "ncnn {cells.cells[0].version}; converted by {tools}"',
        f'machine = "{machine(cells.machine)}"',
        f"loop_runs = {runs_of(looped)}",
        "",
    ]
    for name, data in networks.items():
        lines += network(result(name, data), data[PARTS[0]].cells[list(CELLS).index(PHASED)])
    Path(sys.argv[2]).write_text("\n".join(lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
