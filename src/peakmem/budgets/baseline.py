"""Stored values that growth is held against: one JSON file for all models, kept beside the budgets and in git.

It is written only when that is asked for, whole or not at all; a model that could not be answered keeps what it had.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peakmem._version import __version__
from peakmem.errors import FormatError, UsageError
from peakmem.report.check import Change, Value
from peakmem.report.growth import Snapshot

SCHEMA = "peakmem.baseline/1"
UPDATE = "peakmem check --update-baseline"
LARGEST_FILE = 1 << 28


@dataclass(frozen=True, slots=True)
class Stored:
    """What is kept of one model."""

    configuration: dict[str, Any]
    peakmem: str
    # version that computed it
    values: dict[str, Value]
    snapshot: Snapshot | None = None
    # operators and what was alive at the peak, so that growth can be explained


@dataclass(frozen=True, slots=True)
class Baseline:
    """All models of a file."""

    models: dict[str, Stored] = field(default_factory=dict)


def read_baseline(path: Path) -> Baseline:
    """The file at `path`.

    Raises:
        FormatError: it is damaged, or none of ours.
        UsageError: it cannot be read.
    """
    import msgspec

    again = f"restore it, or delete it and type {UPDATE}"
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE + 1)
    except OSError as fault:
        raise UsageError(f"the baseline cannot be read ({fault.strerror})", where=str(path)) from None
    if len(text) > LARGEST_FILE:
        raise FormatError("the baseline is too large to be one", where=str(path), hint=again)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as fault:
        said = str(fault).splitlines()[0][:200] if str(fault) else "nested too deeply"
        raise FormatError(f"the baseline is damaged: {said}", where=str(path), hint=again) from None
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise FormatError(
            f"this is no baseline: its schema is {str(schema)[:80]!r}", where=str(path), expected=SCHEMA, hint=again
        )
    try:
        return Baseline(msgspec.convert(data.get("models"), dict[str, Stored]))
    except msgspec.ValidationError as fault:
        raise FormatError(f"the baseline is damaged: {fault}", where=str(path), hint=again) from None


def changes(before: Baseline, after: Baseline) -> tuple[Change, ...]:
    """Every value that differs."""
    found = []
    for name in dict.fromkeys((*before.models, *after.models)):
        here, there = (side.models[name].values if name in side.models else {} for side in (before, after))
        for quantity in dict.fromkeys((*here, *there)):
            old, new = here.get(quantity), there.get(quantity)
            if (old and old.value) != (new and new.value):
                unit = (new or old or here[quantity]).unit
                found.append(Change(name, quantity, old.value if old else None, new.value if new else None, unit))
    return tuple(found)


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write the whole file, or nothing.

    Raises:
        UsageError: the system refuses.
    """
    import msgspec

    data = {"schema": SCHEMA, "peakmem": __version__, "models": msgspec.to_builtins(baseline.models)}
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(_written(data) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as fault:
        part.unlink(missing_ok=True)
        raise UsageError(f"the baseline cannot be written ({fault.strerror})", where=str(path)) from None


def differences(stored: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[str]:
    """What else was asked when the baseline was made, as `batch: 1 then, 8 now`."""
    for key in dict.fromkeys((*stored, *now)):
        here, there = stored.get(key), now.get(key)
        if isinstance(here, Mapping) and isinstance(there, Mapping):
            yield from (f"{key}.{said}" for said in differences(here, there))
        elif here != there:
            yield f"{key}: {_said(here)} then, {_said(there)} now"


def _said(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)


def _written(value: Any, depth: int = 0) -> str:
    """JSON that git shows well: what holds plain values alone stands on one line."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    nested = [one for one in inner if isinstance(one, dict | list | tuple) and one]
    if not nested:
        return json.dumps(value, ensure_ascii=False)
    pad, end = " " * (depth + 1), " " * depth
    if isinstance(value, dict):
        rows = [f"{json.dumps(key, ensure_ascii=False)}: {_written(one, depth + 1)}" for key, one in value.items()]
        return "{\n" + ",\n".join(pad + row for row in rows) + f"\n{end}}}"
    return "[\n" + ",\n".join(pad + _written(one, depth + 1) for one in value) + f"\n{end}]"
