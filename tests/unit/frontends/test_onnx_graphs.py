"""Graphs of ONNX files: names, order, shapes, subgraphs, scopes, operator sets."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

import peakmem
from peakmem.errors import FormatError, GraphError, UnboundDimension
from peakmem.ir.dims import Symbol
from tests.unit.frontends.onnx_files import FLOAT, INT64, body, load, model, save, value, weight

BOOL = TensorProto.BOOL


def relu(source="x", target="y", **more):
    return helper.make_node("Relu", [source], [target], **more)


# -- inputs and shapes -------------------------------------------------------------------


def test_names_shapes_and_origin(tmp_path):
    path = save(tmp_path, model([relu(name="act")], inputs=[value("x", (2, 3))], outputs=[value("y", (2, 3))]))
    graph = peakmem.load(path)
    assert (graph.name, graph.source) == ("tested", str(path))
    assert (graph.inputs, graph.outputs) == (("x",), ("y",))
    assert graph.tensors["x"].shape == graph.tensors["y"].shape == (2, 3)
    assert [(operator.name, operator.op_type) for operator in graph.operators] == [("act", "Relu")]
    assert dict(graph.opsets) == {"": 18}


def test_a_graph_without_a_name_is_called_as_its_file(tmp_path):
    content = model([relu()])
    content.graph.name = ""
    assert load(tmp_path, content).name == "model"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ((1, 2), (1, 2)),
        ((), ()),
        (("batch", 3), (Symbol("batch"), 3)),
        ((None, 3), (Symbol("x.0"), 3)),
        ((-1, 3), (Symbol("x.0"), 3)),
        (("", 3), (Symbol("x.0"), 3)),
        ((0, 3), (0, 3)),
        (("H*2+1", "höhe"), (Symbol("H*2+1"), Symbol("höhe"))),
    ],
)
def test_dimensions(tmp_path, given, read):
    assert load(tmp_path, model([relu()], inputs=[value("x", given)])).tensors["x"].shape == read


def test_an_open_dimension_asks_for_the_flag_to_type(tmp_path):
    path = save(tmp_path, model([relu()], inputs=[value("x", (None, "rows", 3))]))
    with pytest.raises(UnboundDimension) as caught:
        peakmem.estimate(path)
    assert "--batch 1" in caught.value.hint
    assert "--dim rows=" in caught.value.hint
    assert peakmem.estimate(path, batch=2, dims={"rows": 5}).peak_bytes == 2 * (2 * 5 * 3 * 4)


def test_an_input_without_a_shape_asks_for_one(tmp_path):
    path = save(tmp_path, model([relu()], inputs=[value("x", None)]))
    with pytest.raises(UnboundDimension, match="--shape x="):
        peakmem.estimate(path)
    assert peakmem.estimate(path, shapes={"x": (4,)}).peak_bytes == 32


def test_an_input_without_an_element_type(tmp_path):
    graph = load(tmp_path, model([relu()], inputs=[value("x", (3,), 0)]))
    assert (graph.tensors["x"].shape, graph.tensors["x"].dtype) == ((3,), None)


@pytest.mark.parametrize("kind", ["sequence_type", "optional_type", "map_type", "sparse_tensor_type"])
def test_an_input_that_is_no_dense_tensor_is_an_unknown(tmp_path, kind):
    content = model([helper.make_node("SequenceAt", ["s", "i"], ["y"])], inputs=[value("x")], weights=[weight("i", ())])
    given = content.graph.input.add(name="s")
    if kind == "sparse_tensor_type":
        given.type.sparse_tensor_type.elem_type = FLOAT
    elif kind == "map_type":
        given.type.map_type.key_type = INT64
    else:
        getattr(given.type, kind).elem_type.tensor_type.elem_type = FLOAT
    report = peakmem.estimate(save(tmp_path, content))
    assert report.kind == "lower bound"
    assert "s" in {item.operator for item in report.unknowns}


@pytest.mark.parametrize("dims", [(-2,), (3, -(2**63))])
def test_negative_dimensions(tmp_path, dims):
    with pytest.raises(FormatError, match="tensor 'x' has a negative dimension"):
        load(tmp_path, model([relu()], inputs=[value("x", dims)]))


@pytest.mark.parametrize("dims", [(-1,), (2, -7)])
def test_negative_dimensions_of_constants(tmp_path, dims):
    tensor = TensorProto(name="w", dims=dims, data_type=FLOAT)
    with pytest.raises(FormatError, match="constant 'w' has a negative dimension"):
        load(tmp_path, model([relu()], weights=[tensor]))


@pytest.mark.parametrize("dims", [(2**60,), (2**40, 2**40), (2**63 - 1,) * 9])
def test_sizes_beyond_any_memory(tmp_path, dims):
    with pytest.raises(peakmem.PeakmemError, match="larger than any address space"):
        peakmem.estimate(save(tmp_path, model([relu()], inputs=[value("x", dims)])))
    tensor = TensorProto(name="w", dims=dims, data_type=FLOAT)
    with pytest.raises(FormatError, match=r"constant 'w' .* larger than any address space"):
        load(tmp_path, model([relu()], weights=[tensor]))


def test_too_many_dimensions(tmp_path):
    with pytest.raises(FormatError, match="more than 1024 dimensions"):
        load(tmp_path, model([relu()], inputs=[value("x", (1,) * 1025)]))
    with pytest.raises(FormatError, match="more than 1024 dimensions"):
        load(tmp_path, model([relu()], weights=[TensorProto(name="w", dims=(1,) * 1025, data_type=FLOAT)]))


@pytest.mark.parametrize("code", [29, 99, 2**31 - 1])
def test_unknown_element_types(tmp_path, code):
    with pytest.raises(FormatError, match=f"tensor 'x' has the unknown element type {code}"):
        load(tmp_path, model([relu()], inputs=[value("x", (1,), code)]))
    with pytest.raises(FormatError, match=f"constant 'w' has the unknown element type {code}"):
        load(tmp_path, model([relu()], weights=[TensorProto(name="w", dims=[1], data_type=code)]))
    with pytest.raises(FormatError, match=f"attribute 'to' of operator 'Cast_0' has the unknown element type {code}"):
        load(tmp_path, model([helper.make_node("Cast", ["x"], ["y"], to=code)]))


def test_element_types_in_attributes_become_names(tmp_path):
    graph = load(tmp_path, model([helper.make_node("Cast", ["x"], ["y"], to=FLOAT)]))
    assert graph.operators[0].attributes["to"] == "float32"


def test_an_element_type_of_zero_means_none_is_said(tmp_path):
    node = helper.make_node("QuantizeLinear", ["x", "s"], ["y"], output_dtype=0)
    assert "output_dtype" not in load(tmp_path, model([node], weights=[weight("s", ())])).operators[0].attributes


# -- names and order ---------------------------------------------------------------------


def test_operators_are_put_in_an_order_that_runs(tmp_path):
    nodes = [relu("b", "y", name="last"), relu("x", "a", name="first"), relu("a", "b", name="middle")]
    graph = load(tmp_path, model(nodes, outputs=[value("y")]))
    assert [operator.name for operator in graph.operators] == ["first", "middle", "last"]


def test_a_subgraph_orders_what_it_captures(tmp_path):
    branch = body([relu("late", "z")], [value("z")])
    choice = helper.make_node("If", ["c"], ["y"], name="choice", then_branch=branch, else_branch=branch)
    nodes = [choice, relu("x", "late", name="late")]
    graph = load(tmp_path, model(nodes, inputs=[value("x"), value("c", (), BOOL)], outputs=[value("y")]))
    assert [operator.name for operator in graph.operators] == ["late", "choice"]


def test_a_cycle_is_shown(tmp_path):
    nodes = [relu("b", "a", name="one"), relu("a", "b", name="two"), relu("x", "y", name="good")]
    path = save(tmp_path, model(nodes))
    with pytest.raises(GraphError, match="the operators form a cycle: one ← two ← one") as caught:
        peakmem.load(path)
    assert str(path) in str(caught.value)


def test_an_operator_that_reads_itself_is_a_cycle(tmp_path):
    with pytest.raises(GraphError, match="cycle: loop ← loop"):
        load(tmp_path, model([helper.make_node("Add", ["x", "y"], ["y"], name="loop")]))


def test_nodes_without_a_name_and_nodes_of_one_name(tmp_path):
    nodes = [
        relu("x", "a"), relu("a", "b"), relu("b", "c", name="same"), relu("c", "d", name="same"),
        relu("d", "e", name="same#1"), relu("e", "y", name="same"),
    ]  # fmt: skip
    names = [operator.name for operator in load(tmp_path, model(nodes)).operators]
    assert names[:4] == ["Relu_0", "Relu_1", "same", "same#1"]
    assert len(set(names)) == len(nodes)


def test_a_tensor_made_twice(tmp_path):
    with pytest.raises(GraphError, match="tensor 'y' is made twice, again by 'second'"):
        load(tmp_path, model([relu("x", "y", name="first"), relu("x", "y", name="second")]))


@pytest.mark.parametrize("name", ["x", "w"])
def test_an_operator_that_makes_an_input_or_a_constant(tmp_path, name):
    with pytest.raises(GraphError, match=f"tensor '{name}' is made twice"):
        load(tmp_path, model([relu("x", name)], weights=[weight("w")]))


def test_two_inputs_of_one_name(tmp_path):
    with pytest.raises(GraphError, match="two graph inputs are called 'x'"):
        load(tmp_path, model([relu()], inputs=[value("x"), value("x")]))


def test_an_input_without_a_name(tmp_path):
    with pytest.raises(GraphError, match="a graph input has no name"):
        load(tmp_path, model([relu()], inputs=[value("x"), value("")]))


def test_a_name_that_nothing_makes(tmp_path):
    with pytest.raises(GraphError, match=r"operator 'Relu_0' \(Relu\) reads 'q', which nothing makes"):
        load(tmp_path, model([relu("q")]))


def test_an_output_that_nothing_makes(tmp_path):
    with pytest.raises(GraphError, match="graph output 'q' is made by no operator"):
        load(tmp_path, model([relu()], outputs=[value("q")]))


def test_a_node_without_an_operator_type(tmp_path):
    with pytest.raises(FormatError, match="operator 'odd' has no operator type"):
        load(tmp_path, model([helper.make_node("", ["x"], ["y"], name="odd")]))


def test_an_output_may_be_an_input_or_a_constant(tmp_path):
    content = model([relu()], outputs=[value("y"), value("x"), value("w")], weights=[weight("w")])
    graph = load(tmp_path, content)
    assert graph.outputs == ("y", "x", "w")
    assert graph.tensors["x"].role == "input"
    assert graph.tensors["w"].role == "constant"
    assert peakmem.estimate(graph).peak_bytes == 32


def test_absent_optional_inputs_and_outputs(tmp_path):
    node = helper.make_node("Dropout", ["x", "", ""], ["y", ""])
    operator = load(tmp_path, model([node])).operators[0]
    assert (operator.inputs, operator.outputs, operator.reads) == (("x", "", ""), ("y", ""), ("x",))


def test_sizes_that_are_not_whole_numbers_are_refused(tmp_path):
    node = helper.make_node("MaxPool", ["x"], ["y"], name="pool", kernel_shape=[1.5])
    with pytest.raises(FormatError, match="attribute 'kernel_shape' of operator 'pool' is not a list of whole numbers"):
        load(tmp_path, model([node]))
    with pytest.raises(FormatError, match="attribute 'axis' of operator 'Softmax_0' is not a whole number"):
        load(tmp_path, model([helper.make_node("Softmax", ["x"], ["y"], axis="last")]))


def test_nodes_with_the_same_attributes_share_them(tmp_path):
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=FLOAT), helper.make_node("Cast", ["a"], ["b"], to=FLOAT),
        helper.make_node("Cast", ["b"], ["c"], to=INT64), helper.make_node("Cast", ["c"], ["d"], domain="my", to=FLOAT),
        relu("d", "e"), relu("e", "f"),
    ]  # fmt: skip
    first, second, third, foreign, *rest = load(tmp_path, model(nodes, opsets={"": 18, "my": 1})).operators
    assert first.attributes is second.attributes
    assert [dict(operator.attributes) for operator in (first, third, foreign, *rest)] == [
        {"to": "float32"}, {"to": "int64"}, {"to": 1}, {}, {},
    ]  # fmt: skip


def test_foreign_domains_may_call_their_attributes_as_they_like(tmp_path):
    node = helper.make_node("Odd", ["x"], ["y"], domain="my.own", kernel_shape=3, strides=2, group="all", axis=[1])
    path = save(tmp_path, model([node], outputs=[value("y", (1, 4))], opsets={"": 18, "my.own": 1}))
    graph = peakmem.load(path)
    assert (graph.operators[0].domain, dict(graph.opsets)) == ("my.own", {"": 18, "my.own": 1})
    report = peakmem.estimate(path)
    assert (report.kind, report.peak_bytes) == ("estimate", 32)


def test_a_foreign_operator_without_a_shape_makes_a_lower_bound(tmp_path):
    node = helper.make_node("Odd", ["x"], ["y"], name="odd", domain="my.own")
    report = peakmem.estimate(save(tmp_path, model([node], opsets={"": 18, "my.own": 1})))
    assert report.kind == "lower bound"
    assert [item.operator for item in report.unknowns] == ["odd"]


# -- operator sets -----------------------------------------------------------------------


def test_ai_onnx_is_the_default_domain(tmp_path):
    node = relu(domain="ai.onnx")
    graph = load(tmp_path, model([node], opsets={"ai.onnx": 17}))
    assert dict(graph.opsets) == {"": 17}
    assert graph.operators[0].domain == ""


def test_without_an_import_the_operator_set_is_1(tmp_path):
    content = model([relu()])
    del content.opset_import[:]
    graph = load(tmp_path, content)
    assert dict(graph.opsets) == {"": 1}
    assert any("operator set 1" in note for note in graph.notes)


@pytest.mark.parametrize("version", [0, -1, 10**9, 2**63 - 1])
def test_absurd_operator_sets_do_not_end_the_answer(tmp_path, version):
    assert peakmem.estimate(save(tmp_path, model([relu()], opsets={"": version}))).peak_bytes == 32


# -- scopes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("/layer1/layer1.0/conv1/Conv", "layer1/layer1.0/conv1"),
        ("Conv_17", ""),
        ("", ""),
        ("/Conv", ""),
        ("model/block/Conv", "model/block"),
    ],
)
def test_the_scope_is_the_path_in_front_of_the_name(tmp_path, name, scope):
    assert load(tmp_path, model([relu(name=name)])).operators[0].scope == scope


def test_the_scope_that_newer_exporters_write(tmp_path):
    node = relu(name="node_relu_3")
    node.metadata_props.add(key="pkg.torch.onnx.class_hierarchy", value="['Net', 'Relu']")
    node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'features', 'features.0', 'relu_3']")
    assert load(tmp_path, model([node])).operators[0].scope == "features/features.0"


# -- subgraphs ---------------------------------------------------------------------------


def test_if_loop_and_scan_keep_their_bodies(tmp_path):
    choice = helper.make_node(
        "If", ["c"], ["a"], name="if",
        then_branch=body([relu("x", "t")], [value("t")]), else_branch=body([relu("x", "e")], [value("e")]),
    )  # fmt: skip
    state = [value("i", (), INT64), value("go", (), BOOL), value("s")]
    turn = body(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["s", "x"], ["s2"])],
        [value("on", (), BOOL), value("s2")], inputs=state,
    )  # fmt: skip
    loop = helper.make_node("Loop", ["n", "", "a"], ["b"], name="loop", body=turn)
    step = body(
        [helper.make_node("Add", ["h", "v"], ["h2"]), relu("h2", "o")], [value("h2", (4,)), value("o", (4,))],
        inputs=[value("h", (4,)), value("v", (4,))],
    )  # fmt: skip
    scan = helper.make_node("Scan", ["h0", "b"], ["h9", "y"], name="scan", body=step, num_scan_inputs=1)
    content = model(
        [choice, loop, scan],
        inputs=[value("x"), value("c", (), BOOL), value("n", (), INT64), value("h0", (4,))],
        outputs=[value("y", None), value("h9", None)],
    )
    path = save(tmp_path, content)
    graph = peakmem.load(path)
    bodies = {operator.name: [inner.name for inner in operator.subgraphs] for operator in graph.operators}
    assert {name: sorted(names) for name, names in bodies.items()} == {
        "if": ["else_branch", "then_branch"], "loop": ["body"], "scan": ["body"],
    }  # fmt: skip
    by_name = {operator.name: operator for operator in graph.operators}
    assert set(by_name["if"].reads) == {"c", "x"}
    assert set(by_name["loop"].reads) == {"n", "a", "x"}
    assert by_name["loop"].subgraphs[0].inputs == ("i", "go", "s")
    report = peakmem.estimate(path)
    assert (report.kind, report.unknowns) == ("estimate", ())


def test_names_captured_through_two_levels(tmp_path):
    inner = body([helper.make_node("Add", ["x", "t"], ["z"])], [value("z")])
    nested = helper.make_node("If", ["c"], ["u"], then_branch=inner, else_branch=inner)
    outer = body([relu("x", "t"), nested], [value("u")])
    node = helper.make_node("If", ["c"], ["y"], then_branch=outer, else_branch=outer)
    graph = load(tmp_path, model([node], inputs=[value("x"), value("c", (), BOOL)]))
    (operator,) = graph.operators
    assert set(operator.reads) == {"c", "x"}
    assert set(operator.subgraphs[0].operators[1].reads) == {"c", "x", "t"}


def test_a_body_that_reads_what_nobody_makes(tmp_path):
    branch = body([relu("nowhere", "t")], [value("t")])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    with pytest.raises(GraphError, match="'nowhere', which nothing makes"):
        load(tmp_path, model([node], inputs=[value("x"), value("c", (), BOOL)]))


def test_a_body_may_hand_out_what_it_captures(tmp_path):
    branch = body([relu("x", "t")], [value("t")])
    through = body([], [value("x")])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=through)
    report = peakmem.estimate(save(tmp_path, model([node], inputs=[value("x"), value("c", (), BOOL)])))
    assert report.unknowns == ()


def test_constants_of_bodies_count_as_weights(tmp_path):
    branches = {
        f"{word}_branch": body([helper.make_node("Add", ["x", f"w{word}"], [word])], [value(word)],
                               weights=[weight(f"w{word}")])
        for word in ("then", "else")
    }  # fmt: skip
    node = helper.make_node("If", ["c"], ["y"], **branches)
    report = peakmem.estimate(save(tmp_path, model([node], inputs=[value("x"), value("c", (), BOOL)])))
    assert report.weights_bytes == 32


def test_a_large_body_is_walked_in_the_file(tmp_path):
    # The node is over 1 MiB, so it is not held; its body is found behind the weight.
    branch = body([helper.make_node("Add", ["x", "w"], ["t"])], [value("t")], weights=[weight("w", (1_000_000, 1, 4))])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    graph = load(tmp_path, model([node], inputs=[value("x"), value("c", (), BOOL)]))
    assert [inner.tensors["w"].nbytes for inner in graph.operators[0].subgraphs] == [16_000_000] * 2


def test_one_list_serves_all_nodes_of_a_large_model(tmp_path):
    count = 3000
    nodes = [relu("x" if at == 0 else f"t{at - 1}", f"t{at}", name=f"n{at}") for at in range(count)]
    graph = load(tmp_path, model(nodes))
    assert len(graph.operators) == count
    assert graph.outputs == (f"t{count - 1}",)
