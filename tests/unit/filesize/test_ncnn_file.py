"""ncnn files, against those that pnnx 20261020 wrote from this package's ONNX files: bytes of .bin and of .param."""

from pathlib import Path

import pytest

from peakmem.dtypes import INT8
from peakmem.filesize.formats import FORMATS
from peakmem.filesize.ncnn_network import number
from peakmem.filesize.predict import file_size, of_graph, prepared
from peakmem.ir.builder import GraphBuilder

WRITTEN = [
    ("squeezenet1_1", "float32", 4942088, 4496),
    ("mobilenet_v1:width=0.25,resolution=96", "float32", 1869456, 3418),
    ("mobilenet_v2", "float32", 13951476, 8226),
    ("mobilenet_v2", "float16", 7011956, 8226),
    ("mobilenet_v3_small", "float32", 10147416, 10493),
    ("shufflenet_v2", "float32", 9082284, 10377),
    ("resnet18", "float32", 46738932, 4145),
    ("alexnet", "float16", 122222400, 1250),
    ("alexnet_2012", "float32", 243860928, 1442),
    ("vgg16", "float16", 276741984, 2393),
    ("efficientnet_b0", "float32", 21070488, 15916),
    ("googlenet", "float32", 26470728, 9463),
    ("unet:resolution=188", "float32", 124122724, 4122),
    ("unet_256", "float32", 124127332, 3707),
    ("lstm_2layer", "float32", 3678232, 241),
    ("vit_s16", "float32", 88203048, 23186),
    ("densenet161", "float32", 115423524, 50834),
]


@pytest.mark.parametrize(("name", "dtype", "binary", "text"), WRITTEN)
def test_what_pnnx_wrote(name, dtype, binary, text):
    size = file_size(name, "ncnn", dtype)
    assert {part.name: part.nbytes for part in size.files} == {".ncnn.bin": binary, ".ncnn.param": text}
    assert sum(part.nbytes for part in size.parts) == size.nbytes == binary + text
    assert size.low_bytes <= size.nbytes <= size.high_bytes


def parameter(b, *shape):
    return b.parameter("p", shape)


IMAGE, ROWS = (1, 3, 16, 16), (1, 7, 12)
SMALL = [
    ("InstanceNormalization", IMAGE, 932, lambda b, x: b.one(
        "InstanceNormalization", b.conv(x, 8, kernel=3), parameter(b, 8), parameter(b, 8))),
    ("PRelu", IMAGE, 900, lambda b, x: b.one("PRelu", b.conv(x, 8, kernel=3), parameter(b, 8, 1, 1))),
    ("grouped ConvTranspose", IMAGE, 1160, lambda b, x: b.one(
        "ConvTranspose", b.conv(x, 8, kernel=1), parameter(b, 8, 2, 4, 4), parameter(b, 8), kernel_shape=(4, 4),
        strides=(2, 2), pads=(1, 1, 1, 1), group=4)),
    ("1-D Conv", (1, 12, 30), 1484, lambda b, x: b.relu(b.one(
        "Conv", x, parameter(b, 10, 12, 3), parameter(b, 10), kernel_shape=(3,), strides=(1,), pads=(1, 1),
        dilations=(1,)))),
    ("3-D Conv", (1, 2, 8, 8, 8), 1104, lambda b, x: b.one(
        "Conv", x, parameter(b, 5, 2, 3, 3, 3), parameter(b, 5), kernel_shape=(3, 3, 3))),
    ("MatMul", ROWS, 964, lambda b, x: b.relu(b.dense(x, 20, bias=False))),
    ("MatMul and Add", ROWS, 1476, lambda b, x: b.dense(b.relu(b.dense(x, 20)), 5)),
    ("constants of channels", IMAGE, 164, lambda b, x: b.mul(
        b.add(b.conv(x, 8, kernel=1), parameter(b, 8, 1, 1)), parameter(b, 8, 1, 1))),
    ("a norm behind Gemm", (1, 12), 316, lambda b, x: b.batch_norm(b.linear(b.flatten(x), 6))),
    ("uneven padding", IMAGE, 788, lambda b, x: b.sigmoid(
        b.batch_norm(b.conv(x, 7, kernel=3, stride=2, pad=(0, 0, 1, 1))))),
    ("LayerNormalization", ROWS, 1448, lambda b, x: b.layer_norm(b.dense(x, 24))),
    ("a mean of channels", IMAGE, 12, lambda b, x: b.one("Sub", x, parameter(b, 1, 3, 1, 1))),
]  # fmt: skip
# bytes of the .bin that pnnx wrote of it


