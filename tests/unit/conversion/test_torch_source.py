"""Graphs as PyTorch source: the module computes what ONNX Runtime computes, with the graph's own weights."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peakmem.binding import bound
from peakmem.conversion.torch_source import Source, torch_source
from peakmem.conversion.torch_source.names import MODULE_ATTRIBUTES, Names, comment, literal
from peakmem.dtypes import FLOAT16, FLOAT32
from peakmem.errors import ConversionError, GraphError
from peakmem.ir.graph import Graph
from peakmem.parameters import parameters
from peakmem.pipeline import load
from peakmem.zoo import NETWORKS
from peakmem.zoo.export import export_onnx

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

RNG = np.random.default_rng(7)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    return (np.abs(RNG.standard_normal(shape)) + 0.5).astype(np.float32)


def longs(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def scalar(value: float, dtype: Any = np.float32) -> np.ndarray:
    return np.array(value, dtype)


X4 = (1, 4, 9, 11)


class Given:
    """An operator with its inputs; those at `live` come from the caller, the others are stored."""

    def __init__(self, op: str, *inputs: Any, live: Sequence[int] = (0,), outputs: int = 1, opset: int = 17,
                 domain: str = "", **attributes: Any) -> None:  # fmt: skip
        self.op, self.inputs, self.live, self.outputs = op, inputs, live, outputs
        self.opset, self.domain, self.attributes = opset, domain, attributes

    def __repr__(self) -> str:
        shown = ",".join(f"{key}={value}" for key, value in self.attributes.items())
        return f"{self.op}({shown})"


CASES = [
    # convolutions
    Given("Conv", floats(1, 4, 11), floats(6, 4, 3), floats(6), strides=[2], pads=[1, 1]),
    Given("Conv", floats(*X4), floats(6, 4, 3, 3), pads=[1, 1, 1, 1]),
    Given("Conv", floats(*X4), floats(6, 4, 3, 3), floats(6), pads=[0, 1, 2, 1], strides=[2, 1]),
    Given("Conv", floats(*X4), floats(8, 1, 3, 3), group=4, dilations=[2, 1], pads=[2, 1, 2, 1]),
    Given("Conv", floats(*X4), floats(6, 4, 3, 2), auto_pad="SAME_UPPER", strides=[2, 2]),
    Given("Conv", floats(*X4), floats(6, 4, 2, 4), auto_pad="SAME_LOWER", strides=[1, 2]),
    Given("Conv", floats(*X4), floats(6, 4, 3, 3), auto_pad="VALID"),
    Given("Conv", floats(1, 2, 5, 6, 7), floats(3, 2, 3, 3, 3), floats(3), pads=[1] * 6, strides=[1, 2, 1]),
    Given("Conv", floats(*X4), floats(6, 4, 3, 3), live=(0, 1)),
    Given("FusedConv", floats(*X4), floats(6, 4, 3, 3), floats(6), domain="com.microsoft", activation="Relu"),
    Given("ConvTranspose", floats(1, 4, 5, 6), floats(4, 3, 2, 2), floats(3), strides=[2, 2]),
    Given("ConvTranspose", floats(1, 4, 5, 6), floats(4, 3, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1],
          output_padding=[1, 1]),
    Given("ConvTranspose", floats(1, 4, 5, 6), floats(4, 2, 3, 3), floats(4), strides=[2, 3], group=2,
          pads=[0, 1, 1, 2]),
    Given("ConvTranspose", floats(1, 4, 5, 6), floats(4, 3, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
    Given("ConvTranspose", floats(1, 4, 5), floats(4, 3, 4), strides=[2], pads=[1, 1], dilations=[2]),
    # pools
    Given("MaxPool", floats(*X4), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    Given("MaxPool", floats(*X4), kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1),
    Given("MaxPool", floats(1, 2, 10, 10), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    Given("MaxPool", floats(*X4), kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    Given("MaxPool", floats(*X4), kernel_shape=[2, 2], dilations=[2, 3]),
    Given("MaxPool", floats(1, 2, 9), kernel_shape=[3], pads=[2, 0]),
    Given("MaxPool", floats(1, 2, 4, 5, 6), kernel_shape=[2, 2, 2]),
    Given("AveragePool", floats(*X4), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    Given("AveragePool", floats(*X4), kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    Given("AveragePool", floats(*X4), kernel_shape=[3, 3], pads=[0, 1, 1, 0]),
    Given("AveragePool", floats(*X4), kernel_shape=[3, 3], pads=[0, 1, 1, 0], count_include_pad=1),
    Given("AveragePool", floats(*X4), kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_LOWER"),
    Given("AveragePool", floats(1, 2, 10, 10), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, opset=19),
    Given("AveragePool", floats(1, 2, 10, 12), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1,
          pads=[1, 1, 1, 1], count_include_pad=1, opset=19),
    Given("GlobalAveragePool", floats(*X4)),
    Given("GlobalMaxPool", floats(*X4)),
    Given("LpPool", floats(*X4), kernel_shape=[2, 2], strides=[2, 2], p=2),
    Given("LRN", floats(1, 8, 4, 4), size=5, alpha=1e-3, beta=0.6, bias=2.0),
    # products and norms
    Given("Gemm", floats(3, 4), floats(5, 4), floats(5), transB=1),
    Given("Gemm", floats(3, 4), floats(4, 5)),
    Given("Gemm", floats(4, 3), floats(4, 5), floats(3, 5), transA=1, alpha=0.5, beta=2.0),
    Given("Gemm", floats(3, 4), floats(4, 5), floats(1, 5)),
    Given("MatMul", floats(2, 3, 4), floats(4, 5)),
    Given("MatMul", floats(2, 3, 4), floats(2, 4, 5), live=(0, 1)),
    Given("MatMul", floats(4), floats(2, 4, 5)),
    Given("Einsum", floats(2, 3, 4), floats(2, 5, 4), equation="b i k , b j k -> b i j", live=(0, 1)),
    Given("BatchNormalization", floats(*X4), floats(4), floats(4), floats(4), positive(4)),
    Given("BatchNormalization", floats(3, 4), floats(4), floats(4), floats(4), positive(4), epsilon=0.01),
    Given("LayerNormalization", floats(2, 3, 8), floats(8), floats(8)),
    Given("LayerNormalization", floats(2, 3, 8), floats(3, 8), axis=1),
    Given("InstanceNormalization", floats(*X4), floats(4), floats(4)),
    Given("GroupNormalization", floats(*X4), floats(4), floats(4), num_groups=2, opset=21),
    Given("RMSNormalization", floats(2, 3, 8), floats(8), opset=23),
    Given("LpNormalization", floats(2, 5), axis=1, p=2),
    Given("MeanVarianceNormalization", floats(*X4)),
    # element by element
    *(Given(op, floats(2, 7)) for op in (
        "Relu", "Sigmoid", "Tanh", "Erf", "HardSwish", "Softplus", "Softsign", "Abs", "Neg", "Exp", "Floor",
        "Ceil", "Round", "Sign", "Sin", "Cos", "Identity", "LeakyRelu", "Elu", "Celu", "Selu", "HardSigmoid",
        "ThresholdedRelu", "Softmax", "LogSoftmax", "Shrink")),
    *(Given(op, positive(2, 7)) for op in ("Log", "Sqrt", "Reciprocal")),
    Given("LeakyRelu", floats(2, 7), alpha=0.3), Given("HardSigmoid", floats(2, 7), alpha=0.25, beta=0.4),
    Given("Gelu", floats(2, 7), opset=20), Given("Gelu", floats(2, 7), approximate="tanh", opset=20),
    Given("Gelu", floats(2, 7), domain="com.microsoft"),
    Given("PRelu", floats(*X4), floats(4, 1, 1)), Given("PRelu", floats(2, 3), floats(3)),
    *(Given(op, floats(2, 1, 3), positive(4, 1), live=(0, 1)) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min")),
    Given("Add", floats(2, 3), scalar(0.5)), Given("Sub", scalar(1.0), floats(2, 3), live=(1,)),
    Given("Pow", positive(2, 3), scalar(3.0)), Given("Pow", positive(2, 3), longs(2)),
    Given("Div", longs(-7, 7, 5), longs(2, -2, 3), live=(0, 1)), Given("Mod", longs(-7, 7, 5), longs(2, -2, 3)),
    Given("Mod", floats(5), positive(5), fmod=1, live=(0, 1)),
    *(Given(op, floats(3, 3), floats(3, 3), live=(0, 1)) for op in ("Greater", "GreaterOrEqual", "Less", "Equal")),
    Given("And", floats(4) > 0, floats(4) > 0, live=(0, 1)), Given("Not", floats(4) > 0),
    Given("Where", floats(3, 3) > 0, floats(3, 3), scalar(-1.0), live=(0, 1)),
    Given("Clip", floats(2, 7), scalar(0.0), scalar(6.0)), Given("Clip", floats(2, 7), scalar(-0.5)),
    Given("Clip", floats(2, 7), None, scalar(0.5)), Given("Clip", floats(2, 7), min=-0.25, max=0.5, opset=6),
    Given("Sum", floats(2, 3), floats(3), floats(2, 1), live=(0, 1, 2)),
    Given("Mean", floats(2), floats(2), live=(0, 1)),
    Given("Cast", floats(2, 3) * 3, to=7), Given("Cast", floats(2, 3), to=9), Given("Cast", longs(0, 2), to=1),
    Given("Softmax", floats(2, 3, 4), axis=1), Given("Softmax", floats(2, 3, 4), axis=1, opset=11),
    Given("Dropout", floats(2, 3)),
    # reductions
    *(Given(op, floats(2, 3, 4), axes=[1], keepdims=0) for op in (
        "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp",
        "ReduceProd")),
    Given("ReduceMean", floats(2, 3, 4), axes=[-1, 1]), Given("ReduceMean", floats(2, 3, 4)),
    Given("ReduceSum", floats(2, 3, 4), longs(0, 2)), Given("ReduceMax", longs(3, 1, 2)),
    Given("ArgMax", floats(2, 3, 4), axis=1, keepdims=0), Given("ArgMin", floats(2, 3, 4), axis=-1),
    Given("TopK", floats(2, 9), longs(3), axis=1, outputs=2), Given("CumSum", floats(2, 5), longs(1)),
    # movement
    Given("Reshape", floats(2, 3, 4), longs(0, -1)), Given("Flatten", floats(2, 3, 4), axis=2),
    Given("Flatten", floats(2, 3, 4), axis=0), Given("Squeeze", floats(1, 3, 1), longs(0, -1)),
    Given("Squeeze", floats(1, 3, 1)), Given("Unsqueeze", floats(3, 4), longs(0, 3)),
    Given("Transpose", floats(2, 3, 4), perm=[2, 0, 1]), Given("Transpose", floats(2, 3)),
    Given("Concat", floats(2, 3), floats(2, 1), axis=-1, live=(0, 1)),
    Given("Split", floats(2, 7), longs(3, 4), axis=1, outputs=2), Given("Split", floats(6, 2), outputs=3),
    Given("Slice", floats(5, 6), longs(1, -4), longs(4, 100), longs(0, 1)),
    Given("Slice", floats(5, 6), longs(4, 5), longs(-100, 0), longs(0, 1), longs(-1, -2)),
    Given("Slice", floats(5, 6), longs(3), longs(1), longs(0)),
    Given("Pad", floats(2, 3), longs(0, 1, 2, 0), scalar(1.5)), Given("Pad", floats(2, 3), longs(0, -1, 1, 0)),
    Given("Pad", floats(*X4), longs(0, 0, 1, 2, 0, 0, 2, 1), mode="reflect"),
    Given("Pad", floats(*X4), longs(0, 0, 1, 2, 0, 0, 2, 1), mode="edge"),
    Given("Gather", floats(9, 4), longs(1, 8, 0)), Given("Gather", floats(3, 4), longs(3, -1), axis=1),
    Given("Gather", floats(9, 4), np.array([[1, 2], [3, 8]]), live=(1,)),
    Given("Gather", floats(3, 4), scalar(-1, np.int64)),
    Given("GatherElements", floats(3, 3), np.array([[0, 2, 1]]), axis=0, live=(0, 1)),
    Given("GatherND", floats(3, 4), np.array([[0, 1], [2, 3]]), live=(0, 1)),
    Given("ScatterElements", floats(3, 3), np.array([[0, 2, 1]]), floats(1, 3), axis=0, live=(0, 2)),
    Given("ScatterND", floats(4, 3), np.array([[1], [3]]), floats(2, 3), live=(0, 2)),
    Given("Expand", floats(3, 1), longs(2, 1, 4)), Given("Tile", floats(2, 3), longs(2, 2)),
    Given("Trilu", floats(4, 5), scalar(1, np.int64)),
    Given("OneHot", longs(0, 2), longs(4), np.array([0, 1], np.float32)),
    Given("Mish", floats(2, 7), opset=18),
    Given("DepthToSpace", floats(1, 8, 2, 3), blocksize=2),
    Given("DepthToSpace", floats(1, 8, 2, 3), blocksize=2, mode="CRD"),
    Given("SpaceToDepth", floats(1, 2, 4, 6), blocksize=2),
    Given("GridSample", floats(1, 2, 4, 4), floats(1, 3, 5, 2), live=(0, 1), opset=16),
    # resizing
    Given("Resize", floats(1, 2, 4, 5), None, np.array([1, 1, 2, 3], np.float32), mode="nearest",
          coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    Given("Resize", floats(1, 2, 4, 5), None, np.array([1, 1, 2, 2], np.float32)),
    Given("Resize", floats(1, 2, 4, 5), None, None, longs(1, 2, 7, 3)),
    Given("Resize", floats(1, 2, 4, 5), None, None, longs(1, 2, 7, 3), nearest_mode="ceil",
          coordinate_transformation_mode="align_corners"),
    Given("Resize", floats(1, 2, 4, 5), None, None, longs(1, 2, 8, 10), mode="linear"),
    Given("Resize", floats(1, 2, 4, 5), None, None, longs(1, 2, 7, 9), mode="linear",
          coordinate_transformation_mode="align_corners"),
    Given("Resize", floats(1, 2, 4, 5), None, np.array([1, 1, 1.6, 1.7], np.float32), mode="linear"),
    Given("Resize", floats(1, 2, 8, 8), None, None, longs(1, 2, 12, 12), mode="cubic"),
    # recurrent: time 5, batch 2, inputs 3, hidden 4
    Given("LSTM", floats(5, 2, 3), floats(1, 16, 3), floats(1, 16, 4), floats(1, 32), hidden_size=4, outputs=3),
    Given("LSTM", floats(5, 2, 3), floats(2, 16, 3), floats(2, 16, 4), floats(2, 32), hidden_size=4, outputs=3,
          direction="bidirectional"),
    Given("LSTM", floats(5, 2, 3), floats(1, 16, 3), floats(1, 16, 4), hidden_size=4, direction="reverse"),
    Given("LSTM", floats(5, 2, 3), floats(1, 16, 3), floats(1, 16, 4), floats(1, 32), None, floats(1, 2, 4),
          floats(1, 2, 4), hidden_size=4, live=(0, 5, 6), outputs=3),
    Given("GRU", floats(5, 2, 3), floats(2, 12, 3), floats(2, 12, 4), floats(2, 24), hidden_size=4, outputs=2,
          direction="bidirectional", linear_before_reset=1),
    Given("RNN", floats(5, 2, 3), floats(1, 4, 3), floats(1, 4, 4), floats(1, 8), hidden_size=4, outputs=2),
]  # fmt: skip


def written(path: Path) -> tuple[Source, Any]:
    """The source of an ONNX file, and a module made from it with the file's own weights."""
    source = torch_source(bound(load(path)))
    return source, filled(source, path)


