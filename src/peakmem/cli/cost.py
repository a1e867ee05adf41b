"""`peakmem cost MODEL|SIZE`: what copies of a model cost to store, per dtype."""

from __future__ import annotations

import click

from peakmem.cli.arguments import parse_targets
from peakmem.cli.output import put_out
from peakmem.errors import UsageError
from peakmem.units import UNITS, Units

FORMATS = ("json", "md", "tsv")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "ignore_unknown_options": False})
@click.argument("model", metavar="MODEL|SIZE")
@click.option("--copies", default="1", show_default=True, metavar="N", help="How many copies are stored.")
@click.option("--price", metavar="TEXT", help='A price with its unit: "0.023 USD/GB-month".')
@click.option("--per", metavar="GB|GiB", help="What the price's GB means: 10^9 bytes (GB) or 2^30 (GiB).")
@click.option(
    "--dtype", "dtypes", default="fp32", show_default=True, metavar="NAME,…",
    help="At each of these; savings are against the first. A SIZE is of the first.",
)  # fmt: skip
@click.option("--format", "form", metavar="NAME", help="Count files of this format instead of parameters.")
@click.option("--months", default="12", show_default=True, metavar="N", help="Also the sum over so many months.")
@click.option("--units", type=click.Choice(UNITS), default="si", show_default=True, help="Of the size of one copy.")
@click.option("--json", "json_target", metavar="FILE", help="Write the report as JSON; - for standard output.")
@click.option("--write", "writes", multiple=True, metavar="FORMAT=FILE", help="Write a file: json, md or tsv.")
@click.option("--force", is_flag=True, help="Let --json and --write replace files that exist.")
def command(
    model: str, copies: str, price: str | None, per: str | None, dtypes: str, form: str | None, months: str,
    units: Units, json_target: str | None, writes: tuple[str, ...], force: bool,
) -> int:  # fmt: skip
    """What storing copies of MODEL costs: bytes × copies × price, monthly and yearly.

    MODEL is anything `peakmem estimate` takes, or a SIZE such as 98MB. The price is yours: no price
    is built in.
    """
    from peakmem.cli.size import listed
    from peakmem.pricing import HINT, cost
    from peakmem.render.cost import blocks

    targets = parse_targets(json_target, writes, FORMATS, force=force, source=model)
    if price is None:
        raise UsageError("no price is given, and none is built in", expected="a number and a unit", hint=HINT)
    report = cost(
        model, _number(copies, "--copies", "--copies 1000"), price, per=per, dtypes=listed(dtypes, "--dtype"),
        months=_number(months, "--months", "--months 12"), format=form,
    )  # fmt: skip
    put_out(report, blocks(report, units), targets, json_target)
    return 0


def _number(text: str, flag: str, hint: str) -> int:
    digits = text.strip().replace(",", "").replace("_", "")
    if not digits.lstrip("+-").isdecimal() or len(digits) > 40:
        raise UsageError(f"{flag} {text[:60]!r} is no whole number", expected="1 or more", hint=hint)
    return int(digits)
