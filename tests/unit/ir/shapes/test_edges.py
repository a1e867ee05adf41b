"""What rules refuse, what they leave open, and what is left out: every branch off the usual way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from peakmem.dtypes import BOOL, DTYPES, FLOAT16, FLOAT32, INT32, INT64, STRING, DType
from peakmem.errors import ShapeError, UnboundDimension
from peakmem.ir.dims import Shape, Symbol
from peakmem.ir.graph import Graph, Operator, Tensor
from peakmem.ir.shapes import Unresolved, bind, infer, infer_operator, walk
from peakmem.ir.shapes.call import Call, Specs
from peakmem.ir.shapes.call import rule as register
from peakmem.ir.shapes.facts import NOTHING, Fact
from peakmem.ir.shapes.operators import Fallback

N, M = Symbol("n"), Symbol("m")
ABSENT = Fact(None, None)
# told apart from an input that is there but unknown by being this very object
HIDDEN = Fact(None, INT64)
# an input of which not even the rank is known
MS, ML = "com.microsoft", "ai.onnx.ml"


def floats(*shape: Any) -> Fact:
    return Fact(shape, FLOAT32)


def halves(*shape: Any) -> Fact:
    return Fact(shape, FLOAT16)


def listed(*values: Any, dtype: DType = INT64) -> Fact:
    return Fact((len(values),), dtype, values)


def scalar(value: Any, dtype: DType = INT64) -> Fact:
    return Fact((), dtype, (value,))


def facts_of(
    op_type: str, *facts: Fact, opset: int = 17, outputs: int = 1, domain: str = "", fallback: Fallback | None = None,
    **attributes: Any,
) -> list[Fact]:  # fmt: skip
    names = tuple("" if fact is ABSENT else f"i{position}" for position, fact in enumerate(facts))
    made = tuple(f"o{position}" for position in range(outputs))
    operator = Operator("node", op_type, names, made, attributes, domain)
    opsets: Mapping[str, int] = {"": opset} | ({domain: 1} if domain else {})
    return infer_operator(operator, list(facts), opsets, fallback)


def specs(op_type: str, *facts: Fact, **options: Any) -> list[tuple[Shape | None, DType | None]]:
    return [(fact.shape, fact.dtype) for fact in facts_of(op_type, *facts, **options)]


def shape(op_type: str, *facts: Fact, **options: Any) -> Shape | None:
    return facts_of(op_type, *facts, **options)[0].shape


def values(op_type: str, *facts: Fact, **options: Any) -> tuple[Any, ...] | None:
    return facts_of(op_type, *facts, **options)[0].values


Case = tuple[str, Sequence[Fact], dict[str, Any], str]

CONTRADICTIONS: list[Case] = [
    ("Reshape", [floats(2, 6), listed(2, 6, 0)], {}, "target dimension 2 is 0 .copy., the input has only 2"),
    ("Reshape", [floats(2, 6), listed(-2, -6)], {}, "the target shape -2x-6 has a negative dimension"),
    ("Reshape", [floats(2, 6), Fact((2000,), INT64)], {}, "the output would have 2000 dimensions"),
    ("Flatten", [floats(2, 3, 4)], {"axis": 4}, "axis 4 is outside a shape of rank 3"),
    ("Flatten", [floats(2, 3, 4)], {"axis": -5}, "axis -5 is outside a shape of rank 3"),
    ("Unsqueeze", [floats(2)], {"opset": 13}, "axes are missing"),
    ("Concat", [], {"axis": 0}, "nothing to concatenate"),
    ("Concat", [floats(2), floats(2, 1)], {"axis": 0}, "tensors of different rank cannot be concatenated"),
    ("Split", [floats(6), listed(2, 3)], {"outputs": 2}, "parts of 2x3 do not add up to 6"),
    ("Split", [floats(6), listed(6)], {"outputs": 2}, "1 parts for 2 outputs"),
    ("Pad", [floats(2, 3), listed(0, 1, 0)], {}, "pads has 3 entries, not 4"),
    ("Slice", [floats(5), listed(0), listed(5), listed(0), listed(0)], {}, "a slice step of 0"),
    ("Add", [], {}, "an operator with operands has none"),
    ("GatherND", [floats(2, 3), Fact((4, 3), INT64)], {}, "indices of depth 3 are too deep for a shape of rank 2"),
    ("Gemm", [floats(2, 3, 4), floats(4, 5)], {}, "Gemm multiplies two matrices"),
    ("MatMul", [floats(), floats(3)], {}, "a scalar cannot be multiplied as a matrix"),
    ("Det", [floats(3)], {}, "a determinant needs a matrix"),
    ("Einsum", [floats(2, 3), floats(4, 5)], {"equation": "ij,jk->ik"}, "label 'j' stands for 3 and 4"),
    ("Einsum", [floats(2, 3)], {"equation": "ijk->k"}, "the term 'ijk' does not fit a shape of rank 2"),
    ("Einsum", [floats(2)], {"equation": "i...j->ij"}, "the term 'i...j' does not fit a shape of rank 1"),
    ("GridSample", [floats(1, 3, 8, 8), floats(1, 4, 4, 4, 3)], {}, "a grid of rank 5 cannot sample an image"),
    ("MaxPool", [floats(1, 3, 8, 8)], {"kernel_shape": (2,)}, "a kernel of rank 1 cannot slide over 2 spatial axes"),
    ("MaxPool", [floats(1, 3, 8, 8)], {}, "kernel_shape is missing"),
    ("MaxPool", [floats(1, 3, 8)], {"kernel_shape": (2,), "strides": (0,)}, "a stride of 0 is not positive"),
    ("MaxPool", [floats(1, 3, 8)], {"kernel_shape": (2,), "pads": (1,)}, "pads has 1 entries, not 2"),
    ("Conv", [floats(1, 3, 8), floats(4, 3, 3, 3)], {}, "an input of rank 3 and a kernel of rank 4 do not go together"),
    ("Conv", [floats(1, 3), floats(4, 3)], {}, "an input of rank 2 and a kernel of rank 2 do not go together"),
    ("ConvTranspose", [floats(1, 3, 8), floats(3, 4)], {}, "an input of rank 3 and a kernel of rank 2 do not go"),
]  # fmt: skip


@pytest.mark.parametrize(("op_type", "facts", "options", "message"), CONTRADICTIONS)
def test_contradictions_are_named(op_type: str, facts: Sequence[Fact], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message) as caught:
        facts_of(op_type, *facts, **options)
    assert caught.value.where.startswith(f"operator 'node' ({op_type})")


OPEN: list[Case] = [
    ("Squeeze", [floats(1, 2), HIDDEN], {}, "input 1 .'i1'. is computed while running"),
    ("Unsqueeze", [floats(1, 2), HIDDEN], {}, "input 1 .'i1'. is computed while running"),
    ("Squeeze", [floats(N, 2)], {}, "which dimensions are 1 is not known"),
    ("Expand", [floats(1, 2), HIDDEN], {}, "the target shape is computed while running"),
    ("Slice", [floats(5), HIDDEN, HIDDEN], {}, "how many axes are sliced is computed while running"),
    ("ReduceSum", [floats(2, 3), HIDDEN], {"keepdims": 0}, "input 1 .'i1'. is computed while running"),
    ("GatherND", [floats(2, 3), Fact((4, N), INT64)], {}, "the depth of the indices is not known"),
    ("Range", [scalar(0), scalar(9), scalar(N)], {}, "the step of the range is not known"),
    ("Range", [scalar(0), scalar(9), scalar(0)], {}, "the step of the range is not known"),
    ("Resize", [floats(1, 1, 4, 4)], {}, "neither scales nor sizes are given"),
    ("AffineGrid", [floats(2, N, 3), HIDDEN], {"opset": 20}, "whether the grid is flat or solid is not known"),
    ("Col2Im", [floats(1, 12, 9), HIDDEN, HIDDEN], {"opset": 18}, "the rank of the image is computed while running"),
    ("Relu", [NOTHING], {}, "the shape of input 0 .'i0'. is not known"),
    ("SplitToSequence", [NOTHING], {}, "the shape that is split is not known"),
    ("SplitToSequence", [floats(N)], {}, "how many parts there are is not known"),
    ("SplitToSequence", [floats(6), scalar(0)], {}, "how many parts there are is not known"),
    ("SplitToSequence", [floats(1025)], {}, "how many parts there are is not known"),
    ("SplitToSequence", [floats(1025), listed(*[1] * 1025)], {}, "more than 1024 tensors is not followed"),
    ("SplitToSequence", [floats()], {}, "attributes or inputs do not fit the operator"),
]  # fmt: skip


@pytest.mark.parametrize(("op_type", "facts", "options", "message"), OPEN)
def test_what_only_running_tells(op_type: str, facts: Sequence[Fact], options: dict[str, Any], message: str) -> None:
    with pytest.raises(Unresolved, match=message):
        facts_of(op_type, *facts, **options)


Answer = tuple[str, Sequence[Fact], dict[str, Any], list[tuple[Shape, DType | None]]]

ANSWERS: list[Answer] = [
    # ONNX's own
    ("Reshape", [floats(0, 4), listed(0, -1)], {}, [((0, 0), FLOAT32)]),  # 0 elements before and after
    ("Multinomial", [floats(2, 10)], {"sample_size": 3}, [((2, 3), INT32)]),  # int32 unless told
    ("Multinomial", [floats(2, 10)], {"dtype": 7}, [((2, 1), INT64)]),
    ("Resize", [floats(1, 4), ABSENT, listed(1.0, N, dtype=FLOAT32)], {}, [((1, Symbol("floor(4*n)")), FLOAT32)]),
    ("Resize", [floats(1, N), ABSENT, listed(1.0, 1.5, dtype=FLOAT32)], {}, [((1, Symbol("floor(n*1.5)")), FLOAT32)]),
    ("DFT", [floats(1, 8, 1), scalar(16)], {"onesided": 1}, [((1, 9, 2), FLOAT32)]),  # 16 / 2 + 1
    ("DFT", [floats(1, 8, 1), Fact((), INT64)], {}, [((1, Symbol("o0.1"), 2), FLOAT32)]),
    # One frame as long as the signal, 64 / 2 + 1 frequencies; frames of 16: (64 - 16) / 8 + 1 of them.
    ("STFT", [floats(2, 64, 1), scalar(8)], {}, [((2, 1, 33, 2), FLOAT32)]),
    ("STFT", [floats(2, 64, 1), scalar(8), floats(16)], {"onesided": 0}, [((2, 7, 16, 2), FLOAT32)]),
    ("MaxRoiPool", [floats(1, 3, 16, 16), floats(7, 5)], {"pooled_shape": (2, 4)}, [((7, 3, 2, 4), FLOAT32)]),
    # Fused layers
    ("BiasDropout", [floats(2, 8), floats(8)], {"domain": MS, "outputs": 2}, [((2, 8), FLOAT32), ((2, 8), BOOL)]),
    ("ComplexMul", [floats(3, 1, 2), floats(4, 2)], {"domain": MS}, [((3, 4, 2), FLOAT32)]),
    ("IsAllFinite", [floats(3), floats(4)], {"domain": MS}, [((), BOOL)]),
    ("Unique", [floats(9)], {"domain": MS, "outputs": 3},
     [((Symbol("o0.0"),), FLOAT32), ((9,), INT64), ((Symbol("o0.0"),), INT64)]),
    ("Tokenizer", [Fact((2, 3), STRING)], {"domain": MS}, [((2, 3, Symbol("o0.2")), STRING)]),
    ("GlobalAveragePool", [floats(1, 16, 7, 7)], {"domain": "com.microsoft.nchwc"}, [((1, 16, 1, 1), FLOAT32)]),
    ("ConvTransposeWithDynamicPads", [floats(1, 8, 5, 5), floats(8, 4, 3, 3), Fact((4,), INT64)], {"domain": MS},
     [((1, 4, Symbol("o0.2"), Symbol("o0.3")), FLOAT32)]),
    # (5 - 1) * 1 + (3 - 1) * 1 + 1 - 1 - 1 = 5
    ("ConvTransposeWithDynamicPads", [floats(1, 8, 5, 5), floats(8, 4, 3, 3), listed(1, 1, 1, 1)], {"domain": MS},
     [((1, 4, 5, 5), FLOAT32)]),
    # Quantized
    ("GemmFloat8", [floats(3, 2), floats(4, 3)], {"domain": MS, "dtype": 10, "transA": 1, "transB": 1},
     [((2, 4), FLOAT16)]),
    ("MatMulNBitsQkv", [halves(1, 5, 64)], {"domain": MS, "Nq": 64, "Nkv": 16, "outputs": 3},
     [((1, 5, 64), FLOAT16), ((1, 5, 16), FLOAT16), ((1, 5, 16), FLOAT16)]),
    ("GatherBlockQuantized", [Fact((10, 32), DTYPES["uint4"]), Fact((3,), INT64), halves(10, 1)], {"domain": MS},
     [((3, 32), FLOAT16)]),
    # Classical
    ("LabelEncoder", [Fact((4,), STRING)], {"domain": ML, "classes_strings": ("a",)}, [((4,), INT64)]),
    ("LabelEncoder", [Fact((4,), INT64)], {"domain": ML, "classes_strings": ("a",)}, [((4,), STRING)]),
    ("LinearClassifier", [floats(5, 3)], {"domain": ML, "outputs": 2},
     [((5,), INT64), ((5, Symbol("o1.1")), FLOAT32)]),
]  # fmt: skip


@pytest.mark.parametrize(("op_type", "facts", "options", "want"), ANSWERS)
def test_answers(
    op_type: str, facts: Sequence[Fact], options: dict[str, Any], want: list[tuple[Shape, DType | None]]
) -> None:
    assert specs(op_type, *facts, **options) == want


# -- attention: batch 2, 4 heads of size 8 unless said otherwise ---------------------------

GROUPED = {"num_heads": 4, "kv_num_heads": 2}
QUERY = halves(1, 4, 5, 8)
ATTENTION: list[Answer] = [
    ("GemmaRotaryEmbedding", [floats(1, 5, 8), QUERY, QUERY, halves(1, 2, 5, 8), halves(1, 2, 5, 8)], {"outputs": 2},
     [((1, 4, 5, 8), FLOAT16), ((1, 2, 5, 8), FLOAT16)]),
    ("Attention", [floats(2, 7, 32), floats(32, 96), floats(96)], {"num_heads": 4, "outputs": 2},
     [((2, 7, 32), FLOAT32), ((2, 2, 4, 7, 8), FLOAT32)]),
    ("Attention", [floats(2, 7, 32), floats(32, 96), floats(96), ABSENT, floats(2, 2, 4, 3, 8)],
     {"num_heads": 4, "outputs": 2}, [((2, 7, 32), FLOAT32), ((2, 2, 4, 10, 8), FLOAT32)]),
    ("Attention", [floats(2, 7, 32), floats(32, 96), floats(96), ABSENT, floats(2, 2, 4, 99, 8)],
     {"num_heads": 4, "outputs": 2, "past_present_share_buffer": 1},
     [((2, 7, 32), FLOAT32), ((2, 2, 4, 99, 8), FLOAT32)]),
    ("MultiHeadAttention", [floats(2, 5, 96)], {"num_heads": 4}, [((2, 5, 32), FLOAT32)]),
    ("GroupQueryAttention", [floats(2, 5, 32), floats(2, 5, 16), floats(2, 5, 16)], GROUPED, [((2, 5, 32), FLOAT32)]),
    ("SparseAttention", [floats(2, 6, 32), floats(2, 6, 16), floats(2, 6, 16), halves(2, 2, 64, 8),
     halves(2, 2, 64, 8)], GROUPED | {"outputs": 3},
     [((2, 6, 32), FLOAT32), ((2, 2, 64, 8), FLOAT16), ((2, 2, 64, 8), FLOAT16)]),
    # Packed: 4 heads of queries and 2 each of keys and values, of size 8, side by side are 64.
    ("SparseAttention", [floats(2, 6, 64), ABSENT, ABSENT, halves(2, 2, 64, 8), halves(2, 2, 64, 8)],
     GROUPED | {"outputs": 1}, [((2, 6, 32), FLOAT32)]),
    ("PackedMultiHeadAttention", [floats(9, 32), floats(9, 32), floats(9, 48)], {"num_heads": 4},
     [((9, 48), FLOAT32)]),
    ("PackedMultiHeadAttention", [floats(9, 4, 3, 8)], {"num_heads": 4}, [((9, 32), FLOAT32)]),
    ("GatedRelativePositionBias", [floats(2, 6, 32)], {"num_heads": 4}, [((2, 4, 6, 6), FLOAT32)]),
    # 9 tokens without padding; the offsets of all 2 × 6 say how it was.
    ("GatedRelativePositionBias", [floats(9, 32), *[floats(1)] * 5, Fact((2, 6), INT32)], {"num_heads": 4},
     [((2, 4, 6, 6), FLOAT32)]),
    ("RemovePadding", [floats(2, 6, 32), Fact((2,), INT32)], {"outputs": 4},
     [((Symbol("o0.0"), 32), FLOAT32), ((2, 6), INT32), ((3,), INT32), ((1,), INT32)]),
]  # fmt: skip


@pytest.mark.parametrize(("op_type", "facts", "options", "want"), ATTENTION)
def test_attention(
    op_type: str, facts: Sequence[Fact], options: dict[str, Any], want: list[tuple[Shape, DType | None]]
) -> None:
    assert specs(op_type, *facts, domain=MS, **options) == want


# -- contents ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op_type", "facts", "options", "want"),
    [
        ("Size", [Fact(None, FLOAT32)], {}, None),
        ("Equal", [listed(N, 3), listed(N, 3)], {}, (True, True)),
        ("Slice", [listed(10, 20, 30)], {"opset": 9, "starts": (1,), "ends": (3,)}, (20, 30)),
        ("Slice", [listed(10, 20), listed(), listed()], {}, (10, 20)),  # no axis is sliced
        ("Cast", [listed(True, False, dtype=BOOL)], {"to": "int64"}, (1, 0)),
        ("Add", [listed(None), listed(1)], {}, None),  # what is not a number is not followed
        ("Add", [listed(N, 2.0), listed(1, 1)], {}, (Symbol("(n+1)"), 3)),
        ("Gather", [Fact((2, 2), STRING, ("a", "b", "c", "d")), listed(1)], {}, ("c", "d")),
        # A number is picked, a symbol leaves a name.
        ("Max", [listed(N, 3, N), listed(N, 5, 2)], {}, (N, 5, Symbol("max(n,2)"))),
        ("Min", [listed(N, 3, N), listed(N, 5, 2)], {}, (N, 3, Symbol("min(n,2)"))),
        # Whole numbers are divided towards zero: -7 / 2 = -3.5, 7 / -2 = -3.5.
        ("Div", [Fact((1, 4), INT64, (N, -7, 7, N)), Fact((1, 4), INT64, (1, 2, -2, N))], {}, (N, -3, -3, 1)),
        ("Div", [Fact((1, 2), INT64, (N, 1)), Fact((1, 2), INT64, (2, 0))], {}, None),
        ("Div", [listed(N, 7.0, N, dtype=FLOAT32), listed(2.0, 2.0, 1.0, dtype=FLOAT32)], {},
         (Symbol("(n/2)"), 3.5, N)),
        # A cast to whole numbers cuts off fractions, among symbols too; to floats it keeps them.
        ("Cast", [listed(N, -2.5, 2.5, dtype=FLOAT32)], {"to": "int64"}, (N, -2, 2)),
        ("Cast", [listed(N, 2.5, dtype=FLOAT32)], {"to": "float64"}, (N, 2.5)),
        ("Cast", [listed(N, 2.5, dtype=FLOAT32)], {"to": "unheard of"}, None),
        # Before operator set 7 the second operand could stand along `axis`: not as NumPy has it.
        ("Add", [Fact((2, 2), INT64, (1, 2, 3, 4)), listed(10, 20)], {"opset": 6, "broadcast": 1, "axis": 0}, None),
        ("Add", [Fact((2, 2), INT64, (1, 2, 3, 4)), listed(10, 20)], {"opset": 6, "broadcast": 1}, (11, 22, 13, 24)),
        ("Add", [listed(1.0, dtype=FLOAT32), listed(1.0, 2.0, dtype=FLOAT32)], {"opset": 6, "broadcast": 1}, None),
    ],
)  # fmt: skip
def test_contents(op_type: str, facts: Sequence[Fact], options: dict[str, Any], want: tuple[Any, ...] | None) -> None:
    assert values(op_type, *facts, **options) == want


# -- sequences ---------------------------------------------------------------------------


def sequence(*elements: Fact) -> Fact:
    return Fact(None, None, None, elements)


MIXED = sequence(floats(1, 2), floats(3, 2))


@pytest.mark.parametrize("position", [Fact((), INT64), Fact(None, None), scalar(2), scalar(-3)])
def test_an_element_at_an_unknown_position(position: Fact) -> None:
    unknown = Fact(position.shape, position.dtype, position.values)  # never ABSENT itself
    for op_type, given in (("SequenceAt", [unknown]), ("SequenceErase", [unknown])):
        with pytest.raises(Unresolved, match="which element is meant"):
            facts_of(op_type, MIXED, *given)
    alike = sequence(Fact((2,), INT64, (1, 2)), Fact((2,), INT64, (3, 4)))
    # Whichever it is, its shape is the same; its contents are not.
    assert facts_of("SequenceAt", alike, unknown) == [Fact((2,), INT64)]
    with pytest.raises(Unresolved, match="which element is meant"):
        facts_of("SequenceAt", sequence(), unknown)


def test_elements_put_in_and_taken_out() -> None:
    more = floats(9, 2)
    (end,), (front,) = facts_of("SequenceInsert", MIXED, more), facts_of("SequenceInsert", MIXED, more, scalar(0))
    assert end.elements == (floats(1, 2), floats(3, 2), more)
    assert front.elements == (more, floats(1, 2), floats(3, 2))
    with pytest.raises(Unresolved, match="which element is meant"):
        facts_of("SequenceInsert", MIXED, more, Fact(None, None))
    (fewer,) = facts_of("SequenceErase", MIXED)
    assert fewer.elements == (floats(1, 2),)
    assert facts_of("SequenceErase", MIXED, ABSENT) == [fewer]
    assert specs("ConcatFromSequence", MIXED, axis=0) == [((4, 2), FLOAT32)]  # 1 + 3 rows
    for bad in (sequence(), sequence(floats(2), Fact(None, FLOAT32))):
        with pytest.raises(Unresolved, match="the shapes in the sequence are not known"):
            facts_of("ConcatFromSequence", bad, axis=0)


# -- one operator ------------------------------------------------------------------------


def test_an_operator_without_outputs_makes_nothing() -> None:
    assert facts_of("Relu", floats(2), outputs=0) == []


def test_two_rules_for_one_operator_are_refused() -> None:
    with pytest.raises(ValueError, match="two shape rules for Add"):
        register("Add")(lambda call: [(call.shape(), call.dtype())])


def test_the_fallback_is_asked_when_a_rule_cannot_tell() -> None:
    def cannot(_: Call, __: Mapping[str, int]) -> Specs | None:
        raise Unresolved("nor can this one")

    def silent(_: Call, __: Mapping[str, int]) -> Specs | None:
        return None

    def named(_: Call, __: Mapping[str, int]) -> Specs | None:
        return [((N, Symbol("its own name"), 3), FLOAT32)]

    def nothing(_: Call, __: Mapping[str, int]) -> Specs | None:
        return [(None, FLOAT32)]

    image = floats(N, 1)
    for fallback in (cannot, silent):
        with pytest.raises(Unresolved, match="neither scales nor sizes are given"):
            facts_of("Resize", image, fallback=fallback)
    # A symbol of the input is kept, another one gets the name that --dim takes.
    assert shape("Resize", image, fallback=named) == (N, Symbol("o0.1"), 3)
    assert specs("Resize", image, fallback=nothing) == [(None, FLOAT32)]
    # With an input unknown the cause lies elsewhere, and the fallback is not asked.
    with pytest.raises(Unresolved, match="the shape of input 0"):
        facts_of("Relu", NOTHING, fallback=named)


# -- graphs ------------------------------------------------------------------------------


def net(
    inputs: Mapping[str, Shape | None], operators: Sequence[Operator], *constants: Tensor, name: str = "net",
    outputs: Sequence[str] = (),
) -> Graph:  # fmt: skip
    tensors = {key: Tensor(key, dims, FLOAT32, "input") for key, dims in inputs.items()}
    tensors.update({tensor.name: tensor for tensor in constants})
    for operator in operators:
        tensors.update({made: Tensor(made) for made in operator.outputs if made})
    return Graph(name, tensors, tuple(operators), tuple(inputs), tuple(outputs), opsets={"": 17})


def op(op_type: str, inputs: Sequence[str], *outputs: str, **attributes: Any) -> Operator:
    return Operator(outputs[0], op_type, tuple(inputs), outputs, attributes)


def constant(name: str, *content: Any, dtype: DType = INT64) -> Tensor:
    return Tensor(name, (len(content),), dtype, "constant", values=content)


def test_an_input_without_a_shape() -> None:
    graph = net({"x": None}, [op("Relu", ["x"], "y")])
    with pytest.raises(UnboundDimension, match="input 'x' has no shape in the file"):
        infer(graph)
    assert bind(graph, {}, {"n": 3}).tensors["x"].shape is None
    assert infer(bind(graph, {"x": (2, 3)}, {})).tensors["y"].shape == (2, 3)


def test_a_result_the_file_does_not_list() -> None:
    graph = net({"x": (2, 3)}, [op("Relu", ["x"], "y")])
    bare = Graph("bare", {"x": graph.tensors["x"]}, graph.operators, ("x",), ("y",), opsets={"": 17})
    made = infer(bare).tensors["y"]
    assert (made.shape, made.dtype, made.role) == ((2, 3), FLOAT32, "activation")


def test_long_contents_are_followed_only_until_so_many_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    operators = [
        op("ConstantOfShape", ["many"], "long"), op("Identity", ["long"], "copy"), op("Identity", ["many"], "few"),
    ]  # fmt: skip
    graph = net({}, operators, constant("many", 100))
    assert infer(graph).tensors["copy"].values == (0,) * 100
    monkeypatch.setattr(walk, "MOST_VALUES", 99)
    short = infer(graph)
    assert (short.tensors["copy"].shape, short.tensors["copy"].values) == ((100,), None)
    assert short.tensors["few"].values == (100,)


def test_a_branch_with_too_few_results() -> None:
    then = net({}, [op("Relu", ["x"], "t")], name="then_branch", outputs=["t"])
    other = net({}, [op("Abs", ["x"], "e")], name="else_branch", outputs=["e"])
    choice = Operator("if", "If", ("c",), ("y", "z"), subgraphs=(then, other))
    done = infer(net({"x": (2, 3), "c": (1,)}, [choice]))
    assert (done.tensors["y"].shape, done.tensors["z"].shape) == ((2, 3), None)


def loop(
    state: Sequence[Operator], *, condition: str = "", declared: Shape | None = None, outputs: tuple[str, ...] = ("y",)
) -> Operator:
    """A loop over one state `s` that becomes `next`; with a second output, `next` of each turn is collected."""
    inner = net({"turn": (), "go": (), "s": declared}, state, name="body", outputs=["go", "next", "next"])
    return Operator("loop", "Loop", ("trips", condition, "x"), outputs, subgraphs=(inner,))


def test_a_state_that_opens_a_dimension_a_turn_is_given_up() -> None:
    # The sizes move on by one axis each turn, and the first grows by one: every turn opens one more.
    turn = [op("Transpose", ["s"], "moved", perm=(5, 0, 1, 2, 3, 4)), op("Pad", ["moved", "pads"], "next")]
    graph = net({"x": (2,) * 6}, [loop(turn)], constant("trips", 3), constant("pads", 1, *[0] * 11))
    done = infer(graph)
    assert done.tensors["y"].shape is None
    assert "Loop" in [unknown.op_type for unknown in done.unknowns]


def test_how_often_a_loop_runs_depends_on_its_condition() -> None:
    def turns(condition: str) -> Shape | None:
        operators = [op("Mystery", ["x"], "odd"), loop([op("Relu", ["s"], "next")], condition=condition,
                                                      outputs=("y", "all"))]  # fmt: skip
        yes, no = constant("yes", True, dtype=BOOL), constant("no", False, dtype=BOOL)
        return infer(net({"x": (2,), "c": ()}, operators, constant("trips", 3), yes, no)).tensors["all"].shape

    assert turns("") == turns("yes") == (3, 2)
    # A condition that is there but not known, whatever made it, may end the loop at any turn.
    assert turns("no") == turns("c") == turns("odd") == (Symbol("all.0"), 2)


def test_a_state_unknown_outside_has_the_shape_its_body_declares() -> None:
    operators = [op("Mystery", ["w"], "x"), loop([op("Relu", ["s"], "next")], declared=(4, 5))]
    graph = net({"w": (2,)}, operators, constant("trips", 3))
    (done,) = infer(graph).operators[1].subgraphs
    assert done.tensors["next"].shape == (4, 5)
    (doubted,) = infer(graph, trust_declared=False).operators[1].subgraphs
    assert doubted.tensors["next"].shape is None


def test_loops_with_too_much_work_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = net({"x": (2,)}, [loop([op("Relu", ["s"], "next")])], constant("trips", 3))
    assert infer(graph).tensors["y"].shape == (2,)
    monkeypatch.setattr(walk, "MOST_WORK", -1000)
    (unknown,) = infer(graph).unknowns
    assert unknown.reason.startswith("loops that hold loops")


def test_a_scan_over_what_is_not_known() -> None:
    inner = net({"s": None, "e": None}, [op("Add", ["s", "e"], "next")], name="body", outputs=["next", "next"])
    scan = Operator("scan", "Scan", ("x", "odd"), ("last", "all"), {"num_scan_inputs": 1}, subgraphs=(inner,))
    done = infer(net({"x": (2,)}, [op("Mystery", ["x"], "odd"), scan]))
    assert (done.tensors["last"].shape, done.tensors["all"].shape) == (None, None)
