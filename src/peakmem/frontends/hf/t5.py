"""T5, mT5 and Flan-T5: an encoder, and a decoder that reads what it made.

The decoder keeps two caches: its own keys and values, and those of the encoder's output. A run is
the first step of generation: all of the input through the encoder, and the decoder's first tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from peakmem.frontends.hf.attention import Attention, Setting, attend, core
from peakmem.frontends.hf.cache import Cache
from peakmem.frontends.hf.config import MOST_LAYERS, Config
from peakmem.frontends.hf.decoder import Task
from peakmem.frontends.hf.design import Design, Family
from peakmem.frontends.hf.network import ACTIVATIONS, SEQUENCE, Network
from peakmem.frontends.hf.options import Options
from peakmem.ir.dims import Symbol

DECODER_SEQUENCE = Symbol("decoder_sequence")


@dataclass(frozen=True, slots=True)
class _T5:
    vocabulary: int
    hidden: int
    inside: int
    layers: int
    decoder_layers: int
    buckets: int
    attention: Attention
    act: str
    gated: bool
    tied: bool


def t5(c: Config) -> Design:
    return _design(c, vocab=32128, inside=2048, layers=6, heads=8, act="relu", tied=True)


def mt5(c: Config) -> Design:
    return _design(c, vocab=250112, inside=1024, layers=8, heads=6, act="gated-gelu", tied=False)


def _design(c: Config, *, vocab: int, inside: int, layers: int, heads: int, act: str, tied: bool) -> Design:
    form = c.text("feed_forward_proj", default=act)
    gate, dash, kind = form.rpartition("-")
    if gate not in ("", "gated") or (kind not in ACTIVATIONS):
        raise c.fault(f"'feed_forward_proj' is {form!r}", expected="an activation, or gated- and an activation")
    count = c.layers("num_layers", "num_hidden_layers", default=layers)
    many = c.size("num_heads", "num_attention_heads", default=heads)
    d = _T5(
        c.size("vocab_size", default=vocab), c.size("d_model", "hidden_size", default=512),
        c.size("d_ff", default=inside), count, c.layers("num_decoder_layers", default=count),
        c.size("relative_attention_num_buckets", default=32),
        Attention(
            "", many, many, c.size("d_kv", default=64), names=("q", "k", "v"), out="o", causal=False,
        ),
        kind, bool(dash) and gate == "gated", c.flag("tie_word_embeddings", default=tied),
    )  # fmt: skip
    c.assumed.pop("num_decoder_layers", None)
    if d.layers + d.decoder_layers > MOST_LAYERS:
        raise c.fault(f"{d.layers} and {d.decoder_layers} layers", expected=f"at most {MOST_LAYERS} in all")

    def build(n: Network, task: Task) -> tuple[tuple[str, ...], Cache]:
        return _write(n, d, task.options, task.head)

    longest = c.optional("n_positions") or 512
    note = "the run is the first step of generation: the input through the encoder, decoder_sequence tokens after it"
    return Design(build, longest, True, (note,))


def _write(n: Network, d: _T5, options: Options, head: str) -> tuple[tuple[str, ...], Cache]:
    room = options.context if isinstance(options.context, int) else DECODER_SEQUENCE
    own = Cache(options.kv_dtype if head != "encoder" else None, room)
    across = Cache(own.dtype, SEQUENCE)
    ids = n.input_ids()
    told = n.input_ids("decoder_input_ids", DECODER_SEQUENCE) if head != "encoder" else ""
    x = _stack(n, d, "encoder", d.layers, n.embedding(ids, "shared", d.vocabulary, d.hidden), ids)
    if head == "encoder":
        return (x,), own
    y = n.embedding(told, "shared", d.vocabulary, d.hidden)
    y = _stack(n, d, "decoder", d.decoder_layers, y, told, own, across, x)
    own.entries += across.entries
    if head == "":
        return (y, x), own
    if options.logits == "last":
        y = n.own("LastToken", y, name="last")
    if d.tied:
        y = n.own("Scale", y, name="scale")
    return (n.head(y, "lm_head", d.vocabulary, tied="shared.weight" if d.tied else ""),), own


def _stack(
    n: Network, d: _T5, root: str, layers: int, x: str, ids: str, own: Cache | None = None,
    across: Cache | None = None, encoded: str = "",
) -> str:  # fmt: skip
    bias = n.own(
        "RelativeBias", ids,
        n.weight(f"{root}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", d.buckets, d.attention.heads),
        name="relative_bias",
    )  # fmt: skip
    mask = n.mask(ids) if own is not None and n.eager else ""
    setting = Setting(own or Cache(None, 0), mask, bias)
    for layer in range(layers):
        path = f"{root}.block.{layer}.layer"
        with n.scope(f"{root}.block.{layer}"):
            y = n.rms_norm(x, f"{path}.0.layer_norm")
            attention = replace(d.attention, path=f"{path}.0.SelfAttention", causal=own is not None)
            x = n.b.add(x, attend(n, y, attention, layer, setting))
            last = 1
            if across is not None:
                y = n.rms_norm(x, f"{path}.1.layer_norm")
                x = n.b.add(x, _cross(n, d, y, encoded, f"{path}.1.EncDecAttention", layer, across))
                last = 2
            y = n.rms_norm(x, f"{path}.{last}.layer_norm")
            dense = f"{path}.{last}.DenseReluDense"
            if d.gated:
                y = n.gated(y, dense, ("wi_0", "wi_1", "wo"), d.inside, d.act)
            else:
                y = n.plain(y, dense, ("wi", "wo"), d.inside, d.act, bias=False)
            x = n.b.add(x, y)
    return n.rms_norm(x, f"{root}.final_layer_norm")


def _cross(n: Network, d: _T5, x: str, encoded: str, path: str, layer: int, cache: Cache) -> str:
    """Attention of the decoder to the encoder's output, whose keys and values are kept."""
    wide = d.attention.heads * d.attention.size
    query = n.split(n.linear(x, f"{path}.q", wide), d.attention.heads)
    key = n.split(n.linear(encoded, f"{path}.k", wide), d.attention.heads)
    value = n.split(n.linear(encoded, f"{path}.v", wide), d.attention.heads)
    key = cache.keep(n, layer, "cross_key", key)
    value = cache.keep(n, layer, "cross_value", value)
    y = core(n, query, key, value, Setting(cache), replace(d.attention, causal=False))
    return n.linear(y, f"{path}.o", d.hidden)


def _family(prefix: str, read: Callable[[Config], Design], **more: str) -> Family:
    usual = f"{prefix}ForConditionalGeneration"
    heads = {usual: "lm", f"{prefix}Model": "", f"{prefix}EncoderModel": "encoder", **more}
    return Family(read, heads, usual)


FAMILIES = {"t5": _family("T5", t5, T5WithLMHeadModel="lm"), "mt5": _family("MT5", mt5)}
