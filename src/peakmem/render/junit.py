"""Budgets as JUnit XML: a suite for each model, a case for each budget; broken ones fail, unanswered ones are errors.

Elements and attributes are those that the schema of Ant's JUnit reports asks for (windyroad/JUnit-Schema), which CI
servers read.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from peakmem.report.check import Check, Checked, Finding

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# what XML 1.0 has no way to write


def junit(report: Check, timestamp: str) -> str:
    """The whole document; `timestamp` is `2026-01-31T23:59:59`, without a zone."""
    root = ElementTree.Element("testsuites")
    for number, model in enumerate(report.models):
        _suite(root, model, number, timestamp, report)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _suite(root: ElementTree.Element, model: Checked, number: int, timestamp: str, report: Check) -> None:
    found = model.findings
    suite = ElementTree.SubElement(
        root, "testsuite", {
            "name": clean(model.name), "package": "peakmem", "id": str(number), "timestamp": timestamp,
            "hostname": "localhost", "tests": str(len(found)),
            "failures": str(sum(one.outcome == "broken" for one in found)),
            "errors": str(sum(one.outcome == "unanswered" for one in found)), "time": f"{model.seconds:.3f}",
        },
    )  # fmt: skip
    properties = ElementTree.SubElement(suite, "properties")
    said = {
        "source": model.source, "configuration": report.file, "baseline": report.baseline, "peakmem": report.peakmem,
    }  # fmt: skip
    for name, value in said.items():
        ElementTree.SubElement(properties, "property", {"name": name, "value": clean(value)})
    for one in found:
        _case(suite, one, model.seconds / len(found), report.file)
    lines = [f"{one.quantity}: {one.value:,} {one.unit} [{one.convention}; {one.kind}]" for one in model.values]
    ElementTree.SubElement(suite, "system-out").text = clean("\n".join(lines))
    ElementTree.SubElement(suite, "system-err").text = clean("\n".join(model.notes))


def _case(suite: ElementTree.Element, one: Finding, seconds: float, file: str) -> None:
    rule = "within" if one.rule == "budget" else one.rule
    name = f"{one.quantity} {rule} {one.written}"
    case = ElementTree.SubElement(
        suite, "testcase",
        {"name": clean(name), "classname": clean(f"peakmem.{one.model}"), "time": f"{seconds:.3f}"},
    )  # fmt: skip
    if one.outcome == "within":
        return
    kind = {"broken": "failure", "unanswered": "error"}[one.outcome]
    child = ElementTree.SubElement(case, kind, {"message": clean(one.said), "type": f"peakmem.{one.rule}"})
    child.text = clean("\n".join((f"{file}, line {one.line}", *one.why, *((one.hint,) if one.hint else ()))))


def clean(text: str) -> str:
    """`text` without what XML cannot hold."""
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
