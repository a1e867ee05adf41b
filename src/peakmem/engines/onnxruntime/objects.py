"""What the engine's own structures take: registries, nodes, names, kernels.

No rule of the source but sizes measured: chains of 2, 40 and 80 operators (Relu; Conv with and without bias; Conv,
BatchNormalization and Relu or Clip; Add), each at four levels, counted with onnxruntime 1.31.1, `arena=on`, one
thread: bytes after load less weights, and the differences between lengths. Names of 15 to 30 characters.
"""

from __future__ import annotations

from peakmem.engines.onnxruntime.network import NCHWC, Network

REGISTRIES = 1_156_593
# operator schemas and kernels; stay when the session goes
SESSION = {"disable": 21_900, "basic": 30_500, "extended": 55_600, "layout": 58_300, "all": 58_300}
# a session without nodes; each level brings its transformers
NODE = 2_970
ATTRIBUTE = 724
# with those that the engine adds by default, see ATTRIBUTES
ATTRIBUTES = {
    "Conv": 6, "FusedConv": 7, "BatchNormalization": 2, "MaxPool": 7, "AveragePool": 6, "Gemm": 4, "FusedGemm": 6,
    "ConvTranspose": 7, "LRN": 4, "Flatten": 1, "Concat": 1, "Softmax": 1, "Reshape": 1, "Transpose": 1,
}  # fmt: skip
WEIGHT = 1_596
GONE_NODE = 1_530
# what is left of a node that was fused or dropped: names, types, shapes
GONE_WEIGHT = 770
FUSED_WEIGHT = 540
BLOCKED = 1_660
# a node in blocks over the one it replaces
THREAD = 48_900
# each thread beyond the first: its queue
PROTO = 1_000
# an operator or a weight as it is parsed, before any other structure
FIRST_RUN = 2_300
# of the arena: its first chunks and bins


def objects(network: Network, level: str, threads: int, file_nodes: int, file_weights: int) -> int:
    """Bytes of the engine's structures after load."""
    weights = len(network.weights())
    total = REGISTRIES + SESSION[level] + weights * WEIGHT + THREAD * (threads - 1)
    for node in network.nodes.values():
        total += NODE + ATTRIBUTE * ATTRIBUTES.get(node.op_type, len(node.attributes))
        total += BLOCKED if node.domain == NCHWC else 0
    total += GONE_NODE * max(0, file_nodes - len(network.nodes)) + GONE_WEIGHT * max(0, file_weights - weights)
    return total + FUSED_WEIGHT * sum(growth.level == "basic" for growth in network.grown)
