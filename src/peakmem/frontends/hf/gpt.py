"""Decoders of the GPT line: GPT-2, GPT-J, GPT-Neo, GPT-NeoX, StarCoder, Phi, OPT, BLOOM, Falcon.

Defaults are those of the configuration classes of transformers (4.57 and 5).
"""

from __future__ import annotations

from peakmem.frontends.hf.attention import Attention
from peakmem.frontends.hf.config import LONGEST, Config
from peakmem.frontends.hf.decoder import Block, Decoder
from peakmem.frontends.hf.design import Design, of_decoder
from peakmem.frontends.hf.llama import activation, plain_mlp, rotary_width

_SIDE_BY_SIDE = ("query_key_value",)
_WIDE = ("dense_h_to_4h", "dense_4h_to_h")


def gpt2(c: Config) -> Design:
    c.only("add_cross_attention", False, False)
    hidden, heads = c.size("n_embd", "hidden_size", default=768), c.size("n_head", "num_attention_heads", default=12)
    rows = c.size("n_positions", "max_position_embeddings", "n_ctx", default=1024)
    inside = c.optional("n_inner", "intermediate_size") or 4 * hidden
    act = activation(c, "activation_function", "hidden_act", default="gelu_new")
    size = c.head_size(hidden, heads)
    upcast = c.flag("reorder_and_upcast_attn", default=False)
    c.assumed.pop("reorder_and_upcast_attn", None)
    d = Decoder(
        "gpt2", hidden, c.layers("n_layer", "num_hidden_layers", default=12), c.size("vocab_size", default=50257),
        Block("serial", ("ln_1", "ln_2"), "layer", named=True), plain_mlp(inside, act, ("c_fc", "c_proj"), conv1d=True),
        Attention(
            "attn", heads, heads, size, names=("c_attn",), out="c_proj", conv1d=True, float_softmax=upcast
        ),
        root="transformer", embed="wte", positions=("wpe", rows, 0), stack="h", final_norm="ln_f",
        tied=c.flag("tie_word_embeddings", default=True),
    )  # fmt: skip
    return of_decoder(d, rows)


def gpt_bigcode(c: Config) -> Design:
    c.only("add_cross_attention", False, False)
    hidden, heads = c.size("n_embd", "hidden_size", default=768), c.size("n_head", "num_attention_heads", default=12)
    rows = c.size("n_positions", "max_position_embeddings", default=1024)
    inside = c.optional("n_inner", "intermediate_size") or 4 * hidden
    act = activation(c, "activation_function", "hidden_act", default="gelu_pytorch_tanh")
    shared = 1 if c.flag("multi_query", default=True) else heads
    d = Decoder(
        "gpt_bigcode", hidden, c.layers("n_layer", "num_hidden_layers", default=12),
        c.size("vocab_size", default=50257), Block("serial", ("ln_1", "ln_2"), "layer", named=True),
        plain_mlp(inside, act, ("c_fc", "c_proj")),
        Attention(
            "attn", heads, shared, c.head_size(hidden, heads), names=("c_attn",), out="c_proj", bias=True, out_bias=True
        ),
        root="transformer", embed="wte", positions=("wpe", rows, 0), stack="h", final_norm="ln_f",
        tied=c.flag("tie_word_embeddings", default=True),
    )  # fmt: skip
    return of_decoder(d, rows)


def gpt_neo(c: Config) -> Design:
    hidden, heads = c.size("hidden_size", default=2048), c.size("num_heads", "num_attention_heads", default=16)
    rows = c.size("max_position_embeddings", default=2048)
    inside = c.optional("intermediate_size") or 4 * hidden
    act = activation(c, "activation_function", default="gelu_new")
    layers = c.layers("num_layers", "num_hidden_layers", default=24)
    d = Decoder(
        "gpt_neo", hidden, layers, c.size("vocab_size", default=50257),
        Block("serial", ("ln_1", "ln_2"), "layer", named=True),
        plain_mlp(inside, act, ("c_fc", "c_proj")),
        Attention("attn.attention", heads, heads, c.head_size(hidden, heads), out="out_proj", out_bias=True),
        root="transformer", embed="wte", positions=("wpe", rows, 0), stack="h", final_norm="ln_f",
        tied=c.flag("tie_word_embeddings", default=True),
    )  # fmt: skip
    return of_decoder(d, rows, "layers with local attention keep keys and values of the whole context, as transformers")


