"""`peakmem measure` and `peakmem engines`, as they are typed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import peakmem
from peakmem.measuring import engine as engines
from peakmem.report.codec import from_json, schema

jsonschema = pytest.importorskip("jsonschema")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

QUICK = ("--repeat", "1", "--counted", "0", "--runs", "1")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    """Converted models of these tests, made once."""
    monkeypatch.setenv("PEAKMEM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def test_a_matrix_of_settings(run):
    code, out, err = run(
        "measure", "squeezenet1_1", "--engine", "onnxruntime", "--set", "arena=on,off", "--repeat", "2",
        "--counted", "0", "--phases", "--buckets", "--json", "all.json", "--write", "md=page.md",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "# Matrix, medians" in out
    assert "onnxruntime\tarena=on" in out
    assert "onnxruntime\tarena=off" in out
    assert "# Differences, bytes" in out
    assert "# Phases of onnxruntime arena=on" in out
    text = Path("all.json").read_text()
    assert from_json(text, peakmem.Measurement).to_json() + "\n" == text
    report = json.loads(text)
    jsonschema.validate(report, schema("measurement"))
    assert report["schema"] == "peakmem.measurement/1"
    assert [cell["chosen"] for cell in report["cells"]] == [{"arena": True}, {"arena": False}]
    for cell in report["cells"]:
        assert len(cell["runs"]) == 2
        for one in cell["runs"]:
            assert one["outcome"]["status"] == "ok"
            # 1.2 million float32 weights and the input of 1x3x224x224 must be somewhere
            marks = {mark["phase"]: mark for mark in one["marks"]}
            grown = marks["run 3"]["vm"]["RssAnon"] - marks["import"]["vm"]["RssAnon"]
            assert grown > 4 * 1_235_496 + 602_112
    assert "| onnxruntime | arena=on |" in Path("page.md").read_text()


def test_the_users_own_inputs(run):
    np.save("mine.npy", np.zeros((1, 3, 224, 224), np.float32))
    code, out, _ = run("measure", "squeezenet1_1", "--engine", "onnxruntime", "--feed", "mine.npy", *QUICK)
    assert code == 0
    assert "mine.npy" in out
    np.save("other.npy", np.zeros((1, 3, 64, 64), np.float32))
    code, out, err = run("measure", "squeezenet1_1", "--engine", "onnxruntime", "--feed", "other.npy", *QUICK)
    assert code == 2
    assert "64" in out + err
    assert "224" in out + err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("squeezenet1_1",), "no engine is named"),
        (("squeezenet1_1", "--engine", "tensorrt"), "there is no engine 'tensorrt'"),
        (("squeezenet1_1", "--engine", "onnxruntime", "--set", "lightmode=on"), "no setting 'lightmode'"),
        (("squeezenet1_1", "--engine", "onnxruntime", "--set", "ncnn.lightmode=on"), "'ncnn' is not measured"),
        (("squeezenet1_1", "--engine", "onnxruntime", "--memory-limit", "64M"), "not a size"),
        (("squeezenet1_1", "--engine", "onnxruntime", "--timeout", "nan"), "a timeout of nan s"),
        (("squeezenet1_1", "--engine", "onnxruntime", "--timeout", "1e30"), "a timeout of 1e+30 s"),
        (("squeezenet1_1", "--engine", "all,tensorrt"), "there is no engine 'tensorrt'"),
        (("squeezenet1_1", "--engine", "onnxruntime", "--dim", "n=\u00b2"), "is not a dimension"),
        (("squeezenet1_1", "--engine", "onnxruntime", "--shape", "x=" + "9" * 5000), "is not a shape"),
        (("squeezenet1_1", "--engine", "onnxruntime", "--input", "1x3x224x224"), "for live modules"),
        (("nowhere.onnx", "--engine", "onnxruntime"), "nowhere.onnx"),
        (("squeezenet1_1", "--engine", "onnxruntime", "--repeat", "0", "--counted", "0"), "nothing to measure"),
    ],
)
def test_a_question_that_cannot_be_answered(run, arguments, said):
    code, out, err = run("measure", *arguments)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
    assert "Traceback" not in out + err


def test_a_damaged_model_is_a_sentence(run, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x08" + bytes(100))
    code, out, err = run("measure", "bad.onnx", "--engine", "onnxruntime", *QUICK)
    assert code == 2
    assert "Traceback" not in out + err


def network(path, first):
    from onnx import TensorProto, helper, save

    shape = [first, 3]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_a_size_that_the_engine_cannot_take_is_refused_and_not_left_out(run):
    network("fixed.onnx", 1)
    code, out, _ = run("measure", "fixed.onnx", "--engine", "onnxruntime", "--batch", "2", *QUICK)
    assert code == 2
    assert "input 'x' is 1x3 in this engine and cannot be 2x3" in out
    network("free.onnx", "n")
    code, out, _ = run("measure", "free.onnx", "--engine", "onnxruntime", "--batch", "2", *QUICK)
    assert code == 0
    assert "input x: 2x3 float32" in out


def test_an_engine_that_no_conversion_leads_to_is_a_row(run, monkeypatch):
    real = engines.installed
    monkeypatch.setattr(engines, "installed", lambda name: real(name) or "1")
    network("one.onnx", 1)
    Path("one.ort").write_bytes(b"....ORTM" + bytes(100))
    code, out, err = run("measure", "one.ort", "--engine", "ncnn,onnxruntime", *QUICK)
    assert (code, err) == (2, "")
    assert "no conversion leads from ort to ncnn" in out
    assert "onnxruntime\tdefaults\tunsupported\tload" in out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_no_process_and_no_folder(tmp_path, number):
    network(tmp_path / "x.onnx", 1)
    variables = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = (sys.executable, "-m", "peakmem", "measure", str(tmp_path / "x.onnx"), "--engine", "onnxruntime")
    with subprocess.Popen(
        (*command, "--repeat", "1000"), env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
        # whoever runs the tests may ignore it, as nohup does
    ) as process:  # fmt: skip
        until = time.monotonic() + 60
        while not list(tmp_path.glob("peakmem-*/output")) and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(number)
        process.communicate()
    assert process.returncode == 128 + number
    assert list(tmp_path.glob("peakmem-*")) == []


def test_an_engine_that_is_not_installed_is_a_row(run, monkeypatch):
    real = engines.installed
    monkeypatch.setattr(engines, "installed", lambda name: "" if name == "ncnn" else real(name))
    code, out, _ = run("measure", "squeezenet1_1", "--engine", "ncnn,onnxruntime", *QUICK)
    assert code == 1
    assert "ncnn\tdefaults\tmissing\tconvert\tncnn is not installed. Try: pip install 'peakmem[ncnn]'" in out
    assert "onnxruntime\tdefaults" in out


def test_a_memory_limit_and_a_timeout_are_rows(run):
    code, out, _ = run("measure", "alexnet", "--engine", "onnxruntime", "--memory-limit", "192MiB", *QUICK)
    assert code == 2
    assert "out of memory" in out
    code, out, _ = run("measure", "squeezenet1_1", "--engine", "onnxruntime", "--timeout", "0.1", *QUICK)
    assert code == 2
    assert "timeout" in out


def test_engines(run):
    code, out, _ = run("engines")
    assert code == 0
    assert [one.name for one in peakmem.list_engines()] == list(engines.BUILT_IN)
    settings = {one.name: one.default for one in peakmem.list_engines()[0].settings}
    assert (settings["lightmode"], settings["threads"], settings["fp16"]) == (True, 1, False)
    for name in engines.BUILT_IN:
        assert f"\n{name}\t" in out
    code, out, _ = run("engines", "ncnn", "onnxruntime")
    assert code == 0
    assert "lightmode\ton\ton or off" in out
    assert "\nthreads\t1\t" in out
    code, _, err = run("engines", "tensorrt")
    assert code == 2
    assert "there is no engine 'tensorrt'" in err


def test_one_cell_has_no_differences(run):
    code, out, _ = run("measure", "squeezenet1_1", "--engine", "onnxruntime", *QUICK)
    assert code == 0
    assert "# Differences" not in out
