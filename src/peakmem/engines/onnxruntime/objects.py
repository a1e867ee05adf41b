"""What the engine's own structures take: registries, nodes, names, kernels.

No rule of the source but sizes fitted (least squares, none below 0) to the heap after load less all weights: 40 graphs
from 2 to 400 operators at four levels (chains of one or three operators, convolutional networks, transformers,
recurrent and quantised networks; from exporters that write metadata and those that do not), counted with onnxruntime
1.31.1, `arena=off`, one thread. The fit is within 40 kB for nine graphs of ten.
"""

from __future__ import annotations

from peakmem.engines.onnxruntime.file import File
from peakmem.engines.onnxruntime.network import NCHWC, Network

NONE = File()
REGISTRIES = 1_156_593
# operator schemas and kernels; stay when the session goes
SESSION = {"disable": 21_900, "basic": 30_500, "extended": 55_600, "layout": 58_300, "all": 58_300}
# a session without nodes; each level brings its transformers
NODE = 1_784
ATTRIBUTE = 719
# with those that the engine adds by default, see ATTRIBUTES
ATTRIBUTES = {
    "Conv": 6, "FusedConv": 7, "BatchNormalization": 2, "MaxPool": 7, "AveragePool": 6, "Gemm": 4, "FusedGemm": 6,
    "ConvTranspose": 7, "LRN": 4, "Flatten": 1, "Concat": 1, "Softmax": 1, "Reshape": 1, "Transpose": 1,
    "QLinearConv": 6, "LayerNormalization": 3, "QuantizeLinear": 1, "DequantizeLinear": 1, "Gather": 1, "Split": 1,
    "LSTM": 5, "GRU": 5, "QGemm": 3, "SkipLayerNormalization": 1, "FusedMatMul": 5,
}  # fmt: skip
RESULT = 1_081
# a value that is no weight: its name, type and shape
WEIGHT = 1_598
GONE_NODE = 1_464
# what is left of a node that was fused or dropped: names, types, shapes
GONE_WEIGHT = 1_104
BLOCKED = 1_661
# a node in blocks over the one it replaces
QUANTISED = 2_775
# a node on quantised values over others: its packed weights' owner, scales
METADATA = 238
# an entry of a node's metadata, besides its text
THREAD = 48_900
# each thread beyond the first: its queue
PROTO = 1_000
# an operator or a weight as it is parsed, before any other structure
VALUE = 24
# each in the list that a run begins with (OrtValue, core/framework/ort_value.h)
PROTO_ENTRY = 120
# an entry of metadata then, besides its text
FIRST_RUN = 2_300
# of the arena: its first chunks and bins


def objects(network: Network, level: str, threads: int, file_nodes: int, file_weights: int, file: File = NONE) -> int:
    """Bytes of the engine's structures after load."""
    weights = network.weights()
    names = {name for node in network.nodes.values() for name in (*node.inputs, *node.outputs) if name}
    total = REGISTRIES + SESSION[level] + len(weights) * WEIGHT + THREAD * (threads - 1)
    total += RESULT * (len(names) - len(weights))
    for node in network.nodes.values():
        total += NODE + ATTRIBUTE * ATTRIBUTES.get(node.op_type, len(node.attributes))
        total += BLOCKED if node.domain == NCHWC else 0
        total += QUANTISED if node.op_type.startswith("Q") else 0
    total += GONE_NODE * max(0, file_nodes - len(network.nodes))
    total += GONE_WEIGHT * max(0, file_weights - len(weights))
    return total + METADATA * file.metadata_entries + file.metadata_bytes


def frame(network: Network) -> int:
    """Bytes of the list of values that a run begins with and holds to its end (core/framework/execution_frame.cc)."""
    names = {name for node in network.nodes.values() for name in (*node.inputs, *node.outputs) if name}
    return VALUE * len(names | set(network.inputs) | set(network.outputs))
