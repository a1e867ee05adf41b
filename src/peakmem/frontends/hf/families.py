"""Every model type that is known, with its reader and its architectures."""

from __future__ import annotations

from collections.abc import Mapping

from peakmem.frontends.hf import bert, deepseek, gpt, llama, moe, t5, vit
from peakmem.frontends.hf.design import Family, decoder_family

_DECODERS: Mapping[str, Family] = {
    "llama": decoder_family("Llama", llama.llama, LLaMAForCausalLM="lm"),
    "mistral": decoder_family("Mistral", llama.mistral),
    "ministral": decoder_family("Ministral", llama.ministral),
    "qwen2": decoder_family("Qwen2", llama.qwen2),
    "qwen3": decoder_family("Qwen3", llama.qwen3),
    "gemma": decoder_family("Gemma", llama.gemma),
    "gemma2": decoder_family("Gemma2", llama.gemma2),
    "gemma3_text": Family(
        llama.gemma3,
        {"Gemma3ForCausalLM": "lm", "Gemma3TextModel": "", "Gemma3ForSequenceClassification": "class"},
        "Gemma3ForCausalLM",
    ),
    "phi3": decoder_family("Phi3", llama.phi3),
    "olmo": decoder_family("Olmo", llama.olmo, token=""),
    "olmo2": decoder_family("Olmo2", llama.olmo2, token=""),
    "stablelm": decoder_family("StableLm", llama.stablelm),
    "starcoder2": decoder_family("Starcoder2", llama.starcoder2),
    "cohere": decoder_family("Cohere", llama.cohere, classifies=False, token=""),
    "cohere2": decoder_family("Cohere2", llama.cohere2, classifies=False, token=""),
    "granite": decoder_family("Granite", llama.granite, classifies=False, token=""),
    "smollm3": decoder_family("SmolLM3", llama.smollm3),
    "mixtral": decoder_family("Mixtral", moe.mixtral),
    "phimoe": decoder_family("Phimoe", moe.phimoe, token="", PhiMoEForCausalLM="lm"),
    "qwen2_moe": decoder_family("Qwen2Moe", moe.qwen2_moe),
    "qwen3_moe": decoder_family("Qwen3Moe", moe.qwen3_moe),
    "gpt_oss": decoder_family("GptOss", moe.gpt_oss),
    "deepseek_v2": decoder_family("DeepseekV2", deepseek.deepseek_v2, token=""),
    "deepseek_v3": decoder_family("DeepseekV3", deepseek.deepseek_v3),
    "gpt2": decoder_family("GPT2", gpt.gpt2, lm="GPT2LMHeadModel", token="classifier"),
    "gpt_bigcode": decoder_family("GPTBigCode", gpt.gpt_bigcode, token="classifier"),
    "gpt_neo": decoder_family("GPTNeo", gpt.gpt_neo, token="classifier"),
    "gptj": decoder_family("GPTJ", gpt.gptj, token=""),
    "gpt_neox": decoder_family("GPTNeoX", gpt.gpt_neox, token="classifier"),
    "phi": decoder_family("Phi", gpt.phi),
    "opt": decoder_family("OPT", gpt.opt, token=""),
    "bloom": decoder_family("Bloom", gpt.bloom, token="classifier"),
    "falcon": decoder_family("Falcon", gpt.falcon, token="classifier"),
    "RefinedWeb": decoder_family("Falcon", gpt.falcon, token="classifier", RWForCausalLM="lm"),
    "RefinedWebModel": decoder_family("Falcon", gpt.falcon, token="classifier", RWForCausalLM="lm"),
}

FAMILIES: Mapping[str, Family] = {**_DECODERS, **bert.FAMILIES, **t5.FAMILIES, **vit.FAMILIES}
