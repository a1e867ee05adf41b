"""Questions that several rewritings ask of a network."""

from __future__ import annotations

from peakmem.engines.onnxruntime.network import Network, Node

TOLERANCE = 1e-4
# relative; constants of formulas are written with few digits


def scalar(network: Network, name: str) -> float | None:
    """Value of a constant of one element."""
    value = network.weight(name)
    if value is None or value.count != 1 or not value.values:
        return None
    return float(value.values[0])


def is_near(network: Network, name: str, expected: float) -> bool:
    """Whether it is a constant of this value."""
    found = scalar(network, name)
    return found is not None and abs(found - expected) < TOLERANCE * max(1.0, abs(expected))


def other(node: Node, name: str) -> str:
    """The other input of two."""
    return node.inputs[1] if node.inputs[0] == name else node.inputs[0]


def follower(network: Network, node: Node, *op_types: str) -> Node | None:
    """The only reader of a node's result, where it is one of these operators."""
    if node.outputs[0] in network.outputs:
        return None
    readers = network.readers(node.outputs[0])
    return readers[0] if len(readers) == 1 and readers[0].is_op(*op_types) else None
