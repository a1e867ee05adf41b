"""Names and shapes of every parameter against the modules of transformers, built on the meta device.

The library's own conversion gives the names of the files (experts one by one, older module paths).
Run with -m slow; needs torch and transformers 5.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from peakmem.frontends.hf.families import FAMILIES
from peakmem.frontends.hf.reader import read_hf_config

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

Fields = dict[str, Any]
TWO: Fields = {"num_hidden_layers": 2}
NARROW: Fields = {"hidden_size": 1024, "num_attention_heads": 16, **TWO}

VARIANTS: list[tuple[str, Fields]] = [
    ("LlamaForCausalLM", {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "head_dim": 48,
                          "hidden_size": 256, "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 999,
                          "intermediate_size": 300, "tie_word_embeddings": True, **TWO}),
    ("MinistralForCausalLM", {"model_type": "ministral", "head_dim": 128, **TWO}),
    ("MistralForCausalLM", {"model_type": "mistral", "head_dim": 64, "hidden_size": 5120, **TWO}),
    ("Qwen2ForCausalLM", {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 1, **TWO}),
    ("Qwen2MoeForCausalLM", {"model_type": "qwen2_moe", "qkv_bias": False, "decoder_sparse_step": 2,
                             "mlp_only_layers": [3], "num_hidden_layers": 6, "num_experts": 4}),
    ("Qwen3MoeForCausalLM", {"model_type": "qwen3_moe", "decoder_sparse_step": 2, "mlp_only_layers": [1],
                             "num_hidden_layers": 5, "num_experts": 16, "head_dim": 128}),
    ("StableLmForCausalLM", {"model_type": "stablelm", "use_qkv_bias": True, "qk_layernorm": True,
                             "use_parallel_residual": True, **TWO}),
    ("Starcoder2ForCausalLM", {"model_type": "starcoder2", "use_bias": False, **TWO}),
    ("CohereForCausalLM", {"model_type": "cohere", "use_qk_norm": True, "attention_bias": True,
                           "num_key_value_heads": 8, **TWO}),
    ("PhiForCausalLM", {"model_type": "phi", "qk_layernorm": True, "num_key_value_heads": 4, **TWO}),
    ("Phi3ForCausalLM", {"model_type": "phi3", "num_key_value_heads": 8, **TWO}),
    ("PhimoeForCausalLM", {"model_type": "phimoe", "attention_bias": True, "lm_head_bias": True, **TWO}),
    ("GPTNeoXForCausalLM", {"model_type": "gpt_neox", "use_parallel_residual": False, "attention_bias": False, **TWO}),
    ("GPT2LMHeadModel", {"model_type": "gpt2", "n_inner": 100, "n_layer": 2}),
    ("GPTJForCausalLM", {"model_type": "gptj", "n_inner": 100, "n_layer": 2}),
    ("GPTBigCodeForCausalLM", {"model_type": "gpt_bigcode", "multi_query": False, "n_layer": 2}),
    ("OPTForCausalLM", {"model_type": "opt", "do_layer_norm_before": False, "word_embed_proj_dim": 512, **NARROW}),
    ("OPTForCausalLM", {"model_type": "opt", "enable_bias": False, **TWO}),
    ("FalconForCausalLM", {"model_type": "falcon", "new_decoder_architecture": True, "num_kv_heads": 8, **NARROW}),
    ("FalconForCausalLM", {"model_type": "falcon", "new_decoder_architecture": True, "num_kv_heads": 8,
                           "num_ln_in_parallel_attn": 1, **NARROW}),
    ("FalconForCausalLM", {"model_type": "falcon", "alibi": True, "bias": True, "multi_query": False,
                           "parallel_attn": False, **NARROW}),
    ("DeepseekV2ForCausalLM", {"model_type": "deepseek_v2", "num_experts_per_tok": 6, "q_lora_rank": None,
                               "first_k_dense_replace": 1, "num_hidden_layers": 3, "n_routed_experts": 8}),
    ("DeepseekV3ForCausalLM", {"model_type": "deepseek_v3", "first_k_dense_replace": 1, "num_hidden_layers": 3,
                               "n_routed_experts": 8, "n_group": 2, "topk_group": 1, "attention_bias": True}),
    ("GptOssForCausalLM", {"model_type": "gpt_oss", "num_local_experts": 4, "attention_bias": False, **TWO}),
    ("Gemma3ForCausalLM", {"model_type": "gemma3_text", "num_hidden_layers": 7, "tie_word_embeddings": False}),
    ("Gemma2ForCausalLM", {"model_type": "gemma2", "head_dim": 128, **TWO}),
    ("Olmo2ForCausalLM", {"model_type": "olmo2", "num_key_value_heads": 8, "attention_bias": True, **TWO}),
    ("T5ForConditionalGeneration", {"model_type": "t5", "feed_forward_proj": "gated-gelu", "num_layers": 3,
                                    "num_decoder_layers": 2}),
    ("AlbertForMaskedLM", {"model_type": "albert", "num_hidden_groups": 2, "inner_group_num": 2, "hidden_size": 256,
                           "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}),
    ("ElectraForSequenceClassification", {"model_type": "electra", "num_labels": 5, **TWO}),
    ("ViTModel", {"model_type": "vit", "image_size": 384, "patch_size": 32, "qkv_bias": False,
                  "pooler_output_size": 55, **TWO}),
    ("ViTForImageClassification", {"model_type": "vit", "image_size": [224, 160], "patch_size": [16, 8],
                                   "num_channels": 1, "id2label": {"0": "a", "1": "b", "2": "c"}, **TWO}),
]  # fmt: skip

OTHER_BY_INTENT = {"MT5ForConditionalGeneration", "PhiMoEForCausalLM", "RWForCausalLM", "T5WithLMHeadModel"}
# a head that published files store apart and transformers 5 ties; class names from the models' own code
TIED_THE_OTHER_WAY = {"XLMRobertaForMaskedLM", "CamembertForMaskedLM"}
# the same storage under the head's name

PLAIN = [
    (architecture, name)
    for name, family in FAMILIES.items()
    for architecture in family.heads
    if architecture not in OTHER_BY_INTENT and not name.startswith("RefinedWeb") and name != "ministral"
]


def _library(architecture: str, fields: Fields) -> dict[str, tuple[int, ...]]:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers", minversion="5.0")
    from transformers.core_model_loading import revert_weight_conversion

    rest = {name: value for name, value in fields.items() if name != "model_type"}
    config = transformers.AutoConfig.for_model(fields["model_type"], **rest)
    with torch.device("meta"):
        module = getattr(transformers, architecture)(config)
        module.tie_weights()
    parameters = revert_weight_conversion(module, dict(module.named_parameters()))
    return {name: tuple(parameter.shape) for name, parameter in parameters.items()}


def _ours(architecture: str, fields: Fields, folder: Path) -> dict[str, tuple[int, ...]]:
    path = folder / "config.json"
    path.write_text(json.dumps({**fields, "architectures": [architecture]}))
    stored = (tensor for tensor in read_hf_config(path).tensors.values() if tensor.role == "constant")
    return {
        tensor.name: tuple(int(str(dim)) for dim in tensor.shape or ())
        for tensor in stored
        if not tensor.storage and tensor.parameter
    }


@pytest.mark.parametrize(("architecture", "fields"), VARIANTS)
def test_variants_have_the_parameters_of_the_library(architecture: str, fields: Fields, tmp_path: Path) -> None:
    assert _ours(architecture, fields, tmp_path) == _library(architecture, fields)


OLD_NAMES = {"LLaMAForCausalLM": "LlamaForCausalLM"}
# names that early configurations have and the library no longer knows


@pytest.mark.parametrize(("architecture", "family"), PLAIN)
def test_defaults_and_heads_are_those_of_the_library(architecture: str, family: str, tmp_path: Path) -> None:
    fields: Fields = {"model_type": family}
    if family == "deepseek_v2":
        fields["num_experts_per_tok"] = 2
    ours = _ours(architecture, fields, tmp_path)
    theirs = _library(OLD_NAMES.get(architecture, architecture), fields)
    if architecture in TIED_THE_OTHER_WAY:
        assert sorted(theirs.values()) == sorted(ours.values())
    else:
        assert ours == theirs
