"""Quantised networks: DequantizeLinear and QuantizeLinear go into the operators between them.

onnxruntime/core/optimizer/qdq_transformer/: ensure_unique_dq_for_node_unit.cc, qdq_s8_to_u8.cc, relu_quantizelinear.cc,
clip_quantizelinear.cc and selectors_actions/qdq_selector_action_transformer.cc with qdq_selectors.cc (commit
008eeb96 and others), compared with the models that 1.31.1 writes.
"""

from __future__ import annotations

from peakmem.engines.onnxruntime.network import MICROSOFT, Network, Node, Value

SAME_VALUES = frozenset({
    "Expand", "Flatten", "Gather", "GatherElements", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze",
    "Resize", "MaxPool", "ReduceMax", "ReduceMin",
})  # fmt: skip
# "drop": the operator itself runs on quantised values where both sides have one scale and zero point
UNARY = frozenset({"AveragePool", "LeakyRelu", "GlobalAveragePool", "Sigmoid", "Softmax"})
BINARY = frozenset({"Add", "Mul"})
INTEGER = 8


def quantised(value: Value | None) -> bool:
    """Whether elements are whole numbers of 8 bits."""
    return value is not None and value.bits == INTEGER and value.kind in ("int", "uint")


def is_dequantizer(node: Node | None) -> bool:
    """Whether a node turns whole numbers into floats."""
    return node is not None and node.op_type == "DequantizeLinear" and node.domain in ("", MICROSOFT)


def is_quantizer(node: Node | None) -> bool:
    """Whether a node turns floats into whole numbers."""
    return node is not None and node.op_type == "QuantizeLinear" and node.domain in ("", MICROSOFT)


def separate(network: Network) -> None:
    """Every reader has a DequantizeLinear of its own, at every level."""
    for node in network.order():
        if not is_dequantizer(node) or node.outputs[0] not in network.values:
            continue
        readers = network.readers(node.outputs[0])
        if node.outputs[0] in network.outputs:
            readers.append(node)
        for reader in readers[1:]:
            if reader is node:
                continue
            value = network.values[node.outputs[0]]
            made = network.new_value("dq", value.shape, value)
            network.add(node.op_type, [*node.inputs], [made.name], node.domain, node.attributes, node.name)
            at = len(reader.inputs) - 1 - reader.inputs[::-1].index(node.outputs[0])
            reader.inputs[at] = made.name


def unsigned(network: Network) -> None:
    """Pairs of int8 become uint8, on processors whose products take uint8 first (not ARM)."""
    for node in network.order():
        if not is_quantizer(node) or len(node.inputs) < 3:
            continue
        readers = network.readers(node.outputs[0])
        value = network.values.get(node.outputs[0])
        if len(readers) != 1 or not is_dequantizer(readers[0]) or value is None or value.kind != "int":
            continue
        if node.outputs[0] in network.outputs or value.bits != INTEGER or len(readers[0].inputs) < 3:
            continue
        point = network.weight(node.inputs[2])
        if point is None or point.count != 1:
            continue
        made = network.new_value("zero_point_u8", point.shape, point, constant=True)
        made.kind = "uint"
        made.values = None if point.values is None else tuple(int(one) + 128 for one in point.values)
        node.inputs[2] = readers[0].inputs[2] = made.name
        value.kind = "uint"


def activations(network: Network) -> None:
    """A Relu or Clip whose bounds the quantisation keeps anyway goes."""
    for node in network.order():
        if not node.is_op("Relu", "Clip") or node.outputs[0] in network.outputs:
            continue
        readers = network.readers(node.outputs[0])
        if len(readers) != 1 or not is_quantizer(readers[0]) or len(readers[0].inputs) < 3:
            continue
        scale, point = network.weight(readers[0].inputs[1]), network.weight(readers[0].inputs[2])
        if scale is None or point is None or not scale.values or not point.values or point.count != 1:
            continue
        least = -128 if point.kind == "int" else 0
        low = (least - point.values[0]) * scale.values[0]
        high = (least + 255 - point.values[0]) * scale.values[0]
        bounds = [network.weight(name) if name else None for name in node.inputs[1:]] if node.op_type == "Clip" else []
        lower = _bound(bounds, 0) if node.op_type == "Clip" else 0.0
        upper = _bound(bounds, 1)
        if (lower is not None and low < lower - 1e-6) or (upper is not None and high > upper + 1e-6):
            continue
        readers[0].inputs[0] = node.inputs[0]
        network.remove(node)


