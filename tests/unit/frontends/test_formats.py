"""Formats are found by what a file is; other packages may bring theirs."""

from __future__ import annotations

import json
import math
import zipfile
from importlib.metadata import EntryPoint

import pytest

import peakmem
from peakmem import frontends
from peakmem.errors import FormatError, UsageError
from peakmem.frontends import FrontEnd, recognise
from peakmem.frontends.formats import BUILT_IN, listed
from peakmem.ir.builder import GraphBuilder

HEADER = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
BYTES = {
    "tflite": b"\x1c\0\0\0TFL3" + bytes(40),
    "ncnn": b"7767517\n1 1\nInput data 0 1 data 0=4\n",
    "pnnx": b"7767517\n1 1\npnnx.Input in 0 1 0 #0=(1,3)f32\n",
    "gguf": b"GGUF\x03\0\0\0" + bytes(20),
    "safetensors": len(HEADER).to_bytes(8, "little") + HEADER + bytes(4),
    "hf_config": b'{"model_type": "llama"}',
    "keras": b'{"module": "keras", "class_name": "Sequential", "config": {}}',
    "torch_checkpoint": b"\x80\x02}q\0.",
    "onnx": b"\x08\x09\x12\x04test",
}


@pytest.mark.parametrize("name", BYTES)
def test_by_the_bytes_whatever_the_name(tmp_path, name):
    for suffix in ("", ".onnx", ".model", ".bin"):
        path = tmp_path / f"file{suffix}"
        path.write_bytes(BYTES[name])
        assert recognise(path).name == name


def test_binary_params_of_ncnn(tmp_path):
    path = tmp_path / "x.param.bin"
    path.write_bytes((7767517).to_bytes(4, "little") + bytes(8))
    assert recognise(path).name == "ncnn"


@pytest.mark.parametrize(
    ("members", "name"),
    [
        (("archive/data.pkl", "archive/data/0"), "torch_checkpoint"),
        (("model/archive_format", "model/models/model.json"), "pt2"),
        (("serialized_exported_program.json", "version"), "pt2"),
        (("config.json", "metadata.json", "model.weights.h5"), "keras"),
    ],
)
def test_zip_archives_by_what_is_in_them(tmp_path, members, name):
    path = tmp_path / "file.zip"
    with zipfile.ZipFile(path, "w") as file:
        for member in members:
            file.writestr(member, b"{}")
    assert recognise(path).name == name


@pytest.mark.parametrize(
    ("files", "name"),
    [(("config.json", "model.safetensors"), "hf_config"), (("model.safetensors", "notes.txt"), "safetensors")],
)
def test_folders(tmp_path, files, name):
    for file in files:
        (tmp_path / file).write_bytes(b"{}")
    assert recognise(tmp_path).name == name


@pytest.mark.parametrize("suffix", [".csv", ".md", ".yaml"])
def test_layer_tables_by_their_suffix(tmp_path, suffix):
    path = tmp_path / f"table{suffix}"
    path.write_text("layer,kernel\nconv,3x3x3x8\n")
    assert recognise(path).name == "layer_table"


def test_a_saved_model_is_refused_with_what_to_convert_to(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    for path in (tmp_path, tmp_path / "saved_model.pb"):
        with pytest.raises(FormatError, match=r"SavedModel, which is not read.*convert it to TFLite.*tf2onnx"):
            peakmem.load(path)


def test_what_is_not_read_is_named(tmp_path):
    path = tmp_path / "x.ort"
    path.write_bytes(b"\x10\0\0\0ORTM" + bytes(20))
    with pytest.raises(FormatError, match=r"ONNX Runtime \.ort"):
        peakmem.load(path)
    with pytest.raises(FormatError, match="a folder without a model"):
        peakmem.load(tmp_path)


def read_toy(path, **options):  # noqa: ARG001 - the protocol of a reader
    builder = GraphBuilder("toy")
    x = builder.input("x", (1, int(options.get("channels", "3")), 8, 8))
    return builder.finish(builder.relu(x))


TOY = FrontEnd(
    "toy", "Toy", (".toy",), lambda head: head.data.startswith(b"TOY!"), read_toy, reads="a toy", unknown="nothing",
    options={"channels": "how many"},
)  # fmt: skip


@pytest.fixture
def with_toy(monkeypatch):
    points = [EntryPoint("toy", f"{__name__}:TOY", frontends.GROUP)]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points if group == frontends.GROUP else [])
    frontends.third_party.cache_clear()
    yield
    frontends.third_party.cache_clear()


