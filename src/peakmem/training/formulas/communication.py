"""What splitting over ranks sends: bytes that one rank sends (and receives) in one step, by ring algorithms.

A ring all-reduce of n bytes sends 2n(r - 1)/r from each rank, a reduce-scatter or an all-gather n(r - 1)/r
(Thakur et al. 2005). Papers drop (r - 1)/r: they say 2Ψ and 3Ψ.
"""

from __future__ import annotations

from fractions import Fraction

from peakmem.training.formulas.answer import Answer, answer
from peakmem.training.formulas.shape import Shape
from peakmem.training.formulas.states import Stage


def all_reduce(nbytes: int, ranks: int) -> int:
    """Bytes that a rank sends to sum `nbytes` over all."""
    return 2 * all_gather(nbytes, ranks)


def all_gather(nbytes: int, ranks: int) -> int:
    """Bytes that a rank sends to bring shards of `nbytes` in all together; a reduce-scatter sends as many."""
    return int(Fraction(nbytes * (ranks - 1), ranks))


def data_parallel(
    parameter_bytes: int, gradient_bytes: int, ranks: int, stage: Stage = 0, *, gather_again: bool = True
) -> Answer:
    """ZeRO's volumes (arXiv:1910.02054, section 7): 2Ψ up to stage 2, 3Ψ in stage 3.

    Stage 0 all-reduces gradients. Stages 1 and 2 reduce-scatter them and gather updated parameters. Stage 3 gathers
    parameters in the forward and, unless they are kept (`gather_again`), in the backward.
    """
    if stage == 0:
        return answer(gradients=all_reduce(gradient_bytes, ranks))
    times = (2 if gather_again else 1) if stage == 3 else 1
    return answer(gradients=all_gather(gradient_bytes, ranks), parameters=times * all_gather(parameter_bytes, ranks))


def tensor_parallel_layer(shape: Shape, tensor: int, *, value_bytes: int = 2, recompute: bool = False) -> Answer:
    """One layer of Megatron's split: two all-reduces of sbh forward and two backward (Shoeybi et al. 2019, section 3).

    With sequence parallelism each is an all-gather and a reduce-scatter: the same bytes (arXiv:2205.05198, section
    4.2.2). Full recompute repeats the forward's.
    """
    each = all_reduce(shape.sequence * shape.batch * shape.hidden * value_bytes, tensor)
    return answer(forward=2 * each, backward=2 * each, recompute=2 * each if recompute else 0)


def pipeline_boundary(shape: Shape, *, value_bytes: int = 2, tensor: int = 1) -> int:
    """Bytes that a stage sends for one micro-batch: sbh forward, as many gradients backward; split with sequence
    parallelism."""
    return 2 * shape.sequence * shape.batch * shape.hidden * value_bytes // tensor


def bubble(stages: int, micro_batches: int, parts: int = 1) -> Fraction:
    """The share of ideal time that a pipeline idles: (p - 1)/(m v) (Narayanan et al. 2021, arXiv:2104.04473)."""
    return Fraction(stages - 1, micro_batches * parts)
