"""Published models: the fields of their config.json, and the parameters their makers state.

Counts are those of the model cards (the safetensors metadata of the hub) and papers, less what is
stored beside the parameters (buffers, a second copy of a tied head), written down without the cards at
hand. Each but Flan-T5, ByT5 and mT5, whose heads transformers 5 ties in a module built from a
configuration alone, was confirmed by building the module of transformers 5.23 on the meta device from
the same fields.
"""

from __future__ import annotations

from typing import Any

Fields = dict[str, Any]


def llama(
    hidden: int, inside: int, layers: int, heads: int, shared: int, vocab: int, context: int, **more: Any
) -> Fields:
    return {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": hidden,
        "intermediate_size": inside, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": shared, "vocab_size": vocab, "max_position_embeddings": context,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", **more,
    }  # fmt: skip


def like(model_type: str, architecture: str, **fields: Any) -> Fields:
    return {"model_type": model_type, "architectures": [architecture], "torch_dtype": "bfloat16", **fields}


def qwen2(hidden: int, inside: int, layers: int, heads: int, shared: int, vocab: int, tied: bool) -> Fields:
    return like(
        "qwen2", "Qwen2ForCausalLM", hidden_size=hidden, intermediate_size=inside, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=shared, vocab_size=vocab, tie_word_embeddings=tied,
        max_position_embeddings=32768, use_sliding_window=False, sliding_window=32768, max_window_layers=layers,
    )  # fmt: skip


def qwen3(hidden: int, inside: int, layers: int, heads: int, shared: int, tied: bool) -> Fields:
    return like(
        "qwen3", "Qwen3ForCausalLM", hidden_size=hidden, intermediate_size=inside, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=shared, head_dim=128, vocab_size=151936,
        tie_word_embeddings=tied, max_position_embeddings=40960, use_sliding_window=False, sliding_window=None,
    )  # fmt: skip


def pythia(hidden: int, inside: int, layers: int, heads: int, vocab: int) -> Fields:
    return like(
        "gpt_neox", "GPTNeoXForCausalLM", hidden_size=hidden, intermediate_size=inside, num_hidden_layers=layers,
        num_attention_heads=heads, vocab_size=vocab, rotary_pct=0.25, max_position_embeddings=2048,
        tie_word_embeddings=False, torch_dtype="float16",
    )  # fmt: skip


def gpt2(hidden: int, layers: int, heads: int) -> Fields:
    return {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": hidden, "n_layer": layers,
        "n_head": heads, "n_positions": 1024, "n_ctx": 1024, "vocab_size": 50257, "activation_function": "gelu_new",
    }  # fmt: skip


def bert(architecture: str, hidden: int, inside: int, layers: int, heads: int, vocab: int, **more: Any) -> Fields:
    return {
        "model_type": "bert", "architectures": [architecture], "hidden_size": hidden, "intermediate_size": inside,
        "num_hidden_layers": layers, "num_attention_heads": heads, "vocab_size": vocab, "hidden_act": "gelu",
        "max_position_embeddings": 512, "type_vocab_size": 2, **more,
    }  # fmt: skip


def t5(
    model_type: str, d: int, ff: int, layers: int, heads: int, vocab: int, act: str, tied: bool, kv: int = 64
) -> Fields:
    prefix = "MT5" if model_type == "mt5" else "T5"
    return {
        "model_type": model_type, "architectures": [f"{prefix}ForConditionalGeneration"], "d_model": d, "d_ff": ff,
        "d_kv": kv, "num_layers": layers, "num_decoder_layers": layers, "num_heads": heads, "vocab_size": vocab,
        "feed_forward_proj": act, "tie_word_embeddings": tied, "relative_attention_num_buckets": 32,
    }  # fmt: skip


def vit(hidden: int, inside: int, layers: int, heads: int, **more: Any) -> Fields:
    return {
        "model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_size": hidden,
        "intermediate_size": inside, "num_hidden_layers": layers, "num_attention_heads": heads, "image_size": 224,
        "patch_size": 16, "num_channels": 3, "id2label": {str(i): f"LABEL_{i}" for i in range(1000)}, **more,
    }  # fmt: skip


