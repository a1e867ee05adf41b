"""Folding batch norms, on graphs small enough to see."""

import pytest

from peakmem.filesize.folding import fold_batch_norms
from peakmem.ir.builder import GraphBuilder


def built(make):
    b = GraphBuilder("small")
    x = b.input("x", (1, 3, 8, 8))
    return b.finish(*make(b, x))


def test_the_shift_becomes_the_bias_and_four_vectors_go():
    graph = built(lambda b, x: [b.relu(b.batch_norm(b.conv(x, 4, kernel=3), name="bn"))])
    folded = fold_batch_norms(graph)
    assert (folded.folded, folded.left) == (1, 0)
    assert [operator.op_type for operator in folded.graph.operators] == ["Conv", "Relu"]
    assert folded.graph.operators[0].inputs == ("x", "conv/weight", "bn/bias")
    kept = [tensor.name for tensor in folded.graph.tensors.values() if tensor.role == "constant"]
    assert kept == ["conv/weight", "bn/bias"]
    # what the norm made is made by the convolution now
    assert folded.graph.operators[0].outputs == ("bn:out",)


def test_a_bias_that_is_there_stays():
    graph = built(lambda b, x: [b.batch_norm(b.conv(x, 4, kernel=3, bias=True))])
    folded = fold_batch_norms(graph).graph
    assert folded.operators[0].inputs == ("x", "conv/weight", "conv/bias")
    assert "bn/bias" not in folded.tensors


def test_a_transposed_convolution_takes_its_norm():
    graph = built(lambda b, x: [b.batch_norm(b.conv_transpose(x, 4, kernel=2, stride=2, bias=False))])
    assert fold_batch_norms(graph).folded == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda b, x: [b.conv(b.relu(b.batch_norm(x)), 4, kernel=1)],  # nothing in front
        lambda b, x: [b.batch_norm(b.relu(b.conv(x, 4, kernel=1)))],  # an activation between
        lambda b, x: (lambda y: [b.add(y, b.batch_norm(y))])(b.conv(x, 4, kernel=1)),  # read twice
        lambda b, x: (lambda y: [y, b.batch_norm(y)])(b.conv(x, 4, kernel=1)),  # comes out
    ],
    ids=["first", "after an activation", "read twice", "an output"],
)
def test_a_norm_that_cannot_go_stays(make):
    graph = built(make)
    folded = fold_batch_norms(graph)
    assert (folded.folded, folded.left) == (0, 1)
    assert folded.graph is graph


def test_a_norm_behind_a_product_only_where_products_take_it():
    def make(b, x):
        return [b.batch_norm(b.linear(b.flatten(x), 5))]

    assert fold_batch_norms(built(make)).folded == 0
    assert fold_batch_norms(built(make), products=True).folded == 1
