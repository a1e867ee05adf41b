"""What grew between two states of a network, as titled tables of strings."""

from __future__ import annotations

from collections.abc import Sequence

from peakmem.render.blocks import Block, Lines, Table
from peakmem.report.growth import Growth, Quantity, Side
from peakmem.units import Units, format_bytes


def blocks(report: Growth, units: Units = "iec", top: int | None = None) -> list[Block]:
    """The blocks of `report` in reading order; `top` cuts the long tables."""
    shown: list[Block] = [
        Lines(_headline(report, units), (_said("A", report.a), _said("B", report.b), *report.notes)),
        Table(
            "Quantities",
            ("quantity", "A", "B", "added", "added exactly", "share"),
            tuple(_quantity(one, units) for one in report.quantities),
            frozenset({"A", "B", "added", "added exactly", "share"}),
        ),
    ]
    if report.operators or report.rest_weights_bytes or report.rest_peak_bytes:
        shown.append(_operators(report, units, top))
    if report.tensors:
        shown.append(_tensors(report, units, top))
    many = f"{report.unchanged:,} operators have as many bytes as before"
    shown.append(Lines("Unchanged", (many,)))
    return shown


def signed(nbytes: int, units: Units) -> str:
    """A size with its sign."""
    return f"{'+' if nbytes > 0 else '-' if nbytes < 0 else ''}{format_bytes(abs(nbytes), units)}"


def _headline(report: Growth, units: Units) -> str:
    peak, weights = (report.quantity(name).added for name in ("live peak", "weights"))
    if peak == 0 and weights == 0:
        return "neither the peak nor the weights changed"
    return f"live peak {_known(peak, units)}, weights {_known(weights, units)}"


def _known(nbytes: int | None, units: Units) -> str:
    return "unknown" if nbytes is None else signed(nbytes, units)


def _said(letter: str, side: Side) -> str:
    name = side.source if side.source not in ("", "zoo") else side.name
    at = f", peak at {side.peak_at}" if side.peak_at else ""
    counted = "" if side.dtype == "as stored" else f", {side.dtype}"
    return f"{letter}: {name} [{side.format}], {side.operators:,} operators [{side.kind}, {side.assume}{counted}]{at}"


def _quantity(one: Quantity, units: Units) -> tuple[str, ...]:
    def size(value: int | None) -> str:
        if value is None:
            return "unknown"
        return f"{value:,}" if one.unit == "elements" else format_bytes(value, units)

    if one.added is None or one.a is None:
        return (one.name, size(one.a), size(one.b), "", "", "")
    added = f"{one.added:+,}" if one.unit == "elements" else signed(one.added, units)
    share = f"{one.added / one.a:+.2%}" if one.a else ""
    return (one.name, size(one.a), size(one.b), added, f"{one.added:+,}", share)


def _operators(report: Growth, units: Units, top: int | None) -> Table:
    listed = report.operators[:top]
    rows: list[tuple[str, ...]] = [
        (
            row.name, row.op_type, row.verdict, row.shape_a, row.shape_b, _cell(row.weights_b - row.weights_a, units),
            _cell(row.peak_b - row.peak_a, units), signed(row.added_bytes, units),
        )
        for row in listed
    ]  # fmt: skip
    left = report.operators[len(listed) :]
    if left:
        rows.append(_rest(f"{len(left):,} more", sum(one.weights_b - one.weights_a for one in left),
                          sum(one.peak_b - one.peak_a for one in left), units))  # fmt: skip
    if report.rest_weights_bytes or report.rest_peak_bytes:
        rows.append(_rest("shared, in bodies or not in the table", report.rest_weights_bytes, report.rest_peak_bytes,
                          units))  # fmt: skip
    weights, peak = (report.quantity(name).added for name in ("weights", "live peak"))
    both = None if weights is None or peak is None else weights + peak
    return Table(
        "Operators that added bytes",
        ("operator", "type", "change", "shape of A", "shape of B", "weights", "at the peak", "added"),
        tuple(rows), frozenset({"weights", "at the peak", "added"}),
        ("all", "", "", "", "", *(_known(one, units) for one in (weights, peak, both))),
    )  # fmt: skip


def _rest(title: str, weights: int, peak: int, units: Units) -> tuple[str, ...]:
    return (title, "", "", "", "", _cell(weights, units), _cell(peak, units), signed(weights + peak, units))


def _cell(nbytes: int, units: Units) -> str:
    return signed(nbytes, units) if nbytes else ""


def _tensors(report: Growth, units: Units, top: int | None) -> Table:
    rows: Sequence[tuple[str, ...]] = [
        (
            one.b or one.a, one.where, one.role, one.verdict, one.shape_a, one.shape_b,
            format_bytes(one.a_bytes, units), format_bytes(one.b_bytes, units), signed(one.added_bytes, units),
        )
        for one in report.tensors[:top]
    ]  # fmt: skip
    left = len(report.tensors) - len(rows)
    return Table(
        f"Tensors that added bytes{f' ({left:,} more)' if left else ''}",
        ("tensor", "where", "role", "change", "shape of A", "shape of B", "A", "B", "added"),
        tuple(rows), frozenset({"A", "B", "added"}),
    )  # fmt: skip
