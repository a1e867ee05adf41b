"""`peakmem estimate MODEL --symbolic KNOB`: the peak as a formula of one size, or the largest size that fits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from peakmem.cli.output import put_out
from peakmem.errors import UsageError
from peakmem.units import Units, parse_size

_LIMITS = re.compile(r"^\s*(\d{1,15})\s*(?:\.\.\s*(\d{1,15})?)?\s*$")


def parse_limits(text: str | None) -> tuple[int, int | None]:
    """`1..256` → (1, 256); `8..` → (8, None); `8` → (8, 8); nothing → (1, None).

    Raises:
        UsageError: anything else.
    """
    if text is None:
        return 1, None
    match = _LIMITS.match(text)
    if match is None:
        raise UsageError(f"--limits {text[:80]!r} is no range", expected="LOW..HIGH", hint="--limits 1..256")
    low = int(match[1])
    if ".." not in text:
        return low, low
    return low, int(match[2]) if match[2] else None


def show_symbolic(
    model: str, knob: str, limits: str | None, within: str | None, multiple_of: int | None, *, live: bool,
    every_residue: bool, units: Units, json_target: str | None, targets: Sequence[tuple[str, Path]],
    batch: int | None, shapes: Mapping[str, Sequence[int]], dims: Mapping[str, int], dtype: str | None, assume: str,
    hold_inputs: bool, inputs: Sequence[str], form: str, options: Mapping[str, str],
) -> int:  # fmt: skip
    """Compute, show and write; 0; 1 when not even the smallest value fits; 2 when it cannot be told."""
    if any(kind == "csv" for kind, _ in targets):
        raise UsageError("--write csv=… is a list of layers, and a formula has none", hint="--write tsv=…")
    for flag, value in {"--multiple-of": multiple_of, "--live": live}.items():
        if value and within is None:
            raise UsageError(f"{flag} is for the largest value that fits", hint=f"--within 16GB {flag} …")
    if within is not None and every_residue:
        raise UsageError("--within looks at every remainder anyway", hint="without --every-residue")
    from peakmem.scaling import largest, peak_formula

    bounds = parse_limits(limits)
    told = inputs or None
    if within is not None:
        from peakmem.render.formula import largest_blocks

        answer = largest(
            model, knob, parse_size(within), quantity="live" if live else "resident", multiple_of=multiple_of or 1,
            inputs=told, batch=batch, shapes=shapes, dims=dims, dtype=dtype, assume=assume, hold_inputs=hold_inputs,
            limits=bounds, form=form, options=options,
        )  # fmt: skip
        put_out(answer, largest_blocks(answer, units), targets, json_target)
        if answer.value and answer.bytes_kind == "lower bound":
            said = f"{knob} = {answer.value:,} may fit: something has no known size and is not counted"
            click.echo(f"peakmem: error: {said}", err=True)
            return 2
        return 0 if answer.value else 1
    from peakmem.render.formula import blocks

    report = peak_formula(
        model, knob, inputs=told, batch=batch, shapes=shapes, dims=dims, dtype=dtype, assume=assume,
        hold_inputs=hold_inputs, limits=bounds, every_residue=every_residue, form=form, options=options,
    )  # fmt: skip
    put_out(report, blocks(report, units), targets, json_target)
    return 0 if report.pieces else 2
