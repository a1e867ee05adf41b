"""`peakmem zoo`: the built-in networks, and writing one out as an ONNX file."""

from __future__ import annotations

from pathlib import Path

import click

from peakmem.cli.arguments import check_target


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def command(ctx: click.Context) -> None:
    """List the built-in networks, or write one out as an ONNX file."""
    if ctx.invoked_subcommand is None:
        _list()


@command.command("list")
def list_networks() -> None:
    """List the built-in networks with their published parameter counts."""
    _list()


def _list() -> None:
    import sys

    from peakmem.render.blocks import Table
    from peakmem.zoo import NETWORKS

    rows = tuple(
        (
            name,
            f"{network.parameters:,}",
            ", ".join(f"{option.name}={option.default}" for option in network.options),
            network.title,
            network.source,
        )
        for name, network in NETWORKS.items()
    )
    table = Table(
        "Built-in networks", ("name", "parameters", "options", "network", "source"), rows, frozenset({"parameters"})
    )
    if sys.stdout.isatty():
        from peakmem.render.terminal import show

        show([table])
    else:
        from peakmem.render.text import plain

        click.echo(plain([table]), nl=False)


@command.command("export")
@click.argument("network")
@click.argument("target", required=False, type=click.Path(path_type=Path))
@click.option("--batch", default="1", metavar="N", show_default=True, help="A number, or a name for a symbolic one.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random weights.")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
def export(network: str, target: Path | None, batch: str, seed: int, force: bool) -> None:
    """Write NETWORK as a runnable ONNX file with random weights.

    TARGET defaults to the network's name with .onnx in the current folder.
    """
    from peakmem.ir.dims import Symbol
    from peakmem.zoo import build, parse_spec
    from peakmem.zoo.export import export_onnx

    name, options = parse_spec(network)
    path = target or Path(f"{name}.onnx")
    check_target(path, force=force)
    graph = build(name, batch=int(batch) if batch.lstrip("-").isdigit() else Symbol(batch), **options)
    export_onnx(graph, path, seed=seed, force=force)
    click.echo(f"{path}\t{path.stat().st_size:,} B")
