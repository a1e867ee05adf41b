"""Configurations of the hub: activations of a prefill, options, assumptions, and what is refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

import peakmem
from peakmem.errors import FormatError, ShapeError, UsageError
from peakmem.frontends.hf.families import FAMILIES
from peakmem.frontends.hf.reader import read_hf_config
from peakmem.report.model import Estimate
from tests.unit.frontends.hf_published import LLAMA_3_8B, PUBLISHED

Fields = dict[str, Any]
MIB = 1 << 20
SMALL: Fields = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 512, "intermediate_size": 1408,
    "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 4000,
    "max_position_embeddings": 2048,
}  # fmt: skip


def written(folder: Path, fields: Fields) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(fields))
    return path


def estimated(path: Path, *, tokens: int = 0, batch: int = 1, assume: str = "eager", **options: str) -> Estimate:
    dims = {"sequence": tokens} if tokens else None
    return peakmem.estimate(path, batch=batch, dims=dims, assume=assume, options=options)


def said(report: Estimate) -> str:
    return "\n".join(report.assumptions)


# -- activations -------------------------------------------------------------------------


def test_fused_prefill_peaks_in_the_gated_layer(tmp_path: Path) -> None:
    report = estimated(written(tmp_path, LLAMA_3_8B), tokens=4096)
    # residual, activated gate, up and their product; cosines and sines of 128 elements per token
    assert report.peak.activation_bytes == 2 * 4096 * (4096 + 3 * 14_336) + 2 * 2 * 4096 * 128


def test_eager_prefill_holds_the_scores(tmp_path: Path) -> None:
    report = estimated(written(tmp_path, LLAMA_3_8B), tokens=4096, attention="eager")
    scores, hidden = 32 * 4096**2, 2 * 4096 * 4096
    # Casting back: scores in bfloat16 before and after the softmax, in float32 between; the mask; six
    # tensors of the hidden size: embeddings, layer input, its norm, queries, repeated keys and values.
    expected = (2 + 4 + 2) * scores + 2 * 4096**2 + 2 * 2 * 4096 * 128 + 6 * hidden
    assert report.peak.activation_bytes == expected


# (fields, tokens, attention) -> bytes of torch 2.13 and transformers 5.23 on a CPU: the most that the
# profiler's allocation events add up to in one call of the module, its cache included
MEASURED: list[tuple[str, Fields, int, str, int]] = [
    ("llama", {}, 64, "eager", 4_063_744),
    ("llama", {}, 64, "sdpa", 3_768_832),
    ("llama", {}, 512, "eager", 52_695_052),
    ("llama", {}, 512, "sdpa", 30_150_656),
    ("llama", {"torch_dtype": "bfloat16"}, 512, "sdpa", 15_077_376),
    ("qwen3", {"num_key_value_heads": 4, "head_dim": 64}, 512, "eager", 56_889_356),
    ("qwen3", {"num_key_value_heads": 4, "head_dim": 64}, 512, "sdpa", 34_344_960),
    ("phi", {"num_key_value_heads": 8, "intermediate_size": 2048}, 512, "sdpa", 58_855_436),
    ("gpt2", {}, 512, "eager", 80_744_460),
    ("gpt2", {}, 512, "sdpa", 61_870_092),
    ("gpt_neox", {"intermediate_size": 2048}, 512, "eager", 67_178_508),
    ("gpt_neox", {"intermediate_size": 2048}, 512, "sdpa", 42_012_672),
    ("opt", {"ffn_dim": 2048}, 512, "eager", 62_926_860),
    ("opt", {"ffn_dim": 2048}, 512, "sdpa", 41_955_328),
    ("phi3", {"num_key_value_heads": 8}, 512, "eager", 67_375_116),
    ("phi3", {"num_key_value_heads": 8}, 512, "sdpa", 48_500_736),
    ("olmo2", {"num_key_value_heads": 4}, 512, "eager", 54_792_204),
    ("olmo2", {"num_key_value_heads": 4}, 512, "sdpa", 32_247_808),
    ("bert", {}, 512, "eager", 44_040_204),
    ("bert", {}, 512, "sdpa", 23_068_672),
]
OTHERS: dict[str, Fields] = {
    "gpt2": {"architectures": ["GPT2LMHeadModel"], "n_embd": 512, "n_layer": 4, "n_head": 8, "vocab_size": 4000},
    "bert": {"architectures": ["BertForMaskedLM"], "hidden_size": 512, "intermediate_size": 2048,
             "num_hidden_layers": 4, "num_attention_heads": 8, "vocab_size": 4000},
}  # fmt: skip


@pytest.mark.parametrize(("family", "more", "tokens", "attention", "measured"), MEASURED)
def test_prefill_as_torch_allocates_it(
    family: str, more: Fields, tokens: int, attention: str, measured: int, tmp_path: Path
) -> None:
    fields = OTHERS.get(family) or SMALL | {"architectures": [FAMILIES[family].usual], "tie_word_embeddings": False}
    path = written(tmp_path, fields | {"model_type": family} | more)
    report = estimated(path, tokens=tokens, batch=2, attention=attention, logits="all")
    ids = 2 * tokens * 8  # the caller's, made before the measurement began
    assert report.peak.activation_bytes + report.peak.state_bytes - ids == pytest.approx(measured, rel=0.001)


def test_logits_of_the_last_token_or_of_all(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL | {"vocab_size": 100_000})
    last, every = (estimated(path, tokens=256, logits=which) for which in ("last", "all"))
    assert last.outputs[0].nbytes == 100_000 * 4
    assert every.outputs[0].nbytes == 256 * 100_000 * 4
    assert "logits of the last token only" in said(last)
    # all logits, and the hidden states they are made from
    assert every.peak.activation_bytes == 256 * 4 * (100_000 + 512)


def test_a_mixture_holds_the_rows_of_all_chosen_experts(tmp_path: Path) -> None:
    fields = SMALL | {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 8}
    report = estimated(written(tmp_path, fields), tokens=64)
    # gate and up of both experts (2 × 2816), act(gate) and the product (2 × 1408 each), the residual, the
    # tables of 64 elements, the routing: weights (float32) and numbers (int64) of two experts
    floats = 64 * (2 * 2816 + 2 * 2 * 1408 + 512) + 2 * 64 * 64
    assert report.peak.activation_bytes == 4 * floats + 64 * 2 * (4 + 8)
    assert "grouped products" in said(report)


# -- what is chosen for the user ---------------------------------------------------------


def test_defaults_are_told(tmp_path: Path) -> None:
    report = peakmem.estimate(written(tmp_path, {"model_type": "llama"}))
    text = said(report)
    assert "names no architecture: LlamaForCausalLM was assumed" in text
    assert "float32, the library's default, was assumed" in text
    assert "hidden_size = 4096" in text
    assert "a prefill of all tokens at once (--dim sequence=N); the network was made for up to 2,048" in text
    assert "sequence = 2048, the source's default" in text
    assert report.parameters.trainable == 6_738_415_616  # the defaults are those of the first 7B


def test_the_sequence_is_no_longer_than_the_context(tmp_path: Path) -> None:
    graph = read_hf_config(written(tmp_path, LLAMA_3_8B), context="300")
    assert graph.defaults == {"batch": 1, "sequence": 300}
    assert read_hf_config(written(tmp_path, LLAMA_3_8B)).defaults["sequence"] == 4096


def test_a_sequence_longer_than_the_context_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="301 tokens are more than the 300 tokens the key-value cache has room for"):
        estimated(written(tmp_path, SMALL), tokens=301, context="300")


def test_a_sequence_longer_than_the_position_table_is_refused(tmp_path: Path) -> None:
    fields, _ = PUBLISHED["google-bert/bert-base-uncased"]
    with pytest.raises(ShapeError, match="513 tokens are more than the 512 rows"):
        estimated(written(tmp_path, fields), tokens=513)


def test_encoders_keep_nothing(tmp_path: Path) -> None:
    fields, _ = PUBLISHED["google-bert/bert-base-uncased"]
    assert estimated(written(tmp_path, fields)).peak.state_bytes == 0
    vit, _ = PUBLISHED["google/vit-base-patch16-224"]
    report = estimated(written(tmp_path, vit))
    assert report.peak.state_bytes == 0
    assert report.inputs[0].shape == (1, 3, 224, 224)
    assert report.outputs[0].shape == (1, 1000)


def test_an_encoder_decoder_keeps_two_caches(tmp_path: Path) -> None:
    fields, _ = PUBLISHED["google-t5/t5-small"]
    report = peakmem.estimate(written(tmp_path, fields), dims={"sequence": 100, "decoder_sequence": 7})
    assert report.peak.state_bytes == 6 * 2 * 8 * 64 * 4 * (100 + 7)


def test_the_cache_in_figures(tmp_path: Path) -> None:
    details = {detail.name: detail for detail in estimated(written(tmp_path, LLAMA_3_8B), context="8192").details}
    assert details["key-value cache per token"].nbytes == 2 * 32 * 8 * 128 * 2
    assert details["key-value cache per sequence"].nbytes == 1 << 30
    assert details["key-value cache"].text.startswith("64 tensors × 8192 tokens × 8 heads × 128 × 2 B")


def test_latent_attention_tells_what_the_library_keeps(tmp_path: Path) -> None:
    fields, _ = PUBLISHED["deepseek-ai/DeepSeek-V2-Lite"]
    details = {detail.name: detail for detail in estimated(written(tmp_path, fields)).details}
    assert details["key-value cache per token"].nbytes == 27 * 576 * 2
    assert details["expanded cache per token"].nbytes == 27 * 16 * (192 + 128) * 2


def test_layer_types_name_the_windows(tmp_path: Path) -> None:
    fields = SMALL | {
        "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "head_dim": 64, "use_sliding_window": True,
        "sliding_window": 32, "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
    }  # fmt: skip
    report = estimated(written(tmp_path, fields), context="1000")
    assert report.peak.state_bytes == (3 * 32 + 1000) * 2 * 2 * 64 * 4


# -- refusals ----------------------------------------------------------------------------

REFUSED: list[tuple[Fields, str]] = [
    ({"model_type": "mamba"}, "the family 'mamba' is not known.*llama.*package.module:factory"),
    ({"model_type": None}, "has no 'model_type'"),
    ({"model_type": ["llama"]}, "'model_type' is .*expected a text"),
    ({"architectures": ["LlamaForQuestionAnswering"]}, "the architecture 'LlamaForQuestionAnswering' is not known"),
    ({"architectures": "LlamaForCausalLM"}, "'architectures' is .*a list of texts"),
    ({"text_config": {}, "vision_config": {}}, "several networks"),
    ({"hidden_size": "512"}, "'hidden_size' is '512' .*a whole number"),
    ({"hidden_size": 512.0}, "'hidden_size' is 512.0"),
    ({"hidden_size": -8}, "'hidden_size' is -8 .*1 to"),
    ({"hidden_size": 10**50}, "more than 30 digits"),
    ({"num_hidden_layers": 10**18}, "'num_hidden_layers' is 1000000000000000000"),
    ({"num_attention_heads": 0}, "'num_attention_heads' is 0"),
    ({"num_attention_heads": 7, "num_key_value_heads": 7}, "512 hidden units do not split into 7 attention heads"),
    ({"num_key_value_heads": 3}, "8 attention heads do not share 3"),
    ({"vocab_size": True}, "'vocab_size' is True"),
    ({"tie_word_embeddings": "yes"}, "'tie_word_embeddings' is 'yes' .*true or false"),
    ({"hidden_act": "swishy"}, "'hidden_act' is 'swishy'"),
    ({"torch_dtype": "int7"}, "'torch_dtype' is 'int7'"),
    ({"partial_rotary_factor": 7.5}, "a rotary share of 7.5"),
    ({"partial_rotary_factor": float("nan")}, "'partial_rotary_factor' is nan"),
    ({"quantization_config": {"quant_method": "aqlm"}}, "quantised with 'aqlm' are not known.*gptq"),
    ({"quantization_config": {"quant_method": "gptq", "bits": 5}}, "5 bits in groups of 128"),
    ({"quantization_config": {"quant_method": "bitsandbytes"}}, "to 4 or to 8 bits"),
    ({"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {}}}, "one group of layers"),
    ({"quantization_config": 4}, "'quantization_config' is 4"),
    ({"model_type": "mixtral", "architectures": None, "num_local_experts": 10**6}, "'num_local_experts' is 1000000"),
    ({"model_type": "mixtral", "architectures": None, "num_experts_per_tok": 9}, "9 experts per token"),
    ({"model_type": "qwen3", "architectures": None, "use_sliding_window": True, "layer_types": ["linear_attention"]},
     "a layer of type 'linear_attention'"),
    ({"model_type": "bert", "architectures": None, "is_decoder": True}, "'is_decoder' is True"),
    ({"model_type": "vit", "architectures": None, "image_size": [1, 2, 3]}, "'image_size' has 3 entries"),
    ({"model_type": "vit", "architectures": None, "image_size": 8}, "patches of 16x16 in an image of 8x8"),
    ({"model_type": "t5", "architectures": None, "feed_forward_proj": "gated-x"}, "'feed_forward_proj' is 'gated-x'"),
    ({"model_type": "deepseek_v3", "architectures": None, "moe_layer_freq": 2}, "'moe_layer_freq' is 2"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_refused(change: Fields, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, SMALL | change)
    with pytest.raises(FormatError, match=f"(?s){message}"):
        read_hf_config(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "flash3"}, "expected fused, sdpa or eager"),
        ({"logits": "some"}, "expected last or all"),
        ({"context": "many"}, "expected a number of tokens"),
        ({"context": "0"}, "expected a number of tokens"),
        ({"kv_dtype": "float9"}, "no dtype is called 'float9'"),
        ({"kv_dtype": "q4_0"}, "a cache of q4_0"),
    ],
)
def test_options_that_say_nothing_known(options: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        read_hf_config(written(tmp_path, SMALL), **options)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": ' * 5000 + "1" + "}" * 5000, "\x00\xff", '"text"'])
def test_files_that_are_no_configuration(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(FormatError):
        read_hf_config(path)


# -- quantised layers --------------------------------------------------------------------

GROUP = {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "int", "strategy": "channel"}}


@pytest.mark.parametrize(
    ("quantisation", "layers"),
    [
        ({"quant_method": "fp8"}, 28),
        ({"quant_method": "fp8", "modules_to_not_convert": ["model.layers.0"]}, 21),
        ({"quant_method": "fp8", "modules_to_not_convert": ["o_proj", "model.layers.3.mlp"]}, 28 - 4 - 3),
        ({"quant_method": "fp8", "modules_to_not_convert": ["model.layers.*.self_attn"]}, 12),
        ({"quant_method": "gptq", "bits": 4}, 28),
        ({"quant_method": "gptq", "bits": 4, "lm_head": True}, 29),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": GROUP}}, 29),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": GROUP}, "ignore": ["lm_head"]}, 28),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": GROUP}, "ignore": ["lm_head", "re:.*gate"]}, 24),
    ],
)
def test_layers_that_stay_as_they_are(quantisation: Fields, layers: int, tmp_path: Path) -> None:
    report = peakmem.estimate(written(tmp_path, SMALL | {"quantization_config": quantisation}))
    detail = next(detail for detail in report.details if detail.name == "quantisation")
    assert detail.text.endswith(f": {layers} layers")
    assert report.parameters.trainable == peakmem.estimate(written(tmp_path, SMALL)).parameters.trainable


def test_patterns_that_could_take_for_ever_are_refused(tmp_path: Path) -> None:
    skipped = {"quant_method": "fp8", "modules_to_not_convert": ["(a+)+$"]}
    with pytest.raises(FormatError, match="is not understood"):
        read_hf_config(written(tmp_path, SMALL | {"quantization_config": skipped}))


# -- weights beside the configuration ----------------------------------------------------


def shard(path: Path, tensors: dict[str, tuple[str, list[int]]]) -> None:
    """A safetensors file whose data are a hole."""
    header: dict[str, Any] = {}
    at = 0
    for name, (dtype, shape) in tensors.items():
        size = {"F32": 4, "BF16": 2, "U8": 1, "I32": 4}[dtype]
        for side in shape:
            size *= side
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)


def tensors_of(path: Path, dtype: str = "BF16") -> dict[str, tuple[str, list[int]]]:
    graph = read_hf_config(path)
    stored = (tensor for tensor in graph.tensors.values() if tensor.role == "constant" and not tensor.storage)
    return {tensor.name: (dtype, [int(str(dim)) for dim in tensor.shape or ()]) for tensor in stored}


def test_weights_of_a_folder_are_checked_and_give_the_dtype(tmp_path: Path) -> None:
    tensors = tensors_of(written(tmp_path, SMALL | {"torch_dtype": "float32"}))
    shard(tmp_path / "model.safetensors", tensors)
    report = peakmem.estimate(tmp_path)
    assert f"{len(tensors)} tensors of the safetensors headers have the names and shapes" in said(report)
    assert report.peak.weights_bytes == 2 * report.parameters.trainable
    assert report.model.format == "hf_config"


def test_differences_of_a_folder_are_told(tmp_path: Path) -> None:
    tensors = tensors_of(written(tmp_path, SMALL))
    del tensors["model.norm.weight"]
    tensors["lm_head.weight"] = ("BF16", [4001, 512])
    tensors["model.rotary.inv_freq"] = ("F32", [32])
    shard(tmp_path / "model.safetensors", tensors)
    text = said(peakmem.estimate(tmp_path))
    assert "1 tensors of the configuration are not in the files: model.norm.weight" in text
    assert "1 tensors have another shape in the files; the configuration's was counted: lm_head.weight" in text
    assert "1 tensors of the files are not part of the network and were not counted: model.rotary.inv_freq" in text


def test_files_of_the_bare_model_and_with_old_names(tmp_path: Path) -> None:
    bare = tensors_of(written(tmp_path, OTHERS["gpt2"] | {"model_type": "gpt2"}))
    shard(tmp_path / "model.safetensors", {name.removeprefix("transformer."): of for name, of in bare.items()})
    assert f"{len(bare)} tensors of the safetensors headers" in said(peakmem.estimate(tmp_path))
    old = tensors_of(written(tmp_path, OTHERS["bert"] | {"model_type": "bert"}))
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): of
        for name, of in old.items()
    }
    shard(tmp_path / "model.safetensors", renamed)
    assert f"{len(old)} tensors of the safetensors headers" in said(peakmem.estimate(tmp_path))


def test_packed_weights_are_compared_by_their_bytes(tmp_path: Path) -> None:
    quantised = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False}
    path = written(tmp_path, SMALL | {"torch_dtype": "bfloat16", "quantization_config": quantised})
    before = peakmem.estimate(path)
    graph = read_hf_config(path)
    stored: dict[str, tuple[str, list[int]]] = {}
    for tensor in graph.tensors.values():
        if tensor.role != "constant":
            continue
        shape = [int(str(dim)) for dim in tensor.shape or ()]
        if tensor.name.endswith("qweight"):
            stored[tensor.name] = ("I32", [shape[1] // 8, shape[0]])
        elif tensor.name.endswith(("qzeros", "g_idx")):
            stored[tensor.name] = ("I32", shape)
        else:
            stored[tensor.name] = ("BF16", shape)
    shard(tmp_path / "model.safetensors", stored)
    after = peakmem.estimate(tmp_path)
    assert "another shape" not in said(after)
    assert after.peak.weights_bytes == before.peak.weights_bytes
    assert after.parameters.trainable == before.parameters.trainable


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    written(tmp_path, SMALL)
    shard(tmp_path / "model.safetensors", {"conv.weight": ("F32", [3, 3])})
    with pytest.raises(FormatError, match="of another network"):
        peakmem.estimate(tmp_path)


def test_options_of_a_cache_that_is_not_there_are_told(tmp_path: Path) -> None:
    path = written(tmp_path, {"model_type": "bert", "architectures": ["BertModel"]})
    report = estimated(path, context="512", kv_dtype="fp8")
    assert report.peak.state_bytes == 0
    assert "context changes nothing" in said(report)
    assert "kv_dtype changes nothing" in said(report)
    assert "changes nothing" not in said(estimated(path))
    with pytest.raises(UsageError, match="dtype"):
        estimated(path, kv_dtype="nonsense")


@pytest.mark.parametrize(
    "change", [{"architectures": ["LLaMAForCausalLM"]}, {"text_config": None}, {"vision_config": None}]
)
def test_older_names_and_empty_parts_change_nothing(change: Fields, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "other").mkdir()
    plain = estimated(written(tmp_path / "plain", LLAMA_3_8B), tokens=8)
    other = estimated(written(tmp_path / "other", {**LLAMA_3_8B, **change}), tokens=8)
    assert other.parameters.trainable == plain.parameters.trainable == 8_030_261_248