def _bound(bounds: list[Value | None], at: int) -> float | None:
    value = bounds[at] if at < len(bounds) else None
    return float(value.values[0]) if value is not None and value.values else None


def fuse(network: Network, *, signed: bool = False) -> None:
    """Operators between DequantizeLinear and QuantizeLinear become operators on quantised values.

    Args:
        signed: whether products of int8 with int8 are taken (MlasPlatform's; not on x86).
    """
    for node in network.order():
        if node.number not in network.nodes or node.domain:
            continue
        makers = [_dequantizer(network, name) for name in node.inputs if name]
        after = _quantizers(network, node)
        if node.op_type in SAME_VALUES:
            _same_values(network, node, makers[:1], after)
        elif node.op_type in UNARY:
            _replace(network, node, makers[:1], after)
        elif node.op_type in BINARY or node.op_type == "Concat":
            _replace(network, node, makers, after)
        elif node.op_type == "Split":
            _split(network, node, makers[:1], after)
        elif node.op_type in ("Conv", "Gemm", "MatMul"):
            _product(network, node, makers, after, signed)
        elif node.op_type == "Where" and len(makers) == 3 and makers[1] and makers[2] and after:
            _replace(network, node, makers[1:], after)


def _dequantizer(network: Network, name: str) -> Node | None:
    maker = network.maker(name)
    return maker if is_dequantizer(maker) else None


def _quantizers(network: Network, node: Node) -> list[Node] | None:
    """QuantizeLinear behind every result, None where anything else reads one."""
    found = []
    for name in (name for name in node.outputs if name):
        readers = network.readers(name)
        if name in network.outputs or len(readers) != 1 or not is_quantizer(readers[0]):
            return None
        found.append(readers[0])
    return found


def _type(network: Network, name: str) -> tuple[int, str]:
    value = network.values.get(name)
    return (value.bits, value.kind) if value is not None else (0, "")


def _alike(network: Network, one: Node, other: Node) -> bool:
    """The same scale and zero point."""
    for first, second in zip(one.inputs[1:3], other.inputs[1:3], strict=False):
        if first == second:
            continue
        left, right = network.weight(first), network.weight(second)
        if left is None or right is None or left.values is None or left.values != right.values:
            return False
    return len(one.inputs) == len(other.inputs)


def _drop(network: Network, nodes: list[Node]) -> None:
    for node in nodes:
        if node.number in network.nodes and not any(network.readers(name) for name in node.outputs):
            network.remove(node)


def _same_values(network: Network, node: Node, makers: list[Node | None], after: list[Node] | None) -> None:
    if not makers or makers[0] is None or not after or not _alike(network, makers[0], after[0]):
        return
    if node.op_type == "MaxPool" and network.opset < 12:
        return
    before = makers[0]
    node.inputs[0] = before.inputs[0]
    node.outputs = [after[0].outputs[0]]
    network.remove(after[0])
    _drop(network, [before])


def _split(network: Network, node: Node, makers: list[Node | None], after: list[Node] | None) -> None:
    if not makers or makers[0] is None or not after or not all(_alike(network, makers[0], one) for one in after):
        return
    node.inputs[0] = makers[0].inputs[0]
    node.outputs = [one.outputs[0] for one in after]
    for one in after:
        network.remove(one)
    _drop(network, [makers[0]])


def _replace(network: Network, node: Node, makers: list[Node | None], after: list[Node] | None) -> None:
    """QLinear… of Microsoft's domain: quantised input, scale and zero point for each, then of the result."""
    if not after or not makers or any(maker is None for maker in makers):
        return
    found = [maker for maker in makers if maker is not None]
    kinds = {_type(network, maker.inputs[0]) for maker in found} | {_type(network, after[0].outputs[0])}
    if len(kinds) > 1 or next(iter(kinds))[0] != INTEGER:
        return
    inputs = [name for maker in found for name in [*maker.inputs, ""][:3]]
    result = [*after[0].inputs[1:], ""][:2]
    if node.op_type == "Concat":
        inputs = [*result, *inputs]
    elif node.op_type == "Where":
        inputs = [node.inputs[0], *inputs, *result]
    else:
        inputs = [*inputs, *result]
    network.add(f"QLinear{node.op_type}", inputs, [after[0].outputs[0]], MICROSOFT, node.attributes, node.name)
    network.remove(node)
    network.remove(after[0])
    _drop(network, found)


