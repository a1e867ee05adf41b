"""Reports to JSON and back, and the JSON schema that describes them.

Unknown fields are ignored on reading; a schema of another major version is refused.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar, cast, overload

from peakmem.errors import FormatError
from peakmem.measuring import record
from peakmem.report import (
    check,
    claims,
    comparison,
    cost,
    file_size,
    fit,
    formula,
    growth,
    ledger,
    prediction,
    reconciliation,
    replay,
    training,
    training_check,
)
from peakmem.report.comparison import Comparison
from peakmem.report.model import SCHEMA, Estimate

Report = TypeVar("Report")
Written = (
    Estimate
    | Comparison
    | check.Check
    | growth.Growth
    | cost.Cost
    | file_size.FileSizes
    | fit.Fit
    | formula.PeakFormula
    | formula.Largest
    | prediction.Predictions
    | reconciliation.Reconciliation
    | replay.Replay
    | training.Training
    | training_check.TrainingCheck
)


def to_dict(report: Written) -> dict[str, Any]:
    """`report` as plain data."""
    import msgspec

    return cast(dict[str, Any], msgspec.to_builtins(report))


def to_json(report: Written) -> str:
    """`report` as indented JSON."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()


@overload
def from_json(text: str | bytes) -> Estimate: ...
@overload
def from_json(text: str | bytes, form: type[Report]) -> Report: ...


def from_json(text: str | bytes, form: type[Any] = Estimate) -> Any:
    """The report that `text` holds: an `Estimate`, or `from_json(text, peakmem.Measurement)`.

    Raises:
        FormatError: not JSON, not a report of that kind, or one of another major version.
    """
    import msgspec

    expected = next(title for title, known in REPORTS.values() if known is form)
    try:
        data = json.loads(text)
    except ValueError as fault:
        raise FormatError(f"this is not JSON: {fault}", expected=f"a report with schema {expected}") from fault
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != expected:
        raise FormatError(f"the schema is {schema!r}", expected=repr(expected))
    try:
        return msgspec.convert(data, form)
    except msgspec.ValidationError as fault:
        raise FormatError(f"the report does not fit its schema: {fault}", expected="peakmem schema") from fault


REPORTS: dict[str, tuple[str, type]] = {
    "check": (check.SCHEMA, check.Check),
    "claims": (claims.SCHEMA, claims.Claims),
    "comparison": (comparison.SCHEMA, Comparison),
    "cost": (cost.SCHEMA, cost.Cost),
    "estimate": (SCHEMA, Estimate),
    "formula": (formula.SCHEMA, formula.PeakFormula),
    "largest": (formula.LARGEST_SCHEMA, formula.Largest),
    "file_size": (file_size.SCHEMA, file_size.FileSizes),
    "fit": (fit.SCHEMA, fit.Fit),
    "ledger": (ledger.SCHEMA, ledger.Ledger),
    "growth": (growth.SCHEMA, growth.Growth),
    "measurement": (record.SCHEMA, record.Measurement),
    "prediction": (prediction.SCHEMA, prediction.Predictions),
    "reconciliation": (reconciliation.SCHEMA, reconciliation.Reconciliation),
    "replay": (replay.SCHEMA, replay.Replay),
    "training": (training.SCHEMA, training.Training),
    "training_check": (training_check.SCHEMA, training_check.TrainingCheck),
}
# by the name `peakmem schema` knows them


def schema(name: str = "estimate") -> dict[str, Any]:
    """The JSON schema of the report called `name`, one of REPORTS."""
    import msgspec

    title, form = REPORTS[name]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **msgspec.json.schema(form)}
