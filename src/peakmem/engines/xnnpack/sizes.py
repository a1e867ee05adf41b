"""Sizes of XNNPACK's structures, and what one operator's bytes are told as.

From src/operators/*.c of XNNPACK 75db3c0 (2026-08-21). Sizes of structures are those of 64-bit builds for x86
(sizeof, and the calls of malloc in ai-edge-litert 2.3.0).
"""

from __future__ import annotations

from dataclasses import dataclass

from peakmem.engines.prediction import Processor
from peakmem.engines.xnnpack.configs import ALIGNMENT, Gemm, gemm
from peakmem.engines.xnnpack.work import BITS, Tensor, Work

OPERATOR = 520
# struct xnn_operator
COMPUTE = 88
# struct compute_parameters, of each step that an operator runs
CONVOLUTION = 224
# struct xnn_convolution_operator
IGEMM_KERNELS = 264
# struct xnn_ukernel_igemm
IGEMM = 408
# struct igemm_op_context
DWCONV = 336
# struct dwconv_op_context
GEMM_KERNELS = 288
# struct gemm_types
GEMM = 688
# struct gemm_op_context
REDUCE = 272
# struct reduce_context
PAD = 232
# struct pad_context
SUBCONVOLUTION = 72
# struct subconvolution_params
PARAMETERS = 40
# union xnn_params
POINTER = 8


class NoRule(Exception):
    """The operator has no rule here."""


@dataclass(slots=True)
class Held:
    """Bytes of one operator."""

    objects: int = OPERATOR + COMPUTE
    packed: int = 0
    buffers: int = 0
    # zeros and tables, from creation on
    indirection: int = 0
    # from the first reshape on
    late: int = 0
    # zeros and weights that the first reshape makes
    workspace: int = 0
    transient: int = 0
    # while it is created, beside what stays


@dataclass(frozen=True, slots=True)
class Where:
    """What sizes depend on beside the node."""

    work: Work
    processor: Processor
    threads: int
    transient_indirection: bool = False

    @property
    def alignment(self) -> int:
        return ALIGNMENT.get(self.processor.architecture, 16)

    def up(self, nbytes: int) -> int:
        return -(-nbytes // self.alignment) * self.alignment

    def kernel(self, kind: str) -> Gemm:
        found = gemm(kind, self.processor)
        if found is None:
            raise NoRule(f"no kernel for {kind} on this processor")
        return found


def width(tensor: Tensor) -> int:
    """Bytes of an element, at least 1."""
    return max(BITS.get(tensor.value.datatype, 8) // 8, 1)
