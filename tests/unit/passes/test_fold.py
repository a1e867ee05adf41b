from peakmem.dtypes import BOOL, FLOAT32, INT64
from peakmem.ir.builder import GraphBuilder
from peakmem.ir.graph import Graph, Operator, Tensor
from peakmem.ir.shapes import infer
from peakmem.passes.fold import fold_constants


def test_shape_arithmetic_disappears():
    b = GraphBuilder("t")
    x = b.input("x", (2, 3, 4))
    rows = b.one("Gather", b.one("Shape", x), b.literal([0], scalar=True))
    target = b.op("Concat", [b.one("Unsqueeze", rows, b.literal([0])), b.literal([-1])], axis=0)[0]
    graph = fold_constants(b.finish(b.one("Reshape", x, target)))
    assert [op.op_type for op in graph.operators] == ["Reshape"]
    assert graph.tensors[graph.outputs[0]].shape == (2, 12)


def test_a_transposed_weight_keeps_the_storage_of_the_stored_one():
    b = GraphBuilder("t")
    w = b.parameter("w", (8, 4))
    graph = b.finish(b.one("MatMul", b.input("x", (1, 4)), b.one("Transpose", w, perm=(1, 0))))
    folded = fold_constants(graph)
    assert [op.op_type for op in folded.operators] == ["MatMul"]
    assert folded.tensors[folded.operators[0].inputs[1]].storage == w


def test_a_generated_constant_has_a_storage_of_its_own():
    b = GraphBuilder("t")
    made = b.one("ConstantOfShape", b.literal([64, 64]))
    folded = fold_constants(b.finish(b.one("MatMul", b.input("x", (1, 64)), made)))
    constant = folded.tensors[made]
    assert (constant.role, constant.storage, constant.nbytes) == ("constant", "", 64 * 64 * 4)


def test_random_results_are_not_folded():
    tensors = {"w": Tensor("w", (4,), FLOAT32, "constant"), "r": Tensor("r", (4,), FLOAT32)}
    graph = Graph("t", tensors, (Operator("r", "RandomNormalLike", ("w",), ("r",)),), (), ("r",))
    assert len(fold_constants(infer(graph)).operators) == 1


def branch(name, made, op_type):
    return Graph(
        name, {made: Tensor(made, None, None)}, (Operator(f"{name}_op", op_type, ("x",), (made,)),), (), (made,)
    )


def test_a_branch_known_ahead_takes_the_place_of_its_if():
    tensors = {
        "x": Tensor("x", (4,), FLOAT32, "input"), "c": Tensor("c", (), BOOL, "constant", values=(True,)),
        "y": Tensor("y", None, None), "z": Tensor("z", None, None),
    }  # fmt: skip
    graph = Graph(
        "t", tensors,
        (
            Operator("if", "If", ("c",), ("y",),
                     subgraphs=(branch("then_branch", "a", "Relu"), branch("else_branch", "b", "Neg"))),
            Operator("z", "Sigmoid", ("y",), ("z",)),
        ),
        ("x",), ("z",), opsets={"": 17},
    )  # fmt: skip
    folded = fold_constants(infer(graph))
    assert [(op.op_type, op.inputs, op.outputs) for op in folded.operators] == [
        ("Relu", ("x",), ("y",)), ("Sigmoid", ("y",), ("z",)),
    ]  # fmt: skip
    assert folded.tensors["y"].shape == (4,)


def test_a_branch_that_hands_out_an_outer_tensor_becomes_an_identity():
    passing = Graph("then_branch", {}, (), (), ("x",))
    tensors = {
        "x": Tensor("x", (4,), FLOAT32, "input"), "c": Tensor("c", (), BOOL, "constant", values=(1,)),
        "y": Tensor("y", None, None),
    }  # fmt: skip
    operator = Operator("if", "If", ("c",), ("y",), subgraphs=(passing, branch("else_branch", "b", "Neg")))
    folded = fold_constants(infer(Graph("t", tensors, (operator,), ("x",), ("y",), opsets={"": 17})))
    assert [(op.op_type, op.inputs, op.outputs) for op in folded.operators] == [("Identity", ("x",), ("y",))]


def test_constants_inside_a_body_are_folded():
    inner = Graph(
        "body",
        {
            "i": Tensor("i", (), INT64, "input"), "k": Tensor("k", (), BOOL, "input"),
            "s": Tensor("s", (4,), FLOAT32, "input"), "w": Tensor("w", (4,), FLOAT32, "constant"),
            "n": Tensor("n", None, None), "t": Tensor("t", None, None),
        },
        (Operator("n", "Neg", ("w",), ("n",)), Operator("a", "Add", ("s", "n"), ("t",))), ("i", "k", "s"), ("k", "t"),
    )  # fmt: skip
    tensors = {
        "m": Tensor("m", (), INT64, "input"), "x": Tensor("x", (4,), FLOAT32, "input"), "y": Tensor("y", None, None),
    }  # fmt: skip
    graph = Graph(
        "t", tensors, (Operator("l", "Loop", ("m", "", "x"), ("y",), subgraphs=(inner,)),), ("m", "x"), ("y",),
        opsets={"": 17},
    )  # fmt: skip
    folded = fold_constants(infer(graph))
    assert [op.op_type for op in folded.operators[0].subgraphs[0].operators] == ["Add"]
    assert folded.tensors["y"].shape == (4,)


def test_pytorch_computes_in_every_call_what_depends_on_its_weights_alone():
    """The same sum of two stored tensors, by ONNX's operator and by ATen's."""
    for domain, left in (("", 1), ("aten", 2)):
        tensors = {name: Tensor(name, (4,), FLOAT32, "constant") for name in ("a", "b")}
        tensors |= {"x": Tensor("x", (4,), FLOAT32, "input"), "w": Tensor("w", (4,), FLOAT32)}
        tensors["y"] = Tensor("y", (4,), FLOAT32)
        op_type = "add" if domain else "Add"
        calls = (
            Operator("sum", op_type, ("a", "b"), ("w",), domain=domain),
            Operator("out", op_type, ("x", "w"), ("y",), domain=domain),
        )
        assert len(fold_constants(Graph("g", tensors, calls, ("x",), ("y",))).operators) == left
