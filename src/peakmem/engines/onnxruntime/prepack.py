"""Weights in the order that matrix products read, and when the originals go.

A kernel packs a constant when the session is made; the original is freed once every reader has packed it
(onnxruntime/core/framework/session_state.cc, PrepackConstantInitializedTensors). What each kernel packs:
core/providers/cpu/math/gemm.cc and matmul.cc, core/providers/cpu/rnn/deep_cpu_lstm.cc and deep_cpu_gru.cc,
core/providers/cpu/nn/conv_transpose.cc, core/providers/cpu/quantization/qlinearconv.cc and matmul_integer_base.h,
contrib_ops/cpu/bert/attention.cc.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from peakmem.engines.onnxruntime.network import ALIGNMENT, MICROSOFT, Network, Node, Value

COLUMNS = 16
# MLAS_SGEMM_STRIDEN_THREAD_ALIGN and MLAS_QGEMM_STRIDEN_THREAD_ALIGN: columns of a packed matrix come in this many
INTEGER_PRODUCTS = {
    "MatMulInteger": 1, "DynamicQuantizeMatMul": 1, "MatMulIntegerToFloat": 1, "QGemm": 3, "QLinearMatMul": 3,
}  # fmt: skip
# place of the weight
GATES = {"LSTM": 4, "GRU": 3}


@dataclass(frozen=True, slots=True)
class Packed:
    """One packed weight."""

    name: str
    before_bytes: int
    # on the heap, 0 of a weight in another file
    after_bytes: int
    freed: bool
    # the original, which is none of the heap's where it is mapped
    in_arena: bool = False
    # asked from the arena's bins; matrix products reserve past them
    scratch: int = 0
    # a reordered copy while it is packed
    scratch_in_arena: bool = False


def pack(network: Network, architecture: str = "x86_64") -> list[Packed]:
    """What the kernels pack, in the nodes' order."""
    readers = network.reads()
    packed_by: dict[str, int] = {}
    seen: set[tuple[str, str, int]] = set()
    found = []
    for node in sorted(network.nodes.values(), key=lambda node: node.number):
        for place in range(1, min(4, len(node.inputs))):
            weight = network.weight(node.inputs[place])
            if weight is None:
                continue
            size, in_arena, scratch = _size(node, place, weight, network, architecture)
            if size:
                packed_by[weight.name] = packed_by.get(weight.name, 0) + 1
                freed = packed_by[weight.name] == readers[weight.name]
                held = 0 if weight.outside else weight.nbytes
                if (weight.name, node.op_type, size) in seen:
                    # operators of one kind share what the first packed (an RNN written out, of 50 products: one copy)
                    size = scratch = 0
                seen.add((weight.name, node.op_type, size))
                found.append(Packed(weight.name, held, size, freed, in_arena, scratch, node.op_type == "QGemm"))
    return found