def gptj(c: Config) -> Design:
    hidden, heads = c.size("n_embd", "hidden_size", default=4096), c.size("n_head", "num_attention_heads", default=16)
    rows = c.size("n_positions", "max_position_embeddings", default=2048)
    inside = c.optional("n_inner") or 4 * hidden
    act = activation(c, "activation_function", default="gelu_new")
    size = c.head_size(hidden, heads)
    turned = c.size("rotary_dim", default=64, most=size) if c.has("rotary_dim") or size >= 64 else size
    d = Decoder(
        "gptj", hidden, c.layers("n_layer", "num_hidden_layers", default=28), c.size("vocab_size", default=50400),
        Block("parallel", ("ln_1",), "layer"), plain_mlp(inside, act, ("fc_in", "fc_out")),
        Attention("attn", heads, heads, size, out="out_proj", rotary=turned),
        root="transformer", embed="wte", stack="h", final_norm="ln_f", head_bias=True, rotary=turned,
        tied=c.flag("tie_word_embeddings", default=False),
    )  # fmt: skip
    return of_decoder(d, rows)


def gpt_neox(c: Config) -> Design:
    hidden, heads = c.size("hidden_size", default=6144), c.size("num_attention_heads", default=64)
    size = c.head_size(hidden, heads)
    inside = c.size("intermediate_size", default=24576)
    bias = c.flag("attention_bias", default=True)
    turned = rotary_width(c, size, 0.25)
    parallel = c.flag("use_parallel_residual", default=True)
    d = Decoder(
        "gpt_neox", hidden, c.layers("num_hidden_layers", default=44), c.size("vocab_size", default=50432),
        Block(
            "parallel" if parallel else "serial", ("input_layernorm", "post_attention_layernorm"), "layer", late=True
        ),
        plain_mlp(inside, activation(c, "hidden_act", default="gelu"), _WIDE),
        Attention(
            "attention", heads, heads, size, names=_SIDE_BY_SIDE, out="dense", bias=bias, out_bias=bias, rotary=turned
        ),
        root="gpt_neox", embed="embed_in", final_norm="final_layer_norm", head="embed_out", rotary=turned,
        tied=c.flag("tie_word_embeddings", default=False),
    )  # fmt: skip
    return of_decoder(d, c.size("max_position_embeddings", default=2048, most=LONGEST))


def phi(c: Config) -> Design:
    hidden, heads = c.size("hidden_size", default=2048), c.size("num_attention_heads", default=32)
    size = c.head_size(hidden, heads)
    turned = rotary_width(c, size, 0.5)
    d = Decoder(
        "phi", hidden, c.layers("num_hidden_layers", default=24), c.size("vocab_size", default=51200),
        Block("parallel", ("input_layernorm",), "layer"),
        plain_mlp(c.size("intermediate_size", default=8192), activation(c, "hidden_act", default="gelu_new"),
                  ("fc1", "fc2")),
        Attention(
            "self_attn", heads, c.shared_heads(heads, "num_key_value_heads"), size, out="dense", bias=True,
            out_bias=True, norms="layer_head" if c.flag("qk_layernorm", default=False) else "",
            norm_names=("q_layernorm", "k_layernorm"), rotary=turned,
        ),
        final_norm="final_layernorm", head_bias=True, rotary=turned,
        tied=c.flag("tie_word_embeddings", default=False),
    )  # fmt: skip
    return of_decoder(d, c.size("max_position_embeddings", default=2048, most=LONGEST))


