"""`peakmem replay SNAPSHOT`: a recorded trace of torch's allocator beside its simulation."""

from __future__ import annotations

from pathlib import Path

import click

from peakmem.cli.arguments import parse_targets
from peakmem.cli.output import put_out
from peakmem.errors import UsageError
from peakmem.units import UNITS, parse_size

FORMATS = ("json", "md", "tsv")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("snapshot", type=click.Path(path_type=Path))
@click.option(
    "--conf", metavar="SETTINGS",
    help="Try other settings, as in PYTORCH_CUDA_ALLOC_CONF: 'expandable_segments:True,max_split_size_mb:128'.",
)  # fmt: skip
@click.option(
    "--capacity", metavar="SIZE",
    help="Try a device with so much memory for the allocator (without the context of CUDA): 24GiB.",
)  # fmt: skip
@click.option("--top", type=click.IntRange(0), default=10, show_default=True, help="Lines of code to list.")
@click.option("--units", type=click.Choice(UNITS), default="iec", show_default=True, help="KiB, kB or plain bytes.")
@click.option("--json", "json_target", metavar="FILE", help="Write the report as JSON; - for standard output.")
@click.option(
    "--write", "writes", multiple=True, metavar="FORMAT=FILE", help="Write a file: json, md or tsv (all tables)."
)
@click.option("--force", is_flag=True, help="Let --json and --write replace files that exist.")
def command(
    snapshot: Path, conf: str | None, capacity: str | None, top: int, units: str, json_target: str | None,
    writes: tuple[str, ...], force: bool,
) -> int:  # fmt: skip
    """Run a recorded trace of torch's CUDA allocator through the simulator and say where the two part.

    SNAPSHOT is what torch.cuda.memory._dump_snapshot wrote (nothing in it is executed), or its JSON form, plain or
    gzip. With --conf or --capacity it tells what other settings or another device would have given. Exits with 0 when
    record and simulation are equal and what was tried runs to the end, with 1 when not, with 2 when the file cannot be
    read.
    """
    targets = parse_targets(json_target, writes, FORMATS, force=force, source=str(snapshot))
    size = None if capacity is None else parse_size(capacity)
    if size is not None and size <= 0:
        raise UsageError("--capacity is 0", expected="the memory of a device", hint="--capacity 24GiB")
    from peakmem.render.replay import blocks
    from peakmem.replaying import compose
    from peakmem.training.allocator.settings import Settings
    from peakmem.training.snapshot.reader import read_snapshot

    if conf is not None:
        Settings.parse(conf)  # before a large file is read
    report = compose(read_snapshot(snapshot), conf, size)
    shown = blocks(report, units, top)  # type: ignore[arg-type]
    put_out(report, shown, targets, json_target)
    stopped = any(device.what_if is not None and device.what_if.stop is not None for device in report.devices)
    return 1 if stopped or not report.equal else 0