def matrix(rows: int, columns: int) -> int:
    """Bytes of a packed matrix of floats (onnxruntime/core/mlas/lib/sgemm.cpp, MlasGemmPackBSize)."""
    return _aligned(-(-columns // COLUMNS) * COLUMNS * rows * 4)


def whole_matrix(rows: int, columns: int, architecture: str) -> int:
    """Bytes of a packed matrix of 8-bit numbers with its column sums (core/mlas/lib/qgemm.cpp, MlasGemmPackBSize).

    Rows come in 4 on x86, seen with AVX-512 VNNI (u8s8; with u8u8 in 2 where that kernel takes them so), 8 on ARM with
    dot products (qgemm_kernel_udot.cpp).
    """
    step = 8 if architecture == "aarch64" else 4
    wide = -(-columns // COLUMNS) * COLUMNS
    return _aligned(wide * 4 + wide * (-(-rows // step) * step))


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _size(node: Node, place: int, weight: Value, network: Network, architecture: str) -> tuple[int, bool, int]:
    """(bytes of the packed weight, whether in the arena, bytes meanwhile); 0 where the kernel packs none."""
    none = (0, False, 0)
    if place == 1 and weight.is_float:
        if node.is_op("Gemm", "MatMul") or node.is_op("FusedGemm", "FusedMatMul", domain=MICROSOFT):
            if len(weight.shape) != 2:
                return none
            rows, columns = weight.shape
            if node.op_type != "MatMul" and int(node.attributes.get("transB", 0)):
                rows, columns = columns, rows
            return matrix(rows, columns), False, 0
        if node.is_op("ConvTranspose"):
            # transposed where that moves anything (core/providers/cpu/nn/conv_transpose.cc, PrePack)
            groups = int(node.attributes.get("group", 1))
            rows, columns = weight.shape[0] // groups, weight.count // weight.shape[0]
            return (weight.nbytes, True, 0) if rows > 1 and columns > 1 else none
        if node.is_op("Attention", domain=MICROSOFT) and len(weight.shape) == 2:
            return _attention(node, weight), False, 0
    if place in (1, 2) and weight.is_float and node.is_op("LSTM", "GRU") and len(weight.shape) == 3:
        return _recurrent(node, place, weight), False, 0
    if node.op_type in INTEGER_PRODUCTS and place == INTEGER_PRODUCTS[node.op_type] and weight.bits == 8:
        rows, columns = weight.shape if len(weight.shape) == 2 else (0, 0)
        if not rows:
            return none
        turned = node.op_type == "QGemm" and int(node.attributes.get("transB", 0))
        if turned:
            rows, columns = columns, rows
        size = whole_matrix(rows, columns, architecture)
        return size, False, weight.nbytes if turned else 0
    if node.op_type == "QLinearConv" and place == 3 and weight.bits == 8 and len(weight.shape) > 2:
        size, scratch = quantised_filter(node, weight, network, architecture)
        # the direct kernels' filter lies in the arena, a matrix beside it (seen with uint8 and with int8 weights)
        return size, symmetric(node, weight, network, architecture) > 0, scratch
    return none


def _signed(network: Network, node: Node, place: int) -> bool:
    value = network.values.get(node.inputs[place])
    return value is not None and value.kind == "int"


def _attention(node: Node, weight: Value) -> int:
    """Each of the three projections by head (contrib_ops/cpu/bert/attention.cc, PrePack)."""
    heads = int(node.attributes.get("num_heads", 1))
    rows, columns = weight.shape
    return 3 * heads * matrix(rows, columns // 3 // heads)


def _recurrent(node: Node, place: int, weight: Value) -> int:
    """W and R of an LSTM, a matrix for each direction; of a GRU R in two parts (deep_cpu_gru.cc, TryPackWeights)."""
    directions, columns, rows = weight.shape
    if node.op_type == "GRU" and place == 2:
        hidden = columns // GATES["GRU"]
        return directions * (matrix(rows, 2 * hidden) + matrix(rows, hidden))
    return directions * matrix(rows, columns)


def symmetric(node: Node, weight: Value, network: Network, architecture: str) -> int:
    """Bytes of a filter for the direct kernels, 0 where none takes it (mlas/lib/convsym.cpp, MlasConvSymPackWSize).

    Weights have to be int8 with zero points of zero; on x86 inputs have to be uint8.
    """
    point = network.weight(node.inputs[5]) if len(node.inputs) > 5 and node.inputs[5] else None
    if weight.kind != "int" or network.weight(node.inputs[2]) is None:
        return 0
    if point is None or (point.values is not None and any(point.values)):
        return 0
    groups = int(node.attributes.get("group", 1))
    outputs, inputs, *kernel = weight.shape
    arm = architecture == "aarch64"
    if not arm and _signed(network, node, 0):
        return 0
    if groups > 1:
        alike = inputs == 1 and outputs == groups
        return groups * prod(kernel) if alike and groups % (8 if arm else 16) == 0 else 0
    if arm and (prod(kernel) <= 1 or inputs < 64):
        return 0
    pack, step = 16, 16 if arm else 4
    if outputs < pack or inputs % 4 or outputs % step:
        return 0
    return -(-outputs // pack) * pack * inputs * prod(kernel)


def quantised_filter(node: Node, weight: Value, network: Network, architecture: str) -> tuple[int, int]:
    """(bytes of the packed filter, bytes of a reordered copy meanwhile) of a quantised convolution."""
    groups = int(node.attributes.get("group", 1))
    outputs, inputs, *kernel = weight.shape
    direct = symmetric(node, weight, network, architecture)
    if direct:
        return direct, 0
    filters, depth = outputs // groups, inputs * prod(kernel)
    if inputs == 1 and filters == 1:
        return weight.nbytes, 0
    return groups * whole_matrix(depth, filters, architecture), filters * depth
