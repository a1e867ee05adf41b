"""Roles and bytes of stored constants, by hand arithmetic."""

import pytest

import peakmem
from peakmem.dtypes import BFLOAT16, BOOL, FLOAT16, FLOAT32, INT4, INT8, INT64, UINT8
from peakmem.ir.builder import GraphBuilder
from peakmem.ir.graph import Graph, Operator, Tensor
from peakmem.parameters import parameters


def small():
    b = GraphBuilder("t")
    x = b.input("x", (1, 3, 8, 8))
    y = b.relu(b.batch_norm(b.conv(x, 8, kernel=3, bias=True)))
    return b.finish(b.linear(b.flatten(b.global_average_pool(y)), 5))


def test_three_counts():
    stored = parameters(small())
    # conv 3*3*3*8 + bias 8; norm 2*8 affine and 2*8 statistics; linear 8*5 + 5
    assert stored.weights_only == 216 + 40
    assert stored.trainable == 216 + 40 + 8 + 5 + 16
    assert stored.with_statistics == stored.trainable + 16
    assert stored.nbytes() == 4 * stored.with_statistics


def test_sizes_per_dtype():
    stored = parameters(small())
    assert stored.size(FLOAT32) == (4 * 301, 0)
    assert stored.size(FLOAT16) == stored.size(BFLOAT16) == (2 * 301, 0)
    # int8: 256 weights, 13 biases as int32, 32 norm values in float32; a scale for each of 8 + 5 channels
    assert stored.size(INT8) == (256 + 13 * 4 + 32 * 4, 13 * 4)
    assert stored.size(INT4) == (108 + 20 + 13 * 4 + 32 * 4, 13 * 4)


def test_a_shared_parameter_counts_once():
    b = GraphBuilder("t")
    w = b.parameter("w", (4, 4))
    x = b.input("x", (1, 4))
    graph = b.finish(b.one("MatMul", b.one("MatMul", x, w), w))
    assert parameters(graph).trainable == 16


def test_tied_storage_counts_once():
    tensors = {
        "x": Tensor("x", (1, 4), FLOAT32, "input"), "a": Tensor("a", (4, 4), FLOAT32, "constant"),
        "b": Tensor("b", (4, 4), FLOAT32, "constant", storage="a"), "y": Tensor("y", (1, 4), FLOAT32),
        "z": Tensor("z", (1, 4), FLOAT32),
    }  # fmt: skip
    operators = (Operator("m1", "MatMul", ("x", "a"), ("y",)), Operator("m2", "MatMul", ("y", "b"), ("z",)))
    assert parameters(Graph("t", tensors, operators, ("x",), ("z",))).nbytes() == 64


def test_two_branches_may_use_one_name_for_two_constants():
    def branch(name: str) -> Graph:
        tensors = {"w": Tensor("w", (4, 4), FLOAT32, "constant"), name: Tensor(name, (1, 4), FLOAT32)}
        return Graph(name, tensors, (Operator(name, "MatMul", ("x", "w"), (name,)),), (), (name,))

    tensors = {
        "x": Tensor("x", (1, 4), FLOAT32, "input"), "c": Tensor("c", (), BOOL, "input"),
        "y": Tensor("y", (1, 4), FLOAT32),
    }  # fmt: skip
    operator = Operator("if", "If", ("c",), ("y",), subgraphs=(branch("then_branch"), branch("else_branch")))
    stored = parameters(Graph("t", tensors, (operator,), ("x", "c"), ("y",)))
    assert (stored.trainable, stored.nbytes()) == (32, 128)


def test_a_transposed_weight_is_still_the_weight():
    b = GraphBuilder("t")
    w = b.parameter("w", (8, 4))
    graph = b.finish(b.one("MatMul", b.input("x", (1, 4)), b.one("Transpose", w, perm=(1, 0))))
    assert (parameters(graph).weights_only, parameters(graph).nbytes()) == (32, 128)


def test_literals_and_unread_constants_are_no_parameters():
    b = GraphBuilder("t")
    x = b.input("x", (2, 6))
    b.parameter("unread", (100,), INT64)
    graph = b.finish(b.reshape(x, [3, 4]))
    stored = parameters(graph)
    assert stored.trainable == 0
    # 100 int64 of the unread one, two int64 of the target shape: stored all the same
    assert stored.nbytes("other") == stored.nbytes() == 800 + 16


def test_packed_four_bit_weights_count_their_elements():
    tensors = {
        "x": Tensor("x", (1, 64), FLOAT32, "input"), "w": Tensor("w", (16, 2, 16), UINT8, "constant"),
        "s": Tensor("s", (32,), FLOAT32, "constant"), "y": Tensor("y", (1, 16), FLOAT32),
    }  # fmt: skip
    operator = Operator(
        "m", "MatMulNBits", ("x", "w", "s"), ("y",), {"K": 64, "N": 16, "bits": 4, "block_size": 32}, "com.microsoft"
    )
    stored = parameters(Graph("t", tensors, (operator,), ("x",), ("y",)))
    assert stored.weights_only == 64 * 16
    assert stored.nbytes("weight") == 512
    assert stored.nbytes("quantisation") == 128


@pytest.mark.parametrize(
    ("build", "roles"),
    [
        # x·W + b written as MatMul and Add
        (lambda b, x: b.dense(x, 8), {"weight": 32, "bias": 8}),
        # a position table added over two axes
        (lambda b, x: b.add(x, b.parameter("table", (3, 4))), {"weight": 12}),
        # a norm written out: x·g + h
        (lambda b, x: b.add(b.mul(x, b.parameter("g", (4,))), b.parameter("h", (4,))), {"norm": 8}),
        (lambda b, x: b.layer_norm(x), {"norm": 8}),
        (lambda b, x: b.one("PRelu", x, b.parameter("slope", (4,))), {"weight": 4}),
    ],
)
def test_roles(build, roles):
    b = GraphBuilder("t")
    graph = b.finish(build(b, b.input("x", (1, 3, 4))))
    stored = parameters(graph)
    assert {role: stored.elements(role) for role in ("weight", "bias", "norm") if stored.elements(role)} == roles


def test_recurrent_layers():
    # One LSTM layer, input 128, hidden 256: W 4h·i, R 4h·h, B 8h
    stored = peakmem.estimate("lstm_2layer").parameters
    first, second = 4 * 256 * 128 + 4 * 256 * 256, 4 * 256 * 256 + 4 * 256 * 256
    assert stored.weights_only == first + second
    assert stored.trainable == first + second + 2 * 8 * 256
