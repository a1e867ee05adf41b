"""Llama and the decoders built like it: Mistral, Qwen, Gemma, Phi-3, OLMo, StableLM, Cohere, Granite.

Defaults are those of the configuration classes of transformers (4.57 and 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peakmem.frontends.hf.attention import Attention
from peakmem.frontends.hf.config import LONGEST, Config
from peakmem.frontends.hf.decoder import Block, Decoder, Layer, Place
from peakmem.frontends.hf.design import Design, of_decoder
from peakmem.frontends.hf.network import ACTIVATIONS, Network

SERIAL = Block("serial", ("input_layernorm", "post_attention_layernorm"))
SANDWICH = Block(
    "sandwich",
    ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"),
)
MOST_HEADS = 1024
# where each has a norm of its own
GATED = ("gate_proj", "up_proj", "down_proj")
FUSED = ("gate_up_proj", "down_proj")


def activation(c: Config, *names: str, default: str) -> str:
    """The activation function a configuration names, refused when it is not known."""
    kind = c.text(*names, default=default)
    if kind not in ACTIVATIONS:
        raise c.fault(f"{names[0]!r} is {kind!r}", expected=f"one of {', '.join(ACTIVATIONS)}")
    return kind


def gated_mlp(
    inside: int, kind: str, *, names: tuple[str, ...] = GATED, bias: bool = False, path: str = "mlp"
) -> Layer:
    """A gated feed-forward layer."""

    def mlp(n: Network, x: str, at: Place) -> str:
        return n.gated(x, f"{at.path}.{path}", names, inside, kind, bias=bias)

    return mlp


def plain_mlp(
    inside: int, kind: str, names: tuple[str, str], *, bias: bool = True, path: str = "mlp", conv1d: bool = False
) -> Layer:
    """A feed-forward layer of two matrices."""

    def mlp(n: Network, x: str, at: Place) -> str:
        return n.plain(x, f"{at.path}.{path}" if path else at.path, names, inside, kind, bias=bias, conv1d=conv1d)

    return mlp


def window_of(c: Config, default: int | None) -> int | None:
    """The sliding window; null means none, a missing field the library's default."""
    if "sliding_window" not in c.fields and default is not None:
        c.assumed["sliding_window"] = default
        return default
    return c.optional("sliding_window", most=LONGEST)


def windows_by_type(c: Config, layers: int, window: int | None, usual: tuple[bool, ...]) -> tuple[int | None, ...]:
    """The window of each layer from `layer_types`, or from `usual`, true for a layer with one."""
    types = c.texts("layer_types")
    if types is None:
        chosen = usual
    else:
        known = {"full_attention": False, "sliding_attention": True}
        other = next((kind for kind in types if kind not in known), None)
        if other is not None:
            raise c.fault(f"a layer of type {other[:40]!r}", expected=" or ".join(known))
        if len(types) != layers:
            raise c.fault(f"'layer_types' lists {len(types)} layers", expected=str(layers))
        chosen = tuple(known[kind] for kind in types)
    if window is None:
        return ()
    return tuple(window if local else None for local in chosen)


def rotary_width(c: Config, size: int, default: float = 1.0) -> int:
    """How many elements of a head are rotated: a fraction, here or among the rope parameters."""
    rope = c.part("rope_parameters") or c.part("rope_scaling")
    source = rope if rope is not None and rope.has("partial_rotary_factor") else c
    share = source.number("partial_rotary_factor", "rope_pct", "rotary_pct", default=default)
    if not 0 <= share <= 1:
        raise c.fault(f"a rotary share of {share}", expected="0 to 1")
    c.assumed.pop("partial_rotary_factor", None)
    return int(size * share)


def llama_like(
    c: Config, *, bias: bool = False, out_bias: bool = False, shared: int | None = None, size: int = 0,
    longest: int = 2048, tied: bool = False, windows: tuple[int | None, ...] = (), mlp: Layer | None = None,
    acts: tuple[str, ...] = ("hidden_act",), act: str = "silu", mlp_bias: bool = False, block: Block = SERIAL,
    norms: str = "", norm_names: tuple[str, str] = ("q_norm", "k_norm"), rotary: float = 1.0,
    names: tuple[str, ...] = ("q_proj", "k_proj", "v_proj"), out: str = "o_proj",
    sizes: Mapping[str, int] | None = None, note: str = "", capped: bool = False, own_size: bool = True,
    sinks: bool = False, **more: Any,
) -> Design:  # fmt: skip
    """A decoder with the fields that all of these share; `sizes` are the library's defaults."""
    default = {"vocab": 32000, "hidden": 4096, "inside": 11008, "layers": 32, "heads": 32, **(sizes or {})}
    hidden = c.size("hidden_size", default=default["hidden"])
    heads = c.size("num_attention_heads", default=default["heads"])
    if own_size and size and not c.has("head_dim") and "head_dim" not in c.fields:
        c.assumed["head_dim"] = width = size
    else:
        width = c.head_size(hidden, heads, *(("head_dim",) if own_size else ()))
    kv_heads = c.shared_heads(heads, "num_key_value_heads", default=shared)
    if mlp is None:
        inside = c.size("intermediate_size", default=default["inside"])
        mlp = gated_mlp(inside, activation(c, *acts, default=act), bias=mlp_bias)
    turned = rotary_width(c, width, rotary)
    attention = Attention(
        "self_attn", heads, kv_heads, width, names=names, out=out, bias=bias, out_bias=out_bias, norms=norms,
        norm_names=norm_names, rotary=turned, capped=capped, sinks=sinks,
        causal=c.fields.get("use_bidirectional_attention") is not True,
    )  # fmt: skip
    d = Decoder(
        c.text("model_type", default=""), hidden, c.layers("num_hidden_layers", default=default["layers"]),
        c.size("vocab_size", default=default["vocab"]), block, mlp, attention,
        tied=c.flag("tie_word_embeddings", default=tied), rotary=turned, windows=windows, **more,
    )  # fmt: skip
    reach = c.size("max_position_embeddings", default=longest, most=LONGEST)
    both_ways = c.fields.get("use_bidirectional_attention") is True
    return of_decoder(d, reach, *([note] if note else []), generates=not both_ways)