def _product(network: Network, node: Node, makers: list[Node | None], after: list[Node] | None, signed: bool) -> None:
    """Conv, MatMul and Gemm; the latter two also without a QuantizeLinear behind them."""
    if len(makers) < 2 or makers[0] is None or makers[1] is None or (len(makers) > 2 and makers[2] is None):
        return
    if len(makers) < len([name for name in node.inputs if name]) or (not after and node.op_type == "Conv"):
        return
    left, right = _type(network, makers[0].inputs[0]), _type(network, makers[1].inputs[0])
    if left[0] != INTEGER or right[0] != INTEGER or (left[1] == "int" and (not signed or right[1] != "int")):
        return
    if after and _type(network, after[0].outputs[0]) != left:
        return
    if len(makers) > 2 and makers[2] is not None and _type(network, makers[2].inputs[0]) != (32, "int"):
        return
    found = [maker for maker in makers if maker is not None]
    first = [*found[0].inputs, ""][:3]
    second = [*found[1].inputs, ""][:3]
    bias = [found[2].inputs[0]] if len(found) > 2 else []
    outputs = [after[0].outputs[0]] if after else [*node.outputs]
    result = [*after[0].inputs[1:], ""][:2] if after else []
    if node.op_type == "Conv":
        network.add("QLinearConv", [*first, *second, *result, *bias], outputs, "", node.attributes, node.name)
    elif node.op_type == "Gemm":
        if float(node.attributes.get("beta", 1.0)) != 1.0:
            return
        inputs = [*first, *second, *(bias or [""]), *result]
        network.add("QGemm", inputs, outputs, MICROSOFT, node.attributes, node.name)
    elif after:
        network.add("QLinearMatMul", [*first, *second, *result], outputs, "", node.attributes, node.name)
    else:
        inputs = [first[0], second[0], first[1], second[1], first[2], second[2]]
        network.add("MatMulIntegerToFloat", inputs, outputs, MICROSOFT, node.attributes, node.name)
    network.remove(node)
    for one in after or ():
        network.remove(one)
    _drop(network, found)


def dynamic_products(network: Network) -> None:
    """DynamicQuantizeLinear, MatMulInteger, Cast and Mul become one product of floats with quantised weights.

    onnxruntime/core/optimizer/matmul_integer_to_float.cc and dynamic_quantize_matmul_fusion.cc.
    """
    for node in network.order():
        if node.number not in network.nodes or not node.is_op("MatMulInteger"):
            continue
        cast = _only(network, node, "Cast")
        scaled = _only(network, cast, "Mul") if cast is not None else None
        if cast is None or scaled is None:
            continue
        scales = next((name for name in scaled.inputs if name != cast.outputs[0]), "")
        between = network.maker(scales)
        if between is None or not between.is_op("Mul") or len(network.readers(scales)) != 1:
            continue
        source = network.maker(node.inputs[0])
        if source is None or not source.is_op("DynamicQuantizeLinear") or source.outputs[1] not in between.inputs:
            continue
        weight_scale = next((name for name in between.inputs if name != source.outputs[1]), "")
        last, bias = scaled, ""
        add = _only(network, scaled, "Add")
        if add is not None:
            other = network.weight(next((name for name in add.inputs if name != scaled.outputs[0]), ""))
            if other is not None and len(other.shape) == 1:
                last, bias = add, other.name
        point = node.inputs[3] if len(node.inputs) > 3 else ""
        shared = len({reader.number for name in source.outputs for reader in network.readers(name)}) > 2
        if network.weight(node.inputs[1]) is None and shared:
            continue
        gone = [node, cast, scaled, between, *([add] if last is add and add is not None else [])]
        inputs = [source.inputs[0], node.inputs[1], weight_scale, point, bias]
        if shared:
            first = [source.outputs[0], node.inputs[1], source.outputs[1], weight_scale, source.outputs[2], point, bias]
            network.add("MatMulIntegerToFloat", first, [*last.outputs], MICROSOFT, name=node.name)
        else:
            network.add("DynamicQuantizeMatMul", inputs, [*last.outputs], MICROSOFT, name=node.name)
        for one in gone:
            network.remove(one)
        _drop(network, [source])


def _only(network: Network, node: Node | None, op_type: str) -> Node | None:
    """The one reader of a node's result, where it is an `op_type`."""
    if node is None or node.outputs[0] in network.outputs:
        return None
    readers = network.readers(node.outputs[0])
    return readers[0] if len(readers) == 1 and readers[0].is_op(op_type) else None
