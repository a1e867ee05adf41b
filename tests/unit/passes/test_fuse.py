from peakmem.ir.builder import GraphBuilder
from peakmem.passes.fuse import fuse_pointwise


def types(graph):
    return ["+".join((op.op_type, *op.fused)) for op in fuse_pointwise(graph).operators]


def start(channels=3):
    b = GraphBuilder("t")
    return b, b.input("x", (1, channels, 8, 8))


def test_conv_norm_activation_is_one_operator():
    b, x = start()
    graph = b.finish(b.relu6(b.batch_norm(b.conv(x, 4, kernel=3))))
    assert types(graph) == ["Conv+BatchNormalization+Clip"]
    (operator,) = fuse_pointwise(graph).operators
    assert operator.outputs == graph.outputs
    assert {name.rsplit("/", 1)[-1] for name in operator.absorbed} >= {"running_mean", "running_var"}


def test_silu_and_hard_swish_in_parts():
    b, x = start()
    y = b.silu(b.batch_norm(b.conv(x, 4, kernel=3)))
    z = b.conv(y, 4, kernel=1)
    graph = b.finish(b.mul(z, b.hard_sigmoid(z)))
    assert types(graph) == ["Conv+BatchNormalization+Sigmoid+Mul", "Conv+HardSigmoid+Mul"]


def test_gelu_by_erf():
    b = GraphBuilder("t")
    y = b.dense(b.input("x", (1, 4, 8)), 16)
    half, one, root = (b.literal([v], b.dtype, scalar=True) for v in (0.5, 1.0, 1.41))
    gate = b.one("Add", b.one("Erf", b.one("Div", y, root)), one)
    graph = b.finish(b.mul(b.mul(y, gate), half))
    assert types(graph) == ["MatMul+Add+Div+Erf+Add+Mul+Mul"]


def test_a_residual_sum_is_an_operator_of_its_own_and_takes_the_activation():
    b, x = start(4)
    y = b.batch_norm(b.conv(x, 4, kernel=3, pad=1))
    graph = b.finish(b.relu(b.add(y, x)))
    assert types(graph) == ["Conv+BatchNormalization", "Add+Relu"]


def test_two_readers_stop_the_fusion_where_they_read():
    b, x = start()
    y = b.batch_norm(b.conv(x, 4, kernel=3))
    graph = b.finish(b.relu(y), b.sigmoid(y))
    assert types(graph) == ["Conv+BatchNormalization", "Relu", "Sigmoid"]


def test_a_graph_output_in_the_middle_is_kept():
    b, x = start()
    y = b.conv(x, 4, kernel=3)
    graph = b.finish(y, b.relu(y))
    assert types(graph) == ["Conv", "Relu"]


def test_a_change_of_shape_ends_the_region():
    b, x = start()
    y = b.conv(x, 4, kernel=3)
    graph = b.finish(b.relu(b.max_pool(y, kernel=2, stride=2)))
    assert types(graph) == ["Conv", "MaxPool", "Relu"]


def test_a_long_tail_is_cut_and_nothing_is_lost():
    b, x = start()
    y = b.conv(x, 4, kernel=3)
    for _ in range(100):
        y = b.relu(y)
    fused = fuse_pointwise(b.finish(y))
    assert sum(1 + len(op.fused) for op in fused.operators) == 101
    assert fused.operators[-1].outputs == (y,)
