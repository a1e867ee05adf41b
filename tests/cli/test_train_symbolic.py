"""`peakmem train MODEL --symbolic KNOB`, as it is typed: against hand arithmetic and plain steps."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from peakmem.report.codec import from_json
from peakmem.report.formula import PeakFormula

STEP = """
import torch

def make():
    model = torch.nn.Linear(100, 10, bias=False)
    return {"model": model, "loss": lambda result: result.sum(), "batch": torch.zeros(4, 100)}
"""


@pytest.fixture
def step(tmp_path, monkeypatch):
    (tmp_path / "symbolic_step.py").write_text(STEP)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "symbolic_step:make"


def test_the_formula_of_one_layer_by_hand(run, step, tmp_path):
    """Weights and gradient 4,000 bytes each; of each sample 400, its result of 40.

    The peak is when the gradient of the weights is made: the gradient of the result, one number seen as many, is
    written out for the product (40 more); the loss, its gradient and the loss of the step before are 4 each.
    """
    code, out, _ = run("train", step, "--symbolic", "batch", "--optimizer", "sgd", "--json", "formula.json")
    assert code == 0
    report = from_json((tmp_path / "formula.json").read_text(), PeakFormula)
    for value in (1, 5, 77):
        _, plain, _ = run("train", step, "--batch", str(value), "--optimizer", "sgd", "--json", "-")
        assert report.resident_bytes(value) == json.loads(plain)["peak"]["nbytes"]
    last = report.pieces[-1]
    assert last.resident.coefficients == (8012, 480)
    assert last.weights.coefficients == (4000,)
    assert (report.knob, report.kind, last.unbroken) == ("batch", "fitted", True)
    assert "exact at the traced structure" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--symbolic", "width"), "no knob 'width'"),
        (("--symbolic", "bach"), "--symbolic batch"),
        (("--symbolic", "sequence"), "the sequence is in its own code"),
        (("--symbolic", "batch", "--limits", "9..3"), "limits of 9 to 3"),
        (("--symbolic", "batch", "--limits", "few"), "is no range"),
        (("--limits", "1..3"), "--limits is for a formula"),
        (("--symbolic", "batch", "--what-if", "amp"), "--what-if is for one step"),
        (("--symbolic", "batch", "--capacity", "1GB"), "--capacity is for one step"),
    ],
)
def test_what_cannot_be_asked(run, step, options, message):
    code, out, err = run("train", step, *options)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
