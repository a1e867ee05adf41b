"""The builder by hand: what it names, what it adds per layer, what it refuses."""

from __future__ import annotations

import pytest

from peakmem.errors import GraphError
from peakmem.ir.builder import GraphBuilder
from peakmem.ir.graph import Graph


def constants(graph: Graph) -> dict[str, tuple[object, ...]]:
    return {name: tensor.shape for name, tensor in graph.tensors.items() if tensor.role == "constant"}


def built(rank4: bool = True) -> tuple[GraphBuilder, str]:
    b = GraphBuilder("tiny")
    return b, b.input("image", (1, 4, 9, 9) if rank4 else (2, 5))


def test_the_shape_of_a_sequence_is_not_known() -> None:
    b, x = built()
    (many,) = b.op("SequenceConstruct", [x, x])
    with pytest.raises(GraphError, match="the shape of 'sequenceconstruct:out' is not known"):
        b.shape(many)


def test_an_input_left_out_is_an_empty_name() -> None:
    b, x = built()
    # Clip between nothing and 6: the lower bound is left out.
    y = b.one("Clip", x, "", b.literal([6.0], b.dtype, scalar=True))
    assert b.shape(y) == (1, 4, 9, 9)
    assert b.finish(y).operators[0].inputs == ("image", "", "literal")


@pytest.mark.parametrize(
    ("kernel", "pad", "size"),
    [
        # 9 + 2 * (3 // 2) - 3 + 1 = 9; without padding 9 - 3 + 1 = 7; 9 + 2 * (5 // 2) - 5 + 1 = 9
        (3, None, 9),
        (3, 0, 7),
        (5, None, 9),
    ],
)
def test_a_depthwise_convolution_keeps_the_size_unless_told_otherwise(kernel: int, pad: int | None, size: int) -> None:
    b, x = built()
    y = b.depthwise(x, kernel=kernel, pad=pad)
    graph = b.finish(y)
    assert b.shape(y) == (1, 4, size, size)
    # One kernel per channel: 4 kernels over 1 channel each, and no bias.
    assert constants(graph) == {"conv/weight": (4, 1, kernel, kernel)}
    assert graph.operators[0].attributes["group"] == 4


@pytest.mark.parametrize("bias", [True, False])
def test_a_transposed_convolution(bias: bool) -> None:
    b, x = built()
    y = b.conv_transpose(x, 6, kernel=2, stride=2, bias=bias)
    assert b.shape(y) == (1, 6, 18, 18)  # (9 - 1) * 2 + 2
    assert constants(b.finish(y)) == {"up/weight": (4, 6, 2, 2)} | ({"up/bias": (6,)} if bias else {})


@pytest.mark.parametrize("bias", [True, False])
def test_layers_with_and_without_bias(bias: bool) -> None:
    b, x = built(rank4=False)
    y = b.linear(x, 3, bias=bias)
    z = b.dense(y, 7, bias=bias)
    graph = b.finish(z)
    assert (b.shape(y), b.shape(z)) == ((2, 3), (2, 7))
    biases = {"fc/bias": (3,), "dense/bias": (7,)} if bias else {}
    # A Gemm stores features × inputs, a MatMul inputs × features.
    assert constants(graph) == {"fc/weight": (3, 5), "dense/weight": (3, 7)} | biases
    assert [operator.op_type for operator in graph.operators] == ["Gemm", "MatMul", *["Add"] * bias]


def test_names_in_scopes_are_counted() -> None:
    b, x = built()
    with b.scope("stem"):
        y = b.relu(b.relu(x))
    graph = b.finish(y)
    assert [operator.name for operator in graph.operators] == ["stem/relu", "stem/relu_1"]
    assert [operator.scope for operator in graph.operators] == ["stem", "stem"]
    assert graph.tensor("image").shape == (1, 4, 9, 9)


def test_faults_are_refused() -> None:
    b, x = built()
    with pytest.raises(GraphError, match="two tensors are called 'image'"):
        b.input("image", (1,))
    with pytest.raises(GraphError, match="operator 'relu' reads 'nothing', which nothing makes"):
        b.relu("nothing")
    with pytest.raises(GraphError, match="4 and 6 channels do not split into 4 groups"):
        b.conv(x, 6, kernel=1, group=4)
    with pytest.raises(GraphError, match="4 and 6 channels do not split into 3 groups"):
        b.conv(x, 6, kernel=1, group=3)
