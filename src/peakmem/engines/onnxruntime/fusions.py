"""Fusions around normalisation, activation and attention, as far as they move memory.

Files of onnxruntime/core/optimizer/: gelu_fusion.cc, fast_gelu_fusion.cc, bias_gelu_fusion.cc, layer_norm_fusion.cc,
skip_layer_norm_fusion.cc (commit 037b07fe), matmul_scale_fusion.cc (02e42fae), gather_fusion.cc, and their order in
graph_transformer_utils.cc (001290de); compared with the models that 1.31.1 writes. AttentionFusion is not here.
"""

from __future__ import annotations

from peakmem.engines.onnxruntime.match import follower, is_near, other, scalar
from peakmem.engines.onnxruntime.network import MICROSOFT, Network, Node, Value

SQRT_2 = 1.4142135


def gelu(network: Network) -> None:
    """0.5 * x * (1 + erf(x / sqrt 2)), multiplied in one of two orders."""
    for node in network.order():
        if node.number not in network.nodes or not node.is_op("Div") or not is_near(network, node.inputs[1], SQRT_2):
            continue
        source = node.inputs[0]
        error = follower(network, node, "Erf")
        add = follower(network, error, "Add") if error is not None else None
        if error is None or add is None or not is_near(network, other(add, error.outputs[0]), 1.0):
            continue
        product = follower(network, add, "Mul")
        if product is None:
            continue
        rest = other(product, add.outputs[0])
        gone = [node, error, add, product]
        result = product.outputs[0]
        if rest == source:
            half = follower(network, product, "Mul")
            if half is None or not is_near(network, other(half, product.outputs[0]), 0.5):
                continue
            gone.append(half)
            result = half.outputs[0]
        else:
            half = network.maker(rest)
            if half is None or not half.is_op("Mul") or source not in half.inputs:
                continue
            if len(network.readers(rest)) != 1 or not is_near(network, other(half, source), 0.5):
                continue
            gone.append(half)
        network.add("Gelu", [source], [result], MICROSOFT, name=product.name)
        for one in gone:
            network.remove(one)


def fast_gelu(network: Network) -> None:
    """0.5 * x * (1 + tanh(…)) with a polynomial of x."""
    for node in network.order():
        if node.number not in network.nodes or not node.is_op("Tanh"):
            continue
        found = _polynomial(network, node)
        add = follower(network, node, "Add")
        if found is None or add is None or not is_near(network, other(add, node.outputs[0]), 1.0):
            continue
        source, gone = found
        product = follower(network, add, "Mul")
        if product is None:
            continue
        gone += [node, add, product]
        rest, result = other(product, add.outputs[0]), product.outputs[0]
        half = network.maker(rest)
        if rest == source or is_near(network, rest, 0.5):
            wanted = 0.5 if rest == source else None
            last = follower(network, product, "Mul")
            if last is None:
                continue
            factor = other(last, product.outputs[0])
            if (wanted is not None and not is_near(network, factor, wanted)) or (wanted is None and factor != source):
                continue
            gone.append(last)
            result = last.outputs[0]
        elif half is not None and half.is_op("Mul") and source in half.inputs:
            if len(network.readers(rest)) != 1 or not is_near(network, other(half, source), 0.5):
                continue
            gone.append(half)
        else:
            continue
        network.add("FastGelu", [source], [result], MICROSOFT, name=product.name)
        for one in gone:
            if one.number in network.nodes:
                network.remove(one)


def _polynomial(network: Network, tanh: Node) -> tuple[str, list[Node]] | None:
    """What the argument of `tanh` is a polynomial of, and the nodes that compute it."""
    gone: list[Node] = []
    leaves: set[str] = set()
    waiting = [tanh.inputs[0]]
    while waiting:
        name = waiting.pop()
        maker = network.maker(name)
        inner = maker is not None and maker.is_op("Mul", "Add", "Pow") and len(gone) < 6
        if network.weight(name) is not None:
            continue
        if not inner or maker is None or len(network.readers(name)) != 1 or name in network.outputs:
            leaves.add(name)
            continue
        gone.append(maker)
        waiting += maker.inputs
    return (leaves.pop(), gone) if len(leaves) == 1 and len(gone) >= 4 else None