def llama(c: Config) -> Design:
    bias = c.flag("attention_bias", default=False)
    return llama_like(c, bias=bias, out_bias=bias, mlp_bias=c.flag("mlp_bias", default=False))


def _layers(c: Config, default: int) -> int:
    return c.layers("num_hidden_layers", default=default)


def mistral(c: Config) -> Design:
    window, layers = window_of(c, 4096), _layers(c, 32)
    windows = (window,) * layers if window else ()
    return llama_like(c, shared=8, longest=131072, windows=windows, sizes={"inside": 14336})


def ministral(c: Config) -> Design:
    window, layers = window_of(c, 4096), _layers(c, 32)
    windows = windows_by_type(c, layers, window, (window is not None,) * layers)
    return llama_like(c, shared=8, longest=131072, windows=windows, sizes={"inside": 14336})


def qwen_windows(c: Config, layers: int) -> tuple[int | None, ...]:
    """Qwen's windows: only with use_sliding_window, in the layers from max_window_layers on."""
    if not c.flag("use_sliding_window", default=False):
        return ()
    first = c.size("max_window_layers", default=28, least=0)
    return windows_by_type(c, layers, window_of(c, 4096), tuple(layer >= first for layer in range(layers)))


def qwen2(c: Config) -> Design:
    return llama_like(
        c, bias=True, shared=32, longest=32768, windows=qwen_windows(c, _layers(c, 32)), own_size=c.has("head_dim"),
        sizes={"vocab": 151936, "inside": 22016},
    )  # fmt: skip


def qwen3(c: Config) -> Design:
    bias = c.flag("attention_bias", default=False)
    return llama_like(
        c, bias=bias, out_bias=bias, shared=32, size=128, longest=32768, norms="head",
        windows=qwen_windows(c, _layers(c, 32)), sizes={"vocab": 151936, "inside": 22016},
    )  # fmt: skip


def gemma(c: Config) -> Design:
    bias = c.flag("attention_bias", default=False)
    return llama_like(
        c, bias=bias, out_bias=bias, size=256, longest=8192, tied=True, acts=("hidden_activation", "hidden_act"),
        act="gelu_pytorch_tanh", embed_scaled=True,
        sizes={"vocab": 256000, "hidden": 3072, "inside": 24576, "layers": 28, "heads": 16},
    )  # fmt: skip


def gemma2(c: Config) -> Design:
    layers, bias = _layers(c, 26), c.flag("attention_bias", default=False)
    windows = windows_by_type(c, layers, window_of(c, 4096), tuple(layer % 2 == 0 for layer in range(layers)))
    return _gemma_sandwich(c, bias, windows, vocab=256000, longest=8192, caps=(50.0, 30.0))


def gemma3(c: Config) -> Design:
    layers, bias = _layers(c, 26), c.flag("attention_bias", default=False)
    pattern = c.size("sliding_window_pattern", "_sliding_window_pattern", default=6)
    c.assumed.pop("sliding_window_pattern", None)
    usual = tuple((layer + 1) % pattern != 0 for layer in range(layers))
    windows = windows_by_type(c, layers, window_of(c, 4096), usual)
    return _gemma_sandwich(
        c, bias, windows, vocab=262208, longest=131072, caps=(0.0, 0.0), norms="head", local_tables=True
    )  # fmt: skip


def _gemma_sandwich(
    c: Config, bias: bool, windows: tuple[int | None, ...], *, vocab: int, longest: int, caps: tuple[float, float],
    norms: str = "", local_tables: bool = False,
) -> Design:  # fmt: skip
    def cap(name: str, default: float) -> bool:
        return bool(c.number(name, default=default)) if c.has(name) or name not in c.fields else False

    return llama_like(
        c, bias=bias, out_bias=bias, shared=4, size=256, longest=longest, tied=True, windows=windows, block=SANDWICH,
        acts=("hidden_activation", "hidden_act"), act="gelu_pytorch_tanh", norms=norms, local_tables=local_tables,
        embed_scaled=True, capped=cap("attn_logit_softcapping", caps[0]),
        logits_capped=cap("final_logit_softcapping", caps[1]),
        sizes={"vocab": vocab, "hidden": 2304, "inside": 9216, "layers": 26, "heads": 8},
    )  # fmt: skip


