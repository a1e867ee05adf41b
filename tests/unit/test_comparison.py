"""Two readings side by side; what differs is what the tests made different."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

import peakmem
from peakmem.comparison import folded_count
from peakmem.dtypes import FLOAT16, FLOAT32
from peakmem.ir.builder import GraphBuilder
from peakmem.ir.graph import Graph, Tensor
from peakmem.report.codec import schema
from peakmem.study import Study


def network(*, norm=True, channels=8, extra=False, channels_last=False):
    builder = GraphBuilder("net")
    x = builder.input("x", (1, 8, 8, 3) if channels_last else (1, 3, 8, 8))
    if channels_last:
        x = builder.transpose(x, (0, 3, 1, 2))
    x = builder.conv(x, channels, kernel=3, pad=1, bias=not norm)
    if norm:
        x = builder.batch_norm(x)
    x = builder.relu(x)
    if extra:
        x = builder.max_pool(x, kernel=2, stride=2)
    return builder.finish(x)


def test_a_network_is_like_itself():
    report = peakmem.compare(network(), network())
    assert report.same
    assert report.differences == ()
    assert {pair.verdict for pair in (*report.stored, *report.activations)} == {"same"}


def test_folded_norms_are_named_and_do_not_make_networks_differ():
    report = peakmem.compare(network(), network(norm=False))
    assert report.same
    parameters = next(one for one in report.quantities if one.name == "parameters")
    assert (parameters.a, parameters.b) == (3 * 9 * 8 + 16, 3 * 9 * 8 + 8)
    assert "B holds its norms folded" in parameters.why


def test_folded_count_by_hand():
    # kernel 3·3·3·8 and one bias per channel, with the norm there or folded
    assert folded_count(Study(network()), "fused") == 216 + 8
    assert folded_count(Study(network(norm=False)), "fused") == 216 + 8


def test_another_width_differs_everywhere():
    report = peakmem.compare(network(), network(channels=16))
    assert not report.same
    peak = next(one for one in report.quantities if one.name == "live peak")
    assert (peak.a, peak.b) == ((3 + 8) * 64 * 4, (3 + 16) * 64 * 4)
    assert "A peaks at conv" in peak.why
    assert [pair.verdict for pair in report.activations] == ["same", "only in A", "only in B"]


def test_an_operator_more_is_shown_as_such():
    report = peakmem.compare(network(), network(extra=True))
    assert [pair.verdict for pair in report.activations] == ["same", "same", "only in B"]
    assert any("activations, only in B: 1: maxpool" in line for line in report.differences)


def test_another_layout_is_the_same_tensor():
    report = peakmem.compare(network(), network(channels_last=True))
    assert [pair.verdict for pair in report.activations] == ["same", "only in B", "same"]


def test_another_dtype_is_named():
    graph = network()
    report = peakmem.compare(graph, network(), dtype="fp16")
    assert report.same
    other = replace(graph, tensors={**graph.tensors, "x": replace(graph.tensors["x"], dtype=FLOAT16)})
    report = peakmem.compare(graph, other)
    assert report.activations[0].verdict == "dtype differs"
    assert not report.same


@pytest.mark.parametrize("name", ["mobilenet_v1", "squeezenet1_1"])
def test_the_zoo_and_its_onnx_export(tmp_path, name):
    from peakmem.zoo import build
    from peakmem.zoo.export import export_onnx

    path = tmp_path / f"{name}.onnx"
    export_onnx(build(name), path)
    report = peakmem.compare(name, path)
    assert report.same
    assert report.differences == ()


def test_json_fits_its_schema():
    jsonschema = pytest.importorskip("jsonschema")
    report = peakmem.compare(network(), network(extra=True))
    jsonschema.validate(json.loads(report.to_json()), schema("comparison"))
    assert json.loads(report.to_json())["schema"] == "peakmem.comparison/1"


def weights_of(graph):
    """The same stored tensors without the operators, as a file of weights has them."""
    kept = {name: tensor for name, tensor in graph.tensors.items() if tensor.role == "constant"}
    return replace(graph, tensors=kept, operators=(), inputs=(), outputs=(), weights_only=True)


def test_weights_alone_are_held_against_the_stored_tensors():
    graph = network(norm=False)
    report = peakmem.compare(graph, weights_of(graph))
    assert report.same
    assert report.activations == ()
    assert report.differences[0] == "activations are not compared: B holds weights only"
    other = peakmem.compare(weights_of(graph), weights_of(network(norm=False, channels=16)))
    assert not other.same
    assert other.differences[0] == "activations are not compared: A and B hold weights only"


def test_weights_of_another_dtype_are_not_the_same():
    weights = weights_of(network(norm=False))
    halved = {name: replace(tensor, dtype=FLOAT16) for name, tensor in weights.tensors.items()}
    report = peakmem.compare(weights, replace(weights, tensors=halved))
    assert not report.same
    assert {pair.verdict for pair in report.stored} == {"dtype differs"}


def test_a_parameter_that_is_read_twice_is_named():
    builder = GraphBuilder("net")
    x = builder.input("x", (1, 8, 8, 8))
    x = builder.conv(x, 8, kernel=1, bias=True)
    x = builder.conv(x, 8, kernel=1, bias=True)
    graph = builder.finish(x)
    first, second = graph.operators
    tied = replace(second, inputs=(second.inputs[0], second.inputs[1], first.inputs[2]))
    kept = {name: tensor for name, tensor in graph.tensors.items() if name != second.inputs[2]}
    report = peakmem.compare(graph, replace(graph, operators=(first, tied), tensors=kept))
    folded = next(one for one in report.quantities if one.name.startswith("parameters, norms"))
    assert (folded.a - folded.b, folded.why) == (8, "B reads 1 stored parameters more than once (8 elements)")


def test_weights_in_another_order_and_dtype_find_their_like():
    builder = GraphBuilder("net")
    x = builder.input("x", (1, 3, 8, 8))
    for channels in (8, 16, 8):
        x = builder.conv(x, channels, kernel=3, pad=1)
    weights = weights_of(builder.finish(x))
    turned = {
        name: replace(tensor, dtype=FLOAT16) for name, tensor in sorted(weights.tensors.items(), reverse=True)
    }  # fmt: skip
    report = peakmem.compare(weights, replace(weights, tensors=turned))
    assert [pair.verdict for pair in report.stored] == ["dtype differs"] * 3


def test_thousands_of_tensors_are_compared_in_seconds():
    """Aligning two lists of 4,000 took 36 s."""

    def weights(dtype, order):
        names = [(f"layer.{at}.{leaf}.weight", (16, 16 + at % 7 * 8)) for at in range(2000) for leaf in "ab"]
        tensors = {name: Tensor(name, shape, dtype, "constant") for name, shape in names[::order]}
        return Graph("net", tensors, (), (), (), weights_only=True)

    start = time.process_time()
    assert peakmem.compare(weights(FLOAT32, 1), weights(FLOAT32, -1)).same
    report = peakmem.compare(weights(FLOAT32, 1), weights(FLOAT16, -1))
    assert {pair.verdict for pair in report.stored} == {"dtype differs"}
    assert len(report.stored) == 4000
    assert time.process_time() - start < 10
