"""`peakmem check-claims [FILE…]`: published claims, recomputed one by one."""

from __future__ import annotations

from pathlib import Path

import click

from peakmem.cli.arguments import parse_targets
from peakmem.cli.output import put_out
from peakmem.errors import UsageError
from peakmem.units import UNITS

FORMATS = ("json", "md", "tsv")
VERDICTS = ("right", "wrong", "ambiguous", "practice", "not-computed")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@click.option("--only", multiple=True, metavar="ID,…", help="Check these alone; a pattern such as 'S3-*' is one.")
@click.option(
    "--verdict", "verdicts", multiple=True, metavar="NAME,…",
    help=f"Show those with this verdict alone: {', '.join(VERDICTS)}.",
)  # fmt: skip
@click.option(
    "--units", type=click.Choice(UNITS), default=None,
    help="Sizes in KiB (iec), kB (si) or exact bytes; in both units without it.",
)  # fmt: skip
@click.option("--json", "json_target", metavar="FILE", help="Write the report as JSON; - for standard output.")
@click.option("--write", "writes", multiple=True, metavar="FORMAT=FILE", help="Write a file: json, md or tsv.")
@click.option("--force", is_flag=True, help="Let --json and --write replace files that exist.")
def command(
    files: tuple[Path, ...], only: tuple[str, ...], verdicts: tuple[str, ...], units: str | None,
    json_target: str | None, writes: tuple[str, ...], force: bool,
) -> int:  # fmt: skip
    """Recompute the claims in FILEs (YAML): which are right, which are not, and what would make them so.

    Without a FILE the 285 statements of the five texts are checked that this project started from; some of them are
    wrong, so that this exits with 1. Exits with 0 when all claims that can be computed are right, with 1 when one is
    wrong or ambiguous, with 2 when a claim cannot be read or computed as it is written, or a library is missing for it.
    """
    shown_verdicts = _split(verdicts)
    for name in shown_verdicts:
        if name not in VERDICTS:
            from difflib import get_close_matches

            near = get_close_matches(name, VERDICTS, n=1, cutoff=0.4)
            raise UsageError(
                f"no verdict is called {name[:40]!r}", expected=f"one of {', '.join(VERDICTS)}",
                hint=f"--verdict {near[0]}" if near else "",
            )  # fmt: skip
    targets = parse_targets(json_target, writes, FORMATS, force=force, source=[str(one) for one in files])
    from peakmem.ledger import check_claims
    from peakmem.render.ledger import blocks

    report = check_claims(files, only=_split(only), units=units)  # type: ignore[arg-type]
    wanted = {name.replace("-", " ") for name in shown_verdicts}
    shown = blocks(report, [one for one in report.statements if not wanted or one.verdict in wanted])
    put_out(report, shown, targets, json_target)
    if not report.holds:
        return 1
    return 2 if report.not_computed else 0


def _split(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part.strip() for text in texts for part in text.split(",") if part.strip())