def phi3(c: Config) -> Design:
    window, layers = window_of(c, None), _layers(c, 32)
    inside = c.size("intermediate_size", default=8192)
    return llama_like(
        c, longest=4096, names=("qkv_proj",), windows=(window,) * layers if window else (),
        mlp=gated_mlp(inside, activation(c, "hidden_act", default="silu"), names=FUSED),
        sizes={"vocab": 32064, "hidden": 3072},
    )  # fmt: skip


def olmo(c: Config) -> Design:
    bias = c.flag("attention_bias", default=False)
    return llama_like(
        c, bias=bias, out_bias=bias, block=Block("serial", SERIAL.norms, "layer_bare"), sizes={"vocab": 50304}
    )  # fmt: skip


def olmo2(c: Config) -> Design:
    bias = c.flag("attention_bias", default=False)
    block = Block("post", ("post_attention_layernorm", "post_feedforward_layernorm"))
    return llama_like(c, bias=bias, out_bias=bias, block=block, norms="full", sizes={"vocab": 50304})


def stablelm(c: Config) -> Design:
    parallel = c.flag("use_parallel_residual", default=False)
    c.size("num_attention_heads", default=32, most=MOST_HEADS)
    block = Block("parallel", ("input_layernorm",), "layer") if parallel else Block("serial", SERIAL.norms, "layer")
    return llama_like(
        c, bias=c.flag("use_qkv_bias", default=False), shared=32, longest=4096, block=block, rotary=0.25,
        norms="heads" if c.flag("qk_layernorm", default=False) else "", own_size=False,
        norm_names=("q_layernorm", "k_layernorm"), sizes={"vocab": 50304, "hidden": 2560, "inside": 6912},
    )  # fmt: skip


def starcoder2(c: Config) -> Design:
    bias = c.flag("use_bias", default=True)
    window, layers = window_of(c, None), _layers(c, 30)
    inside = c.size("intermediate_size", default=12288)
    kind = activation(c, "hidden_act", default="gelu_pytorch_tanh")
    return llama_like(
        c, bias=bias, out_bias=bias, shared=2, longest=4096, tied=True, block=Block("serial", SERIAL.norms, "layer"),
        mlp=plain_mlp(inside, kind, ("c_fc", "c_proj"), bias=bias), windows=(window,) * layers if window else (),
        sizes={"vocab": 49152, "hidden": 3072, "layers": 30, "heads": 24}, own_size=c.has("head_dim"),
    )  # fmt: skip


def cohere(c: Config) -> Design:
    bias = c.flag("attention_bias", default=False)
    return llama_like(
        c, bias=bias, out_bias=bias, longest=8192, tied=True, logits_scaled=True, own_size=False,
        block=Block("parallel", ("input_layernorm",), "layer_plain"),
        norms="table" if c.flag("use_qk_norm", default=False) else "",
        sizes={"vocab": 256000, "hidden": 8192, "inside": 22528, "layers": 40, "heads": 64},
    )  # fmt: skip


def cohere2(c: Config) -> Design:
    layers, bias = _layers(c, 40), c.flag("attention_bias", default=False)
    pattern = c.size("sliding_window_pattern", "_sliding_window_pattern", default=4)
    c.assumed.pop("sliding_window_pattern", None)
    usual = tuple((layer + 1) % pattern != 0 for layer in range(layers))
    return llama_like(
        c, bias=bias, out_bias=bias, longest=8192, tied=True, logits_scaled=True, own_size=c.has("head_dim"),
        block=Block("parallel", ("input_layernorm",), "layer_plain"),
        windows=windows_by_type(c, layers, window_of(c, 4096), usual),
        sizes={"vocab": 256000, "hidden": 8192, "inside": 22528, "layers": 40, "heads": 64},
    )  # fmt: skip


def granite(c: Config) -> Design:
    bias = c.flag("attention_bias", default=False)
    return llama_like(
        c, bias=bias, out_bias=bias, mlp_bias=c.flag("mlp_bias", default=False), embed_scaled=True, logits_scaled=True,
        own_size=c.has("head_dim"),
    )  # fmt: skip


def smollm3(c: Config) -> Design:
    bias = c.flag("attention_bias", default=False)
    layers = _layers(c, 36)
    windows = windows_by_type(c, layers, window_of(c, None), (False,) * layers)
    return llama_like(
        c, bias=bias, out_bias=bias, shared=4, longest=32768, tied=True, mlp_bias=c.flag("mlp_bias", default=False),
        windows=windows if c.flag("use_sliding_window", default=False) else (), own_size=c.has("head_dim"),
        sizes={"vocab": 128256, "hidden": 2048, "layers": 36, "heads": 16},
    )  # fmt: skip
