"""Files that onnxruntime has optimised or quantised: every tensor in them against a real run."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from peakmem.ir.graph import Graph
from peakmem.ir.shapes import infer

from .onnx_graphs import graph_of_model

RANDOM = np.random.default_rng(7)


class Net:
    """A network written node by node, weights filled with noise."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        array = RANDOM.standard_normal(shape).astype(np.float32) / 8
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def constant(self, values: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], name=f"{op_type}_{name}", **attributes))
        return name

    def model(self, shape: list[Any], output: str) -> onnx.ModelProto:
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
        graph = helper.make_graph(self.nodes, "net", inputs, outputs, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def convolutional() -> onnx.ModelProto:
    net = Net()
    x = net.op("Relu", net.op("Conv", "x", net.weight(32, 3, 3, 3), net.weight(32), pads=[1, 1, 1, 1], strides=[2, 2]))
    skip = x
    x = net.op("Clip", net.op("Conv", x, net.weight(32, 1, 3, 3), group=32, pads=[1, 1, 1, 1]))
    x = net.op("Conv", x, net.weight(32, 32, 1, 1), net.weight(32))
    x = net.op("Relu", net.op("Add", x, skip))
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    x = net.op("Conv", x, net.weight(20, 32, 3, 3), auto_pad="SAME_UPPER")
    x = net.op("Sigmoid", x)
    x = net.op("Resize", x, "", net.constant(np.array([1, 1, 2, 2], np.float32)), mode="nearest",
               coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    x = net.op("Concat", x, net.op("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), axis=1)
    x = net.op("Flatten", net.op("GlobalAveragePool", x))
    return net.model([1, 3, 33, 30], net.op("Gemm", x, net.weight(10, 40), net.weight(10), transB=1))


def transformer() -> onnx.ModelProto:
    net = Net()
    hidden, heads = 16, 4
    x = net.op("Add", net.op("MatMul", "x", net.weight(8, hidden)), net.weight(hidden))

    def norm(x: str) -> str:
        return net.op("LayerNormalization", x, net.weight(hidden), net.weight(hidden), axis=-1)

    def split(x: str) -> str:
        x = net.op("Add", net.op("MatMul", x, net.weight(hidden, hidden)), net.weight(hidden))
        x = net.op("Reshape", x, net.constant(np.array([0, 0, heads, hidden // heads])))
        return net.op("Transpose", x, perm=[0, 2, 1, 3])

    y = norm(x)
    q, k, v = split(y), split(y), split(y)
    scores = net.op("MatMul", q, net.op("Transpose", k, perm=[0, 1, 3, 2]))
    scores = net.op("Softmax", net.op("Div", scores, net.constant(np.float32(2))), axis=-1)
    y = net.op("Transpose", net.op("MatMul", scores, v), perm=[0, 2, 1, 3])
    shape = net.op("Shape", x)
    batch = net.op("Gather", shape, net.constant(np.array([0])), axis=0)
    length = net.op("Gather", shape, net.constant(np.array([1])), axis=0)
    y = net.op("Reshape", y, net.op("Concat", batch, length, net.constant(np.array([hidden])), axis=0))
    x = net.op("Add", net.op("Add", net.op("MatMul", y, net.weight(hidden, hidden)), net.weight(hidden)), x)
    y = net.op("Add", net.op("MatMul", norm(x), net.weight(hidden, 64)), net.weight(64))
    erf = net.op("Erf", net.op("Div", y, net.constant(np.float32(1.4142135))))
    half = net.op("Mul", y, net.op("Add", erf, net.constant(np.float32(1))))
    y = net.op("Mul", half, net.constant(np.float32(0.5)))
    x = net.op("Add", net.op("Add", net.op("MatMul", y, net.weight(64, hidden)), net.weight(hidden)), x)
    return net.model(["batch", "length", 8], norm(x))


def wide() -> onnx.ModelProto:
    net = Net()
    x = net.op("Relu", net.op("Conv", net.op("Sigmoid", "x"), net.weight(16, 32, 1, 1)))
    return net.model([1, 32, 8, 8], net.op("Softmax", x, axis=1))


NETS = {
    "wide": (wide, (1, 32, 8, 8)),
    "convolutional": (convolutional, (1, 3, 33, 30)),
    "transformer": (transformer, (2, 5, 8)),
}


def session_of(model: bytes, level: str, optimised: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def every_tensor(model: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    """What each tensor of `model` holds when it runs as written."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    have = {item.name for item in model.graph.output}
    for node in model.graph.node:
        for name in node.output:
            if name and name not in have:
                model.graph.output.append(helper.make_empty_tensor_value_info(name))
    session = session_of(model.SerializeToString(), "ORT_DISABLE_ALL")
    names = [item.name for item in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": x}), strict=True))


def compare(model: onnx.ModelProto, x: np.ndarray) -> Graph:
    """Infer `model` on the shape of `x`; every shape and dtype must be that of a real run."""
    inferred = infer(graph_of_model(model, [x]), trust_declared=False)
    for name, array in every_tensor(model, x).items():
        tensor = inferred.tensors[name]
        assert tensor.shape == array.shape, name
        assert tensor.dtype is not None, name
        assert tensor.dtype.name == array.dtype.name, name
    assert not inferred.unknowns
    return inferred


def op_types(graph: Graph) -> set[str]:
    return {f"{operator.domain}:{operator.op_type}" for operator in graph.operators}


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
@pytest.mark.parametrize("name", NETS)
def test_optimised(name: str, level: str, tmp_path: Path) -> None:
    build, shape = NETS[name]
    path = tmp_path / "optimised.onnx"
    session_of(build().SerializeToString(), level, path)
    graph = compare(onnx.load(path), RANDOM.standard_normal(shape).astype(np.float32))
    if level == "ORT_ENABLE_EXTENDED":
        assert any(kind.startswith("com.microsoft:") for kind in op_types(graph))
    blocked = {kind for kind in op_types(graph) if kind.startswith("com.microsoft.nchwc:")}
    if blocked and name == "wide":
        assert blocked == {"com.microsoft.nchwc:" + kind for kind in ("ReorderInput", "Conv", "ReorderOutput")}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("form", ["QDQ", "QOperator", "dynamic"])
def test_quantised(name: str, form: str, tmp_path: Path) -> None:
    from onnxruntime import quantization

    build, shape = NETS[name]
    x = RANDOM.standard_normal(shape).astype(np.float32)
    source, target, optimised = tmp_path / "float.onnx", tmp_path / "quantised.onnx", tmp_path / "optimised.onnx"
    onnx.save(build(), source)

    class Once(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.rows = iter([{"x": x}])

        def get_next(self) -> Any:
            return next(self.rows, None)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if form == "dynamic":
            quantization.quantize_dynamic(source, target)
        else:
            quantization.quantize_static(source, target, Once(), quant_format=quantization.QuantFormat[form])
    compare(onnx.load(target), x)
    session_of(target.read_bytes(), "ORT_ENABLE_ALL", optimised)
    compare(onnx.load(optimised), x)
