"""`peakmem check-table FILE`: the claims of a published layer table, row by row."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from peakmem.cli.arguments import parse_targets, write_text
from peakmem.errors import UsageError

FORMATS = ("csv", "json", "md", "tsv")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--convention", default="", metavar="NAME",
    help="What its memory column counts: layer_in_out_weights, layer_in_out, sum_outputs (a wrong one lists all); "
    "read from its header or its numbers unless told.",
)  # fmt: skip
@click.option("--dtype", metavar="DTYPE", help="The dtype it counts in: fp32, fp16, int8 …")
@click.option(
    "--unit", default="auto", show_default=True, metavar="UNIT",
    help="The unit of its sizes: auto (as printed), bytes, KB, KiB, MB, MiB, GB, GiB; M may be MB or MiB.",
)  # fmt: skip
@click.option("--json", "json_target", metavar="FILE", help="Write the report as JSON; - for standard output.")
@click.option(
    "--write", "writes", multiple=True, metavar="FORMAT=FILE",
    help="Write a file: csv (one line per claim), json (the report), md or tsv (all tables).",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Let --json and --write replace files that exist.")
def command(
    file: Path, convention: str, dtype: str | None, unit: str, json_target: str | None, writes: tuple[str, ...],
    force: bool,
) -> int:  # fmt: skip
    """Check the layer table in FILE (CSV, Markdown, YAML): which cells are right, which are not, and why.

    A cell is right when the recomputed value rounds to its printed digits. For the others the units,
    dtypes, conventions and slips are searched that would make them true. Exits with 0 when all
    claims are right, with 1 when some are not, with 2 when the table cannot be read.
    """
    targets = parse_targets(json_target, writes, FORMATS, force=force, source=str(file))
    from peakmem.claims import UNITS, Asked, check
    from peakmem.dtypes import parse_dtype
    from peakmem.frontends import Head
    from peakmem.frontends.table.reader import read_rows

    if unit not in UNITS:
        raise UsageError(f"no unit is called {unit!r}", expected=f"one of {', '.join(UNITS)}", hint="--unit MiB")
    if Head(file).is_folder:
        raise UsageError("this is a folder", where=str(file), expected="a layer table such as table.csv or table.md")
    asked = Asked(convention, None if dtype is None else parse_dtype(dtype), unit)
    report = check(read_rows(file), asked)
    from peakmem.render.claims import blocks, claims_csv
    from peakmem.render.text import markdown, plain

    shown = blocks(report)
    for form, target in targets:
        if form == "json":
            text = report.to_json() + "\n"
        else:
            text = claims_csv(report) if form == "csv" else markdown(shown) if form == "md" else plain(shown)
        write_text(target, text)
    if json_target == "-":
        click.echo(report.to_json())
    elif sys.stdout.isatty():
        from peakmem.render.terminal import show

        show(shown)
    else:
        click.echo(plain(shown), nl=False)
    return 1 if report.wrong or report.ambiguous else 0
