"""MNN files: what is read, and what is said of damaged ones. Expected values are hand arithmetic."""

from __future__ import annotations

import random
import time

import pytest

import peakmem
from peakmem.binding import bound
from peakmem.errors import FormatError, GraphError, PeakmemError
from peakmem.frontends.mnn import schema
from peakmem.frontends.mnn.reader import read_mnn
from peakmem.ir.dims import Symbol
from peakmem.pipeline import load
from tests.unit.frontends import mnn_files as made
from tests.unit.frontends.tflite_files import Table, Vector


@pytest.fixture
def written(tmp_path):
    def write(data: bytes):
        path = tmp_path / "net.mnn"
        path.write_bytes(data)
        return path

    return write


def shapes(path):
    graph = bound(load(path))
    return {name: tensor.shape for name, tensor in graph.tensors.items() if tensor.role == "activation"}


def test_a_network_with_its_shapes(written):
    path = written(made.network())
    graph = read_mnn(path)
    assert graph.format == "mnn"
    assert graph.inputs == ("x",)
    assert graph.outputs == ("y",)
    assert [one.op_type for one in graph.operators] == [
        "ConvertTensor", "Convolution", "Convolution", "ConvolutionDepthwise", "BinaryOp", "Pooling", "Convolution",
        "ConvertTensor",
    ]  # fmt: skip
    first = graph.operators[1]
    assert first.domain == "mnn"
    assert first.attributes["kernel"] == (3, 3)
    assert [graph.tensors[name].shape for name in first.inputs[1:]] == [(16, 3, 3, 3), (16,)]
    assert graph.tensors[graph.operators[3].inputs[1]].shape == (24, 1, 3, 3)
    assert shapes(path) == {
        "x4": (1, 3, 32, 32), "a": (1, 16, 32, 32), "b": (1, 24, 16, 16), "c": (1, 24, 16, 16), "d": (1, 24, 16, 16),
        "e": (1, 24, 8, 8), "f": (1, 40, 8, 8), "y": (1, 40, 8, 8),
    }  # fmt: skip


def test_its_parameters_are_counted(written):
    report = peakmem.estimate(written(made.network()))
    weights = 16 * 3 * 9 + 16 + 24 * 16 * 9 + 24 + 24 * 9 + 24 + 40 * 24 + 40
    assert report.parameters.trainable == weights


def test_an_open_size_is_a_symbol(written):
    path = written(made.file([made.given("x", 0, (-1, 3, 8, 8)), made.add("sum", 0, 0, 1)], ["x", "y"], ["y"]))
    assert read_mnn(path).tensors["x"].shape == (Symbol("x.batch"), 3, 8, 8)
    assert bound(load(path), shapes={"x": (2, 3, 8, 8)}).tensors["y"].shape == (2, 3, 8, 8)


def test_a_shape_that_is_computed(written):
    """Shape → Concat with a constant → Reshape, as the converter writes for a product's result."""
    operators = [
        made.given("x", 0, (6, 4)),
        made.const("rest", 1, (1,), (2, )),
        made.const("left", 2, (2,), (3, 4)),
        made.op(made.CONCAT, "wanted", (2, 1), (3,), made.AXIS, Table({0: ("i", 0)})),
        made.op(made.RESHAPE, "reshaped", (0, 3), (4,), made.RESHAPE_KIND, Table({1: ("b", 0)})),
    ]  # fmt: skip
    path = written(made.file(operators, ["x", "r", "l", "w", "y"], ["y"]))
    assert shapes(path)["y"] == (3, 4, 2)


def test_channels_last_change_their_order(written):
    operators = [made.given("x", 0, (1, 8, 6, 3), made.NHWC), made.convert("c", 0, 1, made.NHWC, made.NC4HW4)]
    assert shapes(written(made.file(operators, ["x", "y"], ["y"])))["y"] == (1, 3, 8, 6)


