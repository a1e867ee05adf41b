"""`peakmem verify-train MODEL`: run a training step for real and hold the prediction against it."""

from __future__ import annotations

from typing import Any

import click

from peakmem.cli.arguments import parse_targets
from peakmem.cli.measure import Progress, terminable
from peakmem.cli.output import put_out
from peakmem.cli.training_options import options, scenario_of
from peakmem.errors import UsageError
from peakmem.units import UNITS, Units

FORMATS = ("json", "md", "tsv")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@options
@click.option("--no-process", is_flag=True, help="Leave out the second, clean process.")
@click.option(
    "--timeout", type=click.FloatRange(min=0.1), default=1800.0, show_default=True, help="Seconds of the run."
)
@click.option(
    "--within", metavar="PERCENT", type=click.FloatRange(0, 100),
    help="Exit with 1 when the prediction is further off.",
)  # fmt: skip
@click.option("--units", type=click.Choice(UNITS), default="iec", show_default=True, help="KiB, kB or exact bytes.")
@click.option("--json", "json_target", metavar="FILE", help="Write everything as JSON; - for standard output.")
@click.option("--write", "writes", multiple=True, metavar="FORMAT=FILE", help="Write a file: json, md or tsv.")
@click.option("--force", is_flag=True, help="Let --json and --write replace files that exist.")
def command(
    model: str, inputs: tuple[str, ...], no_process: bool, timeout: float, within: float | None, units: Units,
    json_target: str | None, writes: tuple[str, ...], force: bool, **step: Any,
) -> int:  # fmt: skip
    """Predict a training step of MODEL, run it here for real, and say where the two part.

    On the processor the run is watched by torch's profiler, which is started before the model
    exists; on a GPU, where one is, by the allocator's own history. MODEL's code is executed and its
    memory is really taken: choose a batch that fits. Exit code 0 when it was run, 1 when the
    prediction is further off than --within, 2 when it could not be predicted or run.
    """
    targets = parse_targets(json_target, writes, FORMATS, force=force, source=model)
    scenario, card = scenario_of(**step)
    if card is not None:
        raise UsageError(
            f"a step can only be run on a device that is here, and {card.title} is a name", where="--device",
            expected="cpu or cuda", hint=f"peakmem train {model} --device {card.name} for the prediction alone",
        )  # fmt: skip
    from peakmem.verification import verify_train

    with Progress() as progress, terminable():
        report = verify_train(
            model, scenario=scenario, inputs=inputs, process=not no_process, timeout=timeout, progress=progress.tell
        )
    from peakmem.render.training_check import View, blocks

    put_out(report, blocks(report, View(units)), targets, json_target)
    return 1 if within is not None and abs(report.error) * 100 > within else 0
