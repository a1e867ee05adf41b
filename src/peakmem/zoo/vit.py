"""Vision Transformer, small, patches of 16 (Dosovitskiy et al., 2020, arXiv:2010.11929).

The small size is DeiT's (Touvron et al., 2020, arXiv:2012.12877): 12 layers, 384 features, 6 heads.
Scopes as in timm. The position table has a row per patch, so another resolution is another network.
"""

from __future__ import annotations

from peakmem.errors import UsageError
from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Dim
from peakmem.ir.graph import Graph
from peakmem.zoo.layers import attention, gelu, image

LAYERS, HIDDEN, HEADS, PATCH = 12, 384, 6, 16


def _embed(b: GraphBuilder, x: str, tokens: int) -> str:
    """Patches and the class token, with their positions."""
    with b.scope("patch_embed"):
        patches = b.conv(x, HIDDEN, kernel=PATCH, stride=PATCH, bias=True, name="proj")
        patches = b.transpose(b.reshape(patches, (0, HIDDEN, -1)), (0, 2, 1))
    shape = b.concat([b.one("Shape", x, end=1), b.literal([1, HIDDEN])], axis=0)
    token = b.one("Expand", b.parameter("cls_token", (1, 1, HIDDEN)), shape)
    return b.add(b.concat([token, patches]), b.parameter("pos_embed", (1, tokens, HIDDEN)))


def _block(b: GraphBuilder, x: str) -> str:
    y = b.layer_norm(x, epsilon=1e-6, name="norm1")
    with b.scope("attn"):
        y = attention(b, y, HEADS, names=("qkv", "proj"))
    x = b.add(x, y)
    y = b.layer_norm(x, epsilon=1e-6, name="norm2")
    with b.scope("mlp"):
        y = b.dense(gelu(b, b.dense(y, 4 * HIDDEN, name="fc1")), HIDDEN, name="fc2")
    return b.add(x, y)


def vit_s16(batch: Dim, *, classes: int, resolution: int) -> Graph:
    """The classifier on the class token."""
    if resolution % PATCH:
        raise UsageError(
            f"vit_s16 cannot cut images of {resolution}x{resolution} into patches",
            expected=f"a multiple of {PATCH}",
            hint=f"resolution={max(PATCH, resolution // PATCH * PATCH)}",
        )
    b = GraphBuilder("vit_s16")
    x = _embed(b, image(b, batch, resolution), (resolution // PATCH) ** 2 + 1)
    for layer in range(LAYERS):
        with b.scope(f"blocks.{layer}"):
            x = _block(b, x)
    x = b.layer_norm(x, epsilon=1e-6, name="norm")
    x = b.one("Gather", x, b.literal([0], scalar=True), name="token", axis=1)
    return b.finish(b.linear(x, classes, name="head"))
