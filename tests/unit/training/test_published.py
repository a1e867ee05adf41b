"""Published measurements: the lines hold, the page is written, one of them is met."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from benchmarks.training import published


def test_the_lines_name_their_source_figure_and_step() -> None:
    rows = published.lines()
    assert len({(row["source"], row["row"]) for row in rows}) == len(rows)
    for row in rows:
        assert row["url"].startswith("https://")
        assert row["figure"] in published.FIGURES
        assert row["group"] in ("rules", "untouched")
        assert row["measured_bytes"] > 1 << 30


def _row(**changed: Any) -> dict[str, Any]:
    told = {"requested": 90, "allocated": 101, "reserved": 120, "process": 150}
    row = {"source": "s", "url": "https://s", "row": "r", "group": "rules", "figure": "allocated"}
    return row | {"measured_bytes": 100, "predicted": told} | changed


def test_each_figure_is_held_against_its_own() -> None:
    rows = [
        _row(),
        _row(figure="reserved", measured_bytes=160),
        _row(figure="process"),
        _row(figure="device, less what it held before", group="untouched"),
    ]
    said = list(published._statistics(rows))[2:]
    assert [line.split(" | ")[3] for line in said] == ["1.00%", "25.00%", "50.00%", "20.00%"]
    assert "-25.00%" in said[1]


def test_the_page_keeps_what_stands_around_the_part(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\ntext\n", encoding="utf-8")
    published.write(page, [_row()])
    first = page.read_text(encoding="utf-8")
    page.write_text(first + "\nbehind\n", encoding="utf-8")
    published.write(page, [_row(), _row(row="a line of its own")])
    second = page.read_text(encoding="utf-8")
    assert second.startswith("# Page\n\ntext\n\n" + published.BEGIN)
    assert second.endswith(published.END + "\n\nbehind\n")
    assert second.count(published.BEGIN) == 1
    assert "a line of its own" in second
    assert "a line of its own" not in first


@pytest.mark.slow
def test_a_lora_step_on_an_a100_is_met() -> None:
    pytest.importorskip("torch")
    from peakmem.training.tracing import cuda

    if reason := cuda.available():
        pytest.skip(reason)
    row = next(row for row in published.lines() if row["row"].startswith("stablelm-alpha-3b"))
    assert abs(published._error(published.predicted(row))) < 0.005
