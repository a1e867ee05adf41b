"""Which way a model takes, and what comes of steps that fail in every way a tool can fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from peakmem.conversion import convert, kind_of
from peakmem.conversion.route import route, steps
from peakmem.conversion.source import source_of
from peakmem.conversion.step import KINDS
from peakmem.errors import ConversionError, FormatError, UnboundDimension, UsageError

WAYS = {
    ("zoo", "ncnn"): ["zoo", "onnx", "ncnn"],
    ("zoo", "openvino"): ["zoo", "onnx", "openvino"],
    ("zoo", "mnn"): ["zoo", "onnx", "mnn"],
    ("zoo", "tflite"): ["zoo", "torch", "tflite"],
    ("onnx", "pte"): ["onnx", "torch", "pte"],
    ("torch", "ncnn"): ["torch", "onnx", "ncnn"],
    ("keras", "tflite"): ["keras", "tflite"],
}


@pytest.mark.parametrize(("ends", "expected"), WAYS.items())
def test_the_way(ends, expected):
    way = route(*ends)
    assert [way[0].source, *(step.target for step in way)] == expected


def test_steps_are_complete():
    for step in steps():
        assert {step.source, step.target} <= KINDS.keys()
        assert step.distributions
        names = [option.name for option in step.options]
        assert len(names) == len(set(names))
        for option in step.options:
            assert not option.choices or option.default in option.choices


def test_no_way_says_what_would_lead_there(tmp_path):
    (tmp_path / "m.pte").write_bytes(b"\0\0\0\0ET12" + bytes(100))
    with pytest.raises(UsageError, match="no conversion leads from pte to ncnn") as caught:
        convert(tmp_path / "m.pte", "ncnn", cache=tmp_path)
    assert "ncnn or onnx" in caught.value.expected
    with pytest.raises(UsageError, match="no kind of model is called 'coreml'"):
        convert("resnet18", "coreml")


def test_kinds_of_files(tmp_path, relu):
    (tmp_path / "a.pte").write_bytes(b"\0\0\0\0ET12" + bytes(100))
    (tmp_path / "a.mnn").write_bytes(b"?" * 100)
    (tmp_path / "a.xml").write_text('<?xml version="1.0"?>\n<net name="a" version="11">')
    (tmp_path / "a.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
    (tmp_path / "a.param").write_text("7767517\n1 1\nInput in0 0 1 in0\n")
    (tmp_path / "a.py").write_text("def model(): ...\n")
    for name, kind in {
        "pte": "pte",
        "mnn": "mnn",
        "xml": "openvino",
        "tflite": "tflite",
        "param": "ncnn",
        "py": "torch",
    }.items():
        assert kind_of(tmp_path / f"a.{name}") == kind
    assert kind_of(relu) == "onnx"
    assert kind_of("mobilenet_v2:width=0.5") == "zoo"
    assert kind_of("package.module:factory") == "factory"
    with pytest.raises(UsageError, match="the folder holds 6 models"):
        kind_of(tmp_path)
    only = tmp_path / "only"
    only.mkdir()
    Path(relu).rename(only / "m.onnx")
    assert source_of(only).path == only / "m.onnx"
    with pytest.raises(FormatError, match="no such file"):
        kind_of(tmp_path / "nothing.onnx")


def test_a_file_of_the_kind_is_used_as_it_is(relu, onnx_file, cache):
    made = convert(relu, "onnx", cache=cache)
    assert (made.path, made.steps) == (relu, ())
    assert made.input_shapes == {"x": ((1, 4), "float32")}
    assert not cache.exists()
    free = onnx_file([("Relu", ["x"], ["y"])], [("x", "FLOAT", ["N", "W"])], [("y", "FLOAT", ["N", "W"])])
    with pytest.raises(UnboundDimension, match="W"):
        convert(free, "onnx", batch=2)
    assert convert(free, "onnx", batch=2, dims={"W": 5}).input_shapes == {"x": ((2, 5), "float32")}


def test_inputs_of_an_ir(tmp_path):
    text = '<?xml version="1.0"?>\n<net name="a"><layers>\n<layer id="0" name="x" type="Parameter" version="opset1">\n'
    text += '\t<data shape="{}" element_type="i64" />\n</layer></layers></net>'
    (tmp_path / "a.xml").write_text(text.format("1,3"))
    assert convert(tmp_path / "a.xml", "openvino").input_shapes == {"x": ((1, 3), "int64")}
    (tmp_path / "a.xml").write_text(text.format("?,3"))
    assert convert(tmp_path / "a.xml", "openvino").input_shapes == {}
    assert convert(tmp_path / "a.xml", "openvino", shapes={"": (2, 3)}).input_shapes == {"x": ((2, 3), "int64")}


@pytest.mark.usefixtures("fake")
def test_options_are_checked(relu, cache):
    with pytest.raises(UsageError, match=r"no step of onnx → mnn has an option 'fp16' \(expected mode, note\)"):
        convert(relu, "mnn", options={"fp16": "on"}, cache=cache)
    with pytest.raises(UsageError, match="'strange' is not a value of setting 'mode'"):
        convert(relu, "mnn", options={"mode": "strange"}, cache=cache)
    assert not cache.exists()


FAILURES = {
    "operators": "the tool cannot convert Strange",
    "crash": "pytest was ended by SIGSEGV; it last said: about to crash",
    "exit": "pytest ended with code 0",
    "memory": "pytest needed more memory than the 512.00 MiB it was allowed",
    "garbage": "pytest ended with code 0",
    "nothing": "pytest failed: it left no model.mnn",
    "raises": "pytest failed: ZeroDivisionError: a tool divided by zero",
    "missing": "pytest cannot be used: there is no module 'a_module_that_nobody_has'",
}


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(("mode", "message"), FAILURES.items())
def test_a_step_that_fails(mode, message, relu, cache):
    with pytest.raises(ConversionError, match=message) as caught:
        convert(
            relu, "mnn", options={"mode": mode}, cache=cache, memory_limit=(512 << 20) if mode == "memory" else None
        )
    assert caught.value.operators == (("Strange",) if mode == "operators" else ())
    assert caught.value.where == relu
    assert list((cache / "scratch").iterdir()) == []
    assert not (cache / "conversions").exists()


@pytest.mark.usefixtures("fake")
def test_a_full_disk_is_one_sentence(relu, cache):
    with pytest.raises(UsageError, match="the disk is full, so the converted model cannot be kept") as caught:
        convert(relu, "mnn", options={"mode": "full"}, cache=cache)
    assert "PEAKMEM_CACHE" in caught.value.hint
    assert caught.value.where == str(cache)


def gone(number: int) -> bool:
    """Whether no process of that number runs; a zombie that nobody waits for does not."""
    for _ in range(50):
        try:
            if Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.usefixtures("fake")
def test_a_hanging_tool_is_killed_with_its_children(relu, cache, tmp_path):
    with pytest.raises(ConversionError, match="pytest did not end within 2 s"):
        convert(relu, "mnn", options={"mode": "hang", "note": str(tmp_path)}, cache=cache, timeout=2)
    worker, child, folder = (tmp_path / "pids").read_text().split()
    assert gone(int(worker))
    assert gone(int(child))
    assert not Path(folder).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_conversion_leaves_no_process(number, relu, cache, tmp_path):
    code = (
        "import signal, sys\nfrom peakmem.conversion import route\nfrom tests.unit.conversion import fake_steps\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        # a shell's background jobs ignore it
        "route.steps = lambda: fake_steps.STEPS\n"
        "route.convert(sys.argv[1], 'mnn', options={'mode': 'hang', 'note': sys.argv[2]}, cache=sys.argv[3])\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-c", code, relu, str(tmp_path), str(cache)], env=environment, stderr=subprocess.DEVNULL
    )
    while not (tmp_path / "pids").exists() or not (tmp_path / "pids").read_text():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    try:
        process.wait(20)
    finally:
        process.kill()
    worker, child, folder = (tmp_path / "pids").read_text().split()
    assert gone(int(worker))
    if number == signal.SIGINT:
        assert gone(int(child))
        assert not Path(folder).exists()
    else:
        os.kill(int(child), signal.SIGKILL)
        # the fake tool does not use `step.call`, which would have taken care


@pytest.mark.usefixtures("fake")
def test_what_a_step_can_see(relu, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "of the user")
    made = convert(relu, "mnn", options={"mode": "looks", "note": str(tmp_path)}, cache=cache)
    seen = dict(line.split(" ", 1) for line in (tmp_path / "seen").read_text().splitlines())
    assert seen["stub"] == "refused"
    assert seen["fake"] == "yes"
    assert seen["secret"] == "None"
    assert seen["home"].startswith(str(cache))
    assert seen["cwd"].startswith(str(cache))
    assert made.notes == ("a note",)
    # A namespace of its own has not even a loopback device that is up; some systems do not allow one.
    assert seen["net"] in ("ENETUNREACH", "ECONNREFUSED")


@pytest.mark.usefixtures("fake")
def test_two_at_once_convert_once(relu, cache, tmp_path):
    found = []
    threads = [
        threading.Thread(
            target=lambda: found.append(
                convert(relu, "mnn", options={"mode": "counts", "note": str(tmp_path)}, cache=cache)
            )
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({made.path for made in found}) == 1
    assert len((tmp_path / "runs").read_text().split()) == 1
    assert sorted(made.steps[0].kept for made in found) == [False, True, True, True]