def in_opset_17(graph: Any) -> bytes:
    """An ONNX file of a GraphProto."""
    opsets = [onnx.helper.make_opsetid("", 17)]
    return bytes(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def executed(text: str) -> dict[str, Any]:
    """What the file defines."""
    home: dict[str, Any] = {}
    exec(compile(text, "network.py", "exec"), home)
    return home


def filled(source: Source, path: Path) -> Any:
    module = executed(source.text)["factory"]()
    stored = {array.name: onnx.numpy_helper.to_array(array) for array in onnx.load(path).graph.initializer}
    source.fill(module, stored)
    return module


def compared(path: Path, feeds: Mapping[str, np.ndarray], tolerance: float = 1e-4) -> None:
    """The module's results are ONNX Runtime's."""
    source, module = written(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    wanted = session.run(None, dict(feeds))
    with torch.no_grad():
        made = module(*(torch.from_numpy(np.array(feeds[name])) for name, _, _ in source.inputs))
    made = made if isinstance(made, tuple) else (made,)
    assert len(made) == len(wanted)
    for ours, theirs in zip(made, wanted, strict=True):
        assert ours.numpy().shape == theirs.shape
        assert ours.numpy().dtype == theirs.dtype
        scale = max(1.0, float(np.abs(theirs).max())) if theirs.size else 1.0
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=tolerance, atol=tolerance * scale)


def saved(case: Given, path: Path) -> dict[str, np.ndarray]:
    """The case as a file; what the caller gives."""
    names, feeds, stored = [], {}, []
    for at, value in enumerate(case.inputs):
        names.append("" if value is None else f"in{at}")
        if value is not None and at in case.live:
            feeds[f"in{at}"] = np.asarray(value)
        elif value is not None:
            stored.append(onnx.numpy_helper.from_array(np.asarray(value), f"in{at}"))
    outputs = [f"out{at}" for at in range(case.outputs)]
    node = onnx.helper.make_node(case.op, names, outputs, name="the node", domain=case.domain, **case.attributes)
    graph = onnx.helper.make_graph(
        [node], "case",
        [onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
         for name, value in feeds.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs], stored,
    )  # fmt: skip
    opsets = [onnx.helper.make_opsetid("", case.opset)]
    opsets += [onnx.helper.make_opsetid(case.domain, 1)] if case.domain else []
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path.write_bytes(model.SerializeToString())
    return feeds


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_operator_against_onnx_runtime(case: Given, tmp_path: Path) -> None:
    path = tmp_path / "case.onnx"
    compared(path, saved(case, path))


OF_THE_ZOO = {
    "mobilenet_v3_small:width=0.5": 1e-3,
    "lstm_2layer": 1e-4,
}
# together they have the operators that differ most between the formats


@pytest.mark.parametrize("name", OF_THE_ZOO)
def test_network_against_onnx_runtime(name: str, tmp_path: Path) -> None:
    _network_against_onnx_runtime(name, tmp_path, OF_THE_ZOO[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*NETWORKS} - {*OF_THE_ZOO}))
