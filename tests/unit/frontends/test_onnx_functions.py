"""Model-local functions are inlined: names, attributes, absent inputs, nesting, and no end without a word."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

import peakmem
from peakmem.errors import FormatError
from tests.unit.frontends.onnx_files import FLOAT, body, load, model, save, value, weight

OPSETS = {"": 18, "f": 1}
IMPORTS = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]


def function(name, inputs, outputs, nodes, attributes=(), defaults=(), domain="f", opsets=IMPORTS):
    return helper.make_function(domain, name, inputs, outputs, nodes, opsets, list(attributes), list(defaults))


def call(called, inputs, outputs, **more):
    return helper.make_node(called, inputs, outputs, domain="f", **more)


def refer(op_type, inputs, outputs, **references):
    """A node whose attributes are those of the function it stands in."""
    node = helper.make_node(op_type, inputs, outputs)
    for key, (reference, kind) in references.items():
        node.attribute.add(name=key, ref_attr_name=reference, type=kind)
    return node


def inlined(folder, nodes, functions, **more):
    return load(folder, model(nodes, functions=functions, opsets=OPSETS, **more))


def test_a_function_becomes_its_operators(tmp_path):
    dense = function(
        "Dense", ["a", "m", "v"], ["r"],
        [helper.make_node("MatMul", ["a", "m"], ["p"]), helper.make_node("Add", ["p", "v"], ["r"])],
    )  # fmt: skip
    nodes = [call("Dense", ["x", "w", "b"], ["h"], name="first"), call("Dense", ["h", "w", "b"], ["y"], name="second")]
    graph = inlined(tmp_path, nodes, [dense], weights=[weight("w", (4, 4)), weight("b")])
    assert [(operator.name, operator.op_type, operator.inputs, operator.outputs) for operator in graph.operators] == [
        ("first/MatMul_0", "MatMul", ("x", "w"), ("first/p",)),
        ("first/Add_1", "Add", ("first/p", "b"), ("h",)),
        ("second/MatMul_2", "MatMul", ("h", "w"), ("second/p",)),
        ("second/Add_3", "Add", ("second/p", "b"), ("y",)),
    ]
    assert peakmem.estimate(graph).weights_bytes == 64 + 16


def test_functions_call_functions(tmp_path):
    functions = [
        function(
            "Outer", ["a"], ["r"],
            [call("Inner", ["a"], ["t"], name="one"), call("Inner", ["t"], ["r"], name="two")],
        ),
        function(
            "Inner", ["a"], ["r"],
            [helper.make_node("Relu", ["a"], ["s"]), helper.make_node("Neg", ["s"], ["r"])],
        ),
    ]  # fmt: skip
    graph = inlined(tmp_path, [call("Outer", ["x"], ["y"], name="call")], functions)
    assert [operator.outputs for operator in graph.operators] == [
        ("call/one/s",), ("call/t",), ("call/two/s",), ("y",),
    ]  # fmt: skip


def test_attributes_are_handed_down_and_have_defaults(tmp_path):
    functions = [
        function(
            "Outer", ["a"], ["r"],
            [refer("Inner", ["a"], ["t"], alpha=("slope", 1)), refer("Softmax", ["t"], ["r"], axis=("axis", 2))],
            attributes=["slope"], defaults=[helper.make_attribute("axis", -1)],
        ),
        function("Inner", ["a"], ["r"], [refer("LeakyRelu", ["a"], ["r"], alpha=("alpha", 1))], attributes=["alpha"]),
    ]  # fmt: skip
    functions[0].node[0].domain = "f"
    nodes = [call("Outer", ["x"], ["h"], slope=0.25), call("Outer", ["h"], ["y"], slope=0.5, axis=0)]
    graph = inlined(tmp_path, nodes, functions)
    assert [dict(operator.attributes) for operator in graph.operators] == [
        {"alpha": 0.25}, {"axis": -1}, {"alpha": 0.5}, {"axis": 0},
    ]  # fmt: skip


def test_an_attribute_that_nobody_gives_is_absent(tmp_path):
    act = function("Act", ["a"], ["r"], [refer("LeakyRelu", ["a"], ["r"], alpha=("alpha", 1))], attributes=["alpha"])
    assert dict(inlined(tmp_path, [call("Act", ["x"], ["y"])], [act]).operators[0].attributes) == {}


def test_a_tensor_as_an_attribute(tmp_path):
    scale = function(
        "Scale", ["a"], ["r"],
        [refer("Constant", [], ["k"], value=("by", 4)), helper.make_node("Mul", ["a", "k"], ["r"])],
        defaults=[helper.make_attribute("by", weight("default", (4,)))],
    )  # fmt: skip
    given = helper.make_tensor("given", TensorProto.INT64, [2], [5, 6])
    nodes = [call("Scale", ["x"], ["h"], name="one"), call("Scale", ["h"], ["y"], name="two", by=given)]
    graph = inlined(tmp_path, nodes, [scale])
    assert graph.tensors["one/k"].nbytes == 16
    assert graph.tensors["two/k"].values == (5, 6)


def test_optional_inputs_and_outputs_may_be_absent(tmp_path):
    clip = function(
        "Clip2", ["a", "low", "high"], ["r", "extra"],
        [helper.make_node("Clip", ["a", "low", "high"], ["r"]), helper.make_node("Neg", ["r"], ["extra"])],
    )  # fmt: skip
    graph = inlined(tmp_path, [call("Clip2", ["x", ""], ["y"], name="call")], [clip])
    assert graph.operators[0].inputs == ("x", "", "")
    assert graph.operators[1].outputs == ("call/extra",)


def test_a_result_nobody_wants_is_still_made_for_its_readers(tmp_path):
    both = function(
        "Both", ["a"], ["r", "s"], [helper.make_node("Neg", ["a"], ["r"]), helper.make_node("Relu", ["r"], ["s"])]
    )
    graph = inlined(tmp_path, [call("Both", ["x"], ["", "y"], name="call")], [both], outputs=[value("y")])
    assert [operator.outputs for operator in graph.operators] == [("call/r",), ("y",)]


def test_an_input_handed_out_as_it_came(tmp_path):
    through = function("Through", ["a"], ["a", "r"], [helper.make_node("Relu", ["a"], ["r"])])
    graph = inlined(tmp_path, [call("Through", ["x"], ["same", "y"])], [through], outputs=[value("same"), value("y")])
    assert [(operator.op_type, operator.inputs, operator.outputs) for operator in graph.operators] == [
        ("Identity", ("x",), ("same",)), ("Relu", ("x",), ("y",)),
    ]  # fmt: skip


def test_a_subgraph_inside_a_function(tmp_path):
    inner = body([refer("LeakyRelu", ["t"], ["z"], alpha=("slope", 1))], [value("z")])
    deeper = body([helper.make_node("If", ["c"], ["u"], then_branch=inner, else_branch=inner)], [value("u")])
    choose = function(
        "Choose", ["a", "c"], ["r"],
        [helper.make_node("Relu", ["a"], ["t"]),
         helper.make_node("If", ["c"], ["r"], then_branch=deeper, else_branch=inner)],
        attributes=["slope"],
    )  # fmt: skip
    graph = inlined(
        tmp_path, [call("Choose", ["x", "flag"], ["y"], name="call", slope=0.125)], [choose],
        inputs=[value("x"), value("flag", (), TensorProto.BOOL)],
    )  # fmt: skip
    choice = graph.operators[1]
    assert set(choice.reads) == {"flag", "call/t"}
    bodies = {subgraph.name: subgraph for subgraph in choice.subgraphs}
    assert bodies["else_branch"].operators[0].inputs == ("call/t",)
    nested = bodies["then_branch"].operators[0].subgraphs[0].operators[0]
    assert nested.inputs == ("call/t",)
    assert dict(nested.attributes) == {"alpha": 0.125}


def test_a_call_from_inside_a_subgraph(tmp_path):
    act = function("Act", ["a"], ["r"], [helper.make_node("Relu", ["a"], ["s"]), helper.make_node("Neg", ["s"], ["r"])])
    branch = body([call("Act", ["x"], ["z"], name="call")], [value("z")])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    graph = inlined(tmp_path, [node], [act], inputs=[value("x"), value("c", (), TensorProto.BOOL)])
    operators = graph.operators[0].subgraphs[0].operators
    assert [operator.outputs for operator in operators] == [("call/s",), ("z",)]


def test_overloads_are_told_apart(tmp_path):
    functions = [function("Act", ["a"], ["r"], [helper.make_node(kind, ["a"], ["r"])]) for kind in ("Relu", "Neg")]
    functions[0].overload, functions[1].overload = "one", "two"
    nodes = [call("Act", ["x"], ["h"], overload="two"), call("Act", ["h"], ["y"], overload="one")]
    assert [operator.op_type for operator in inlined(tmp_path, nodes, functions).operators] == ["Neg", "Relu"]


def test_a_function_may_stand_for_an_operator_of_onnx(tmp_path):
    own = function("Relu", ["a"], ["r"], [helper.make_node("Neg", ["a"], ["r"])], domain="", opsets=IMPORTS[:1])
    graph = inlined(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], [own])
    assert [operator.op_type for operator in graph.operators] == ["Neg"]


def test_functions_bring_the_operator_sets_they_need(tmp_path):
    act = function("Act", ["a"], ["r"], [helper.make_node("Relu", ["a"], ["r"])])
    graph = load(tmp_path, model([call("Act", ["x"], ["y"])], functions=[act], opsets={"f": 1}))
    assert dict(graph.opsets) == {"f": 1, "": 18}


def test_constants_inside_a_function(tmp_path):
    fixed = function(
        "Fixed", ["a"], ["r"],
        [helper.make_node("Constant", [], ["k"], value=weight("inner", (4,), FLOAT)),
         helper.make_node("Add", ["a", "k"], ["r"])],
    )  # fmt: skip
    graph = inlined(tmp_path, [call("Fixed", ["x"], ["h"], name="p"), call("Fixed", ["h"], ["y"], name="q")], [fixed])
    assert [name for name, tensor in graph.tensors.items() if tensor.role == "constant"] == ["p/k", "q/k"]


# -- without end -------------------------------------------------------------------------


def test_a_function_that_calls_itself(tmp_path):
    own = function("Own", ["a"], ["r"], [call("Own", ["a"], ["b"]), call("Own", ["b"], ["r"])])
    with pytest.raises(FormatError, match=r"call themselves.*: Own → Own"):
        inlined(tmp_path, [call("Own", ["x"], ["y"])], [own])


def test_functions_that_call_each_other(tmp_path):
    pair = [function(a, ["a"], ["r"], [call(b, ["a"], ["r"])]) for a, b in (("Ping", "Pong"), ("Pong", "Ping"))]
    with pytest.raises(FormatError, match="Ping → Pong → Ping"):
        inlined(tmp_path, [call("Ping", ["x"], ["y"])], pair)


def chain(levels, width, leaf, name=""):
    """Functions that each call the next one `width` times."""
    functions = []
    for level in range(levels):
        nodes = [
            call(f"F{level + 1}", [f"t{at - 1}" if at else "a"], [f"t{at}" if at < width - 1 else "r"], name=name)
            for at in range(width)
        ]
        functions.append(function(f"F{level}", ["a"], ["r"], nodes))
    return [*functions, function(f"F{levels}", ["a"], ["r"], leaf)]


def test_a_deep_chain_is_refused(tmp_path):
    functions = chain(60, 1, [helper.make_node("Relu", ["a"], ["r"])])
    with pytest.raises(FormatError, match="too deep"):
        inlined(tmp_path, [call("F0", ["x"], ["y"])], functions)


@pytest.mark.parametrize("leaf", [[helper.make_node("Relu", ["a"], ["r"])], []], ids=["operators", "nothing"])
@pytest.mark.parametrize(("levels", "width", "name"), [(40, 2, ""), (7, 20, ""), (20, 5, "n" * 5000)])
def test_a_small_file_may_not_expand_without_end(tmp_path, levels, width, name, leaf):
    path = save(
        tmp_path,
        model([call("F0", ["x"], ["y"])], functions=chain(levels, width, leaf, name), opsets=OPSETS),
    )
    with pytest.raises(FormatError, match="beyond any size"):
        peakmem.load(path)


def test_what_a_real_exporter_nests_is_not_refused(tmp_path):
    functions = chain(6, 4, [helper.make_node("Relu", ["a"], ["r"])])
    assert len(inlined(tmp_path, [call("F0", ["x"], ["y"])], functions).operators) == 4**6
