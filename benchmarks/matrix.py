"""Three networks on every engine, with the options that move memory most: the table of docs/measuring/matrix.md.

    python benchmarks/matrix.py --json matrix.json          measure; what is in the file already is kept
    python benchmarks/matrix.py --json matrix.json --page docs/measuring/matrix.md

Needs the extra `engines`. An engine that is not installed, or a network that does not reach it, is a row that says so.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peakmem
from peakmem.measuring.record import Measurement

NETWORKS = ("mobilenet_v2", "resnet18", "vgg16")
CELLS = {
    "ncnn": ("defaults", "lightmode=off", "winograd=off", "bf16_storage=on", "pool_allocator=off", "threads=2"),
    "onnxruntime": (
        "defaults", "arena=off", "mem_pattern=off", "prepacking=off", "optimisation=disable", "external_data=on",
        "threads=2",
    ),
    "litert": ("defaults", "kernels=builtin", "kernels=reference", "preserve_all_tensors=on", "model_as_bytes=on"),
    "tflm": ("defaults", "interpreter=preserve_all_tensors", "quantise=int8"),
    "openvino": (
        "defaults",
        "precision=f32",
        "precision=f32 format=openvino",
        "precision=f32 format=openvino mmap=off",
    ),
    "pytorch": ("defaults", "mode=grad", "channels_last=on", "mkldnn=off", "jit=optimize"),
    "executorch": ("defaults", "load=bytes", "verification=minimal", "backend=portable"),
    "mnn": ("defaults", "winograd_level=0", "api=module", "rearrange=on api=module"),
}  # fmt: skip
RUNS = {"tflm": 1}
# its reference kernels take a minute for VGG16, and its arena is settled at load; three runs for the others
COLUMNS = (
    ("peak_resident", "peak resident"),
    ("steady_anonymous", "anonymous"),
    ("peak_virtual", "peak virtual"),
    ("load_heap_peak", "heap: load peak"),
    ("load_heap", "loaded"),
    ("runs_heap_peak", "runs peak"),
    ("steady_heap", "steady"),
)
HEAD = """\
# The matrix

Medians of {n} processes of three runs (TFLM: one), batch 1, 224×224, one thread unless said; MB is 10⁶ bytes. *Peak
resident*, *anonymous* and *peak virtual* are of the whole process, the heap columns are above the engine's own, from
one process with the allocation counter. ± is half the range of *anonymous* over the {n} processes. {machine}.

```sh
python benchmarks/matrix.py --json matrix.json --page docs/measuring/matrix.md
```
"""


def main() -> None:
    """Measure what the file does not hold yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--engines", default=",".join(CELLS))
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    kept: dict[str, Any] = json.loads(given.json.read_text()) if given.json.exists() else {}
    for network in given.networks.split(","):
        for engine in given.engines.split(","):
            key = f"{network} {engine}"
            if key in kept:
                continue
            report = peakmem.measure(
                network, engines=[engine], cells=CELLS[engine], repeat=given.repeat, runs=RUNS.get(engine, 3),
                timeout=1200,
            )  # fmt: skip
            kept[key] = {"rows": list(rows(report)), "machine": machine(report)}
            given.json.write_text(json.dumps(kept, indent=1))
            print(key, *(row["status"] for row in kept[key]["rows"]), flush=True)
    if given.page:
        given.page.write_text(page(kept, given.repeat))


def rows(report: Measurement) -> Iterator[dict[str, Any]]:
    """Each row of a report as plain data."""
    for row in report.rows:
        yield {
            "engine": f"{row.engine} {row.version}",
            "settings": ", ".join(f"{name}={said(value)}" for name, value in row.chosen.items()) or "defaults",
            "status": row.status, "reason": row.reason, "peak_phase": row.peak_phase,
            "figures": {
                name: [value.n, value.min, value.median, value.max] for name, value in row.figures.items()
            },
        }  # fmt: skip


def said(value: object) -> str:
    """A setting's value as it is typed."""
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def machine(report: Measurement) -> str:
    """Where it was measured."""
    at = report.machine
    return f"{at.processor}, {at.cpus} processors, {at.kernel}, {at.libc}"


def page(kept: dict[str, Any], repeat: int) -> str:
    """The tables of all networks that were measured."""
    where = next(iter(kept.values()))["machine"]
    out = [HEAD.format(n=repeat, machine=where)]
    for network in NETWORKS:
        found = [row for engine in CELLS for row in kept.get(f"{network} {engine}", {"rows": []})["rows"]]
        if not found:
            continue
        titles = " | ".join(title for _, title in COLUMNS)
        out += [f"## {network}", "", f"| engine | settings | {titles} | ± | peak in |", f"|---|---|{'---:|' * 8}---|"]
        for row in found:
            if row["figures"]:
                cells = [mega(row["figures"], name) for name, _ in COLUMNS]
                n_min_max = row["figures"].get("steady_anonymous")
                half = f"{(n_min_max[3] - n_min_max[1]) / 2e6:.2f}" if n_min_max else ""
                out.append(
                    f"| {row['engine']} | {row['settings']} | {' | '.join(cells)} | {half} | {row['peak_phase']} |"
                )
            else:
                reason = row["reason"].replace("|", "/")[:160]
                out.append(f"| {row['engine']} | {row['settings']} | {row['status']}: {reason} |" + " |" * 8)
        out.append("")
    return "\n".join(out)


def mega(figures: dict[str, list[int]], name: str) -> str:
    """The median in MB."""
    return f"{figures[name][2] / 1e6:.2f}" if name in figures else ""


if __name__ == "__main__":
    main()
