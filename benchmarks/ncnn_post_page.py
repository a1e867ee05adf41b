"""The page of ncnn_post.py: tables and sentences made of its figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import get_args

import msgspec
from ncnn_post_beside import files, filled, published, rows_of_top, table, titles
from ncnn_post_figures import (
    CELLS,
    LEAST,
    NEAR,
    Article,
    Figures,
    Result,
    freed,
    growth,
    highs,
    mib,
)
from ncnn_post_verdicts import ROUGHLY, Word, verdicts

from peakmem.measuring.record import Machine, Measurement, Spread


def page(
    results: Sequence[Result],
    raw: Mapping[str, Measurement],
    post: Article,
    command: str,
    again: Sequence[Result] = (),
) -> str:
    """All of it.

    Args:
        results: the networks in the order of the article.
        raw: their measurements, by name.
        post: what the article prints.
        command: what is typed for it.
        again: the same networks, measured a second time.
    """
    shown = [one for one in results if one.cells]
    sections = [part(shown, post) for part in PARTS] if shown else []
    failed = [(one.name, cell, reason) for one in results for cell, reason in one.failed]
    if failed:
        sections.append("## Not measured\n\n" + table(("network", "cell", "reason"), failed))
    return filled("\n\n".join([opening(raw[results[0].name], command, post), *sections, how(raw, shown, again)]))


def opening(first: Measurement, command: str, post: Article) -> str:
    """What this is."""
    return f"""# An ncnn benchmark, done again

*{post.title}* measured nine networks on ncnn by VmPeak and switched MobileNetV2's options one by one. Here all nine
are measured again with every option, each in processes of its own, and its conclusions are judged by the figures.

```sh
{command}
```

Every size here is a measurement of a process, in MiB (2^20 bytes) unless bytes are named. VmPeak and resident sizes are
medians of {first.repeat} plain processes of {runs_of(first)} runs each, and belong to a whole Python process without
numpy; *heap* is what the allocation counter counts in one more process, above the mark `import` (ncnn loaded, no
network). `top` prints KiB, and KiB they are read as. ncnn {first.cells[0].version} by its Python binding, one
thread unless said otherwise. Weights are random and fp32; the input is 1×3×224×224. The command writes this page.
"""


def runs_of(first: Measurement) -> int:
    """Inferences a process."""
    return max((sum(mark.phase.startswith("run ") for mark in run.marks) for run in first.cells[0].runs), default=0)


def conclusions(results: list[Result], post: Article) -> str:
    found = list(verdicts(results, post))
    rows = [(f"*{one.claim}*", f"**{one.word}**", one.because + ".") for one in found]
    counts = Counter(one.word for one in found)
    summary = ", ".join(f"{word}: {counts[word]}" for word in get_args(Word) if counts[word])
    return f"""## Its conclusions

Verdicts are computed. Two cells are alike in a figure when they differ by no more than {LEAST >> 10} KiB or twice the
largest range of that figure over fresh processes of either. "Roughly" is within {ROUGHLY:.0%}. A printed size is
reproduced when a cell comes within {NEAR:.0%}. "Holds in part": in some networks, or in one part of what is said.
{len(found)} claims; {summary}.

{table(("the article", "verdict", "measured"), rows)}"""


MATRIX = (
    "defaults", "light off", "light off, fp16 off", "fp16 off", "bf16 storage on", "int8 off", "winograd off",
    "winograd and sgemm off", "two threads", "malloc thresholds", "pools off", "light, fp16, small tiles off",
)  # fmt: skip


def _matrix(results: list[Result], post: Article, get: Callable[[Figures], str]) -> str:
    rows = [
        [titles(post)[one.name], *(get(one.cells[cell]) if cell in one.cells else "–" for cell in MATRIX)]
        for one in results
    ]
    return table(("network", *MATRIX), rows)


def matrix(results: list[Result], post: Article) -> str:
    named = table(("cell", "settings"), ((name, f"`{text}`") for name, text in CELLS.items()))
    return f"""## Every option

VmPeak, MiB:

{_matrix(results, post, lambda cell: f"{cell.vm_peak.median / 2**20:,.1f}")}
Highest resident set, MiB:

{_matrix(results, post, lambda cell: f"{cell.rss_peak.median / 2**20:,.1f}")}
Highest heap above the import, MB (10^6 bytes):

{_matrix(results, post, lambda cell: f"{cell.heap_peak / 10**6:,.2f}")}
Over the plain processes of a cell, in KiB:

{spreads(results, post)}
The cells, by settings of `peakmem measure --engine ncnn --cell`:

