"""`peakmem fit MODEL --device NAME`: does it fit, how far could it grow, and what would make it fit."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from peakmem.cli.arguments import parse_dims, parse_options, parse_shapes, parse_targets
from peakmem.cli.output import put_out
from peakmem.cli.training_options import options as training_options
from peakmem.cli.training_options import scenario_of
from peakmem.errors import UsageError
from peakmem.units import UNITS, Units

FORMATS = ("json", "md", "tsv")
EXIT = {"fits": 0, "does not fit": 1, "may fit": 2, "cannot tell": 2}
SHARED = ("batch", "inputs", "device", "device_files")
# options of a training step that an inference has, too
INFERENCE = (
    "storage", "runtime", "weights_in_flash", "devices", "file", "dtype", "weights_dtype", "assume", "form", "options",
    "context", "kv_dtype", "attention", "engine", "settings", "processor", "changes",
)  # fmt: skip
TRAINING = ("conf", "route", "choices")
INSTEAD = {
    "resolution": "mobilenet_v2:resolution=96, or --shape input=1x3x96x96 for a file",
    "sequence": "gpt2_small:context=256, or --dim NAME=VALUE for a file",
    "precision": "--dtype float16", "dtype": "--precision float16", "assume": "without --assume",
    "changes": "--try all", "devices": "--try all",
}  # fmt: skip
# what to type where an option belongs to the other question


def _in_order(command: click.Command) -> click.Command:
    """The command with one --device: what a step runs on and what it has to fit are one thing here."""
    own = [one for one in command.params if one.name in ("model", "device", "device_files")]
    seen: set[str] = set()
    kept = []
    for one in command.params:
        name = one.name or ""
        if name in ("device", "device_files"):
            one = next(other for other in reversed(own) if other.name == name)
        if name not in seen:
            kept.append(one)
            seen.add(name)
    command.params = kept
    return command


@_in_order
@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@training_options
@click.option("--device", default="", metavar="NAME|SIZE", help="A name of peakmem devices, or so much RAM: 24GiB.")
@click.option("--device-file", "device_files", multiple=True, metavar="FILE", help="Devices of your own, as TOML.")
@click.option("--ram", metavar="SIZE", help="RAM, or memory of the graphics card, instead of the device's own.")
@click.option("--storage", metavar="SIZE", help="Flash or disk for the model file, instead of the device's own.")
@click.option("--reserve", default="0", metavar="SIZE", help="RAM that something else takes.")
@click.option("--runtime", default="0", metavar="SIZE", help="Storage that something else takes: the program.")
@click.option(
    "--weights-in-flash/--weights-in-ram", "weights_in_flash", default=None,
    help="Whether RAM holds the arena alone. Default: as the device has it.",
)  # fmt: skip
@click.option("--devices", type=int, default=1, metavar="N", help="Split the weights evenly over N of them.")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=DIMS", help="Shape of an input: input=8x3x320x320.")
@click.option("--dim", "dims", multiple=True, metavar="NAME=VALUE", help="Value of a symbolic dimension.")
@click.option("--dtype", metavar="DTYPE", default="", help="Count floating tensors in this dtype: fp16, int8 …")
@click.option(
    "--weights-dtype", metavar="DTYPE", default="", help="Count the stored weights alone in this dtype: int8, int4 …"
)
@click.option("--assume", default="fused", show_default=True, metavar="NAME", help="Execution assumption.")
@click.option("--context", type=int, metavar="N", help="Language models: tokens the key-value cache has room for.")
@click.option("--kv-dtype", metavar="DTYPE", help="Language models: dtype of the key-value cache.")
@click.option("--attention", metavar="KIND", help="Language models: fused, or eager with the score matrix.")
@click.option("--format", "form", metavar="NAME", default="", help="Read MODEL as this format (peakmem formats).")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="An option of the format's reader.")
@click.option(
    "--file", "file", default="", metavar="FORMAT",
    help="The model file on the device: onnx, ncnn, tflite, safetensors, pt, gguf; weights for the weights alone.",
)  # fmt: skip
@click.option("--engine", default="", metavar="NAME", help="What this engine will hold, instead of the graph alone.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="With --engine: a setting of it.")
@click.option("--processor", metavar="NAME=VALUE,…", help="With --engine: what it will see: arch=aarch64,cores=4.")
@click.option("--train", is_flag=True, help="A training step instead of inference, with the options of peakmem train.")
@click.option("--conf", default="", metavar="KEY:VALUE,…", help="With --train: settings of torch's CUDA allocator.")
@click.option("--route", default="auto", metavar="NAME", help="With --train: trace or graph.")
@click.option(
    "--with", "choices", multiple=True, metavar="NAME[=VALUE]+…",
    help="With --train: the step with these what-ifs made: amp, recompute+batch=32, fsdp=8 … (peakmem train).",
)  # fmt: skip
@click.option(
    "--change", "changes", multiple=True, metavar="NAME[=VALUE],…",
    help="Try these alone and together: dtype=int8, weights=int4, assume=inplace, resolution=96, batch=1, devices=2 …",
)  # fmt: skip
@click.option(
    "--grow", "grow", multiple=True, metavar="NAME,…",
    help="Look for the largest of these alone: batch, resolution, width, context, sequence; none for nothing.",
)  # fmt: skip
@click.option(
    "--try", "search", type=click.Choice(("needed", "all", "none")), default="needed", show_default=True,
    help="Look for the cheapest changes that make it fit: when it does not, in any case, never.",
)  # fmt: skip
@click.option(
    "--try-for", type=click.FloatRange(min=0), default=120.0, show_default=True, metavar="SECONDS",
    help="With --engine: ask it nothing more after so long; models may have to be converted.",
)  # fmt: skip
@click.option("--units", type=click.Choice(UNITS), default="iec", show_default=True, help="KiB, kB or exact bytes.")
@click.option("--json", "json_target", metavar="FILE", help="Write the report as JSON; - for standard output.")
@click.option("--write", "writes", multiple=True, metavar="FORMAT=FILE", help="Write a file: json, md or tsv.")
@click.option("--force", is_flag=True, help="Let --json and --write replace files that exist.")
def command(
    model: str, device: str, device_files: tuple[str, ...], ram: str | None, storage: str | None,
    reserve: str, runtime: str, weights_in_flash: bool | None, devices: int, shapes: tuple[str, ...],
    dims: tuple[str, ...], dtype: str, weights_dtype: str, assume: str, context: int | None, kv_dtype: str | None,
    attention: str | None, form: str, options: tuple[str, ...], file: str, engine: str, settings: tuple[str, ...],
    processor: str | None, train: bool, conf: str, route: str, choices: tuple[str, ...],
    changes: tuple[str, ...], grow: tuple[str, ...],
    search: Any, try_for: float, units: Units, json_target: str | None, writes: tuple[str, ...], force: bool,
    batch: int | None, inputs: tuple[str, ...], **step: Any,
) -> int:  # fmt: skip
    """Whether MODEL fits a device: what each memory has to hold, how far it could grow, what would make it fit.

    MODEL is what `peakmem estimate` takes; with --train what `peakmem train` takes. A microcontroller
    keeps weights in flash and an arena in RAM; elsewhere RAM holds both, and storage the model file.
    Exit code 0 when it fits for sure; 1 when it does not; 2 when it may fit and cannot be told: no
    bound is known or it does not fit, or something has no size.
    """
    _belongs(click.get_current_context(), train, tuple(step))
    if try_for != try_for:
        raise UsageError("--try-for is not a number", expected="seconds", hint="--try-for 120")
    targets = parse_targets(json_target, writes, FORMATS, force=force, source=model)
    from peakmem.fitting.fit import fit

    scenario = None
    if train:
        scenario, _ = scenario_of(device="cuda", device_files=(), batch=batch, **step)
    if processor is not None and not engine:
        raise UsageError("--processor is for engines", hint="--engine NAME --processor …")
    chip = None
    if processor is not None:
        from peakmem.processors import parse_processor

        chip = parse_processor(processor)
    report = fit(
        model, device, ram=ram, storage=storage, reserve=reserve, runtime=runtime, weights_in_flash=weights_in_flash,
        engine=engine, settings=settings, train=scenario, batch=batch, shapes=parse_shapes(shapes),
        dims=parse_dims(dims), inputs=inputs, dtype=dtype, weights_dtype=weights_dtype, assume=assume, form=form,
        options=parse_options(options, context=context, kv_dtype=kv_dtype, attention=attention), devices=devices,
        file=file, change=[name for text in changes for name in text.split(",") if name.strip()], search=search,
        processor=chip, processor_said=processor or "", device_files=device_files, conf=conf, route=route,
        choices=[name.strip() for text in choices for name in text.split(",") if name.strip()], try_for=try_for,
        grow=_names(grow),
    )  # fmt: skip
    from peakmem.render.fit import blocks

    put_out(report, blocks(report, units), targets, json_target)
    if EXIT[report.outcome] == 2:
        reasons = [part.reason for part in report.parts if part.outcome == report.outcome and part.reason]
        said = reasons[0] if reasons else "see Parts"
        click.echo(f"peakmem: error: {report.outcome}: {said}", err=True)
    return EXIT[report.outcome]


def _names(grow: tuple[str, ...]) -> tuple[str, ...] | None:
    """`batch,width` → ("batch", "width"); `none` → (); None where nothing is said."""
    if not grow:
        return None
    return tuple(name.strip() for text in grow for name in text.split(",") if name.strip() not in ("", "none"))


def _belongs(ctx: click.Context, train: bool, step: tuple[str, ...]) -> None:
    """Refuse options of the question that is not asked.

    Raises:
        UsageError: the first of them, with what to type instead.
    """
    others = INFERENCE if train else (*step, *TRAINING)
    for one in ctx.command.params:
        name = one.name or ""
        if name in others and name not in SHARED and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            flag = one.opts[0]
            if train:
                raise UsageError(f"{flag} is for inference", hint=INSTEAD.get(name, "without --train"))
            raise UsageError(f"{flag} is for a training step", hint=INSTEAD.get(name, f"--train {flag} …"))
