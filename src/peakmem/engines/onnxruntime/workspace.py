"""What kernels ask for while they run.

Convolutions that are not in blocks: onnxruntime/core/mlas/lib/convolve.cpp, MlasConvPrepare (commit
00b8ce23, without its larger buffer for groups and batches, which 1.31.1 does not ask for).
"""

from __future__ import annotations

from math import prod

from peakmem.engines.onnxruntime import quantised
from peakmem.engines.onnxruntime.network import ALIGNMENT, MICROSOFT, Network, Node
from peakmem.engines.onnxruntime.prepack import GATES

PER_THREAD = 16 * 1024
# MLAS_CONV_WORKING_BUFFER_SIZE_PER_THREAD, in floats
THREAD_COMPLEXITY = 64 * 1024
# MLAS_SGEMM_THREAD_COMPLEXITY
MOST_THREADS = 16
# MLAS_MAXIMUM_THREAD_COUNT
STRIDE_ALIGNMENT = 16
# MLAS_SGEMM_STRIDEN_THREAD_ALIGN
ASKING = frozenset({
    "Conv", "ConvTranspose", "FusedConv", "GRU", "LRN", "LSTM", "LogSoftmax", "QLinearConv", "Softmax", "Where",
})  # fmt: skip
# operators that ask by the size of their operands


