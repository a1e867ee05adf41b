"""Activations of a transformer's layers: the family of sbh(34 + 5as/h) (Korthikanti et al. 2022, arXiv:2205.05198).

16-bit values, dropout masks of one byte, attention without a fused kernel. s sequence, b micro-batch, h hidden size,
a heads, t tensor-parallel ranks, L layers, p pipeline stages, m interleaved parts of a stage.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from peakmem.training.formulas.shape import Shape

Recompute = Literal["none", "selective", "full"]


def layer_bytes(
    shape: Shape, *, tensor: int = 1, sequence_parallel: bool = False, recompute: Recompute = "none"
) -> Fraction:
    """One layer on one rank (Table 2 of the paper).

    Without: sbh(34 + 5as/h). Tensor parallel: sbh(10 + 24/t + 5as/(ht)). With sequence parallelism: sbh/t(34 + 5as/h).
    Selective recompute leaves out 5as/h. Full recompute: 2sbh, the layer's input.
    """
    base = shape.sequence * shape.batch * shape.hidden
    if recompute == "full":
        return Fraction(2 * base, 1)
    scores = Fraction(5 * shape.heads * shape.sequence, shape.hidden) if recompute == "none" else Fraction(0)
    if sequence_parallel:
        return Fraction(base, tensor) * (34 + scores)
    return base * (10 + Fraction(24, tensor) + scores / tensor)


def interleaving(stages: int, parts: int) -> Fraction:
    """How much more an interleaved schedule holds on the first stage: 1 + (p - 1)/(pm) (section 4.2.3)."""
    return 1 + Fraction(stages - 1, stages * parts)


def model_bytes(
    shape: Shape, *, tensor: int = 1, sequence_parallel: bool = False, recompute: Recompute = "none",
    stages: int = 1, parts: int = 1,
) -> int:  # fmt: skip
    """All layers that the first pipeline stage holds: L/p layers of p micro-batches are L layers (equation 5)."""
    one = layer_bytes(shape, tensor=tensor, sequence_parallel=sequence_parallel, recompute=recompute)
    factor = interleaving(stages, parts) if parts > 1 else Fraction(1)
    return int(one * shape.layers * factor)


def selective_saving(shape: Shape) -> Fraction:
    """The share of a layer's activations that selective recompute saves: (5as/h) / (34 + 5as/h)."""
    scores = Fraction(5 * shape.heads * shape.sequence, shape.hidden)
    return scores / (34 + scores)


def pipeline_bytes(activation_bytes: int, boundary_bytes: int, stages: int, micro_batches: int) -> int:
    """GPipe with recompute: N + L/K · N/M (Huang et al. 2019, arXiv:1811.06965, section 2.3).

    `boundary_bytes` of the whole mini-batch are kept at a stage's edge; one micro-batch of a stage is recomputed:
    `activation_bytes` are those of all layers for the whole mini-batch.
    """
    return boundary_bytes + -(-activation_bytes // (stages * micro_batches))
