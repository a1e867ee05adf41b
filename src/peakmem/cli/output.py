"""A report on its way out: files that were asked for, then the screen."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import click

from peakmem.cli.arguments import write_text
from peakmem.render.blocks import Block


class Written(Protocol):
    """A report that can be written as JSON."""

    def to_json(self) -> str:
        """All of it as indented JSON."""
        ...


def put_out(
    report: Written, shown: Sequence[Block], targets: Sequence[tuple[str, Path]], json_target: str | None,
    whole: Sequence[Block] | None = None,
) -> None:  # fmt: skip
    """Write each target, then show the report, as JSON where `--json -` asks for it.

    Args:
        shown: what the screen gets.
        targets: (format, file) of json, md and tsv, from `parse_targets`.
        whole: what files get, where that is more.
    """
    from peakmem.render.text import markdown, plain

    kept = shown if whole is None else whole
    for form, target in targets:
        text = {"json": lambda: report.to_json() + "\n", "md": lambda: markdown(kept), "tsv": lambda: plain(kept)}
        write_text(target, text[form]())
    if json_target == "-":
        click.echo(report.to_json())
    elif sys.stdout.isatty():
        from peakmem.render.terminal import show

        show(shown)
    else:
        click.echo(plain(shown), nl=False)