{named}"""


def spreads(results: list[Result], post: Article) -> str:
    rows = []
    for one in results:
        for name in ("defaults", "light off"):
            cell = one.cells.get(name)
            for figure, values in (("VmPeak", cell.vm_peak), ("resident", cell.rss_peak)) if cell else ():
                kib = (f"{value >> 10:,}" for value in (values.min, values.median, values.max))
                rows.append((titles(post)[one.name], name, figure, values.n, *kib))
    return table(("network", "cell", "figure", "n", "min", "median", "max"), rows)


def light(results: list[Result], post: Article) -> str:
    first, second = [], []
    for one in results:
        if not {"defaults", "light off"} <= set(one.cells):
            continue
        on, off = one.cells["defaults"], one.cells["light off"]
        first.append(
            (
                titles(post)[one.name], f"{off.load:,}", f"{on.load:,}", f"{freed(one):,}", f"{one.weights:,}",
                f"{off.heap_peak - on.heap_peak:,}", mib(off.vm_peak.median - on.vm_peak.median),
                mib(off.rss_peak.median - on.rss_peak.median),
            )
        )  # fmt: skip
        saved = off.runs_peak - on.runs_peak
        if set(one.blobs) == {True, False}:
            off_told, on_told = one.blobs[False], one.blobs[True]
            pools = off_told.pools - on_told.pools
            second.append(
                (
                    titles(post)[one.name], f"{saved:,}", f"{freed(one):,}", f"{pools:,}",
                    f"{saved - freed(one) - pools:,}",
                    f"{off_told.blobs:,}", f"{on_told.blobs:,}", f"{off_told.pools:,}", f"{on_told.pools:,}",
                )
            )  # fmt: skip
    saving = (
        "network", "heap after load, off", "on", "given back", "fp32 kernels and matrices", "saved of the heap's peak",
        "of VmPeak", "resident",
    )  # fmt: skip
    split = ("network", "saved", "weights", "pools", "left over", "blobs live, off", "on", "pools hold, off", "on")
    return f"""## Light mode

With light mode a layer releases its original weights once it has repacked them, and a blob goes back after its last
reader. Bytes of heap:

{table(saving, first)}
"Fp32 kernels and matrices" are counted from the .param: 4 bytes for each weight of convolutions and inner products.

The same saving at the highest point of the runs, split: weights given back by loading, and what the pools that serve
blobs and workspace took from the system, as ncnn's own allocators tell (`record_allocators=pool`, in a process of its
own). "Left over" is what neither explains.

{table(split, second)}
"Blobs live" is the most that was asked for at once. Pools hold more: what comes back stays for the next request.

{rows_of_top(results, post)}"""


def precision(results: list[Result], post: Article) -> str:
    cells = ("fp16 off", "fp16 storage off", "bf16 storage on", "int8 off", "winograd off", "winograd and sgemm off")
    rows = [
        [titles(post)[one.name], f"{one.products // 2:,}"]
        + [
            "–" if cell not in one.cells or "defaults" not in one.cells
            else f"{one.cells[cell].load - one.cells['defaults'].load:+,}<br>"
            f"{one.cells[cell].heap_peak - one.cells['defaults'].heap_peak:+,}"
            for cell in cells
        ]
        for one in results
    ]  # fmt: skip
    return f"""## Precision and algorithms

Bytes of heap against the defaults: live after load, and below it the highest point. Second column: half the bytes of
the inner products' weights, which is what fp16 storage of them alone would save.

{table(("network", "half of the inner products", *cells), rows)}"""


def loops(results: list[Result], post: Article) -> str:
    rows = []
    for one in results:
        row = [titles(post)[one.name]]
        for name in ("defaults", "light off", "pools off"):
            cell = one.cells.get(name)
            if cell is None:
                row += ["–"] * 3
                continue
            more, at, live = growth(cell)
            row += [f"{cell.run_peaks[0]:,}", f"{more:+,}" + (f" (run {at})" if more > 0 else ""), f"{live:+,}"]
        default = one.cells.get("defaults")
        last = f"run {len(default.run_peaks)}" if default else ""
        row.append(mib(default.rss[last] - default.rss["run 1"]) if default else "–")
        rows.append(row)
    runs = max((len(one.cells["defaults"].run_peaks) for one in results if "defaults" in one.cells), default=0)
    columns = (
        "network", "run 1", "later, most", "live", "light off: run 1", "later, most", "live", "pools off: run 1",
        "later, most", "live", "resident, last run less first",
    )  # fmt: skip
    return f"""## Runs in a loop

Over {runs} runs. Highest heap of the first run, bytes; by how much the highest of all later runs lies above it; the
same of what is live after a run:

{table(columns, rows)}
A pool of ncnn's hands out the first kept block that is large enough (PoolAllocator::fastMalloc): a small request may
take a large block, and a later large request then needs a new one. With `pools off` each request reaches the C library.

{long_loops(results, post)}
"""


def long_loops(results: list[Result], post: Article) -> str:
    rows = []
    for one in results:
        for name, found in one.looped.items():
            rises = highs(found)
            most = found[rises[-1] - 1] - found[0]
            rows.append((titles(post)[one.name], name, len(found), len(rises) - 1, rises[-1], f"{most:+,}"))
    if not rows:
        return ""
    columns = (
        "network",
        "cell",
        "runs",
        "new highs after the first run",
        "last one in run",
        "above the first run, bytes",
    )
    return f"""One process in a longer loop. A new high is more than {LEAST >> 10} KiB above all runs before:

