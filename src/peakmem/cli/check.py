"""`peakmem check`: every budget of peakmem.toml, judged; annotations, summary and JUnit for CI."""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from peakmem.cli.arguments import check_target, once, parse_writes, write_text
from peakmem.errors import PeakmemError, UsageError
from peakmem.units import UNITS, Units

if TYPE_CHECKING:
    from peakmem.report.check import Check

FORMATS = ("text", "github", "json", "junit")
FILES = ("json", "junit", "md", "tsv")
SUMMARY = "GITHUB_STEP_SUMMARY"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("files", nargs=-1)
@click.option(
    "--config", "config", metavar="FILE",
    help="A peakmem.toml, or a pyproject.toml with [tool.peakmem]; found from this folder upwards unless told.",
)  # fmt: skip
@click.option("--only", multiple=True, metavar="NAME", help="Check this model alone; patterns such as 'small*' match.")
@click.option(
    "--update-baseline", is_flag=True,
    help="Store what is computed now as the baseline, and show what changed, instead of judging growth.",
)  # fmt: skip
@click.option(
    "--format", "form", type=click.Choice(FORMATS), metavar="NAME",
    help="What is printed: text, github (text and annotations), json, junit. Default: text; github in GitHub Actions.",
)  # fmt: skip
@click.option(
    "--write", "writes", multiple=True, metavar="FORMAT=FILE,…",
    help="Write a file: json, junit, md or tsv. A file that is there is replaced if it is a report of this command's.",
)  # fmt: skip
@click.option(
    "--summary/--no-summary", default=None,
    help="Append a summary in Markdown to the file that GITHUB_STEP_SUMMARY names. Default: in GitHub Actions.",
)  # fmt: skip
@click.option("--units", type=click.Choice(UNITS), default="iec", show_default=True, help="KiB, kB or exact bytes.")
@click.option("--force", is_flag=True, help="Let --write replace any file but what is read.")
def command(
    files: tuple[str, ...], config: str | None, only: tuple[str, ...], update_baseline: bool, form: str | None,
    writes: tuple[str, ...], summary: bool | None, units: Units, force: bool,
) -> int:  # fmt: skip
    """Check the budgets of peakmem.toml: peak, arena, weights, file size, parameters, growth, devices to fit.

    With FILES (as pre-commit gives them) only models that are made of these are checked; all of them if the
    configuration is one. Exit code 0 when every budget holds; 1 when one is broken, also where another could not be
    answered; 2 when none is broken and one could not be answered, or nothing could be checked.
    """
    in_actions = os.environ.get("GITHUB_ACTIONS") == "true"
    shown = form or ("github" if in_actions else "text")
    try:
        targets = parse_writes(tuple(one for text in writes for one in text.split(",") if one), FILES)
        once(targets)
        from peakmem.budgets.checking import read_by

        read = read_by(config) if targets else ()
        for kind, target in targets:
            _check_target(kind, target, force, read)
        step = _summary_file(summary, in_actions)
        from peakmem.budgets.checking import check

        report = check(config, only=only, files=files, update_baseline=update_baseline)
    except PeakmemError as fault:
        if shown == "github":
            from peakmem.render.annotations import fault as annotation

            place = re.match(r"(.*), line (\d+)$", fault.where)
            click.echo(annotation(str(fault), _seen(place[1]) if place else "", int(place[2]) if place else 0))
        raise
    _show(report, shown, units)
    for kind, target in targets:
        write_text(target, _text(report, kind, units))
    if step is not None:
        _append_summary(step, report, units)
    return report.exit_code


def _check_target(kind: str, target: Path, force: bool, read: Sequence[str]) -> None:
    """Refuse to replace what is read, or is no report of ours: a CI job writes the same file again and again."""
    if str(target) == "-":
        raise UsageError("--write takes a file", expected="a file name", hint=f"--format {kind}")
    ours = {"junit": b"<testsuites", "json": b'"peakmem.check/', "md": b"# budgets: ", "tsv": b"# budgets: "}[kind]
    if target.is_file() and not force:
        with target.open("rb") as file:
            begins = file.read(1 << 16)
            file.seek(max(0, target.stat().st_size - (1 << 12)))
            force = ours in begins or ours in file.read()
    check_target(target, force=force, source=read)


def _summary_file(asked: bool | None, in_actions: bool) -> Path | None:
    name = os.environ.get(SUMMARY, "")
    if asked and not name:
        raise UsageError(f"--summary, and {SUMMARY} names no file", expected="a step of GitHub Actions",
                         hint="--write md=summary.md")  # fmt: skip
    return Path(name) if name and (asked or (asked is None and in_actions)) else None


def _append_summary(path: Path, report: Check, units: Units) -> None:
    from peakmem.render.check import LARGEST_SUMMARY, summary

    try:
        there = path.stat().st_size if path.exists() else 0
        with path.open("a", encoding="utf-8") as file:
            file.write(summary(report, units, room=LARGEST_SUMMARY - there))
    except OSError as fault:
        raise UsageError(f"the summary cannot be written ({fault.strerror})", where=str(path)) from fault


def _text(report: Check, form: str, units: Units) -> str:
    if form == "json":
        return report.to_json() + "\n"
    if form == "junit":
        from peakmem.render.junit import junit

        return junit(report, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"))
    from peakmem.render.check import blocks
    from peakmem.render.text import markdown, plain

    shown = blocks(report, units)
    return markdown(shown) if form == "md" else plain(shown)


def _show(report: Check, form: str, units: Units) -> None:
    if form in ("json", "junit"):
        click.echo(_text(report, form, units), nl=False)
        return
    if form == "text" and sys.stdout.isatty():
        from peakmem.render.check import blocks
        from peakmem.render.terminal import show

        show(blocks(report, units))
        return
    if form == "text":
        click.echo(_text(report, "tsv", units), nl=False)
        return
    from peakmem.render.annotations import commands, left_out

    # Names from a model must not be taken for commands of the runner.
    token = secrets.token_hex(16)
    click.echo(f"::stop-commands::{token}")
    click.echo(_text(report, "tsv", units), nl=False)
    click.echo(f"::{token}::")
    for line in commands(report, _seen(report.file)):
        click.echo(line)
    more = left_out(report)
    if more:
        click.echo(f"{more:,} more have no annotation: GitHub shows ten of a step")


def _seen(file: str) -> str:
    """A file as GitHub names it: from the root of the repository."""
    root = os.environ.get("GITHUB_WORKSPACE", "")
    try:
        return Path(file).resolve().relative_to(Path(root).resolve() if root else Path.cwd()).as_posix()
    except ValueError:
        return file
