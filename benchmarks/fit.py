"""`peakmem fit` on the cases people ask about, and each change it ranks run again as the command it names.

    python benchmarks/fit.py [--only GROUP …] [--json FILE] [--also FILE …] [--page docs/guides/fit.md]

Groups: mcu (MobileNetV2 in int8 on an STM32F746 at widths and resolutions), phone (files against an app's 100 MB),
train (steps on V100, A100 and H100; needs torch), engine (TFLite Micro's arena, converted and quantised here; slow).
A change is right when the plain command with it reports the same bytes and the same verdict; anything else is listed
and the exit code is 1. 4 GB, about 10 min.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shlex
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

WIDTHS, SIZES, CLASSES = ("0.35", "0.5", "1.0"), (96, 144, 224), (1000, 2)
# two classes: is there a person in the picture
APPS = ("resnet50", "vgg16", "mobilenet_v2", "resnet18", "densenet161")
CARDS = ("v100-16gb", "a100-40gb", "h100-80gb")
STEPS = (
    ("resnet50", "--batch", "256", "--optimizer", "adam"),
    ("gpt2_small", "--batch", "32", "--optimizer", "adamw"),
)
BEGIN, END = "<!-- table: python benchmarks/fit.py -->", "<!-- end of table -->"


def commands(group: str) -> Iterator[tuple[str, ...]]:
    """The questions of a group."""
    if group == "mcu":
        for width, size, classes in product(WIDTHS, SIZES, CLASSES):
            spec = f"mobilenet_v2:width={width},resolution={size},classes={classes}"
            yield (spec, "--device", "stm32f746", "--dtype", "int8")
    elif group == "phone":
        for name in APPS:
            yield (name, "--device", "iphone-11", "--storage", "100 MB")
    elif group == "train":
        for name, *flags in STEPS:
            for card in CARDS:
                yield (name, "--train", "--device", card, *flags)
    elif group == "engine":
        for size in SIZES[:2]:
            spec = f"mobilenet_v2:width=0.35,resolution={size},classes=10"
            yield (spec, "--device", "stm32f746", "--engine", "tflm", "--set", "quantise=int8")


def called(*words: str) -> tuple[int, str]:
    """The command line, in this process: (exit code, standard output)."""
    from peakmem.cli import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        try:
            main(list(words))
        except SystemExit as done:
            return int(done.code or 0), out.getvalue()
    return 0, out.getvalue()


def asked(words: tuple[str, ...]) -> dict[str, Any]:
    """One question with its answer and what became of its changes."""
    code, out = called("fit", *words, "--json", "-")
    report = json.loads(out)
    wrong = [one for one in (said(change) for change in report["changes"]) if one]
    return {"command": shlex.join(("peakmem", "fit", *words)), "code": code, "report": report, "wrong": wrong}


def said(change: dict[str, Any]) -> str:
    """What is wrong with a change; "" where the command it names reports the bytes that it promises."""
    if not change["command"] or change["outcome"] == "refused":
        return ""
    _, *words = shlex.split(change["command"])
    promised = dict(change["needed"])
    _, out = called(*words, "--json", "-", "--try", "none", "--grow", "none")
    again = json.loads(out)
    found = {part["name"]: part["needed_bytes"] for part in again["parts"]}
    if found == promised and again["outcome"] == change["outcome"]:
        return ""
    return f"{change['command']}: promised {promised} {change['outcome']}, found {found} {again['outcome']}"


def row(found: dict[str, Any]) -> str:
    """A line of the table."""
    report = found["report"]
    parts = ", ".join(f"{one['name']} {one['needed_bytes']:,} of {one['capacity_bytes']:,}" for one in report["parts"])
    best = next((one for one in report["changes"] if one["rank"] == 1), None)
    change = " + ".join(best["names"]) if best else "–"
    grown = ", ".join(f"{one['knob']} {one['value']}" for one in report["largest"] if one["value"])
    ranked = sum(1 for one in report["changes"] if one["rank"])
    cells = (report["name"], report["device"], parts, report["outcome"], change, grown or "–", str(ranked))
    return "| " + " | ".join(cells) + " |"


def table(cells: list[dict[str, Any]]) -> list[str]:
    """All answers, and how many changes were checked."""
    head = ("network", "device", "needs", "verdict", "cheapest change", "largest", "changes that fit")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *map(row, cells)]
    checked = sum(1 for one in cells for change in one["report"]["changes"] if change["command"])
    wrong = [text for one in cells for text in one["wrong"]]
    return [*lines, "", f"{checked} changes run again as the command that each names: {len(wrong)} differ.", *wrong]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    groups = ("mcu", "phone", "train", "engine")
    parser.add_argument("--only", nargs="*", choices=groups, default=groups[:3])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--also", type=Path, nargs="*", default=(), help="--json of earlier runs, shown after this one")
    parser.add_argument("--page", type=Path)
    chosen = parser.parse_args()
    cells = []
    for group in chosen.only:
        for words in commands(group):
            cells.append(asked(words))
            if chosen.json:
                chosen.json.write_text(json.dumps(cells, indent=1) + "\n")
            print(cells[-1]["command"], cells[-1]["report"]["outcome"], *cells[-1]["wrong"], file=sys.stderr)
    for earlier in chosen.also:
        cells += json.loads(earlier.read_text())
    if chosen.json:
        chosen.json.write_text(json.dumps(cells, indent=1) + "\n")
    lines = table(cells)
    if chosen.page:
        text = chosen.page.read_text()
        head, tail = text.index(BEGIN) + len(BEGIN), text.index(END)
        chosen.page.write_text(text[:head] + "\n\n" + "\n".join(lines) + "\n\n" + text[tail:])
    print("\n".join(lines))
    return 1 if any(one["wrong"] for one in cells) else 0


if __name__ == "__main__":
    sys.exit(main())