@pytest.mark.parametrize(("shape", "binary", "make"), [row[1:] for row in SMALL], ids=[row[0] for row in SMALL])
def test_what_pnnx_wrote_of_small_networks(shape, binary, make):
    b = GraphBuilder("small")
    size = of_graph(b.finish(make(b, b.input("x", shape))), FORMATS["ncnn"], None)
    assert size.files[1].nbytes == binary
    assert not size.notes


def test_int8_by_hand():
    """As ncnn2int8 stores it: a tag of 4 bytes, weights up to a multiple of 4, biases, scales."""
    b = GraphBuilder("tiny")
    x = b.input("x", (1, 3, 8, 8))
    y = b.relu(b.conv(x, 5, kernel=3, bias=True))  # 135 weights, 5 biases, 5 + 1 scales and 1 for the next
    y = b.depthwise(y, kernel=3)  # 45 weights, 5 + 1 scales
    graph = b.finish(b.linear(b.flatten(b.global_average_pool(y)), 3))  # 15 weights, 3 biases, 3 + 1 scales
    size = of_graph(graph, FORMATS["ncnn"], INT8)
    binary = (4 + 136 + 20 + 28) + (4 + 48 + 24) + (4 + 16 + 12 + 16)
    assert size.files[1].nbytes == binary
    assert (size.part("weights"), size.part("biases"), size.part("quantisation")) == (195, 32, 68)
    assert (size.part("header"), size.part("padding")) == (12, 5)


def test_norms_that_are_not_folded_are_four_vectors():
    folded, plain = (file_size("resnet18", "ncnn", fold=fold) for fold in (True, False))
    channels = 4800  # of its 20 norms
    assert plain.tensor_bytes - folded.tensor_bytes == 4 * (4 * channels - channels)
    assert folded.part("norms") == folded.part("statistics") == 0


def test_what_has_no_rule_is_named():
    b = GraphBuilder("odd")
    graph = b.finish(b.one("DepthToSpace", b.input("x", (1, 4, 8, 8)), blocksize=2))
    size = of_graph(graph, FORMATS["ncnn"], None)
    assert size.kind == "estimate"
    assert any("1 × DepthToSpace" in note for note in size.notes)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-5, "1.000000e-5"), (1e-6, "1.000000e-6"), (0.0005, "0.0005"), (8.0, "8.0"), (0.0, "0.0"),
        (1 / 6, "0.166666672"), (2, "2.0"), (0.75, "0.75"),
    ],
)  # fmt: skip
def test_numbers_as_pnnx_spells_them(value, text):
    assert number(value) == text


@pytest.mark.conformance
@pytest.mark.parametrize("name", ["mobilenet", "mobilenet_int8", "squeezenet_int8", "vgg16", "resnet50", "blazeface"])
def test_files_of_others_by_what_their_layers_store(name):
    """The reader's list of arrays, from each layer's parameters, padded to four, with a tag before each kernel."""
    path = Path(__file__).parents[4] / "shared" / "models" / "ncnn" / f"{name}.param"
    if not path.exists():
        pytest.skip("the shared models are not here")
    graph = prepared(path)
    stored = [tensor for tensor in graph.tensors.values() if tensor.role == "constant"]
    tags = sum(tensor.name.endswith(".weight") for tensor in stored)
    binary = sum(-(-(tensor.nbytes or 0) // 4) * 4 for tensor in stored) + 4 * tags
    assert file_size(path, "ncnn").files[1].nbytes == binary
