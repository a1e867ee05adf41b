"""Two readings side by side; what differs is what the tests made different."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import peakmem
from peakmem.comparison import folded_count
from peakmem.dtypes import FLOAT16
from peakmem.ir.builder import GraphBuilder
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
