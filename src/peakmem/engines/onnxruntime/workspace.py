"""What kernels ask for while they run.

Convolutions that are not in blocks: onnxruntime/core/mlas/lib/convolve.cpp, MlasConvPrepare (commit
00b8ce23, without its larger buffer for groups and batches, which 1.31.1 does not ask for).
"""

from __future__ import annotations

from math import prod

from peakmem.engines.onnxruntime.network import ALIGNMENT, MICROSOFT, Network, Node

PER_THREAD = 16 * 1024
# MLAS_CONV_WORKING_BUFFER_SIZE_PER_THREAD, in floats
THREAD_COMPLEXITY = 64 * 1024
# MLAS_SGEMM_THREAD_COMPLEXITY
MOST_THREADS = 16
# MLAS_MAXIMUM_THREAD_COUNT
STRIDE_ALIGNMENT = 16
# MLAS_SGEMM_STRIDEN_THREAD_ALIGN


def of(network: Network, threads: int) -> dict[int, tuple[int, ...]]:
    """Bytes of each request by node number, for nodes that ask for any."""
    found = {}
    for node in network.nodes.values():
        requests: tuple[int, ...] = ()
        if node.is_op("Conv") or node.is_op("FusedConv", domain=MICROSOFT):
            requests = (convolution(node, network, threads),)
        elif node.is_op("ConvTranspose"):
            requests = (transposed(node, network),)
        elif node.is_op("LRN"):
            requests = response(node, network)
        elif node.is_op("Softmax", "LogSoftmax"):
            requests = softmax(node, network)
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
    batch, channels, *spatial = network.values[node.inputs[0]].shape
    size = prod(spatial)
    return (batch * channels * size, (channels + int(node.attributes.get("size", 1)) - 1) * size)


def softmax(node: Node, network: Network) -> tuple[int, ...]:
    """Floats of a softmax over an axis that is not the last: the input transposed, and its result (math/softmax.cc)."""
    value = network.values[node.inputs[0]]
    if network.opset < 13:
        return ()
    axis = int(node.attributes.get("axis", -1)) % max(len(value.shape), 1)
    return () if axis == len(value.shape) - 1 else (value.count, value.count)
