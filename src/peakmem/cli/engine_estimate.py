"""`peakmem estimate MODEL --engine NAME`: what an engine will hold, and which engines hold it in so many bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from peakmem.cli.output import put_out
from peakmem.errors import UsageError
from peakmem.units import Units, parse_size


def show_engines(
    model: str, engines: Sequence[str], settings: Sequence[str], within: str | None, processor: str | None,
    batch: int | None, shapes: Mapping[str, Sequence[int]], dims: Mapping[str, int], inputs: Sequence[str],
    units: Units, json_target: str | None, targets: Sequence[tuple[str, Path]],
) -> int:  # fmt: skip
    """Predict, show and write; 0 when something was predicted and fits, 1 when none fits, 2 when none can be told."""
    if any(form == "csv" for form, _ in targets):
        raise UsageError("--write csv=… is a list of layers, and an engine's categories are none", hint="--write tsv=…")
    from peakmem.prediction import predict
    from peakmem.processors import parse_processor
    from peakmem.render.prediction import View, blocks

    report = predict(
        model, engines=[name for text in engines for name in text.split(",") if name], settings=settings, batch=batch,
        shapes=shapes, dims=dims, inputs=inputs, processor=None if processor is None else parse_processor(processor),
        within=None if within is None else parse_size(within),
    )  # fmt: skip
    shown = blocks(report, View(units))
    put_out(report, shown, targets, json_target, blocks(report, View(units, every=True)) if targets else None)
    judged = [one for one in report.candidates if one.outcome == "predicted"]
    if report.within_bytes is not None:
        judged = [one for one in judged if one.process_bytes is not None]
    if not judged:
        return 2
    return 0 if report.within_bytes is None or report.fitting else 1
