"""Prediction and measurement side by side: the waterfall by hand arithmetic, and engines that are there."""

from __future__ import annotations

import pytest

from peakmem.engines.prediction import Holding, Moment
from peakmem.errors import PeakmemError, UsageError
from peakmem.measuring.account import Account, Part
from peakmem.reconciliation import moment_of, reasons, reconcile, waterfall
from peakmem.report.codec import from_json
from peakmem.report.reconciliation import Reconciliation

HELD = (
    Holding("weights", 300, "kept"), Holding("repacked weights", 900, "tiles"), Holding("activations", 50, "blobs"),
    Holding("pools", 450, "kept for later"), Holding("objects", 7, "layers"),
)  # fmt: skip
AT = Account("run 1", False, 3000, 1800, (Part("stacks", 40, "smaps"), Part("heap before the model", 1100, "")), 500,
             150, 50, 3500, 9000)  # fmt: skip


def stairs(by=(1000, 100), asked=1750):
    return list(waterfall(HELD, by, asked, AT))


def test_the_waterfall_adds_up_at_every_sum():
    running = 0
    for stair in stairs():
        if stair.total:
            assert stair.nbytes == running, stair.name
        else:
            running += stair.nbytes


def test_each_stair():
    """Weights 1,200 of 1,000; placed 500 of 100; predicted 1,707 of 1,750; rounded to 1,800; 60 of 3,000 untold."""
    found = {stair.name: stair.nbytes for stair in stairs()}
    assert found["weights + live peak"] == 1100
    assert found["weights, as the engine holds them"] == 200
    assert found["activations, as the engine places them"] == 400
    assert found["objects"] == 7
    assert found["heap of the model, predicted"] == 1707
    assert found["unexplained"] == 43
    assert found["headers and rounding of blocks"] == 50
    assert found["unexplained in the process"] == 60
    assert found["pages of the mapped model"] == 150
    assert found["pages of files that were resident within the phase"] == 50
    assert found["pages of other files"] == 300
    assert found["resident set at the peak"] == 3500
    assert found["address space that is not resident"] == 5500


def test_the_three_largest_reasons_come_first():
    said = list(reasons(stairs()))
    assert len(said) == 3
    assert said[0].startswith("1,100 B")
    assert said[1].startswith("400 B")
    assert "kept for later" in said[1]
    assert said[2].startswith("300 B")


def test_a_reason_is_never_a_sum_or_a_saving():
    said = " ".join(reasons(stairs(by=(5000, 100))))
    assert "5,000" not in said
    assert "-" not in said.split(":")[0]


@pytest.mark.parametrize(
    ("phase", "moment"),
    [
        ("load", "load"),
        ("read", "load"),
        ("inputs", "load"),
        ("run 1", "run 1"),
        ("run 2", "steady"),
        ("run 9", "steady"),
    ],
)
def test_phases(phase, moment):
    class Told:
        moments = tuple(Moment(name, (), ()) for name in ("load", "run 1", "steady"))

    assert moment_of(Told(), phase).phase == moment


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": "ncnn,onnxruntime"}, "not one engine"),
        ({"engine": "all"}, "not one engine"),
        ({"engine": "nosuch"}, "nosuch"),
        ({"engine": "ncnn", "settings": ["lightmode=on,off"]}, "several values"),
        ({"engine": "ncnn", "runs": 2}, "runs"),
        ({"engine": "ncnn", "repeat": 0}, "repeat"),
    ],
)
def test_what_does_not_fit_is_refused(options, words):
    with pytest.raises(UsageError, match=words):
        reconcile("squeezenet1_1", **options)


def test_an_engine_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("peakmem.measuring.engine.Engine.version", lambda _: "")
    with pytest.raises(PeakmemError, match="not installed"):
        reconcile("squeezenet1_1", engine="ncnn")


def test_onnx_runtime_from_end_to_end(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    report = reconcile("squeezenet1_1:resolution=64", engine="onnxruntime", repeat=1, cache=tmp_path)
    assert report.status == "ok"
    assert {line.phase for line in report.lines} == {"load", "run 1", "steady"}
    assert report.account is not None
    told = {oracle.name: oracle.told for oracle in report.oracles}
    assert told["arena extended"] > 0
    running = 0
    for stair in report.stairs:
        if stair.total:
            assert stair.nbytes == running
        else:
            running += stair.nbytes
    assert from_json(report.to_json(), Reconciliation) == report
