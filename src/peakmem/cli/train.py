"""`peakmem train MODEL`: what a training step needs, category by category, and whether it fits."""

from __future__ import annotations

from typing import Any

import click

from peakmem.cli.arguments import parse_dims, parse_shapes, parse_targets
from peakmem.cli.output import put_out
from peakmem.cli.training_options import options, scenario_of
from peakmem.errors import UsageError
from peakmem.units import UNITS, Units, parse_size

FORMATS = ("json", "md", "tsv")
EXIT = {"fits": 0, "does not fit": 1, "may fit": 2}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@options
@click.option(
    "--shape", "shapes", multiple=True, metavar="NAME=DIMS", help="Of a file: shape of an input, input=8x3x320x320."
)
@click.option("--dim", "dims", multiple=True, metavar="NAME=VALUE", help="Of a file: value of a symbolic dimension.")
@click.option("--capacity", metavar="SIZE", help="Does it fit in so much: 24GiB; a device that is named has its own.")
@click.option(
    "--conf", default="", metavar="KEY:VALUE,…",
    help="Settings of torch's CUDA allocator, as in PYTORCH_CUDA_ALLOC_CONF: expandable_segments:True.",
)  # fmt: skip
@click.option(
    "--what-if", "what_if", multiple=True, metavar="NAME[=VALUE],…",
    help="What another choice would give, alone and together: amp, recompute, fused, accumulate=4, lora=8, zero3=8 …",
)  # fmt: skip
@click.option(
    "--route", default="auto", show_default=True, metavar="NAME",
    help="trace runs the step on tensors without memory (needs torch), graph follows the file's graph (needs none).",
)  # fmt: skip
@click.option(
    "--top", type=click.IntRange(min=1), default=10, show_default=True, metavar="N",
    help="List only the N largest modules and tensors; files get all.",
)  # fmt: skip
@click.option("--units", type=click.Choice(UNITS), default="iec", show_default=True, help="KiB, kB or exact bytes.")
@click.option("--json", "json_target", metavar="FILE", help="Write the report as JSON; - for standard output.")
@click.option("--write", "writes", multiple=True, metavar="FORMAT=FILE", help="Write a file: json, md or tsv.")
@click.option("--force", is_flag=True, help="Let --json and --write replace files that exist.")
def command(
    model: str, inputs: tuple[str, ...], shapes: tuple[str, ...], dims: tuple[str, ...], capacity: str | None,
    conf: str, what_if: tuple[str, ...], route: str, top: int, units: Units,
    json_target: str | None, writes: tuple[str, ...], force: bool, **step: Any,
) -> int:  # fmt: skip
    """What one training step of MODEL needs: parameters, gradients, optimizer state, activations, workspaces.

    MODEL is a built-in network, a folder with a config.json, a model file, or package.module:name:
    a function that runs one step, one that gives a model with loss and batch, or a torch.nn.Module
    with --input. The step is traced on tensors without memory; no GPU is needed. Exit code 0 when
    answered, and for sure within --capacity; 1 when it does not fit; 2 when it may fit and cannot
    be told, or there is no answer.
    """
    targets = parse_targets(json_target, writes, FORMATS, force=force, source=model)
    scenario, card = scenario_of(**step)
    from peakmem.rehearsal import train
    from peakmem.verdict import Capacity

    limit = None if card is None else Capacity(card.capacity_bytes, card.capacity_said, card)
    if capacity is not None:
        size = parse_size(capacity)
        if size <= 0:
            raise UsageError("--capacity is 0", expected="the memory of a device", hint="--capacity 24GiB")
        limit = Capacity(size, "--capacity", card)
    report = train(
        model, scenario=scenario, inputs=inputs or None, shapes=parse_shapes(shapes), dims=parse_dims(dims),
        capacity=limit, conf=conf, route=route,
        what_if=[name.strip() for text in what_if for name in text.split(",") if name.strip()],
    )  # fmt: skip
    from peakmem.render.training import View, blocks

    put_out(report, blocks(report, View(units, top)), targets, json_target,
            blocks(report, View(units, None)) if targets else None)  # fmt: skip
    if report.verdict is None:
        return 0
    if report.verdict.outcome == "may fit":
        lacks = "no upper bound is known" if report.verdict.bound_bytes is None else "the upper bound does not fit"
        click.echo(f"peakmem: error: the predicted value fits, but {lacks}: see Does it fit", err=True)
    return EXIT[report.verdict.outcome]
