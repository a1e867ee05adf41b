"""The pages on the five texts are those that the claims give now."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import sources  # noqa: E402  (a script beside the pages, not part of the package)

pytest.importorskip("yaml")


def test_every_statement_has_a_heading_once():
    found = [
        name
        for page in sources.PAGES.values()
        for name in re.findall(r"^## (S\d-\d+)$", (sources.FOLDER / f"{page}.md").read_text("utf-8"), re.MULTILINE)
    ]
    assert sorted(found) == sorted(sources.reference())
    assert len(found) == 285


def test_the_index_counts_them():
    text = (sources.FOLDER / "index.md").read_text("utf-8")
    rows = re.findall(r"^\| (?:\[.*\]\(.*\.md\)|all) \| (\d+) \| ([\d |]+) \|$", text, re.MULTILINE)
    counts = [(int(whole), [int(part) for part in parts.split(" | ")]) for whole, parts in rows]
    assert [whole for whole, _ in counts] == [36, 89, 37, 98, 25, 285]
    for whole, parts in counts:
        assert sum(parts) == whole


@pytest.mark.slow
def test_the_pages_are_up_to_date():
    assert list(sources.outdated()) == [], "run: python docs/sources.py"
