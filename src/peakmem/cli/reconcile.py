"""`peakmem reconcile MODEL --engine NAME`: prediction and measurement side by side, each byte by name."""

from __future__ import annotations

from pathlib import Path

import click

from peakmem.cli.arguments import parse_dims, parse_shapes, parse_targets
from peakmem.cli.measure import Progress, terminable
from peakmem.cli.output import put_out
from peakmem.units import UNITS, Units, parse_size

FORMATS = ("json", "md", "tsv")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@click.option("--engine", required=True, metavar="NAME", help="One engine (peakmem engines).")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting: lightmode=off.")
@click.option("--repeat", type=click.IntRange(1, 1000), default=3, show_default=True, help="Plain processes.")
@click.option("--runs", type=click.IntRange(3, 10000), default=3, show_default=True, help="Inferences a process.")
@click.option("--batch", type=int, metavar="N", help="Value of the batch dimension.")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=DIMS", help="Shape of an input: input=8x3x320x320.")
@click.option("--dim", "dims", multiple=True, metavar="NAME=VALUE", help="Value of a symbolic dimension.")
@click.option(
    "--input", "inputs", multiple=True, metavar="[NAME=]DIMS[:DTYPE]", help="What a live module is called with."
)
@click.option(
    "--feed", multiple=True, metavar="[NAME=]FILE", help="Your own inputs: a .npy, a .npz or a folder of .npy."
)
@click.option("--timeout", type=click.FloatRange(min=0.1), default=600.0, show_default=True, help="Seconds a process.")
@click.option("--memory-limit", metavar="SIZE", help="Private writable memory a process may have: 512MiB.")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder of converted models.")
@click.option(
    "--unexplained", metavar="PERCENT", type=click.FloatRange(0, 100),
    help="Exit with 1 when more of the anonymous memory has no explanation.",
)  # fmt: skip
@click.option("--units", type=click.Choice(UNITS), default="iec", show_default=True, help="KiB, kB or exact bytes.")
@click.option("--json", "json_target", metavar="FILE", help="Write everything as JSON; - for standard output.")
@click.option("--write", "writes", multiple=True, metavar="FORMAT=FILE", help="Write a file: json, md or tsv.")
@click.option("--force", is_flag=True, help="Let --json and --write replace files that exist.")
def command(
    model: str, engine: str, settings: tuple[str, ...], repeat: int, runs: int, batch: int | None,
    shapes: tuple[str, ...], dims: tuple[str, ...], inputs: tuple[str, ...], feed: tuple[str, ...], timeout: float,
    memory_limit: str | None, cache: Path | None, unexplained: float | None, units: Units, json_target: str | None,
    writes: tuple[str, ...], force: bool,
) -> int:  # fmt: skip
    """Predict MODEL on an engine, run it there, and account for every byte between the two.

    The waterfall goes from the parameters over what the engine holds to the resident set and the
    address space of the process; what is left over is named, with its sign. Exit code 0 when it was
    measured, 1 when more than --unexplained has no explanation, 2 when it was not measured.
    """
    targets = parse_targets(json_target, writes, FORMATS, force=force, source=model)
    from peakmem.reconciliation import reconcile

    with Progress() as progress, terminable():
        report = reconcile(
            model, engine=engine, settings=settings, repeat=repeat, runs=runs, batch=batch,
            shapes=parse_shapes(shapes), dims=parse_dims(dims), inputs=inputs, feed=feed or None, timeout=timeout,
            memory_limit=parse_size(memory_limit) if memory_limit else 0, cache=cache, progress=progress.tell,
        )  # fmt: skip
    from peakmem.render.reconciliation import View, blocks

    shown = blocks(report, View(units))
    put_out(report, shown, targets, json_target)
    if report.status == "interrupted":
        return 130
    if report.status != "ok" or report.account is None:
        return 2
    return 1 if unexplained is not None and (1 - report.explained) * 100 > unexplained else 0
