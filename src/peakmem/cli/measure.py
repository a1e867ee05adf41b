"""`peakmem measure MODEL`: run it on engines and read the process."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from peakmem.cli.arguments import parse_dims, parse_shapes, parse_targets
from peakmem.cli.output import put_out
from peakmem.units import UNITS, Units, parse_size

FORMATS = ("json", "md", "tsv")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@click.option(
    "--engine", "engines", multiple=True, metavar="NAME,…", help="Engines, or all that are installed (peakmem engines)."
)
@click.option(
    "--set", "settings", multiple=True, metavar="[ENGINE.]NAME=VALUE,…",
    help="A setting; several values make a matrix: ncnn.lightmode=on,off.",
)  # fmt: skip
@click.option("--singly", is_flag=True, help="The defaults, then each other value alone, instead of all combinations.")
@click.option(
    "--cell", "cells", multiple=True, metavar="'NAME=VALUE …'", help="One cell with several settings; defaults for one."
)
@click.option("--repeat", type=click.IntRange(0, 1000), default=3, show_default=True, help="Plain processes a cell.")
@click.option(
    "--counted", type=click.IntRange(0, 1000), default=1, show_default=True,
    help="Processes a cell with the allocation counter.",
)  # fmt: skip
@click.option("--runs", type=click.IntRange(1, 10000), default=3, show_default=True, help="Inferences a process.")
@click.option("--batch", type=int, metavar="N", help="Value of the batch dimension.")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=DIMS", help="Shape of an input: input=8x3x320x320.")
@click.option("--dim", "dims", multiple=True, metavar="NAME=VALUE", help="Value of a symbolic dimension.")
@click.option(
    "--input", "inputs", multiple=True, metavar="[NAME=]DIMS[:DTYPE]", help="What a live module is called with."
)
@click.option(
    "--feed", multiple=True, metavar="[NAME=]FILE", help="Your own inputs: a .npy, a .npz or a folder of .npy."
)
@click.option("--phases", is_flag=True, help="Show every phase of every cell.")
@click.option("--buckets", is_flag=True, help="Show resident pages by kind of mapping.")
@click.option("--libraries", is_flag=True, help="Show which library asked for the heap.")
@click.option("--timeline", is_flag=True, help="Live bytes operator by operator, where the engine lets us.")
@click.option("--timeout", type=click.FloatRange(min=0.1), default=600.0, show_default=True, help="Seconds a process.")
@click.option("--memory-limit", metavar="SIZE", help="Private writable memory a process may have: 512MiB.")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder of converted models.")
@click.option("--events", type=click.Path(path_type=Path), help="Folder that keeps the allocation event lists.")
@click.option("--units", type=click.Choice(UNITS), default="iec", show_default=True, help="KiB, kB or exact bytes.")
@click.option("--json", "json_target", metavar="FILE", help="Write everything as JSON; - for standard output.")
@click.option("--write", "writes", multiple=True, metavar="FORMAT=FILE", help="Write a file: json, md or tsv.")
@click.option("--force", is_flag=True, help="Let --json and --write replace files that exist.")
def command(
    model: str, engines: tuple[str, ...], settings: tuple[str, ...], singly: bool, cells: tuple[str, ...],
    repeat: int, counted: int, runs: int, batch: int | None, shapes: tuple[str, ...], dims: tuple[str, ...],
    inputs: tuple[str, ...], feed: tuple[str, ...], phases: bool, buckets: bool, libraries: bool, timeline: bool,
    timeout: float, memory_limit: str | None, cache: Path | None, events: Path | None, units: Units,
    json_target: str | None, writes: tuple[str, ...], force: bool,
) -> int:  # fmt: skip
    """Run MODEL on engines, each in a clean process, and tell what memory it took, phase by phase.

    MODEL is a model file, a built-in network, or package.module:factory; it is converted to what
    the engine reads by local tools, and the converted file is kept. Exit code 0 when every cell was
    measured, 1 when some were not, 2 when none was.
    """
    targets = parse_targets(json_target, writes, FORMATS, force=force, source=model)
    from peakmem.measurement import measure

    with Progress() as progress, terminable():
        report = measure(
            model, engines=[name for text in engines for name in text.split(",") if name], settings=settings,
            singly=singly, cells=cells, repeat=repeat, counted=counted, runs=runs, batch=batch,
            shapes=parse_shapes(shapes), dims=parse_dims(dims), inputs=inputs, feed=feed or None, timeout=timeout,
            memory_limit=parse_size(memory_limit) if memory_limit else 0, cache=cache, events=events,
            timeline=timeline, progress=progress.tell,
        )  # fmt: skip
    from peakmem.render.measurement import View, blocks

    shown = blocks(report, View(units, phases, buckets, libraries))
    put_out(report, shown, targets, json_target)
    if any(run.outcome.status == "interrupted" for cell in report.cells for run in cell.runs):
        return 130
    good = sum(1 for row in report.rows if row.status == "ok")
    return 0 if good == len(report.rows) else 1 if good else 2


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM and SIGHUP end the measured process and remove its folder, as an interrupt does, and keep no result."""

    def stop(number: int, _frame: object) -> None:
        for other in before:
            signal.signal(other, signal.SIG_IGN)
            # once is enough; cleaning up takes a moment
        raise SystemExit(128 + number)

    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        chosen = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) == signal.SIG_DFL]
        before.update((number, signal.signal(number, stop)) for number in chosen)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Progress:
    """One line on standard error, where that is a terminal."""

    def __init__(self) -> None:
        self.shown = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.shown:
            sys.stderr.write("\r\x1b[K")

    def tell(self, what: str, done: int, total: int) -> None:
        """Say what is measured now."""
        if self.shown:
            sys.stderr.write(f"\r\x1b[K{done}/{total} {what}"[:120])
            sys.stderr.flush()
