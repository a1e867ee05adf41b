"""The engines' part of docs/accuracy.md, from what `compare` found: tables and the sentences that count."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

BEGIN, END = (
    "<!-- engines: begin, written by python -m benchmarks.accuracy.compare --write -->",
    "<!-- engines: end -->",
)
PEERS = Path(__file__).with_name("peers.json")
PHASES = ("load", "run 1", "steady")
HEAD = """\
## Engines, predicted against measured

What the profiles of [](engines/index.md) say, held against the allocation counter: heap above the engine loaded
without a model, predicted ÷ measured. A cell is one network with one choice of settings; batch 1, images of 224×224
(U-Net 256×256), TFLM's networks smaller. *Untouched* networks were never looked at while rules were written:
{untouched}.
The others were:
{rules}.

What *untouched* is worth: each untouched network was predicted once when an engine's rules were done. Where that first
shot showed a wrong rule, the rule was corrected for all, and the figures below are those after it. First shots:
LiteRT with XNNPACK +0.197 % at most (a list's growth), ExecuTorch with XNNPACK +0.79 % at most in the peak of run 1
(when indirection buffers are made), MNN, PyTorch and OpenVINO as below; ncnn and ONNX Runtime had theirs before int8,
attention and quantised rules were added, with the same figures within 0.3 %.

p90 is the distance from 1 that nine of ten cells stay within; *below* counts
cells that were predicted lower than measured. {machine}.

```sh
python -m benchmarks.accuracy.measure              # measure what benchmarks/accuracy/measured does not hold
python -m benchmarks.accuracy.compare --write      # predict, compare, write the bands and this part of the page
```
"""
RESIDENT = """\
### Anonymous memory at the resident peak

*Explained*: the share that is neither in the profile's remainder nor without a source in the account of the process
([](engines/index.md)). *Foreseen*: baseline and predicted heap ÷ measured; nothing of the run is in it, and what glibc
keeps, or what was asked for and never written to, makes it differ from 1.
"""


def write(page: Path, tables: dict[str, list[dict[str, Any]]], bands: dict[str, Any], machine: str) -> None:
    """Put the part between its marks in `page`."""
    text = page.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    part = "\n".join([BEGIN, "", *_part(tables, bands, machine), END])
    page.write_text(before + part + after, encoding="utf-8")


def _part(tables: dict[str, list[dict[str, Any]]], bands: dict[str, Any], machine: str) -> Iterator[str]:
    from benchmarks.accuracy.cells import RULES, UNTOUCHED

    yield HEAD.format(untouched=", ".join(UNTOUCHED), rules=", ".join(RULES), machine=machine)
    for engine, rows in tables.items():
        if rows:
            yield from _engine(engine, rows, bands[engine]["bands"])
    yield RESIDENT
    yield "| engine | group | cells | explained, min | median | foreseen, min | median | max |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    for engine, rows in tables.items():
        for split in dict.fromkeys(row["split"] for row in rows):
            for group in ("untouched", "rules"):
                found = [row for row in rows if row["group"] == group and row["split"] == split and "explained" in row]
                if found:
                    explained, foreseen = [row["explained"] for row in found], [row["foreseen"] for row in found]
                    yield (
                        f"| {engine} {split} | {group} | {len(found)} | {min(explained):.2%} | "
                        f"{median(explained):.2%} | {min(foreseen):.2f} | {median(foreseen):.2f} | "
                        f"{max(foreseen):.2f} |"
                    )
    yield ""
    if PEERS.exists():
        from benchmarks.accuracy.peers import page_table

        yield page_table(json.loads(PEERS.read_text("utf-8")))
        yield ""


def _engine(engine: str, rows: list[dict[str, Any]], bands: list[dict[str, Any]]) -> Iterator[str]:
    yield f"### {engine}"
    yield ""
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    done = [row for row in rows if "figures" in row]
    yield f"{len(done)} cells: {', '.join(f'`{cell}`' for cell in cells)}. Version {rows[0]['version']}."
    kinds = {row["kind"] for row in done}
    if kinds == {"lower bound"}:
        yield "The profile gives a lower bound."
    partly = sum(1 for row in done if row["unmodelled"])
    if partly:
        yield f"In {partly} cells something had no rule and was named."
    yield ""
    for band in bands:
        title = " ".join(f"{name}={value}" for name, value in band["where"].items())
        yield f"| {title} | figure | group | n | min | median | p90 | max | below |"
        yield "|---|---|---|---:|---:|---:|---:|---:|---:|"
        for row in band["rows"]:
            yield (
                f"| {row['phase']} | {row['figure']} | {row['group']} | {row['n']} | {row['min']:.4f} | "
                f"{row['median']:.4f} | ±{row['p90']:.4f} | {row['max']:.4f} | {row['below']} |"
            )
        yield ""
    oracles: dict[str, list[list[int]]] = {}
    for row in done:
        for name, pair in row["oracles"].items():
            oracles.setdefault(name, []).append(pair)
    if oracles:
        said = [f"{name} {sum(a == b for a, b in pairs)} of {len(pairs)}" for name, pairs in oracles.items()]
        yield f"Figures that the engine tells itself, equal to the byte: {'; '.join(said)}."
        yield ""
    refused = [row for row in rows if "refused" in row]
    for reason in dict.fromkeys(row["refused"] for row in refused):
        those = [f"{row['network']} `{row['cell']}`" for row in refused if row["refused"] == reason]
        yield f"Not predicted: {', '.join(those)}: {reason}."
        yield ""