def of(
    network: Network, threads: int, architecture: str = "x86_64", *, packed: bool = True
) -> dict[int, tuple[int, ...]]:
    """Bytes of each request by node number, for nodes that ask for any."""
    found = {}
    for node in network.nodes.values():
        if any(name and name not in network.values for name in (*node.inputs, *node.outputs)):
            # no rule without a size; the profile lists it
            continue
        whole = quantised.of(node, network, architecture, packed=packed)
        if whole:
            found[node.number] = tuple(-(-nbytes // ALIGNMENT) * ALIGNMENT for nbytes in whole if nbytes)
            continue
        requests: tuple[int, ...] = ()
        if node.is_op("Conv") or node.is_op("FusedConv", domain=MICROSOFT):
            requests = (convolution(node, network, threads),)
        elif node.is_op("ConvTranspose"):
            requests = (transposed(node, network),)
        elif node.is_op("LRN"):
            requests = response(node, network)
        elif node.is_op("Softmax", "LogSoftmax"):
            requests = softmax(node, network)
        elif node.is_op("LSTM", "GRU"):
            requests = recurrent(node, network)
        elif node.is_op("BiasGelu", "FastGelu", domain=MICROSOFT) and len(node.inputs) > 1:
            # the sum with the bias (contrib_ops/cpu/bert/bias_gelu.cc)
            requests = (network.values[node.inputs[0]].count,)
        elif node.is_op("Where"):
            requests = selection(node, network)
        if any(requests):
            found[node.number] = tuple(-(-floats * 4 // ALIGNMENT) * ALIGNMENT for floats in requests if floats)
    return found


def convolution(node: Node, network: Network, threads: int) -> int:
    """Floats of the working buffer of a convolution in the original layout."""
    weight, source = network.values[node.inputs[1]], network.values[node.inputs[0]]
    result = network.values[node.outputs[0]]
    if not weight.is_float or len(weight.shape) < 3:
        return 0
    groups = int(node.attributes.get("group", 1))
    outputs, inputs, *kernel = weight.shape
    filters = outputs // groups
    spatial = len(kernel)
    size = prod(result.shape[2:])
    depth = inputs * prod(kernel)
    ones = all(step == 1 for step in node.attributes.get("strides", (1,) * spatial))
    flat = all(dilation == 1 for dilation in node.attributes.get("dilations", (1,) * spatial))
    unpadded = all(pad == 0 for pad in node.attributes.get("pads", (0,) * 2 * spatial))
    automatic = node.attributes.get("auto_pad", "NOTSET")
    if automatic not in ("NOTSET", b"NOTSET", "VALID", b"VALID"):
        unpadded = depth == inputs and ones
    if ones and unpadded:
        if depth == inputs:
            return 0
        # pointwise: a matrix product on the input
        whole = kernel[-1] == source.shape[-1] or (kernel[0] == source.shape[2] and kernel[-1] == 1)
        if spatial == 2 and flat and inputs == 1 and whole:
            return 0
    if filters > size:
        return size * depth
    complexity = filters * size * depth
    wanted = complexity // THREAD_COMPLEXITY + 1 if complexity < THREAD_COMPLEXITY * MOST_THREADS else MOST_THREADS
    wanted = min(wanted, threads)
    if wanted > 1:
        share = -(-size // wanted)
        stride = -(-share // STRIDE_ALIGNMENT) * STRIDE_ALIGNMENT
        if stride >= size:
            wanted = 1
        elif stride * (wanted - 1) >= size:
            wanted -= 1
    return wanted * PER_THREAD


def transposed(node: Node, network: Network) -> int:
    """Floats of the columns of a transposed convolution (core/providers/cpu/nn/conv_transpose.cc)."""
    weight, source = network.values[node.inputs[1]], network.values[node.inputs[0]]
    return prod(weight.shape[1:]) * prod(source.shape[2:])


def response(node: Node, network: Network) -> tuple[int, ...]:
    """Floats of LRN: scales of all samples, and one sample's squares with channels to spare (nn/lrn.cc)."""
    shape = network.values[node.inputs[0]].shape
    if len(shape) < 2:
        return ()
    batch, channels, *spatial = shape
    size = prod(spatial)
    return (batch * channels * size, (channels + int(node.attributes.get("size", 1)) - 1) * size)


def softmax(node: Node, network: Network) -> tuple[int, ...]:
    """Floats of a softmax over an axis that is not the last: the input transposed, and its result (math/softmax.cc)."""
    value = network.values[node.inputs[0]]
    if network.opset < 13:
        return ()
    axis = int(node.attributes.get("axis", -1)) % max(len(value.shape), 1)
    return () if axis == len(value.shape) - 1 else (value.count, value.count)


def recurrent(node: Node, network: Network) -> tuple[int, ...]:
    """Floats of an LSTM or GRU: results nobody reads, then for each direction states, gates of all steps, biases.

    core/providers/cpu/rnn/uni_directional_lstm.cc (AllocateBuffers) and deep_cpu_gru.cc, as 1.31.1 asks for them.
    """
    source = network.values[node.inputs[0]]
    steps, batch, features = source.shape
    directions, columns, _ = network.values[node.inputs[1]].shape
    hidden = columns // GATES[node.op_type]
    state = batch * hidden
    missing = (2 if node.op_type == "LSTM" else 1) - len([name for name in node.outputs[1:] if name])
    found = [directions * state] * max(0, missing)
    backward = ("reverse", b"reverse", "bidirectional", b"bidirectional")
    for number in range(directions):
        if node.op_type == "LSTM":
            found += [state, state, state, hidden, hidden, steps * state * 4, hidden, hidden, hidden, hidden]
        else:
            found += [state, state, state, state, hidden, hidden, hidden, steps * state * 3]
        if number == directions - 1 and node.attributes.get("direction", "forward") in backward:
            found += [steps * batch * features, steps * state]
    return tuple(found)


def selection(node: Node, network: Network) -> tuple[int, ...]:
    """Words of 4 bytes of Where's halves, each broadcast with the condition (core/providers/cpu/tensor/where_op.cc)."""
    values = [network.values.get(name) for name in node.inputs]
    if len(values) != 3 or any(value is None for value in values):
        return ()
    condition, *sides = (value for value in values if value is not None)
    return tuple(-(-_together(condition.shape, side.shape) * side.bits // 32) for side in sides)


def _together(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Elements of two shapes broadcast."""
    rank = max(len(one), len(other))
    first, second = ((1,) * (rank - len(shape)) + shape for shape in (one, other))
    return prod(max(pair) if 0 not in pair else 0 for pair in zip(first, second, strict=True))
