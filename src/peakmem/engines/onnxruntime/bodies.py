"""What If, Loop and Scan hold for the graphs inside them.

A body has a session state of its own. Its weights stand three times where they are packed, as counted with 1.31.1
(networks of one If, Loop and Scan): the string of the attribute, which the node keeps, the tensor made of it, and the
packed matrix; bodies give none of them back. While it runs, values of the body are planned like those of a network.
"""

from __future__ import annotations

from peakmem.engines.onnxruntime import prepack, workspace
from peakmem.engines.onnxruntime.network import Network, Node
from peakmem.engines.onnxruntime.plan import Event, plan
from peakmem.errors import GraphError
from peakmem.ir.graph import Graph

BODY = 22_000
# bytes of a state without operators
BODY_NODE, BODY_WEIGHT = 6_500, 3_200
# an operator or a weight in a body: its structures and, in the attribute, its message; round, from the same counts


def weights(network: Network, *, packing: bool, architecture: str) -> tuple[int, int]:
    """(bytes as stored, packed) of all bodies' weights, strings included."""
    stored = packed = 0
    for node in network.nodes.values():
        for body in node.graphs:
            inner = _network(body)
            if inner is None:
                stored += 2 * sum(tensor.nbytes or 0 for tensor in body.tensors.values() if tensor.role == "constant")
                continue
            stored += sum(2 * value.nbytes + 1 for value in inner.weights())
            if packing:
                packed += sum(one.after_bytes for one in prepack.pack(inner, architecture))
            deeper = weights(inner, packing=packing, architecture=architecture)
            stored, packed = stored + deeper[0], packed + deeper[1]
    return stored, packed


def objects(network: Network) -> int:
    """Bytes of the bodies' structures."""
    total = 0
    for node in network.nodes.values():
        for body in node.graphs:
            constants = sum(tensor.role == "constant" for tensor in body.tensors.values())
            total += BODY + BODY_NODE * len(body.operators) + BODY_WEIGHT * constants
            inner = _network(body)
            total += objects(inner) if inner is not None else 0
    return total


def working(node: Node, threads: int, architecture: str) -> int | None:
    """Bytes that the largest body asks for at most while it runs, results of the node not counted; None if unknown."""
    most = 0
    for body in node.graphs:
        inner = _network(body)
        if inner is None or any(
            name and name not in inner.values for one in inner.nodes.values() for name in one.outputs
        ):
            return None
        wanted = dict(workspace.of(inner, threads, architecture))
        for one in inner.nodes.values():
            if one.graphs:
                deeper = working(one, threads, architecture)
                if deeper is None:
                    return None
                wanted[one.number] = (deeper,)
        results = sum(inner.values[name].asked for name in set(body.outputs) if name in inner.values)
        top = live_peak(plan(inner, wanted).events)
        # a Loop holds what it carries twice: what the last iteration made and what this one makes
        most = max(most, top if node.op_type == "Loop" else max(0, top - results if node.op_type == "If" else top))
    return most


def live_peak(events: tuple[Event, ...]) -> int:
    """Most bytes asked for at one time."""
    live = most = 0
    sizes: dict[str, int] = {}
    for event in events:
        live += event.nbytes - (sizes.pop(event.value) if event.nbytes == 0 else 0)
        if event.nbytes:
            sizes[event.value] = event.nbytes
        most = max(most, live)
    return most


def _network(body: Graph) -> Network | None:
    try:
        return Network(body)
    except GraphError:
        return None
