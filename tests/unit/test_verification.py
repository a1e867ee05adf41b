"""The report of a verified training step, from two small logs; what it shows, and its way to JSON and back."""

from __future__ import annotations

import pytest

from peakmem.render.training_check import View, blocks
from peakmem.report.codec import from_json, schema
from peakmem.report.training_check import TrainingCheck
from peakmem.training.recorder import Recorder
from peakmem.training.scenario import Scenario
from peakmem.training.verify.comparing import compare
from peakmem.training.verify.running import Resident
from peakmem.training.verify.verifying import Verification
from peakmem.verification import report_of


def log(extra):
    made = Recorder(device="cpu", origin="trace")
    made.allocate(1000, category="parameter", name="w")
    made.enter("forward", 0)
    made.allocate(200, "aten::mm", module="a")
    made.enter("backward")
    made.workspace(50 + extra, "aten::mm", module="a")
    return made.finish()


def report(extra):
    seen = (
        Resident("imports", 10 << 20, 11 << 20), Resident("build -1", 20 << 20, 20 << 20),
        Resident("forward 0", 30 << 20, 31 << 20), Resident("forward 0", 25 << 20, 40 << 20),
    )  # fmt: skip
    facts = {"torch": "2.13.0", "threads": "2"}
    found = Verification("net", Scenario(), compare(log(0), log(extra)), facts, {}, seen, ("one image",))
    return report_of(found)


def text(one):
    return "\n".join(
        "\n".join(block.lines) if hasattr(block, "lines") else "\n".join("\t".join(row) for row in block.rows)
        for block in blocks(one, View())
    )


def test_too_low_is_said_with_its_bytes():
    one = report(125)
    assert (one.predicted.nbytes, one.measured.nbytes, one.below) == (1250, 1375, True)
    assert one.error == pytest.approx(-125 / 1375)
    shown = text(one)
    assert "predicted too low by 125 B, -9.0909% of what was measured" in shown
    assert "kernel workspace\taten::mm\ta\t50\t175\t+125" in shown
    assert "one image" in shown


def test_equal_is_said_so():
    one = report(0)
    assert "they are equal to the byte" in text(one)
    assert not one.differences
    assert not one.below


def test_a_phase_that_comes_again_counts_with_its_highest():
    lines = {(one.step, one.phase): (one.resident_bytes >> 20, one.peak_bytes >> 20) for one in report(0).process}
    assert lines == {(-1, "imports"): (10, 11), (-1, "build"): (20, 20), (0, "forward"): (25, 40)}


def test_json_and_back():
    one = report(125)
    assert from_json(one.to_json(), TrainingCheck) == one
    assert schema("training_check")["title"] == "peakmem.training_check/1"
