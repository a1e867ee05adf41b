"""Run what the pages show, and hold it against what they say it prints.

In a `console` block the lines under `$ …` are lines of the real output, in order; `...` stands for
lines left out, and cells that a pipe separates by tabs are set in columns. `pycon` blocks are
doctests. All that one page shows runs in one scratch folder, so that a page can export a model and
go on with it. This file knows nothing of what peakmem prints.
"""

from __future__ import annotations

import contextlib
import difflib
import doctest
import io
import re
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peakmem.cli import main

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
ELLIPSIS = "..."


@dataclass
class Command:
    """One `$ …` line of a console block and the lines shown under it."""

    line: int
    # of the file, counted from 0
    text: str
    shown: list[str] = field(default_factory=list)

    @property
    def end(self) -> int:
        """The line after the last shown one."""
        return self.line + self.text.count("\n") + 1 + len(self.shown)


@dataclass
class Python:
    """One `pycon` block."""

    line: int
    text: str = ""


def documents() -> list[Path]:
    """Every page a reader sees, the README first."""
    return [ROOT / "README.md", *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)]


def steps(text: str) -> list[Command | Python]:
    """What a page does: the commands of its `console` blocks and its `pycon` blocks, in order."""
    found: list[Command | Python] = []
    fence = ""
    for number, line in enumerate(text.split("\n")):
        if line.startswith("```"):
            fence = "" if fence else line[3:] or "text"
            if fence == "pycon":
                found.append(Python(number + 1))
            continue
        last = found[-1] if found else None
        if fence == "pycon" and isinstance(last, Python):
            last.text += line + "\n"
        elif fence == "console" and line.startswith("$ "):
            found.append(Command(number, line[2:]))
        elif fence == "console" and isinstance(last, Command):
            if not last.shown and last.text.endswith("\\"):
                last.text += "\n" + line
            else:
                last.shown.append(line)
    return found


class Session:
    """Runs what one page shows, in a scratch folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.code = 0
        # of the last command, for `echo $?`
        self.names: dict[str, object] = {}
        # what the Python blocks of the page have defined

    def python(self, block: Python, where: str) -> str:
        """What is wrong with a block of Python, as doctest says it; empty when nothing is."""
        test = doctest.DocTestParser().get_doctest(block.text, self.names, where, where, block.line)
        said = io.StringIO()
        with contextlib.chdir(self.folder):
            doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.write, clear_globs=False)
        self.names = test.globs
        return said.getvalue()

    def run(self, text: str) -> list[str]:
        """What the command prints, standard error included."""
        words = shlex.split(text.replace("\\\n", " "), comments=True)
        out = io.StringIO()
        if words == ["echo", "$?"]:
            return [str(self.code)]
        if words[0] != "peakmem":
            done = subprocess.run(text, shell=True, cwd=self.folder, capture_output=True, text=True, check=False)
            self.code = done.returncode
            return (done.stdout + done.stderr).splitlines()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                main(words[1:])
            except SystemExit as done:
                self.code = int(done.code or 0)
        return out.getvalue().splitlines()


def plain(line: str) -> str:
    """`line` without the width of its gaps."""
    return " ".join(line.split())


def missing(shown: list[str], actual: list[str]) -> list[str]:
    """The shown lines that do not stand in `actual` in this order."""
    rest = [plain(line) for line in actual]
    lost = []
    for line in shown:
        wanted = plain(line)
        if wanted in ("", ELLIPSIS):
            continue
        if wanted in rest:
            rest = rest[rest.index(wanted) + 1 :]
        else:
            lost.append(line)
    return lost


def refreshed(shown: list[str], actual: list[str]) -> list[str]:
    """`shown` with each line replaced by the actual line it stood for, columns set anew."""
    at = 0
    picked: list[str] = []
    for line in shown:
        wanted = plain(line)
        if wanted in ("", ELLIPSIS):
            picked.append(line)
            continue
        ahead = [plain(other) for other in actual[at:]]
        if wanted in ahead:
            at += ahead.index(wanted) + 1
        else:
            scores = [_likeness(wanted, other) for other in ahead]
            if not scores or max(scores) < 0.6:
                picked.append(line)
                continue
            at += scores.index(max(scores)) + 1
        picked.append(actual[at - 1])
    return in_columns(picked)


def _likeness(one: str, other: str) -> float:
    words = difflib.SequenceMatcher(None, re.sub(r"[\d.,]+", "0", one), re.sub(r"[\d.,]+", "0", other)).ratio()
    return words + difflib.SequenceMatcher(None, one, other).ratio() / 10


NUMBER = re.compile(r"^(>= )?[\d.,]+( ([kKMGTP]i?)?B)?$|^$|^unknown$")


def _numeric(column: Sequence[str]) -> bool:
    """Whether all cells under the first are sizes and counts, and not all are empty."""
    return any(column[1:]) and all(cell == ELLIPSIS or NUMBER.match(cell) for cell in column[1:])


def in_columns(lines: list[str]) -> list[str]:
    """Neighbouring lines of tab-separated cells set in columns, numbers to the right."""
    out: list[str] = []
    run: list[list[str]] = []

    def flush() -> None:
        if run:
            columns = list(zip(*run, strict=True))
            widths = [max(map(len, column)) for column in columns]
            right = [len(run) > 1 and _numeric(column) for column in columns]
            for row in run:
                cells = (cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True))
                out.append("  ".join(cells).rstrip())
            run.clear()

    for line in lines:
        cells = line.split("\t")
        if len(cells) > 1 and (not run or len(cells) == len(run[0])):
            run.append(cells)
            continue
        if line == ELLIPSIS and run:
            run.append([ELLIPSIS, *[""] * (len(run[0]) - 1)])
            continue
        flush()
        if len(cells) > 1:
            run.append(cells)
        else:
            out.append(line)
    flush()
    return out


def check(path: Path) -> list[str]:
    """What is wrong with the shown outputs of one page, as sentences."""
    where = str(path.relative_to(ROOT))
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Path(folder))
        for step in steps(path.read_text(encoding="utf-8")):
            if isinstance(step, Python):
                fault = session.python(step, where)
                faults += [fault] if fault else []
                continue
            lost = missing(step.shown, session.run(step.text))
            faults += [f"{where}:{step.line + 1}: `{step.text}` does not print {line!r}" for line in lost]
    return faults


def refresh(path: Path) -> None:
    """Rewrite the shown outputs of one page from what its commands print now."""
    before = path.read_text(encoding="utf-8")
    lines = before.split("\n")
    changes: list[tuple[Command, list[str]]] = []
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Path(folder))
        for step in steps(before):
            if isinstance(step, Python):
                session.python(step, str(path))
            else:
                changes.append((step, refreshed(step.shown, session.run(step.text))))
    for command, shown in reversed(changes):
        lines[command.end - len(command.shown) : command.end] = shown
    text = "\n".join(lines)
    if text != before:
        path.write_text(text, encoding="utf-8")
        print(f"refreshed {path.relative_to(ROOT)}")