def test_all_networks_against_onnx_runtime(name: str, tmp_path: Path) -> None:
    _network_against_onnx_runtime(name, tmp_path, 1e-3)


def _network_against_onnx_runtime(name: str, folder: Path, tolerance: float) -> None:
    graph = bound(load(name))
    path = export_onnx(graph, folder / "network.onnx")
    feeds = {
        name: floats(*_sizes(graph, name))
        if graph.tensors[name].dtype is FLOAT32
        else RNG.integers(0, 99, _sizes(graph, name))
        for name in graph.inputs
    }
    compared(path, feeds, tolerance)


def _sizes(graph: Graph, name: str) -> tuple[int, ...]:
    return tuple(int(dim) for dim in graph.tensors[name].shape or () if isinstance(dim, int))


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_network_keeps_its_parameters(name: str) -> None:
    # counts of torchvision and of papers: tests/unit/zoo holds the graph to them
    graph = bound(load(name))
    home = executed(torch_source(graph).text)
    with torch.device("meta"):
        module = home["Network"]()
    counted = parameters(graph)
    held = sum(value.numel() for key, value in module.state_dict().items() if not key.endswith("num_batches_tracked"))
    assert sum(value.numel() for value in module.parameters()) == counted.trainable
    assert held == counted.with_statistics
    assert {value.dtype for value in module.parameters()} == {torch.float32}


