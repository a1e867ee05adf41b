"""ONNX files: a message worked by hand, this package's export, and onnxruntime's quantiser."""

import pytest

from peakmem.dtypes import FLOAT16, FLOAT32, INT8, INT64
from peakmem.filesize import onnx
from peakmem.filesize.bits import block, number, padding, varint
from peakmem.filesize.folding import fold_batch_norms
from peakmem.filesize.formats import FORMATS
from peakmem.filesize.predict import file_size, of_graph, prepared
from peakmem.ir.builder import GraphBuilder
from peakmem.ir.graph import Operator

SOME = [
    "squeezenet1_1",
    "mobilenet_v2:width=0.35,resolution=96",
    "shufflenet_v2:width=0.5",
    "lstm_2layer:sequence=4,hidden=16",
    "gpt2_small:context=16,layers=1,hidden=48,heads=3,vocabulary=500",
    "unet:features=8,resolution=188",
]


def tiny():
    """A convolution with a norm, and a product: each kind of constant."""
    b = GraphBuilder("tiny")
    x = b.input("x", (1, 3, 16, 16))
    y = b.relu(b.batch_norm(b.conv(x, 8, kernel=3, stride=2, pad=1)))
    y = b.max_pool(b.relu6(b.conv(y, 16, kernel=1, bias=True, name="second")), kernel=2, stride=2)
    return b.finish(b.linear(b.flatten(b.global_average_pool(y)), 10))


def test_lengths_in_base_128():
    assert [varint(value) for value in (0, 127, 128, 16383, 16384, -1)] == [1, 1, 2, 2, 3, 10]
    assert number(20, 1) == 3  # a tag of two bytes and one for the number
    assert block(1, 200) == 1 + 2 + 200
    assert [padding(size, 8) for size in (0, 1, 8, 9)] == [0, 7, 0, 7]


def test_an_operator_by_hand():
    # tag 1, length; two inputs, an output, a name, a type, an empty domain; an attribute of 2 whole numbers
    inside = 3 + 3 + 3 + 4 + 6 + 2
    attribute = 2 + (2 + 4) + 2 * 2 + 3
    one = Operator("op", "Conv", ("x", "w"), ("y",), {"pads": (1, 1)})
    assert onnx.operator(one) == 2 + inside + attribute == 38


def test_a_literal_by_hand():
    # int64 [1, 300]: dims 2, type 2, packed numbers 2 + 1 + 2, an empty name 2
    tensor = 2 + 2 + 5 + 2
    attribute = 2 + (2 + 5) + (2 + tensor) + 3
    assert onnx.literal("c", (2,), INT64, (1, 300)) == 2 + 3 + 3 + 10 + attribute


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT16], ids=str)
@pytest.mark.parametrize("name", SOME)
def test_what_this_package_exports(name, dtype, tmp_path):
    pytest.importorskip("onnx")
    from peakmem.zoo.export import export_onnx

    graph = prepared(name)
    for fold in (False, True):
        kept = fold_batch_norms(graph).graph if fold else graph
        path = export_onnx(kept, tmp_path / "m.onnx", dtype=dtype, force=True)
        size = of_graph(graph, FORMATS["onnx"], dtype, fold)
        assert (size.kind, size.nbytes) == ("exact", path.stat().st_size)
        assert sum(part.nbytes for part in size.parts) == size.nbytes


def test_a_file_is_as_large_as_it_is_and_folding_takes_what_it_takes(tmp_path):
    helper = pytest.importorskip("onnx").helper
    import onnx as library

    from peakmem.zoo.export import export_onnx

    graph = tiny()
    path = export_onnx(graph, tmp_path / "m.onnx")
    model = library.load(path)
    # what other writers add: documentation, and shapes of what flows between operators
    model.graph.value_info.append(helper.make_tensor_value_info("relu:out", 1, (1, 8, 8, 8)))
    model.doc_string = "told" * 100
    library.save(model, path)
    same = file_size(path, "onnx")
    assert (same.kind, same.nbytes, same.writer) == ("exact", path.stat().st_size, "as in the source")
    half = file_size(path, "onnx", "fp16")
    parameters = 8 * 27 + 4 * 8 + 16 * 8 + 16 + 160 + 10
    assert path.stat().st_size - half.nbytes == pytest.approx(2 * parameters, abs=20)
    assert half.low_bytes < half.nbytes < half.high_bytes
    gone = file_size(path, "onnx", fold=True)
    assert gone.folded
    assert gone.part("norms") == gone.part("statistics") == 0
    assert gone.part("biases") == 4 * (8 + 16 + 10)


def test_weights_beside_the_file_count(tmp_path):
    library = pytest.importorskip("onnx")
    from peakmem.zoo.export import export_onnx

    path = export_onnx(tiny(), tmp_path / "m.onnx")
    library.save_model(library.load(path), path, save_as_external_data=True, location="m.data", size_threshold=500)
    whole = path.stat().st_size + (tmp_path / "m.data").stat().st_size
    assert file_size(path, "onnx").nbytes == whole
    assert file_size(path, "onnx").tensor_bytes == 4 * (8 * 27 + 4 * 8 + 16 * 8 + 16 + 160 + 10)


def test_quantised_by_onnxruntime(tmp_path):
    quantization = pytest.importorskip("onnxruntime.quantization")
    import numpy

    from peakmem.zoo.export import export_onnx

    graph = tiny()
    path = export_onnx(fold_batch_norms(graph).graph, tmp_path / "m.onnx")

    class Reader(quantization.CalibrationDataReader):
        feeds = iter([{"x": numpy.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype("f4")}])

        def get_next(self):
            return next(self.feeds, None)

    quantization.quantize_static(
        str(path), str(tmp_path / "q.onnx"), Reader(), per_channel=True,
        quant_format=quantization.QuantFormat.QDQ, weight_type=quantization.QuantType.QInt8,
        activation_type=quantization.QuantType.QInt8,
    )  # fmt: skip
    real = (tmp_path / "q.onnx").stat().st_size
    size = of_graph(graph, FORMATS["onnx"], INT8)
    assert size.low_bytes <= real <= size.high_bytes
    # a zero point is one byte or ten, and only data tell which
    assert abs(size.nbytes - real) <= 40
    assert size.part("weights") == 8 * 27 + 16 * 8 + 160
    assert size.part("biases") == 4 * (8 + 16 + 10)


def test_int8_of_weights_alone_leaves_the_rest():
    size = file_size("squeezenet1_1", "onnx", "int8", scheme="weights")
    static = file_size("squeezenet1_1", "onnx", "int8")
    assert size.part("weights") == static.part("weights") == 1231552
    assert size.part("graph") < static.part("graph")
