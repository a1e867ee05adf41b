"""Decoders: a stack of attention and feed-forward layers over token embeddings, with a head.

A family says what its stack is made of in a `Decoder`; `write` writes it down. Nothing here reads
a configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from peakmem.frontends.hf.attention import Attention, Setting, attend
from peakmem.frontends.hf.cache import Cache
from peakmem.frontends.hf.network import Network
from peakmem.frontends.hf.options import Options


@dataclass(frozen=True, slots=True)
class Place:
    """Where a layer stands."""

    path: str
    layer: int
    # its number
    setting: Setting


Layer = Callable[[Network, str, Place], str]
# (network, x, place) -> y, without the residual sum


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked of a network."""

    options: Options
    head: str
    # "lm", "class", … as the family names it; "" for none
    labels: int
    # classes of a classifier


@dataclass(frozen=True, slots=True)
class Block:
    """How one layer is put together; norms are named in the order they are applied."""

    form: str
    # "serial": x += attention(norm(x)); x += mlp(norm(x))
    # "sandwich": as serial, with a norm after each part as well
    # "post": x += norm(attention(x)); x += norm(mlp(x))
    # "after": x = norm(x + attention(x)); x = norm(x + mlp(x))
    # "parallel": x += attention(norm(x)) + mlp(norm(x)), one norm or two
    norms: tuple[str, ...]
    kind: str = "rms"
    named: bool = False
    # whether the library's variable for the attention's output lives to the end of the layer
    inline: bool = False
    # whether the library's feed-forward layer is written in the layer itself, over the variable of its norm
    late: bool = False
    # whether the second norm of a parallel layer is taken after attention


@dataclass(frozen=True, slots=True)
class Decoder:
    """A decoder and its head."""

    name: str
    hidden: int
    layers: int
    vocabulary: int
    block: Block
    mlp: Layer
    attention: Attention | Layer
    # a Layer for attention of another kind
    root: str = "model"
    embed: str = "embed_tokens"
    embed_width: int = 0
    # of the table, where it differs from the hidden width
    embed_norm: str = ""
    positions: tuple[str, int, int] | None = None
    # (name, rows, rows at the start that are never read) of a learned table
    stack: str = "layers"
    final_norm: str = "norm"
    tied: bool = False
    head_bias: bool = False
    head: str = "lm_head"
    rotary: int = 0
    alibi: bool = False
    windows: tuple[int | None, ...] = ()
    # sliding window of each layer
    local_tables: bool = False
    # layers with a window have rotary tables of their own
    embed_scaled: bool = False
    logits_capped: bool = False
    logits_scaled: bool = False


def write(n: Network, d: Decoder, task: Task) -> tuple[tuple[str, ...], Cache]:
    """The outputs of a decoder with the head that is asked for, and its cache."""
    options, head, labels = task.options, task.head, task.labels
    root = f"{d.root}." if d.root else ""
    cache = Cache(options.kv_dtype, options.context)
    ids = n.input_ids()
    width = d.embed_width or d.hidden
    x = n.embedding(ids, f"{root}{d.embed}", d.vocabulary, width)
    if d.embed_scaled:
        x = n.own("Scale", x, name="embed_scale")
    if width != d.hidden:
        x = n.linear(x, f"{root}project_in", d.hidden)
    embedded = [x]
    if d.positions is not None:
        name, rows, offset = d.positions
        table = n.weight(f"{root}{name}.weight", rows, d.hidden)
        embedded.append(n.own("Positions", ids, table, name=name, offset=offset, each=int(offset > 0)))
        x = n.b.add(x, embedded[-1])
    if d.embed_norm:
        x = n.norm(x, f"{root}{d.embed_norm}", "layer")
    settings = _settings(n, d, ids, cache)
    for layer in range(d.layers):
        window = d.windows[layer] if d.windows else None
        setting = settings[bool(window and d.local_tables)]
        path = f"{root}{d.stack}.{layer}"
        with n.scope(path):
            x = one_layer(n, d.block, d.attention, d.mlp, x, path, layer, setting, window)
    if head == "lm" and options.logits == "last" and not n.library:
        x = n.own("LastToken", x, name="last")
    if d.final_norm:
        x = n.norm(x, f"{root}{d.final_norm}", d.block.kind)
    shared = [name for setting in settings for name in (setting.mask, setting.bias, *(setting.tables or ()))]
    n.hold(*embedded, *shared)
    if head == "lm" and options.logits == "last" and n.library:
        x = n.own("LastToken", x, name="last")
    if width != d.hidden:
        x = n.linear(x, f"{root}project_out", width)
    return (_head(n, d, x, head, labels, f"{root}{d.embed}.weight"),), cache


