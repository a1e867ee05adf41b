"""The size of a file as a question: formats, dtypes, what is refused, what adds up."""

import json

import pytest

import peakmem
from peakmem.errors import UsageError
from peakmem.filesize.formats import FORMATS
from peakmem.filesize.predict import file_sizes
from peakmem.report.codec import from_json
from peakmem.report.file_size import FileSizes


@pytest.mark.parametrize("fold", [None, True, False])
@pytest.mark.parametrize("dtype", [None, "fp32", "fp16"])
@pytest.mark.parametrize("form", FORMATS)
def test_parts_add_up_everywhere(form, dtype, fold):
    size = peakmem.file_size("mobilenet_v2:width=0.35,resolution=96", form, dtype, fold)
    assert sum(part.nbytes for part in size.parts) == size.nbytes
    assert size.low_bytes <= size.nbytes <= size.high_bytes
    assert (size.low_bytes == size.high_bytes) == (size.kind == "exact")
    assert size.batch_norms == 52
    assert size.tensor_bytes + size.around_bytes == size.nbytes


def test_resnet50_with_its_norms_and_without():
    """25,557,032 parameters of which 53,120 are of norms, whose 26,560 shifts become biases; 53,120 statistics."""
    plain = peakmem.file_size("resnet50", "onnx", fold=False)
    folded = peakmem.file_size("resnet50", "onnx", fold=True)
    assert plain.tensor_bytes == 4 * (25557032 + 53120)
    assert folded.tensor_bytes == 4 * (25557032 - 53120 + 26560)
    # published as a file of 97.4 MB, which are MiB
    assert round(folded.nbytes / 2**20, 1) == 97.4
    assert round(plain.nbytes / 2**20, 1) == 97.7


@pytest.mark.parametrize(
    ("network", "mebibytes", "fold"),
    [
        ("vgg16", 527.8, True), ("alexnet", 233.1, True), ("googlenet", 25.3, True), ("resnet18", 44.6, True),
        ("densenet161", 110.1, True), ("shufflenet_v2", 8.7, True), ("mobilenet_v1", 16.1, True),
        ("mobilenet_v2", 13.5, False),
    ],
)  # fmt: skip
def test_sizes_that_were_published_in_mebibytes(network, mebibytes, fold):
    """Files of a benchmark page, in MiB, as the parameters give them: within its graph, under 0.5 %."""
    size = peakmem.file_size(network, "onnx", fold=fold)
    assert size.nbytes / 2**20 == pytest.approx(mebibytes, rel=0.005)


def test_weights_without_a_network_have_no_operators_to_write(tmp_path):
    header = json.dumps({"w": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    with pytest.raises(UsageError, match="stores tensors and no operators"):
        peakmem.file_size(path, "onnx")
    assert peakmem.file_size(path, "safetensors").tensor_bytes == 64


@pytest.mark.parametrize(
    ("form", "dtype", "scheme", "words"),
    [
        ("onx", None, "", "sizes of 'onx' files are not counted .*--format onnx"),
        ("ncnn", "bf16", "", "ncnn, .param and .bin files are not counted at bfloat16"),
        ("tflite", "fp64", "", "not counted at float64"),
        ("pt", "int4", "", "not counted at int4"),
        ("gguf", "int4", "", "not counted at int4"),
        ("onnx", "q4_k", "", "not counted at q4_k"),
        ("onnx", "int8", "dynamic", "no scheme 'dynamic'"),
        ("onnx", "fp16", "static", "is for whole numbers"),
        ("onnx", "int9", "", "no dtype is called 'int9'"),
    ],
)
def test_what_cannot_be_answered(form, dtype, scheme, words):
    with pytest.raises(UsageError, match=words):
        peakmem.file_size("squeezenet1_1", form, dtype, scheme=scheme)


def test_several_at_once_name_what_they_leave_out():
    report = file_sizes("squeezenet1_1", ["onnx", "pt", ".gguf"], [None, "int4"])
    assert [(one.format, one.dtype) for one in report.sizes] == [
        ("onnx", "stored"), ("onnx", "int4"), ("pt", "stored"), ("gguf", "stored"),
    ]  # fmt: skip
    assert len(report.refused) == 2
    assert from_json(report.to_json(), FileSizes) == report


def test_a_quantised_file_keeps_its_bytes():
    """A network whose weights are int8 is not counted as if it were float32."""
    from peakmem.dtypes import INT8
    from peakmem.ir.builder import GraphBuilder

    b = GraphBuilder("q")
    x = b.input("x", (1, 4), INT8)
    w = b.parameter("w", (4, 8), INT8)
    graph = b.finish(b.one("MatMulInteger", x, w))
    assert peakmem.file_size(graph, "safetensors", "fp32").tensor_bytes == 32
    assert peakmem.file_size(graph, "onnx").part("weights") == 32


def test_a_batch_without_a_value_is_one():
    """A file is as large at any batch, so nobody has to say one; other sizes are asked for."""
    from peakmem.ir.builder import GraphBuilder
    from peakmem.ir.dims import Symbol

    def network(*shape):
        b = GraphBuilder("free")
        return b.finish(b.conv(b.input("x", shape), 4, kernel=3))

    assert peakmem.file_size(network(Symbol("n"), 3, 8, 8), "safetensors").tensor_bytes == 4 * 108
    with pytest.raises(UsageError, match="no value for dimension"):
        peakmem.file_size(network(Symbol("n"), 3, Symbol("h"), 8), "ncnn")


def test_a_scheme_is_for_the_formats_that_have_it():
    report = file_sizes("squeezenet1_1", ["tflite", "ncnn", "onnx"], ["fp32", "int8"], scheme="dynamic")
    assert [(one.format, one.dtype) for one in report.sizes] == [
        ("tflite", "float32"), ("tflite", "int8"), ("ncnn", "float32"), ("ncnn", "int8"), ("onnx", "float32"),
    ]  # fmt: skip
    assert "no scheme 'dynamic'" in report.refused[0]


def test_what_a_file_says_of_itself_stays(tmp_path):
    """Metadata of the source are in the file at another dtype, too."""
    shape = [64, 8]
    header = {
        "__metadata__": {"format": "pt", "who": "x" * 300},
        **{
            f"layer.{i}.w": {"dtype": "F32", "shape": shape, "data_offsets": [2048 * i, 2048 * (i + 1)]}
            for i in range(4)
        },
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4 * 2048))
    same = peakmem.file_size(path, "safetensors")
    assert (same.kind, same.nbytes, same.writer) == ("exact", path.stat().st_size, "as in the source")
    half = peakmem.file_size(path, "safetensors", "fp16")
    assert half.tensor_bytes == 4 * 1024
    # the digits of the offsets aside
    assert abs(path.stat().st_size - half.nbytes - 4 * 1024) <= 16
    assert half.low_bytes <= half.nbytes <= half.high_bytes