def layer_norm(network: Network) -> None:
    """(x - mean) / sqrt(mean of squares + a constant) * scale + shift."""
    for node in network.order():
        if node.number not in network.nodes or not node.is_op("Sqrt"):
            continue
        add = network.maker(node.inputs[0])
        divide = follower(network, node, "Div")
        if add is None or not add.is_op("Add") or divide is None or divide.inputs[1] != node.outputs[0]:
            continue
        mean = next((one for one in (network.maker(name) for name in add.inputs) if one is not None), None)
        if mean is None or not mean.is_op("ReduceMean"):
            continue
        square = network.maker(mean.inputs[0])
        if square is None or not square.is_op("Pow", "Mul"):
            continue
        below, above = network.maker(square.inputs[0]), network.maker(divide.inputs[0])
        if below is None or above is None or not below.is_op("Sub") or not above.is_op("Sub"):
            continue
        if below.inputs != above.inputs or (square.op_type == "Mul" and square.inputs[0] != square.inputs[1]):
            continue
        first = network.maker(below.inputs[1])
        if first is None or not first.is_op("ReduceMean") or first.inputs[0] != below.inputs[0]:
            continue
        scaled = follower(network, divide, "Mul")
        shifted = follower(network, scaled, "Add") if scaled is not None else None
        if scaled is None or shifted is None:
            continue
        scale, shift = other(scaled, divide.outputs[0]), other(shifted, scaled.outputs[0])
        if network.weight(scale) is None or network.weight(shift) is None:
            continue
        inputs = [below.inputs[0], scale, shift]
        network.add("LayerNormalization", inputs, [*shifted.outputs], "", {"axis": -1, "epsilon": 1e-5}, node.name)
        gone = (node, add, divide, mean, square, below, above, first, scaled, shifted)
        for one in {one.number: one for one in gone}.values():
            network.remove(one)


def skip_layer_norm(network: Network) -> None:
    """An Add of two values of three axes that only a LayerNormalization reads; with a bias before it, that too."""
    for node in network.order():
        if node.number not in network.nodes or not node.is_op("LayerNormalization"):
            continue
        add = network.maker(node.inputs[0])
        if add is None or not add.is_op("Add") or follower(network, add, "LayerNormalization") is None:
            continue
        sides = [network.values.get(name) for name in add.inputs]
        if any(
            side is None or len(side.shape) != 3 or sides[0] is None or side.shape != sides[0].shape for side in sides
        ):
            continue
        if not all(side is not None and side.kind == "float" for side in sides):
            continue
        if len([name for name in node.outputs if name]) > 1 and network.readers(node.outputs[1]):
            continue
        inputs, bias, gone = list(add.inputs), "", [add, node]
        for place in (0, 1):
            biased = network.maker(add.inputs[place])
            constant = network.weight(biased.inputs[1]) if biased is not None and biased.is_op("Add") else None
            if (
                biased is None
                or constant is None
                or len(constant.shape) != 1
                or follower(network, biased, "Add") is None
            ):
                continue
            inputs[place], bias = biased.inputs[0], constant.name
            gone.append(biased)
            break
        names = [*inputs, *[*node.inputs[1:], "", ""][:2], bias]
        network.add("SkipLayerNormalization", names, [node.outputs[0]], MICROSOFT, {"epsilon": 1e-5}, node.name)
        for one in gone:
            network.remove(one)


def matmul_scale(network: Network) -> None:
    """Mul or Div by a constant before or behind a matrix product."""
    for node in network.order():
        if node.number not in network.nodes:
            continue
        if not (node.is_op("MatMul") or node.is_op("FusedMatMul", domain=MICROSOFT)):
            continue
        value = network.values.get(node.outputs[0])
        if value is None or value.kind != "float" or value.bits < 32:
            continue
        inputs, gone = list(node.inputs), [node]
        for place in (0, 1):
            before = network.maker(node.inputs[place])
            source = _scaled(network, before)
            if before is not None and source:
                inputs[place] = source
                if len(network.readers(before.outputs[0])) == 1 and before.outputs[0] not in network.outputs:
                    gone.append(before)
        outputs = list(node.outputs)
        after = follower(network, node, "Mul", "Div")
        if after is not None and _scaled(network, after) == node.outputs[0]:
            outputs = list(after.outputs)
            gone.append(after)
        if inputs == node.inputs and outputs == node.outputs:
            continue
        network.add("FusedMatMul", inputs, outputs, MICROSOFT, {**node.attributes, "alpha": 1.0}, node.name)
        for one in gone:
            network.remove(one)


