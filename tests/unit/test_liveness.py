"""Live ranges against hand values and against a brute-force executor that shares no code."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peakmem.dtypes import FLOAT32, INT64
from peakmem.ir.graph import Graph, Operator, Tensor
from peakmem.liveness import live_bytes, live_ranges
from peakmem.passes.alias import alias_in_place, alias_views
from peakmem.timeline import timeline


def test_a_residual_block_by_hand(chain):
    graph = chain(
        [("Conv", ["x"], "a", 4), ("Conv", ["a"], "b", 2), ("Add", ["b", "x"], "c", 3)],
        inputs={"x": 10}, outputs=["c"],
    )  # fmt: skip
    ranges = live_ranges(graph)
    assert [(b.name, b.nbytes, b.start, b.stop) for b in ranges.buffers] == [
        ("x", 40, 0, 3), ("a", 16, 0, 2), ("b", 8, 1, 3), ("c", 12, 2, 3),
    ]  # fmt: skip
    assert live_bytes(ranges) == [56, 64, 60]
    line = timeline(graph)
    assert (line.peak_bytes, line.peak_step) == (64, 1)
    assert [buffer.name for buffer in line.alive_at_peak] == ["x", "a", "b"]


def test_inputs_can_be_held(chain):
    graph = chain([("Conv", ["x"], "a", 1), ("Conv", ["a"], "b", 1)], inputs={"x": 5}, outputs=["b"])
    assert live_bytes(live_ranges(graph)) == [24, 8]
    assert live_bytes(live_ranges(graph, hold_inputs=True)) == [24, 28]


def test_outputs_live_to_the_end_and_unread_results_for_one_step(chain):
    graph = chain(
        [("Conv", ["x"], "out", 1), ("Conv", ["x"], "dead", 7), ("Conv", ["x"], "b", 2)],
        inputs={"x": 1}, outputs=["out", "b"],
    )  # fmt: skip
    assert live_bytes(live_ranges(graph)) == [8, 36, 16]


def test_a_graph_without_operators_holds_its_inputs(chain):
    graph = chain([], inputs={"x": 3}, outputs=["x"])
    assert timeline(graph).peak_bytes == 12


def test_unknown_sizes_count_as_zero_and_are_named(chain):
    graph = chain([("Conv", ["x"], "a", 4)], inputs={"x": 2}, outputs=["a"])
    graph.tensors["a"] = Tensor("a", None, FLOAT32)
    ranges = live_ranges(graph)
    assert ranges.unsized == ("a",)
    assert live_bytes(ranges) == [8]


def body(name: str, rows, inputs, outputs) -> Graph:
    tensors = {n: Tensor(n, s, FLOAT32, "input") for n, s in inputs.items()}
    operators = []
    for at, (reads, made, shape) in enumerate(rows):
        tensors[made] = Tensor(made, shape, FLOAT32)
        operators.append(Operator(f"{name}{at}", "Relu", tuple(reads), (made,)))
    return Graph(name, tensors, tuple(operators), tuple(inputs), tuple(outputs))


def test_a_branch_counts_what_it_holds_beyond_its_results():
    # then: t (100 floats) -> y (10 floats); else: y alone. Peak inside = 110 floats, 10 of which are the result.
    then = body("then_branch", [(["x"], "t", (100,)), (["t"], "y1", (10,))], {}, ["y1"])
    other = body("else_branch", [(["x"], "y2", (10,))], {}, ["y2"])
    tensors = {
        "c": Tensor("c", (), INT64, "input"), "x": Tensor("x", (5,), FLOAT32, "input"),
        "y": Tensor("y", (10,), FLOAT32), "z": Tensor("z", (1,), FLOAT32),
    }  # fmt: skip
    graph = Graph(
        "main", tensors,
        (Operator("if", "If", ("c",), ("y",), subgraphs=(then, other)), Operator("z", "Relu", ("y",), ("z",))),
        ("c", "x"), ("z",),
    )  # fmt: skip
    ranges = live_ranges(graph)
    assert ranges.inner_bytes == ((0, 400),)
    # step 0: c 8 + x 20 (captured) + y 40 + inner 400; step 1: y 40 + z 4
    assert live_bytes(ranges) == [468, 44]


def test_a_loop_counts_one_turn_of_its_body():
    inside = body("body", [(["s"], "t", (50,)), (["t"], "s2", (5,))], {"i": (), "k": (), "s": (5,)}, ["k", "s2"])
    tensors = {"m": Tensor("m", (), INT64, "input"), "s0": Tensor("s0", (5,), FLOAT32, "input"),
               "out": Tensor("out", (5,), FLOAT32)}  # fmt: skip
    graph = Graph(
        "main", tensors, (Operator("loop", "Loop", ("m", "", "s0"), ("out",), subgraphs=(inside,)),),
        ("m", "s0"), ("out",),
    )  # fmt: skip
    # Inside: i 4 + k 4 + s 20 + t 200 at the first step, t 200 + s2 20 + k 4 at the second; 20 are the result.
    ((step, nbytes),) = live_ranges(graph).inner_bytes
    assert (step, nbytes) == (0, 228 - 20)


@st.composite
def random_graphs(draw):
    count = draw(st.integers(1, 12))
    names, rows = ["x", "y"], []
    for at in range(count):
        reads = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3))
        kind = draw(st.sampled_from(["Conv", "Reshape", "Relu", "Add", "Sigmoid"]))
        # equal sizes now and then, so that in place becomes legal
        size = draw(st.sampled_from([4, 4, 4, draw(st.integers(1, 9))]))
        if kind == "Reshape":
            size = None
        rows.append((kind, reads, f"t{at}", size))
        names.append(f"t{at}")
    outputs = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    return rows, outputs


def build(chain, rows, outputs):
    sizes = {"x": 4, "y": 4}
    fixed = []
    for kind, reads, made, size in rows:
        sizes[made] = sizes[reads[0]] if size is None else size
        fixed.append((kind, reads, made, sizes[made]))
    return chain(fixed, inputs={"x": 4, "y": 4}, outputs=outputs)


def brute_force(graph: Graph) -> list[int]:
    """Bytes at each step, asking of every tensor whether anyone still needs it."""
    live = []
    for step in range(len(graph.operators)):
        total = 0
        for name, tensor in graph.tensors.items():
            made = next((s for s, op in enumerate(graph.operators) if name in op.outputs), 0)
            reads = [s for s, op in enumerate(graph.operators) if name in op.inputs]
            last = len(graph.operators) - 1 if name in graph.outputs else max(reads, default=made)
            if made <= step <= last:
                total += tensor.nbytes
        live.append(total)
    return live


@given(random_graphs())
@settings(max_examples=300, deadline=None)
def test_naive_live_bytes_equal_brute_force(recipe):
    from tests.conftest import chain as fixture

    graph = build(fixture.__wrapped__(), *recipe)
    assert live_bytes(live_ranges(graph)) == brute_force(graph)


def replay(graph: Graph) -> list[int]:
    """Run the graph on labelled buffers: every read must find the bytes it expects.

    A buffer holds the label of the value in it. A view leaves the label; any other aliased output
    writes a new one. Returns the bytes held at each step by buffers that somebody still needs.
    """
    label: dict[str, str] = {}
    where: dict[str, int] = {}
    content: list[str] = []
    size: list[int] = []
    for name in graph.inputs:
        where[name], label[name] = len(content), name
        content.append(name)
        size.append(graph.tensors[name].nbytes)
    held = []
    for step, operator in enumerate(graph.operators):
        for name in operator.inputs:
            assert content[where[name]] == label[name], f"{operator.name} reads {name}, which was written over"
        (made,) = operator.outputs
        if operator.aliases:
            source = operator.inputs[operator.aliases[0][1]]
            where[made] = where[source]
            if operator.op_type == "Reshape":
                label[made] = label[source]
            else:
                label[made] = made
                content[where[made]] = made
            assert size[where[made]] == graph.tensors[made].nbytes
        else:
            where[made], label[made] = len(content), made
            content.append(made)
            size.append(graph.tensors[made].nbytes)
        needed = {where[n] for op in graph.operators[step:] for n in op.inputs if n in where}
        needed |= {where[n] for n in graph.outputs if n in where} | {where[made]}
        if step == 0:
            needed |= {where[n] for n in graph.inputs}  # given by the caller, read or not
        held.append(sum(size[buffer] for buffer in needed))
    for name in graph.outputs:
        assert content[where[name]] == label[name], f"output {name} was written over"
    assert all(content[where[name]] == name for name in graph.inputs), "an input of the caller was written over"
    return held


@given(random_graphs())
@settings(max_examples=500, deadline=None)
def test_views_and_in_place_are_legal_and_counted(recipe):
    from tests.conftest import chain as fixture

    graph = build(fixture.__wrapped__(), *recipe)
    eager = alias_views(graph)
    assert live_bytes(live_ranges(eager)) == replay(eager)
    in_place = alias_in_place(eager)
    assert live_bytes(live_ranges(in_place)) == replay(in_place)
    assert max(live_bytes(live_ranges(in_place))) <= max(live_bytes(live_ranges(eager)))


@pytest.mark.parametrize(
    ("rows", "outputs", "aliased"),
    [
        # the caller's input is never written over
        ([("Relu", ["x"], "a", 4)], ["a"], []),
        # last reader: in place
        ([("Conv", ["x"], "a", 4), ("Relu", ["a"], "b", 4)], ["b"], ["op1"]),
        # still read later: not
        ([("Conv", ["x"], "a", 4), ("Relu", ["a"], "b", 4), ("Add", ["a", "b"], "c", 4)], ["c"], ["op2"]),
        # a graph output must survive
        ([("Conv", ["x"], "a", 4), ("Relu", ["a"], "b", 4)], ["a", "b"], []),
        # another size
        ([("Conv", ["x"], "a", 1), ("Add", ["a", "x"], "b", 4)], ["b"], []),
        # a view of something that is read later
        ([("Conv", ["x"], "a", 4), ("Reshape", ["a"], "v", 4), ("Relu", ["v"], "b", 4), ("Add", ["a", "b"], "c", 4)],
         ["c"], ["op1", "op3"]),
        # x + x of a dying tensor
        ([("Conv", ["x"], "a", 4), ("Add", ["a", "a"], "b", 4)], ["b"], ["op1"]),
    ],
)  # fmt: skip
def test_in_place_by_hand(chain, rows, outputs, aliased):
    graph = alias_in_place(alias_views(chain(rows, inputs={"x": 4}, outputs=outputs)))
    assert [op.name for op in graph.operators if op.aliases] == aliased


def test_a_view_of_a_constant_has_no_buffer(chain):
    graph = chain(
        [("Reshape", ["w"], "v", 4), ("Add", ["x", "v"], "a", 4)], inputs={"x": 4}, outputs=["a"], constants={"w": 4}
    )
    eager = alias_views(graph)
    assert [buffer.name for buffer in live_ranges(eager).buffers] == ["x", "a"]
    assert live_bytes(live_ranges(alias_in_place(eager))) == [16, 32]


def test_absent_outputs_and_constants_handed_out_have_no_buffer(chain):
    graph = chain([("Dropout", ["x"], "a", 4)], inputs={"x": 4}, outputs=["a"], constants={"w": 2})
    first = graph.operators[0]
    odd = Graph("t", graph.tensors, (Operator(first.name, "Dropout", ("x", ""), ("a", "")),), ("x",), ("a", "w"))
    assert [buffer.name for buffer in live_ranges(odd).buffers] == ["x", "a"]
    assert live_bytes(live_ranges(alias_in_place(alias_views(odd)))) == [16]


def test_a_view_of_what_an_enclosing_graph_lends_is_counted_there():
    """The lent tensor lives in the enclosing graph, which counts it while the operator with this body runs."""
    tensors = {"v": Tensor("v", (4,), FLOAT32)}
    inner = Graph("body", tensors, (Operator("v", "Reshape", ("lent",), ("v",), aliases=((0, 0),)),), (), ("v",))
    assert live_bytes(live_ranges(inner)) == [0]


def test_a_view_of_a_view_of_the_models_own_bytes_takes_none():
    tensors = {"w": Tensor("w", (4,), FLOAT32, "constant"), "v": Tensor("v", (4,), FLOAT32),
               "u": Tensor("u", (4,), FLOAT32), "y": Tensor("y", (4,), FLOAT32)}  # fmt: skip
    operators = (
        Operator("v", "Reshape", ("w",), ("v",), aliases=((0, 0),)),
        Operator("u", "Reshape", ("v",), ("u",), aliases=((0, 0),)),
        Operator("y", "Relu", ("u",), ("y",)),
    )
    assert live_bytes(live_ranges(Graph("t", tensors, operators, (), ("y",)))) == [0, 0, 16]


def test_unsized_tensors_inside_a_body_are_named():
    inner = body("then_branch", [(["x"], "t", (3,))], {}, ["t"])
    inner.tensors["t"] = Tensor("t", None, None)
    tensors = {"c": Tensor("c", (), INT64, "input"), "x": Tensor("x", (5,), FLOAT32, "input"),
               "y": Tensor("y", (10,), FLOAT32)}  # fmt: skip
    graph = Graph("main", tensors, (Operator("if", "If", ("c",), ("y",), subgraphs=(inner,)),), ("c", "x"), ("y",))
    assert live_ranges(graph).unsized == ("t",)
    assert live_ranges(graph).inner_bytes == ((0, 0),)


def test_a_scan_hands_out_its_states():
    inside = body("body", [(["s", "e"], "s2", (5,)), (["s2"], "row", (7,))], {"s": (5,), "e": (3,)}, ["s2", "row"])
    tensors = {"s0": Tensor("s0", (5,), FLOAT32, "input"), "es": Tensor("es", (4, 3), FLOAT32, "input"),
               "last": Tensor("last", (5,), FLOAT32), "": Tensor("", (4, 7), FLOAT32)}  # fmt: skip
    operator = Operator("scan", "Scan", ("s0", "es"), ("last", ""), {"num_scan_inputs": 1}, subgraphs=(inside,))
    graph = Graph("main", tensors, (operator,), ("s0", "es"), ("last",))
    # Inside: s 20 + e 12 + s2 20 at the first step, s2 20 + row 28 at the second; the state of 20 is handed out.
    assert live_ranges(graph).inner_bytes == ((0, 32),)


def test_outputs_left_out_are_not_handed_out():
    # The first result of both branches is not asked for, so that its 100 floats stay inside.
    then = body("then_branch", [(["x"], "t1", (100,)), (["x"], "y1", (10,))], {}, ["t1", "y1"])
    other = body("else_branch", [(["x"], "t2", (100,)), (["x"], "y2", (10,))], {}, ["t2", "y2"])
    tensors = {
        "c": Tensor("c", (), INT64, "input"), "x": Tensor("x", (5,), FLOAT32, "input"),
        "y": Tensor("y", (10,), FLOAT32),
    }  # fmt: skip
    choice = Operator("if", "If", ("c",), ("", "y"), subgraphs=(then, other))
    graph = Graph("main", tensors, (choice,), ("c", "x"), ("y",))
    # Inside 400 + 40 at the second step, of which 40 are the result.
    assert live_ranges(graph).inner_bytes == ((0, 400),)
    # c 8 + x 20 + y 40 + inner 400
    assert live_bytes(live_ranges(graph)) == [468]


def test_a_view_made_last_keeps_its_buffer_to_its_own_step(chain):
    graph = chain(
        [("Conv", ["x"], "a", 4), ("Reshape", ["a"], "v", 4), ("Conv", ["x"], "b", 1)],
        inputs={"x": 2}, outputs=["b"],
    )  # fmt: skip
    # x 8 throughout, a 16 until the unread view of it is made, b 4 at the end
    assert live_bytes(live_ranges(alias_views(graph))) == [24, 24, 12]


def test_a_view_of_a_constant_takes_nothing(chain):
    graph = chain(
        [("Reshape", ["w"], "v", 9), ("Add", ["x", "v"], "y", 1)],
        inputs={"x": 1}, outputs=["y"], constants={"w": 9},
    )  # fmt: skip
    ranges = live_ranges(alias_views(graph))
    assert [buffer.name for buffer in ranges.buffers] == ["x", "y"]
    assert live_bytes(ranges) == [4, 8]