def test_a_file_in_half_precision_stays_so(tmp_path: Path) -> None:
    path = export_onnx(bound(load("squeezenet1_1")), tmp_path / "half.onnx", dtype=FLOAT16)
    source = torch_source(bound(load(path)))
    with torch.device("meta"):
        module = executed(source.text)["Network"]()
    assert {value.dtype for value in module.parameters()} == {torch.float16}
    assert source.inputs[0][1] == "float16"


@pytest.mark.parametrize("name", ["shufflenet_v2", "unet", "lstm_2layer", "gpt2_small"])
def test_every_local_is_deleted_once_or_returned(name: str) -> None:
    forward = next(
        node for node in ast.walk(ast.parse(torch_source(bound(load(name))).text))
        if isinstance(node, ast.FunctionDef) and node.name == "forward"
    )  # fmt: skip
    at = [(node.id, type(node.ctx)) for node in ast.walk(forward) if isinstance(node, ast.Name)]
    made = [name for name, context in at if context is ast.Store]
    gone = [name for name, context in at if context is ast.Del]
    last = forward.body[-1]
    assert isinstance(last, ast.Return)
    returned = [node.id for node in ast.walk(last) if isinstance(node, ast.Name)]
    assert len({*made}) == len(made)
    assert sorted(made) == sorted([*gone, *returned])


