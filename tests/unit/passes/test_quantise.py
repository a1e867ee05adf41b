"""QDQ graphs: which tensors exist when the pairs are merged, by hand."""

from peakmem.dtypes import FLOAT32, INT8, INT32
from peakmem.ir.builder import GraphBuilder
from peakmem.parameters import parameters
from peakmem.passes.quantise import merge_quantisation
from peakmem.study import Study


def quantise(b, x):
    scale, zero = b.parameter("scale", (), FLOAT32), b.parameter("zero", (), INT8)
    return b.one("QuantizeLinear", x, scale, zero), scale, zero


def dequantise(b, q, scale, zero):
    return b.one("DequantizeLinear", q, scale, zero)


def qdq(b, x):
    return dequantise(b, *quantise(b, x))


def weight(b, shape, dtype=INT8):
    scale = b.parameter("wscale", (shape[0],), FLOAT32)
    return b.one("DequantizeLinear", b.parameter("w", shape, dtype), scale, axis=0)


def model():
    b = GraphBuilder("q")
    x = qdq(b, b.input("x", (1, 4, 8, 8)))
    bias = b.one("DequantizeLinear", b.parameter("bias", (16,), INT32), b.parameter("bscale", (16,), FLOAT32), axis=0)
    y = b.one("Conv", x, weight(b, (16, 4, 3, 3)), bias, kernel_shape=(3, 3), pads=(1, 1, 1, 1))
    y = qdq(b, b.relu(y))
    z = qdq(b, b.max_pool(y, kernel=2, stride=2))
    return b.finish(z)


def test_activations_are_int8_between_the_pairs():
    graph = merge_quantisation(model())
    assert [op.op_type for op in graph.operators] == [
        "QuantizeLinear", "Conv", "Relu", "MaxPool", "DequantizeLinear",
    ]  # fmt: skip
    made = [graph.tensors[op.outputs[0]].dtype.name for op in graph.operators]
    assert made == ["int8", "int8", "int8", "int8", "float32"]


def test_after_fusion_no_float_tensor_is_left_inside():
    study = Study(model())
    graph = study.graph("fused")
    made = {op.op_type: graph.tensors[op.outputs[0]].dtype.name for op in graph.operators}
    assert [op.op_type for op in graph.operators] == ["QuantizeLinear", "Conv", "MaxPool", "DequantizeLinear"]
    assert made == {"QuantizeLinear": "int8", "Conv": "int8", "MaxPool": "int8", "DequantizeLinear": "float32"}
    # x float 1,024 B + its int8 form 256 B; 256 + 1,024; 1,024 + 256; 256 + 1,024
    assert study.timeline("fused").peak_bytes == 1280


def test_weights_are_sized_as_stored():
    stored = parameters(model())
    assert stored.elements("weight") == 16 * 4 * 9
    assert stored.nbytes("weight") == 16 * 4 * 9
    assert (stored.elements("bias"), stored.nbytes("bias")) == (16, 64)
    assert stored.nbytes("quantisation") == 3 * 5 + 16 * 4 + 16 * 4


def test_a_float_side_keeps_the_pair():
    b = GraphBuilder("q")
    a = qdq(b, b.input("a", (1, 8)))
    other = b.input("b", (1, 8))
    total = b.add(a, other)
    graph = merge_quantisation(b.finish(qdq(b, total)))
    kinds = [op.op_type for op in graph.operators]
    assert kinds == ["QuantizeLinear", "DequantizeLinear", "Add", "QuantizeLinear", "DequantizeLinear"]


def test_weight_only_quantisation_leaves_activations_in_float():
    b = GraphBuilder("q")
    w = b.one("DequantizeLinear", b.parameter("w", (8, 4), INT8), b.parameter("s", (), FLOAT32))
    graph = merge_quantisation(b.finish(b.one("MatMul", b.input("x", (1, 8)), w)))
    (operator,) = graph.operators
    assert graph.tensors[operator.inputs[1]].dtype is INT8
    assert graph.tensors[operator.outputs[0]].dtype is FLOAT32


def test_graphs_without_pairs_are_returned_as_they_are():
    b = GraphBuilder("f")
    graph = b.finish(b.relu(b.input("x", (1, 2))))
    assert merge_quantisation(graph) is graph