def opt(c: Config) -> Design:
    c.only("layer_norm_elementwise_affine", True, True)
    c.only("_remove_final_layer_norm", False, False)
    hidden, heads = c.size("hidden_size", default=768), c.size("num_attention_heads", default=12)
    before, bias = c.flag("do_layer_norm_before", default=True), c.flag("enable_bias", default=True)
    rows = c.size("max_position_embeddings", default=2048)
    d = Decoder(
        "opt", hidden, c.layers("num_hidden_layers", default=12), c.size("vocab_size", default=50272),
        Block("serial" if before else "after", ("self_attn_layer_norm", "final_layer_norm"), "layer", inline=True),
        plain_mlp(c.size("ffn_dim", default=3072), activation(c, "activation_function", default="relu"),
                  ("fc1", "fc2"), bias=bias, path=""),
        Attention(
            "self_attn", heads, heads, c.head_size(hidden, heads), out="out_proj", bias=bias, out_bias=bias,
            scaled_queries=True,
        ),
        root="model.decoder", embed_width=c.optional("word_embed_proj_dim") or hidden,
        positions=("embed_positions", rows + 2, 2), final_norm="final_layer_norm" if before else "",
        tied=c.flag("tie_word_embeddings", default=True),
    )  # fmt: skip
    return of_decoder(d, rows)


def bloom(c: Config) -> Design:
    hidden = c.size("hidden_size", "n_embed", default=64)
    heads = c.size("n_head", "num_attention_heads", default=8)
    d = Decoder(
        "bloom", hidden, c.layers("n_layer", "num_hidden_layers", default=2), c.size("vocab_size", default=250880),
        Block("serial", ("input_layernorm", "post_attention_layernorm"), "layer"),
        plain_mlp(4 * hidden, "gelu", _WIDE),
        Attention(
            "self_attention", heads, heads, c.head_size(hidden, heads), names=_SIDE_BY_SIDE, out="dense", bias=True,
            out_bias=True,
        ),
        root="transformer", embed="word_embeddings", embed_norm="word_embeddings_layernorm", stack="h",
        final_norm="ln_f", alibi=True, tied=c.flag("tie_word_embeddings", default=True),
    )  # fmt: skip
    longest = c.optional("seq_length", most=LONGEST)
    return of_decoder(d, longest or 2048)


def falcon(c: Config) -> Design:
    hidden, heads = c.size("hidden_size", "n_embed", default=4544), c.size("num_attention_heads", "n_head", default=71)
    size = c.head_size(hidden, heads)
    new = c.flag("new_decoder_architecture", default=c.text("model_type", default="falcon") == "RefinedWeb")
    bias, alibi = c.flag("bias", default=False), c.flag("alibi", default=False)
    if new:
        shared = c.shared_heads(heads, "num_kv_heads", "n_head_kv")
        norms = c.optional("num_ln_in_parallel_attn", most=2) or 2
        block = Block("parallel", ("ln_attn", "ln_mlp") if norms == 2 else ("input_layernorm",), "layer")
    else:
        shared = 1 if c.flag("multi_query", default=True) else heads
        parallel = c.flag("parallel_attn", default=True)
        names = ("input_layernorm",) if parallel else ("input_layernorm", "post_attention_layernorm")
        block = Block("parallel" if parallel else "serial", names, "layer")
    turned = 0 if alibi else size
    d = Decoder(
        "falcon", hidden, c.layers("num_hidden_layers", "n_layer", default=32), c.size("vocab_size", default=65024),
        block,
        plain_mlp(c.optional("ffn_hidden_size") or 4 * hidden, activation(c, "activation", default="gelu"), _WIDE,
                  bias=bias),
        Attention(
            "self_attention", heads, shared, size, names=_SIDE_BY_SIDE, out="dense", bias=bias, out_bias=bias,
            rotary=turned, float_softmax=False, scaled_in_place=True,
        ),
        root="transformer", embed="word_embeddings", stack="h", final_norm="ln_f", rotary=turned, alibi=alibi,
        tied=c.flag("tie_word_embeddings", default=True),
    )  # fmt: skip
    notes = ["the cache holds the shared key and value heads; transformers repeats them for all heads"] if (
        new and shared != heads
    ) else []  # fmt: skip
    return of_decoder(d, c.size("max_position_embeddings", default=2048, most=LONGEST), *notes)
