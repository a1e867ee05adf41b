"""What the optimiser makes of a graph at each level, as far as it moves memory.

Rules as onnxruntime 1.31.1 shows them in the models it writes (`SessionOptions.optimized_model_filepath`), read beside
onnxruntime/core/optimizer/: conv_bn_fusion.cc, conv_add_fusion.cc, conv_mul_fusion.cc, conv_activation_fusion.cc,
gemm_activation_fusion.cc, matmul_add_fusion.cc,
matmul_transpose_fusion.cc, quick_gelu_fusion.cc, identity_elimination.cc, dropout_elimination.cc.
"""

from __future__ import annotations

from math import prod

from peakmem.engines.onnxruntime import layout
from peakmem.engines.onnxruntime.network import MICROSOFT, Growth, Network, Node, Value

LEVELS = ("disable", "basic", "extended", "layout", "all")
CONV_ACTIVATIONS: frozenset[str] = frozenset(
    {"Relu", "Sigmoid", "Tanh", "LeakyRelu", "Clip", "HardSigmoid", "HardSwish"}
)
# conv_activation_fusion.cc; Clip with constant bounds
GEMM_ACTIVATIONS: frozenset[str] = frozenset(
    {"Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "Elu", "Softplus", "Softsign"}
)
# gemm_activation_fusion.cc
UNREAD = ("LayerNormalization", "Attention", "Gelu", "Erf", "SimplifiedLayerNormalization", "Pad", "QuantizeLinear")
# operators at whose place the optimiser does more than is modelled here


def optimise(network: Network, level: str, block: int) -> None:
    """Rewrite `network` in place as `level` does; `block` channels form a block of the layout, 0 for none."""
    rank = LEVELS.index(level)
    if rank < LEVELS.index("layout"):
        expand(network)
    if rank >= LEVELS.index("basic"):
        eliminate(network)
        fold_into_convolutions(network)
        matmul_add(network)
        matmul_transpose(network)
    if rank >= LEVELS.index("extended"):
        activations(network)
        expand(network)
        quick_gelu(network)
    if rank >= LEVELS.index("layout") and block:
        layout.transform(network, block)


def expand(network: Network) -> None:
    """HardSwish, which has no kernel, becomes HardSigmoid and Mul.

    1.31.1 fuses it into convolutions at `layout` and `all` alone; below them, and elsewhere, it is written out.
    """
    for node in network.order():
        value = network.values.get(node.outputs[0])
        if not node.is_op("HardSwish") or value is None:
            continue
        inner = network.new_value("hard_sigmoid", value.shape, value)
        network.add("HardSigmoid", [node.inputs[0]], [inner.name], name=node.name)
        network.add("Mul", [node.inputs[0], inner.name], node.outputs, name=node.name)
        network.remove(node)


def eliminate(network: Network) -> None:
    """Identity and Dropout without a mask; one whose input is no result and whose output is none."""
    for node in network.order():
        if not node.is_op("Identity", "Dropout") or any(network.readers(name) for name in node.outputs[1:] if name):
            continue
        source, result = node.inputs[0], node.outputs[0]
        if result in network.outputs:
            maker = next((one for one in network.nodes.values() if source in one.outputs), None)
            if maker is None or source in network.outputs or len(network.readers(source)) > 1:
                continue
            maker.outputs[maker.outputs.index(source)] = result
        else:
            for reader in network.readers(result):
                reader.inputs = [source if name == result else name for name in reader.inputs]
        network.remove(node)


def fold_into_convolutions(network: Network) -> None:
    """BatchNormalization, and Mul or Add with a constant per channel, behind a convolution read by nothing else."""
    changed = True
    while changed:
        changed = False
        for node in network.order():
            if node.number in network.nodes and node.is_op("Conv"):
                changed |= _fold_next(network, node)


def _fold_next(network: Network, conv: Node) -> bool:
    readers = network.readers(conv.outputs[0])
    weight = network.weight(conv.inputs[1])
    if len(readers) != 1 or conv.outputs[0] in network.outputs or weight is None or not weight.is_float:
        return False
    if len(conv.inputs) > 2 and conv.inputs[2] and network.weight(conv.inputs[2]) is None:
        return False
    after, channels = readers[0], weight.shape[0]
    scales, shifts = True, True
    if after.is_op("BatchNormalization"):
        trains = len([name for name in after.outputs if name]) > 1
        if trains or any(network.weight(name) is None for name in after.inputs[1:]):
            return False
    elif after.is_op("Mul", "Add"):
        other = next((network.weight(name) for name in after.inputs if name != conv.outputs[0]), None)
        if other is None or not _per_channel(other, channels, len(weight.shape)):
            return False
        scales, shifts = after.op_type == "Mul", after.op_type == "Add" or len(conv.inputs) > 2
    else:
        return False
    if scales:
        _replace(network, conv, 1, weight.shape, weight)
    if shifts:
        _replace(network, conv, 2, (channels,), weight)
    conv.outputs = [after.outputs[0]]
    network.remove(after)
    return True


def _per_channel(other: Value, channels: int, rank: int) -> bool:
    """Of shape (C, 1, 1) or (1, C, 1, 1)."""
    shape = other.shape[1:] if len(other.shape) == rank and other.shape[:1] == (1,) else other.shape
    return len(shape) == rank - 1 and shape[0] == channels and other.count == channels


def _replace(network: Network, conv: Node, place: int, shape: tuple[int, ...], like: Value) -> None:
    made = network.new_value("fused", shape, like, constant=True)
    while len(conv.inputs) <= place:
        conv.inputs.append("")
    before = network.weight(conv.inputs[place]) if conv.inputs[place] else None
    conv.inputs[place] = made.name
    source, outside = before or made, before is not None and before.outside
    network.grown.append(Growth("basic", source.nbytes, made.nbytes, conv.name, outside))


def matmul_add(network: Network) -> None:
    """MatMul with a matrix and an Add of a vector become Gemm; of more than two axes, between two Reshapes."""
    for node in network.order():
        if not node.is_op("MatMul") or node.outputs[0] in network.outputs:
            continue
        readers = network.readers(node.outputs[0])
        left, right = network.values.get(node.inputs[0]), network.values.get(node.inputs[1])
        if len(readers) != 1 or not readers[0].is_op("Add") or left is None or right is None:
            continue
        if len(left.shape) < 2 or len(right.shape) != 2:
            continue
        add = readers[0]
        other = next((name for name in add.inputs if name != node.outputs[0]), "")
        bias = network.values.get(other)
        if bias is None or bias.shape not in ((right.shape[1],), (1, right.shape[1])):
            continue
        rows = prod(left.shape[:-1])
        source, result = node.inputs[0], add.outputs[0]
        if len(left.shape) > 2:
            source = network.new_value("gemm_input", (rows, left.shape[-1]), left).name
            result = network.new_value("gemm_output", (rows, right.shape[1]), left).name
            _reshape(network, node.inputs[0], source, 2)
        network.add("Gemm", [source, node.inputs[1], other], [result], attributes={"transB": 0}, name=node.name)
        if len(left.shape) > 2:
            _reshape(network, result, add.outputs[0], len(left.shape))
        network.remove(node)
        network.remove(add)


def _reshape(network: Network, source: str, result: str, rank: int) -> None:
    shape = network.new_value("gemm_shape", (rank,), Value("", (), 64, "int"), constant=True)
    network.add("Reshape", [source, shape.name], [result], name=f"reshape of {source}")


def matmul_transpose(network: Network) -> None:
    """A Transpose of the last two axes goes into the matrix product that alone reads it."""
    for node in network.order():
        if not node.is_op("MatMul"):
            continue
        for place in (0, 1):
            maker = next((one for one in network.nodes.values() if node.inputs[place] in one.outputs), None)
            if maker is None or not maker.is_op("Transpose") or len(network.readers(maker.outputs[0])) > 1:
                continue
            rank = len(network.values[maker.inputs[0]].shape)
            turned = (*range(rank - 2), rank - 1, rank - 2)
            if maker.outputs[0] in network.outputs or tuple(maker.attributes.get("perm", ())) != turned:
                continue
            node.inputs[place] = maker.inputs[0]
            node.op_type, node.domain = "FusedMatMul", MICROSOFT
            node.attributes[f"trans{'AB'[place]}"] = 1
            network.remove(maker)


def activations(network: Network) -> None:
    """An activation behind a convolution or a Gemm that nothing else reads goes into a new, fused node."""
    kinds = {"Conv": (CONV_ACTIVATIONS, "FusedConv"), "Gemm": (GEMM_ACTIVATIONS, "FusedGemm")}
    for node in network.order():
        if node.domain or node.op_type not in kinds:
            continue
        fitting, fused = kinds[node.op_type]
        readers = network.readers(node.outputs[0])
        value = network.values.get(node.outputs[0])
        if len(readers) != 1 or node.outputs[0] in network.outputs or value is None or not value.is_float:
            continue
        after = readers[0]
        if not after.is_op(*fitting) or any(network.weight(name) is None for name in after.inputs[1:] if name):
            continue
        made = network.add(fused, node.inputs, after.outputs, MICROSOFT, node.attributes, node.name)
        made.activation = after.op_type
        network.remove(node)
        network.remove(after)


def quick_gelu(network: Network) -> None:
    """x * sigmoid(x) becomes one node, also as x * sigmoid(a * x)."""
    for node in network.order():
        if node.number not in network.nodes or not node.is_op("Sigmoid") or node.outputs[0] in network.outputs:
            continue
        readers = network.readers(node.outputs[0])
        if len(readers) != 1 or not readers[0].is_op("Mul"):
            continue
        source, scale = node.inputs[0], None
        maker = next((one for one in network.nodes.values() if source in one.outputs), None)
        if maker is not None and maker.is_op("Mul") and len(network.readers(source)) == 1:
            inner = [name for name in maker.inputs if network.weight(name) is None]
            if len(inner) == 1 and inner[0] in readers[0].inputs:
                source, scale = inner[0], maker
        if sorted(readers[0].inputs) != sorted([source, node.outputs[0]]):
            continue
        network.add("QuickGelu", [source], readers[0].outputs, MICROSOFT, name=readers[0].name)
        for gone in (node, readers[0], *([scale] if scale else [])):
            network.remove(gone)
