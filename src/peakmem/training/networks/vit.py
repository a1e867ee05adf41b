"""Vision transformers in their two best known implementations.

`vit` is torchvision 0.28 (`models/vision_transformer.py`): torch.nn.MultiheadAttention without weights asked for, GELU
not in place, every dropout at 0 (which copies nothing in training either). `timm_vit` is timm 1.0
(`models/vision_transformer.py`): one linear layer for query, key and value, scaled_dot_product_attention.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

NORM = partial(nn.LayerNorm, eps=1e-6)
SIZES = {"s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16), "h": (1280, 32, 16), "ti": (192, 12, 3)}
# features, blocks, heads


class Block(nn.Module):
    """Attention and two linear layers, each behind a norm and beside a residual."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = NORM(features)
        self.self_attention = nn.MultiheadAttention(features, heads, dropout=0.0, batch_first=True)
        self.dropout = nn.Dropout(0.0)
        self.ln_2 = NORM(features)
        self.mlp = nn.Sequential(
            nn.Linear(features, 4 * features), nn.GELU(), nn.Dropout(0.0),
            nn.Linear(4 * features, features), nn.Dropout(0.0),
        )  # fmt: skip

    def forward(self, residual: Tensor) -> Tensor:
        """The features after the block."""
        x = self.ln_1(residual)
        x, _ = self.self_attention(x, x, x, need_weights=False)
        x = self.dropout(x)
        x = x + residual
        y = self.ln_2(x)
        y = self.mlp(y)
        return x + y


class Encoder(nn.Module):
    """Positions and blocks."""

    def __init__(self, tokens: int, features: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, tokens, features))
        self.dropout = nn.Dropout(0.0)
        self.layers = nn.Sequential()
        for at in range(blocks):
            self.layers.add_module(f"encoder_layer_{at}", Block(features, heads))
        self.ln = NORM(features)

    def forward(self, x: Tensor) -> Tensor:
        """The features of each token."""
        x = x + self.pos_embedding
        return self.ln(self.layers(self.dropout(x)))


class VisionTransformer(nn.Module):
    """Patches, a class token, the encoder, one linear layer."""

    def __init__(self, features: int, blocks: int, heads: int, patch: int, resolution: int, classes: int) -> None:
        super().__init__()
        self.conv_proj = nn.Conv2d(3, features, patch, patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, features))
        self.encoder = Encoder((resolution // patch) ** 2 + 1, features, blocks, heads)
        self.heads = nn.Sequential()
        self.heads.add_module("head", nn.Linear(features, classes))

    def patches(self, x: Tensor) -> Tensor:
        """One token for each patch."""
        x = self.conv_proj(x)
        x = x.reshape(x.shape[0], x.shape[1], -1)
        return x.permute(0, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The scores of the classes."""
        x = self.patches(x)
        token = self.class_token.expand(x.shape[0], -1, -1)
        x = torch.cat([token, x], dim=1)
        x = self.encoder(x)
        x = x[:, 0]
        return self.heads(x)


class Attention(nn.Module):
    """Query, key and value from one linear layer."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(features, 3 * features)
        self.proj = nn.Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        """What each token takes from the others."""
        batch, tokens, features = x.shape
        joint = self.qkv(x).reshape(batch, tokens, 3, self.heads, features // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = joint.unbind(0)
        x = functional.scaled_dot_product_attention(q, k, v)
        x = x.transpose(1, 2).reshape(batch, tokens, features)
        return self.proj(x)


class Mlp(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features, 4 * features)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(4 * features, features)

    def forward(self, x: Tensor) -> Tensor:
        """The features of each token."""
        x = self.fc1(x)
        x = self.act(x)
        return self.fc2(x)


class TimmBlock(nn.Module):
    """The block under timm's names."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.norm1 = NORM(features)
        self.attn = Attention(features, heads)
        self.norm2 = NORM(features)
        self.mlp = Mlp(features)

    def forward(self, x: Tensor) -> Tensor:
        """The features after the block."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """One token for each patch."""

    def __init__(self, features: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, features, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens before features."""
        x = self.proj(x)
        return x.flatten(2).transpose(1, 2)


class TimmVisionTransformer(nn.Module):
    """The network under timm's names."""

    def __init__(self, features: int, blocks: int, heads: int, patch: int, resolution: int, classes: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, features))
        self.pos_embed = nn.Parameter(torch.empty(1, (resolution // patch) ** 2 + 1, features))
        self.patch_embed = PatchEmbed(features, patch)
        self.blocks = nn.Sequential(*(TimmBlock(features, heads) for _ in range(blocks)))
        self.norm = NORM(features)
        self.head = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """The scores of the classes."""
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        x = x + self.pos_embed
        x = self.blocks(x)
        x = self.norm(x)
        x = x[:, 0]
        return self.head(x)


def vit(size: str, *, patch: int, resolution: int = 224, classes: int = 1000) -> nn.Module:
    """torchvision's."""
    return VisionTransformer(*SIZES[size], patch, resolution, classes)


def timm_vit(size: str, *, patch: int, resolution: int = 224, classes: int = 1000) -> nn.Module:
    """timm's."""
    return TimmVisionTransformer(*SIZES[size], patch, resolution, classes)
