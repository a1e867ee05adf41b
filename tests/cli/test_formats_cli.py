"""`peakmem formats`, `peakmem convert-check`, and sources without operators on the screen."""

from __future__ import annotations

import json

import pytest

from peakmem.frontends.formats import listed
from tests.cli.test_cli import number, table
from tests.unit.frontends import tflite_files as made


def weights_file(path):
    header = {
        "model.embed.weight": {"dtype": "F16", "shape": [10, 4], "data_offsets": [0, 80]},
        "model.norm.weight": {"dtype": "F32", "shape": [4], "data_offsets": [80, 96]},
    }
    data = json.dumps(header).encode()
    path.write_bytes(len(data).to_bytes(8, "little") + data + bytes(96))


def test_every_format_is_listed_with_what_it_needs(run):
    code, out, _ = run("formats")
    assert code == 0
    header, *rows = table(out, "Formats")
    assert header == ["name", "format", "given as", "needs", "what is read", "what cannot be known"]
    assert [row[0] for row in rows] == list(listed())
    assert all(cell for row in rows for cell in row)
    assert "SavedModel: convert it to TFLite" in out


def test_one_format_and_the_format_of_a_file(run, tmp_path):
    assert [row[0] for row in table(run("formats", "gguf")[1], "Formats")[1:]] == ["gguf"]
    weights_file(tmp_path / "some.bin")
    assert [row[0] for row in table(run("formats", "some.bin")[1], "Formats")[1:]] == ["safetensors"]
    code, _, err = run("formats", "nonsense")
    assert code == 2
    assert "no format or file is called 'nonsense'" in err


def test_formats_as_json(run):
    code, out, _ = run("formats", "--json")
    assert code == 0
    assert {item["name"] for item in json.loads(out)} == set(listed())


def test_weights_without_operators_say_that_activations_are_unknown(run, tmp_path):
    weights_file(tmp_path / "model.safetensors")
    code, out, _ = run("model.safetensors", "--tensors")
    assert code == 0
    assert "weights: 96 B in 2 tensors; activations unknown" in out
    parts = {row[0]: row for row in table(out, "Parts")[1:]}
    assert parts["activations"][1] == "unknown"
    assert "peak:" not in out
    _, *stored, total = table(out, "Stored tensors")
    assert [row[0] for row in stored] == ["model.embed.weight", "model.norm.weight"]
    assert sum(number(row[-1]) for row in stored) == number(total[-1]) == 96
    _, *shares, total = table(out, "Stored by dtype")
    assert [row[0] for row in shares] == ["float16", "float32"]
    assert sum(number(row[-1]) for row in shares) == number(total[-1]) == 96


def test_weights_without_operators_cannot_prove_a_budget(run, tmp_path):
    weights_file(tmp_path / "model.safetensors")
    assert run("model.safetensors", "--budget", "1MB")[0] == 2
    assert run("model.safetensors", "--budget", "10")[0] == 1


def test_weights_without_operators_as_json_and_csv(run, tmp_path):
    weights_file(tmp_path / "model.safetensors")
    code, out, _ = run("model.safetensors", "--json", "-", "--write", "csv=t.csv")
    assert code == 0
    report = json.loads(out)
    assert report["kind"] == "lower bound"
    assert report["peak"]["activations_known"] is False
    assert sum(share["nbytes"] for share in report["dtypes"]) == report["peak"]["weights_bytes"] == 96
    assert [one["name"] for one in report["tensors"]] == ["model.embed.weight", "model.norm.weight"]
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines[0] == "name,shape,dtype,role,nbytes"
    assert lines[1].startswith("model.embed.weight,10x4,float16,weight,80")


def test_a_network_is_like_its_export(run):
    run("zoo", "export", "squeezenet1_1", "s.onnx")
    code, out, err = run("convert-check", "squeezenet1_1", "s.onnx")
    assert (code, err) == (0, "")
    assert out.startswith("# the same network for memory\nA: squeezenet1_1 [zoo]")
    assert table(out, "Differences") == [["none"]]


def test_two_networks_differ_and_the_exit_code_says_so(run, tmp_path):
    code, out, _ = run("convert-check", "resnet18", "resnet50", "--json", "c.json")
    assert code == 1
    assert out.startswith("# they differ")
    assert json.loads((tmp_path / "c.json").read_text())["same"] is False
    assert run("convert-check", "resnet18", "resnet50", "--json", "c.json")[0] == 2


def test_weights_against_weights(run, tmp_path):
    for name in ("a", "b"):
        weights_file(tmp_path / f"{name}.safetensors")
    code, out, _ = run("convert-check", "a.safetensors", "b.safetensors", "--batch", "2")
    assert code == 0
    assert out.startswith("# the same weights\n")
    assert "activations: not compared, stored tensors: 2 of 2" in out


@pytest.mark.parametrize("flag", [("--batch", "2"), ("--shape", "x=1x2"), ("--dim", "n=2")])
def test_weights_have_nothing_to_size(run, tmp_path, flag):
    weights_file(tmp_path / "a.safetensors")
    code, _, err = run("a.safetensors", *flag)
    assert code == 2
    assert f"{flag[0]} has nothing to size: the source holds weights and no operators" in err


def test_a_shape_that_is_missing_is_asked_for_by_the_side_it_belongs_to(run, tmp_path):
    (tmp_path / "n.param").write_text("7767517\n2 2\nInput data 0 1 data\nReLU act 1 1 data out\n")
    assert "Try: --shape-b data=3x224x224" in run("convert-check", "squeezenet1_1", "n.param")[2]
    assert "Try: --shape-a data=3x224x224" in run("convert-check", "n.param", "squeezenet1_1")[2]


def test_another_dtype_is_offered_only_where_there_is_something_to_count(run, tmp_path):
    (tmp_path / "n.param").write_text("7767517\n2 2\nInput data 0 1 data 0=8 1=8 2=3\nReLU act 1 1 data out\n")
    assert "--dtype int8    #" in run("n.param")[1]
    shapes = [made.tensor(name, (1, 8), 9) for name in "ab"]  # 9: INT8
    graph = made.subgraph(shapes, (0,), (1,), [made.operator(0, (0,), (1,))])
    (tmp_path / "n.tflite").write_bytes(made.model([graph], [made.code(19)]))  # 19: RELU
    out = run("n.tflite")[1]
    assert "--conventions    #" in out
    assert "--dtype int8" not in out


def test_the_schema_of_each_report(run):
    for name in ("estimate", "comparison"):
        assert json.loads(run("schema", name)[1])["title"] == f"peakmem.{name}/1"
    assert run("schema", "nonsense")[0] == 2