def _scaled(network: Network, node: Node | None) -> str:
    """What a Mul or Div by a constant scales; empty where the node is none."""
    if node is None or not node.is_op("Mul", "Div"):
        return ""
    for place in (1, 0) if node.op_type == "Mul" else (1,):
        constant, source = network.weight(node.inputs[place]), network.values.get(node.inputs[1 - place])
        if constant is not None and constant.count == 1 and source is not None and source.shape:
            return node.inputs[1 - place] if len(constant.shape) <= len(source.shape) else ""
    return ""


def gathers(network: Network) -> None:
    """Gather or Slice of one index for every place of an axis, and nothing else, become Split (and Squeeze)."""
    for name in list(network.values):
        value = network.values[name]
        if value.constant or name in network.inputs or name in network.outputs or not value.shape:
            continue
        readers = network.readers(name)
        places = [_place(network, node, name) for node in readers]
        axes = {place[0] % len(value.shape) for place in places if place is not None}
        if len(readers) < 2 or len(axes) != 1 or any(place is None for place in places):
            continue
        axis = axes.pop()
        size = value.shape[axis]
        indices = [place[1] % max(size, 1) for place in places if place is not None]
        if sorted(indices) != list(range(size)):
            continue
        parts: dict[int, str] = {}
        kept = tuple(1 if at == axis else length for at, length in enumerate(value.shape))
        scalars = []
        for node, index in zip(readers, indices, strict=True):
            if node.is_op("Gather") and network.values[node.inputs[1]].shape == ():
                parts[index] = network.new_value("split", kept, value).name
                scalars.append((node, index))
            else:
                parts[index] = node.outputs[0]
                network.remove(node)
        outputs = [parts[index] for index in range(size)]
        network.add("Split", [name], outputs, "", {"axis": axis}, readers[0].name)
        for node, index in scalars:
            axes_value = network.new_value("axes", (1,), Value("", (), 64, "int"), constant=True)
            network.add("Squeeze", [parts[index], axes_value.name], [*node.outputs], name=node.name)
            network.remove(node)


def _place(network: Network, node: Node, name: str) -> tuple[int, int] | None:
    """(axis, index) of the one place that a Gather or Slice reads; None where it reads more or it is not known."""
    if node.inputs[:1] != [name] or len(node.inputs) < 2:
        return None
    if node.is_op("Gather"):
        index = scalar(network, node.inputs[1])
        return None if index is None else (int(node.attributes.get("axis", 0)), int(index))
    if not node.is_op("Slice") or len(node.inputs) < 4:
        return None
    begin, end, axis = (scalar(network, one) for one in node.inputs[1:4])
    step = scalar(network, node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] else 1.0
    if begin is None or end is None or axis is None or step != 1.0 or end - begin != 1:
        return None
    return int(axis), int(begin)


def bias_gelu(network: Network) -> None:
    """An Add of a constant vector goes into the activation that alone reads it (bias_gelu_fusion.cc)."""
    for node in network.order():
        if node.number not in network.nodes or not node.is_op("Gelu", "FastGelu", domain=MICROSOFT):
            continue
        add = network.maker(node.inputs[0])
        if len(node.inputs) > 1 or add is None or not add.is_op("Add") or add.outputs[0] in network.outputs:
            continue
        places = [at for at, name in enumerate(add.inputs) if (one := network.weight(name)) and len(one.shape) == 1]
        if len(network.readers(add.outputs[0])) != 1 or len(places) != 1:
            continue
        inputs = [add.inputs[1 - places[0]], add.inputs[places[0]]]
        fused = "BiasGelu" if node.op_type == "Gelu" else "FastGelu"
        network.add(fused, inputs, [*node.outputs], MICROSOFT, name=node.name)
        network.remove(node)
        network.remove(add)
