"""The report on a table's claims as titled tables of strings, and as CSV; writers lay them out."""

from __future__ import annotations

import csv
import io

from peakmem.render.blocks import Block, Lines, Table
from peakmem.report.claims import Claim, Claims, Explanation, Reading

_MARK = {"right": "right", "wrong": "WRONG", "ambiguous": "ambiguous", "unchecked": "not checked"}


def blocks(report: Claims) -> list[Block]:
    """What is right and wrong, what would make it true, what the columns mean, and what was assumed."""
    shown: list[Block] = [_headline(report), _claims(report)]
    if any(claim.verdict in ("wrong", "ambiguous") for claim in report.claims):
        shown.append(_explained(report))
    if report.repairs:
        shown.append(_repairs(report))
    if report.columns:
        shown.append(_columns(report))
    shown.append(Lines("Assumptions", report.notes or ("none",)))
    return shown


def _headline(report: Claims) -> Lines:
    checked = report.right + report.wrong + report.ambiguous
    more = f", {report.ambiguous} ambiguous" if report.ambiguous else ""
    left = f", {report.unchecked} not checked" if report.unchecked else ""
    verdict = f"{report.right} of {checked} claims are right, {report.wrong} wrong{more}{left}"
    return Lines(report.source, (verdict, f"{report.layers} layers, repeated ones counted"))


def _claims(report: Claims) -> Table:
    rows = tuple(
        (str(claim.row), claim.layer, claim.column, claim.printed, claim.recomputed, _MARK[claim.verdict])
        for claim in report.claims
    )
    return Table(
        "Claims, row by row", ("row", "layer", "column", "printed", "recomputed", "verdict"), rows,
        frozenset({"row", "recomputed"}),
    )  # fmt: skip


def _explained(report: Claims) -> Table:
    rows = []
    for claim in report.claims:
        if claim.verdict in ("wrong", "ambiguous"):
            reasons = list(map(_sentence, claim.explanations))
            if claim.reason:
                reasons.insert(0, claim.reason)
            if not reasons:
                reasons = [f"nothing tried explains it; off by {claim.off}"]
            for position, reason in enumerate(reasons):
                head = (str(claim.row), claim.layer, claim.column, claim.printed, claim.recomputed)
                rows.append((*(head if position == 0 else ("",) * 5), reason))
    return Table(
        "What would make them true", ("row", "layer", "column", "printed", "recomputed", "true with"), tuple(rows),
        frozenset({"row", "recomputed"}),
    )  # fmt: skip


def _sentence(explanation: Explanation) -> str:
    support = f"; {explanation.support}" if explanation.support else ""
    return f"{explanation.where}: {explanation.change} (gives {explanation.value}{support})"


def _repairs(report: Claims) -> Table:
    rows = tuple((repair.where, repair.change, str(repair.makes_true)) for repair in report.repairs)
    return Table("One change and the claims it makes true", ("where", "change", "claims"), rows, frozenset({"claims"}))


def _columns(report: Claims) -> Table:
    rows = []
    for column in report.columns:
        rows.append(
            (
                column.column, _meaning(column.reading), ", ".join(column.stated) or "nothing",
                f"{column.reading.right} of {column.claims}",
            )
        )  # fmt: skip
        rows += [("", f"or {_meaning(other)}", "", f"{other.right} of {column.claims}") for other in column.others]
    return Table("What the columns mean", ("column", "means", "stated", "true"), tuple(rows), frozenset({"true"}))


def _meaning(reading: Reading) -> str:
    dtype = f", {reading.dtype}" if reading.dtype else ""
    unit = f", in {reading.unit}" if reading.unit else ""
    name = f" [{reading.convention}]" if reading.convention else ""
    return f"{reading.quantity}{dtype}{unit}{name}"


CSV_COLUMNS = (
    "row", "line", "layer", "column", "printed", "quantity", "recomputed", "value", "verdict", "reason", "off",
    "true_with",
)  # fmt: skip


def claims_csv(report: Claims) -> str:
    """One line per claim; sizes in exact bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for claim in report.claims:
        writer.writerow(_cells(claim))
    return text.getvalue()


def _cells(claim: Claim) -> tuple[object, ...]:
    return (
        claim.row, claim.line or "", claim.layer, claim.column, claim.printed, claim.quantity, claim.recomputed,
        "" if claim.value is None else claim.value, claim.verdict, claim.reason, claim.off,
        " | ".join(map(_sentence, claim.explanations)),
    )  # fmt: skip
