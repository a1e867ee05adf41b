"""Layer tables for fuzzing, and damage that knows what a row looks like."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fuzz.mutation import WORDS, number

SUFFIX = ".md"
_DATA = Path(__file__).parents[2] / "data" / "layer_tables"

_OPS = (
    "conv", "conv dw", "pw", "sep conv", "group conv", "deconv", "fc", "max pool", "avg pool", "global avg pool",
    "bn", "relu", "softmax", "flatten", "add l1", "concat l1 l2", "upsample", "bottleneck", "input", "sum", "max",
    "… ×5", "conv + bn + relu", "lrn", "dropout", "lstm", "mystery",
)  # fmt: skip
_CELLS = (
    "3x3", "3x3x3x8", "3×3×8", "8x3x3x3", "1x1x8x8", "8", "5x5, 64", "3x3/2", "224x224x3", "(None, 8, 8, 3)", "7x7",
    "0x0", "0", "-1", "1x", "x5", "s0", "s2", "p0", "valid", "d3", "g4", "1.5 MB", "12 KiB", "3.2M", "9" * 40, "—",
    "same", "NaN", "1e9", "5x" * 40, "k9", "layout: chw", "999999999x999999999x9",
)  # fmt: skip
_SETTINGS = ("layout: hwc", "layout: chw", "dtype: int8", "batch: 999999", "padding: valid", "bias: yes", "dtype: q")


def seeds() -> dict[str, bytes]:
    """Published tables and a list with every kind of row."""
    found = {path.stem: path.read_bytes() for path in sorted(_DATA.glob("*.md"))}
    found["branches"] = (
        b"| name | type | kernel | channels | s | from | memory (KB) |\n|---|---|---|---|---|---|---|\n"
        b"| in | input 16x16x4 | | | | | |\n| a | conv + bn + relu | 3x3 | 8 | 1 | | 12.3 |\n"
        b"| b | conv dw | 3x3 | | 1 | | 1 |\n| c | add | | | | a | 2 |\n| d | concat | | | | a c | |\n"
        b"| e | deconv | 4x4 | 8 | 2 | | |\n| f | sep conv | 3x3 | 16 | 2 | | |\n| g | global avg pool | | | | | |\n"
        b"| h | fc | | 10 | | | |\n"
    )
    found["list"] = (
        b"- input 32x32x3\n- conv 3x3, 16 s2\n- max pool 2x2/2\n- conv 3x3x16x16 x3\n- bn\n- relu\n- upsample x2\n"
        b"- dw 5x5 d2\n- pw 8\n- global avg pool\n- fc 10\n- softmax\n"
    )
    return found


def damage(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A table with rows moved, cells changed, sizes made absurd."""
    lines = data.decode("utf-8", "replace").split("\n")
    done = []
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        what = rng.choice((_row, _row, _cell, _cell, _cell, _number, _number, _setting, _word, _many))
        done.append(what(lines, rng))
    return "\n".join(lines).encode("utf-8", "replace"), "; ".join(done)


def _at(lines: list[str], rng: random.Random) -> int:
    if not lines:
        lines.append("")
    return rng.randrange(len(lines))


def _row(lines: list[str], rng: random.Random) -> str:
    at = _at(lines, rng)
    what = rng.randrange(4)
    if what == 0:
        lines.insert(rng.randrange(len(lines) + 1), lines[at])
    elif what == 1:
        del lines[at]
    elif what == 2:
        other = _at(lines, rng)
        lines[at], lines[other] = lines[other], lines[at]
    else:
        lines[at] = f"| {rng.choice(_OPS)} | {rng.choice(_CELLS)} | {rng.choice(_CELLS)} | {rng.choice(_CELLS)} |"
    return f"row {at}: {what}"


def _cell(lines: list[str], rng: random.Random) -> str:
    at = _at(lines, rng)
    cells = lines[at].split("|")
    column = rng.randrange(len(cells))
    cells[column] = f" {rng.choice(_OPS if rng.random() < 0.3 else _CELLS)} "
    lines[at] = "|".join(cells)
    return f"cell {at}, {column}: {cells[column]}"


def _number(lines: list[str], rng: random.Random) -> str:
    at = _at(lines, rng)
    digits = [place for place, char in enumerate(lines[at]) if char.isdigit()]
    if not digits:
        return "no number"
    place, value = rng.choice(digits), number(rng)
    lines[at] = f"{lines[at][:place]}{value}{lines[at][place + 1 :]}"
    return f"number {at}: {value}"


def _setting(lines: list[str], rng: random.Random) -> str:
    text = rng.choice(_SETTINGS)
    lines[:0] = [text, ""]
    return text


def _word(lines: list[str], rng: random.Random) -> str:
    at = _at(lines, rng)
    cells = lines[at].split("|")
    cells[rng.randrange(len(cells))] = rng.choice(WORDS)
    lines[at] = "|".join(cells)
    return f"word in {at}"


def _many(lines: list[str], rng: random.Random) -> str:
    at, times = _at(lines, rng), rng.choice((3, 40, 1200))
    lines[at:at] = [lines[at]] * times
    return f"line {at} {times} times"
