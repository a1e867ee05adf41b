"""`peakmem train MODEL`: what a training step needs, category by category, and whether it fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from peakmem.cli.arguments import parse_dims, parse_shapes, parse_targets
from peakmem.cli.output import put_out
from peakmem.cli.training_options import options, scenario_of
from peakmem.errors import UsageError
from peakmem.units import UNITS, Units, parse_size

if TYPE_CHECKING:
    from peakmem.devices import Device as Card
    from peakmem.training.scenario import Scenario

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
    "--symbolic", metavar="KNOB",
    help="The peak as a formula of batch, sequence or resolution, through a few traces, checked at others.",
)  # fmt: skip
@click.option("--limits", metavar="LOW..HIGH", help="With --symbolic: the values that are asked for.")
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
    conf: str, what_if: tuple[str, ...], route: str, symbolic: str | None, limits: str | None, top: int, units: Units,
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
    if symbolic is not None:
        for flag, value in {"--capacity": capacity, "--conf": conf, "--what-if": what_if}.items():
            if value:
                raise UsageError(f"{flag} is for one step, and --symbolic for many", hint="peakmem fit MODEL --train")
        return _formula(
            model, scenario, card, symbolic, limits, inputs, shapes, dims, route, units, json_target, targets
        )
    if limits is not None:
        raise UsageError("--limits is for a formula", hint="--symbolic batch --limits 1..256")
    from peakmem.rehearsal import capacity_of, train
    from peakmem.verdict import Capacity

    limit = None if card is None or capacity is not None else capacity_of(card)
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


def _formula(
    model: str, scenario: Scenario, card: Card | None, knob: str, limits: str | None, inputs: tuple[str, ...],
    shapes: tuple[str, ...], dims: tuple[str, ...], route: str, units: Units, json_target: str | None,
    targets: Sequence[tuple[str, Path]],
) -> int:  # fmt: skip
    """The peak as a formula: compute, show and write."""
    from peakmem.cli.symbolic import parse_limits
    from peakmem.fitting.training_formula import peak_of_step
    from peakmem.render.formula import blocks

    if card is not None:
        scenario = replace(scenario, capability=card.capability, multiprocessors=card.multiprocessors)
    report = peak_of_step(
        model, scenario, knob, limits=parse_limits(limits), inputs=inputs or None, shapes=parse_shapes(shapes),
        dims=parse_dims(dims), route=route,
    )  # fmt: skip
    put_out(report, blocks(report, units), targets, json_target)
    return 0 if report.pieces else 2
