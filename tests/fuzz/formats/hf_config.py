"""Damage to Hugging Face configurations: fields of absurd size or type, lists that do not fit, other families."""

from __future__ import annotations

import json
import random
from typing import Any

from tests.fuzz.mutation import WORDS, number

SUFFIX = ".json"

_NESTED: tuple[Any, ...] = ([], {}, [[]], [1, "a", None], {"a": {"b": 1}}, {"": ""}, [0] * 300, None, True, False)
_QUANTISED: tuple[dict[str, Any], ...] = (
    {"quant_method": "gptq", "bits": 4, "group_size": 128},
    {"quant_method": "awq", "bits": 4, "group_size": 64},
    {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    {"quant_method": "fp8", "weight_block_size": [128, 128]},
    {"quant_method": "mxfp4"},
    {
        "quant_method": "compressed-tensors", "format": "pack-quantized", "ignore": ["lm_head", "re:.*gate$"],
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "strategy": "channel"}}},
    },
)  # fmt: skip


def _small(model_type: str, architecture: str, **fields: Any) -> dict[str, Any]:
    return {
        "model_type": model_type, "architectures": [architecture], "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100, "max_position_embeddings": 64,
        "torch_dtype": "bfloat16", **fields,
    }  # fmt: skip


def seeds() -> dict[str, bytes]:
    """One small network of each kind of reader."""
    experts = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
    made = {
        "llama": _small("llama", "LlamaForCausalLM", num_key_value_heads=2, quantization_config=_QUANTISED[0]),
        "gemma3": _small("gemma3_text", "Gemma3ForCausalLM", num_key_value_heads=2, head_dim=16, sliding_window=16,
                         layer_types=["sliding_attention", "full_attention"]),
        "qwen_moe": _small("qwen2_moe", "Qwen2MoeForCausalLM", num_key_value_heads=2, num_experts=4,
                           shared_expert_intermediate_size=32, mlp_only_layers=[1], **experts),
        "deepseek": _small("deepseek_v3", "DeepseekV3ForCausalLM", num_key_value_heads=4, n_routed_experts=4,
                           n_shared_experts=1, kv_lora_rank=16, q_lora_rank=24, qk_rope_head_dim=8, v_head_dim=16,
                           qk_nope_head_dim=16, first_k_dense_replace=1, quantization_config=_QUANTISED[3], **experts),
        "gpt_oss": _small("gpt_oss", "GptOssForCausalLM", num_key_value_heads=2, num_local_experts=4, head_dim=16,
                          num_experts_per_tok=2, quantization_config=_QUANTISED[4]),
        "gpt2": {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 64, "n_layer": 2, "n_head": 4,
                 "n_positions": 64, "vocab_size": 100},
        "falcon": _small("falcon", "FalconForCausalLM", new_decoder_architecture=True, num_kv_heads=2),
        "bert": _small("bert", "BertForSequenceClassification", id2label={"0": "a", "1": "b"}),
        "albert": _small("albert", "AlbertForMaskedLM", embedding_size=16, num_hidden_groups=1, inner_group_num=1),
        "t5": {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "d_model": 64, "d_ff": 96,
               "d_kv": 8, "num_layers": 2, "num_heads": 4, "vocab_size": 100, "feed_forward_proj": "gated-gelu"},
        "vit": _small("vit", "ViTForImageClassification", image_size=32, patch_size=16, num_channels=3),
    }  # fmt: skip
    return {name: json.dumps(fields).encode() for name, fields in made.items()}


def _value(rng: random.Random) -> Any:
    kind = rng.randrange(7)
    if kind <= 2:
        return number(rng)
    if kind == 3:
        return rng.choice((0.0, -1.5, 0.5, 1e30, 1e308, float("nan"), float("inf")))
    return rng.choice(WORDS) if kind == 4 else rng.choice(_NESTED)


def _field(fields: dict[str, Any], rng: random.Random) -> str:
    name = rng.choice(sorted(fields)) if fields else "model_type"
    what = rng.randrange(8)
    if what == 0:
        fields.pop(name, None)
        return f"no {name}"
    if what == 1:
        fields["quantization_config"] = dict(rng.choice(_QUANTISED))
        return "another quantisation"
    if what == 2:
        listed = {"layer_types": ["full_attention", "sliding_attention"], "mlp_only_layers": [0, -1, 2**70],
                  "architectures": list(WORDS[:5]), "image_size": [32, number(rng)],
                  "id2label": {"0": "x"}}  # fmt: skip
        name = rng.choice(sorted(listed))
        fields[name] = listed[name]
    elif what == 3 and isinstance(fields.get(name), dict):
        inner = fields[name]
        if inner:
            at = rng.choice(sorted(inner))
            inner[at] = _value(rng)
        return f"{name} changed inside"
    elif what == 4:
        wide = ("num_hidden_layers", "n_layer", "num_layers", "num_experts", "n_routed_experts", "num_local_experts",
                "vocab_size", "hidden_size", "image_size", "num_hidden_groups", "inner_group_num")  # fmt: skip
        name = rng.choice(wide)
        fields[name] = rng.choice((64, 1000, 1024, 1025, 2**20, 2**26, 10**18, 10**400))
    elif what == 5:
        fields["model_type"] = rng.choice(
            ("llama", "mixtral", "deepseek_v2", "bert", "vit", "t5", "phimoe", *WORDS[:6])
        )
        return "another family"
    else:
        fields[name] = _value(rng)
    return f"{name} := {str(fields.get(name))[:40] if not isinstance(fields.get(name), int) else 'a number'}"


def damage(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Change one to three fields, or bury the configuration in itself."""
    fields = json.loads(data)
    done = [_field(fields, rng) for _ in range(rng.choice((1, 1, 2, 3)))]
    if rng.random() < 0.03:
        return b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deep"
    return json.dumps(fields).encode(), "; ".join(done)
