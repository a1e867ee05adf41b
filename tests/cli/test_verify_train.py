"""`peakmem verify-train`: what it refuses without training anything, and one real step."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")


def test_a_card_by_name_is_not_here(run):
    code, _, said = run("verify-train", "resnet18", "--device", "v100-16gb")
    assert code == 2
    assert "can only be run on a device that is here" in said
    assert "peakmem train resnet18 --device v100-16gb" in said


def test_an_unknown_optimizer_is_told(run):
    code, _, said = run("verify-train", "resnet18", "--optimizer", "adamv")
    assert code == 2
    assert "--optimizer adam" in said


@pytest.mark.slow
def test_a_real_step(run):
    code, out, said = run(
        "verify-train", "resnet18", "--batch", "2", "--resolution", "32", "--optimizer", "sgd", "--within", "1",
        "--no-process", "--json", "-",
    )  # fmt: skip
    assert code == 0, said
    report = json.loads(out)
    assert report["schema"] == "peakmem.training_check/1"
    # 11,689,512 parameters (torchvision's resnet18)
    assert next(one["measured_bytes"] for one in report["categories"] if one["category"] == "parameter") == 46_758_048
