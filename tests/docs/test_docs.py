"""The docs say what the code does: generated pages are current and shown outputs are real."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import generate  # noqa: E402  (scripts beside the pages, not part of the package)
import shown  # noqa: E402

PAGES = {str(path.relative_to(ROOT)): path for path in shown.documents()}


@pytest.mark.parametrize("name", generate.MAKERS)
def test_generated_pages_are_up_to_date(name):
    assert (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8") == generate.page(name), (
        "run: python docs/generate.py"
    )


@pytest.mark.parametrize("name", [name for name, path in PAGES.items() if shown.steps(path.read_text("utf-8"))])
def test_shown_commands_print_what_is_shown(name):
    pytest.importorskip("onnx")
    assert shown.check(PAGES[name]) == [], "run: python docs/generate.py --outputs"


def test_every_command_of_the_guides_stands_in_a_checked_block():
    """A `$ peakmem` line in any other kind of block would never be run."""
    for path in PAGES.values():
        text = path.read_text("utf-8")
        checked = sum(isinstance(step, shown.Command) for step in shown.steps(text))
        assert len(re.findall(r"^\$ ", text, re.MULTILINE)) == checked, path


@pytest.mark.parametrize("name", PAGES)
def test_links_between_pages_lead_somewhere(name):
    path = PAGES[name]
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
        if "://" not in target and not target.startswith("mailto:"):
            assert (path.parent / target).exists(), target


def test_the_checker_sees_a_wrong_line():
    actual = ["# a", "part\tsize\tbytes", "weights\t1 B\t1", "total\t1 B\t1"]
    assert shown.missing(["part   size  bytes", "...", "total  1 B  1"], actual) == []
    assert shown.missing(["weights  2 B  2"], actual) == ["weights  2 B  2"]
    assert shown.missing(["total  1 B  1", "weights  1 B  1"], actual) == ["weights  1 B  1"]


def test_refreshing_finds_the_line_that_changed():
    actual = ["part\tsize\tbytes", "weights\t1 B\t17", "total\t1 B\t18", "# end"]
    before = ["part  size  bytes", "total  1 B  9", "...", "# end"]
    assert shown.refreshed(before, actual) == ["part   size  bytes", "total   1 B     18", "...", "# end"]


def test_steps_keep_their_order_and_join_continued_lines():
    blocks = (
        "```console", "$ peakmem a \\", "    --layers", "out", "```",
        "```pycon", ">>> 1", "1", "```",
        "```console", "$ echo $?", "0", "```",
    )  # fmt: skip
    text = "\n".join(blocks)
    first, second, third = shown.steps(text)
    assert (first.text, first.shown, first.end) == ("peakmem a \\\n    --layers", ["out"], 4)
    assert second.text == ">>> 1\n1\n"
    assert (third.text, third.shown) == ("echo $?", ["0"])
