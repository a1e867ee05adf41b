"""DeepSeek V2 and V3 (R1): multi-head latent attention, many small experts and shared ones.

The cache holds the compressed latent and the rotary part of the key, as engines keep it; what
transformers itself keeps (keys and values of all heads) is told as a detail. Layers for predicting
several tokens (MTP) are stored in the published files and not part of the network in transformers.
"""

from __future__ import annotations

from peakmem.frontends.hf.attention import Attention, core
from peakmem.frontends.hf.config import LONGEST, MOST_EXPERTS, Config
from peakmem.frontends.hf.decoder import Decoder, Layer, Place
from peakmem.frontends.hf.design import Design, of_decoder
from peakmem.frontends.hf.llama import GATED, SERIAL, activation
from peakmem.frontends.hf.moe import NOTE, Experts, count_experts, mixture
from peakmem.frontends.hf.network import Network


def deepseek_v2(c: Config) -> Design:
    return _deepseek(
        c, {"vocab": 102400, "hidden": 4096, "inside": 11008, "layers": 32, "heads": 32, "longest": 2048},
        {"count": 64, "chosen": 0, "inside": 1407, "shared": 2, "first": 0}, correction=False,
    )  # fmt: skip


def deepseek_v3(c: Config) -> Design:
    return _deepseek(
        c, {"vocab": 129280, "hidden": 7168, "inside": 18432, "layers": 61, "heads": 128, "longest": 4096},
        {"count": 256, "chosen": 8, "inside": 2048, "shared": 1, "first": 3}, correction=True,
    )  # fmt: skip


def _deepseek(c: Config, usual: dict[str, int], moe: dict[str, int], *, correction: bool) -> Design:
    c.only("moe_layer_freq", 1, 1)
    layers = c.layers("num_hidden_layers", default=usual["layers"])
    hidden = c.size("hidden_size", default=usual["hidden"])
    act = activation(c, "hidden_act", default="silu")
    inside = c.size("intermediate_size", default=usual["inside"])
    first = c.size("first_k_dense_replace", default=moe["first"], least=0)
    dense = min(first, layers)
    width = c.size("moe_intermediate_size", default=moe["inside"])
    experts = Experts(
        "mlp", count_experts(c, max(layers - dense, 1), "n_routed_experts", default=moe["count"]),
        c.size("num_experts_per_tok", default=moe["chosen"] or None, most=MOST_EXPERTS), width, act,
        shared=width * c.size("n_shared_experts", default=moe["shared"], least=0), correction=correction,
    )  # fmt: skip
    if experts.chosen > experts.count:
        raise c.fault(f"{experts.chosen} experts per token", expected=f"at most the {experts.count} there are")
    sparse = mixture(experts)

    def mlp(n: Network, x: str, at: Place) -> str:
        if at.layer >= dense:
            return sparse(n, x, at)
        return n.gated(x, f"{at.path}.mlp", GATED, inside, act)

    heads = c.size("num_attention_heads", default=usual["heads"])
    c.shared_heads(heads, "num_key_value_heads")
    turned = c.size("qk_rope_head_dim", default=64)
    d = Decoder(
        c.text("model_type", default=""), hidden, layers, c.size("vocab_size", default=usual["vocab"]), SERIAL, mlp,
        _latent(c, heads, turned), tied=c.flag("tie_word_embeddings", default=False), rotary=turned,
    )  # fmt: skip
    notes = [NOTE, "the cache holds the latent and the rotary part of the key, as engines keep it"]
    if c.size("num_nextn_predict_layers", default=0, least=0):
        notes.append("layers that predict further tokens (MTP) are not part of the network in transformers")
    c.assumed.pop("num_nextn_predict_layers", None)
    return of_decoder(d, c.size("max_position_embeddings", default=usual["longest"], most=LONGEST), *notes)


def _latent(c: Config, heads: int, turned: int) -> Layer:
    """Multi-head latent attention."""
    plain, values = c.size("qk_nope_head_dim", default=128), c.size("v_head_dim", default=128)
    rank = c.size("kv_lora_rank", default=512)
    query_rank = c.optional("q_lora_rank") if "q_lora_rank" in c.fields else c.size("q_lora_rank", default=1536)
    bias = c.flag("attention_bias", default=False)
    size = plain + turned
    kind = Attention("self_attn", heads, heads, size, rotary=turned)

    def attend(n: Network, x: str, at: Place) -> str:
        path, hidden, setting, layer = f"{at.path}.self_attn", n.width(x), at.setting, at.layer
        if query_rank is None:
            query = n.linear(x, f"{path}.q_proj", heads * size)
        else:
            low = n.rms_norm(n.linear(x, f"{path}.q_a_proj", query_rank, bias=bias), f"{path}.q_a_layernorm")
            query = n.linear(low, f"{path}.q_b_proj", heads * size)
        query = n.split(query, heads)
        both = n.linear(x, f"{path}.kv_a_proj_with_mqa", rank + turned, bias=bias)
        latent = n.rms_norm(n.part(both, 0, rank), f"{path}.kv_a_layernorm")
        shared = n.split(n.part(both, rank, turned), 1)
        assert setting.tables is not None
        shared = n.b.one("RotaryEmbedding", shared, *setting.tables, name="rotary", rotary_embedding_dim=turned)
        kept = setting.cache.keep(n, layer, "latent", n.split(latent, 1))
        shared = setting.cache.keep(n, layer, "rotary", shared)
        setting.cache.expanded += heads * (size + values)
        wide = n.split(n.linear(n.own("JoinHeads", kept), f"{path}.kv_b_proj", heads * (plain + values)), heads)
        key_parts = [n.part(wide, 0, plain), n.own("ExpandHeads", shared, times=heads)]
        moved = n.b.one("RotaryEmbedding", n.part(query, plain, turned), *setting.tables, name="rotary",
                        rotary_embedding_dim=turned)  # fmt: skip
        query = n.b.concat([n.part(query, 0, plain), moved], axis=3)
        y = core(n, query, n.b.concat(key_parts, axis=3), n.part(wide, plain, values), setting, kind)
        return n.linear(y, f"{path}.o_proj", hidden, bias=bias)

    return attend
