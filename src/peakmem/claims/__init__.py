"""Check the claims of a layer table: which cells are right, which are wrong, and what would make them true.

A claim is right when the recomputed value rounds to the printed digits; there is no tolerance beyond
that. What the table leaves open (a dtype, which bytes are meant) is read as most of its rows need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from peakmem._version import __version__
from peakmem.claims.cells import Cell, amount, filled, is_cut, is_true
from peakmem.claims.changes import Change, changes, slips
from peakmem.claims.columns import UNITS, Asked, Column, Figures, Reading, column_verdict, columns_of, difference
from peakmem.errors import GraphError, UsageError
from peakmem.frontends.table.make import agree
from peakmem.frontends.table.parts import Image, Part, made, written
from peakmem.frontends.table.reader import LayerTable
from peakmem.frontends.table.rows import Row
from peakmem.report import claims as report

MOST_SEARCHED = 200
# wrong claims that are searched for an explanation
MOST_EXPLANATIONS = 3
LONG_NUMBER = 5
# digits from which on two changes at once prove something
BATCHES = (2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True)
class Found:
    """An explanation with its rank."""

    explanation: report.Explanation
    rank: int
    parts: tuple[Part, ...] = ()
    # of the changed row, where a row was changed
    row: int = -1


def check(table: LayerTable, asked: Asked | None = None) -> report.Claims:
    """Every claim of `table` against what its rows give.

    Raises:
        UsageError: no such convention or unit, or a table that claims nothing.
    """
    return _Check(table, asked or Asked()).run()


class _Check:
    """One table being checked; findings are collected in the order of the rows."""

    def __init__(self, table: LayerTable, asked: Asked) -> None:
        self.table = table
        self.rows = table.rows
        self.figures = Figures(table, asked)
        self.searched = 0
        self.numbers = {row.number: at for at, row in enumerate(self.rows)}
        self.readers: dict[int, list[Row]] = {}
        for row in self.rows:
            if row.given_by and row.printed_input:
                self.readers.setdefault(row.given_by, []).append(row)
        self.repaired: dict[int, tuple[str, tuple[Part, ...]]] = {}

    def run(self) -> report.Claims:
        """The report."""
        columns = columns_of(self.figures)
        placed = [((at, 0), claim) for at in self.figures.layers for claim in self._shapes(self.rows[at])]
        for column in columns:
            placed += [((item.row, 1 + column.at), self._layer_claim(column, item)) for item in column.cells]
        for column in columns:  # after all layers, so that what mends a row is known
            placed += [((item.row, 1 + column.at), self._total_claim(column, item)) for item in column.totals]
            placed += [((at, 1 + column.at), claim) for at, claim in self._not_numbers(column)]
        claims = tuple(claim for _, claim in sorted(placed, key=lambda item: item[0]))
        if all(claim.verdict == "unchecked" for claim in claims):
            raise UsageError(
                "the table claims nothing that can be checked", where=self.table.source,
                expected="a column of outputs, parameters or memory beside the layers",
            )  # fmt: skip
        count = Counter(claim.verdict for claim in claims)
        notes = self.table.notes
        if self.searched > MOST_SEARCHED:
            notes = (*notes, f"explanations were searched for the first {MOST_SEARCHED} wrong claims")
        return report.Claims(
            source=self.table.source, layers=len(self.table.steps), layout=self.table.layout, right=count["right"],
            wrong=count["wrong"], ambiguous=count["ambiguous"], unchecked=count["unchecked"],
            columns=tuple(column_verdict(column) for column in columns), claims=claims, repairs=_repairs(claims),
            notes=notes, peakmem=__version__,
        )  # fmt: skip

    def _not_numbers(self, column: Column) -> Iterator[tuple[int, report.Claim]]:
        """Cells of a column that say something, and not one number."""
        read = {item.row for item in (*column.cells, *column.totals)}
        for at, row in enumerate(self.rows):
            text = next((text for where, text in row.claims if where == column.at), "")
            if at not in read and any(char.isdigit() for char in text):
                yield at, _unchecked(row, column.header, text, "this is not one number")

    # -- totals --------------------------------------------------------------------------

    def _total_claim(self, column: Column, item: Cell) -> report.Claim:
        row, reading = self.rows[item.row], column.reading
        if row.kind not in ("sum", "max"):
            return _unchecked(row, column.header, item.text, "no layer and no total")
        value = self.figures.total(reading, row.kind, item.column)
        unit = self.figures.unit(reading, item)
        if value is None:
            return _unchecked(row, column.header, item.text, "no row can be computed")
        own = self.figures.printed_total(column, row.kind)
        agrees = own is not None and abs(own[0] - item.bytes_printed(unit[1])) <= own[1] + item.rounding(unit[1])
        if is_true(item, value, unit[1]):
            reason = "" if own is None or agrees else f"the printed rows give {own[0]:,}, which is another number"
            return self._claim(column, item, value, "right", reason)
        leading = filled(item)
        if leading is not None and is_true(leading, value, unit[1]):
            return self._claim(column, item, value, "ambiguous", _padded(leading))
        mended, found = self._mended(column, item, row), list(self._total_changes(column, item, row, value))
        if agrees and not any(one.explanation.support for one in found):
            if not all(self.figures.holds(reading, other) for other in column.cells):
                word = "adds up" if row.kind == "sum" else "is the largest of"
                reason = f"it {word} the printed rows, some of them wrong"
                return self._claim(column, item, value, "ambiguous", reason, mended)
            text = "what the printed rows give, rounded as they are"
            found.append(Found(report.Explanation(f"row {row.number}", text, f"{own[0] if own else 0:,}"), 0))
        return self._claim(column, item, value, "wrong", "", [*mended, *found])

    def _mended(self, column: Column, item: Cell, row: Row) -> list[Found]:
        """Whether a total is true once the rows that the table itself proves wrong are mended."""
        instead = {at: parts for at, (_, parts) in self.repaired.items()}
        if not instead:
            return []
        value = self.figures.total(column.reading, row.kind, item.column, instead=instead)
        if value is None or not is_true(item, value, self.figures.unit(column.reading, item)[1]):
            return []
        texts = "; ".join(f"row {self.rows[at].number}: {text}" for at, (text, _) in self.repaired.items())
        return [Found(report.Explanation(f"row {row.number}", f"with {texts}", _exact(value, column.reading)), -1)]

    def _total_changes(self, column: Column, item: Cell, row: Row, value: int) -> Iterator[Found]:
        reading, unit, here = column.reading, self.figures.unit(column.reading, item), f"row {row.number}"

        def found(text: str, other: int | None, rank: int, factor: int = unit[1]) -> Iterator[Found]:
            if other is not None and is_true(item, other, factor):
                yield Found(report.Explanation(here, text, _exact(other, reading)), rank)

        yield from found("repeated rows counted once", self.figures.total(reading, row.kind, item.column, once=True), 2)
        yield from found(
            "repeated rows counted once more than they stand",
            self.figures.total(reading, row.kind, item.column, more=1),
            3,
        )
        yield from found(
            "rows without a number in this column counted too",
            self.figures.total(reading, row.kind, item.column, all_rows=True), 4,
        )  # fmt: skip
        if is_cut(item, value, unit[1]):
            yield Found(report.Explanation(here, "the digits cut off, not rounded", _exact(value, reading)), 5)
        yield from self._readings(column, item)
        for factor, text in ((2, "counted twice"), *((many, f"batch {many}") for many in BATCHES[1:])):
            yield from found(text, value * factor, 60 + factor)
        yield from self._slip(item, value, unit[1], here)

    # -- shapes --------------------------------------------------------------------------

    def _shapes(self, row: Row) -> Iterator[report.Claim]:
        """The printed output of a row, and its printed input, which is the output of the row before."""
        layout = self.table.layout
        if row.printed_output:
            have = (
                row.output
                if row.times == len(self.figures.copies.get(self.numbers[row.number], []))
                else made(row.parts)
            )
            fits = agree(have, row.printed_output)
            found = [] if fits else list(self._shape_changes(row, row.printed_output))
            yield self._shape_claim(row, "output", row.printed_output, have, found, fits=fits)
        if row.printed_input and row.given:
            fits = agree(row.given, row.printed_input)
            found = []
            if not fits and row.given_by in self.numbers:
                found = list(self._shape_changes(self.rows[self.numbers[row.given_by]], row.printed_input))
            source = f"output of row {row.given_by} ({layout})"
            yield self._shape_claim(row, "input", row.printed_input, row.given, found, fits=fits, source=source)

    def _shape_claim(
        self, row: Row, column: str, printed: Image, have: Image, found: list[Found], *, fits: bool, source: str = ""
    ) -> report.Claim:
        layout = self.table.layout
        header = next((h for h, name in zip(self.table.columns.headers, self.table.columns.roles, strict=True)
                       if name == column), column)  # fmt: skip
        return report.Claim(
            row.number, row.line, row.text, header.strip() or column, written(printed, layout), source or "output",
            written(have, layout), None, "right" if fits else "wrong",
            off="" if fits else f"{written(printed, layout)} printed, {written(have, layout)} computed",
            explanations=_best(found),
        )  # fmt: skip

    def _shape_changes(self, row: Row, printed: Image) -> Iterator[Found]:
        for change in self._changes(row):
            image = _made(change.parts)
            if image and agree(image, printed):
                yield self._structural(row, change, written(image, self.table.layout))

    # -- numbers of layers ---------------------------------------------------------------

    def _layer_claim(self, column: Column, item: Cell) -> report.Claim:
        row, reading = self.rows[item.row], column.reading
        value, unit = self.figures.value(reading, item), self.figures.unit(reading, item)
        if value is None:
            return _unchecked(row, column.header, item.text, "the row cannot be computed")
        if is_true(item, value, unit[1]):
            against = [other for other in column.ties if not self.figures.holds(other, item)]
            if against:
                return self._claim(
                    column, item, value, "ambiguous", f"false as {against[0].title}, which fits as many rows"
                )
            return self._claim(column, item, value, "right")
        for other in column.ties:
            if self.figures.holds(other, item):
                reason = f"true as {other.title}, which fits as many rows"
                return self._claim(column, item, self.figures.value(other, item) or 0, "ambiguous", reason)
        leading = filled(item)
        if leading is not None and is_true(leading, value, unit[1]):
            return self._claim(column, item, value, "ambiguous", _padded(leading))
        copies = self.figures.copies.get(item.row, [])
        if len(copies) > 1:
            together = sum(amount(reading.quantity, parts, reading.dtype) or 0 for parts in copies)
            if is_true(item, together, unit[1]):
                return self._claim(
                    column, item, together, "ambiguous", f"true for all {len(copies)} of the row together"
                )
        self.searched += 1
        found = list(self._search(column, item, row, value)) if self.searched <= MOST_SEARCHED else []
        best = next((one for one in sorted(found, key=lambda one: one.rank) if one.parts), None)
        if best is not None and best.rank < 0:
            self.repaired[best.row] = (best.explanation.change, best.parts)
        return self._claim(column, item, value, "wrong", "", found)

    def _search(self, column: Column, item: Cell, row: Row, value: int) -> Iterator[Found]:
        """Everything that makes one printed number true."""
        reading, unit = column.reading, self.figures.unit(column.reading, item)
        here = f"row {row.number}"
        alone = list(self._readings(column, item))
        yield from alone
        for change in self._changes(row):
            other_value = amount(reading.quantity, change.parts, reading.dtype)
            if other_value is not None and is_true(item, other_value, unit[1]):
                yield self._structural(row, change, _exact(other_value, reading))
        if is_cut(item, value, unit[1]):
            yield Found(report.Explanation(here, "the digits cut off, not rounded", _exact(value, reading)), 12)
        if is_true(item, 2 * value, unit[1]):
            yield Found(report.Explanation(here, "counted twice", _exact(2 * value, reading)), 25)
        for many in BATCHES:
            batched = amount(reading.quantity, row.parts, reading.dtype, many)
            if batched is not None and batched not in (value, 2 * value) and is_true(item, batched, unit[1]):
                yield Found(report.Explanation(here, f"batch {many}", _exact(batched, reading)), 28)
        yield from self._slip(item, value, unit[1], here)
        if not alone and item.digits >= LONG_NUMBER:
            yield from self._pairs(column, item, row)

    def _readings(self, column: Column, item: Cell) -> Iterator[Found]:
        """Other readings of the column under which a number is true: one thing changed, or what fits most rows."""
        top = column.others[0][1] if column.others else 0
        widely = {reading: count for reading, count in column.others if count == top > 1}
        tried = dict.fromkeys((*self.figures.others(column.reading, item), *widely))
        for rank, other in enumerate(tried):
            if self.figures.holds(other, item, other.unit):
                support = f"{top} claims of the column are true so" if other in widely else ""
                value = _exact(self.figures.value(other, item), other)
                change = difference(other, column.reading)
                explanation = report.Explanation(f"column {column.header}", change, value, support)
                yield Found(explanation, rank - 100 if support else 10 + rank)

    def _pairs(self, column: Column, item: Cell, row: Row) -> Iterator[Found]:
        """Two changes at once: another reading of the column and another layer in the row."""
        for rank, other in enumerate(self.figures.others(column.reading, item)):
            factor = other.unit[1]
            for change in self._changes(row):
                value = amount(other.quantity, change.parts, other.dtype)
                if value is not None and is_true(item, value, factor):
                    text = f"{change.text}, and {difference(other, column.reading)}"
                    yield Found(report.Explanation(f"row {row.number}", text, _exact(value, other)), 100 + rank)
            for many in BATCHES:
                value = amount(other.quantity, row.parts, other.dtype, many)
                if value is not None and is_true(item, value, factor):
                    text = f"batch {many}, and {difference(other, column.reading)}"
                    yield Found(report.Explanation(f"row {row.number}", text, _exact(value, other)), 110 + rank)

    @staticmethod
    def _slip(item: Cell, value: int, factor: int, here: str) -> Iterator[Found]:
        if factor == 1 and not item.places and (text := slips(str(item.number), str(value))):
            yield Found(report.Explanation(here, text, f"{value:,}"), 90)

    # -- rows ----------------------------------------------------------------------------

    def _changes(self, row: Row) -> Iterator[Change]:
        at = self.figures.layers.index(self.numbers[row.number])
        near = [
            self.rows[self.figures.layers[other]] for other in (at - 1, at + 1) if 0 <= other < len(self.figures.layers)
        ]
        yield from changes(row, near)

    def _structural(self, row: Row, change: Change, value: str) -> Found:
        """A change of a row, ranked by whether the row that reads its output speaks for or against it."""
        readers, image = self.readers.get(row.number, []), _made(change.parts)
        before = [agree(row.output, reader.printed_input) for reader in readers]
        after = [bool(image) and agree(image, reader.printed_input) for reader in readers]
        support, rank = "", change.rank
        if after and all(after) and not all(before):
            reader = readers[0]
            support = f"row {reader.number} reads {written(reader.printed_input, self.table.layout)}"
            rank -= 100
        elif before and all(before) and not all(after):
            rank += 30
        explanation = report.Explanation(f"row {row.number}", change.text, value, support)
        return Found(explanation, rank, change.parts, self.numbers[row.number])

    def _claim(
        self, column: Column, item: Cell, value: int, verdict: report.Verdict, reason: str = "",
        found: Sequence[Found] = (),
    ) -> report.Claim:  # fmt: skip
        row, reading = self.rows[item.row], column.reading
        off = _off(item, value, self.figures.unit(reading, item)) if verdict == "wrong" else ""
        return report.Claim(
            row.number, row.line, row.text, column.header, item.text, reading.quantity.title,
            _exact(value, reading), value, verdict, reason, off, _best(found),
        )  # fmt: skip


def _made(parts: tuple[Part, ...]) -> Image:
    try:
        return made(parts)
    except GraphError:
        return ()


def _best(found: Sequence[Found]) -> tuple[report.Explanation, ...]:
    ranked = sorted(found, key=lambda one: one.rank)
    if ranked and ranked[0].rank < 100:
        ranked = [one for one in ranked if one.rank < 100]
    return tuple(dict.fromkeys(one.explanation for one in ranked))[:MOST_EXPLANATIONS]


def _padded(leading: Cell) -> str:
    digits = "the first digit" if leading.digits == 1 else f"the first {leading.digits} digits"
    return f"true in {digits}, if the zeros behind only fill up"


def _unchecked(row: Row, header: str, text: str, reason: str) -> report.Claim:
    return report.Claim(row.number, row.line, row.text, header, text, "", "", None, "unchecked", reason)


def _exact(value: int | None, reading: Reading) -> str:
    if value is None:
        return ""
    return f"{value:,}" if reading.quantity.counted else f"{value:,} B"


def _off(item: Cell, value: int, unit: tuple[str, int]) -> str:
    printed = item.bytes_printed(unit[1])
    difference = round(printed - value)
    ratio = f", {float(printed / value):.4g} times the value" if value else ""
    return f"{difference:+,}{ratio}"


def _repairs(claims: Sequence[report.Claim]) -> tuple[report.Repair, ...]:
    """Single changes by how many wrong claims they make true."""
    found: dict[tuple[str, str], list[str]] = {}
    for claim in claims:
        if claim.verdict == "wrong":
            for explanation in claim.explanations:
                key = (explanation.where, explanation.change)
                found.setdefault(key, []).append(f"row {claim.row} {claim.column}")
    ordered = sorted(found.items(), key=lambda item: -len(item[1]))
    covered: set[str] = set()
    repairs = []
    for (where, change), names in ordered:
        if not covered.issuperset(names):
            covered.update(names)
            repairs.append(report.Repair(where, change, len(names), tuple(names)))
    return tuple(repairs)


__all__ = ["UNITS", "Asked", "check"]
