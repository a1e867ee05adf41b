"""Budgets and what became of them, as titled tables of strings, and as the summary of a CI step."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from peakmem.render.blocks import Block, Lines, Table
from peakmem.report.check import Change, Check, Finding
from peakmem.units import Units, format_bytes

LARGEST_SUMMARY = 1 << 20
# bytes that GitHub shows of what one step writes; more fails the upload (docs.github.com, workflow commands)
_CUT = "\n\n_Cut here: a summary has at most 1 MiB; the report as JSON or JUnit has everything._\n"
_MARKS = re.compile(r"([\\`*\[\]<>|#])")
COLUMNS = ("verdict", "model", "quantity", "needs", "allowed", "room", "budget", "line")
NUMBERS = frozenset({"needs", "allowed", "room", "line"})


def blocks(report: Check, units: Units = "iec") -> list[Block]:
    """The blocks of `report` in reading order."""
    shown: list[Block] = [Lines(headline(report), tuple(_about(report)))]
    if report.findings:
        shown.append(Table("Budgets", COLUMNS, tuple(_row(one, units) for one in report.findings), NUMBERS))
    for title, outcome in (("Broken", "broken"), ("Not answered", "unanswered")):
        said = tuple(line for one in report.findings if one.outcome == outcome for line in _told(one))
        if said:
            shown.append(Lines(title, tuple(dict.fromkeys(said)) if outcome == "unanswered" else said))
    if report.updated:
        shown.append(_changes(report.updated, units))
    notes = (*report.notes, *(f"{one.name}: {note}" for one in report.models for note in one.notes))
    if notes:
        shown.append(Lines("Notes", notes))
    hints = tuple(dict.fromkeys(one.hint for one in report.findings if one.hint and one.outcome != "within"))
    if hints:
        shown.append(Lines("Next", hints))
    return shown


def headline(report: Check) -> str:
    """How many of which, in one line."""
    counts = ((report.broken, "broken"), (report.unanswered, "not answered"), (report.within, "within"))
    said = [f"{count:,} {name}" for count, name in counts if count]
    return f"budgets: {', '.join(said) or 'none'}"


def _about(report: Check) -> Iterator[str]:
    many = len(report.models)
    yield f"{report.file}: {many:,} model{'' if many == 1 else 's'}"
    if report.baseline:
        yield f"baseline: {report.baseline}"


def _row(one: Finding, units: Units) -> tuple[str, ...]:
    written = {"budget": "budget", "growth": f"growth {one.written}", "fits": f"fits {one.written}"}[one.rule]
    room = ""
    if one.value is not None and one.allowed is not None:
        room = size(one.allowed - one.value, one.unit, units)
    needs, allowed = (size(value, one.unit, units) for value in (one.value, one.allowed))
    return (
        one.outcome, one.model, one.quantity, needs, allowed, room, written, str(one.line or ""),
    )  # fmt: skip


def size(value: int | None, unit: str, units: Units) -> str:
    """A value in its unit; "" for none."""
    if value is None:
        return ""
    if unit != "bytes":
        return f"{value:,}"
    return f"{'-' if value < 0 else ''}{format_bytes(abs(value), units)}"


def _told(one: Finding) -> Iterator[str]:
    yield f"{one.model}: {one.said}"
    yield from (f"  {line}" for line in one.why)


def _changes(changes: Sequence[Change], units: Units) -> Table:
    rows = []
    for one in changes:
        added = "" if one.before is None or one.after is None else f"{one.after - one.before:+,}"
        before, after = (size(value, one.unit, units) for value in (one.before, one.after))
        rows.append((one.model, one.quantity, before or "none", after or "none", added))
    return Table(
        "Baseline, as it was and is now", ("model", "quantity", "before", "after", "added exactly"), tuple(rows),
        frozenset({"before", "after", "added exactly"}),
    )  # fmt: skip


# -- the summary of a step ---------------------------------------------------------------


def summary(report: Check, units: Units = "iec", *, room: int = LARGEST_SUMMARY) -> str:
    """Markdown for GITHUB_STEP_SUMMARY, cut to `room` bytes."""
    out = [f"## peakmem: {marked(headline(report))}", "", *(marked(line) for line in _about(report)), ""]
    if report.findings:
        marks = ["---:" if name in NUMBERS else "---" for name in COLUMNS]
        rows = [COLUMNS, tuple(marks), *(tuple(map(marked, _row(one, units))) for one in report.findings)]
        out += [f"| {' | '.join(row)} |" for row in rows]
        out.append("")
    for one in report.findings:
        if one.outcome != "within":
            out.append(f"- **{marked(one.model)}** {marked(one.said)}")
            out += [f"  - {marked(line)}" for line in one.why]
            out += [f"  - try `{one.hint.replace('`', '')}`"] if one.hint else []
    if report.updated:
        out += ["", "### Baseline", ""]
        rows = [_changes(report.updated, units).columns, ("---", "---", "---:", "---:", "---:")]
        rows += [tuple(map(marked, row)) for row in _changes(report.updated, units).rows]
        out += [f"| {' | '.join(row)} |" for row in rows]
    notes = (*report.notes, *(f"{one.name}: {note}" for one in report.models for note in one.notes))
    out += ["", *(f"- {marked(note)}" for note in notes), ""]
    return cut("\n".join(out), room)


def cut(text: str, room: int) -> str:
    """`text` in at most `room` bytes of UTF-8, cut at the end of a line; "" where not even the notice has room."""
    data = text.encode("utf-8", "replace")
    if len(data) <= room:
        return text
    left = room - len(_CUT.encode())
    if left <= 0:
        return ""
    kept = data[:left].decode("utf-8", "ignore")
    return kept[: kept.rfind("\n") + 1] + _CUT


def marked(text: str) -> str:
    """`text` as Markdown that shows it as it is."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    return _MARKS.sub(r"\\\1", plain)