def test_names_of_a_file_never_become_code(tmp_path: Path) -> None:
    evil = [
        '__import__("os").abort()',
        "forward",
        "self",
        '"""\n)]}; raise SystemExit',
        "train",
        "class",
        "\u2028torch",
    ]
    nodes, tensors = [], ["x' or 1)]\n"]
    for at, name in enumerate(evil):
        nodes.append(onnx.helper.make_node("Conv", [tensors[-1], f"w{name}"], [name + "!"], name=name))
        tensors.append(name + "!")
        del at
    stored = [onnx.numpy_helper.from_array(floats(2, 2, 1), f"w{name}") for name in evil]
    graph = onnx.helper.make_graph(
        nodes, '"""; raise SystemExit #', [onnx.helper.make_tensor_value_info(tensors[0], 1, [1, 2, 3])],
        [onnx.ValueInfoProto(name=tensors[-1])], stored,
    )  # fmt: skip
    path = tmp_path / "evil.onnx"
    path.write_bytes(in_opset_17(graph))
    source, module = written(path)
    assert module.training is False
    assert source.inputs[0][0] == tensors[0]
    tree = ast.parse(source.text)
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    expected = {"Network", "nn.Conv1d", "nn.Parameter", "nn.init.kaiming_normal_", "isinstance", "network.eval",
                "network.modules", "super", "super().__init__", "torch.randn", "(torch.randn(shape) * 0.02).to",
    }  # fmt: skip
    assert {name for name in called if not name.startswith("self.")} == expected
    assert len({name for name in called if name.startswith("self.")}) == len(evil)


