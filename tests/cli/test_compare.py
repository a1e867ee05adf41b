"""`peakmem compare`: models, stored reports and models of a baseline; what it prints and when it fails."""

from __future__ import annotations

import json

import pytest


def test_which_operators_added_the_bytes(run):
    """features.0 of MobileNetV2 at width 1.4 has 48 channels for 32: 3x3x3 weights and 4 norm values each, float32."""
    code, out, err = run("compare", "mobilenet_v2", "mobilenet_v2:width=1.4", "--top", "100")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "# live peak +2.87 MiB, weights +9.99 MiB"
    row = next(line for line in out.splitlines() if line.startswith("features.0/conv\t"))
    assert row.split("\t")[2:6] == ["grown", "1x32x112x112", "1x48x112x112", "+1.94 KiB"]  # 16 * (27 + 4) * 4 = 1,984
    assert "live peak\t5.74 MiB\t8.61 MiB\t+2.87 MiB\t+3,010,560\t+50.00%" in out  # 96 to 144 channels


def test_the_same(run):
    code, out, _ = run("compare", "mobilenet_v2", "mobilenet_v2", "--fail-on-growth", "0 %")
    assert (code, out.splitlines()[0]) == (0, "# neither the peak nor the weights changed")


@pytest.mark.parametrize(("allowed", "code"), [("80 %", 0), ("50 %", 1), ("2MiB", 1), ("10 MiB", 0)])
def test_fail_on_growth(run, allowed, code):
    """Weights grow by 10,470,912 B, 74 %; the peak by 3,010,560 B, 50 %."""
    done, _, err = run("compare", "mobilenet_v2", "mobilenet_v2:width=1.4", "--fail-on-growth", allowed)
    assert done == code
    assert bool(err) == bool(code)


def test_stored_reports_and_models_of_a_baseline(run, tmp_path, monkeypatch):
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert run("mobilenet_v2", "--json", "old.json")[0] == 0
    (tmp_path / "peakmem.toml").write_text(
        'baseline = "b.json"\n[model.one]\nsource = "mobilenet_v2"\ngrowth = "2 %"\n'
        '[model.two]\nsource = "mobilenet_v2:width=0.5"\ngrowth = "2 %"\n'
    )
    assert run("check", "--update-baseline")[0] == 0
    first = run("compare", "mobilenet_v2", "mobilenet_v2:width=1.4", "--json", "-")[1]
    operators = json.loads(first)["operators"]
    for a in ("old.json", "one@b.json"):
        code, out, _ = run("compare", a, "mobilenet_v2:width=1.4", "--json", "-")
        assert (code, json.loads(out)["operators"]) == (0, operators)
    code, _, err = run("compare", "b.json", "mobilenet_v2")
    assert (code, "it has 2 models" in err, "one@b.json" in err) == (2, True, True)
    code, _, err = run("compare", "onn@b.json", "mobilenet_v2")
    assert (code, "no model 'onn'" in err, "Try: one@b.json" in err) == (2, True, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"schema": "peakmem.training/1"}', "a report of another kind: peakmem.training/1"),
        ('{"schema": "peakmem.estimate/9"}', "a report of another kind: peakmem.estimate/9"),
        ('{"schema": "peakmem.estimate/1"}', "does not fit its schema"),
        ('{"schema": "peakmem.baseline/1", "models": 3}', "the baseline is damaged"),
    ],
)
def test_damaged_reports(run, tmp_path, text, said):
    (tmp_path / "r.json").write_text(text)
    code, out, err = run("compare", "r.json", "mobilenet_v2")
    assert (code, out) == (2, "")
    assert said in err
    assert "r.json" in err


def test_what_is_wrong_is_told(run, tmp_path):
    assert "the zoo has no network 'mobilnet_v2'" in run("compare", "mobilnet_v2", "mobilenet_v2")[2]
    assert "a growth without its unit" in run("compare", "vgg16", "vgg16", "--fail-on-growth", "2")[2]
    assert "no such file" in run("compare", "a@gone.json", "mobilenet_v2")[2].lower()
    (tmp_path / "there.md").write_text("mine")
    code, _, err = run("compare", "vgg16", "vgg16", "--write", "md=there.md")
    assert (code, "not overwritten" in err) == (2, True)


def test_it_is_written_whole(run, tmp_path):
    code, _, _ = run(
        "compare", "mobilenet_v2", "mobilenet_v2:width=1.4", "--top", "1", "--write", "md=a.md", "--json", "a.json"
    )
    assert code == 0
    assert "| features.17/project |" in (tmp_path / "a.md").read_text()
    data = json.loads((tmp_path / "a.json").read_text())
    assert data["schema"] == "peakmem.growth/1"
    added = sum(one["weights_b"] - one["weights_a"] for one in data["operators"]) + data["rest_weights_bytes"]
    assert added == 10_470_912


@pytest.mark.parametrize("target", ["a.onnx", "b.onnx"])
def test_neither_side_is_written_over(run, tmp_path, target):
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(b"a model")
    code, _, err = run("compare", "a.onnx", "b.onnx", "--json", target, "--force")
    assert (code, "never written over" in err) == (2, True)
    assert (tmp_path / target).read_bytes() == b"a model"
