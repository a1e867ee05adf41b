"""Networks that no exporter writes: a profile refuses them with a reason, or lists what it cannot know.

Found by damaging files of tests/fuzz and by ONNX's own node tests (onnx 1.22, backend/test/case/node).
"""

from __future__ import annotations

import pytest

from peakmem.binding import bound
from peakmem.dtypes import FLOAT32
from peakmem.engines.litert.accepted import check
from peakmem.engines.prediction import Processor
from peakmem.engines.pytorch.convolution import described
from peakmem.engines.pytorch.network import Call
from peakmem.engines.pytorch.network import Value as Stored
from peakmem.engines.registry import profile
from peakmem.errors import GraphError
from peakmem.ir.graph import Graph, Operator, Tensor
from peakmem.pipeline import load

AVX512 = Processor(features=frozenset({"avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vnni"}))


def graph(operators, tensors, outputs=("y",)):
    made = {name: Tensor(name, shape, FLOAT32, role) for name, (shape, role) in tensors.items()}
    inputs = tuple(name for name, tensor in made.items() if tensor.role == "input")
    return Graph("t", made, tuple(operators), inputs, outputs, opsets={"": 17})


def known(*shape, role="activation"):
    return shape, role


def predicted(engine, given, **settings):
    found = profile(engine).predict(given, settings, AVX512)
    assert all(one.peak_bytes >= one.live_bytes for one in found.moments)
    return found