@pytest.mark.usefixtures("with_toy")
def test_a_front_end_of_another_package(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(b"TOY!")
    assert recognise(path) is TOY
    assert peakmem.estimate(path).peak_bytes == 2 * 3 * 8 * 8 * 4
    assert peakmem.estimate(path, options={"channels": "5"}).peak_bytes == 2 * 5 * 8 * 8 * 4
    with pytest.raises(UsageError, match=r"Toy has no option 'width'.*expected channels"):
        peakmem.load(path, options={"width": "5"})
    assert "toy" in listed()


def test_a_front_end_that_cannot_be_imported(tmp_path, monkeypatch):
    points = [EntryPoint("bad", "no.such.module:X", frontends.GROUP)]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)  # noqa: ARG005 - its signature
    frontends.third_party.cache_clear()
    path = tmp_path / "x.what"
    path.write_bytes(b"what")
    with pytest.raises(UsageError, match="the front end 'bad'"):
        recognise(path)
    frontends.third_party.cache_clear()


def test_a_format_by_name(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"GGUF")
    with pytest.raises(FormatError):
        peakmem.load(path, form="onnx")
    with pytest.raises(UsageError, match="no format is called 'nonsense'"):
        peakmem.load(path, form="nonsense")


def test_every_format_says_what_it_reads_and_what_stays_unknown():
    for item in listed().values():
        assert item.title
        assert item.given_as
        assert item.reads
        assert item.unknown
    assert {front_end.name for front_end in BUILT_IN} < set(listed())


def test_options_a_format_does_not_take(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(BYTES["gguf"])
    with pytest.raises(UsageError, match="GGUF has no option 'context'"):
        peakmem.load(path, options={"context": "8"})


def tiny_llama(folder, *, spoiled=False):
    """A Llama of one layer as its library saves it: configuration and weights."""
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 10, "hidden_size": 8,
        "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
        "max_position_embeddings": 32, "tie_word_embeddings": False, "torch_dtype": "float32",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "nobody"} if spoiled else config))
    layer = "model.layers.0."
    shapes = {
        "model.embed_tokens.weight": [10, 8], "model.norm.weight": [8], "lm_head.weight": [10, 8],
        layer + "input_layernorm.weight": [8], layer + "post_attention_layernorm.weight": [8],
        layer + "self_attn.q_proj.weight": [8, 8], layer + "self_attn.k_proj.weight": [4, 8],
        layer + "self_attn.v_proj.weight": [4, 8], layer + "self_attn.o_proj.weight": [8, 8],
        layer + "mlp.gate_proj.weight": [16, 8], layer + "mlp.up_proj.weight": [16, 8],
        layer + "mlp.down_proj.weight": [8, 16],
    }  # fmt: skip
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    data = json.dumps(header).encode()
    path = folder / "model.safetensors"
    path.write_bytes(len(data).to_bytes(8, "little") + data + bytes(end))
    return path, end


def test_weights_beside_a_configuration_are_its_network(tmp_path):
    path, nbytes = tiny_llama(tmp_path)
    report = peakmem.estimate(path, dims={"sequence": 4})
    assert report.model.format == "hf_config"
    assert report.weights_bytes == nbytes
    assert report.kind == "estimate"
    assert report.peak_bytes > 0
    assert peakmem.estimate(path, options={"context": "16"}, dims={"sequence": 4}).peak.state_bytes == 2 * 16 * 4 * 4
    assert peakmem.estimate(path, form="safetensors").kind == "lower bound"


def test_weights_beside_a_configuration_nobody_knows_stay_weights(tmp_path):
    path, nbytes = tiny_llama(tmp_path, spoiled=True)
    report = peakmem.estimate(path)
    assert (report.weights_bytes, report.kind) == (nbytes, "lower bound")
    assert any("config.json beside the weights was not used" in note for note in report.assumptions)
    with pytest.raises(FormatError, match="the family 'nobody' is not known"):
        peakmem.estimate(path, options={"context": "16"})
