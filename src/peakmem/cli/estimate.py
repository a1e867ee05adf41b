"""`peakmem estimate MODEL`, which a bare `peakmem MODEL` means."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace

import click

from peakmem.cli.arguments import parse_dims, parse_options, parse_shapes, parse_targets, write_text
from peakmem.errors import UsageError
from peakmem.report.model import Estimate
from peakmem.units import UNITS, Units, parse_size

FORMATS = ("csv", "json", "md", "tsv")
TOP_ON_SCREEN = 5
OF_THE_GRAPH = tuple(
    f" --{name}" for name in ("dtype", "assume", "hold-inputs", "context", "kv-dtype", "attention", "format", "option")
)
# options that no engine has
WIDE = 160
# columns; a narrower terminal gets tables with fewer of them


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@click.option("--batch", type=int, metavar="N", help="Value of the batch dimension.")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=DIMS", help="Shape of an input: input=8x3x320x320.")
@click.option(
    "--input", "inputs", multiple=True, metavar="[NAME=]DIMS[:DTYPE]",
    help="What a PyTorch module is called with: 1x3x224x224, ids=1x128:int64.",
)  # fmt: skip
@click.option("--dim", "dims", multiple=True, metavar="NAME=VALUE", help="Value of a symbolic dimension.")
@click.option(
    "--dtype",
    metavar="DTYPE",
    help="Count floating tensors in this dtype: fp16, bf16, fp8, int8, int4 … (a wrong one lists all).",
)
@click.option(
    "--assume", default="fused", show_default=True, metavar="NAME",
    help="Execution assumption: naive, eager, inplace, fused, fused_add.",
)  # fmt: skip
@click.option("--hold-inputs", is_flag=True, help="Keep the inputs alive to the end, as a caller does who owns them.")
@click.option("--context", type=int, metavar="N", help="Language models: tokens the key-value cache has room for.")
@click.option("--kv-dtype", metavar="DTYPE", help="Language models: dtype of the key-value cache.")
@click.option("--attention", metavar="KIND", help="Language models: fused, or eager with the score matrix.")
@click.option("--format", "form", metavar="NAME", default="", help="Read MODEL as this format (peakmem formats).")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="An option of the format's reader.")
@click.option("--layers", is_flag=True, help="Show the layer table.")
@click.option(
    "--convention", default="layer_in_out_weights", show_default=True, metavar="NAME",
    help="What bytes mean in the layer table: layer_in_out_weights, layer_in_out, sum_outputs (a wrong one lists all).",
)  # fmt: skip
@click.option("--conventions", is_flag=True, help="Show every named definition of memory side by side.")
@click.option(
    "--depth", type=click.IntRange(min=1), metavar="N",
    help="Fold the layer table by module path, N parts deep; sums of what is inside.",
)  # fmt: skip
@click.option("--tensors", is_flag=True, help="Show every stored tensor.")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    metavar="N",
    help="List only the N largest tensors and layers; a terminal shows 5 tensors unless told.",
)
@click.option("--units", type=click.Choice(UNITS), default="iec", show_default=True, help="KiB, kB or exact bytes.")
@click.option(
    "--budget",
    metavar="SIZE",
    help="Exit with 1 when weights + live peak need more, with 2 when that cannot be told: 320KiB, 1MB.",
)
@click.option(
    "--engine", "engines", multiple=True, metavar="NAME,…",
    help="What these engines will hold, category by category; all compares them (peakmem engines).",
)  # fmt: skip
@click.option(
    "--set", "settings", multiple=True, metavar="[ENGINE.]NAME=VALUE,…", help="With --engine: a setting of it."
)
@click.option(
    "--within", metavar="SIZE",
    help="With --engine: which engines and options hold it in so much; with --symbolic: the largest value that does. "
    "Exit with 1 when none does.",
)  # fmt: skip
@click.option(
    "--symbolic", metavar="SIZE",
    help="The peak as a formula of batch, resolution, context, a dimension by name or an axis (input.2).",
)  # fmt: skip
@click.option("--limits", metavar="LOW..HIGH", help="With --symbolic: only these values.")
@click.option("--every-residue", is_flag=True, help="With --symbolic: for every remainder that strides tell apart.")
@click.option(
    "--multiple-of", type=click.IntRange(min=1), metavar="N", help="With --symbolic --within: multiples of N."
)
@click.option("--live", is_flag=True, help="With --symbolic --within: weights lie elsewhere, only activations count.")
@click.option(
    "--processor",
    metavar="NAME=VALUE,…",
    help="With --engine: what it will see, not this machine: arch=aarch64,l2=512KiB,cores=4,features=asimd+fphp.",
)
@click.option("--json", "json_target", metavar="FILE", help="Write the report as JSON; - for standard output.")
@click.option(
    "--write",
    "writes",
    multiple=True,
    metavar="FORMAT=FILE",
    help="Write a file: csv (one line per layer, or per stored tensor), json (the report), md or tsv (all tables).",
)
@click.option("--force", is_flag=True, help="Let --json and --write replace files that exist.")
def command(
    model: str, batch: int | None, shapes: tuple[str, ...], dims: tuple[str, ...], dtype: str | None, assume: str,
    hold_inputs: bool, layers: bool, convention: str, conventions: bool, top: int | None, units: Units,
    budget: str | None, json_target: str | None, writes: tuple[str, ...], force: bool, inputs: tuple[str, ...],
    context: int | None, kv_dtype: str | None, attention: str | None, form: str, options: tuple[str, ...],
    tensors: bool, depth: int | None, engines: tuple[str, ...], settings: tuple[str, ...], within: str | None,
    processor: str | None, symbolic: str | None, limits: str | None, every_residue: bool, multiple_of: int | None,
    live: bool,
) -> int:  # fmt: skip
    """How much memory MODEL needs for one forward pass: parameters, live peak, layers, conventions.

    MODEL is a model file of any format that peakmem formats lists, a folder with a config.json, a
    built-in network such as mobilenet_v1 or mobilenet_v2:width=0.5, or a PyTorch or Keras model as
    package.module:factory.
    """
    targets = parse_targets(json_target, writes, FORMATS, force=force, source=model)
    if symbolic is not None:
        other = {
            "--engine": engines, "--set": settings, "--processor": processor, "--layers": layers, "--depth": depth,
            "--conventions": conventions, "--tensors": tensors, "--top": top, "--budget": budget,
        }  # fmt: skip
        for flag, value in other.items():
            if value:
                hint = "--within SIZE" if flag == "--budget" else f"without {flag}, or without --symbolic"
                raise UsageError(f"{flag} is for one size, and --symbolic asks for all of them", hint=hint)
        from peakmem.cli.symbolic import show_symbolic

        return show_symbolic(
            model, symbolic, limits, within, multiple_of, live=live, every_residue=every_residue, units=units,
            json_target=json_target, targets=targets, batch=batch, shapes=parse_shapes(shapes), dims=parse_dims(dims),
            dtype=dtype, assume=assume, hold_inputs=hold_inputs, inputs=inputs, form=form,
            options=parse_options(options, context=context, kv_dtype=kv_dtype, attention=attention),
        )  # fmt: skip
    for flag, value in {
        "--limits": limits, "--every-residue": every_residue, "--multiple-of": multiple_of, "--live": live,
    }.items():  # fmt: skip
        if value:
            raise UsageError(f"{flag} is for formulas", hint=f"--symbolic batch {flag} …")
    if engines:
        graph_alone = {
            "--dtype": dtype, "--assume": assume != "fused", "--hold-inputs": hold_inputs, "--context": context,
            "--kv-dtype": kv_dtype, "--attention": attention, "--format": form, "--option": options,
            "--layers": layers, "--conventions": conventions, "--tensors": tensors, "--depth": depth,
            "--budget": budget, "--top": top,
        }  # fmt: skip
        for flag, value in graph_alone.items():
            if value:
                hint = "--within SIZE" if flag == "--budget" else "--set NAME=VALUE, or leave out --engine"
                raise UsageError(f"{flag} is for the estimate of the graph, not of an engine", hint=hint)
        from peakmem.cli.engine_estimate import show_engines

        return show_engines(
            model, engines, settings, within, processor, batch, parse_shapes(shapes), parse_dims(dims), inputs, units,
            json_target, targets,
        )  # fmt: skip
    for flag, value in {"--set": settings, "--within": within, "--processor": processor}.items():
        if value:
            hint = f"--engine all {flag} …" + (" or --symbolic batch --within …" if flag == "--within" else "")
            raise UsageError(f"{flag} is for engines", hint=hint)
    from peakmem.pipeline import estimate

    report = estimate(
        model, batch=batch, shapes=parse_shapes(shapes), dims=parse_dims(dims), dtype=dtype, assume=assume,
        convention=convention, hold_inputs=hold_inputs, budget=None if budget is None else parse_size(budget),
        inputs=inputs or None, form=form, tensors=tensors,
        options=parse_options(options, context=context, kv_dtype=kv_dtype, attention=attention),
    )  # fmt: skip
    from peakmem.render.tables import View, blocks

    on_terminal = sys.stdout.isatty()
    shown_top = top if top is not None or not on_terminal else TOP_ON_SCREEN
    # On a terminal the tensors are cut to a handful; the layer table is cut only when asked to.
    said = _said(
        model,
        {
            "--batch": batch, "--shape": shapes, "--input": inputs, "--dim": dims, "--dtype": dtype,
            "--assume": None if assume == "fused" else assume, "--hold-inputs": hold_inputs, "--context": context,
            "--kv-dtype": kv_dtype, "--attention": attention, "--format": form, "--option": options,
        },
    )  # fmt: skip
    narrow = on_terminal and shutil.get_terminal_size().columns < WIDE
    next_commands = _next_commands(report, said, layers, conventions)
    view = View(units, layers or depth is not None, conventions, top, next_commands, tensors, depth, narrow)
    shown = blocks(report, view)
    for form, target in targets:
        write_text(target, _text(report, form, view))
    if json_target == "-":
        click.echo(report.to_json())
    elif on_terminal:
        from peakmem.render.tables import alive
        from peakmem.render.terminal import show

        if report.peak.activations_known:
            shown[2] = alive(report, replace(view, top=shown_top))
        show(shown)
    else:
        from peakmem.render.text import plain

        click.echo(plain(shown), nl=False)
    if report.budget is None:
        return 0
    if report.budget.fits and report.kind == "lower bound":
        click.echo("peakmem: error: what is known fits the budget, but sizes are unknown: see Unknown", err=True)
        return 2
    return 0 if report.budget.fits else 1


def _text(report: Estimate, form: str, view: object) -> str:
    from peakmem.render import text
    from peakmem.render.tables import View, blocks

    assert isinstance(view, View)
    if form == "json":
        return report.to_json() + "\n"
    if form == "csv":
        return text.layers_csv(report) if report.peak.activations_known else text.tensors_csv(report)
    whole = blocks(report, View(view.units, layers=True, conventions=True, tensors=bool(report.tensors)))
    return text.markdown(whole) if form == "md" else text.plain(whole)


def _said(model: str, flags: Mapping[str, object]) -> str:
    """The part of the command that decides the numbers, ready to be typed again."""
    words = [model]
    for flag, value in flags.items():
        if value is True:
            words.append(flag)
        elif isinstance(value, tuple):
            words += [word for item in value for word in (flag, str(item))]
        elif value not in (None, False, ""):
            words += [flag, str(value)]
    return shlex.join(words)


def _next_commands(report: Estimate, name: str, layers: bool, conventions: bool) -> tuple[str, ...]:
    """What to try next: first what would settle an unknown, then another view."""
    commands = []
    hints = list(dict.fromkeys(item.hint for item in report.unknowns if item.hint.startswith("--")))
    if hints:
        commands.append(f"peakmem {name} {' '.join(hints[:3])}    # settles what is unknown")
    if not report.peak.activations_known:
        return (*commands, f"peakmem {name} --tensors    # every stored tensor")
    if not layers:
        commands.append(f"peakmem {name} --layers    # where the bytes are, layer by layer")
    if not conventions:
        commands.append(f"peakmem {name} --conventions    # which definition a published number uses")
    if not any(flag in name for flag in OF_THE_GRAPH):
        commands.append(f"peakmem {name} --engine all    # what real engines will hold")
    floating = any(share.dtype.startswith(("float", "bfloat")) for share in report.dtypes)
    if report.dtype == "as stored" and (floating or any("float" in port.dtype for port in report.inputs)):
        commands.append(f"peakmem {name} --dtype int8    # the same network in another dtype")
    return tuple(commands)
