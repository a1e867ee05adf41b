"""`peakmem check-table` as people call it: output, files, exit codes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from peakmem.cli import main

DATA = Path(__file__).parents[1] / "data" / "layer_tables"
BENCHMARK = str(DATA / "mobilenet_v1_benchmark.md")


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Call `peakmem check-table` in a scratch folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as done:
            main(["check-table", *arguments])
        captured = capsys.readouterr()
        return int(done.value.code or 0), captured.out, captured.err

    return call


def test_a_table_with_a_wrong_row_exits_with_1(run):
    code, out, err = run(BENCHMARK)
    assert (code, err) == (1, "")
    assert "38 of 41 claims are right, 2 wrong, 1 ambiguous" in out
    wrong = [line.split("\t") for line in out.split("\n") if line.endswith("\tWRONG")]
    assert [(row[0], row[1], row[3], row[4]) for row in wrong] == [
        ("19", "conv dw/s2", "438272 bytes", "303,104 B"), ("20", "conv/s1", "7x7x1024", "4x4x1024"),
    ]  # fmt: skip
    assert "row 19: stride 1 instead of 2 (gives 438,272 B; row 20 reads 7x7x1024)" in out
    assert "row 19\tstride 1 instead of 2\t2\n" in out


def test_a_right_table_exits_with_0(run):
    code, out, _ = run(str(DATA / "alexnet.csv"))
    assert code == 0
    assert "27 of 27 claims are right, 0 wrong" in out
    assert "What would make them true" not in out


def test_options_that_fix_a_meaning(run):
    code, out, _ = run(BENCHMARK, "--convention", "layer_in_out")
    assert code == 1
    assert "input + output + kernel instead of input + output" in out
    assert run(BENCHMARK, "--dtype", "int8")[0] == 1
    assert run(BENCHMARK, "--unit", "KiB")[0] == 1


def test_json_alone_on_standard_output(run):
    code, out, err = run(BENCHMARK, "--json", "-")
    assert (code, err) == (1, "")
    data = json.loads(out)
    assert data["schema"] == "peakmem.claims/1"
    assert data["repairs"][0]["change"] == "stride 1 instead of 2"


@pytest.mark.parametrize("form", ["csv", "json", "md", "tsv"])
def test_files_are_written_and_not_overwritten(run, tmp_path, form):
    target = tmp_path / f"out.{form}"
    assert run(BENCHMARK, "--write", f"{form}={target}")[0] == 1
    assert target.read_text(encoding="utf-8").endswith("\n")
    code, _, err = run(BENCHMARK, "--write", f"{form}={target}")
    assert code == 2
    assert "exists and is not overwritten" in err
    assert run(BENCHMARK, "--write", f"{form}={target}", "--force")[0] == 1


def test_the_csv_has_a_line_for_each_claim(run, tmp_path):
    run(BENCHMARK, "--write", "csv=claims.csv")
    rows = list(csv.DictReader((tmp_path / "claims.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 41
    assert [row["verdict"] for row in rows].count("right") == 38
    assert next(row for row in rows if row["verdict"] == "wrong")["value"] == "303104"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.md"], "there is no such file"),
        (["."], "this is a folder"),
        ([BENCHMARK, "--unit", "acre"], "no unit is called 'acre'"),
        ([BENCHMARK, "--dtype", "int3"], "no dtype is called 'int3'"),
        ([BENCHMARK, "--convention", "weights"], "no convention 'weights' counts layer by layer"),
        ([BENCHMARK, "--write", "pdf=x"], "--write 'pdf=x' is not understood"),
        ([BENCHMARK, "--json", "x", "--write", "json=x"], "written twice"),
        ([str(DATA / "vgg16_d.csv")], "claims nothing that can be checked"),
    ],
)
def test_wrong_calls_get_one_line_and_exit_2(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
