"""What the optimiser makes of a graph at each level, as far as it moves memory.

Rules as onnxruntime 1.31.1 shows them in the models it writes (`SessionOptions.optimized_model_filepath`), read beside
onnxruntime/core/optimizer/: conv_bn_fusion.cc, conv_add_fusion.cc, conv_mul_fusion.cc, conv_activation_fusion.cc,
gemm_activation_fusion.cc, matmul_add_fusion.cc,
matmul_transpose_fusion.cc, quick_gelu_fusion.cc, identity_elimination.cc, dropout_elimination.cc.
"""

from __future__ import annotations

from math import prod

from peakmem.engines.onnxruntime import eliminations, fusions, layout, nhwc, quantise
from peakmem.engines.onnxruntime.match import other
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


def optimise(network: Network, level: str, block: int, architecture: str = "x86_64") -> None:
    """Rewrite `network` in place as `level` does; `block` channels form a block of the layout, 0 for none."""
    rank = LEVELS.index(level)
    arm = architecture == "aarch64"
    quantise.separate(network)
    if rank < LEVELS.index("layout"):
        expand(network)
    if rank >= LEVELS.index("basic"):
        eliminate(network)
        eliminations.eliminate(network)
        fold_into_convolutions(network)
        eliminations.share(network)
        matmul_add(network, keep_attention=True)
        eliminations.reshapes(network)
        eliminations.share(network)
        quantise.separate(network)
    if rank >= LEVELS.index("extended"):
        quantise.activations(network)
        if not arm:
            quantise.unsigned(network)
        quantise.fuse(network, signed=arm)
        gemm_activations(network)
        quantise.dynamic_products(network)
        conv_activations(network)
        expand(network)
        fusions.gelu(network)
        fusions.layer_norm(network)
        matmul_add(network)
        fusions.gathers(network)
        matmul_transpose(network)
        fusions.bias_gelu(network)
        fusions.skip_layer_norm(network)
        fusions.fast_gelu(network)
        fusions.bias_gelu(network)
        quick_gelu(network)
        fusions.matmul_scale(network)
    if rank >= LEVELS.index("layout") and block:
        layout.transform(network, block)
    if rank >= LEVELS.index("layout"):
        nhwc.transform(network)


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


def matmul_add(network: Network, *, keep_attention: bool = False) -> None:
    """MatMul with a matrix and an Add of a vector become Gemm; of more than two axes, between two Reshapes.

    Args:
        keep_attention: leave those around attention, of which a LayerNormalization feeds three (matmul_add_fusion.cc,
            AttentionPatternCache): the level after this one may fuse them otherwise.
    """
    kept: set[int] = set()
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
        if keep_attention and len(left.shape) != 2 and _attention_like(network, node, add, kept):
            continue
        if len(left.shape) > 2 and not left.fixed:
            # shapes that the file leaves open stay
            continue
        rows = prod(left.shape[:-1])
        source, result = node.inputs[0], add.outputs[0]
        if len(left.shape) > 2:
            source = network.new_value("gemm_input", (rows, left.shape[-1]), left).name
            result = network.new_value("gemm_output", (rows, right.shape[1]), left).name
            _reshape(network, node.inputs[0], source, 2)
            _reshape(network, result, add.outputs[0], len(left.shape))
        network.add("Gemm", [source, node.inputs[1], other], [result], attributes={"transB": 0}, name=node.name)
        network.remove(node)
        network.remove(add)


def _attention_like(network: Network, node: Node, add: Node, kept: set[int]) -> bool:
    source = network.maker(node.inputs[0])
    if (source is not None and source.number in kept) or add.number in kept:
        return True
    if source is None or source.op_type != "LayerNormalization":
        return False
    readers = network.readers(source.outputs[0])
    adds = [reader for reader in readers if reader.is_op("Add")]
    products = [reader for reader in readers if reader.is_op("MatMul")]
    if len(adds) != 1 or len(products) != 3 or len(readers) != 4 + sum(one.is_op("Shape") for one in readers):
        return False
    behind = network.maker(other(adds[0], source.outputs[0]))
    if behind is None or behind.op_type != "Add":
        return False
    kept |= {source.number, behind.number}
    return True


def _reshape(network: Network, source: str, result: str, rank: int) -> None:
    shape = network.new_value("gemm_shape", (rank,), Value("", (), 64, "int"), constant=True)
    network.add("Reshape", [source, shape.name], [result], name=f"reshape of {source}")


def matmul_transpose(network: Network) -> None:
    """A Transpose that a matrix product alone reads goes into it: of the last two axes, or of the axes of the batch.

    The latter brings the first axis next to the last one or behind it (matmul_transpose_fusion.cc, transBatch).
    """
    for node in network.order():
        if not (node.is_op("MatMul") or node.is_op("FusedMatMul", domain=MICROSOFT)):
            continue
        inputs, attributes, gone = list(node.inputs), dict(node.attributes), []
        batches: list[bool] = []
        for place in (0, 1):
            maker = network.maker(node.inputs[place])
            batches.append(False)
            if maker is None or not maker.is_op("Transpose") or maker.outputs[0] in network.outputs:
                continue
            if maker.inputs[0] not in network.values:
                continue
            rank = len(network.values[maker.inputs[0]].shape)
            perm = tuple(maker.attributes.get("perm", tuple(reversed(range(rank)))))
            turned = perm in ((*range(rank - 2), rank - 1, rank - 2), (*range(1, rank), 0))
            batch = rank > 2 and perm in ((*range(1, rank - 1), 0, rank - 1), (*range(1, rank), 0))
            if not turned and not batch:
                continue
            batches[place] = batch
            inputs[place] = maker.inputs[0]
            side = "AB"[place]
            if turned:
                attributes[f"trans{side}"] = 1 - int(attributes.get(f"trans{side}", 0))
            if batch:
                attributes[f"transBatch{side}"] = 1
            if len(network.readers(maker.outputs[0])) == 1:
                gone.append(maker)
        if inputs == node.inputs:
            continue
        network.add("FusedMatMul", inputs, [*node.outputs], MICROSOFT, attributes, node.name)
        for one in (node, *gone):
            network.remove(one)


def conv_activations(network: Network) -> None:
    """An activation behind a convolution that nothing else reads goes into a new, fused node."""
    _activations(network, "Conv", CONV_ACTIVATIONS, "FusedConv")


def gemm_activations(network: Network) -> None:
    """The same behind a Gemm."""
    _activations(network, "Gemm", GEMM_ACTIVATIONS, "FusedGemm")


def _activations(network: Network, op_type: str, fitting: frozenset[str], fused: str) -> None:
    for node in network.order():
        if node.domain or node.op_type != op_type:
            continue
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
