"""`peakmem check-claims`: exit codes, filters, formats, errors."""

import json

import pytest

from peakmem.report import codec
from peakmem.report.ledger import Ledger

pytest.importorskip("yaml")

RIGHT = "claims:\n  - {id: a, claim: 4 B, compute: 'dtype_bytes(\"float32\")'}\n  - {id: p, practice: advice}\n"
MIXED = """\
source: a paper
context: {network: vgg16}
claims:
  - {id: a, claim: "138,357,544", quantity: parameters}
  - {id: b, claim: 528 MB, quantity: model size}
  - {id: c, claim: 300 MB, compute: 'parse("553 MB")', says: VGG16 takes 300 MB}
"""


@pytest.fixture
def claims(tmp_path):
    def written(text, name="claims.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return written


def test_exit_codes(run, claims):
    assert run("check-claims", claims(RIGHT))[0] == 0
    assert run("check-claims", claims(MIXED))[0] == 1
    assert run("check-claims", claims(MIXED), "--only", "a")[0] == 0
    assert run("check-claims", claims(MIXED), "--only", "b")[0] == 1
    code, out, err = run("check-claims", claims("claims: [{claim: 4, quantity: weights}]"))
    assert (code, out) == (2, "")
    assert "no network is named" in err
    code, _, err = run("check-claims", claims("claims: [{claim: 4, quantity: wieghts}]"))
    assert code == 2
    assert "claims.yaml:1: claim 1: no quantity is called 'wieghts'" in err
    assert "Traceback" not in err


def test_what_is_shown(run, claims):
    code, out, _ = run("check-claims", claims(MIXED))
    assert out.startswith("# a paper\n1 of 3 claims are right, 1 wrong, 1 ambiguous\n")
    assert "VGG16 takes 300 MB\t300 MB\t553.00 MB = 527.38 MiB (553,000,000 B)\tWRONG" in out
    assert "true with MB read as MiB" in out
    assert code == 1


def test_filters(run, claims):
    code, out, _ = run("check-claims", claims(MIXED), "--verdict", "wrong")
    assert code == 1
    assert [line.split("\t")[0] for line in out.splitlines() if "\tWRONG" in line] == ["c", "c"]
    assert "\na\t" not in out
    code, _, err = run("check-claims", claims(MIXED), "--verdict", "wrnog")
    assert (code, "Try: --verdict wrong" in err) == (2, True)
    code, _, err = run("check-claims", claims(MIXED), "--only", "z")
    assert (code, "no claim is called 'z'" in err) == (2, True)


def test_units(run, claims):
    _, out, _ = run("check-claims", claims(MIXED), "--units", "bytes")
    assert "553,430,176 B\tambiguous" in out
    _, out, _ = run("check-claims", claims(MIXED), "--units", "iec")
    assert "527.79 MiB (553,430,176 B)\tambiguous" in out


def test_json_and_files(run, claims, tmp_path):
    code, out, _ = run("check-claims", claims(MIXED), "--json", "-")
    report = codec.from_json(out, Ledger)
    assert (code, report.right, report.wrong, report.ambiguous) == (1, 1, 1, 1)
    assert json.loads(out)["statements"][1]["computed"][0]["values"] == [553_430_176]
    assert report.statements[1].file_line == 5
    target = tmp_path / "report.md"
    assert run("check-claims", claims(MIXED), "--write", f"md={target}")[0] == 1
    assert "| c |" in target.read_text("utf-8")
    assert run("check-claims", claims(MIXED), "--write", f"md={target}")[0] == 2


def test_the_report_fits_its_schema(run, claims):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(json.loads(run("check-claims", claims(MIXED), "--json", "-")[1]), codec.schema("ledger"))


def test_several_files(run, claims):
    code, out, _ = run("check-claims", claims(RIGHT), claims(MIXED.replace("id: a", "id: d"), "more.yaml"))
    assert code == 1
    assert "\n# Sources\n" in out
    code, _, err = run("check-claims", claims(RIGHT), claims(MIXED, "more.yaml"))
    assert (code, "stands in" in err) == (2, True)


def test_the_built_in_claims_by_id(run):
    code, out, _ = run("check-claims", "--only", "S0-09,S4-19")
    assert code == 0
    assert "2 of 2 claims are right" in out
    code, out, _ = run("check-claims", "--only", "S3-49")
    assert code == 1
    assert "no reading gives it: float32 102.76 MB" in out


def test_without_torch_a_trace_is_not_computed_and_not_wrong(run, claims, monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr("peakmem.producing.find_spec", lambda name: None if name == "torch" else found(name))
    text = 'claims: [{claim: 1 GB, compute: \'train("peak", route="trace")\', context: {network: resnet18}}]'
    code, out, err = run("check-claims", claims(text))
    assert (code, err) == (2, "")
    assert "1 not computed" in out
    assert "pip install 'peakmem[torch]'" in out
