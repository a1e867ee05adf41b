"""The layers that pnnx makes of a graph, with their parameters as text and what each stores.

Only what decides sizes: which operators are merged or dropped, and how parameters are spelled. What has no rule here
becomes a layer of typical length, and is named. Source: the files that pnnx 20261020 writes, and save_ncnn.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from peakmem.filesize.kinds import kind_of
from peakmem.filesize.ncnn_network import Layer, Network, Weight
from peakmem.filesize.ncnn_rules import RULES, convolution
from peakmem.ir.graph import Graph, Operator
from peakmem.ir.kinds import CONVOLUTIONS

FUSED: Mapping[str, str] = {"Relu": " 9=1", "Sigmoid": " 9=4"}
# activations that a convolution or product takes over, as its parameters; Clip and LeakyRelu bring numbers
PLAIN: Mapping[str, tuple[str, str]] = {
    "Relu": ("ReLU", ""), "Sigmoid": ("Sigmoid", ""), "Tanh": ("TanH", ""), "Erf": ("Erf", ""), "Mish": ("Mish", ""),
    "HardSwish": ("HardSwish", " 0=0.166666672 1=0.5"), "HardSigmoid": ("HardSigmoid", " 0=0.166666672 1=0.5"),
    "Gelu": ("GELU", ""), "Softplus": ("Softplus", ""), "Swish": ("Swish", ""),
    "GlobalAveragePool": ("Pooling", " 0=1 4=1"), "GlobalMaxPool": ("Pooling", " 0=0 4=1"),
}  # fmt: skip
UNARY: Mapping[str, int] = {"Abs": 0, "Neg": 1, "Floor": 2, "Ceil": 3, "Sqrt": 5, "Exp": 7, "Log": 8, "Tanh": 16}
NOTHING = frozenset({"Identity", "Dropout", "Cast"})
# operators that leave no layer


def layers(graph: Graph) -> Network:
    """The layers of an inferred graph whose batch norms and constants are folded."""
    network = Network(graph)
    for name in graph.inputs:
        network.layers.append(Layer("Input", (), (name,)))
    for operator in graph.operators:
        _add(network, operator)
    _merge_activations(network)
    return network


def _add(network: Network, operator: Operator) -> None:
    kind = kind_of(operator, network.graph)
    given = [network.blob(name) for name in operator.inputs if name and not network.constant(name)]
    made = tuple(name for name in operator.outputs if name)
    first = made[0] if made else ""
    if _is_nothing(network, operator, given) or (
        kind in ("Flatten", "Reshape", "Squeeze") and given and given[0] in network.flat
    ):
        if given:
            network.same[first] = given[0]
        return
    if not given and kind in ("Constant", "Expand"):
        source = next((name for name in operator.inputs if name and network.stored(name)), "")
        if source:
            kept = Weight(source, "weights", network.count(source))
            network.layers.append(Layer("MemoryData", (), (first,), " 0=1 1=1", (kept,)))
        return
    rule = RULES.get(kind)
    if kind in CONVOLUTIONS and rule is None:
        rule = convolution
    layer = rule(network, operator, given) if rule else None
    if layer is None and kind in PLAIN:
        title, said = PLAIN[kind]
        layer = Layer(title, tuple(given[:1]), made[:1], said)
        if title == "Pooling":
            network.flat.add(first)
    if layer is None and kind in UNARY:
        layer = Layer("UnaryOp", tuple(given[:1]), made[:1], f" 0={UNARY[kind]}")
    if layer is None:
        network.strange[operator.op_type] = network.strange.get(operator.op_type, 0) + 1
        stored = tuple(
            Weight(name, "weights", network.count(name), True)
            for name in operator.inputs
            if name and network.stored(name)
        )
        layer = Layer(operator.op_type, tuple(given), made, " 0=0 1=0", stored, known=False)
    if given and given[0] in network.flat and layer.kind in ("ReLU", "HardSwish", "Swish", "HardSigmoid", "Sigmoid"):
        network.flat.add(first)
    network.layers.append(layer)


def _is_nothing(network: Network, operator: Operator, given: list[str]) -> bool:
    """Whether an operator leaves no layer, as its result is its input in a shape without the batch."""
    kind = kind_of(operator, network.graph)
    if kind in NOTHING or (kind == "Concat" and len([name for name in operator.inputs if name]) == 1):
        return True
    if not given:
        return False
    before, after = network.whole(operator.inputs[0]), network.whole(operator.outputs[0])
    if kind == "Transpose":
        return (
            len(before) > 2
            and tuple(one for one in before if one > 1) == tuple(one for one in after if one > 1)
            and (operator.attributes.get("perm", ())[:2] == (1, 0))
        )
    if kind == "Squeeze":
        return bool(network.layers) and network.layers[-1].kind in ("LSTM", "GRU", "RNN")
    halved = kind == "Mul" and bool(network.layers) and network.layers[-1].kind == "GELU" and len(given) == 1
    return halved and network.layers[-1].outputs[0] == given[0]


def _merge_activations(network: Network) -> None:
    """Activations become part of the convolution or product in front of them, where nobody else reads it."""
    readers: dict[str, int] = {}
    for layer in network.layers:
        for name in layer.inputs:
            readers[name] = readers.get(name, 0) + 1
    for name in network.graph.outputs:
        readers[network.blob(name)] = readers.get(network.blob(name), 0) + 1
    makers = {name: at for at, layer in enumerate(network.layers) for name in layer.outputs}
    gone: set[int] = set()
    for at, layer in enumerate(network.layers):
        taker = makers.get(layer.inputs[0]) if len(layer.inputs) == 1 else None
        if taker is None or readers.get(layer.inputs[0]) != 1:
            continue
        said = _as_parameter(network.layers[taker], layer)
        if said is None:
            continue
        network.layers[taker] = replace(
            network.layers[taker], outputs=layer.outputs, parameters=network.layers[taker].parameters + said
        )
        makers[layer.outputs[0]] = taker
        gone.add(at)
    network.layers[:] = [layer for at, layer in enumerate(network.layers) if at not in gone]


def _as_parameter(taker: Layer, layer: Layer) -> str | None:
    if not taker.kind.startswith(("Convolution", "Deconvolution", "InnerProduct")) or " 9=" in taker.parameters:
        return None
    if layer.kind == "ReLU":
        return f" -23310=1,{layer.parameters.partition('=')[2]} 9=2" if layer.parameters else FUSED["Relu"]
    if layer.kind == "Clip":
        return f" -23310=2,{','.join(one.partition('=')[2] for one in layer.parameters.split())} 9=3"
    return FUSED.get(layer.kind)
