"""A repository whose model grows by 5 %, and what CI says of it: the failing check, its annotations, summary and JUnit.

    python benchmarks/ci_demo.py            make it in a temporary folder, run it, print everything
    python benchmarks/ci_demo.py --keep DIR the same in DIR, which stays

The workflow is docs/guides/peakmem.yml, its `run:` lines run as they stand but for the line that installs peakmem. The
model is a network of two convolutions whose weights are all in proportion to its width: 40 channels, then 42.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = ROOT / "docs" / "guides" / "peakmem.yml"
WIDTHS = (40, 42)
CONFIG = """\
baseline = "peakmem-baseline.json"

[model.keyword]
source = "keyword.onnx"
peak = "400 KiB"
parameters = 20_000
growth = "2 %"
"""
AUTHOR = {
    "GIT_AUTHOR_NAME": "demo", "GIT_AUTHOR_EMAIL": "demo@example.org", "GIT_COMMITTER_NAME": "demo",
    "GIT_COMMITTER_EMAIL": "demo@example.org", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull,
}  # fmt: skip


@dataclass(frozen=True)
class Ran:
    """One command and what came of it."""

    command: str
    code: int
    output: str


@dataclass(frozen=True)
class Told:
    """What the demonstration gave."""

    before: list[Ran]
    # the workflow on the first commit
    after: list[Ran]
    # the same on the second
    summary: str
    junit: str
    weights: tuple[int, int]


def write_model(path: Path, width: int) -> int:
    """A small network of `width` channels as an ONNX file; bytes of its weights."""
    from peakmem import GraphBuilder
    from peakmem.zoo.export import export_onnx

    made = GraphBuilder("keyword")
    x = made.input("features", (1, 1, 49, 40))
    x = made.relu(made.conv(x, width, kernel=3, pad=1, name="first"))
    x = made.relu(made.conv(x, 12, kernel=3, pad=1, name="second"))
    export_onnx(made.finish(x), path, force=True)
    return 4 * 9 * width * (1 + 12)


def run_steps(folder: Path, environment: dict[str, str]) -> list[Ran]:
    """The workflow's `run:` lines, in order; what installs peakmem from PyPI is left out, since it is here."""
    import yaml

    steps = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["budgets"]["steps"]
    done = []
    for command in (step["run"] for step in steps if "run" in step):
        if command.startswith("pip install "):
            continue
        ran = subprocess.run(
            ["bash", "-e", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        done.append(Ran(command, ran.returncode, ran.stdout + ran.stderr))
    return done


def environment(folder: Path, bin_: Path) -> dict[str, str]:
    """What a step of GitHub Actions sees, as far as peakmem looks at it."""
    bin_.mkdir(exist_ok=True)
    program = bin_ / "peakmem"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m peakmem "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    here = {
        "GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(folder), "GITHUB_STEP_SUMMARY": str(bin_ / "summary.md"),
        "PATH": f"{bin_}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
    }  # fmt: skip
    return {**os.environ, **AUTHOR, **here}


def demonstrate(base: Path) -> Told:
    """Make the repository under `base`, commit twice, run the workflow on both commits."""
    folder, bin_ = base / "repository", base / "bin"
    folder.mkdir()
    around = environment(folder, bin_)

    def call(*command: str) -> None:
        subprocess.run(command, cwd=folder, env=around, check=True, capture_output=True)

    def commit(message: str) -> None:
        call("git", "add", "-A")
        call("git", "commit", "-q", "-m", message)

    call("git", "init", "-q")
    (folder / "peakmem.toml").write_text(CONFIG, encoding="utf-8")
    (folder / ".gitignore").write_text("peakmem.json\npeakmem-junit.xml\n", encoding="utf-8")
    flows = folder / ".github" / "workflows"
    flows.mkdir(parents=True)
    (flows / "peakmem.yml").write_text(WORKFLOW.read_text(encoding="utf-8"), encoding="utf-8")
    small = write_model(folder / "keyword.onnx", WIDTHS[0])
    call("peakmem", "check", "--update-baseline", "--no-summary")
    commit("A keyword network and its budgets")
    before = run_steps(folder, around)
    Path(around["GITHUB_STEP_SUMMARY"]).unlink()
    # each step has a file of its own
    large = write_model(folder / "keyword.onnx", WIDTHS[1])
    commit("A wider first layer")
    after = run_steps(folder, around)
    return Told(
        before, after, Path(around["GITHUB_STEP_SUMMARY"]).read_text(encoding="utf-8"),
        (folder / "peakmem-junit.xml").read_text(encoding="utf-8"), (small, large),
    )  # fmt: skip


def told_lines(told: Told) -> list[str]:
    """What is printed of it."""
    small, large = told.weights
    out = [f"weights: {small:,} B, then {large:,} B: {large / small - 1:+.1%}", ""]
    for title, ran in (("first commit", told.before), ("second commit", told.after)):
        for one in ran:
            out += [f"== {title}: $ {one.command}", *one.output.splitlines(), f"== exit code {one.code}", ""]
    return [*out, "== summary of the step", *told.summary.splitlines(), "", "== JUnit", *told.junit.splitlines()]


def main() -> int:
    """Show the demonstration; 0 when the first check passed and the second failed with 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, metavar="DIR", help="an empty folder that stays")
    chosen = parser.parse_args().keep
    with tempfile.TemporaryDirectory() as scratch:
        base = chosen or Path(scratch)
        base.mkdir(parents=True, exist_ok=True)
        told = demonstrate(base)
    print(*told_lines(told), sep="\n")
    return 0 if [one.code for one in (*told.before, *told.after)] == [0, 1] else 1


if __name__ == "__main__":
    sys.exit(main())
