"""The pass over a graph: what is bound, filled in, noted as unknown or refused."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from peakmem.dtypes import BOOL, FLOAT32, INT64
from peakmem.errors import ShapeError, UnboundDimension, UsageError
from peakmem.ir.dims import Shape, Symbol
from peakmem.ir.graph import Graph, Operator, Tensor
from peakmem.ir.shapes import Unresolved, bind, infer, infer_operator
from peakmem.ir.shapes.call import Call, Spec
from peakmem.ir.shapes.facts import Fact


def graph(
    inputs: Mapping[str, Shape | None],
    operators: Sequence[Operator],
    *,
    constants: Mapping[str, tuple[Any, ...]] | None = None,
    declared: Mapping[str, Shape] | None = None,
    opset: int = 17,
) -> Graph:
    """A graph of float inputs, int64 lists as constants, and operators in order."""
    tensors = {name: Tensor(name, shape, FLOAT32, "input") for name, shape in inputs.items()}
    for name, values in (constants or {}).items():
        tensors[name] = Tensor(name, (len(values),), INT64, "constant", values=values)
    for operator in operators:
        for name in operator.outputs:
            tensors[name] = Tensor(name, (declared or {}).get(name))
    return Graph("test", tensors, tuple(operators), tuple(inputs), operators[-1].outputs, opsets={"": opset})


def op(op_type: str, inputs: Sequence[str], output: str | Sequence[str], /, **attributes: Any) -> Operator:
    outputs = (output,) if isinstance(output, str) else tuple(output)
    return Operator(outputs[0], op_type, tuple(inputs), outputs, attributes)


N = Symbol("n")


def test_symbols_of_inputs_need_values() -> None:
    net = graph({"x": (N, 3)}, [op("Relu", ["x"], "y")])
    with pytest.raises(UnboundDimension, match="n of x: nx3"):
        infer(net)
    assert infer(net, symbolic=True).tensors["y"].shape == (N, 3)
    assert infer(bind(net, {}, {"n": 4})).tensors["y"].shape == (4, 3)
    with pytest.raises(UsageError, match="rank 2"):
        bind(net, {"x": (1, 2, 3)}, {})
    with pytest.raises(UsageError, match="no input 'z'"):
        bind(net, {"z": (1,)}, {})


def test_a_data_dependent_size_is_noted_once_and_can_be_bound() -> None:
    net = graph({"x": (4, 5)}, [op("NonZero", ["x"], "found"), op("Transpose", ["found"], "y"), op("Abs", ["y"], "z")])
    open_ = infer(net)
    assert open_.tensors["z"].shape == (Symbol("found.1"), 2)
    assert [(unknown.operator, unknown.hint) for unknown in open_.unknowns] == [("found", "--dim found.1=VALUE")]
    bound = infer(net, dims={"found.1": 7})
    assert bound.tensors["z"].shape == (7, 2)
    assert not bound.unknowns


def test_declared_shapes_fill_gaps_and_are_checked() -> None:
    net = graph({"x": (2, 3)}, [op("Mystery", ["x"], "y"), op("Relu", ["y"], "z")], declared={"y": (2, 9), "z": (2, 8)})
    trusted = infer(net)
    assert trusted.tensors["z"].shape == (2, 9)
    assert any("z: 2x8 declared, 2x9" in note for note in trusted.notes)
    assert not trusted.unknowns
    doubted = infer(net, trust_declared=False)
    assert doubted.tensors["y"].shape is None
    assert doubted.unknowns[0].reason == "no shape rule for this operator"


def test_a_declared_number_beats_an_open_size() -> None:
    net = graph({"x": (4, 5)}, [op("NonZero", ["x"], "y")], declared={"y": (2, 6)})
    assert infer(net).tensors["y"].shape == (2, 6)
    named = graph({"x": (4, 5)}, [op("NonZero", ["x"], "y")], declared={"y": (2, Symbol("hits"))})
    assert infer(named).unknowns[0].hint == "--dim hits=VALUE"
    assert infer(named, dims={"hits": 3}).tensors["y"].shape == (2, 3)


def test_the_fallback_is_asked_where_no_rule_answers() -> None:
    asked = []

    def fallback(call: Call, opsets: Mapping[str, int]) -> list[Spec] | None:
        asked.append((call.op.op_type, opsets[""]))
        return [((call.shape()[0], Symbol("?1")), FLOAT32)]

    net = graph(
        {"x": (2, 3), "at": (2,)}, [op("Mystery", ["x"], "y"), op("Tile", ["x", "at"], "z"), op("Relu", ["y"], "r")]
    )
    inferred = infer(net, fallback=fallback)
    assert asked == [("Mystery", 17)]  # a rule that only leaves sizes open has answered
    assert inferred.tensors["r"].shape == (2, Symbol("y.1"))
    assert [unknown.operator for unknown in inferred.unknowns] == ["y", "z"]


def test_contradictions_are_refused() -> None:
    for operator in (
        op("Add", ["a", "b"], "y"),
        op("MatMul", ["a", "b"], "y"),
        op("Concat", ["a", "b"], "y", axis=0),
        op("Transpose", ["a"], "y", perm=(0, 0)),
        op("Squeeze", ["a", "zero"], "y"),
        op("Reshape", ["a", "five"], "y"),
        op("Conv", ["image", "kernel"], "y"),
    ):
        inputs = {"a": (2, 3), "b": (2, 4), "image": (1, 3, 2, 2), "kernel": (4, 3, 5, 5)}
        with pytest.raises(ShapeError, match="operator 'y'"):
            infer(graph(inputs, [operator], constants={"zero": (0,), "five": (5,)}))


def test_sizes_that_no_tensor_has_are_refused() -> None:
    for sizes in ((-2,), (2**40, 2**40), (2**62,)):
        net = graph({"x": (1,)}, [op("ConstantOfShape", ["sizes"], "y")], constants={"sizes": sizes})
        with pytest.raises(ShapeError):
            infer(net)


def test_nonsense_is_not_understood_rather_than_refused() -> None:
    for operator in (
        op("Conv", ["x"], "y"),
        op("RandomNormal", [], "y"),
        op("DepthToSpace", ["x"], "y"),
        op("Upsample", ["x", "list"], "y"),
        op("SequenceAt", ["x", "list"], "y"),
        op("ConstantOfShape", ["fractions"], "y"),
    ):
        net = graph({"x": (1, 2, 3, 4)}, [operator], constants={"list": (1,), "fractions": (1.5,)})
        inferred = infer(net)
        assert inferred.tensors["y"].shape is None
        assert inferred.unknowns


def test_no_rule() -> None:
    with pytest.raises(Unresolved, match="no shape rule"):
        infer_operator(op("Mystery", ["x"], "y"), [Fact((1,), FLOAT32)], {})


# -- shape arithmetic --------------------------------------------------------------------


def test_a_shape_computed_in_the_graph() -> None:
    """View as (batch, -1) with the batch read from the input: the chain that exporters write."""
    net = graph(
        {"x": (N, 8, 4, 4)},
        [
            op("Shape", ["x"], "shape"),
            op("Gather", ["shape", "zero"], "batch", axis=0),
            op("Concat", ["batch", "minus"], "target", axis=0),
            op("Reshape", ["x", "target"], "y"),
        ],
        constants={"zero": (0,), "minus": (-1,)},
    )
    symbolic = infer(net, symbolic=True)
    assert symbolic.tensors["target"].values == (N, -1)
    assert symbolic.tensors["y"].shape == (N, 128)
    assert infer(bind(net, {}, {"n": 6})).tensors["y"].shape == (6, 128)


def test_symbols_through_arithmetic() -> None:
    """Pad to a multiple of 4, then halve: symbols remember, numbers are exact."""
    steps = [
        op("Shape", ["x"], "size"),
        op("Mod", ["size", "four"], "over"),
        op("Sub", ["four", "over"], "lack"),
        op("Mod", ["lack", "four"], "more"),
        op("Concat", ["none", "more"], "pads", axis=0),
        op("Pad", ["x", "pads"], "padded"),
        op("Shape", ["padded"], "whole"),
        op("Div", ["whole", "two"], "half"),
        op("Expand", ["one", "half"], "y"),
    ]
    net = graph({"x": (N,)}, steps, constants={"four": (4,), "none": (0,), "two": (2,), "one": (1,)})
    assert infer(net, symbolic=True).tensors["y"].shape == (Symbol("((n+((4-(n%4))%4))//2)"),)
    for size, half in ((7, 4), (8, 4), (9, 6)):
        assert infer(bind(net, {"x": (size,)}, {})).tensors["y"].shape == (half,)


def test_equal_decides_on_symbols_only_what_is_certain() -> None:
    net = graph(
        {"x": (N, 3)},
        [
            op("Shape", ["x"], "shape"),
            op("Equal", ["shape", "minus"], "never"),
            op("Equal", ["shape", "three"], "maybe"),
        ],
        constants={"minus": (-1, -1), "three": (3, 3)},
    )
    inferred = infer(net, symbolic=True)
    assert inferred.tensors["never"].values == (False, False)
    assert inferred.tensors["maybe"].values is None


# -- bodies ------------------------------------------------------------------------------


def body(
    name: str, inputs: Sequence[str], operators: Sequence[Operator], outputs: Sequence[str], **more: Tensor
) -> Graph:
    tensors = {name: Tensor(name, None, None, "input") for name in inputs}
    tensors.update(more)
    for operator in operators:
        tensors.update({made: Tensor(made) for made in operator.outputs})
    return Graph(name, tensors, tuple(operators), tuple(inputs), tuple(outputs))


def if_(then: Sequence[Operator], else_: Sequence[Operator], condition: str = "c") -> Operator:
    bodies = (body("then_branch", [], then, then[-1].outputs), body("else_branch", [], else_, else_[-1].outputs))
    return Operator("if", "If", (condition,), ("y",), subgraphs=bodies)


def with_condition(net: Graph, value: bool | None) -> Graph:
    tensors = dict(net.tensors)
    tensors["c"] = Tensor("c", (), BOOL, "input", values=None if value is None else (value,))
    return Graph(net.name, tensors, net.operators, (*net.inputs, "c"), net.outputs, opsets=net.opsets)


def test_if_takes_the_known_branch() -> None:
    net = graph({"x": (1, 3)}, [if_([op("Squeeze", ["x"], "t")], [op("Identity", ["x"], "e")])])
    assert infer(with_condition(net, True)).tensors["y"].shape == (3,)
    assert infer(with_condition(net, False)).tensors["y"].shape == (1, 3)
    unknown = infer(with_condition(net, None))
    assert unknown.tensors["y"].shape is None  # the branches differ in rank
    assert unknown.tensors["y"].dtype == FLOAT32
    inner = unknown.operators[0].subgraphs[0]
    assert inner.tensors["t"].shape == (3,)


def test_if_keeps_what_the_branches_share() -> None:
    then = [op("Concat", ["x", "x"], "t", axis=0)]
    net = graph({"x": (1, 3)}, [if_(then, [op("Identity", ["x"], "e")])])
    inferred = infer(with_condition(net, None))
    assert inferred.tensors["y"].shape == (Symbol("y.0"), 3)
    assert [unknown.hint for unknown in inferred.unknowns] == ["--dim y.0=VALUE"]


def test_a_branch_that_does_not_fit_is_not_the_one() -> None:
    bad = [op("Add", ["x", "w"], "t")]
    net = graph({"x": (1, 3), "w": (2, 4)}, [if_(bad, [op("Identity", ["x"], "e")])])
    assert infer(with_condition(net, None)).tensors["y"].shape == (1, 3)
    with pytest.raises(ShapeError):
        infer(with_condition(net, True))


def loop(operators: Sequence[Operator], outputs: Sequence[str], results: Sequence[str]) -> Operator:
    inner = body("body", ["i", "cond", "state"], operators, outputs)
    return Operator("loop", "Loop", ("trips", "", "x"), tuple(results), subgraphs=(inner,))


@pytest.mark.parametrize("trips", [(5,), None])
def test_loop_collects_one_slice_a_turn(trips: tuple[int, ...] | None) -> None:
    inside = [op("Identity", ["cond"], "go"), op("Relu", ["state"], "next"), op("Abs", ["state"], "seen")]
    net = graph({"x": (2, 3)}, [loop(inside, ["go", "next", "seen"], ["last", "all"])])
    tensors = dict(net.tensors)
    tensors["trips"] = Tensor("trips", (), INT64, "constant", values=trips)
    inferred = infer(Graph("g", tensors, net.operators, net.inputs, net.outputs, opsets=net.opsets))
    assert inferred.tensors["last"].shape == (2, 3)
    assert inferred.tensors["all"].shape == (Symbol("all.0") if trips is None else 5, 2, 3)
    assert len(inferred.unknowns) == (trips is None)


def test_loop_whose_condition_may_end_it_early() -> None:
    inside = [op("Mystery", ["state"], "go"), op("Relu", ["state"], "next"), op("Abs", ["state"], "seen")]
    net = graph({"x": (2,)}, [loop(inside, ["go", "next", "seen"], ["last", "all"])], constants={"trips": (5,)})
    assert infer(net).tensors["all"].shape == (Symbol("all.0"), 2)


def test_loop_state_that_grows() -> None:
    inside = [op("Identity", ["cond"], "go"), op("Concat", ["state", "state"], "next", axis=0)]
    net = graph({"x": (2, 3)}, [loop(inside, ["go", "next"], ["last"])], constants={"trips": (5,)})
    inferred = infer(net)
    assert inferred.tensors["last"].shape == (Symbol("last.0"), 3)
    assert len(inferred.unknowns) == 1
    ranks = [op("Identity", ["cond"], "go"), op("Unsqueeze", ["state", "zero"], "next")]
    net = graph({"x": (2,)}, [loop(ranks, ["go", "next"], ["last"])], constants={"trips": (5,), "zero": (0,)})
    assert infer(net).tensors["last"].shape is None


def test_scan_over_a_chosen_axis() -> None:
    inner = body(
        "body", ["state", "row"], [op("Add", ["state", "row"], "next"), op("Abs", ["next"], "seen")], ["next", "seen"]
    )
    scan = Operator(
        "scan", "Scan", ("s", "x"), ("last", "all"),
        {"num_scan_inputs": 1, "scan_input_axes": (1,), "scan_output_axes": (-1,)}, subgraphs=(inner,),
    )  # fmt: skip
    inferred = infer(graph({"s": (4,), "x": (4, 7)}, [scan]))
    assert inferred.tensors["last"].shape == (4,)
    assert inferred.tensors["all"].shape == (4, 7)


def test_scan_of_operator_set_8_has_a_batch() -> None:
    inner = body(
        "body", ["state", "row"], [op("Add", ["state", "row"], "next"), op("Abs", ["next"], "seen")], ["next", "seen"]
    )
    scan = Operator("scan", "Scan", ("", "s", "x"), ("last", "all"), {"num_scan_inputs": 1}, subgraphs=(inner,))
    inferred = infer(graph({"s": (2, 4), "x": (2, 7, 4)}, [scan], opset=8))
    assert inferred.tensors["last"].shape == (2, 4)
    assert inferred.tensors["all"].shape == (2, 7, 4)


def test_malformed_control_is_unknown() -> None:
    bare = Operator("loop", "Loop", (), ("y",), subgraphs=(body("a", [], [], []), body("b", [], [], [])))
    assert infer(graph({"x": (1,)}, [bare])).tensors["y"].shape is None


# -- sequences ---------------------------------------------------------------------------


def test_what_is_taken_out_of_a_sequence_has_a_shape() -> None:
    steps = [
        op("SplitToSequence", ["x", "parts"], "many", axis=1),
        op("SequenceAt", ["many", "last"], "one"),
        op("SequenceLength", ["many"], "count"),
        op("SequenceInsert", ["many", "x", "first"], "more"),
        op("SequenceErase", ["more", "last"], "fewer"),
        op("ConcatFromSequence", ["fewer"], "y", axis=1),
    ]
    net = graph({"x": (2, 7)}, steps, constants={"parts": (3, 4), "last": (-1,), "first": (0,)})
    inferred = infer(net)
    assert inferred.tensors["one"].shape == (2, 4)
    assert inferred.tensors["count"].values == (2,)
    assert inferred.tensors["y"].shape == (2, 10)
    assert {unknown.operator for unknown in inferred.unknowns} == {"many"}


# -- speed -------------------------------------------------------------------------------


def chain(length: int) -> Graph:
    """Conv, Relu, Add, again and again."""
    tensors = {
        "x": Tensor("x", (1, 64, 56, 56), FLOAT32, "input"),
        "w": Tensor("w", (64, 64, 3, 3), FLOAT32, "constant"),
    }
    window = {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1), "strides": (1, 1), "dilations": (1, 1), "group": 1}
    operators, at = [], "x"
    for step in range(length):
        op_type = ("Conv", "Relu", "Add")[step % 3]
        second = {"Conv": ("w",), "Relu": (), "Add": ("x",)}[op_type]
        made = f"t{step}"
        operators.append(Operator(made, op_type, (at, *second), (made,), window if op_type == "Conv" else {}))
        tensors[made] = Tensor(made, None, FLOAT32)
        at = made
    return Graph("chain", tensors, tuple(operators), ("x",), (at,), opsets={"": 17})


@pytest.mark.slow
def test_a_hundred_thousand_operators_take_seconds() -> None:
    net = chain(100_000)
    begin = time.perf_counter()
    inferred = infer(net)
    assert time.perf_counter() - begin < 5  # about 0.9 s on a desktop
    assert inferred.tensors["t99999"].shape == (1, 64, 56, 56)