REFUSED = {
    "a product of one": (
        [Operator("m", "MatMul", ("x",), ("y",))], {"x": known(4, 4, role="input"), "y": known(4, 4)},
        "MatMul with fewer than 2 operands",
    ),
    "a shape of nothing": (
        [Operator("s", "Shape", (), ("y",))], {"y": known(2)}, "Shape with fewer than 1 operands",
    ),
    "a recurrent layer on an image": (
        [Operator("l", "LSTM", ("x", "w", "r"), ("y",))],
        {"x": known(1, 2, 3, 4, role="input"), "w": known(1, 8, 4, role="constant"),
         "r": known(1, 8, 2, role="constant"), "y": known(1, 2, 3, 4)},
        "LSTM with 4 dimensions of 'x'",
    ),
    "a quantised convolution of three": (
        [Operator("q", "QLinearConv", ("x", "s", "z"), ("y",))],
        {"x": known(1, 3, 4, 4, role="input"), "s": known(role="constant"), "z": known(role="constant"),
         "y": known(1, 3, 4, 4)},
        "QLinearConv with fewer than 8 operands",
    ),
    "no result": (
        [Operator("r", "Relu", ("x",), ())], {"x": known(4, role="input")}, "Relu with fewer than 1 results",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_onnxruntime_refuses(name):
    operators, tensors, said = REFUSED[name]
    with pytest.raises(GraphError, match=said):
        predicted("onnxruntime", graph(operators, tensors, outputs=("y",) if "y" in tensors else ()))


@pytest.mark.parametrize("kind", ["Softmax", "Relu", "LogSoftmax", "Conv", "Where"])
def test_onnxruntime_lists_operators_on_sizes_that_nobody_knows(kind):
    names = {"Conv": ("n", "w"), "Where": ("n", "x", "x")}.get(kind, ("n",))
    given = graph(
        [Operator("z", "NonZero", ("x",), ("n",)), Operator("o", kind, names, ("y",))],
        {"x": known(4, 4, role="input"), "n": (None, "activation"), "w": known(4, 4, 1, 1, role="constant"),
         "y": known(4, 4)},
    )  # fmt: skip
    told = {one.what: one.reason for one in predicted("onnxruntime", given).unmodelled}
    assert "not known before it runs" in told["operator NonZero"]
    assert ("operator Softmax" in told) == (kind == "Softmax")


@pytest.mark.parametrize("arena", [True, False])
def test_onnxruntime_runs_a_network_that_asks_for_nothing(arena):
    given = graph([Operator("r", "Relu", ("x",), ("y",))], {"x": known(0, role="input"), "y": known(0)})
    found = predicted("onnxruntime", given, arena=arena)
    assert [moment.phase for moment in found.moments] == ["load", "run 1", "steady"]


def test_onnxruntime_bodies_that_need_no_room():
    body = Graph("b", {"t": Tensor("t", (), FLOAT32)}, (Operator("c", "Constant", (), ("t",)),), (), ("t",))
    given = graph(
        [Operator("i", "If", ("x",), ("y",), subgraphs=(body, body))], {"x": known(role="input"), "y": known()}
    )
    assert predicted("onnxruntime", given, mem_pattern=True, threads=1).moments


def test_openvino_says_that_a_size_depends_on_values():
    given = graph(
        [Operator("z", "NonZero", ("x",), ("y",))], {"x": known(4, 4, role="input"), "y": (None, "activation")}
    )
    with pytest.raises(GraphError, match="depends on values") as caught:
        profile("openvino").predict(given, {}, AVX512)
    assert "--shape" not in str(caught.value)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_operator_of_the_user_is_refused(engine):
    given = graph([Operator("f", "Foo", ("x",), ("y",), domain="my.ops")], {"x": known(4, role="input"), "y": known(4)})
    with pytest.raises(GraphError, match="knows no operator Foo of"):
        profile(engine).predict(given, {}, AVX512)


NCNN = {
    "two readers of one input": (
        "7767517\n3 3\nInput in0 0 1 a 0=12 1=10 2=4\nDequantize d0 1 1 a b 0=1 1=0\nDequantize d1 1 1 a c 0=1 1=0\n",
        "needs a Split where two layers read one input",
    ),
    "a layer of one result with two": (
        "7767517\n3 4\nInput in0 0 1 a 0=8 1=8 2=16\n"
        "Packing p 1 2 a b c -23330=8,3,8,8,16,3,8,8,16\nReLU r 1 1 b d\n", "makes 1 blobs, not 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NCNN)
def test_ncnn_refuses(tmp_path, name):
    text, said = NCNN[name]
    (tmp_path / "odd.param").write_text(text)
    given = bound(load(str(tmp_path / "odd.param")))
    with pytest.raises(GraphError, match=said):
        profile("ncnn").predict(given, {}, AVX512)


class Listed:
    def __init__(self, *shape):
        self.shape = shape


class One:
    def __init__(self, op_type, inputs, outputs):
        self.op_type, self.inputs, self.outputs = op_type, inputs, outputs


class Whole:
    def __init__(self, call, *shapes):
        self.calls, self.tensors = (call,), tuple(Listed(*shape) for shape in shapes)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (Whole(One("CONV_2D", (0,), (1,)), (1, 4, 4, 3), (1, 4, 4, 8)), "1 operands and 1 results"),
        (Whole(One("CONV_2D", (0, 1), ()), (1, 4, 4, 3), (8, 1, 1, 3)), "0 results"),
        (Whole(One("CONV_2D", (0, 1), (2,)), (4, 3), (8, 1, 1, 3), (1, 4, 4, 8)), "has not 4 dimensions"),
        (Whole(One("CONV_2D", (0, 1), (2,)), (1, 4, 4, 3), (8, 1, 1, 3), ()), "a result without dimensions"),
        (Whole(One("FULLY_CONNECTED", (0, -1), (1,)), (1, 4), (1, 8)), "operand 1"),
    ],
)
def test_litert_refuses(part, said):
    with pytest.raises(GraphError, match=said):
        check(part)


def test_litert_takes_what_is_right():
    check(Whole(One("CONV_2D", (0, 1, -1), (2,)), (1, 4, 4, 3), (8, 1, 1, 3), (1, 4, 4, 8)))
    check(Whole(One("ADD", (0,), ()), (1,)))


def test_pytorch_refuses_a_convolution_of_a_vector():
    sizes = {"x": (4,), "w": (8, 3, 3, 3), "y": (8,)}
    x, w, y = (Stored(name, shape, "float32", 4, name, False) for name, shape in sizes.items())
    with pytest.raises(GraphError, match="would not convolve 1 dimensions with weights of 4"):
        described(Call("c", "conv2d", (x, w), (y,), (True,)))
