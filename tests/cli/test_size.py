"""`peakmem size` on the screen and as JSON."""

import json
import os

import pytest

from tests.cli.test_cli import table


def test_the_four_formats_by_default(run):
    code, out, _ = run("size", "squeezenet1_1")
    assert code == 0
    header, *rows = table(out, "File sizes")
    assert header[:4] == ["format", "dtype", "batch norms", "size"]
    assert [row[0] for row in rows] == ["onnx", "ncnn", "tflite", "safetensors"]
    assert rows[0][3] == "4.72 MiB (4,953,771 B)"
    assert rows[0][4] == "exact"


def test_parts_are_shown_and_add_up(run):
    code, out, _ = run("size", "mobilenet_v2", "--format", "onnx,safetensors", "--dtype", "fp32,fp16", "--fold")
    assert code == 0
    title = "What they are made of, in bytes"
    header, *rows = table(out, title)
    assert len(rows) == 4
    for row in rows:
        *parts, total = (int(cell.replace(",", "")) for cell in row[3:])
        assert sum(parts) == total
    assert {row[2] for row in rows} == {"52 folded"}
    assert "norms" not in header


def test_json(run):
    code, out, _ = run("size", "resnet18", "--format", "onnx", "--no-fold", "--dtype", "fp32", "--json", "-")
    assert code == 0
    report = json.loads(out)
    assert report["schema"] == "peakmem.file_size/1"
    assert report["sizes"][0]["nbytes"] == 46809541
    assert report["sizes"][0]["folded"] is False


def test_what_cannot_be_counted_is_named_beside_what_can(run):
    code, out, _ = run("size", "squeezenet1_1", "--format", "ncnn,safetensors", "--dtype", "bf16")
    assert code == 0
    assert "ncnn, .param and .bin files are not counted at bfloat16" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format", "onxx"], "sizes of 'onxx' files are not counted"),
        (["--format", "onnx,,ncnn"], "has an empty place"),
        (["--format", "onnx,onnx"], "names one twice"),
        (["--format", "ncnn", "--dtype", "bf16"], "not counted at bfloat16"),
        (["--dtype", "fp31"], "no dtype is called 'fp31'"),
        (["--dtype", ""], "has an empty place"),
        (["--scheme", "magic"], "magic"),
    ],
)
def test_bad_input_is_one_sentence(run, arguments, words):
    code, out, err = run("size", "squeezenet1_1", *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err


def test_no_such_model(run):
    code, _, err = run("size", "nothing.onnx")
    assert code == 2
    assert "nothing.onnx" in err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_that_nobody_reads(run, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    code, _, err = run("size", "mobilenet_v2", "--json", "pipe")
    assert (code, "a pipe that nobody reads" in err) == (2, True)
