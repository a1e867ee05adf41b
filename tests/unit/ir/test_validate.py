"""Every fault a graph can have, and that the first one is named."""

import time
from dataclasses import replace

import pytest

from peakmem.dtypes import FLOAT32
from peakmem.errors import GraphError
from peakmem.ir.builder import GraphBuilder
from peakmem.ir.graph import Graph, Operator, Tensor
from peakmem.ir.validate import count_by_type, schedule_order, validate


def tensor(name, role="activation", **more):
    return Tensor(name, (2,), FLOAT32, role, **more)


def graph(*operators, inputs=("x",), outputs=("a",), extra=()):
    tensors = {name: tensor(name, "input") for name in inputs}
    for op in operators:
        for name in op.outputs:
            if name:
                tensors[name] = tensor(name)
    tensors.update({item.name: item for item in extra})
    return Graph("t", tensors, operators, inputs, outputs)


def op(name, reads, makes, **more):
    return Operator(name, "Relu", tuple(reads), tuple(makes), **more)


def test_a_good_graph_passes():
    validate(graph(op("1", ["x"], ["a"])))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (graph(op("1", ["y"], ["a"])), "reads 'y', which nothing makes"),
        (graph(op("1", ["b"], ["a"]), op("2", ["x"], ["b"])), "reads 'b', before it is made"),
        (graph(op("1", ["x"], ["a"]), op("1", ["x"], ["b"])), "two operators are called '1'"),
        (graph(op("1", ["x"], ["a"]), op("2", ["x"], ["a"])), "'a' is made twice, again by '2'"),
        (graph(op("1", ["x"], ["w"]), outputs=(), extra=[tensor("w", "constant")]), "'w' is made twice"),
        (graph(op("1", ["x"], ["a"]), outputs=("z",)), "output 'z' is made by no operator"),
        (graph(op("1", ["x"], ["a"]), extra=[tensor("w", "constant", storage="gone")]), "storage of 'gone'"),
        (graph(op("1", ["x"], ["a"]), extra=[Tensor("w", (2, -1), FLOAT32, "constant")]), "negative dimension -1"),
        (graph(op("1", ["x"], ["a"], aliases=((0, 3),))), "aliases positions it does not have"),
        (graph(op("1", ["x"], ["a"]), extra=[tensor("x")]), "'x' is not an input tensor"),
    ],
)
def test_the_first_fault_is_named(bad, message):
    with pytest.raises(GraphError, match=message):
        validate(bad)


def test_a_tensor_filed_under_another_name():
    bad = graph(op("1", ["x"], ["a"]))
    with pytest.raises(GraphError, match="'b' is filed under 'q'"):
        validate(replace(bad, tensors={**bad.tensors, "q": tensor("b")}))


def test_an_operator_without_a_tensor_for_its_result():
    good = graph(op("1", ["x"], ["a"]))
    with pytest.raises(GraphError, match="makes 'a', which has no tensor"):
        validate(replace(good, tensors={"x": good.tensors["x"]}))


def test_a_body_may_read_what_encloses_it_and_nothing_else():
    inner = Graph("then_branch", {"i": tensor("i")}, (op("in", ["x"], ["i"]),), (), ("i",))
    validate(graph(op("if", ["x"], ["a"], subgraphs=(inner,))))
    lost = replace(inner, operators=(op("in", ["nowhere"], ["i"]),))
    with pytest.raises(GraphError, match="reads 'nowhere', which nothing makes"):
        validate(graph(op("if", ["x"], ["a"], subgraphs=(lost,))))


def test_an_order_that_runs_is_kept_and_another_is_mended():
    rows = [op("1", ["x"], ["a"]), op("2", ["a"], ["b"]), op("3", ["x"], ["c"])]
    assert [item.name for item in schedule_order(rows)] == ["1", "2", "3"]
    assert [item.name for item in schedule_order([rows[1], rows[2], rows[0]])] == ["3", "1", "2"]


def test_a_cycle_is_shown():
    rows = [op("ok", ["x"], ["o"]), op("one", ["c"], ["a"]), op("two", ["a"], ["b"]), op("three", ["b"], ["c"])]
    with pytest.raises(GraphError, match=r"cycle: one ← three ← two ← one"):
        schedule_order(rows)
    with pytest.raises(GraphError, match=r"cycle: self ← self"):
        schedule_order([op("self", ["a"], ["a"])])


def test_a_long_cycle_is_shortened():
    rows = [op(str(i), [f"t{(i + 1) % 50}"], [f"t{i}"]) for i in range(50)]
    with pytest.raises(GraphError, match="…") as caught:
        schedule_order(rows)
    assert len(str(caught.value)) < 200


def test_a_name_made_twice_is_found_while_ordering():
    with pytest.raises(GraphError, match="made twice"):
        schedule_order([op("1", ["x"], ["a"]), op("2", ["x"], ["a"])])


def test_types_are_counted():
    assert count_by_type([op("1", [], ["a"]), Operator("2", "Add", (), ("b",)), op("3", [], ["c"])]) == {
        "Relu": 2, "Add": 1,
    }  # fmt: skip


def test_the_builder_refuses_what_it_cannot_make():
    b = GraphBuilder("t")
    x = b.input("x", (1, 3, 8, 8))
    with pytest.raises(GraphError, match="two tensors are called 'x'"):
        b.input("x", (1,))
    with pytest.raises(GraphError, match="do not split into 2 groups"):
        b.conv(x, 4, kernel=3, group=2)
    with pytest.raises(GraphError, match="reads 'ghost', which nothing makes"):
        b.relu("ghost")
    with pytest.raises(GraphError, match="made by no operator"):
        b.finish("ghost")


def test_a_hundred_thousand_operators_build_and_validate_in_seconds():
    started = time.perf_counter()
    b = GraphBuilder("t")
    x = b.input("x", (1, 4, 8, 8))
    w = b.parameter("w", (4, 4, 1, 1))
    for _ in range(33_333):
        y = b.one("Conv", x, w, kernel_shape=(1, 1))
        x = b.add(b.relu(y), x)
    graph = b.finish(x)
    assert len(graph.operators) == 99_999
    # A bound against quadratic work, far above the measured time.
    assert time.perf_counter() - started < 60


def test_results_left_out_and_several_views_are_fine():
    validate(graph(op("1", ["x"], ["", "a"]), inputs=("x",)))
    validate(graph(op("1", ["x", "y"], ["a", "b"], aliases=((0, 0), (1, 1))), inputs=("x", "y")))


def test_an_operator_waits_for_all_it_reads():
    sum_, left, right = op("sum", ["l", "r"], ["a"]), op("left", ["x"], ["l"]), op("right", ["l"], ["r"])
    assert schedule_order([sum_, left, right]) == (left, right, sum_)
