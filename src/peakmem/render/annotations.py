"""Budgets that do not hold as annotations of GitHub Actions: `::error file=…,line=…,title=…::message`.

GitHub keeps ten errors of a step (actions/toolkit, docs/problem-matchers.md, "Limitations"), so that the worst come
first. Values are escaped as actions/toolkit does (packages/core/src/command.ts).
"""

from __future__ import annotations

from collections.abc import Sequence

from peakmem.report.check import Check, Finding

MOST = 10
# errors of one step that are shown
LONGEST = 4000
# characters of one message


def commands(report: Check, file: str) -> list[str]:
    """At most ten commands, the worst first; `file` is the configuration as seen from the repository's root."""
    return [_command(one, file) for one in _worst(report)[:MOST]]


def left_out(report: Check) -> int:
    """How many findings have no annotation because there are more than ten."""
    return max(0, len(_worst(report)) - MOST)


def fault(message: str, file: str = "", line: int = 0) -> str:
    """The annotation for a check that did not begin."""
    place = f"file={_property(file)},line={line or 1}," if file else ""
    return f"::error {place}title={_property('peakmem check: no answer')}::{_data(message)}"


def _worst(report: Check) -> Sequence[Finding]:
    """Findings that do not hold, those that say the same of one model once."""
    found: dict[tuple[str, str, str], Finding] = {}
    for one in report.findings:
        if one.outcome == "broken":
            found[one.model, one.quantity, one.rule + one.written] = one
        elif one.outcome == "unanswered":
            found.setdefault((one.model, "unanswered", one.said.partition(" cannot be told: ")[2] or one.said), one)
    return list(found.values())


def _command(one: Finding, file: str) -> str:
    if one.outcome == "unanswered":
        title = f"{one.model}: {one.quantity} cannot be told"
    elif one.rule == "growth" and one.before is not None and one.value is not None:
        grew = f"{one.value / one.before - 1:+.1%}" if one.before else "from nothing"
        title = f"{one.model}: {one.quantity} grew {grew}, {one.written} allowed"
    elif one.rule == "fits":
        title = f"{one.model} does not fit {one.written}"
    else:
        title = f"{one.model}: {one.quantity} over its budget by {one.excess:.1%}"
    message = "\n".join((one.said, *one.why, *((f"try: {one.hint}",) if one.hint else ())))
    return f"::error file={_property(file)},line={one.line or 1},title={_property(title)}::{_data(message[:LONGEST])}"


def _data(text: str) -> str:
    plain = "".join(char if char.isprintable() or char in "\r\n" else " " for char in text)
    return plain.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
