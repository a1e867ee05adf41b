"""The profile of OpenVINO: networks of one to twenty layers, measured once, and hand arithmetic.

The figures in MEASURED are the counter's, above the mark "import": live after load, and the peak until then. OpenVINO
2026.4.1, one thread, AMD EPYC with avx512_bf16, one process each; they repeat within 200 bytes. The networks
are those of `chain` below with random weights, measured by
`run_process(order_for(engine("openvino"), path, {"precision": …}, instrumented=True, runs=3))`.
"""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from peakmem.binding import bound
from peakmem.engines.openvino import PROFILE
from peakmem.engines.openvino.network import Weight, network
from peakmem.engines.openvino.profile import _string
from peakmem.engines.openvino.solver import Box, solve
from peakmem.engines.openvino.weights import repacked
from peakmem.engines.prediction import PHASES, Processor
from peakmem.errors import GraphError, UsageError
from peakmem.ir.graph import Graph
from peakmem.pipeline import load

HALF = Processor(features=frozenset({"avx2", "avx512f", "avx512_bf16"}), cores=2)
PLAIN = Processor(features=frozenset({"avx2", "avx512f"}), cores=2)
MEASURED = {
    ("same", "default"): (3651766, 8399834),
    ("same", "f32"): (3851407, 8400486),
    ("dist", "default"): (21705130, 23416529),
    ("dist", "f32"): (27059422, 27557284),
}
# live after load, and peak
BAND = 0.04
# by which a network of twenty layers may be off; the fit says 3 %


def chain(folder: Path, name: str, *, growing: bool, layers: int = 20) -> Path:
    """Convolutions of 3x3 with biases and Relus from 32 channels at 16x16; unlike ones grow by 8 channels each."""
    nodes, weights = [], []
    before, channels = "x", 32
    for at in range(layers):
        made = 32 + (8 * (at + 1) if growing else 0)
        for what, shape in (("w", (made, channels, 3, 3)), ("b", (made,))):
            weights.append(numpy_helper.from_array(numpy.zeros(shape, numpy.float32), f"{what}{at}"))
        window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        nodes.append(helper.make_node("Conv", [before, f"w{at}", f"b{at}"], [f"c{at}"], name=f"conv{at}", **window))
        nodes.append(helper.make_node("Relu", [f"c{at}"], [f"r{at}"], name=f"relu{at}"))
        before, channels = f"r{at}", made
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, name, [value("x", TensorProto.FLOAT, (1, 32, 16, 16))],
        [value(before, TensorProto.FLOAT, (1, channels, 16, 16))], weights,
    )  # fmt: skip
    path = folder / f"{name}.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def made(folder: Path, nodes: list[tuple[str, list[str], str, dict[str, object]]], shapes: dict[str, tuple[int, ...]],
         given: tuple[str, tuple[int, ...]], result: str) -> Graph:  # fmt: skip
    """A network of `nodes`: op type, inputs, output, attributes; `shapes` are those of its weights."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(kind, ins, [out], name=f"{kind}:{out}", **more) for kind, ins, out, more in nodes], "net",
        [value(given[0], TensorProto.FLOAT, given[1])], [value(result, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(numpy.ones(shape, numpy.float32), name) for name, shape in shapes.items()],
    )  # fmt: skip
    path = folder / "made.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return bound(load(path))


@pytest.mark.parametrize(("name", "precision"), MEASURED)
def test_twenty_layers_are_within_the_band(tmp_path, name, precision):
    graph = bound(load(chain(tmp_path, name, growing=name == "dist")))
    prediction = PROFILE.predict(graph, {"precision": precision}, HALF)
    live, peak = MEASURED[name, precision]
    assert prediction.moments[0].live_bytes == pytest.approx(live, rel=BAND)
    assert prediction.moments[0].peak_bytes == pytest.approx(peak, rel=BAND)
    assert tuple(moment.phase for moment in prediction.moments) == PHASES
    assert prediction.kind == "estimate"


def test_the_type_of_inference_follows_the_processor(tmp_path):
    graph = bound(load(chain(tmp_path, "same", growing=False)))

    def packed(chosen, processor):
        return PROFILE.predict(graph, chosen, processor).details["repacked weights"]

    weights = 20 * 32 * 32 * 9
    assert packed({"precision": "f32"}, HALF) == 4 * weights
    assert packed({}, PLAIN) == 4 * weights
    assert packed({"execution_mode": "accuracy"}, HALF) == 4 * weights
    assert packed({}, HALF) == 2 * (weights + 20 * 32)
    # biases are converted, too


def test_strings_of_the_parser_double():
    """protobuf: more than 50,000,000 bytes start with 50,000,001 and double; AlexNet's largest weight is 150994944."""
    assert _string(50_000_000) == 50_000_001
    assert _string(67_108_864) == 100_000_001
    assert _string(150_994_944) == 200_000_001
    assert _string(411_041_792) == 800_000_001


