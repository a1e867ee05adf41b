"""Megatron-LM's own theoretical memory: megatron/training/theoretical_memory_usage.py, commit d98e8a6 (August 2026).

Dense models: experts are not here. Most loaded pipeline stage, first stage's activations.
"""

from __future__ import annotations

from fractions import Fraction

from peakmem.training.formulas.answer import Answer, answer
from peakmem.training.formulas.shape import Shape


def _most_loaded(shape: Shape, tensor: int, stages: int) -> Fraction:
    """Parameters of the most loaded stage: biases of linear layers are not counted, norms are."""
    hidden = shape.hidden
    layer = 2 * hidden * shape.query + 2 * hidden * shape.key + (3 if shape.gated else 2) * hidden * shape.inner
    norm = hidden * (2 if shape.norm_biases else 1)
    embedding = hidden * shape.vocabulary
    split = Fraction(shape.layers * layer, stages) + embedding
    if not shape.tied and stages == 1:
        split += embedding
    return split / tensor + Fraction(2 * norm * shape.layers + norm, stages)


def states(
    shape: Shape, *, tensor: int = 1, stages: int = 1, data: int = 1, distributed_optimizer: bool = False
) -> int:
    """18 bytes a parameter, or 6 + 12/dp with the distributed optimizer.

    16-bit weights 2, float32 gradients 4, float32 weights 4, two moments 8.
    """
    each = 6 + Fraction(12, data) if distributed_optimizer else Fraction(18)
    return int(_most_loaded(shape, tensor, stages) * each)


def activations(
    shape: Shape, *, tensor: int = 1, stages: int = 1, parts: int = 0, micro_batches: int | None = None,
    sequence_parallel: bool = True,
) -> int:  # fmt: skip
    """With sequence parallelism and selective recompute sbh(18 + 4f/h), otherwise sbh(10 + 24/t) and 5 % on top."""
    tokens = shape.sequence * shape.batch
    if sequence_parallel:
        one = tokens * (18 * shape.hidden + 4 * shape.inner)
        total = Fraction(one * shape.layers)
    else:
        total = tokens * shape.hidden * (10 + Fraction(24, tensor)) * shape.layers
    total += (8 + shape.hidden) * tokens * stages
    if parts:
        total *= 1 + Fraction(stages - 1, stages * parts)
    elif stages > 1 and micro_batches is not None:
        total *= min(Fraction(1), Fraction(micro_batches, stages))
    if sequence_parallel:
        if stages == 1:
            total += tokens * 4 * (shape.hidden + shape.vocabulary)
        return int(total / tensor)
    if stages == 1:
        total += (Fraction(tokens * shape.vocabulary, tensor) + tokens * shape.hidden) * 2
    return int(total * Fraction(105, 100))


def report(
    shape: Shape, *, tensor: int = 1, stages: int = 1, data: int = 1, distributed_optimizer: bool = False,
    sequence_parallel: bool = True,
) -> Answer:  # fmt: skip
    """`report_theoretical_memory`."""
    return answer(
        weight_and_optimizer=states(
            shape, tensor=tensor, stages=stages, data=data, distributed_optimizer=distributed_optimizer
        ),
        activations=activations(shape, tensor=tensor, stages=stages, sequence_parallel=sequence_parallel),
    )
