"""What the columns of a table mean: quantity, dtype and unit, settled by what makes most rows right.

What the table states is held to; what it leaves open is read as its numbers need. Figures gives the
recomputed values of rows and totals under any reading.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from peakmem.claims.cells import (
    COUNTS,
    DTYPES,
    MEMORY,
    PARAMETERS,
    SIZES,
    STORED,
    Cell,
    Quantity,
    amount,
    cell,
    header_unit,
    is_true,
    stated,
    units,
)  # fmt: skip
from peakmem.conventions import CONVENTIONS
from peakmem.dtypes import DType
from peakmem.errors import UsageError
from peakmem.frontends.table.parts import Part
from peakmem.frontends.table.reader import LayerTable
from peakmem.frontends.table.said import CLAIMED
from peakmem.report import claims as report

MOST_READINGS = 5
# other readings of a column that are listed
UNITS = ("auto", "bytes", "B", "kB", "KB", "KiB", "MB", "MiB", "GB", "GiB", "K", "M", "G")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the caller fixes instead of the table."""

    convention: str = ""
    dtype: DType | None = None
    unit: str = "auto"


@dataclass(frozen=True, slots=True)
class Reading:
    """One meaning of a column."""

    quantity: Quantity
    dtype: DType
    unit: tuple[str, int]

    @property
    def title(self) -> str:
        dtype = "" if self.quantity.counted else f" in {self.dtype}"
        unit = f", {self.unit[0]}" if self.unit[0] else ""
        return f"{self.quantity.title}{dtype}{unit}"


@dataclass(slots=True)
class Column:
    """One column of claims and the reading it was given."""

    at: int
    header: str
    cells: list[Cell]
    # of layers
    totals: list[Cell]
    candidates: list[Reading]
    # all that the table leaves open
    stated: tuple[str, ...]
    reading: Reading = field(init=False)
    ties: list[Reading] = field(default_factory=list)
    # with as many true claims as the reading, and other values
    others: list[tuple[Reading, int]] = field(default_factory=list)
    # as good or better ones that contradict what is stated
    right: int = 0

    @property
    def judged(self) -> list[Cell]:
        """The cells that settle the reading."""
        return self.cells or self.totals


