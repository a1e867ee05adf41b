"""What kernels of quantised networks ask for while they run.

core/providers/cpu/quantization/qlinearconv.cc (Compute; commit 009855cf), contrib_ops/cpu/quantization/quant_gemm.cc,
core/providers/cpu/quantization/quantize_linear_matmul.cc, contrib_ops/cpu/quantization/dynamic_quantize_matmul.cc,
contrib_ops/cpu/quantization/nhwc_max_pool.cc.
"""

from __future__ import annotations

from math import prod

from peakmem.engines.onnxruntime.network import MICROSOFT, Network, Node
from peakmem.engines.onnxruntime.prepack import symmetric

POINTER = 8
HELD = {"int": 38_016, "uint": 41_088}
# bytes that a thread keeps from its first product on, by the sign of the weights (core/mlas/lib/qgemm.h); counted, one
# thread of three
PRODUCTS = {"QLinearConv": 3, "QGemm": 3, "QLinearMatMul": 3, "MatMulInteger": 1, "DynamicQuantizeMatMul": 1,
            "MatMulIntegerToFloat": 1}  # fmt: skip
# places of the weights
PLACES_AT_ONCE = 512
# output_batch_count of nhwc_max_pool.cc


def of(node: Node, network: Network, architecture: str, *, packed: bool) -> tuple[int, ...]:
    """Bytes of each request, in their order; all are held at once."""
    if node.op_type == "QLinearConv":
        return convolution(node, network, architecture, packed=packed)
    result = network.values.get(node.outputs[0])
    if result is None:
        return ()
    if node.is_op("QGemm", domain=MICROSOFT):
        return (result.count * 4,) if result.bits == 8 else ()
    if node.is_op("QLinearMatMul"):
        return (result.count * 4,)
    if node.is_op("DynamicQuantizeMatMul", domain=MICROSOFT):
        return (network.values[node.inputs[0]].count,)
    if node.is_op("NhwcMaxPool", domain=MICROSOFT):
        return (POINTER * prod(node.attributes.get("kernel_shape", (1,))) * PLACES_AT_ONCE,)
    return ()


def kept(network: Network, architecture: str) -> int:
    """Bytes that products of whole numbers leave behind in the first run."""
    most = 0
    for node in network.nodes.values():
        place = PRODUCTS.get(node.op_type)
        value = network.values.get(node.inputs[place]) if place is not None else None
        if value is None:
            continue
        if node.op_type == "QLinearConv":
            outputs, inputs = value.shape[:2]
            alone = inputs == 1 and outputs == int(node.attributes.get("group", 1))
            if alone or symmetric(node, value, network, architecture):
                continue
        most = max(most, HELD.get(value.kind, 0))
    return most


def convolution(node: Node, network: Network, architecture: str, *, packed: bool) -> tuple[int, ...]:
    """Sums of 32 bits, both sides with channels last, and columns or pointers to them."""
    weight, source = network.values[node.inputs[3]], network.values[node.inputs[0]]
    result = network.values[node.outputs[0]]
    outputs, inputs, *kernel = weight.shape
    groups = int(node.attributes.get("group", 1))
    last = bool(node.attributes.get("channels_last", 0))
    constant = packed and weight.constant
    direct = constant and symmetric(node, weight, network, architecture) > 0
    depthwise = inputs == 1 and outputs == groups
    places = prod(result.shape[1:-1] if last else result.shape[2:])
    found = [] if constant else [weight.count]
    if not direct:
        found.append(4 * outputs * places)
    if not last:
        found += [prod(source.shape[1:]), outputs * places]
    moves = any(step != 1 for step in node.attributes.get("strides", ())) or any(node.attributes.get("pads", ()))
    automatic = node.attributes.get("auto_pad", "NOTSET")
    moves = moves or automatic in ("SAME_UPPER", "SAME_LOWER", b"SAME_UPPER", b"SAME_LOWER")
    size = prod(kernel)
    if depthwise or (direct and (size != 1 or moves)):
        found.append(POINTER * size * places)
    elif size != 1 or moves:
        found.append(inputs * size * places * (groups if len(kernel) > 2 else 1))
    return tuple(found)
