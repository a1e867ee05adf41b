"""Renderers lay out; they neither lose nor invent a cell."""

import pytest

import peakmem
from peakmem.render.blocks import Lines, Table, records
from peakmem.render.tables import View, blocks
from peakmem.render.terminal import show
from peakmem.render.text import layers_csv, markdown, plain


@pytest.fixture(scope="module")
def report():
    return peakmem.estimate("squeezenet1_1", budget=10**7)


def test_a_terminal_shows_every_cell(report, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("NO_COLOR", "1")
    shown = blocks(report, View(layers=True, conventions=True))
    show(shown)
    out = capsys.readouterr().out
    for block in shown:
        assert block.title in out
        cells = block.lines if isinstance(block, Lines) else [cell for row in records(block) for cell in row]
        assert all(cell in out for cell in cells)


def test_tabs_newlines_and_escapes_in_names_cannot_break_a_line():
    table = Table("t\n1", ("a", "b"), (("x\ty", "\x1b[31mred\n"),))
    assert plain([table]) == "# t 1\na\tb\nx y\t [31mred \n"


def test_markdown_escapes_bars():
    text = markdown([Table("t", ("a", "n"), (("x|y", "1"),), frozenset({"n"}), ("sum", "1")), Lines("l", ("one",))])
    assert text == "# t\n\n| a | n |\n| --- | ---: |\n| x\\|y | 1 |\n| sum | 1 |\n\n## l\n\n- one\n"


def test_csv_has_a_line_per_operator(report):
    lines = layers_csv(report).splitlines()
    assert len(lines) == 1 + len(report.timeline)


def test_unknowns_are_listed_with_what_settles_them():
    from dataclasses import replace

    from peakmem.render.tables import unknowns
    from peakmem.report.model import UnknownItem

    report = peakmem.estimate("squeezenet1_1")
    items = tuple(UnknownItem(f"op{i}", "NonZero", "is open", "--dim a=VALUE" if i else "") for i in range(30))
    shown = unknowns(replace(report, unknowns=items, kind="lower bound"))
    assert shown.title == "Unknown (30 causes; sizes are lower bounds)"
    assert shown.lines[1] == "NonZero op1: is open; try --dim a=VALUE"
    assert shown.lines[20] == "and 10 more (all of them in --json)"


def test_a_lower_bound_does_not_prove_that_it_fits(report):
    from dataclasses import replace

    from peakmem.render.tables import budget, headline, parts

    low = replace(report, kind="lower bound")
    assert "not proved to fit" in budget(low, "iec").lines[0]
    assert "peak: at least " in headline(low, "iec").lines[0]
    assert parts(low, "iec").total[2].startswith(">= ")
