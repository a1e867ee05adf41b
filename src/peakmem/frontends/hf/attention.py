"""Attention, fused or as the library's eager code writes it, with rotary positions and the cache.

Fused: one operator reads queries, keys and values and gives the output; scores are never held, and
the log-sum-exp beside the output (4 B per head and token) is left out. Eager: keys and values are
repeated for grouped heads, scores are scaled, masked and taken through a float32 softmax, each step
a tensor of its own; on a CPU torch copies scores of 16 bits to float32 before it, which is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from peakmem.dtypes import FLOAT32
from peakmem.frontends.hf.cache import Cache
from peakmem.frontends.hf.network import Network


@dataclass(frozen=True, slots=True)
class Attention:
    """Self-attention of one kind; names are those of its layers."""

    path: str
    heads: int
    kv_heads: int
    size: int
    # of a head
    names: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")
    # or one name, for a layer that gives all three side by side
    out: str = "o_proj"
    bias: bool = False
    out_bias: bool = False
    norms: str = ""
    # of queries and keys: "full" (RMS over all heads), "head" (RMS over a head, one weight for all), or a
    # layer norm: "layer_head" (one weight and bias for all), "table" (a weight per head), "heads" (a norm per head)
    norm_names: tuple[str, str] = ("q_norm", "k_norm")
    rotary: int = 0
    # how many elements of a head are rotated; 0 for other positions
    conv1d: bool = False
    sinks: bool = False
    capped: bool = False
    # whether scores are soft-capped
    float_softmax: bool = True
    scaled_queries: bool = False
    # whether queries are scaled instead of scores
    causal: bool = True
    scaled_in_place: bool = False
    # whether the library divides scores in place, and adds the mask in the softmax's own argument


@dataclass(slots=True)
class Setting:
    """What the layers of a network share: the tokens, their rotary tables, the mask, the cache."""

    cache: Cache
    mask: str = ""
    # added to scores by eager attention
    bias: str = ""
    # ALiBi, added to scores
    tables: tuple[str, str] | None = None
    held: list[str] = field(default_factory=list)
    # what the library's variables refer to until the layer ends


def attend(n: Network, x: str, a: Attention, layer: int, setting: Setting, window: int | None = None) -> str:
    """Self-attention on (batch, tokens, hidden)."""
    hidden = n.width(x)
    query, key, value, *whole = projected(n, x, a)
    if a.rotary and setting.tables is not None:
        query, key = rotated(n, query, a, setting), rotated(n, key, a, setting)
    key = setting.cache.keep(n, layer, "key", key, window)
    value = setting.cache.keep(n, layer, "value", value, window)
    sink = n.weight(f"{a.path}.sinks", a.heads) if a.sinks else ""
    y = core(n, query, key, value, setting, a, sink, window)
    if a.conv1d:
        y = n.conv1d(y, f"{a.path}.{a.out}", hidden)
    else:
        y = n.linear(y, f"{a.path}.{a.out}", hidden, bias=a.out_bias)
    n.hold(query, key, value, *whole)
    return y


def projected(n: Network, x: str, a: Attention) -> list[str]:
    """Queries, keys and values as (batch, heads, tokens, head size), and the tensor they are parts of, if one."""
    wide, narrow = a.heads * a.size, a.kv_heads * a.size
    whole: list[str] = []
    if len(a.names) == 1:
        path = f"{a.path}.{a.names[0]}"
        total = wide + 2 * narrow
        both = n.conv1d(x, path, total) if a.conv1d else n.linear(x, path, total, bias=a.bias)
        whole.append(both)
        flat = [n.part(both, 0, wide), n.part(both, wide, narrow), n.part(both, wide + narrow, narrow)]
    else:
        sizes = (wide, narrow, narrow)
        flat = [
            n.linear(x, f"{a.path}.{name}", size, bias=a.bias) for name, size in zip(a.names, sizes, strict=True)
        ]  # fmt: skip
    if a.norms == "full":
        flat[:2] = [n.rms_norm(y, f"{a.path}.{name}") for y, name in zip(flat[:2], a.norm_names, strict=True)]
    query, key, value = (
        n.split(y, heads) for y, heads in zip(flat, (a.heads, a.kv_heads, a.kv_heads), strict=True)
    )  # fmt: skip
    if a.norms not in ("", "full"):
        query = _head_norm(n, query, f"{a.path}.{a.norm_names[0]}", a.norms, a.heads, a.size)
        key = _head_norm(n, key, f"{a.path}.{a.norm_names[1]}", a.norms, a.kv_heads, a.size)
    return [query, key, value, *whole]


def _head_norm(n: Network, x: str, path: str, kind: str, heads: int, size: int) -> str:
    if kind == "head":
        return n.rms_norm(x, path, size)
    if kind == "layer_head":
        return n.layer_norm(x, path)
    if kind == "table":  # one row of a table per head
        return n.b.one("LayerNormalization", x, n.weight(f"{path}.weight", heads, size), name=n.short(path), axis=-1)
    weights = [n.weight(f"{path}.norms.{head}.weight", size) for head in range(heads)]
    return n.b.one("LayerNormalization", x, *weights, name=n.short(path), axis=-1)


def rotated(n: Network, x: str, a: Attention, setting: Setting) -> str:
    """Rotary positions on the first elements of each head."""
    assert setting.tables is not None
    return n.b.one("RotaryEmbedding", x, *setting.tables, name="rotary", rotary_embedding_dim=a.rotary)


def core(
    n: Network, query: str, key: str, value: str, setting: Setting, a: Attention, sink: str = "",
    window: int | None = None,
) -> str:  # fmt: skip
    """softmax(query · keyᵀ) · value, its heads joined."""
    if not n.eager:
        inputs = [query, key, value]
        if setting.bias:
            inputs.append(setting.bias)
        if sink:
            y = n.own("SinkAttention", *inputs, sink, name="attention")
        else:
            y = n.b.one("Attention", *inputs, name="attention", is_causal=int(a.causal), window=window)
        return n.own("JoinHeads", y)
    times = a.heads // a.kv_heads
    if times > 1:
        key, value = n.own("RepeatHeads", key, times=times), n.own("RepeatHeads", value, times=times)
    if a.scaled_queries:
        query = n.own("Scale", query)
    scores = n.own("Scores", query, key, name="scores")
    if a.scaled_in_place:
        scores = n.own("Scale", scores, name="scale", aliases=((0, 0),))
    elif not a.scaled_queries:
        scores = n.own("Scale", scores, name="scale")
    unmasked = scores
    if a.capped:
        scores = n.own("SoftCap", scores, name="softcap")
    for added in (setting.bias, setting.mask):
        if added:
            scores = n.b.add(scores, added, name="mask")
    if sink:
        scores = n.own("AppendSink", scores, sink, name="sink")
    given = scores
    if a.float_softmax and n.dtype is not FLOAT32:
        scores = n.own("FloatSoftmax", scores, name="softmax", dtype=FLOAT32.name)
        scores = n.cast(scores, n.dtype, FLOAT32)
        n.hold(given)
    else:
        scores = n.b.one("Softmax", scores, name="softmax", axis=-1)
        if a.scaled_in_place:
            n.hold(unmasked)
    if sink:
        scores = n.own("DropSink", scores)
    setting.held.append(scores)
    y = n.own("MergeHeads", n.b.one("MatMul", scores, value, name="context"))
    n.hold(key, value)
    return y
