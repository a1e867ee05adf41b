"""GPT-2 as Hugging Face trains it (transformers 5.23, `models/gpt2/modeling_gpt2.py`, scaled_dot_product_attention).

Dropout 0.1 after the embeddings, on the attention weights and before both residuals; the head is the embedding's own
matrix. `gelu_new` is written out in eight operators, of which autograd keeps most results. Query, key and value are
views of one result. With `cached`, as the configuration's default has it in training too, keys and values are copied
into a cache that the outputs hold (`cache_utils.py`: they are concatenated to an empty tensor).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from peakmem.training.networks.language import (
    KeysAndValues,
    Output,
    causal_loss,
    look_for_packed,
    mask_of,
    positions_of,
)


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes and rates; OpenAI's smallest."""

    vocabulary: int = 50_257
    positions: int = 1024
    hidden: int = 768
    layers: int = 12
    heads: int = 12
    inner: int | None = None
    embedding_dropout: float = 0.1
    attention_dropout: float = 0.1
    residual_dropout: float = 0.1
    activation: str = "gelu_new"
    eps: float = 1e-5


SIZES = {"small": Shape(), "medium": Shape(hidden=1024, layers=24, heads=16),
         "large": Shape(hidden=1280, layers=36, heads=20), "xl": Shape(hidden=1600, layers=48, heads=25)}  # fmt: skip


class Conv1D(nn.Module):
    """A linear layer whose matrix stands the other way round."""

    def __init__(self, outside: int, inside: int) -> None:
        super().__init__()
        self.nf, self.nx = outside, inside
        self.weight = nn.Parameter(torch.empty(inside, outside))
        self.bias = nn.Parameter(torch.zeros(outside))

    def forward(self, x: Tensor) -> Tensor:
        """The product, and the bias."""
        shape = (*x.size()[:-1], self.nf)
        x = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return x.view(shape)


class NewGelu(nn.Module):
    """GELU by the tanh approximation, operator by operator."""

    def forward(self, x: Tensor) -> Tensor:
        """The activated features."""
        return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.rate = shape.heads, shape.attention_dropout
        self.c_attn = Conv1D(3 * shape.hidden, shape.hidden)
        self.c_proj = Conv1D(shape.hidden, shape.hidden)
        self.resid_dropout = nn.Dropout(shape.residual_dropout)

    def forward(self, x: Tensor, cache: KeysAndValues | None, mask: Tensor | None) -> Tensor:
        """What each token takes from those before it."""
        batch, tokens, features = x.shape
        split = (batch, tokens, self.heads, features // self.heads)
        q, k, v = self.c_attn(x).split(features, dim=2)
        q, k, v = (part.view(split).transpose(1, 2) for part in (q, k, v))
        if cache is not None:
            k, v = cache.update(k, v)
        out = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=self.rate if self.training else 0.0,
            is_causal=mask is None and tokens > 1, scale=split[-1] ** -0.5,
        )  # fmt: skip
        out = out.transpose(1, 2).contiguous()
        out = out.reshape(batch, tokens, features).contiguous()
        out = self.c_proj(out)
        out = self.resid_dropout(out)
        return out  # noqa: RET504 (what it replaces goes before the frame does)


class Mlp(nn.Module):
    """Two linear layers."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        inner = shape.inner or 4 * shape.hidden
        self.c_fc = Conv1D(inner, shape.hidden)
        self.c_proj = Conv1D(shape.hidden, inner)
        self.act = NewGelu() if shape.activation == "gelu_new" else nn.GELU()
        self.dropout = nn.Dropout(shape.residual_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """The features of each token."""
        x = self.c_fc(x)
        x = self.act(x)
        x = self.c_proj(x)
        x = self.dropout(x)
        return x  # noqa: RET504


class Block(nn.Module):
    """Attention and two linear layers, each behind a norm and beside a residual."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(shape.hidden, eps=shape.eps)
        self.attn = Attention(shape)
        self.ln_2 = nn.LayerNorm(shape.hidden, eps=shape.eps)
        self.mlp = Mlp(shape)

    def forward(self, x: Tensor, cache: KeysAndValues | None, mask: Tensor | None, _positions: Tensor) -> Tensor:
        """The features after the block; a block that runs again holds the positions as well."""
        residual = x
        x = self.ln_1(x)
        attended = self.attn(x, cache, mask)
        x = attended + residual
        residual = x
        x = self.ln_2(x)
        branch = self.mlp(x)
        return residual + branch


class Transformer(nn.Module):
    """Embeddings and blocks."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.wte = nn.Embedding(shape.vocabulary, shape.hidden)
        self.wpe = nn.Embedding(shape.positions, shape.hidden)
        self.drop = nn.Dropout(shape.embedding_dropout)
        self.h = nn.ModuleList([Block(shape) for _ in range(shape.layers)])
        self.ln_f = nn.LayerNorm(shape.hidden, eps=shape.eps)

    def forward(self, tokens: Tensor, cache: KeysAndValues | None, padding: Tensor | None) -> Tensor:
        """The features of each token."""
        places = None  # the names stand, and so go at the end, in the reference's order
        embedded = self.wte(tokens)
        places = positions_of(embedded)
        positions = self.wpe(places)
        x = embedded + positions
        mask = None
        if padding is not None:
            mask = mask_of(padding)
        elif cache is None:
            look_for_packed(places, tokens.shape[0])
        x = self.drop(x)
        for block in self.h:
            x = block(x, cache, mask, places)
        return self.ln_f(x)


class Gpt2(nn.Module):
    """The language model."""

    def __init__(self, shape: Shape, *, cached: bool) -> None:
        super().__init__()
        self.cached, self.vocabulary = cached, shape.vocabulary
        self.transformer = Transformer(shape)
        self.lm_head = nn.Linear(shape.hidden, shape.vocabulary, bias=False)
        self.lm_head.weight = self.transformer.wte.weight

    def forward(self, tokens: Tensor, labels: Tensor, padding: Tensor | None = None) -> Output:
        """The loss, the scores and the cache."""
        cache = KeysAndValues() if self.cached else None
        x = self.transformer(tokens, cache, padding)
        logits = self.lm_head(x)
        return Output(causal_loss(logits, labels, self.vocabulary), logits, cache)


def gpt2(shape: Shape | str, *, cached: bool = True) -> nn.Module:
    """By the name of a size, or by its sizes."""
    return Gpt2(SIZES[shape] if isinstance(shape, str) else shape, cached=cached)
