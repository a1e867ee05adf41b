"""Operators that change nothing, equal constants and equal operators, chains of Reshape.

Files of onnxruntime/core/optimizer/: noop_elimination.cc, cast_elimination.cc, expand_elimination.cc,
slice_elimination.cc, constant_sharing.cc, common_subexpression_elimination.cc, reshape_fusion.cc; compared with the
models that 1.31.1 writes.
"""

from __future__ import annotations

from peakmem.engines.onnxruntime.match import follower, scalar
from peakmem.engines.onnxruntime.network import Network, Node, Value

SHARED_COUNT = 8
# constants of at most so many elements are shared


def forward(network: Network, node: Node, source: str) -> None:
    """Take `node` out; what read its result reads `source`. Results of the network keep their name."""
    result = node.outputs[0]
    if result in network.outputs:
        maker = network.maker(source)
        if maker is None or source in network.outputs or len(network.readers(source)) > 1:
            return
        maker.outputs[maker.outputs.index(source)] = result
    else:
        for reader in network.readers(result):
            reader.inputs = [source if name == result else name for name in reader.inputs]
    network.remove(node)


def eliminate(network: Network) -> None:
    """Operators that change nothing."""
    for node in network.order():
        if node.domain or not node.inputs or not node.outputs:
            continue
        before, after = network.values.get(node.inputs[0]), network.values.get(node.outputs[0])
        if before is None or after is None or before.shape != after.shape or before.constant:
            continue
        same = before.bits == after.bits and before.kind == after.kind
        if node.op_type in ("Cast", "Expand", "Slice") and same and node.inputs[0] not in network.outputs:
            forward(network, node, node.inputs[0])
        elif node.op_type in ("Add", "Sub", "Mul", "Div") and same and len(node.inputs) == 2:
            neutral = 0.0 if node.op_type in ("Add", "Sub") else 1.0
            constant = network.weight(node.inputs[1])
            fits = constant is not None and constant.count == 1 and len(constant.shape) <= len(before.shape)
            if fits and scalar(network, node.inputs[1]) == neutral:
                forward(network, node, node.inputs[0])


def share(network: Network) -> None:
    """Small constants of one type, shape and content become one; then nodes that compute the same."""
    first: dict[tuple[object, ...], str] = {}
    renamed: dict[str, str] = {}
    for value in list(network.values.values()):
        if value.constant and value.count <= SHARED_COUNT and value.values is not None and value.name:
            key: tuple[object, ...] = (value.shape, value.bits, value.kind, tuple(value.values))
            if first.setdefault(key, value.name) != value.name and value.name not in network.outputs:
                renamed[value.name] = first[key]
    for node in network.nodes.values():
        node.inputs = [renamed.get(name, name) for name in node.inputs]
    seen: dict[tuple[object, ...], Node] = {}
    for node in network.order():
        if node.graphs or any(name in network.outputs for name in node.outputs):
            continue
        key = (node.op_type, node.domain, tuple(node.inputs), repr(sorted(node.attributes.items())), len(node.outputs))
        same = seen.setdefault(key, node)
        if same is node or node.op_type.startswith("Random") or node.op_type == "Dropout":
            continue
        for mine, theirs in zip(node.outputs, same.outputs, strict=True):
            for reader in network.readers(mine):
                reader.inputs = [theirs if name == mine else name for name in reader.inputs]
        network.remove(node)


def reshapes(network: Network) -> None:
    """A chain of Reshape that nothing else reads becomes one."""
    for node in network.order():
        if node.number not in network.nodes or not node.is_op("Reshape"):
            continue
        before = network.maker(node.inputs[0])
        if before is not None and before.is_op("Reshape") and follower(network, before, "Reshape") is not None:
            continue
        chain = [node]
        while (after := follower(network, chain[-1], "Reshape")) is not None:
            chain.append(after)
        if len(chain) < 2 or network.values.get(chain[-1].outputs[0]) is None:
            continue
        rank = len(network.values[chain[-1].outputs[0]].shape)
        shape = network.new_value("reshape", (rank,), Value("", (), 64, "int"), constant=True)
        network.add("Reshape", [node.inputs[0], shape.name], [*chain[-1].outputs], name=node.name)
        for one in chain:
            network.remove(one)
