"""Keras configurations and files written by hand: what is in them follows from arithmetic, Keras is not needed."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

import peakmem
from peakmem.binding import bound
from peakmem.errors import FormatError, GraphError, PeakmemError, ShapeError, UnboundDimension
from peakmem.frontends.keras.reader import read_keras
from peakmem.ir import kinds
from peakmem.ir.graph import Graph
from peakmem.parameters import parameters
from tests.unit.frontends import keras_networks
from tests.unit.frontends.hdf5_files import hdf5
from tests.unit.frontends.keras_files import (
    RESIDUAL,
    TINY,
    TINY_WEIGHTS,
    call,
    entry,
    functional,
    keras_file,
    layer,
    legacy_file,
    ref,
    sequential,
)


@pytest.fixture
def write(tmp_path: Path):
    def make(content: Any, name: str = "model.json") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return make


def output(graph: Graph, **how: Any) -> tuple[Any, ...]:
    done = bound(graph, **how)
    shape = done.tensors[done.outputs[0]].shape
    assert shape is not None
    return shape


# -- files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps(TINY).encode()),
        ("a.keras", keras_file()),
        ("packed.keras", keras_file(method=zipfile.ZIP_DEFLATED)),
        ("a.h5", legacy_file()),
    ],
)
def test_the_same_model_in_every_file(write, name, content):
    """8x8x3 -> 3x3 conv -> 6x6x4 -> norm -> 144 -> 5, all float32."""
    report = peakmem.estimate(write(content, name))
    assert report.model.format == "keras"
    assert report.kind == "estimate"
    assert report.parameters.elements == {
        "weight": 3 * 3 * 3 * 4 + 144 * 5, "bias": 4 + 5, "norm": 8, "statistic": 8, "quantisation": 0, "other": 0,
    }  # fmt: skip
    assert report.parameters.total_bytes == 4 * 853
    # the image and the result of the convolution, with relu and norm fused into it
    assert report.peak_bytes == 4 * (8 * 8 * 3 + 144)
    # convolution, relu and norm each with a result of their own: two of 6x6x4 at a time, less than with the image
    assert report.peaks["eager"] == 4 * (8 * 8 * 3 + 144)


def test_operators_and_names(write):
    graph = read_keras(write(keras_file(), "a.keras"))
    assert [operator.op_type for operator in graph.operators] == [
        "Conv2D", "Relu", "BatchNormalization", "Flatten", "Dense", "Softmax",
    ]  # fmt: skip
    assert {operator.domain for operator in graph.operators} == {"keras"}
    assert [operator.scope for operator in graph.operators] == ["conv", "conv", "norm", "flat", "head", "head"]
    conv, _, norm, *_ = graph.operators
    assert conv.inputs == ("image", "conv/kernel", "conv/bias")
    assert kinds.key(conv) == "Conv"
    assert norm.inputs[1:] == ("norm/gamma", "norm/beta", "norm/moving_mean", "norm/moving_variance")
    assert graph.defaults == {"batch": 1}
    assert graph.details[0].text == "3.15.1"


def test_weights_alone(write):
    report = peakmem.estimate(write(hdf5(TINY_WEIGHTS), "a.weights.h5"))
    assert report.kind == "lower bound"
    assert report.weights_bytes == 4 * 853
    assert "no layers" in report.unknowns[0].reason


def test_the_file_decides_the_dtype(write):
    weights = json.loads(json.dumps(TINY_WEIGHTS))
    for group in weights["layers"].values():
        for name, value in group["vars"].items():
            if name != "@name":
                group["vars"][name] = (tuple(value[0]), "float16")
    graph = read_keras(write(keras_file(weights=weights), "a.keras"))
    assert sum(constant.nbytes for constant in parameters(bound(graph)).constants) == 2 * 853


def test_weights_of_another_model(write):
    weights = {"layers": {**TINY_WEIGHTS["layers"], "dense": {"vars": {"@name": "head", "0": ((99, 5), "float32")}}}}
    with pytest.raises(FormatError, match=r"layer 'head' do not fit.*99x5.*kernel 144x5"):
        read_keras(write(keras_file(weights=weights), "a.keras"))


def test_groups_without_names_are_counted_as_keras_counts_them(write):
    """Before Keras 3.? a group is told by its class and number alone."""
    config = sequential(
        [
            entry("x", None, 3, inbound=False),
            layer("Dense", "one", units=4, use_bias=False),
            layer("Dense", "two", units=5, use_bias=False),
        ]
    )
    groups = {"dense": {"vars": {"0": ((3, 4), "float16")}}, "dense_1": {"vars": {"0": ((4, 5), "float32")}}}
    graph = read_keras(write(keras_file(config, {"layers": groups}), "a.keras"))
    assert str(graph.tensors["one/kernel"].dtype) == "float16"
    assert str(graph.tensors["two/kernel"].dtype) == "float32"


def test_what_a_checkpoint_holds_besides(write):
    weights = {**TINY_WEIGHTS, "optimizer": {"vars": {"0": ((853,), "float32"), "1": ((853,), "float32")}}}
    graph = read_keras(write(keras_file(weights=weights), "a.keras"))
    assert {detail.name: detail.nbytes for detail in graph.details}["optimizer"] == 2 * 4 * 853


def test_a_file_without_model_or_weights(write):
    with pytest.raises(FormatError, match="neither a Keras model nor weights"):
        read_keras(write(hdf5({"a": {}}), "a.h5"))


# -- models ------------------------------------------------------------------------------


def test_batch_and_open_sizes(write):
    open_image = functional(
        [entry("image", None, None, None, 3),
         layer("Conv2D", "conv", [["image"]], filters=4, kernel_size=3, strides=2, padding="same"),
         layer("GlobalAveragePooling2D", "pool", [["conv"]])],
        ["image", 0, 0], ["pool", 0, 0],
    )  # fmt: skip
    graph = read_keras(write(open_image))
    with pytest.raises(UnboundDimension, match=r"image\.1"):
        bound(graph)
    done = bound(graph, batch=2, dims={"image.1": 9, "image.2": 10})
    assert done.tensors["conv:out"].shape == (2, 5, 5, 4)
    assert output(graph, shapes={"image": (3, 8, 8, 3)}) == (3, 4)


def test_a_residual_block(write):
    """Add reads the image and the convolution; the image lives until then."""
    report = peakmem.estimate(write(RESIDUAL))
    assert report.peaks["eager"] == 3 * 4 * 8 * 8 * 4
    assert report.parameters.trainable == 3 * 3 * 4 * 4 + 4 + 4 * 2 + 2


def test_shared_layers_store_their_weights_once(write):
    config = functional(
        [entry("x", None, 4), layer("Dense", "d", [["x"], ["d"], [ref("d", 1)]], units=4)],
        ["x", 0, 0], [["d", 2, 0], ["d", 0, 0]],
    )  # fmt: skip
    graph = read_keras(write(config))
    assert [operator.name for operator in graph.operators] == ["d", "d_1", "d_2"]
    assert peakmem.estimate(graph).parameters.trainable == 4 * 4 + 4


def test_models_in_models_are_written_out(write):
    inner = sequential([layer("Dense", "d", units=4), layer("ReLU", "r")], "block")
    inner.update(name="block", inbound_nodes=[call("x"), call(ref("block", 0))])
    config = functional([entry("x", None, 4), inner], ["x", 0, 0], ["block", 1, 0])
    graph = read_keras(write(config))
    assert [operator.scope for operator in graph.operators] == ["block/d", "block/r", "block/d", "block/r"]
    assert peakmem.estimate(graph).parameters.trainable == 20


def test_keras_2_wiring(write):
    """Lists instead of objects, batch_input_shape, and functions as TFOpLambda."""

    def old(class_name: str, name: str, nodes: Any, **config: Any) -> dict[str, Any]:
        return {"class_name": class_name, "name": name, "inbound_nodes": nodes,
                "config": {"name": name, "trainable": True, "dtype": "float32", **config}}  # fmt: skip

    config = {
        "class_name": "Functional", "keras_version": "2.10.0", "backend": "tensorflow",
        "config": {
            "name": "old",
            "layers": [
                old("InputLayer", "x", [], batch_input_shape=[None, 8, 8, 3]),
                old("Conv2D", "c", [[["x", 0, 0, {}]]], filters=3, kernel_size=[3, 3], padding="same"),
                old("TFOpLambda", "plus", [["c", 0, 0, {"y": 3.0, "name": None}]], function="__operators__.add"),
                old("Add", "sum", [[["plus", 0, 0, {}], ["x", 0, 0, {}]]]),
                old("LSTM", "l", [[["flat", 0, 0, {}]]], units=5),
                old("Reshape", "flat", [[["sum", 0, 0, {}]]], target_shape=[64, 3]),
            ],
            "input_layers": [["x", 0, 0]], "output_layers": [["l", 0, 0]],
        },
    }  # fmt: skip
    graph = read_keras(write(config))
    assert [operator.op_type for operator in graph.operators] == ["Conv2D", "Add", "Add", "Reshape", "LSTM"]
    assert output(graph, batch=2) == (2, 5)


def test_keras_2_counts_the_call_a_model_is_born_with(write):
    inner = {
        "class_name": "Sequential",
        "name": "block",
        "inbound_nodes": [[["x", 0, 0, {}]], [["block", 1, 0, {}]]],
        "config": {
            "name": "block",
            "layers": [
                {"class_name": "Dense", "config": {"name": "d", "trainable": True, "dtype": "float32", "units": 4}}
            ],
        },
    }
    first = {"class_name": "InputLayer", "name": "x", "inbound_nodes": [],
             "config": {"name": "x", "batch_input_shape": [None, 4], "dtype": "float32"}}  # fmt: skip
    config = {
        "class_name": "Model",
        "config": {
            "name": "old",
            "layers": [first, inner],
            "input_layers": [["x", 0, 0]],
            "output_layers": [["block", 2, 0]],
        },
    }
    graph = read_keras(write(config))
    assert [(operator.inputs[0], operator.outputs[0]) for operator in graph.operators] == [
        ("x", "block/d:out"), ("block/d:out", "block/d_1:out"),
    ]  # fmt: skip
    assert graph.outputs == ("block/d_1:out",)


def test_mixed_precision_stores_one_dtype_and_computes_in_another(write):
    config = sequential([entry("x", None, 8, inbound=False), layer("Dense", "d", units=4)])
    config["config"]["layers"][1]["config"]["dtype"] = {
        "module": "keras", "class_name": "DTypePolicy", "config": {"name": "mixed_float16"},
    }  # fmt: skip
    graph = bound(read_keras(write(config)))
    assert [operator.op_type for operator in graph.operators] == ["Cast", "Dense"]
    assert str(graph.tensors["d/kernel"].dtype) == "float32"
    assert str(graph.tensors[graph.outputs[0]].dtype) == "float16"


@pytest.mark.parametrize(
    ("policy", "nbytes", "side"),
    [
        # 8x6 int8 + 6 scales; int4 packed with a scale and an offset per column and one block number a row
        ({"mode": "int8", "source_name": "float32"}, 48, 6 * 4),
        ({"mode": "int4/128", "source_name": "float32"}, 24, 6 * 4 + 6 + 8 * 4),
    ],
)
def test_quantised_layers(write, policy, nbytes, side):
    config = sequential([entry("x", None, 8, inbound=False), layer("Dense", "d", units=6, use_bias=False)])
    config["config"]["layers"][1]["config"]["dtype"] = {"class_name": "QuantizedDTypePolicy", "config": policy}
    report = peakmem.estimate(write(config))
    assert report.parameters.nbytes["weight"] == nbytes
    assert report.parameters.nbytes["quantisation"] == side


def test_a_stateful_layer_keeps_its_states(write):
    config = sequential([entry("x", 3, 4, 6, inbound=False), layer("LSTM", "l", units=5, stateful=True)])
    graph = read_keras(write(config))
    states = [tensor for tensor in graph.tensors.values() if tensor.role == "state"]
    assert [tensor.shape for tensor in states] == [(3, 5), (3, 5)]
    assert peakmem.estimate(graph).peak.state_bytes == 2 * 4 * 3 * 5


def test_unknown_code_keeps_its_recorded_shape(write):
    config = functional(
        [entry("x", None, 4), layer("Mine>Thing", "own", [["x"]]),
         layer("Dense", "d", [[ref("own", shape=[None, 7])]], units=2)],
        ["x", 0, 0], ["d", 0, 0],
    )  # fmt: skip
    graph = read_keras(write(config))
    assert output(graph, batch=5) == (5, 2)
    assert graph.tensors["d/kernel"].shape == (7, 2)
    assert any("were not run" in note for note in graph.notes)


def test_unknown_code_without_a_shape_is_unknown(write):
    config = functional([entry("x", None, 4), layer("Lambda", "own", [["x"]])], ["x", 0, 0], ["own", 0, 0])
    report = peakmem.estimate(write(config))
    assert report.kind == "lower bound"
    assert report.unknowns[0].operator == "own"


def test_a_subclassed_model_says_what_to_give(write):
    config = {"module": "mine", "class_name": "Net", "config": {"units": 3}, "registered_name": "Net"}
    with pytest.raises(GraphError, match=r"Net is a subclassed model.*model\.export"):
        read_keras(write(config))


def test_a_model_that_was_not_built(write):
    with pytest.raises(GraphError, match=r"no input shape.*keras\.Input"):
        read_keras(write(sequential([layer("Dense", "d", units=3)])))


# -- the same networks as the zoo's ------------------------------------------------------


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "resnet50", "squeezenet1_1"])
def test_the_zoo_in_keras(write, name):
    """Equal parameters, and equal live peaks under every assumption.

    The zoo's mobilenet_v2 stores 70 bounds of relu6 besides, which Keras has in its code.
    """
    ours, theirs = peakmem.estimate(write(getattr(keras_networks, name)())), peakmem.estimate(name)
    assert ours.peaks == theirs.peaks
    assert {**ours.parameters.elements, "other": 0} == {**theirs.parameters.elements, "other": 0}


# -- hostile configurations --------------------------------------------------------------

X = entry("x", None, 4, inbound=False)


def nested_models(depth: int) -> dict[str, Any]:
    """Each model calls the one inside twice: 2^depth calls."""
    spec = functional([entry("x", None, 4)], ["x", 0, 0], ["x", 0, 0], "leaf")
    for level in range(depth):
        spec = {**spec, "name": f"m{level}", "inbound_nodes": [call("x"), call(ref(f"m{level}", 0))]}
        spec = functional([entry("x", None, 4), spec], ["x", 0, 0], [f"m{level}", 2, 0], f"o{level}")
    return spec


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (sequential([X, layer("Dense", "d", units=10**18)]), r"layer 'd': units is 1000000000000000000"),
        (sequential([X, layer("Dense", "d", units=-1)]), "units is -1"),
        (sequential([X, layer("Dense", "d", units="many")]), "units is 'many'"),
        (sequential([X, layer("Dense", "d", units=None)]), "units is None"),
        (sequential([X, layer("Dense", "d", units=True)]), "units is True"),
        (sequential([entry("x", None, 2**40, inbound=False), layer("Dense", "d", units=2**40)]), "address space"),
        (sequential([X, layer("Conv2D", "c", filters=3, kernel_size=3)]), "rank 2"),
        (sequential([X, layer("Reshape", "r", target_shape=[3])]), "4 elements do not fit"),
        (sequential([X, layer("EinsumDense", "e", equation="ab,bc->", output_shape=3, bias_axes="z")]), "equation"),
        (sequential([X, X]), "two layers are called"),
        (functional([entry("x", None, 4), layer("Add", "a", [["x", "b"]]), layer("ReLU", "b", [["a"]])],
                    ["x", 0, 0], ["b", 0, 0]), "cycle"),
        (functional([entry("x", None, 4), layer("Add", "a", [["x", "nope"]])], ["x", 0, 0], ["a", 0, 0]), "not there"),
        (functional([entry("x", None, 4)], ["x", 0, 0], []), "no output"),
        (functional([entry("x", None, 4)], ["x", 0, 0], ["x", 0, 10**9]), "no known way"),
        (nested_models(25), "called more than"),
        (nested_models(45), "nested deeper"),
        ({"class_name": "Sequential", "config": {"layers": [3]}}, "no class_name"),
        (sequential([X, *[layer("ReLU", f"r{index}") for index in range(10_001)]]), "at most 10,000"),
    ],
)  # fmt: skip
def test_hostile_configurations(write, config, what):
    with pytest.raises(PeakmemError, match=what):
        bound(read_keras(write(config)))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"[" * 100_000, "not JSON"), (b'{"a":' * 100_000, "not JSON"), (b"[]", "no JSON object"),
        (b"[" + b"[],[]," * 1_000_000 + b"1]", "more parts"), (b"\xff\xfe\x00", "not JSON"), (b"{}", "no class_name"),
        (b'{"class_name": "Sequential", "config": {"layers": [], "x": ' + b"9" * 9000 + b"}}", "not JSON"),
    ],
)  # fmt: skip
def test_hostile_texts(write, text, what):
    with pytest.raises(FormatError, match=what):
        read_keras(write(keras_file(text), "a.keras"))


def test_a_zip_bomb_is_not_unpacked(write):
    with pytest.raises(FormatError, match="at most 33,554,432"):
        read_keras(write(keras_file(b"[" * (40 << 20), method=zipfile.ZIP_DEFLATED), "a.keras"))


def test_no_weight_is_larger_than_its_room(write):
    weights = hdf5(TINY_WEIGHTS).replace((144).to_bytes(8, "little"), (2**50).to_bytes(8, "little"))
    with pytest.raises(FormatError, match="lies outside"):
        read_keras(write(keras_file(weights=weights), "a.keras"))


def test_shared_layers_of_other_sizes(write):
    config = functional(
        [entry("x", None, 4), entry("y", None, 5), layer("Dense", "d", [["x"], ["y"]], units=3)],
        [["x", 0, 0], ["y", 0, 0]], [["d", 0, 0], ["d", 1, 0]],
    )  # fmt: skip
    with pytest.raises(ShapeError, match="shared layer"):
        read_keras(write(config))


@pytest.mark.parametrize(
    ("text", "what"), [(b"", "the file is empty"), (b"\x00\x01 something else", "not a Keras model")]
)
def test_files_that_are_something_else(write, text, what):
    with pytest.raises(FormatError, match=rf"{what} \(expected a \.keras archive, an HDF5 file or the JSON"):
        read_keras(write(text, "a.keras"))


def test_roles_of_weights_that_have_numbers_for_names(write):
    report = peakmem.estimate(write(hdf5(TINY_WEIGHTS), "a.weights.h5"))
    model = peakmem.estimate(write(keras_file(TINY), "a.keras"))
    assert report.parameters.elements == model.parameters.elements
