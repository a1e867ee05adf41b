"""`peakmem train`, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import peakmem
from peakmem.report.codec import from_json, schema
from peakmem.report.training import Training
from peakmem.training.scenario import Optimizer

STEP = """
import torch
from torch import nn

def make():
    return nn.Linear(1000, 1000, bias=False), (lambda result: result.sum()), torch.zeros(10, 1000)

def reading():
    net = nn.Linear(10, 10)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def step():
        loss = net(torch.zeros(1, 10)).sum()
        if loss.item() > 3:
            loss = loss * 2
        loss.backward()
        optimizer.step()

    return step

def raising():
    def step():
        raise RuntimeError("no data")

    return step

net = nn.Linear(8, 8)
"""
GRAPH = ("mobilenet_v2", "--batch", "2", "--route", "graph")


@pytest.fixture
def here(monkeypatch, tmp_path):
    """A module of the user's own in the current folder."""
    pytest.importorskip("torch")
    (tmp_path / "own_steps.py").write_text(STEP)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "own_steps", raising=False)


def test_a_network_from_its_graph(run):
    code, out, err = run("train", *GRAPH, "--optimizer", "adam:fused", "--json", "t.json", "--write", "md=t.md")
    assert (code, err) == (0, "")
    assert "# mobilenet_v2, training, batch 2, adam (fused), float32, on cpu" in out
    for title in ("Parts of the peak", "Peak of each phase", "Alive when a step ends", "Modules at the peak",
                  "Largest at the peak", "Closed forms beside it", "Assumptions", "Unknown"):  # fmt: skip
        assert f"# {title}" in out
    jsonschema = pytest.importorskip("jsonschema")
    text = Path("t.json").read_text("utf-8")
    jsonschema.validate(json.loads(text), schema("training"))
    report = from_json(text, Training)
    assert f"({report.peak_bytes:,} B) of tensors" in out
    assert report.parameter_bytes == 3_504_872 * 4  # Sandler et al. 2018, torchvision's count
    whole = Path("t.md").read_text("utf-8")
    assert len(whole.splitlines()) > len(out.splitlines())


def test_the_tables_add_up(run):
    _, out, _ = run("train", *GRAPH, "--units", "bytes")
    rows = [line.split("\t") for line in out.split("# Parts of the peak\n")[1].split("\n\n")[0].splitlines()[1:]]
    sizes = [int(row[2].replace(",", "")) for row in rows]
    assert rows[-1][0] == "total"
    assert sum(sizes[:-1]) == sizes[-1]


def test_the_lists_are_cut_and_say_so(run):
    _, out, _ = run("train", *GRAPH, "--top", "2")
    assert "\nall others\t" in out or "\tall others\t" in out
    assert " more\t" in out


def test_exit_codes_say_whether_it_fits(run):
    code, out, _ = run("train", *GRAPH, "--capacity", "64MiB")
    assert (code, "does not fit: 64.00 MiB" in out) == (1, True)
    code, out, err = run("train", *GRAPH, "--capacity", "1TiB")
    assert (code, "may fit" in out, "no bound known" in out) == (2, True, True)
    assert "no upper bound is known" in err


def test_a_card_by_name(run):
    code, out, _ = run("train", *GRAPH, "--device", "v100-16gb", "--conf", "expandable_segments:True")
    assert code == 2  # a graph has no upper bound
    assert "on v100-16gb" in out
    assert "# The CUDA allocator of torch, simulated, expandable_segments:True settings" in out
    assert "15.78 GiB" in out


def test_what_ifs(run):
    code, out, _ = run("train", *GRAPH, "--optimizer", "adam", "--what-if", "sgd,lora=4")
    assert code == 0
    table = out.split("# What if\n")[1].split("\n\n")[0]
    assert [line.split("\t")[0] for line in table.splitlines()[1:]] == ["sgd", "lora=4", "sgd+lora=4"]
    assert "not told: adapters cannot be put into a graph" in table


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--optimizer", "adm"], "--optimizer adam"),
        (["--optimizer", "adam:fuse"], "--optimizer adam:fused"),
        (["--optimizer", "adam8bit:single"], "fused"),
        (["--optimizer", "sgd,momentun=0.9"], "no option 'momentun'"),
        (["--device", "v10016gb"], "--device v100-16gb"),
        (["--device", "v100"], "v100-16gb, v100-32gb"),
        (["--what-if", "recomput"], "--what-if recompute"),
        (["--what-if", "batch"], "needs a value"),
        (["--route", "guess"], "--route trace"),
        (["--conf", "expandable_segments:True"], "--device cuda"),
        (["--device", "cuda", "--conf", "expandable:1"], "expandable_segments"),
        (["--capacity", "24"], ""),
        (["--capacity", "24G"], "GiB"),
        (["--batch", "0"], "--batch"),
        (["--precision", "bfloat"], "amp-bf16"),
        (["--value", "here"], "--value model.py:41=3"),
        (["--write", "csv=t.csv"], "json, md, tsv"),
    ],
)
def test_bad_input_ends_with_a_sentence_and_two(run, typed, said):
    code, out, err = run("train", *GRAPH, *typed)
    if typed == ["--capacity", "24"]:
        assert code == 1  # 24 bytes
        return
    assert (code, out) == (2, "")
    assert err.startswith("peakmem: error: ")
    assert "internal error" not in err
    assert said in err


@pytest.mark.parametrize("name", ["nothing_here", "no_module:make", "missing.onnx"])
def test_what_is_not_there_is_said(run, name):
    code, out, err = run("train", name)
    assert (code, out) == (2, "")
    assert "internal error" not in err


@pytest.mark.usefixtures("here")
def test_code_of_ones_own(run):
    code, out, err = run("train", "own_steps:make", "--optimizer", "adam:fused", "--json", "-")
    assert (code, err) == (0, "")
    report = from_json(out, Training)
    assert report.route == "trace"
    assert report.parameter_bytes == 4_000_000
    scenario = peakmem.Scenario(optimizer=Optimizer("adam", "fused"))
    assert report == peakmem.train("own_steps:make", scenario=scenario)


@pytest.mark.usefixtures("here")
def test_a_module_needs_its_inputs(run):
    code, _, err = run("train", "own_steps:net")
    assert (code, "--input" in err) == (2, True)
    code, out, err = run("train", "own_steps:net", "--input", "4x8")
    assert (code, err, "# own_steps:net, training, batch 4" in out) == (0, "", True)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("raising", "no data"),
        ("reading", "--value own_steps.py:"),
        ("nowhere", "no 'nowhere'"),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_step_that_cannot_be_traced_says_why_and_where(run, name, said):
    code, out, err = run("train", f"own_steps:{name}")
    assert (code, out) == (2, "")
    assert said in err


@pytest.mark.usefixtures("here")
def test_a_declared_value_answers_a_read(run):
    code, out, err = run("train", "own_steps:reading", "--value", "*=0")
    assert (code, err) == (0, "")
    assert "sgd" in out.splitlines()[0]
