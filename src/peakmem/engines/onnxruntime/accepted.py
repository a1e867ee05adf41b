"""What ONNX Runtime refuses before it runs anything, as far as the rules here rely on it.

Operands by the operators' schemas (onnx/defs, opset 23, and contrib_defs.cc); "has input size 1 not in range [min=2,
max=2]" is what onnxruntime 1.31.1 says of one too few. Ranks by its shape inference (onnx/defs/rnn/defs.cc,
RNNShapeInference) and by the kernels' own checks (core/providers/cpu/rnn/rnn_helpers.cc, ValidateCommonRnnInputs).
"""

from __future__ import annotations

from peakmem.errors import GraphError
from peakmem.ir.graph import Graph, Operator

TWO = (
    "Add And Conv ConvTranspose DequantizeLinear Div Equal Expand Gather Gemm Greater GreaterOrEqual GridSample "
    "LayerNormalization Less LessOrEqual MatMul MatMulInteger Mod Mul Or PRelu Pow QuantizeLinear Sub Tile Xor"
)
OPERANDS = {
    **dict.fromkeys(TWO.split(), 2), "BatchNormalization": 5, "GRU": 3, "InstanceNormalization": 3, "LSTM": 3,
    "OneHot": 3, "QLinearConv": 8, "QLinearMatMul": 8, "RNN": 3, "Range": 3, "ScatterND": 3, "Where": 3,
    "Attention": 2, "BiasGelu": 2, "DynamicQuantizeMatMul": 3, "FusedConv": 2, "FusedGemm": 2, "FusedMatMul": 2,
    "MatMulIntegerToFloat": 4, "QGemm": 6, "QLinearAdd": 7, "QLinearConcat": 5, "QLinearGlobalAveragePool": 4,
    "QLinearMul": 7, "SkipLayerNormalization": 3,
}  # fmt: skip
# at least; another operator with a rule has one, and these have none
NONE = frozenset({"Constant", "If", "Loop", "Optional", "RandomNormal", "RandomUniform", "Scan", "SequenceEmpty"})
RESULTS = {"DynamicQuantizeLinear": 3}
RANKS = {"LSTM": (3, 3, 3), "GRU": (3, 3, 3), "RNN": (3, 3, 3)}
# of operands whose size is known


def check(graph: Graph, known: frozenset[str]) -> None:
    """Refuse what the engine refuses.

    Args:
        graph: as it was read.
        known: operators with a rule, by type; others are left to the engine.

    Raises:
        GraphError: an operator lacks an operand or a result, or one has another rank than it must have.
    """
    for operator in graph.operators:
        if operator.op_type in known or operator.op_type in OPERANDS:
            _check(operator, graph)
        for body in operator.subgraphs:
            check(body, known)


def _check(operator: Operator, graph: Graph) -> None:
    kind = operator.op_type
    wanted = OPERANDS.get(kind, 0 if kind in NONE else 1)
    given = operator.inputs[:wanted]
    if len(given) < wanted or (not operator.domain and "" in given):
        raise GraphError(f"ONNX Runtime refuses {kind} with fewer than {wanted} operands", where=operator.name)
    least = RESULTS.get(kind, 1)
    if len(operator.outputs) < least or not any(operator.outputs):
        raise GraphError(f"ONNX Runtime refuses {kind} with fewer than {least} results", where=operator.name)
    for name, rank in zip(operator.inputs, RANKS.get(kind, ()), strict=False):
        tensor = graph.tensors.get(name)
        if tensor is not None and tensor.shape is not None and len(tensor.shape) != rank:
            raise GraphError(
                f"ONNX Runtime refuses {kind} with {len(tensor.shape)} dimensions of {name!r}", where=operator.name,
                expected=f"{rank}",
            )  # fmt: skip
