"""Hold predictions against GPU measurements that others have published, with the script that was measured.

    python -m benchmarks.training.published               to the screen
    python -m benchmarks.training.published --write       and into docs/training/accuracy.md

Nothing is trained. `published.jsonl` has one line for each measurement: where it stands, which figure it is, and which
step of `published_steps` it is with which numbers. Rows of the group `rules` were looked at while causes were searched;
those that are `untouched` were not.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

MIB = 1 << 20
ROWS = Path(__file__).with_name("published.jsonl")
PAGE = Path(__file__).parents[2] / "docs/training/accuracy.md"
BEGIN, END = (
    "<!-- published: begin, written by python -m benchmarks.training.published --write -->",
    "<!-- published: end -->",
)
FIGURES = {
    "allocated": "max_memory_allocated",
    "reserved": "max_memory_reserved",
    "process": "nvidia-smi: reserved and the context of the device's row",
    "device, less what it held before": "NVML, less the first reading: reserved",
}


def main() -> None:
    """Predict all, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", help="only rows whose source begins so")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    rows = []
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for row in pool.imap(predicted, [one for one in lines() if one["source"].startswith(given.source or "")]):
            rows.append(row)
            print(f"{row['source']:18} {row['row']:48} {_error(row):+7.2%}  {row['predicted']}", flush=True)
    print(*_statistics(rows), sep="\n")
    if given.write:
        write(PAGE, rows)


def lines() -> list[dict[str, Any]]:
    """The measurements."""
    return [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]


def predicted(row: dict[str, Any]) -> dict[str, Any]:
    """A row with what is predicted for it, in bytes."""
    from benchmarks.training import published_steps

    import peakmem
    from peakmem.training.scenario import Scenario

    if row["step"] == "metamath":
        return row | {"predicted": _metamath(row["given"])}
    source = getattr(published_steps, row["step"])(**row["given"])
    answer = peakmem.train(source, scenario=Scenario(device="cuda"), capacity=row["device"] or None)
    assert answer.reserved is not None
    context = answer.verdict.beside_bytes if answer.verdict is not None else 0
    reserved = answer.reserved.reserved_bytes
    told = {"requested": answer.peak_bytes, "allocated": answer.reserved.allocated_bytes, "reserved": reserved}
    return row | {"predicted": told | {"process": reserved + context}}


def _metamath(given: dict[str, Any]) -> dict[str, int]:
    """A network of a configuration with options that the command has not."""
    from benchmarks.training.published_steps import metamath

    from peakmem.training.allocator import simulate
    from peakmem.training.scenario import Lora, Optimizer, Scenario

    lora = Lora(given["lora"][0], tuple(given["lora"][1])) if given["lora"] else None
    scenario = Scenario(
        device="cuda",
        batch=given["batch"],
        sequence=given["sequence"],
        precision="bf16",
        lora=lora,
        optimizer=Optimizer("adamw"),
        steps=3,
    )
    found = simulate(metamath(scenario), bound=False)
    return {
        "requested": found.requested.nbytes,
        "allocated": found.allocated.nbytes,
        "reserved": found.reserved.nbytes,
        "process": found.reserved.nbytes,
    }


def _error(row: dict[str, Any]) -> float:
    figure = row["figure"] if row["figure"] in row["predicted"] else "reserved"
    return float(row["predicted"][figure] / row["measured_bytes"] - 1)


def _statistics(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    yield "| figure | rows | n | median | p90 | max | lowest | highest |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    for figure in FIGURES:
        for group in ("rules", "untouched"):
            errors = sorted(_error(row) for row in rows if row["figure"] == figure and row["group"] == group)
            if not errors:
                continue
            sizes = sorted(abs(one) for one in errors)
            tenth = sizes[min(len(sizes) - 1, round(0.9 * (len(sizes) - 1)))]
            told = (median(sizes), tenth, sizes[-1])
            cells = [f"{one:.2%}" for one in told] + [f"{errors[0]:+.2%}", f"{errors[-1]:+.2%}"]
            yield f"| {FIGURES[figure]} | {group} | {len(errors)} | " + " | ".join(cells) + " |"


def _page(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield from ("## Published measurements of GPUs", "")
    yield "Steps written after the scripts that others measured, traced without a GPU. Errors are predicted by"
    yield "measured, less 1. Rows `rules` were looked at while causes were searched, `untouched` ones were not."
    yield ""
    yield from _statistics(rows)
    yield from ("", "| source | what | figure | measured, MiB | predicted, MiB | error | rows |")
    yield "|---|---|---|---:|---:|---:|---|"
    for row in rows:
        figure = row["figure"] if row["figure"] in row["predicted"] else "reserved"
        yield (
            f"| [{row['source']}]({row['url']}) | {row['row']} | {row['figure']} | {row['measured_bytes'] / MIB:,.0f} "
            f"| {row['predicted'][figure] / MIB:,.0f} | {_error(row):+.2%} | {row['group']} |"
        )
    yield from ("", *NOTES, "")


NOTES = (
    "- The scripts decide more than the settings that tables name. litgpt: what a module gives is cast to float32 by",
    "  the wrapper around it, and RMSNorm runs in float32. BERT-large: PyTorch before 1.11 kept the input of softmax",
    "  beside its result, before 2.0 gradients were set to zero and not freed; without the two its first, second and",
    "  fourth row are 4 to 23 % too low.",
    "- MetaMathQA: the longest batch is not published. 648 tokens were chosen on the first row; the others use them.",
    "  Its batches differ in length and the cache is emptied every tenth step; here all steps are the longest.",
    "- xMem: cuDNN's workspaces are not known without a card, and are not counted.",
)


def write(page: Path, rows: list[dict[str, Any]]) -> None:
    """Replace what stands between the marks, or put it behind what is there."""
    text = page.read_text(encoding="utf-8")
    part = "\n".join((BEGIN, "", *_page(rows), END)) + "\n"
    if BEGIN in text:
        before, _, rest = text.partition(BEGIN)
        text = before + part + rest.partition(END)[2].removeprefix("\n")
    else:
        text = text.rstrip("\n") + "\n\n" + part
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