{table(columns, rows)}"""


def peaks(results: list[Result], post: Article) -> str:
    rows = []
    for one in results:
        cell = one.cells.get("defaults")
        off = one.cells.get("light off")
        if cell is None:
            continue
        rows.append(
            (
                titles(post)[one.name], f"{cell.load_peak:,}", f"{cell.runs_peak:,}", cell.phase,
                off.phase if off else "–",
                f"{cell.rss['load'] / 2**20:,.1f}",
                f"{max(value for name, value in cell.rss.items() if name.startswith('run ')) / 2**20:,.1f}",
                f"{cell.vm['load'] / 2**20:,.1f}", f"{cell.vm_peak.median / 2**20:,.1f}",
            )
        )  # fmt: skip
    columns = (
        "network", "heap at load, most", "in runs, most", "highest in", "light off: in", "resident at load, MiB",
        "in runs, MiB", "VmPeak after load, MiB", "at the end, MiB",
    )  # fmt: skip
    return f"""## Where the peak falls

{table(columns, rows)}"""


def baseline(results: list[Result], post: Article) -> str:
    one = next((one for one in results if one.name == post.toggled and "defaults" in one.cells), None)
    one = one or next((one for one in results if "defaults" in one.cells), None)
    if one is None:
        return ""
    cell = one.cells["defaults"]
    rows = [
        (phase, f"{cell.vm[phase] / 2**20:,.1f}", f"{cell.rss[phase] / 2**20:,.1f}")
        for phase in ("interpreter", "import", "load", "run 1", "release")
        if phase in cell.vm
    ]
    return f"""## The baseline

{titles(post)[one.name]}, defaults, MiB. The article states {post.stated["libraries"]}M with the runtime libraries
alone and {post.stated["loaded"]}M after loading; of what, it does not say.

{table(("after phase", "VmPeak", "most resident in it"), rows)}"""


PARTS: tuple[Callable[[list[Result], Article], str], ...] = (
    conclusions, files, published, matrix, light, precision, loops, peaks, baseline,
)  # fmt: skip


def how(raw: Mapping[str, Measurement], results: list[Result], again: Sequence[Result]) -> str:
    """Machine, versions, spreads."""
    machines = [msgspec.json.encode(one.machine) for one in raw.values()]
    first = next(iter(raw.values()))
    rows = [
        (name, _share(cells, lambda cell: cell.vm_peak), _share(cells, lambda cell: cell.rss_peak),
         max((cell.in_use_range for cell in cells), default=0))
        for name in CELLS
        if (cells := [one.cells[name] for one in results if name in one.cells])
    ]  # fmt: skip
    tools = dict.fromkeys(step.tool for one in raw.values() for step in one.cells[0].steps)
    several = "" if len(set(machines)) == 1 else " Not all networks were measured on this machine."
    spreads = table(("cell", "VmPeak", "highest resident", "heap in use (mallinfo2)"), rows)
    return f"""## How it was measured

{machine(first.machine)}.{several}
Converted by {", ".join(tools)}. {first.repeat} plain processes a cell and one with the counter; a fixed environment,
addresses at random. Largest range over the plain processes of a cell (largest less smallest, bytes), of all networks:

{spreads}
{repeated(results, again)}

Median, smallest and largest of each figure and all marks of every process are in the file that `--json` writes.
"""


def repeated(results: list[Result], again: Sequence[Result]) -> str:
    """How far a second full run differs, by the largest difference of all cells."""
    pairs = [
        (one.cells[name], other.cells[name])
        for one in results
        for other in again
        if one.name == other.name
        for name in one.cells
        if name in other.cells
    ]
    if not pairs:
        return ""
    heap = max(
        abs(a - b)
        for one, two in pairs
        for a, b in zip(
            (one.load, one.load_peak, *one.run_peaks), (two.load, two.load_peak, *two.run_peaks), strict=False
        )
    )
    virtual = [abs(one.vm_peak.median - two.vm_peak.median) for one, two in pairs]
    resident = [abs(one.rss_peak.median - two.rss_peak.median) for one, two in pairs]
    return f"""Fresh processes of one installation repeat the layout of the heap, and with it what glibc holds free at
its top. Another installation has another layout: the length of the program's path is enough. In a second full run, from
another installation, the heap figures of {len(pairs)} cells differ by {heap:,} B at most, VmPeak by
{max(virtual):,} B at most ({int(median(virtual)):,} B in the median cell), resident sizes by {max(resident):,} B
({int(median(resident)):,} B). So verdicts rest on the heap wherever it tells; differences of that size in VmPeak or in
resident sizes between two cells mean nothing by themselves."""


def _share(cells: Iterable[Figures], get: Callable[[Figures], Spread]) -> str:
    return f"{max(get(cell).max - get(cell).min for cell in cells):,}"


def machine(one: Machine) -> str:
    wanted = {"f16c", "avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_tile"}
    caches = ", ".join(f"{name} {size >> 10:,} KiB" for name, size in one.caches.items())
    features = " ".join(name for name in one.features if name in wanted)
    return f"{one.processor} ({one.cpus} processors; {features}; {caches}), {one.kernel}, {one.libc}, {one.python}"
