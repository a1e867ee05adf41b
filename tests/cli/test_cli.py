"""The command line as people call it: output, files, exit codes."""

from __future__ import annotations

import csv
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from peakmem.cli import VERBS
from peakmem.report.codec import from_json


def table(text: str, title: str) -> list[list[str]]:
    """Rows of the block whose title starts with `title`."""
    lines = text.split("\n")
    start = next(at for at, line in enumerate(lines) if line.startswith(f"# {title}"))
    rows = []
    for line in lines[start + 1 :]:
        if not line:
            break
        rows.append(line.split("\t"))
    return rows


def number(cell: str) -> int:
    return int(cell.replace(",", "") or 0)


def test_the_answer_comes_in_order(run):
    code, out, err = run("mobilenet_v1")
    assert (code, err) == (0, "")
    titles = [line[2:].split(" (")[0] for line in out.split("\n") if line.startswith("# ")]
    assert titles == [
        "mobilenet_v1", "Parts", "Alive at the peak", "Live peak by execution assumption", "Parameters",
        "Assumptions", "Unknown", "Next",
    ]  # fmt: skip
    assert "peak: 4.59 MiB (4,816,896 B) of activations, at operator Conv2d_1/pointwise" in out


def test_printed_columns_add_up(run):
    _, out, _ = run("mobilenet_v2", "--layers")
    *parts, total = table(out, "Parts")[1:]
    assert sum(number(row[2]) for row in parts) == number(total[2])
    *alive, total = table(out, "Alive at the peak")[1:]
    assert sum(number(row[4]) for row in alive) == number(total[4])
    *layers, total = table(out, "Layers")[1:]
    counted = [number(row[9]) * int((row[10] or "x1")[1:]) for row in layers]
    assert sum(counted) == number(total[9])
    assert sum(number(row[7]) * int((row[10] or "x1")[1:]) for row in layers) == number(total[7])


def test_top_cuts_the_lists_and_says_how_much_is_left(run):
    _, out, _ = run("densenet161", "--layers", "--top", "2")
    *alive, total = table(out, "Alive at the peak")[1:]
    assert len(alive) == 3
    assert alive[-1][0].startswith("and ")
    assert sum(number(row[4]) for row in alive) == number(total[4])
    assert len(table(out, "The 2 largest of")) == 1 + 2 + 1


def test_no_bare_megabyte_means_mebibyte(run):
    _, iec, _ = run("mobilenet_v1", "--conventions")
    assert " MB" not in iec.split("# Conventions")[0]
    sizes = [row[1] for row in table(iec, "Conventions")[1:]]
    assert all(size.endswith(("KiB", "MiB", "GiB", " B")) for size in sizes)
    _, si, _ = run("mobilenet_v1", "--units", "si")
    assert "peak: 4.82 MB (4,816,896 B)" in si
    assert "iB" not in si


def test_conventions_side_by_side(run):
    _, out, _ = run("resnet50", "--conventions")
    values = {row[0]: number(row[2]) for row in table(out, "Conventions")[1:]}
    assert values["block_input_held"] == 7_225_344
    assert values["torchsummary"] == 300_478_272
    assert values["live_fused_add"] == 7_225_344


def test_json_to_standard_output_is_json_alone(run, tmp_path):
    code, out, err = run("mobilenet_v1", "--layers", "--top", "10", "--json", "-", "--write", "csv=layers.csv")
    assert (code, err) == (0, "")
    report = from_json(out)
    assert report.peak_bytes == 4_816_896
    rows = list(csv.DictReader((tmp_path / "layers.csv").read_text().splitlines()))
    assert len(rows) == len(report.layers) == 30
    assert sum(int(row["convention_bytes"] or 0) for row in rows) == 57_587_360
    assert max(int(row["live_bytes"]) for row in rows) == report.peak_bytes


@pytest.mark.parametrize("form", ["csv", "json", "md", "tsv"])
def test_files_are_written_once_and_not_overwritten(run, tmp_path, form):
    target = tmp_path / f"out.{form}"
    assert run("mobilenet_v1", "--write", f"{form}={target}")[0] == 0
    first = target.read_text()
    assert first.endswith("\n")
    code, out, err = run("mobilenet_v1", "--batch", "2", "--write", f"{form}={target}")
    assert (code, out) == (2, "")
    assert "exists and is not overwritten. Try: --force" in err
    assert target.read_text() == first
    assert run("mobilenet_v1", "--batch", "2", "--write", f"{form}={target}", "--force")[0] == 0
    assert target.read_text() != first
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_a_failed_analysis_writes_nothing(run, tmp_path):
    code, _, _ = run("mobilenet_v1", "--shape", "input=1x3x-1x4", "--json", "out.json")
    assert code == 2
    assert list(tmp_path.iterdir()) == []


def test_the_model_is_never_written_over(run, tmp_path):
    model = tmp_path / "m.onnx"
    model.write_bytes(b"\x08\x08")
    code, _, err = run("m.onnx", "--json", "m.onnx", "--force")
    assert code == 2
    assert "the model itself" in err
    assert model.read_bytes() == b"\x08\x08"


