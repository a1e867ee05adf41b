"""Quantised convolutions and pools with channels last, and the Transpose operators that this needs.

onnxruntime/core/optimizer/nhwc_transformer.cc puts a Transpose before and behind each, and
core/optimizer/transpose_optimization/ moves them through operators that do not mind and cancels them; here the result
of both is made at once: a Transpose stays where a region of such operators begins or ends.
"""

from __future__ import annotations

from peakmem.engines.onnxruntime.network import MICROSOFT, Network, Node
from peakmem.engines.onnxruntime.quantise import quantised

FOLLOWING = frozenset({
    "QLinearAdd", "QLinearMul", "QLinearConcat", "QLinearLeakyRelu", "QLinearSigmoid", "QLinearAveragePool",
    "QLinearGlobalAveragePool",
})  # fmt: skip
TO_LAST = (0, 2, 3, 1)
RANK = 4


def transform(network: Network) -> None:
    """Rewrite `network` in place."""
    last: dict[str, str] = {}
    # values that exist with channels last, by their name
    first: set[str] = set()
    # of them, those that exist as before, too
    for node in network.order():
        quantised_pool = node.is_op("MaxPool") and quantised(network.values.get(node.inputs[0]))
        if node.is_op("QLinearConv") or quantised_pool:
            _take(network, node, last, anyway=True)
        elif node.domain == MICROSOFT and node.op_type in FOLLOWING and _fits(network, node, last):
            _take(network, node, last, anyway=False)
        else:
            _give(network, [name for name in node.inputs if name in last and name not in first], last, first)
    _give(network, [name for name in network.outputs if name in last and name not in first], last, first)


def _places(node: Node) -> list[int]:
    """Inputs that are data, not scales and zero points."""
    if node.op_type == "QLinearConcat":
        return list(range(2, len(node.inputs), 3))
    if node.op_type in ("QLinearAdd", "QLinearMul"):
        return [0, 3]
    return [0]


def _fits(network: Network, node: Node, last: dict[str, str]) -> bool:
    names = [node.inputs[at] for at in _places(node)]
    shapes = [network.values[name].shape for name in names if name in network.values]
    if not any(name in last for name in names) or any(len(shape) != RANK for shape in shapes):
        return False
    return all(name in last or network.weight(name) is None for name in names)


def _take(network: Network, node: Node, last: dict[str, str], *, anyway: bool) -> None:
    """The node with channels last."""
    value = network.values.get(node.outputs[0])
    source = network.values.get(node.inputs[0] if node.op_type != "QLinearConcat" else node.inputs[2])
    if value is None or source is None or len(value.shape) != RANK or len([name for name in node.outputs if name]) > 1:
        return
    inputs = list(node.inputs)
    for at in _places(node):
        name = inputs[at]
        if name not in last:
            before = network.values[name]
            turned = network.new_value("nhwc", tuple(before.shape[axis] for axis in TO_LAST), before)
            network.add("Transpose", [name], [turned.name], "", {"perm": TO_LAST}, f"transpose of {name}")
            last[name] = turned.name
        inputs[at] = last[name]
    made = network.new_value("nhwc", tuple(value.shape[axis] for axis in TO_LAST), value)
    last[node.outputs[0]] = made.name
    op_type = "NhwcMaxPool" if node.op_type == "MaxPool" else node.op_type
    attributes = {**node.attributes, "channels_last": 1}
    if anyway or node.op_type in FOLLOWING:
        network.add(op_type, inputs, [made.name], MICROSOFT, attributes, node.name)
        network.remove(node)


def _give(network: Network, names: list[str], last: dict[str, str], first: set[str]) -> None:
    """Back to the order of the file, where something reads it."""
    for name in dict.fromkeys(names):
        network.add("Transpose", [last[name]], [name], "", {"perm": (0, 3, 1, 2)}, f"transpose of {name}")
        first.add(name)
