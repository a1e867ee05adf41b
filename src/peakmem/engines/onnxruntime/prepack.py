"""Weights in the order that matrix products read, and when the originals go.

A kernel packs a constant when the session is made; the original is freed once every reader has packed it
(onnxruntime/core/framework/session_state.cc, PrepackConstantInitializedTensors). Sizes:
onnxruntime/core/mlas/lib/sgemm.cpp, MlasGemmPackBSize: columns to whole 16, in multiples of 64 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from peakmem.engines.onnxruntime.network import ALIGNMENT, MICROSOFT, Network, Node, Value

COLUMNS = 16
# MLAS_SGEMM_STRIDEN_THREAD_ALIGN: columns of a packed matrix come in this many


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


def pack(network: Network) -> list[Packed]:
    """What the kernels pack, in the nodes' order."""
    readers = network.reads()
    packed_by: dict[str, int] = {}
    found = []
    for node in sorted(network.nodes.values(), key=lambda node: node.number):
        weight = network.weight(node.inputs[1]) if len(node.inputs) > 1 else None
        if weight is None or not weight.is_float:
            continue
        size = _size(node, weight)
        if size:
            packed_by[weight.name] = packed_by.get(weight.name, 0) + 1
            freed = packed_by[weight.name] == readers[weight.name]
            found.append(
                Packed(weight.name, 0 if weight.outside else weight.nbytes, size, freed, node.is_op("ConvTranspose"))
            )
    return found


def _size(node: Node, weight: Value) -> int:
    """Bytes of the packed weight, 0 where the kernel packs none."""
    if node.is_op("Gemm", "MatMul") or node.is_op("FusedGemm", "FusedMatMul", domain=MICROSOFT):
        if len(weight.shape) != 2:
            return 0
        rows, columns = weight.shape
        if node.op_type != "MatMul" and int(node.attributes.get("transB", 0)):
            rows, columns = columns, rows
        nbytes = -(-columns // COLUMNS) * COLUMNS * rows * 4
        return -(-nbytes // ALIGNMENT) * ALIGNMENT
    if node.is_op("ConvTranspose"):
        # transposed where that moves anything (core/providers/cpu/nn/conv_transpose.cc, PrePack)
        groups = int(node.attributes.get("group", 1))
        rows, columns = weight.shape[0] // groups, weight.count // weight.shape[0]
        return weight.nbytes if rows > 1 and columns > 1 else 0
    return 0