def opt(hidden: int, ffn: int, layers: int, heads: int, **more: Any) -> Fields:
    return like(
        "opt", "OPTForCausalLM", hidden_size=hidden, ffn_dim=ffn, num_hidden_layers=layers, num_attention_heads=heads,
        vocab_size=50272, max_position_embeddings=2048, word_embed_proj_dim=hidden, do_layer_norm_before=True,
        activation_function="relu", torch_dtype="float16",
    ) | more  # fmt: skip


DEEPSEEK_V3 = like(
    "deepseek_v3", "DeepseekV3ForCausalLM", vocab_size=129280, hidden_size=7168, intermediate_size=18432,
    moe_intermediate_size=2048, num_hidden_layers=61, num_attention_heads=128, num_key_value_heads=128,
    n_shared_experts=1, n_routed_experts=256, routed_scaling_factor=2.5, kv_lora_rank=512, q_lora_rank=1536,
    qk_rope_head_dim=64, v_head_dim=128, qk_nope_head_dim=128, n_group=8, topk_group=4, num_experts_per_tok=8,
    moe_layer_freq=1, first_k_dense_replace=3, max_position_embeddings=163840, num_nextn_predict_layers=1,
    attention_bias=False, tie_word_embeddings=False, hidden_act="silu",
)  # fmt: skip

DEEPSEEK_V2 = like(
    "deepseek_v2", "DeepseekV2ForCausalLM", vocab_size=102400, hidden_size=5120, intermediate_size=12288,
    moe_intermediate_size=1536, num_hidden_layers=60, num_attention_heads=128, num_key_value_heads=128,
    n_shared_experts=2, n_routed_experts=160, kv_lora_rank=512, q_lora_rank=1536, qk_rope_head_dim=64, v_head_dim=128,
    qk_nope_head_dim=128, num_experts_per_tok=6, moe_layer_freq=1, first_k_dense_replace=1, n_group=8, topk_group=3,
    max_position_embeddings=163840, attention_bias=False, tie_word_embeddings=False, hidden_act="silu",
)  # fmt: skip

GEMMA3_1B = like(
    "gemma3_text", "Gemma3ForCausalLM", hidden_size=1152, intermediate_size=6912, num_hidden_layers=26,
    num_attention_heads=4, num_key_value_heads=1, head_dim=256, vocab_size=262144, sliding_window=512,
    sliding_window_pattern=6, max_position_embeddings=32768, hidden_activation="gelu_pytorch_tanh",
    attention_bias=False, attn_logit_softcapping=None, final_logit_softcapping=None,
)  # fmt: skip

GPT_OSS_20B = like(
    "gpt_oss", "GptOssForCausalLM", hidden_size=2880, intermediate_size=2880, num_hidden_layers=24,
    num_attention_heads=64, num_key_value_heads=8, head_dim=64, vocab_size=201088, num_local_experts=32,
    experts_per_token=4, num_experts_per_tok=4, sliding_window=128, max_position_embeddings=131072,
    attention_bias=True, tie_word_embeddings=False,
    layer_types=["sliding_attention", "full_attention"] * 12,
    quantization_config={
        "quant_method": "mxfp4",
        "modules_to_not_convert": [
            "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head",
        ],
    },
)  # fmt: skip

LLAMA_2_7B = llama(4096, 11008, 32, 32, 32, 32000, 4096, torch_dtype="float16")
LLAMA_3_8B = llama(4096, 14336, 32, 32, 8, 128256, 8192, rope_theta=500000.0)
LLAMA_3_2_3B = llama(3072, 8192, 28, 24, 8, 128256, 131072, head_dim=128, tie_word_embeddings=True)

