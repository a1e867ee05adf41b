"""Exported files: valid, runnable, of the shapes that were inferred, and never written over others."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from peakmem.dtypes import FLOAT16, INT8, INT64
from peakmem.errors import GraphError, MissingLibrary, UsageError
from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Symbol
from peakmem.ir.graph import Graph
from peakmem.ir.shapes import bind, infer
from peakmem.zoo import build
from peakmem.zoo.export import export_onnx

SMALL_GPT: dict[str, Any] = {"layers": 2, "hidden": 32, "heads": 4, "vocabulary": 99, "context": 24}
RUN: list[tuple[str, dict[str, Any]]] = [
    ("squeezenet1_1", {"classes": 10}),
    ("mobilenet_v2", {"width": 0.35, "resolution": 96}),
    ("mobilenet_v3_small", {"resolution": 96}),
    ("shufflenet_v2", {"width": 0.5, "resolution": 64}),
    ("googlenet", {"resolution": 97}),
    ("resnet18", {"resolution": 64}),
    ("lstm_2layer", {"sequence": 9}),
    ("gpt2_small", SMALL_GPT),
    ("vit_s16", {"resolution": 32}),
    ("unet", {"features": 4, "resolution": 188}),
    ("unet_256", {"features": 4, "resolution": 48}),
]


def shape_at(graph: Graph, batch: int) -> tuple[int, ...]:
    shape = graph.tensors[graph.inputs[0]].shape
    assert shape is not None
    return tuple(batch if isinstance(dim, Symbol) else dim for dim in shape)


def feed(graph: Graph, shape: tuple[int, ...], dtype: str = "float32") -> dict[str, Any]:
    import numpy as np

    rng = np.random.default_rng(7)
    (name,) = graph.inputs
    if graph.tensors[name].dtype == INT64:
        return {name: rng.integers(0, 99, shape)}
    return {name: rng.standard_normal(shape, dtype=np.float32).astype(dtype)}


def session(model: Any) -> Any:
    """A session that runs the operators as they are written."""
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(("name", "options"), RUN, ids=[name for name, _ in RUN])
def test_every_tensor_of_a_run_has_its_inferred_shape(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    onnx = pytest.importorskip("onnx")
    graph = build(name, batch=Symbol("batch"), **options)
    path = export_onnx(graph, tmp_path / "model.onnx")
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(str(path))
    made = [output for op in graph.operators for output in op.outputs]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=output) for output in made)
    run = session(model.SerializeToString())
    for batch in (1, 2):
        bound = infer(bind(graph, {}, {"batch": batch}))
        for output, value in zip(made, run.run(None, feed(graph, shape_at(graph, batch))), strict=True):
            assert (value.shape, str(value.dtype)) == (bound.tensors[output].shape, str(bound.tensors[output].dtype))
            assert np.isfinite(value).all()


def test_an_exported_decoder_looks_only_back(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    pytest.importorskip("onnx")
    graph = build("gpt2_small", **SMALL_GPT)
    run = session(str(export_onnx(graph, tmp_path / "model.onnx")))
    given = feed(graph, (1, 24))
    (before,) = run.run(None, given)
    given["input_ids"][0, 15] += 1
    (after,) = run.run(None, given)
    same = np.isclose(before, after, atol=1e-5).all(axis=2)[0]
    assert same[:15].all()
    assert not same[15:].any()


def test_half_precision_runs(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    pytest.importorskip("onnx")
    graph = build("mobilenet_v2", resolution=64)
    path = export_onnx(graph, tmp_path / "model.onnx", dtype=FLOAT16)
    assert 2 * 3_504_872 < path.stat().st_size < 2 * 3_504_872 + 400_000
    (value,) = session(str(path)).run(None, feed(graph, (1, 3, 64, 64), "float16"))
    assert value.dtype == np.float16
    assert np.isfinite(value).all()


def test_the_file_says_what_the_graph_says(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    graph = build("mobilenet_v2", batch=Symbol("batch"))
    model = onnx.load(str(export_onnx(graph, tmp_path / "model.onnx")))
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 17}
    nodes = [node for node in model.graph.node if node.op_type != "Constant"]
    assert [(node.name, node.op_type) for node in nodes] == [(op.name, op.op_type) for op in graph.operators]
    assert [node.name.rpartition("/")[0] for node in nodes] == [op.scope for op in graph.operators]
    stored = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    assert stored == {
        tensor.name: tensor.shape for tensor in graph.tensors.values() if tensor.role == "constant" and tensor.parameter
    }
    (given,) = model.graph.input
    assert [dim.dim_param or dim.dim_value for dim in given.type.tensor_type.shape.dim] == ["batch", 3, 224, 224]


def test_weights_are_scaled_by_their_fan_in_and_repeat_with_the_seed(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    graph = build("squeezenet1_1")
    first, second, other = (export_onnx(graph, tmp_path / f"{i}.onnx", seed=seed) for i, seed in enumerate((1, 1, 2)))
    assert first.read_bytes() == second.read_bytes() != other.read_bytes()
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(str(first)).graph.initializer}
    weight = weights["features.12/expand3x3/weight"]
    assert weight.std() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert abs(weight.mean()) < 0.001


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    graph = build("lstm_2layer", hidden=4)
    path = tmp_path / "model.onnx"
    path.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        export_onnx(graph, path)
    assert path.read_text() == "mine"
    assert export_onnx(graph, path, force=True) == path
    assert path.stat().st_size > 1000


def test_a_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    with pytest.raises(UsageError, match="cannot be written"):
        export_onnx(build("lstm_2layer", hidden=4), tmp_path / "no" / "model.onnx")


def test_half_a_file_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("peakmem.zoo.export._write_weights", full)
    with pytest.raises(UsageError, match="No space left"):
        export_onnx(build("lstm_2layer", hidden=4), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_what_the_format_cannot_hold_is_refused_before_writing(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    graph = build("gpt2_small", layers=48, hidden=1600, heads=25)
    with pytest.raises(UsageError, match="more than the format holds"):
        export_onnx(graph, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_other_dtypes_and_merged_operators_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    b = GraphBuilder("tiny")
    graph = b.finish(b.relu(b.input("x", (1, 2))))
    with pytest.raises(UsageError, match="cannot be written as int8"):
        export_onnx(graph, tmp_path / "model.onnx", dtype=INT8)
    from dataclasses import replace

    merged = replace(graph, operators=(replace(graph.operators[0], fused=("Clip",)),))
    with pytest.raises(GraphError, match="merged by a pass"):
        export_onnx(merged, tmp_path / "model.onnx")


def test_without_onnx_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingLibrary, match=r"pip install 'peakmem\[onnx\]'"):
        export_onnx(build("lstm_2layer", hidden=4), tmp_path / "model.onnx")