def test_half_precision_weights(written):
    half = Table({0: Vector("b", [0] * (2 * 5 * 4)), 2: ("i", 3)})
    main = {1: Vector("f", []), 3: half}
    operators = [
        made.given("x", 0, (1, 4, 8, 8)), made.convert("c", 0, 1, 0, 2),
        made.convolution("p", 1, 2, 4, 5, 1, more=main),
    ]  # fmt: skip
    graph = read_mnn(written(made.file(operators, ["x", "x4", "y"], ["y"])))
    weight = graph.tensors[graph.operators[1].inputs[1]]
    assert (weight.shape, str(weight.dtype), weight.nbytes) == ((5, 4, 1, 1), "float16", 40)


def test_names_that_repeat_or_lack(written):
    operators = [made.given("x", 0, (1, 4)), made.op(made.RELU, "r", (0,), (1,)), made.op(made.RELU, "r", (1,), (2,))]
    graph = read_mnn(written(made.file(operators, ["x", "x", ""], [])))
    assert len({one.name for one in graph.operators}) == 2
    assert graph.outputs == ("tensor_2",)


@pytest.mark.parametrize(
    ("operators", "names", "error"),
    [
        ([made.given("x", 0, (1, 4)), made.op(made.RELU, "r", (9,), (1,))], ["x", "y"], FormatError),
        ([made.given("x", 0, (1, 4)), made.op(made.RELU, "r", (1,), (1,))], ["x", "y"], GraphError),
        ([made.given("x", 0, (1, 4)), made.op(made.RELU, "r", (0,), (0,))], ["x"], PeakmemError),
        ([], ["x"], FormatError),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(written, operators, names, error):
    with pytest.raises(error):
        read_mnn(written(made.file(operators, names, [names[-1]])))


def test_more_tensors_than_there_can_be(written):
    data = made.file([made.given("x", 0, (1, 4))], ["x"], ["x"])
    root = Table({3: [made.given("x", 0, (1, 4))], 8: ("i", 2**31 - 1)})
    writer = made._Writer()
    writer.data += bytes(4)
    writer.data[:4] = writer.table(root).to_bytes(4, "little")
    with pytest.raises(FormatError, match="tensors"):
        read_mnn(written(bytes(writer.data)))
    assert read_mnn(written(data)).inputs == ("x",)


def test_a_size_beyond_the_file(written):
    """A list that says it is longer than the file."""
    data = bytearray(made.network())
    at = data.find(b"first") - 4
    data[at : at + 4] = (2**31).to_bytes(4, "little")
    with pytest.raises(FormatError):
        read_mnn(written(bytes(data)))


def test_damage_is_one_error_and_soon(written):
    """Truncated anywhere, or with bytes changed: a graph, or an error of peakmem, within seconds in all."""
    whole = made.network()
    start = time.perf_counter()
    chance = random.Random(7)
    cases = [whole[: chance.randrange(len(whole))] for _ in range(60)]
    for _ in range(240):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 5)):
            # the tables stand at the file's ends and between the weights, which are zeros
            places = [at for at in (chance.randrange(len(data)) for _ in range(60)) if data[at]] or [4]
            data[places[0]] = chance.randrange(256)
        cases.append(bytes(data))
    outcomes = set()
    for data in cases:
        path = written(data)
        try:
            bound(load(path))
            outcomes.add("graph")
        except PeakmemError:
            outcomes.add("error")
    assert outcomes == {"graph", "error"}
    assert time.perf_counter() - start < 30


def test_the_numbers_of_the_schema():
    """A few of the enumerations' numbers, as MNN.fbs has them."""
    assert {number: schema.OPERATORS[number] for number in (0, 12, 34, 128, 156, 257, 299, 515, 517, 604)} == {
        0: "AbsVal", 12: "Convolution", 34: "Input", 128: "Raster", 156: "Stft", 257: "Select", 299: "Attention",
        515: "DepthwiseConvInt8", 517: "FloatToInt8", 604: "GridSample",
    }  # fmt: skip
    assert {number: schema.PARAMETERS[number] for number in (4, 9, 21, 66, 79, 86)} == {
        4: "Axis", 9: "Convolution2D", 21: "Input", 66: "TensorConvertInfo", 79: "Pool3D", 86: "IfParam",
    }  # fmt: skip