PUBLISHED: dict[str, tuple[Fields, int]] = {
    "meta-llama/Llama-2-7b-hf": (LLAMA_2_7B, 6_738_415_616),
    "meta-llama/Llama-2-13b-hf": (llama(5120, 13824, 40, 40, 40, 32000, 4096), 13_015_864_320),
    "meta-llama/Llama-2-70b-hf": (llama(8192, 28672, 80, 64, 8, 32000, 4096), 68_976_648_192),
    "meta-llama/Meta-Llama-3-8B": (LLAMA_3_8B, 8_030_261_248),
    "meta-llama/Meta-Llama-3-70B": (llama(8192, 28672, 80, 64, 8, 128256, 8192), 70_553_706_496),
    "meta-llama/Llama-3.1-405B": (llama(16384, 53248, 126, 128, 8, 128256, 131072), 405_853_388_800),
    "meta-llama/Llama-3.2-1B": (
        llama(2048, 8192, 16, 32, 8, 128256, 131072, head_dim=64, tie_word_embeddings=True), 1_235_814_400,
    ),
    "meta-llama/Llama-3.2-3B": (LLAMA_3_2_3B, 3_212_749_824),
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": (llama(2048, 5632, 22, 32, 4, 32000, 2048), 1_100_048_384),
    "HuggingFaceTB/SmolLM2-135M": (
        llama(576, 1536, 30, 9, 3, 49152, 8192, tie_word_embeddings=True), 134_515_008,
    ),
    "mistralai/Mistral-7B-v0.1": (
        like("mistral", "MistralForCausalLM", hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
             num_attention_heads=32, num_key_value_heads=8, vocab_size=32000, sliding_window=4096,
             max_position_embeddings=32768, tie_word_embeddings=False),
        7_241_732_096,
    ),
    "mistralai/Mistral-Nemo-Base-2407": (
        like("mistral", "MistralForCausalLM", hidden_size=5120, intermediate_size=14336, num_hidden_layers=40,
             num_attention_heads=32, num_key_value_heads=8, head_dim=128, vocab_size=131072, sliding_window=None,
             max_position_embeddings=128000, tie_word_embeddings=False),
        12_247_782_400,
    ),
    "mistralai/Mixtral-8x7B-v0.1": (
        like("mixtral", "MixtralForCausalLM", hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
             num_attention_heads=32, num_key_value_heads=8, vocab_size=32000, num_local_experts=8,
             num_experts_per_tok=2, sliding_window=None, max_position_embeddings=32768),
        46_702_792_704,
    ),
    "mistralai/Mixtral-8x22B-v0.1": (
        like("mixtral", "MixtralForCausalLM", hidden_size=6144, intermediate_size=16384, num_hidden_layers=56,
             num_attention_heads=48, num_key_value_heads=8, vocab_size=32768, num_local_experts=8,
             num_experts_per_tok=2, sliding_window=None, max_position_embeddings=65536),
        140_630_071_296,
    ),
    "Qwen/Qwen2.5-0.5B": (qwen2(896, 4864, 24, 14, 2, 151936, True), 494_032_768),
    "Qwen/Qwen2.5-1.5B": (qwen2(1536, 8960, 28, 12, 2, 151936, True), 1_543_714_304),
    "Qwen/Qwen2.5-3B": (qwen2(2048, 11008, 36, 16, 2, 151936, True), 3_085_938_688),
    "Qwen/Qwen2.5-7B": (qwen2(3584, 18944, 28, 28, 4, 152064, False), 7_615_616_512),
    "Qwen/Qwen2.5-14B": (qwen2(5120, 13824, 48, 40, 8, 152064, False), 14_770_033_664),
    "Qwen/Qwen2.5-32B": (qwen2(5120, 27648, 64, 40, 8, 152064, False), 32_763_876_352),
    "Qwen/Qwen2.5-72B": (qwen2(8192, 29568, 80, 64, 8, 152064, False), 72_706_203_648),
    "Qwen/Qwen1.5-MoE-A2.7B": (
        like("qwen2_moe", "Qwen2MoeForCausalLM", hidden_size=2048, intermediate_size=5632, num_hidden_layers=24,
             num_attention_heads=16, num_key_value_heads=16, vocab_size=151936, moe_intermediate_size=1408,
             shared_expert_intermediate_size=5632, num_experts=60, num_experts_per_tok=4, decoder_sparse_step=1,
             max_position_embeddings=8192, use_sliding_window=False),
        14_315_784_192,
    ),
    "Qwen/Qwen3-0.6B": (qwen3(1024, 3072, 28, 16, 8, True), 596_049_920),
    "Qwen/Qwen3-4B": (qwen3(2560, 9728, 36, 32, 8, True), 4_022_468_096),
    "Qwen/Qwen3-8B": (qwen3(4096, 12288, 36, 32, 8, False), 8_190_735_360),
    "Qwen/Qwen3-14B": (qwen3(5120, 17408, 40, 40, 8, False), 14_768_307_200),
    "Qwen/Qwen3-32B": (qwen3(5120, 25600, 64, 64, 8, False), 32_762_123_264),
    "Qwen/Qwen3-30B-A3B": (
        like("qwen3_moe", "Qwen3MoeForCausalLM", hidden_size=2048, intermediate_size=6144, num_hidden_layers=48,
             num_attention_heads=32, num_key_value_heads=4, head_dim=128, vocab_size=151936,
             moe_intermediate_size=768, num_experts=128, num_experts_per_tok=8, decoder_sparse_step=1,
             mlp_only_layers=[], max_position_embeddings=40960, tie_word_embeddings=False),
        30_532_122_624,
    ),
    "google/gemma-2b": (
        like("gemma", "GemmaForCausalLM", hidden_size=2048, intermediate_size=16384, num_hidden_layers=18,
             num_attention_heads=8, num_key_value_heads=1, head_dim=256, vocab_size=256000,
             max_position_embeddings=8192, hidden_act="gelu"),
        2_506_172_416,
    ),
    "google/gemma-7b": (
        like("gemma", "GemmaForCausalLM", hidden_size=3072, intermediate_size=24576, num_hidden_layers=28,
             num_attention_heads=16, num_key_value_heads=16, head_dim=256, vocab_size=256000,
             max_position_embeddings=8192, hidden_act="gelu"),
        8_537_680_896,
    ),
    "google/gemma-2-2b": (
        like("gemma2", "Gemma2ForCausalLM", hidden_size=2304, intermediate_size=9216, num_hidden_layers=26,
             num_attention_heads=8, num_key_value_heads=4, head_dim=256, vocab_size=256000, sliding_window=4096,
             max_position_embeddings=8192),
        2_614_341_888,
    ),
    "google/gemma-2-9b": (
        like("gemma2", "Gemma2ForCausalLM", hidden_size=3584, intermediate_size=14336, num_hidden_layers=42,
             num_attention_heads=16, num_key_value_heads=8, head_dim=256, vocab_size=256000, sliding_window=4096,
             max_position_embeddings=8192),
        9_241_705_984,
    ),
    "google/gemma-2-27b": (
        like("gemma2", "Gemma2ForCausalLM", hidden_size=4608, intermediate_size=36864, num_hidden_layers=46,
             num_attention_heads=32, num_key_value_heads=16, head_dim=128, vocab_size=256000, sliding_window=4096,
             max_position_embeddings=8192, query_pre_attn_scalar=144),
        27_227_128_320,
    ),
    "google/gemma-3-1b-pt": (GEMMA3_1B, 999_885_952),
    "microsoft/phi-1_5": (
        like("phi", "PhiForCausalLM", hidden_size=2048, intermediate_size=8192, num_hidden_layers=24,
             num_attention_heads=32, vocab_size=51200, partial_rotary_factor=0.5, max_position_embeddings=2048),
        1_418_270_720,
    ),
    "microsoft/phi-2": (
        like("phi", "PhiForCausalLM", hidden_size=2560, intermediate_size=10240, num_hidden_layers=32,
             num_attention_heads=32, num_key_value_heads=32, vocab_size=51200, partial_rotary_factor=0.4,
             max_position_embeddings=2048),
        2_779_683_840,
    ),
    "microsoft/Phi-3-mini-4k-instruct": (
        like("phi3", "Phi3ForCausalLM", hidden_size=3072, intermediate_size=8192, num_hidden_layers=32,
             num_attention_heads=32, num_key_value_heads=32, vocab_size=32064, sliding_window=2047,
             max_position_embeddings=4096),
        3_821_079_552,
    ),
    "microsoft/phi-4": (
        like("phi3", "Phi3ForCausalLM", hidden_size=5120, intermediate_size=17920, num_hidden_layers=40,
             num_attention_heads=40, num_key_value_heads=10, vocab_size=100352, sliding_window=None,
             max_position_embeddings=16384),
        14_659_507_200,
    ),
    "microsoft/Phi-3.5-MoE-instruct": (
        like("phimoe", "PhiMoEForCausalLM", hidden_size=4096, intermediate_size=6400, num_hidden_layers=32,
             num_attention_heads=32, num_key_value_heads=8, vocab_size=32064, num_local_experts=16,
             num_experts_per_tok=2, attention_bias=True, lm_head_bias=True, sliding_window=131072,
             max_position_embeddings=131072),
        41_873_153_344,
    ),
    "openai-community/gpt2": (gpt2(768, 12, 12), 124_439_808),
    "openai-community/gpt2-medium": (gpt2(1024, 24, 16), 354_823_168),
    "openai-community/gpt2-large": (gpt2(1280, 36, 20), 774_030_080),
    "openai-community/gpt2-xl": (gpt2(1600, 48, 25), 1_557_611_200),
    "EleutherAI/pythia-70m": (pythia(512, 2048, 6, 8, 50304), 70_426_624),
    "EleutherAI/pythia-160m": (pythia(768, 3072, 12, 12, 50304), 162_322_944),
    "EleutherAI/pythia-410m": (pythia(1024, 4096, 24, 16, 50304), 405_334_016),
    "EleutherAI/pythia-1b": (pythia(2048, 8192, 16, 8, 50304), 1_011_781_632),
    "EleutherAI/pythia-2.8b": (pythia(2560, 10240, 32, 32, 50304), 2_775_208_960),
    "EleutherAI/pythia-6.9b": (pythia(4096, 16384, 32, 32, 50432), 6_857_302_016),
    "EleutherAI/pythia-12b": (pythia(5120, 20480, 36, 40, 50688), 11_846_072_320),
    "EleutherAI/gpt-neox-20b": (pythia(6144, 24576, 44, 64, 50432), 20_554_567_680),
    "EleutherAI/gpt-j-6b": (
        {"model_type": "gptj", "architectures": ["GPTJForCausalLM"], "n_embd": 4096, "n_layer": 28, "n_head": 16,
         "n_positions": 2048, "rotary_dim": 64, "vocab_size": 50400, "tie_word_embeddings": False},
        6_050_882_784,
    ),
    "EleutherAI/gpt-neo-1.3B": (
        {"model_type": "gpt_neo", "architectures": ["GPTNeoForCausalLM"], "hidden_size": 2048, "num_layers": 24,
         "num_heads": 16, "max_position_embeddings": 2048, "vocab_size": 50257, "window_size": 256,
         "attention_types": [[["global", "local"], 12]]},
        1_315_575_808,
    ),
    "tiiuae/falcon-7b": (
        like("falcon", "FalconForCausalLM", hidden_size=4544, num_hidden_layers=32, num_attention_heads=71,
             vocab_size=65024, multi_query=True, parallel_attn=True, bias=False, alibi=False,
             new_decoder_architecture=False),
        6_921_720_704,
    ),
    "tiiuae/falcon-40b": (
        like("falcon", "FalconForCausalLM", hidden_size=8192, num_hidden_layers=60, num_attention_heads=128,
             num_kv_heads=8, vocab_size=65024, bias=False, alibi=False, new_decoder_architecture=True,
             multi_query=True, parallel_attn=True),
        41_303_293_952,
    ),
    "tiiuae/falcon-rw-1b": (
        like("falcon", "FalconForCausalLM", hidden_size=2048, num_hidden_layers=24, num_attention_heads=32,
             vocab_size=50304, bias=True, alibi=True, multi_query=False, parallel_attn=False,
             new_decoder_architecture=False),
        1_311_625_216,
    ),
    "deepseek-ai/DeepSeek-V2": (DEEPSEEK_V2, 235_741_434_880),
    "deepseek-ai/DeepSeek-V2-Lite": (
        DEEPSEEK_V2 | {"hidden_size": 2048, "intermediate_size": 10944, "moe_intermediate_size": 1408,
                       "num_hidden_layers": 27, "num_attention_heads": 16, "num_key_value_heads": 16,
                       "n_routed_experts": 64, "q_lora_rank": None, "n_group": 1, "topk_group": 1},
        15_706_484_224,
    ),
    "deepseek-ai/DeepSeek-V3": (DEEPSEEK_V3, 671_026_404_352),
    "openai/gpt-oss-20b": (GPT_OSS_20B, 20_914_757_184),
    "openai/gpt-oss-120b": (
        GPT_OSS_20B | {"num_hidden_layers": 36, "num_local_experts": 128,
                       "layer_types": ["sliding_attention", "full_attention"] * 18},
        116_829_156_672,
    ),
    "facebook/opt-125m": (opt(768, 3072, 12, 12), 125_239_296),
    "facebook/opt-350m": (
        opt(1024, 4096, 24, 16, word_embed_proj_dim=512, do_layer_norm_before=False), 331_196_416,
    ),
    "facebook/opt-1.3b": (opt(2048, 8192, 24, 32), 1_315_758_080),
    "facebook/opt-6.7b": (opt(4096, 16384, 32, 32), 6_658_473_984),
    "bigscience/bloom-560m": (
        like("bloom", "BloomForCausalLM", n_embed=1024, n_layer=24, num_attention_heads=16, vocab_size=250880),
        559_214_592,
    ),
    "bigscience/bloom": (
        like("bloom", "BloomForCausalLM", n_embed=14336, n_layer=70, num_attention_heads=112, vocab_size=250880),
        176_247_271_424,
    ),
    "bigcode/starcoder": (
        like("gpt_bigcode", "GPTBigCodeForCausalLM", n_embd=6144, n_inner=24576, n_layer=40, n_head=48,
             n_positions=8192, vocab_size=49152, multi_query=True),
        15_517_456_384,
    ),
    "bigcode/starcoder2-3b": (
        like("starcoder2", "Starcoder2ForCausalLM", hidden_size=3072, intermediate_size=12288, num_hidden_layers=30,
             num_attention_heads=24, num_key_value_heads=2, vocab_size=49152, sliding_window=4096,
             max_position_embeddings=16384, use_bias=True),
        3_030_371_328,
    ),
    "stabilityai/stablelm-2-1_6b": (
        like("stablelm", "StableLmForCausalLM", hidden_size=2048, intermediate_size=5632, num_hidden_layers=24,
             num_attention_heads=32, num_key_value_heads=32, vocab_size=100352, use_qkv_bias=True,
             max_position_embeddings=4096, partial_rotary_factor=0.25),
        1_644_515_328,
    ),
    "stabilityai/stablelm-3b-4e1t": (
        like("stablelm", "StableLmForCausalLM", hidden_size=2560, intermediate_size=6912, num_hidden_layers=32,
             num_attention_heads=32, num_key_value_heads=32, vocab_size=50304, use_qkv_bias=False,
             max_position_embeddings=4096, partial_rotary_factor=0.25),
        2_795_443_200,
    ),
    "allenai/OLMo-1B-hf": (
        like("olmo", "OlmoForCausalLM", hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
             num_attention_heads=16, num_key_value_heads=16, vocab_size=50304, tie_word_embeddings=True,
             max_position_embeddings=2048),
        1_176_764_416,
    ),
    "allenai/OLMo-2-1124-7B": (
        like("olmo2", "Olmo2ForCausalLM", hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
             num_attention_heads=32, num_key_value_heads=32, vocab_size=100352, tie_word_embeddings=False,
             max_position_embeddings=4096),
        7_298_617_344,
    ),
    "CohereForAI/c4ai-command-r-v01": (
        like("cohere", "CohereForCausalLM", hidden_size=8192, intermediate_size=22528, num_hidden_layers=40,
             num_attention_heads=64, num_key_value_heads=64, vocab_size=256000, use_qk_norm=False,
             max_position_embeddings=8192),
        34_980_831_232,
    ),
    "google-bert/bert-base-uncased (model)": (bert("BertModel", 768, 3072, 12, 12, 30522), 109_482_240),
    "google-bert/bert-base-uncased": (bert("BertForMaskedLM", 768, 3072, 12, 12, 30522), 109_514_298),
    "google-bert/bert-base-uncased (pretraining)": (bert("BertForPreTraining", 768, 3072, 12, 12, 30522), 110_106_428),
    "google-bert/bert-large-uncased (model)": (bert("BertModel", 1024, 4096, 24, 16, 30522), 335_141_888),
    "FacebookAI/roberta-base (model)": (
        bert("RobertaModel", 768, 3072, 12, 12, 50265, model_type="roberta", max_position_embeddings=514,
             type_vocab_size=1, pad_token_id=1),
        124_645_632,
    ),
    "FacebookAI/xlm-roberta-base (model)": (
        bert("XLMRobertaModel", 768, 3072, 12, 12, 250002, model_type="xlm-roberta", max_position_embeddings=514,
             type_vocab_size=1, pad_token_id=1),
        278_043_648,
    ),
    "distilbert/distilbert-base-uncased (model)": (
        {"model_type": "distilbert", "architectures": ["DistilBertModel"], "dim": 768, "hidden_dim": 3072,
         "n_layers": 6, "n_heads": 12, "vocab_size": 30522, "max_position_embeddings": 512},
        66_362_880,
    ),
    "albert/albert-base-v2 (model)": (
        {"model_type": "albert", "architectures": ["AlbertModel"], "hidden_size": 768, "embedding_size": 128,
         "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "num_hidden_groups": 1,
         "inner_group_num": 1, "vocab_size": 30000, "max_position_embeddings": 512, "type_vocab_size": 2},
        11_683_584,
    ),
    "google-t5/t5-small": (t5("t5", 512, 2048, 6, 8, 32128, "relu", True), 60_506_624),
    "google-t5/t5-base": (t5("t5", 768, 3072, 12, 12, 32128, "relu", True), 222_903_552),
    "google-t5/t5-large": (t5("t5", 1024, 4096, 24, 16, 32128, "relu", True), 737_668_096),
    "google-t5/t5-3b": (t5("t5", 1024, 16384, 24, 32, 32128, "relu", True, 128), 2_851_598_336),
    "google/flan-t5-small": (t5("t5", 512, 1024, 8, 6, 32128, "gated-gelu", False), 76_961_152),
    "google/flan-t5-base": (t5("t5", 768, 2048, 12, 12, 32128, "gated-gelu", False), 247_577_856),
    "google/mt5-small": (t5("mt5", 512, 1024, 8, 6, 250112, "gated-gelu", False), 300_176_768),
    "google/vit-base-patch16-224": (vit(768, 3072, 12, 12), 86_567_656),
    "google/vit-large-patch16-224": (vit(1024, 4096, 24, 16), 304_326_632),
    "facebook/deit-tiny-patch16-224": (vit(192, 768, 12, 3), 5_717_416),
    "facebook/deit-base-distilled-patch16-224": (
        vit(768, 3072, 12, 12, model_type="deit", architectures=["DeiTForImageClassificationWithTeacher"]), 87_338_192,
    ),
    "mistralai/Ministral-8B-Instruct-2410": (
        like("mistral", "MistralForCausalLM", hidden_size=4096, intermediate_size=12288, num_hidden_layers=36,
             num_attention_heads=32, num_key_value_heads=8, head_dim=128, vocab_size=131072, sliding_window=32768,
             max_position_embeddings=32768, tie_word_embeddings=False),
        8_019_808_256,
    ),
    "mistralai/Mistral-Small-24B-Base-2501": (
        like("mistral", "MistralForCausalLM", hidden_size=5120, intermediate_size=32768, num_hidden_layers=40,
             num_attention_heads=32, num_key_value_heads=8, head_dim=128, vocab_size=131072, sliding_window=None,
             max_position_embeddings=32768, tie_word_embeddings=False),
        23_572_403_200,
    ),
    "codellama/CodeLlama-34b-hf": (llama(8192, 22016, 48, 64, 8, 32000, 16384), 33_743_970_304),
    "deepseek-ai/deepseek-llm-7b-base": (llama(4096, 11008, 30, 32, 32, 102400, 4096), 6_910_365_696),
    "Qwen/Qwen3-235B-A22B": (
        like("qwen3_moe", "Qwen3MoeForCausalLM", hidden_size=4096, intermediate_size=12288, num_hidden_layers=94,
             num_attention_heads=64, num_key_value_heads=4, head_dim=128, vocab_size=151936,
             moe_intermediate_size=1536, num_experts=128, num_experts_per_tok=8, max_position_embeddings=40960),
        235_093_634_560,
    ),
    "google/gemma-3-270m": (
        GEMMA3_1B | {"hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18}, 268_098_176,
    ),
    "google/embeddinggemma-300m": (
        GEMMA3_1B | {"architectures": ["Gemma3TextModel"], "hidden_size": 768, "intermediate_size": 1152,
                     "num_hidden_layers": 24, "num_attention_heads": 3, "use_bidirectional_attention": True},
        302_863_104,
    ),
    "microsoft/Phi-3-medium-4k-instruct": (
        like("phi3", "Phi3ForCausalLM", hidden_size=5120, intermediate_size=17920, num_hidden_layers=40,
             num_attention_heads=40, num_key_value_heads=10, vocab_size=32064, sliding_window=2047,
             max_position_embeddings=4096),
        13_960_238_080,
    ),
    "microsoft/Phi-4-mini-instruct": (
        like("phi3", "Phi3ForCausalLM", hidden_size=3072, intermediate_size=8192, num_hidden_layers=32,
             num_attention_heads=24, num_key_value_heads=8, vocab_size=200064, partial_rotary_factor=0.75,
             tie_word_embeddings=True, sliding_window=262144, max_position_embeddings=131072),
        3_836_021_760,
    ),
    "CohereForAI/c4ai-command-r-plus": (
        like("cohere", "CohereForCausalLM", hidden_size=12288, intermediate_size=33792, num_hidden_layers=64,
             num_attention_heads=96, num_key_value_heads=8, vocab_size=256000, use_qk_norm=True,
             max_position_embeddings=8192),
        103_810_674_688,
    ),
    "bigscience/bloom-7b1": (
        like("bloom", "BloomForCausalLM", n_embed=4096, n_layer=30, num_attention_heads=32, vocab_size=250880),
        7_069_016_064,
    ),
    "bigcode/starcoder2-15b": (
        like("starcoder2", "Starcoder2ForCausalLM", hidden_size=6144, intermediate_size=24576, num_hidden_layers=40,
             num_attention_heads=48, num_key_value_heads=4, vocab_size=49152, tie_word_embeddings=False,
             sliding_window=4096, max_position_embeddings=16384),
        15_957_889_024,
    ),
    "google-t5/t5-11b": (
        t5("t5", 1024, 65536, 24, 128, 32128, "relu", True, 128) | {"architectures": ["T5WithLMHeadModel"]},
        11_307_321_344,
    ),
    "google/byt5-small": (
        t5("t5", 1472, 3584, 12, 6, 384, "gated-gelu", False) | {"num_decoder_layers": 4}, 299_637_760,
    ),
}  # fmt: skip
