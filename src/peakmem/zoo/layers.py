"""Pieces that several networks of the zoo are made of; no network stands here.

A piece appends operators to the builder in the order the well known implementations run them and
returns the name of its result. It opens no scope of its own unless it says so.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt
from typing import TypeAlias

from peakmem.errors import UsageError
from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Dim, bare

Activation: TypeAlias = Callable[[str], str]
# a method of the builder, such as GraphBuilder.relu

HIDDEN_SCORE = -65504.0
# what a masked attention score becomes: the smallest float16, so that any float dtype holds it


def image(b: GraphBuilder, batch: Dim, resolution: int, channels: int = 3) -> str:
    """The input of a network that reads square images."""
    return b.input("input", (batch, channels, resolution, resolution))


def size(b: GraphBuilder, x: str, axis: int) -> int:
    """A dimension that is a number whatever the caller leaves open: channels or features."""
    dim = b.shape(x)[axis]
    assert isinstance(dim, int)
    return dim


def divisible(channels: float, by: int = 8) -> int:
    """`channels` rounded to a multiple of `by`, never down by more than a tenth (MobileNets)."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * channels else rounded


def conv_bn(
    b: GraphBuilder,
    x: str,
    channels: int,
    *,
    kernel: int,
    stride: int = 1,
    pad: int | None = None,
    group: int = 1,
    act: Activation | None = None,
    name: str = "conv",
    bn: str = "",
) -> str:
    """Convolution without bias, batch normalization, activation; padded to keep the size."""
    pad = kernel // 2 if pad is None else pad
    x = b.conv(x, channels, kernel=kernel, stride=stride, pad=pad, group=group, name=name)
    x = b.batch_norm(x, name=bn or f"{name}_bn")
    return act(x) if act else x


def squeeze_excite(b: GraphBuilder, x: str, squeeze: int, *, act: Activation, gate: Activation) -> str:
    """Channels weighted by a small network on their means, in a scope "se" (Hu et al., 2018)."""
    channels = size(b, x, 1)
    with b.scope("se"):
        weights = b.global_average_pool(x)
        weights = act(b.conv(weights, squeeze, kernel=1, bias=True, name="fc1"))
        weights = gate(b.conv(weights, channels, kernel=1, bias=True, name="fc2"))
        return b.mul(weights, x)


def classifier(b: GraphBuilder, x: str, classes: int, *, name: str = "fc") -> str:
    """Mean over the image, then one fully connected layer."""
    return b.linear(b.flatten(b.global_average_pool(x)), classes, name=name)


def number(b: GraphBuilder, value: float) -> str:
    """A scalar literal of the builder's dtype."""
    return b.literal([value], b.dtype, scalar=True)


def split_heads(b: GraphBuilder, x: str, heads: int, order: tuple[int, int, int, int]) -> str:
    """(batch, tokens, features) as (batch, tokens, heads, size), permuted by `order`."""
    features = size(b, x, -1)
    return b.transpose(b.reshape(x, (0, 0, heads, features // heads)), order)


def attention(b: GraphBuilder, x: str, heads: int, *, names: tuple[str, str], mask: str = "") -> str:
    """Multi-head self-attention written out; `names` are those of the joint and the last projection.

    `mask` is a bool tensor that broadcasts to (tokens, tokens), true where attention is allowed.
    """
    features = size(b, x, -1)
    if features % heads:
        raise UsageError(f"{features} features do not split into {heads} heads", expected="a multiple of heads")
    joint = b.dense(x, 3 * features, name=names[0])
    q, k, v = b.op("Split", [joint, b.literal([features] * 3)], 3, axis=2)
    q = split_heads(b, q, heads, (0, 2, 1, 3))
    k = split_heads(b, k, heads, (0, 2, 3, 1))
    v = split_heads(b, v, heads, (0, 2, 1, 3))
    scores = b.one("Div", b.one("MatMul", q, k), number(b, sqrt(bare(features // heads))))
    if mask:
        scores = b.one("Where", mask, scores, number(b, HIDDEN_SCORE))
    context = b.one("MatMul", b.one("Softmax", scores, axis=-1), v)
    merged = b.reshape(b.transpose(context, (0, 2, 1, 3)), (0, 0, features))
    return b.dense(merged, features, name=names[1])


def gelu(b: GraphBuilder, x: str) -> str:
    """x · Φ(x), as the five operators that operator set 17 has for it."""
    inner = b.one("Erf", b.one("Div", x, number(b, sqrt(2))))
    return b.mul(b.mul(x, b.add(inner, number(b, 1))), number(b, 0.5))


def gelu_tanh(b: GraphBuilder, x: str) -> str:
    """GELU by the tanh approximation, operator for operator as in GPT-2's published code."""
    half = b.mul(x, number(b, 0.5))
    cubic = b.mul(b.one("Pow", x, number(b, 3)), number(b, 0.044715))
    inner = b.one("Tanh", b.mul(b.add(x, cubic), number(b, sqrt(2 / pi))))
    return b.mul(half, b.add(inner, number(b, 1)))
