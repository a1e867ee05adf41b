"""Decoders like Llama, from a configuration alone, as transformers 5.23 trains them (`models/*/modeling_*.py`).

RMSNorm computes in float32 and multiplies by its weight in the dtype of what came in (Gemma: in float32); cosines and
sines are made once for all layers, in float32, and cast; rotated queries and keys are new tensors, made of two
products and a concatenation each; heads that share keys are left to `scaled_dot_product_attention(enable_gqa=True)`,
as long as there is no mask; scores are widened to float32 for the loss. transformers itself is not imported.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from peakmem.training.networks.decoder import Decoder
from peakmem.training.networks.language import (
    KeysAndValues,
    Output,
    causal_loss,
    look_for_packed,
    mask_of,
    positions_of,
)

Rotary = tuple[Tensor, Tensor]


class RmsNorm(nn.Module):
    """Divided by the root of the mean square."""

    def __init__(self, features: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """In float32, weighted in the dtype of the input."""
        dtype = x.dtype
        x = x.to(torch.float32)
        variance = x.pow(2).mean(-1, keepdim=True)
        x = x * torch.rsqrt(variance + self.eps)
        return self.weight * x.to(dtype)


class GemmaNorm(nn.Module):
    """The same with a weight around one, all in float32."""

    def __init__(self, features: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(features))

    def scaled(self, x: Tensor) -> Tensor:
        """Without the weight."""
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)

    def forward(self, x: Tensor) -> Tensor:
        """Back in the dtype of the input."""
        out = self.scaled(x.float())
        out = out * (1.0 + self.weight.float())
        return out.type_as(x)


class ScaledEmbedding(nn.Embedding):
    """Gemma's: its rows times the root of their length."""

    def __init__(self, rows: int, features: int, padding: int | None) -> None:
        super().__init__(rows, features, padding)
        self.register_buffer("embed_scale", torch.tensor(features**0.5), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """The rows of the tokens."""
        return super().forward(tokens) * self.embed_scale.to(self.weight.dtype)


class RotaryEmbedding(nn.Module):
    """Cosines and sines of all positions."""

    def __init__(self, shape: Decoder) -> None:
        super().__init__()
        size = shape.rotary
        inverse = 1.0 / (shape.theta ** (torch.arange(0, size, 2, dtype=torch.float) / size))
        self.register_buffer("inv_freq", inverse, persistent=False)
        self.register_buffer("original_inv_freq", inverse.clone(), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """Stay in float32 when the network is cast: loading a network in another dtype leaves these as they are."""
        moves = fn(self.inv_freq[:0]).device != self.inv_freq.device
        return super()._apply(fn, recurse) if moves else self

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def forward(self, x: Tensor, positions: Tensor) -> Rotary:
        """In the dtype of the features."""
        angles = positions[..., None].float() * self.inv_freq.to(device=x.device, dtype=torch.float)
        both = torch.cat((angles, angles), dim=-1)
        cos = both.cos() * 1.0
        sin = both.sin() * 1.0
        return cos.to(dtype=x.dtype), sin.to(dtype=x.dtype)


def _turned(x: Tensor) -> Tensor:
    first = x[..., : x.shape[-1] // 2]
    second = x[..., x.shape[-1] // 2 :]
    return torch.cat((-second, first), dim=-1)


def _rotated(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    cos = cos.unsqueeze(1)
    sin = sin.unsqueeze(1)
    q_turned = (q * cos) + (_turned(q) * sin)
    k_turned = (k * cos) + (_turned(k) * sin)
    return q_turned, k_turned


def _partly_rotated(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    cos = cos.unsqueeze(1)
    sin = sin.unsqueeze(1)
    size = cos.shape[-1]
    q_part, q_rest = q[..., :size], q[..., size:]
    k_part, k_rest = k[..., :size], k[..., size:]
    q_turned = torch.cat([(q_part * cos) + (_turned(q_part) * sin), q_rest], dim=-1)
    k_turned = torch.cat([(k_part * cos) + (_turned(k_part) * sin), k_rest], dim=-1)
    return q_turned, k_turned


def _repeated(x: Tensor, times: int) -> Tensor:
    batch, heads, tokens, size = x.shape
    x = x[:, :, None, :, :].expand(batch, heads, times, tokens, size)
    return x.reshape(batch, heads * times, tokens, size)


class Attention(nn.Module):
    """Causal self-attention with shared key heads."""

    def __init__(self, shape: Decoder, layer: int) -> None:
        super().__init__()
        self.head, self.shared, self.rate = shape.head, shape.heads // shape.key_heads, shape.attention_dropout
        self.rotates = shape.rotates(layer)
        self.queries, self.keys = shape.heads * shape.head, shape.key_heads * shape.head
        self.fused = shape.fused
        if shape.fused:
            self.o_proj = nn.Linear(self.queries, shape.hidden, bias=False)
            self.qkv_proj = nn.Linear(shape.hidden, self.queries + 2 * self.keys, bias=False)
        else:
            self.q_proj = nn.Linear(shape.hidden, self.queries, bias=shape.query_bias)
            self.k_proj = nn.Linear(shape.hidden, self.keys, bias=shape.query_bias)
            self.v_proj = nn.Linear(shape.hidden, self.keys, bias=shape.query_bias)
            self.o_proj = nn.Linear(self.queries, shape.hidden, bias=shape.output_bias)
        if shape.head_norms:
            self.q_norm = RmsNorm(shape.head, shape.eps)
            self.k_norm = RmsNorm(shape.head, shape.eps)
        self.head_norms = shape.head_norms

    def _projected(self, x: Tensor) -> tuple[Tensor, ...]:
        split = (*x.shape[:-1], -1, self.head)
        if self.fused:
            joint = self.qkv_proj(x)
            last = self.queries + self.keys
            q, k, v = joint[..., : self.queries], joint[..., self.queries : last], joint[..., last:]
            q, k, v = (part.view(split).transpose(1, 2) for part in (q, k, v))
            return q, k, v, joint  # which stays until the attention is through
        if self.head_norms:
            q = self.q_norm(self.q_proj(x).view(split)).transpose(1, 2)
            k = self.k_norm(self.k_proj(x).view(split)).transpose(1, 2)
        else:
            q = self.q_proj(x).view(split).transpose(1, 2)
            k = self.k_proj(x).view(split).transpose(1, 2)
        return q, k, self.v_proj(x).view(split).transpose(1, 2)

    def _attended(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        more: dict[str, bool] = {}
        if self.shared > 1:
            if mask is None:
                more["enable_gqa"] = True
            else:
                k = _repeated(k, self.shared)
                v = _repeated(v, self.shared)
        out = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=self.rate if self.training else 0.0, scale=self.head**-0.5,
            is_causal=mask is None and q.shape[2] > 1, **more,
        )  # fmt: skip
        out = out.transpose(1, 2).contiguous()
        return out  # noqa: RET504 (what it replaces goes before the frame does)

    def forward(self, x: Tensor, rotary: Rotary, cache: KeysAndValues | None, mask: Tensor | None) -> Tensor:
        """What each token takes from those before it."""
        q, k, v, *_joint = self._projected(x)
        cos, sin = rotary
        if self.rotates:
            q, k = (_partly_rotated if self.fused else _rotated)(q, k, cos, sin)
        if cache is not None:
            k, v = cache.update(k, v)
        out = self._attended(q, k, v, mask)
        out = out.reshape(*x.shape[:-1], -1).contiguous()
        out = self.o_proj(out)
        return out  # noqa: RET504


def _activation(name: str) -> nn.Module:
    if name in ("gelu_pytorch_tanh", "gelu_tanh"):
        return nn.GELU(approximate="tanh")
    return nn.GELU() if name == "gelu" else nn.SiLU()


class Mlp(nn.Module):
    """A gate, its product with what it lets through, and back."""

    def __init__(self, shape: Decoder) -> None:
        super().__init__()
        self.fused = shape.fused
        if shape.fused:
            self.gate_up_proj = nn.Linear(shape.hidden, 2 * shape.inner, bias=False)
        else:
            self.gate_proj = nn.Linear(shape.hidden, shape.inner, bias=shape.inner_bias)
            self.up_proj = nn.Linear(shape.hidden, shape.inner, bias=shape.inner_bias)
        self.down_proj = nn.Linear(shape.inner, shape.hidden, bias=shape.inner_bias)
        self.act_fn = _activation(shape.activation)

    def forward(self, x: Tensor) -> Tensor:
        """The features of each token."""
        if self.fused:
            up = self.gate_up_proj(x)
            gate, up = up.chunk(2, dim=-1)
            up = up * self.act_fn(gate)
            return self.down_proj(up)
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """Attention and the gated part, each behind a norm and beside a residual."""

    def __init__(self, shape: Decoder, layer: int) -> None:
        super().__init__()
        norm = GemmaNorm if shape.gemma else RmsNorm
        self.self_attn = Attention(shape, layer)
        self.mlp = Mlp(shape)
        self.input_layernorm = norm(shape.hidden, shape.eps)
        self.post_attention_layernorm = norm(shape.hidden, shape.eps)
        self.dropout = nn.Dropout(shape.residual_dropout) if shape.fused else None

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None,
        rotary: Rotary,
        cache: KeysAndValues | None,
        positions: Tensor,  # noqa: ARG002
    ) -> Tensor:
        """The features after the layer; a layer that runs again holds the positions as well."""
        residual = x
        x = self.input_layernorm(x)
        x = self.self_attn(x, rotary, cache, mask)
        x = residual + (x if self.dropout is None else self.dropout(x))
        residual = x
        x = self.post_attention_layernorm(x)
        x = self.mlp(x)
        return residual + (x if self.dropout is None else self.dropout(x))


class Model(nn.Module):
    """Embedding and layers."""

    def __init__(self, shape: Decoder) -> None:
        super().__init__()
        embedding = ScaledEmbedding if shape.gemma else nn.Embedding
        self.embed_tokens = embedding(shape.vocabulary, shape.hidden, shape.padding)
        self.layers = nn.ModuleList([Layer(shape, layer) for layer in range(shape.layers)])
        self.norm = (GemmaNorm if shape.gemma else RmsNorm)(shape.hidden, shape.eps)
        self.rotary_emb = RotaryEmbedding(shape)
        self.masks_by_type = shape.family in ("qwen2", "qwen3", "smollm3")
        # what masks are made from is held by a dictionary there

    def forward(self, tokens: Tensor, cache: KeysAndValues | None, padding: Tensor | None) -> Tensor:
        """The features of each token."""
        positions = None  # the names stand, and so go at the end, in the reference's order
        embedded = self.embed_tokens(tokens)
        if cache is not None:
            cache.begin()
        positions = positions_of(embedded)
        mask = None
        if padding is not None:
            mask = mask_of(padding)
        elif cache is None:
            look_for_packed(positions, tokens.shape[0])
        _kept = {"embedded": embedded, "positions": positions} if self.masks_by_type else {}
        x = embedded
        rotary = self.rotary_emb(x, positions)
        for layer in self.layers:
            x = layer(x, mask=mask, rotary=rotary, cache=cache, positions=positions)
        x = self.norm(x)
        return x  # noqa: RET504


class LlamaLike(nn.Module):
    """The language model."""

    def __init__(self, shape: Decoder, *, cached: bool) -> None:
        super().__init__()
        self.cached, self.vocabulary = cached, shape.vocabulary
        self.window = (shape.layers, shape.window)
        self.model = Model(shape)
        self.lm_head = nn.Linear(shape.hidden, shape.vocabulary, bias=False)
        if shape.tied:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, tokens: Tensor, labels: Tensor, padding: Tensor | None = None) -> Output:
        """The loss, the scores and the cache."""
        cache = KeysAndValues(*self.window) if self.cached else None
        x = self.model(tokens, cache, padding)
        logits = self.lm_head(x)
        return Output(causal_loss(logits, labels, self.vocabulary), logits, cache)
