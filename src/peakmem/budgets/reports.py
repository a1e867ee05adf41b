"""What `peakmem compare` is told: a model, a stored report of one, or a model of a baseline, as `NAME@FILE`."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path

from peakmem.budgets.baseline import SCHEMA as BASELINE
from peakmem.budgets.baseline import read_baseline
from peakmem.budgets.sizes import Growth as Allowed
from peakmem.errors import FormatError, PeakmemError, UsageError
from peakmem.report.growth import Growth, Snapshot
from peakmem.report.model import SCHEMA as ESTIMATE
from peakmem.report.model import Estimate
from peakmem.units import format_bytes

LARGEST_FILE = 1 << 30
JUDGED = ("live peak", "weights", "file")


def side_of(text: str) -> str | Estimate | Snapshot:
    """A stored report where `text` names one; else `text`, which names a model.

    Raises:
        FormatError: the report is damaged, or of another kind.
        UsageError: the baseline has no such model.
    """
    path = Path(text)
    name, at, file = text.rpartition("@")
    if at and not path.exists() and (Path(file).is_file() or file.endswith(".json")):
        return _of_baseline(Path(file), name)
    if path.suffix != ".json" or not path.is_file():
        return text
    schema = _schema(path)
    if schema == BASELINE:
        return _of_baseline(path, "")
    if schema is None or not schema.startswith("peakmem."):
        return text  # a model's own JSON
    if schema != ESTIMATE:
        raise FormatError(
            f"this is a report of another kind: {schema}", where=text, expected=f"{ESTIMATE}, or a baseline",
            hint="peakmem MODEL --json report.json",
        )  # fmt: skip
    from peakmem.report.codec import from_json

    try:
        return from_json(path.read_bytes())
    except PeakmemError as fault:
        fault.locate(text)
        raise


def _schema(path: Path) -> str | None:
    """The schema that a JSON file says it has; None for none."""
    if path.stat().st_size > LARGEST_FILE:
        return None
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError):
        return None
    schema = data.get("schema") if isinstance(data, dict) else None
    return schema if isinstance(schema, str) else None


def _of_baseline(path: Path, name: str) -> Snapshot:
    models = read_baseline(path).models
    found = {model: stored.snapshot for model, stored in models.items() if stored.snapshot is not None}
    if not name and len(found) == 1:
        name = next(iter(found))
    snapshot = found.get(name)
    if snapshot is None:
        near = get_close_matches(name, found, n=1, cutoff=0.4) or list(found)[:1]
        what = f"it has no model {name!r} that was kept whole" if name else f"it has {len(found)} models"
        raise UsageError(
            what, where=str(path), expected=f"one of {', '.join(found)}" if found else "a model that has a graph",
            hint=f"{near[0]}@{path}" if near else "",
        )  # fmt: skip
    return snapshot


def grown_beyond(report: Growth, allowed: Allowed) -> tuple[int, tuple[str, ...]]:
    """The exit code of --fail-on-growth, and what to say: 1 where something grew by more, 2 where that is not known."""
    over, unknown = [], []
    for quantity in report.quantities:
        if quantity.name not in JUDGED:
            continue
        if quantity.a is None and quantity.b is None:
            continue
        if quantity.a is None or quantity.b is None:
            unknown.append(f"{quantity.name}: not known of {'A' if quantity.a is None else 'B'}")
        elif quantity.b > allowed.allowed(quantity.a):
            over.append(f"{quantity.name} grew by {format_bytes(quantity.b - quantity.a)}, {allowed.written} allowed")
    for letter, side in (("A", report.a), ("B", report.b)):
        if side.kind == "lower bound" and side.operators:
            unknown.append(f"{letter} is a lower bound, and what it leaves out may have grown")
    if over:
        return 1, tuple(over)
    sized = [one for one in unknown if not one.startswith("file")]
    return (2, tuple(sized)) if sized else (0, ())
