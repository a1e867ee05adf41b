"""The report on claims as titled tables and sentences; writers lay them out."""

from __future__ import annotations

from collections.abc import Sequence

from peakmem.render.blocks import Block, Lines, Table
from peakmem.report.ledger import Ledger, Statement

_MARK = {"right": "right", "wrong": "WRONG", "ambiguous": "ambiguous", "practice": "practice",
         "not computed": "not computed"}  # fmt: skip
LONGEST = 72


def blocks(report: Ledger, shown: Sequence[Statement] | None = None) -> list[Block]:
    """Counts, one row for each statement, and what is to be said of those that are not right."""
    statements = report.statements if shown is None else tuple(shown)
    found: list[Block] = [_headline(report)]
    if len(report.sources) > 1:
        found.append(_sources(report))
    found.append(_statements(statements))
    told = [one for one in statements if one.verdict in ("wrong", "ambiguous", "not computed")]
    if told:
        found.append(_told(told))
    return found


def _headline(report: Ledger) -> Lines:
    checked = report.right + report.wrong + report.ambiguous
    parts = [f"{report.right} of {checked} claims are right, {report.wrong} wrong"]
    parts += [f"{report.ambiguous} ambiguous"] if report.ambiguous else []
    parts += [f"{report.practice} practice"] if report.practice else []
    parts += [f"{report.not_computed} not computed"] if report.not_computed else []
    title = report.sources[0].title or report.sources[0].source if len(report.sources) == 1 else "Claims"
    return Lines(title, (", ".join(parts),))


def _sources(report: Ledger) -> Table:
    rows = tuple(
        (one.source, one.title, *(str(count) for count in _counts(one))) for one in report.sources
    )  # fmt: skip
    columns = ("source", "title", "claims", "right", "wrong", "ambiguous", "practice", "not computed")
    total = ("sum", "", *(str(sum(column)) for column in zip(*map(_counts, report.sources), strict=True)))
    return Table("Sources", columns, rows, frozenset(columns[2:]), total)


def _counts(one: object) -> tuple[int, ...]:
    return tuple(
        getattr(one, name) for name in ("statements", "right", "wrong", "ambiguous", "practice", "not_computed")
    )


def _statements(statements: Sequence[Statement]) -> Table:
    rows = tuple(
        (one.id, str(one.line or one.file_line), _short(one.says or one.context), one.claim,
         one.computed[0].shown if one.computed else "", _MARK[one.verdict])
        for one in statements
    )  # fmt: skip
    columns = ("claim", "line", "about", "claimed", "computed", "verdict")
    return Table("Claim by claim", columns, rows, frozenset({"line"}))


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 2].rstrip()} …"


def _told(statements: Sequence[Statement]) -> Table:
    rows: list[tuple[str, ...]] = []
    for one in statements:
        lines = [one.why] if one.why else []
        lines += [f"{reading.reading}: {reading.shown or reading.reason}" for reading in one.computed[1:]]
        lines += [f"true with {made.change}: {made.shown}" for made in one.explanations]
        if not lines:
            lines = [one.computed[0].expression if one.computed else ""]
        for position, line in enumerate(lines):
            head = (one.id, one.claim, _MARK[one.verdict]) if not position else ("", "", "")
            rows.append((*head, line))
    return Table("Why, and what would make them true", ("claim", "claimed", "verdict", "said"), tuple(rows))