def _head(n: Network, d: Decoder, x: str, head: str, labels: int, table: str) -> str:
    if head == "lm":
        y = n.head(x, d.head, d.vocabulary, bias=d.head_bias, tied=table if d.tied else "")
        if d.logits_scaled:
            y = n.own("Scale", y, name="logit_scale")
        if d.logits_capped:
            y = n.own("SoftCap", y, name="softcap")
        n.hold(x)
        return y
    if head == "class":
        return n.own("LastToken", n.head(x, "score", labels), name="last")
    if head in ("token", "token_classifier"):
        return n.head(x, "score" if head == "token" else "classifier", labels, bias=True)
    return x


def _settings(n: Network, d: Decoder, ids: str, cache: Cache) -> tuple[Setting, Setting]:
    """What layers without and with a window share."""
    mask = n.mask(ids) if n.eager else ""
    heads = d.attention.heads if isinstance(d.attention, Attention) else 0
    bias = n.own("Alibi", ids, name="alibi", heads=heads, dtype=n.dtype.name) if d.alibi else ""
    tables = n.rotary_table(ids, d.rotary) if d.rotary else None
    everywhere = Setting(cache, mask, bias, tables)
    if not (d.windows and any(d.windows) and (d.local_tables or n.eager)):
        return everywhere, everywhere
    local = n.rotary_table(ids, d.rotary) if d.rotary and d.local_tables else tables
    return everywhere, Setting(cache, n.mask(ids) if n.eager else "", bias, local)


def one_layer(
    n: Network, block: Block, attention: Attention | Layer, mlp: Layer, x: str, path: str, layer: int,
    setting: Setting, window: int | None = None,
) -> str:  # fmt: skip
    """One layer at `path`, residual sums included."""
    norms = iter(block.norms)

    def norm(y: str) -> str:
        return n.norm(y, f"{path}.{next(norms)}", block.kind)

    def first_part(y: str) -> str:
        if isinstance(attention, Attention):
            return attend(n, y, replace(attention, path=f"{path}.{attention.path}"), layer, setting, window)
        return attention(n, y, Place(path, layer, setting))

    def second_part(y: str) -> str:
        return mlp(n, y, Place(path, layer, setting))

    given = x
    if block.form == "parallel":
        first = norm(x)
        if block.late:
            y = first_part(first)
            n.hold(first)
            second = norm(x)
        else:
            second = norm(x) if len(block.norms) == 2 else first
            y = first_part(first)
        z = second_part(second)
        n.hold(second)
        x = n.b.add(n.b.add(y, z), x)
        n.hold(given, *([] if block.late else [first, second]), *setting.held)
    elif block.form == "after":
        x = norm(n.b.add(x, first_part(x)))
        inner = x
        x = norm(n.b.add(x, second_part(x)))
        n.hold(given, inner, *setting.held)
    else:
        for part in (first_part, second_part):
            ready = x if block.form == "post" else norm(x)
            y = part(ready)
            if not (block.inline and part is second_part):
                n.hold(ready)
            if block.named:
                setting.held.append(y)
            if block.form in ("sandwich", "post"):
                y = norm(y)
            x = n.b.add(x, y)
        n.hold(given, *setting.held)
    setting.held.clear()
    return x
