"""The report on costs as titled tables of strings; writers lay them out."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, localcontext

from peakmem.render.blocks import Block, Lines, Table
from peakmem.report.cost import Cost, Row
from peakmem.units import Units, format_bytes

CENTS = Decimal("0.01")
SIGNIFICANT = 3
# digits of an amount below a cent


def blocks(report: Cost, units: Units = "iec") -> list[Block]:
    """What it costs, per dtype, and what another dtype saves."""
    shown: list[Block] = [
        Lines(
            f"{report.name}, {report.copies:,} {'copy' if report.copies == 1 else 'copies'}",
            (
                f"price: {report.price}",
                f"counted: {report.counted}",
                *report.notes,
            ),
        ),
        _costs(report, units),
    ]
    if len(report.rows) > 1:
        shown.append(_savings(report))
    return shown


def money(amount: Decimal, currency: str) -> str:
    """An amount at cents, smaller ones at three significant digits; the symbol where people write it."""
    digits = _rounded(abs(amount))
    sign = "-" if amount < 0 else ""
    if not currency:
        return f"{sign}{digits}"
    return f"{sign}{currency}{digits}" if not currency[0].isalpha() else f"{sign}{digits} {currency}"


def _rounded(amount: Decimal) -> str:
    with localcontext() as context:
        context.prec = 400
        if amount == 0 or amount >= CENTS:
            return f"{amount.quantize(CENTS, ROUND_HALF_UP):,}"
        step = Decimal(1).scaleb(amount.adjusted() - SIGNIFICANT + 1)
        return f"{amount.quantize(step, ROUND_HALF_UP):f}"


def _differ(row: Row) -> bool:
    """Whether the unit's other sense shows in what is printed."""
    return _rounded(row.monthly) != _rounded(row.other_monthly) or _rounded(row.yearly) != _rounded(row.other_yearly)


def _costs(report: Cost, units: Units) -> Table:
    both = any(_differ(row) for row in report.rows)
    extra = report.months != 12
    columns = ["dtype", "one copy", f"all, in {report.unit}", "monthly", "yearly"]
    columns += [f"{report.months} months"] if extra else []
    columns += [f"monthly if {report.other_unit}", f"yearly if {report.other_unit}"] if both else []
    rows = []
    for row in report.rows:
        with localcontext() as context:
            context.prec = 400
            stored = f"{row.stored.quantize(CENTS, ROUND_HALF_UP):,}" if row.stored >= CENTS else _rounded(row.stored)
        cells = [row.dtype, format_bytes(row.nbytes, units), stored]
        cells += [money(amount, report.currency) for amount in (row.monthly, row.yearly)]
        cells += [money(row.whole, report.currency)] if extra else []
        cells += [money(amount, report.currency) for amount in (row.other_monthly, row.other_yearly)] if both else []
        rows.append(tuple(cells))
    return Table("Cost", tuple(columns), tuple(rows), frozenset(columns[1:]))


def _savings(report: Cost) -> Table:
    first = report.rows[0].dtype
    rows = tuple(
        (row.dtype, money(row.saving_monthly, report.currency), money(row.saving_yearly, report.currency))
        for row in report.rows[1:]
    )
    return Table(f"Saved against {first}", ("dtype", "monthly", "yearly"), rows, frozenset({"monthly", "yearly"}))
