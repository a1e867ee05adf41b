"""Tensor parallelism by formula: what one rank holds of a transformer (Shoeybi et al. 2019, arXiv:1909.08053)."""

from __future__ import annotations

from peakmem.errors import UsageError
from peakmem.training.formulas.shape import Shape


def _checked(shape: Shape, tensor: int) -> None:
    for what, count in (("heads", shape.heads), ("feed-forward width", shape.inner), ("vocabulary", shape.vocabulary)):
        if count % tensor:
            raise UsageError(f"{what} of {count} cannot be split over {tensor} ranks", where="tensor parallelism")
    if (shape.kv_heads or shape.heads) % tensor:
        raise UsageError(
            f"{shape.kv_heads} key and value heads cannot be split over {tensor} ranks", where="tensor parallelism"
        )


def rank_layer_parameters(shape: Shape, tensor: int) -> int:
    """Parameters of one layer on one rank.

    Queries, keys, values and the first feed-forward matrices are split by columns with their biases; the output
    projection and the last matrix by rows, their biases whole; norms are whole on each rank.
    """
    _checked(shape, tensor)
    hidden, inner = shape.hidden, shape.inner
    matrices = 2 * hidden * shape.query + 2 * hidden * shape.key + (3 if shape.gated else 2) * hidden * inner
    split_biases = shape.query + 2 * shape.key + (2 if shape.gated else 1) * inner if shape.biases else 0
    whole = (2 * hidden if shape.biases else 0) + 2 * hidden * (2 if shape.norm_biases else 1)
    return (matrices + split_biases) // tensor + whole


def rank_parameters(shape: Shape, tensor: int) -> int:
    """Parameters on one rank: embedding and output are split by the vocabulary, positions are whole."""
    norm = shape.hidden * (2 if shape.norm_biases else 1)
    tables = shape.hidden * shape.vocabulary * (1 if shape.tied else 2) // tensor + shape.hidden * shape.positions
    return shape.layers * rank_layer_parameters(shape, tensor) + tables + norm
