"""`peakmem compare A B`: which operators added the bytes between two states of a network."""

from __future__ import annotations

import click

from peakmem.cli.arguments import parse_dims, parse_shapes, parse_targets
from peakmem.cli.output import put_out
from peakmem.units import UNITS, Units

FORMATS = ("json", "md", "tsv")
TOP = 10


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("a")
@click.argument("b")
@click.option("--batch", type=int, metavar="N", help="Value of the batch dimension of both.")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=DIMS", help="Shape of an input of both.")
@click.option("--shape-a", "shapes_a", multiple=True, metavar="NAME=DIMS", help="Shape of an input of A.")
@click.option("--shape-b", "shapes_b", multiple=True, metavar="NAME=DIMS", help="Shape of an input of B.")
@click.option("--dim", "dims", multiple=True, metavar="NAME=VALUE", help="Value of a symbolic dimension of both.")
@click.option(
    "--input", "inputs", multiple=True, metavar="[NAME=]DIMS[:DTYPE]", help="What a PyTorch module is called with."
)
@click.option("--dtype", metavar="DTYPE", help="Count floating tensors of both in this dtype.")
@click.option("--assume", default="fused", show_default=True, metavar="NAME", help="Execution assumption.")
@click.option(
    "--fail-on-growth", "growth", metavar="SIZE|SHARE",
    help="Exit with 1 when peak, weights or the file grew by more: 64KiB, '2 %'.",
)  # fmt: skip
@click.option(
    "--top", type=click.IntRange(min=1), default=TOP, show_default=True, metavar="N",
    help="List only the N operators and tensors that changed most; files get all.",
)  # fmt: skip
@click.option("--units", type=click.Choice(UNITS), default="iec", show_default=True, help="KiB, kB or exact bytes.")
@click.option("--json", "json_target", metavar="FILE", help="Write the report as JSON; - for standard output.")
@click.option("--write", "writes", multiple=True, metavar="FORMAT=FILE", help="Write a file: json, md or tsv.")
@click.option("--force", is_flag=True, help="Let --json and --write replace files that exist.")
def command(
    a: str, b: str, batch: int | None, shapes: tuple[str, ...], shapes_a: tuple[str, ...], shapes_b: tuple[str, ...],
    dims: tuple[str, ...], inputs: tuple[str, ...], dtype: str | None, assume: str, growth: str | None, top: int,
    units: Units, json_target: str | None, writes: tuple[str, ...], force: bool,
) -> int:  # fmt: skip
    """Say which operators added the bytes between A and B: at the peak, in the weights, in the file.

    A and B are anything that peakmem reads, reports that `peakmem MODEL --json` wrote, or NAME@FILE: a model of a
    baseline that `peakmem check --update-baseline` wrote. Whether two readings of one network are the same is
    `peakmem convert-check`. Exit code 0 when answered, 1 when --fail-on-growth is broken, 2 when it cannot be answered.
    """
    targets = parse_targets(json_target, writes, FORMATS, force=force, source=(a, b))
    both = parse_shapes(shapes)
    from peakmem.budgets.reports import grown_beyond, side_of
    from peakmem.budgets.sizes import read_growth
    from peakmem.growth import what_grew

    allowed = None if growth is None else read_growth(growth, "--fail-on-growth")
    report = what_grew(
        side_of(a), side_of(b), batch=batch, dims=parse_dims(dims), inputs=inputs or None, dtype=dtype, assume=assume,
        shapes=({**both, **parse_shapes(shapes_a)}, {**both, **parse_shapes(shapes_b)}),
    )  # fmt: skip
    from peakmem.render.growth import blocks

    put_out(report, blocks(report, units, top), targets, json_target, blocks(report, units) if targets else None)
    if allowed is None:
        return 0
    code, said = grown_beyond(report, allowed)
    for line in said:
        click.echo(f"peakmem: error: {line}", err=True)
    return code