def test_repacked_weights():
    """Bytes that 2026.4.1 asks for: SqueezeNet's last convolution, ResNet18's product; a depthwise one by hand."""
    assert repacked(Weight("w", "conv", (1000, 512, 1, 1), 0), 4) == 2_064_384
    assert repacked(Weight("w", "conv", (1000, 512, 1, 1), 0), 2) == 1_032_192
    assert repacked(Weight("w", "product", (1000, 512), 0), 2) == 1_048_576
    assert repacked(Weight("w", "depthwise", (20, 1, 3, 3), 0, 20), 4) == 32 * 9 * 4
    assert repacked(Weight("b", "bias", (100,), 0), 4) == 0


def test_the_block_of_tensors():
    """Two that meet stand on each other, a third that meets neither lies below; sizes in units of 32 bytes."""
    assert solve([Box(100, 0, 1), Box(60, 1, 2), Box(90, 2, 3)]) == 128 + 64
    assert solve([]) == 0
    assert solve([Box(64, 0, 0), Box(64, 1, 1)]) == 64


CONV = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}


def test_what_follows_a_convolution_is_fused(tmp_path):
    """x * sigmoid(x), a normalisation, and a sum that is written over its other operand."""
    nodes = [
        ("Conv", ["x", "w"], "a", CONV), ("BatchNormalization", ["a", "s", "t", "m", "v"], "b", {}),
        ("Sigmoid", ["b"], "c", {}), ("Mul", ["b", "c"], "d", {}), ("Conv", ["d", "w2"], "e", CONV),
        ("Add", ["e", "d"], "f", {}), ("Relu", ["f"], "g", {}),
    ]  # fmt: skip
    vectors = dict.fromkeys("stmv", (8,))
    graph = made(tmp_path, nodes, {"w": (8, 3, 3, 3), "w2": (8, 8, 3, 3), **vectors}, ("x", (1, 3, 10, 10)), "g")
    found = network(graph)
    assert [(one.op_type, one.fused) for one in found.nodes] == [
        ("Reorder", []), ("Conv", ["BatchNormalization", "Mul"]), ("Conv", ["Add", "Relu"]), ("Reorder", []),
    ]  # fmt: skip
    inside = [one for one in found.buffers if not one.outside]
    assert sorted(one.count for one in inside) == [300, 800]
    assert [one.folded for one in found.weights if one.kind == "conv"] == [True, False]


def test_views_share_and_joins_do_not(tmp_path):
    nodes = [
        ("Conv", ["x", "w"], "a", CONV), ("Conv", ["a", "w2"], "b", CONV), ("Concat", ["a", "b"], "c", {"axis": 1}),
        ("Flatten", ["c"], "d", {}), ("Gemm", ["d", "m"], "e", {}),
    ]  # fmt: skip
    shapes = {"w": (8, 3, 3, 3), "w2": (8, 8, 3, 3), "m": (1600, 5)}
    found = network(made(tmp_path, nodes, shapes, ("x", (1, 3, 10, 10)), "e"))
    assert [one.op_type for one in found.nodes] == ["Reorder", "Conv", "Conv", "Concat", "Gemm"]
    assert sorted(one.count for one in found.buffers if not one.outside) == [300, 800, 800, 1600]
    assert [one.shape for one in found.weights if one.kind == "product"] == [(5, 1600)]