class Figures:
    """The recomputed numbers of a table, under any reading."""

    def __init__(self, table: LayerTable, asked: Asked) -> None:
        self.table = table
        self.rows = table.rows
        self.asked = asked
        self.layers = [at for at, row in enumerate(self.rows) if row.kind == "layer"]
        # positions of the rows that are layers
        self.copies: dict[int, list[tuple[Part, ...]]] = {}
        # what each row stands for, once for each time it is repeated
        for step in table.steps:
            self.copies.setdefault(step.row, []).append(step.parts)
        self._values: dict[tuple[Quantity, DType, int, int], int | None] = {}
        self._columns: dict[tuple[Quantity, DType, int], tuple[int | None, ...]] = {}
        self._counted: dict[int, list[int]] = {}

    def value(self, reading: Reading, item: Cell) -> int | None:
        """The exact number that a cell should print, in bytes or elements."""
        row = self.rows[item.row]
        key = (reading.quantity, reading.dtype, item.row, item.column)
        if key not in self._values:
            if row.kind == "layer":
                self._values[key] = amount(reading.quantity, row.parts, reading.dtype)
            else:
                self._values[key] = self.total(reading, row.kind, item.column)
        return self._values[key]

    def all_values(self, reading: Reading, judged: Sequence[Cell]) -> tuple[int | None, ...]:
        """The exact numbers of all cells of a column; what does not depend on the unit is worked out once."""
        key = (reading.quantity, reading.dtype, judged[0].column)
        if key not in self._columns:
            self._columns[key] = tuple(self.value(reading, item) for item in judged)
        return self._columns[key]

    def values(self, reading: Reading, judged: Sequence[Cell]) -> tuple[object, ...]:
        """Values and units of all cells of a column, to tell whether two readings are the same for them."""
        return (self.all_values(reading, judged), tuple(self.unit(reading, item)[1] for item in judged))

    def unit(self, reading: Reading, item: Cell) -> tuple[str, int]:
        """The unit of one cell: its own where it prints one, else that of the column."""
        own = units(item.unit, counted=reading.quantity.counted) if item.unit else ()
        if not own or self.asked.unit != "auto" or reading.unit in own:
            return reading.unit
        if reading.unit[0][:1].lower() == own[0][0][:1].lower():
            return reading.unit  # MB may be meant as MiB, kB not as MB
        binary = reading.unit[0].endswith("iB")
        return next((one for one in own if one[0].endswith("iB") == binary), own[0])

    def holds(self, reading: Reading, item: Cell, unit: tuple[str, int] | None = None) -> bool:
        """Whether a cell is true under `reading`, in `unit` where that is given."""
        value = self.value(reading, item)
        return value is not None and is_true(item, value, (unit or self.unit(reading, item))[1])

    def right(self, reading: Reading, judged: Sequence[Cell]) -> int:
        """How many cells are true under `reading`."""
        found = 0
        for item, value in zip(judged, self.all_values(reading, judged), strict=True):
            factor = self.unit(reading, item)[1] if item.unit else reading.unit[1]
            if value is not None and is_true(item, value, factor):
                found += 1
        return found

    def counted_rows(self, column: int) -> list[int]:
        """The rows a total is made of: those with a number in its column, all where no row has one."""
        if column not in self._counted:
            printed = [at for at in self.layers if printed_cell(self.table, at, column) is not None]
            self._counted[column] = printed or self.layers
        return self._counted[column]

    def total(
        self, reading: Reading, kind: str, column: int, *, once: bool = False, more: int = 0, all_rows: bool = False,
        instead: Mapping[int, tuple[Part, ...]] | None = None,
    ) -> int | None:  # fmt: skip
        """The sum or maximum over the rows of a column.

        Args:
            reading: what is summed.
            kind: "sum" or "max".
            column: rows without a number in it are left out.
            once: count repeated rows once.
            more: count the last copy of repeated rows so many times more.
            all_rows: leave no row out.
            instead: other layers for some rows.
        """
        values = []
        for at in self.layers if all_rows else self.counted_rows(column):
            copies = self.copies.get(at, [self.rows[at].parts])
            if instead and at in instead:
                copies = [instead[at]] * len(copies)
            if len(copies) > 1:
                copies = copies[:1] if once else copies + copies[-1:] * more
            values += [amount(reading.quantity, parts, reading.dtype) or 0 for parts in copies]
        if not values:
            return None
        return sum(values) if kind == "sum" else max(values)

    def printed_total(self, column: Column, kind: str) -> tuple[int, int] | None:
        """(total of the printed rows, of their rounding) in bytes or elements; None where no row prints a number."""
        values: list[tuple[int, int]] = []
        for item in column.cells:
            factor = self.unit(column.reading, item)[1]
            entry = (round(item.bytes_printed(factor)), int(item.rounding(factor)) if factor > 1 else 0)
            values += [entry] * len(self.copies.get(item.row, [()]))
        if not values:
            return None
        if kind == "max":
            return max(values)
        return sum(value for value, _ in values), sum(half for _, half in values)

    def others(self, reading: Reading, item: Cell) -> Iterator[Reading]:
        """Readings that differ from `reading` in one thing, likelier ones first."""
        unit = self.unit(reading, item)
        here = replace(reading, unit=unit)
        counted = reading.quantity.counted
        for other in COUNTS if counted else SIZES:
            if other != unit:
                yield replace(here, unit=other)
        for quantity in PARAMETERS if counted else MEMORY:
            if quantity != reading.quantity:
                yield replace(here, quantity=quantity)
        for dtype in () if counted else DTYPES:
            if dtype != reading.dtype:
                yield replace(here, dtype=dtype)


def printed_cell(table: LayerTable, row: int, column: int) -> Cell | None:
    """The number that a row prints in a column."""
    text = next((text for where, text in table.rows[row].claims if where == column), "")
    return cell(row, column, text) if text else None


def columns_of(figures: Figures) -> list[Column]:
    """The columns that print numbers, settled."""
    found = []
    for at, name in enumerate(figures.table.columns.roles):
        if name in CLAIMED:
            cells = [item for row in range(len(figures.rows)) if (item := printed_cell(figures.table, row, at))]
            if cells:
                found.append(_column(figures, at, name, cells))
    return found


