"""A transformer by its numbers: parameters counted from the configuration alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """A transformer and the sequences that it is trained on."""

    layers: int
    hidden: int
    heads: int
    sequence: int
    batch: int = 1
    # sequences of one micro-batch
    vocabulary: int = 0
    feed_forward: int = 0
    # 0: four times the hidden size
    kv_heads: int = 0
    # 0: as many as heads
    head_size: int = 0
    # 0: hidden / heads
    gated: bool = False
    # three matrices in the feed-forward part (SwiGLU), not two
    biases: bool = True
    norm_biases: bool = True
    # LayerNorm has two vectors, RMSNorm one
    tied: bool = True
    # one matrix for the embedding and the output
    positions: int = 0
    # learned position embeddings

    @property
    def inner(self) -> int:
        """Width of the feed-forward part."""
        return self.feed_forward or 4 * self.hidden

    @property
    def head(self) -> int:
        """Width of one head."""
        return self.head_size or self.hidden // self.heads

    @property
    def query(self) -> int:
        """Width of all queries."""
        return self.heads * self.head

    @property
    def key(self) -> int:
        """Width of all keys, and of all values."""
        return (self.kv_heads or self.heads) * self.head


def layer_parameters(shape: Shape) -> int:
    """Parameters of one layer: four projections, the feed-forward part, two norms."""
    hidden, inner = shape.hidden, shape.inner
    attention = 2 * hidden * shape.query + 2 * hidden * shape.key
    feed_forward = (3 if shape.gated else 2) * hidden * inner
    biases = (shape.query + 2 * shape.key + hidden + hidden + (2 if shape.gated else 1) * inner) if shape.biases else 0
    return attention + feed_forward + biases + 2 * _norm(shape)


def _norm(shape: Shape) -> int:
    return shape.hidden * (2 if shape.norm_biases else 1)


def parameters(shape: Shape) -> int:
    """All parameters: the layers, the embedding, the output where it is another matrix, positions, the last norm."""
    tables = shape.vocabulary * (1 if shape.tied else 2) + shape.positions
    return shape.layers * layer_parameters(shape) + tables * shape.hidden + _norm(shape)
