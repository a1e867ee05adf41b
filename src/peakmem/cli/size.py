"""`peakmem size MODEL`: how large the model file would be, by format and dtype."""

from __future__ import annotations

import click

from peakmem.cli.arguments import parse_dims, parse_options, parse_shapes, parse_targets
from peakmem.cli.output import put_out
from peakmem.errors import UsageError
from peakmem.units import UNITS, Units

FORMATS = ("json", "md", "tsv")


def listed(text: str, flag: str) -> tuple[str, ...]:
    """The names of a list with commas.

    Raises:
        UsageError: an empty list, an empty place in it, or a name twice.
    """
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise UsageError(f"{flag} {text!r} has an empty place", expected="names with commas between them")
    if len(set(names)) < len(names):
        raise UsageError(f"{flag} {text!r} names one twice")
    return names


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@click.option(
    "--format", "formats", default="onnx,ncnn,tflite,safetensors", show_default=True, metavar="NAME,…",
    help="onnx, ncnn, tflite, safetensors, pt, gguf.",
)  # fmt: skip
@click.option("--dtype", "dtypes", metavar="NAME,…", help="What floating weights are stored as: fp32,fp16,int8,int4.")
@click.option(
    "--fold/--no-fold", "fold", default=None,
    help="Batch norms inside the convolutions in front of them, or as they are. Default: as the format's writer does.",
)  # fmt: skip
@click.option(
    "--scheme", type=click.Choice(("static", "dynamic", "weights")), default=None,
    help="How int8 comes about: weights and what flows between operators (static), or weights alone.",
)  # fmt: skip
@click.option("--batch", type=click.IntRange(min=1), metavar="N", help="Size of the first dimension of the inputs.")
@click.option("--input", "inputs", multiple=True, metavar="SHAPE", help="For live models: shape of an input.")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=DIMS", help="Whole shape of an input.")
@click.option("--dim", "dims", multiple=True, metavar="NAME=VALUE", help="Value of a symbolic dimension.")
@click.option("--from", "form", default="", metavar="FORMAT", help="Read the file as this format.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="What the reader takes.")
@click.option("--units", type=click.Choice(UNITS), default="iec", show_default=True, help="KiB, kB or exact bytes.")
@click.option("--json", "json_target", metavar="FILE", help="Write the report as JSON; - for standard output.")
@click.option("--write", "writes", multiple=True, metavar="FORMAT=FILE", help="Write a file: json, md or tsv.")
@click.option("--force", is_flag=True, help="Let --json and --write replace files that exist.")
def command(
    model: str, formats: str, dtypes: str | None, fold: bool | None, scheme: str | None, batch: int | None,
    inputs: tuple[str, ...], shapes: tuple[str, ...], dims: tuple[str, ...], form: str, options: tuple[str, ...],
    units: Units, json_target: str | None, writes: tuple[str, ...], force: bool,
) -> int:  # fmt: skip
    """How large the file of MODEL would be in each format and dtype, from its graph alone.

    Contents of tensors are exact. What stands around them is exact where the writer is known (kind
    "exact"); else it is an estimate between bounds, as names and the writer's choices move it.
    """
    targets = parse_targets(json_target, writes, FORMATS, force=force, source=model)
    from peakmem.filesize.predict import file_sizes
    from peakmem.render.file_size import blocks

    report = file_sizes(
        model, listed(formats, "--format"), listed(dtypes, "--dtype") if dtypes is not None else (None,), (fold,),
        scheme=scheme or "", batch=batch, shapes=parse_shapes(shapes), dims=parse_dims(dims), inputs=inputs or None,
        form=form, options=parse_options(options),
    )  # fmt: skip
    put_out(report, blocks(report, units), targets, json_target)
    return 0