def _column(figures: Figures, at: int, name: str, cells: list[Cell]) -> Column:
    table, asked = figures.table, figures.asked
    header = table.columns.headers[at]
    own = [item.unit for item in cells if figures.rows[item.row].kind == "layer"] or [item.unit for item in cells]
    unit = header_unit(header) or (own[0] if all(own) else "")
    quantities = stated(header, name)
    known = []
    if name == "memory":
        if asked.convention:
            quantities = (_convention(asked.convention),)
        if len(quantities) < len(MEMORY):
            known.append("quantity")
    elif "b" in unit:
        quantities = STORED
    counted = quantities[0].counted
    if asked.unit != "auto" and not counted:
        unit = asked.unit
    readable = units(unit, counted=counted) or ((COUNTS if counted else SIZES) if not unit else SIZES[:1])
    if unit and len(readable) == 1:
        known.append("unit")
    dtypes = (asked.dtype,) if asked.dtype else (table.dtype,) if table.dtype_told else DTYPES
    if counted:
        dtypes = DTYPES[:1]
    elif len(dtypes) == 1:
        known.append("dtype")
    column = Column(
        at,
        header.strip() or f"column {at + 1}",
        [item for item in cells if figures.rows[item.row].kind == "layer"],
        [item for item in cells if figures.rows[item.row].kind != "layer"],
        [Reading(q, d, u) for d in dtypes for u in readable for q in quantities],
        tuple(known),
    )
    _settle(figures, column)
    return column


def _settle(figures: Figures, column: Column) -> None:
    """Choose the reading under which most rows are right, among those that the table leaves open.

    What the table states may be the error itself, such as MB over numbers in MiB: where another
    reading makes most rows true, what is left open is read as that one has it.
    """
    judged = column.judged
    votes = [(reading, figures.right(reading, judged)) for reading in column.candidates]
    best = max(count for _, count in votes)
    relaxed = [(reading, figures.right(reading, judged)) for reading in _widest(column)]
    top = max(count for _, count in relaxed)
    if top > best and 2 * best < len(judged):
        near = next(reading for reading, count in relaxed if count == top)
        column.reading = max(column.candidates, key=lambda reading: _shared(reading, near))
    else:
        column.reading = next(reading for reading, count in votes if count == best)
    column.right = figures.right(column.reading, judged)
    seen = {figures.values(column.reading, judged)}
    column.ties = [
        reading for reading, count in votes if count == column.right > 0 and figures.values(reading, judged) not in seen
    ]
    for reading, count in sorted(relaxed, key=lambda item: -item[1]):
        if not count or count < column.right or len(column.others) >= MOST_READINGS:
            break
        signature = figures.values(reading, judged)
        if signature not in seen:
            seen.add(signature)
            column.others.append((reading, count))


def _widest(column: Column) -> Iterator[Reading]:
    """The readings of a column where nothing it states is held to."""
    counted = column.candidates[0].quantity.counted
    first = column.candidates[0].dtype
    open_units = (*(reading.unit for reading in column.candidates), *(COUNTS if counted else SIZES))
    quantities = (*(reading.quantity for reading in column.candidates), *(PARAMETERS if counted else MEMORY))
    for dtype in dict.fromkeys((first,) if counted else (first, *DTYPES)):
        for unit in dict.fromkeys(open_units):
            for quantity in dict.fromkeys(quantities):
                yield Reading(quantity, dtype, unit)


def _shared(reading: Reading, other: Reading) -> int:
    """How much two readings have in common."""
    return 4 * (reading.quantity == other.quantity) + 2 * (reading.dtype == other.dtype) + (reading.unit == other.unit)


def difference(other: Reading, reading: Reading) -> str:
    """What `other` has that `reading` has not."""
    parts = []
    if other.unit != reading.unit:
        parts.append(f"{other.unit[0] or 'single ones'} instead of {reading.unit[0] or 'single ones'}")
    if other.quantity != reading.quantity:
        parts.append(f"{other.quantity.title} instead of {reading.quantity.title}")
    if other.dtype != reading.dtype:
        parts.append(f"{other.dtype} instead of {reading.dtype}")
    return ", ".join(parts)


def _convention(name: str) -> Quantity:
    rule = CONVENTIONS.get(name)
    usable = [known for known, item in CONVENTIONS.items() if item.per_layer is not None]
    if rule is None or rule.per_layer is None:
        raise UsageError(f"no convention {name!r} counts layer by layer", expected=f"one of {', '.join(usable)}")
    return Quantity(name, rule.row_formula, frozenset(rule.row_formula.split(" + ")))


def column_verdict(column: Column) -> report.ColumnVerdict:
    """A settled column as the report has it: what it was read as, and what else it may mean."""
    return report.ColumnVerdict(
        column.header,
        _reading(column.reading, column.right),
        column.stated,
        len(column.cells or column.totals),
        tuple(_reading(reading, right) for reading, right in column.others),
    )


def _reading(reading: Reading, right: int) -> report.Reading:
    known = reading.quantity.name if reading.quantity.name in CONVENTIONS else ""
    dtype = "" if reading.quantity.counted else reading.dtype.name
    return report.Reading(reading.quantity.title, known, reading.unit[0], dtype, right)
