"""What every report is shown as: titled tables and sentences, strings throughout; no report is known here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a title; `numeric` names the columns that are set to the right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[str] = frozenset()
    total: tuple[str, ...] | None = None
    # a last row that sums the ones above


@dataclass(frozen=True, slots=True)
class Lines:
    """Sentences under a title."""

    title: str
    lines: tuple[str, ...]


Block = Table | Lines


def records(table: Table) -> Sequence[tuple[str, ...]]:
    """Header, rows and total as one list of rows."""
    return (table.columns, *table.rows, *((table.total,) if table.total else ()))