def test_layers_do_not_replace_what_a_module_has() -> None:
    public = {name for name in dir(torch.nn.Module()) if not name.startswith("_")}
    assert public <= MODULE_ATTRIBUTES


def test_identifiers() -> None:
    names = Names({"taken"})
    assert [names.make(text) for text in ("layer1/layer1.0/conv", "a b", "a_b", "1", "", "taken", "None", "é")] == [
        "layer1_0_conv", "a_b", "a_b_1", "n1", "value", "taken_1", "None_1", "value_1",
    ]  # fmt: skip
    assert all(name.isidentifier() for name in (names.make("x" * 500), names.make("match")))
    assert comment("a\n'b'\\") == "a_b_"


def test_literals() -> None:
    assert [literal(value) for value in (1, True, 0.1, float("-inf"), (1,), [])] == [
        "1", "True", "0.1", "-math.inf", "(1,)", "()",
    ]  # fmt: skip
    with pytest.raises(GraphError, match="type str"):
        literal("__import__")


def test_operators_without_a_rule_are_counted(tmp_path: Path) -> None:
    make = onnx.helper.make_node
    nodes = [
        make("Hardmax", ["x"], ["a"]), make("Hardmax", ["a"], ["b"]), make("Relu", ["b"], ["c"]),
        make("Bernoulli", ["c"], ["d"]), make("LRN", ["d"], ["e"], size=4),
    ]  # fmt: skip
    graph = onnx.helper.make_graph(
        nodes, "g", [onnx.helper.make_tensor_value_info("x", 1, [1, 4, 3, 3])], [onnx.ValueInfoProto(name="e")]
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(in_opset_17(graph))
    with pytest.raises(ConversionError, match=r"4 of 5 operators .* 2 × Hardmax, 1 × Bernoulli, 1 × LRN") as told:
        torch_source(bound(load(path)))
    assert told.value.operators == ("Bernoulli", "Hardmax", "LRN")


def test_a_tied_weight_is_one_parameter(tmp_path: Path) -> None:
    make = onnx.helper.make_node
    nodes = [make("Gather", ["table", "ids"], ["x"]), make("Transpose", ["table"], ["t"], perm=[1, 0]),
             make("MatMul", ["x", "t"], ["y"])]  # fmt: skip
    graph = onnx.helper.make_graph(
        nodes, "tied", [onnx.helper.make_tensor_value_info("ids", 7, [1, 3])], [onnx.ValueInfoProto(name="y")],
        [onnx.numpy_helper.from_array(floats(9, 4), "table")],
    )  # fmt: skip
    path = tmp_path / "tied.onnx"
    path.write_bytes(in_opset_17(graph))
    compared(path, {"ids": longs(1, 8, 3)[None]})
    assert sum(value.numel() for value in written(path)[1].parameters()) == 36