@pytest.mark.parametrize(("budget", "code"), [("21MB", 0), ("20.1MB", 1), ("1KiB", 1)])
def test_budget_decides_the_exit_code(run, budget, code):
    # 14,156,216 B of weights and 6,021,120 B live
    done, out, _ = run("mobilenet_v2", "--budget", budget)
    assert done == code
    assert ("fits, headroom" if code == 0 else "does not fit") in "\n".join(out.split("# Budget")[1].split("\n")[:2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.onnx"], "nothing.onnx: there is no such file"),
        (["mobilenet_v9"], "'mobilenet_v9'"),
        (["."], "this is a folder"),
        (["mobilenet_v1", "--batch", "0"], "--batch is 0 (expected 1 or more)"),
        (["mobilenet_v1", "--batch", "x"], "'x' is not a valid integer"),
        (["mobilenet_v1", "--shape", "input=1x3x0x-4"], "is not a shape"),
        (["mobilenet_v1", "--dim", "n"], "--dim 'n' is not a dimension"),
        (["mobilenet_v1", "--dim", "n=3"], "no dimension 'n'"),
        (["mobilenet_v1", "--dtype", "int3"], "no dtype is called 'int3'"),
        (["mobilenet_v1", "--assume", "hope"], "no execution assumption is called 'hope'"),
        (["mobilenet_v1", "--convention", "hope"], "no convention 'hope'"),
        (["mobilenet_v1", "--budget", "12"], ""),
        (["mobilenet_v1", "--budget", "12M"], "'12M' is not a size"),
        (["mobilenet_v1", "--write", "pdf=x"], "--write 'pdf=x' is not understood"),
        (["mobilenet_v1", "--write", "csv=no/such/x.csv"], "there is no folder"),
        (["mobilenet_v1", "--top", "0"], "0 is not in the range"),
        (["mobilenet_v1", "--nope"], "No such option"),
        (["mobilenet_v1:width=-1"], "width"),
        (["zoo", "export", "nope"], "nope"),
        (["estimate"], "Missing argument 'MODEL'"),
    ],
)  # fmt: skip
def test_wrong_calls_get_one_line_and_exit_2(run, arguments, message):
    code, out, err = run(*arguments)
    if not message:
        assert code == 1
        return
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("peakmem: error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_verbs_have_help(run):
    assert "Examples:" in run("--help")[1]
    for verb in VERBS:
        code, out, _ = run(verb, "--help")
        assert code == 0
        assert "Usage: peakmem" in out


def test_version_and_schema(run):
    assert run("--version")[1].startswith("peakmem ")
    assert json.loads(run("schema")[1])["title"] == "peakmem.estimate/1"


def test_the_zoo_is_listed(run):
    rows = {row[0]: row for row in table(run("zoo")[1], "Built-in networks")}
    assert rows["resnet50"][1] == "25,557,032"
    assert run("zoo", "list")[1] == run("zoo")[1]


def test_zoo_export_and_reading_it_back(run):
    pytest.importorskip("onnx")
    code, out, _ = run("zoo", "export", "squeezenet1_1", "s.onnx", "--batch", "N")
    assert code == 0
    assert out.startswith("s.onnx\t")
    assert run("zoo", "export", "squeezenet1_1", "s.onnx")[0] == 2
    code, _, err = run("s.onnx")
    assert code == 2
    assert "Try: --batch 1" in err
    _, one, _ = run("squeezenet1_1", "--batch", "2", "--units", "bytes")
    _, two, _ = run("s.onnx", "--batch", "2", "--units", "bytes")
    assert table(one, "Parts") == table(two, "Parts")


def test_on_a_terminal_numbers_are_not_cut():
    """In a narrow terminal every byte count is still whole; NO_COLOR removes escape codes."""
    main_end, other = pty.openpty()
    environment = {**os.environ, "COLUMNS": "60", "TERM": "xterm", "NO_COLOR": "1"}
    done = subprocess.Popen(
        [sys.executable, "-m", "peakmem", "mobilenet_v1", "--layers"], stdout=other, env=environment
    )
    os.close(other)
    text = b""
    while True:
        try:
            part = os.read(main_end, 65536)
        except OSError:
            break
        if not part:
            break
        text += part
    assert done.wait() == 0
    os.close(main_end)
    shown = text.decode()
    assert "57,587,360" in shown
    assert "4,825,088" in shown
    assert "\x1b[3" not in shown


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m peakmem densenet161 --layers --conventions | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "# densenet161\n"
    assert done.stderr == ""


def test_module_and_script_are_the_same(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "peakmem", "--version"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.startswith("peakmem ")
    assert Path(sys.executable).exists()


def test_what_is_no_file_is_written_into_and_stays_what_it_is(tmp_path, run):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDWR)  # so that nobody waits for a reader
    try:
        code, _, _ = run("squeezenet1_1", "--force", "--top", "1", "--write", f"csv={pipe}", "--layers")
        assert code == 0
        assert pipe.is_fifo()
        assert os.read(held, 4096)
    finally:
        os.close(held)


@pytest.mark.parametrize(
    ("typed", "meant"), [("devicess", "devices"), ("fitt", "fit"), ("check-claim", "check-claims")]
)
def test_a_verb_that_is_mistyped(run, typed, meant):
    code, out, err = run(typed, "model.onnx")
    assert (code, out) == (2, "")
    assert f"Try: peakmem {meant} …" in err


def test_a_file_that_is_called_like_a_verb(run, tmp_path):
    (tmp_path / "fitt").write_bytes(b"no model")
    _, _, err = run("fitt")
    assert "no verb" not in err
    assert "fitt: " in err
