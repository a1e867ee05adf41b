"""`peakmem MODEL --symbolic SIZE`, as it is typed."""

import json

import pytest

from peakmem.report.codec import from_json, schema
from peakmem.report.formula import Largest, PeakFormula


def test_the_formula_of_the_batch(run):
    """97.69 MiB = 25,610,152 numbers of four bytes; 9.19 MiB = 3 tensors of 256 x 56 x 56 of them."""
    code, out, err = run("resnet50", "--symbolic", "batch")
    assert (code, err) == (0, "")
    assert "peak(batch) = 97.69 MiB + 9.19 MiB·batch for batch ≥ 1 (at layer1.0/add)" in out
    assert "102,440,608 + 9,633,792·x" in out
    assert "[weights + live peak, fused, estimate, exact]" in out


def test_decimal_units_and_bytes(run):
    _, out, _ = run("resnet50", "--symbolic", "batch", "--units", "si")
    assert "peak(batch) = 102.44 MB + 9.63 MB·batch" in out
    _, out, _ = run("resnet50", "--symbolic", "batch", "--units", "bytes")
    assert "peak(batch) = 102,440,608 B + 9,633,792 B·batch" in out


def test_a_class_is_said_with_its_remainder(run):
    code, out, _ = run("squeezenet1_1", "--symbolic", "resolution", "--limits", "64..300")
    assert code == 0
    assert "a multiple of 16 (at features.2/maxpool)" in out
    assert "shown is remainder 0 (--every-residue shows all)" in out


def test_every_remainder(run):
    code, out, _ = run("squeezenet1_1", "--symbolic", "resolution", "--limits", "16..60", "--every-residue")
    assert code == 0
    assert "3 more than a multiple of 4" in out
    assert "No formula" in out
    assert "does not fit the padded size" in out


def test_ranges_with_an_end(run):
    _, out, _ = run("resnet50", "--symbolic", "batch", "--limits", "1..64")
    assert "for 1 ≤ batch ≤ 64 (at" in out
    _, out, _ = run("resnet50", "--symbolic", "batch", "--limits", "8..")
    assert "for batch ≥ 8 (at" in out
    _, out, _ = run("resnet50", "--symbolic", "batch", "--limits", "8")
    assert "for batch = 8 (at" in out


def test_another_assumption_and_dtype(run):
    code, out, _ = run("resnet50", "--symbolic", "batch", "--assume", "fused-add", "--dtype", "fp16")
    assert code == 0
    assert "fused_add, counted as float16" in out


def test_the_largest_that_fits(run):
    """(16·10^9 - 102,440,608) / 9,633,792 = 1650.2."""
    code, out, _ = run("resnet50", "--symbolic", "batch", "--within", "16GB")
    assert code == 0
    assert "largest batch within 14.90 GiB (16,000,000,000 B): 1,650" in out
    assert "solved from the formula, both neighbours evaluated" in out
    assert "1,650\t14.90 GiB\t15,998,197,408\tfits" in out
    assert "1,651\t" in out


def test_nothing_fits(run):
    code, out, _ = run("resnet50", "--symbolic", "batch", "--within", "1MB")
    assert code == 1
    assert "no batch fits within" in out


def test_the_live_peak_alone_on_a_grid(run):
    """1,000,000 / 9,633,792 < 1 at 224; with weights elsewhere 10^8 bytes hold 10 images, 8 by fours."""
    code, out, _ = run("resnet50", "--symbolic", "batch", "--within", "100MB", "--live", "--multiple-of", "4")
    assert code == 0
    assert "largest batch that is a multiple of 4 within 95.37 MiB (100,000,000 B): 8" in out
    assert "counted: live peak" in out


def test_as_data(run):
    code, out, _ = run("lstm_2layer", "--symbolic", "sequence", "--json", "-")
    assert code == 0
    found = from_json(out, PeakFormula)
    assert found.pieces[0].live.coefficients == (0, 2048)  # two tensors of 256 floats for each step
    code, out, _ = run("lstm_2layer", "--symbolic", "batch", "--within", "1GB", "--json", "-")
    assert from_json(out, Largest).value > 0


def test_files(run, tmp_path):
    code, _, _ = run("lstm_2layer", "--symbolic", "batch", "--write", "md=f.md", "--json", "f.json")
    assert code == 0
    assert "peak(batch)" in (tmp_path / "f.md").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))["schema"] == "peakmem.formula/1"


@pytest.mark.parametrize("name", ["formula", "largest"])
def test_schemas(run, name):
    code, out, _ = run("schema", name)
    assert code == 0
    assert json.loads(out) == json.loads(json.dumps(schema(name)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--symbolic", "bach"), "Try: --symbolic batch"),
        (("--symbolic", "batch", "--layers"), "--layers is for one size"),
        (("--symbolic", "batch", "--budget", "1MB"), "Try: --within SIZE"),
        (("--symbolic", "batch", "--limits", "x"), "expected LOW..HIGH"),
        (("--symbolic", "batch", "--limits", "9..3"), "no value lies between 9 and 3"),
        (("--symbolic", "batch", "--limits", "0..3"), "no value lies between 0 and 3"),
        (("--symbolic", "batch", "--within", "lots"), "is not a size"),
        (("--symbolic", "batch", "--multiple-of", "4"), "Try: --within"),
        (("--symbolic", "batch", "--write", "csv=x.csv"), "a formula has none"),
        (("--symbolic", "batch", "--engine", "ncnn"), "--engine is for one size"),
        (("--symbolic", "batch", "--within", "1GB", "--every-residue"), "without --every-residue"),
        (("--every-residue",), "--every-residue is for formulas"),
        (("--limits", "1..2"), "--limits is for formulas"),
        (("--within", "1GB"), "--symbolic"),
        (("--symbolic", "resolution", "--dtype", "fp17"), "no dtype is called"),
    ],
)
def test_what_is_refused(run, arguments, message):
    code, out, err = run("resnet50", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_of_a_lower_bound_nothing_fits_for_sure(run, tmp_path):
    """An operator nobody knows: x of 12 B a sample is all that can be told, so 1 MiB holds at most 87,381."""
    onnx = pytest.importorskip("onnx")
    made = onnx.helper
    node = made.make_node("Mystery", ["x"], ["y"], domain="ours")
    given = made.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3])
    graph = made.make_graph([node], "g", [given], [made.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)])
    opsets = [made.make_opsetid("", 17), made.make_opsetid("ours", 1)]
    (tmp_path / "m.onnx").write_bytes(made.make_model(graph, opset_imports=opsets).SerializeToString())
    code, out, _ = run("m.onnx", "--symbolic", "batch")
    assert code == 0
    assert "peak(batch) ≥ 12 B·batch" in out
    code, out, err = run("m.onnx", "--symbolic", "batch", "--within", "1MiB")
    assert code == 2
    assert "at most 87,381" in out
    assert "\tmay fit" in out
    assert "\tfits" not in out
    assert "may fit" in err
    assert run("m.onnx", "--symbolic", "batch", "--within", "11B")[0] == 1
