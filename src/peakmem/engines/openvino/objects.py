"""Bytes of OpenVINO's own structures: nodes, tables, kernels that are written for each shape.

Nothing of it is known from the source. The figures are slopes, fitted to the seven networks of the rules and fourteen
made ones of one to twenty alike or unlike layers, measured with 2026.4.1, one thread, x86-64 with AVX-512: within 3 %
of all for the seven. What is left over is the residual that the profile states.
"""

from __future__ import annotations

from dataclasses import dataclass

from peakmem.engines.openvino.network import Network
from peakmem.ir.graph import Graph

READ_BASE, READ_OPERATOR, READ_CONSTANT, READ_BIASED, READ_GROUPED = 782_000, 3_000, 2_200, 24_000, 21_500
# alive when the model is read: the importer's tables, nodes; a bias and groups are written with several nodes
PARSED_BASE, PARSED_ENTRY = 750_000, 1_000
# more while it is read: the parsed file's structures
TABLES = 720_000
# of READ_BASE, what stays when the model goes
TRANSFORMING, TRANSFORMING_NODE = 5_887_000, 12_000
# while the model is rewritten: passes and their patterns; gone when it is compiled
DROPPED = 0.6
# of the model's nodes, the part that is alive at the worst moment besides the compiled ones
FINISHING = 23_000
# more at the worst moment of compiling than at its end
THREADS = 190_000
# of a second thread's executor and working memory; a third adds little
STREAM_NODE = 48_000
# a node of a further stream, whose kernels are the first one's: two networks
REQUEST = 3_000
# of an inference request beside its tensors
UNFITTED, UNFITTED_NEXT = 500_000, 120_000
# at most, of the first and of each further product of several rows (at half precision), one-dimensional or transposed
# convolution; made networks with 1 to 18 of them lacked 0.2 to 2.4 MB in all
RUNNING = 2_900
# while it runs


@dataclass(frozen=True, slots=True)
class Slopes:
    """Bytes of what is compiled, at one type of inference."""

    base: int
    convolution: int
    unlike: int
    # more for a convolution of sizes that no other has: a kernel of its own
    node: int
    # any other


FLOAT = Slopes(920_000, 50_000, 121_000, 49_000)
HALF = Slopes(870_000, 61_000, 125_000, 55_000)
# with a conversion beside each bias


def read_objects(graph: Graph) -> int:
    """Structures of the model as it was read."""
    constants = sum(tensor.role == "constant" for tensor in graph.tensors.values())
    weighted = [one for one in graph.operators if one.op_type in ("Conv", "ConvTranspose", "Gemm")]
    biased = sum(len(one.inputs) > 2 and one.inputs[2] != "" for one in weighted)
    grouped = sum(int(one.attributes.get("group", 1)) > 1 for one in weighted)
    found = READ_BASE + READ_OPERATOR * len(graph.operators) + READ_CONSTANT * constants
    return found + READ_BIASED * biased + READ_GROUPED * grouped


def parsed_objects(graph: Graph) -> int:
    """Structures of the file while it is read, besides those of the model."""
    constants = sum(tensor.role == "constant" for tensor in graph.tensors.values())
    return PARSED_BASE + PARSED_ENTRY * (len(graph.operators) + constants)


def compiled_objects(graph: Graph, made: Network, *, half: bool) -> int:
    """Structures and kernels of the compiled model."""
    slopes = HALF if half else FLOAT
    operators = {one.name: one for one in graph.operators}
    kinds = set()
    convolutions = 0
    for node in made.nodes:
        if node.op_type not in ("Conv", "ConvTranspose"):
            continue
        convolutions += 1
        one = operators[node.name]
        shapes = tuple(graph.tensors[name].shape for name in (*one.inputs[:2], one.outputs[0]))
        kinds.add((shapes, str(one.attributes.get("strides")), tuple(node.fused)))
    others = len(made.nodes) - convolutions
    return slopes.base + slopes.convolution * convolutions + slopes.unlike * len(kinds) + slopes.node * others
