"""`peakmem convert-check A B`: two readings of one network, tensor by tensor."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from peakmem.cli.arguments import check_target, parse_dims, parse_shapes, write_text


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("a")
@click.argument("b")
@click.option("--batch", type=int, metavar="N", help="Value of the batch dimension of both.")
@click.option("--shape-a", "shapes_a", multiple=True, metavar="NAME=DIMS", help="Shape of an input of A.")
@click.option("--shape-b", "shapes_b", multiple=True, metavar="NAME=DIMS", help="Shape of an input of B.")
@click.option("--dim", "dims", multiple=True, metavar="NAME=VALUE", help="Value of a symbolic dimension of both.")
@click.option(
    "--input", "inputs", multiple=True, metavar="[NAME=]DIMS[:DTYPE]", help="What a PyTorch module is called with."
)
@click.option("--dtype", metavar="DTYPE", help="Count floating tensors of both in this dtype.")
@click.option("--assume", default="fused", show_default=True, metavar="NAME", help="Execution assumption.")
@click.option("--all", "every", is_flag=True, help="List the tensors that are the same, too.")
@click.option("--json", "json_target", metavar="FILE", help="Write the comparison as JSON; - for standard output.")
@click.option("--force", is_flag=True, help="Let --json replace a file that exists.")
def command(
    a: str, b: str, batch: int | None, shapes_a: tuple[str, ...], shapes_b: tuple[str, ...], dims: tuple[str, ...],
    inputs: tuple[str, ...], dtype: str | None, assume: str, every: bool, json_target: str | None, force: bool,
) -> int:  # fmt: skip
    """Compare two readings of one network: parameters, stored tensors, activations, live peaks.

    A and B are anything that peakmem reads: model.onnx and model.tflite, a file and a built-in
    network. Exit code 0 when they are the same for memory, 1 when they differ.
    """
    if json_target not in (None, "-"):
        assert json_target is not None
        check_target(Path(json_target), force=force)
    from peakmem.pipeline import compare

    report = compare(
        a, b, batch=batch, shapes=(parse_shapes(shapes_a), parse_shapes(shapes_b)), dims=parse_dims(dims),
        inputs=inputs or None, dtype=dtype, assume=assume,
    )  # fmt: skip
    from peakmem.render.comparison import blocks

    if json_target == "-":
        click.echo(report.to_json())
    elif sys.stdout.isatty():
        from peakmem.render.terminal import show

        show(blocks(report, every=every))
    else:
        from peakmem.render.text import plain

        click.echo(plain(blocks(report, every=every)), nl=False)
    if json_target not in (None, "-"):
        assert json_target is not None
        write_text(Path(json_target), report.to_json() + "\n")
    return 0 if report.same else 1