def test_streams_and_requests_hold_tensors_of_their_own(tmp_path):
    graph = bound(load(chain(tmp_path, "same", growing=False)))
    image, block = 32 * 16 * 16 * 4, 2 * 32 * 16 * 16 * 2

    def loaded(**chosen):
        return PROFILE.predict(graph, {"threads": 2, **chosen}, HALF).moments[0]

    def of(moment, category):
        return sum(one.nbytes for one in moment.live if one.category == category)

    one, two = loaded(), loaded(streams=2)
    assert (of(one, "activations"), of(two, "activations")) == (block, 2 * block)
    assert of(two, "inputs and outputs") - of(one, "inputs and outputs") == 2 * image
    assert of(loaded(requests=2), "inputs and outputs") - of(one, "inputs and outputs") == 2 * image


def test_operators_without_a_rule_are_named(tmp_path):
    nodes = [("Conv", ["x", "w"], "a", CONV), ("CumSum", ["a", "k"], "b", {})]
    graph = made(tmp_path, nodes, {"w": (8, 3, 3, 3), "k": ()}, ("x", (1, 3, 10, 10)), "b")
    prediction = PROFILE.predict(graph, {}, HALF)
    assert prediction.kind == "lower bound"
    assert [one.what for one in prediction.unmodelled] == ["operator CumSum"]
    assert prediction.unmodelled[0].nbytes == 8 * 10 * 10 * 4 + 4


def test_products_that_store_inputs_first_are_kept_once_more_at_half_precision(tmp_path):
    """The counter's live blocks after load: 524288 B twice with transB=1 and four times without; at f32 alike."""

    def packed(precision, **attributes):
        nodes = [("Gemm", ["x", "w"], "a", attributes), ("Gemm", ["a", "v"], "b", attributes)]
        graph = made(tmp_path, nodes, {"w": (512, 512), "v": (512, 512)}, ("x", (64, 512)), "b")
        return PROFILE.predict(graph, {"precision": precision}, HALF)

    assert packed("default", transB=1).details["repacked weights"] == 2 * 524_288
    assert packed("default").details["repacked weights"] == 4 * 524_288
    assert packed("f32").details["repacked weights"] == packed("f32", transB=1).details["repacked weights"]
    kernels = packed("default").unmodelled
    assert [(one.what, one.nbytes) for one in kernels] == [("kernels of Gemm", 620_000)]
    assert not packed("f32").unmodelled


@pytest.mark.parametrize(("last", "results"), [("Relu", 1), ("Softmax", 2)])
def test_a_result_of_softmax_is_held_twice(tmp_path, last, results):
    """Live after run 1, counted: 131072 B more with a Softmax of (64, 512) at the end than with a Gemm or Sigmoid."""
    graph = made(tmp_path, [("Add", ["x", "k"], "a", {}), (last, ["a"], "b", {})], {"k": (512,)}, ("x", (64, 512)), "b")
    held = next(one for one in PROFILE.predict(graph, {}, HALF).moments[1].live if one.category == "inputs and outputs")
    assert held.nbytes // 131_072 == 1 + results


@pytest.mark.parametrize(
    "chosen",
    [{"threads": 0}, {"precision": "f16"}, {"layers": True}, {"release_memory": True}, {"nothing": 1},
     {"keep_model": True, "compile": "file"}],
    ids=str,
)  # fmt: skip
def test_settings_that_are_not_modelled_are_refused(tmp_path, chosen):
    with pytest.raises(UsageError):
        PROFILE.predict(bound(load(chain(tmp_path, "one", growing=False, layers=1))), chosen, HALF)


def test_other_processors_and_formats(tmp_path):
    graph = bound(load(chain(tmp_path, "one", growing=False, layers=1)))
    prediction = PROFILE.predict(graph, {}, Processor(features=frozenset({"avx2"})))
    assert prediction.unmodelled[0].what == "processor without avx512f"
    table = tmp_path / "layers.csv"
    table.write_text("conv 3x3x3x32 s2 in 224x224x3\n", encoding="utf-8")
    with pytest.raises(GraphError, match="ONNX"):
        PROFILE.predict(bound(load(table)), {}, HALF)
