"""`peakmem MODEL --engine NAME` and `peakmem reconcile`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import peakmem
from peakmem.report.codec import from_json, schema
from peakmem.report.prediction import Predictions

PARAM = """7767517
4 4
Input data 0 1 data 0=32 1=32 2=3
Convolution conv 1 1 data conv 0=16 1=3 4=1 5=1 6=432
ReLU relu 1 1 conv relu
Convolution two 1 1 relu out 0=16 1=3 4=1 5=1 6=2304
"""


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    """Converted models of these tests, made once."""
    monkeypatch.setenv("PEAKMEM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "tiny.param").write_text(PARAM)
    (tmp_path / "tiny.bin").write_bytes(b"\0" * (2 * 4 + 4 * (432 + 16 + 2304 + 16)))
    return str(tmp_path / "tiny.param")


def test_one_engine(run, tiny):
    code, out, err = run(tiny, "--engine", "ncnn", "--json", "p.json", "--write", "md=p.md")
    assert (code, err) == (0, "")
    assert "above the engine's own, in phase" in out
    assert "# Heap of ncnn defaults by category, predicted" in out
    assert "[estimate]" in out
    jsonschema = pytest.importorskip("jsonschema")
    text = Path("p.json").read_text("utf-8")
    jsonschema.validate(json.loads(text), schema("prediction"))
    report = from_json(text, Predictions)
    assert [moment.phase for moment in report.candidates[0].moments] == ["load", "run 1", "steady"]
    assert report == peakmem.predict(tiny, engines=["ncnn"])


def test_several_choices_stand_side_by_side(run, tiny):
    code, out, _ = run(tiny, "--engine", "ncnn", "--set", "winograd=on,off", "--set", "threads=1,2")
    assert code == 0
    assert "# What each holds above the engine's own heap" in out
    assert out.count("ncnn\twinograd=") >= 4


def test_what_holds_it(run, tiny):
    code, out, _ = run(tiny, "--engine", "ncnn", "--within", "1GiB")
    assert (code, "hold it in 1.00 GiB" in out) == (0, True)
    code, out, _ = run(tiny, "--engine", "ncnn", "--within", "1KiB")
    assert (code, "none of" in out) == (1, True)


def test_an_engine_that_cannot_be_reached_is_a_row(run, tiny):
    code, out, _ = run(tiny, "--engine", "ncnn,tflm")
    assert code == 0
    assert "# Not predicted" in out


def test_another_processor(run, tiny):
    code, out, _ = run(
        tiny, "--engine", "ncnn", "--processor", "arch=x86_64,features=avx2+fma+f16c,l1=32KiB,l2=256KiB,l3=0,cores=8"
    )
    assert code == 0
    assert "for x86_64, 8 cores, caches 32,768 / 262,144 / 0 B, avx avx2 f16c fma sse4_2" in out


def test_what_was_measured_on_one_architecture_says_nothing_of_another(run, tiny):
    _, here, _ = run(tiny, "--engine", "ncnn", "--processor", "arch=x86_64,features=avx512f+avx512bw+avx512vl")
    code, there, _ = run(tiny, "--engine", "ncnn", "--processor", "arch=aarch64,features=asimd")
    assert code == 0
    assert "for aarch64, 1 cores" in there
    assert "peak of" in here
    assert "was not measured with these settings on such a processor" in there
    assert "networks never looked at" not in there


def test_an_engine_whose_process_is_not_known_is_not_judged(run, tiny, monkeypatch):
    monkeypatch.setattr("peakmem.prediction.baseline", lambda _: None)
    code, out, _ = run(tiny, "--engine", "ncnn", "--within", "1GiB")
    assert code == 2
    assert "not judged, because a process of theirs without a model was not measured: ncnn" in out
    assert "none of" not in out


def test_a_damaged_file_is_told_where_an_engine_reads_it(run, tiny):
    Path(tiny).write_text(PARAM[:60])
    code, out, err = run(tiny, "--engine", "all")
    assert (code, err) == (2, "")
    assert "ncnn\tdefaults\trefused" in out
    assert "no conversion leads from ncnn to onnx" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--engine", "nosuch"), "nosuch"),
        (("--engine", "ncnn", "--set", "nosuch=1"), "nosuch"),
        (("--engine", "ncnn", "--set", "threads=zero"), "zero"),
        (("--engine", "ncnn", "--layers"), "--layers is for the estimate of the graph"),
        (("--engine", "ncnn", "--dtype", "int8"), "--dtype is for the estimate of the graph"),
        (("--engine", "ncnn", "--budget", "1MiB"), "--within"),
        (("--engine", "ncnn", "--within", "12"), "none"),
        (("--engine", "ncnn", "--within", "much"), "not a size"),
        (("--engine", "ncnn", "--write", "csv=a.csv"), "csv"),
        (("--engine", "ncnn", "--processor", "arch=z80"), "z80"),
        (("--engine", "ncnn", "--processor", "speed=9"), "speed=9"),
        (("--engine", "ncnn", "--processor", "cores=0"), "cores=0"),
        (("--engine", "ncnn", "--processor", "cores=99999999999999"), "cores"),
        (("--engine", "ncnn", "--processor", "l2=big"), "not a size"),
        (("--engine", "ncnn", "--processor", ""), "--processor ''"),
        (("--engine", "ncnn", "--processor", "features=avx3"), "avx3"),
        (("--engine", "ncnn", "--processor", "arch=aarch64,features=avx2"), "'avx2' on aarch64"),
        (("--engine", "ncnn", "--within", ""), "not a size"),
        (("--engine", "ncnn", "--input", "1x3x32x32"), "--input is for live modules"),
        (("--set", "threads=1"), "--set is for engines"),
        (("--within", "1MiB"), "--within is for engines"),
        (("--processor", "cores=1"), "--processor is for engines"),
        (("--engine", ","), "no engine"),
    ],
)
def test_what_does_not_fit(run, tiny, words, said):
    code, out, err = run(tiny, *words)
    assert said in err or said in out
    assert code == (1 if said == "none" else 2)
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "engine"),
        (("--engine", "nosuch"), "nosuch"),
        (("--engine", "all"), "not one engine"),
        (("--engine", "ncnn", "--set", "winograd=on,off"), "several values"),
        (("--engine", "ncnn", "--runs", "1"), "runs"),
        (("--engine", "ncnn", "--input", "1x3x32x32"), "--input is for live modules"),
        (("--engine", "ncnn", "--unexplained", "101"), "101"),
    ],
)
def test_what_reconcile_refuses(run, tiny, words, said):
    code, _, err = run("reconcile", tiny, *words)
    assert code == 2
    assert said in err


def test_a_file_that_is_cut_short(run, tiny):
    Path(tiny).write_text(PARAM[:60])
    code, _, err = run(tiny, "--engine", "ncnn")
    assert code == 2
    assert err.count("\n") == 1


def test_reconciling_on_ncnn(run, tiny):
    pytest.importorskip("ncnn")
    code, out, err = run(
        "reconcile", tiny, "--engine", "ncnn", "--repeat", "1", "--json", "r.json", "--write", "md=r.md"
    )
    assert (code, err) == (0, "")
    for title in ("# From the parameters to the process", "# Why it is more than weights + live peak"):
        assert title in out
    data = json.loads(Path("r.json").read_text("utf-8"))
    pytest.importorskip("jsonschema").validate(data, schema("reconciliation"))
    assert data["explained"] > 0.97
    code, _, _ = run("reconcile", tiny, "--engine", "ncnn", "--repeat", "1", "--unexplained", "0")
    assert code == (1 if data["unexplained_bytes"] else 0)
