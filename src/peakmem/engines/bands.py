"""How far each profile was from the measured process, and what a process holds before any model; data, read once.

`bands.json` is written by `python -m benchmarks.accuracy.compare`; nothing in it comes from a profile alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from peakmem.engines.prediction import Phase, Value

Figure = Literal["live", "peak"]
Group = Literal["untouched", "rules"]


@dataclass(frozen=True, slots=True)
class Band:
    """Predicted ÷ measured heap over cells: one a network and choice of settings."""

    phase: Phase
    figure: Figure
    group: Group
    # untouched: networks never looked at while rules were written; rules: those that were
    n: int
    min: float
    median: float
    p90: float
    # of the distance from 1, nine of ten cells are nearer
    max: float
    below: int
    # cells that were predicted lower than measured


@dataclass(frozen=True, slots=True)
class Baseline:
    """A process with the engine loaded and no model, as it was measured: the interpreter and the engine's library."""

    version: str
    # of the engine
    n: int
    anonymous_bytes: int
    # resident and backed by no file, median
    file_bytes: int
    # resident pages of libraries and files, median
    heap_bytes: int
    # glibc's in use, median
    python: str


def bands(engine: str, settings: Mapping[str, Value]) -> tuple[Band, ...]:
    """The bands of an engine for the part of its settings that `settings` falls under; () where none was measured."""
    fitting = [
        entry for entry in _data().get(engine, {}).get("bands", ()) if entry["where"].items() <= dict(settings).items()
    ]
    if not fitting:
        return ()
    closest = max(fitting, key=lambda entry: len(entry["where"]))
    return tuple(Band(**row) for row in closest["rows"])


def baseline(engine: str) -> Baseline | None:
    """What a process with this engine held before any model."""
    found = _data().get(engine, {}).get("baseline")
    return Baseline(**found) if found else None


@cache
def _data() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files("peakmem.engines").joinpath("bands.json").read_text("utf-8"))
    return found
