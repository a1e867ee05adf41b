"""Our decoders against transformers' own, built from one configuration: every allocation and release, one by one.

The networks are small and the tensors real, so that transformers goes the way of a real step.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.unit.training.networks_events import events, first_difference, peer  # noqa: E402

from peakmem.training.networks import workload  # noqa: E402
from peakmem.training.networks.decoder import decoder  # noqa: E402
from peakmem.training.networks.gpt2 import Shape, gpt2  # noqa: E402
from peakmem.training.networks.llama import LlamaLike  # noqa: E402
from peakmem.training.scenario import Scenario  # noqa: E402

BATCH, SEQUENCE = 3, 16
SMALL = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 101, "max_position_embeddings": 64,
}  # fmt: skip
LLAMA_3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "llama, biases, tied, no shared keys": (
        "LlamaConfig",
        {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 4, "tie_word_embeddings": True},
    ),
    "llama 3": ("LlamaConfig", {"head_dim": 32, "rope_parameters": LLAMA_3}),
    "mistral": ("MistralConfig", {}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {"head_dim": 32}),
    "phi3": ("Phi3Config", {"pad_token_id": 0, "resid_pdrop": 0.1}),
    "gemma": ("GemmaConfig", {"head_dim": 32}),
    "smollm3": ("SmolLM3Config", {"num_hidden_layers": 5, "pad_token_id": 0}),
}


def step_of(
    build: Callable[[], Any], call: Callable[..., Any], seen: dict[str, Any]
) -> Callable[[], Callable[[], Any]]:
    def make() -> Callable[[], Any]:
        model = build()
        model.train()
        tokens, labels = (torch.randint(0, 100, (BATCH, SEQUENCE)) for _ in range(2))
        seen["sizes"] = {name: tuple(item.shape) for name, item in model.named_parameters()}
        padding = torch.ones(BATCH, SEQUENCE, dtype=torch.int64)
        padding[0, 10:] = 0
        return lambda: call(model, tokens, labels, padding)

    return make


def in_dtype(build: Callable[[], Any], dtype: Any) -> Callable[[], Any]:
    def make() -> Any:
        torch.set_default_dtype(dtype)
        try:
            return build()
        finally:
            torch.set_default_dtype(torch.float32)

    return make


def equal(ours: Callable[[], Any], config: Any, dtype: Any, cached: bool, padded: bool = False) -> None:
    transformers = peer("transformers")
    own, other = {}, {}

    def theirs() -> Any:
        return transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)

    def theirs_called(model: Any, x: Any, y: Any, padding: Any) -> Any:
        return model(input_ids=x, labels=y, use_cache=cached, attention_mask=padding if padded else None).loss

    found = events(step_of(in_dtype(ours, dtype), lambda model, x, y, p: model(x, y, p if padded else None).loss, own))
    wanted = events(step_of(theirs, theirs_called, other))
    assert own == other
    for at, (one, two) in enumerate(zip(found[1:], wanted[1:], strict=True)):
        assert not first_difference(one, two), f"step {at}"


CASES = [
    pytest.param(family, dtype, cached, marks=[] if (family, dtype, cached) in (
        ("llama 3", "bfloat16", True), ("qwen3", "bfloat16", False), ("phi3", "float32", True)) else pytest.mark.slow)
    for family in FAMILIES for dtype in ("float32", "bfloat16") for cached in (True, False)
]  # fmt: skip


@pytest.mark.parametrize(("family", "dtype", "cached"), CASES)
def test_a_decoder_allocates_what_transformers_does(family: str, dtype: str, cached: bool) -> None:
    transformers = peer("transformers")
    title, changes = FAMILIES[family]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = getattr(transformers, title)(**(SMALL | changes))
    shape = decoder(config.to_dict())
    assert shape is not None
    equal(lambda: LlamaLike(shape, cached=cached), config, getattr(torch, dtype), cached)


@pytest.mark.parametrize(
    ("dtype", "cached"), [("bfloat16", True), pytest.param("float32", False, marks=pytest.mark.slow)]
)
def test_gpt2_allocates_what_transformers_does(dtype: str, cached: bool) -> None:
    transformers = peer("transformers")
    config = transformers.GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=101, n_positions=64)
    equal(lambda: gpt2(Shape(101, 64, 64, 2, 4), cached=cached), config, getattr(torch, dtype), cached)


@pytest.mark.parametrize("family", ["llama", pytest.param("qwen3", marks=pytest.mark.slow)])
def test_padded_rows_bring_the_mask_and_the_copies_that_they_do_in_transformers(family: str) -> None:
    transformers = peer("transformers")
    config = getattr(transformers, FAMILIES[family][0])(**SMALL)
    shape = decoder(config.to_dict())
    assert shape is not None
    equal(lambda: LlamaLike(shape, cached=True), config, torch.bfloat16, True, padded=True)


@pytest.mark.slow
def test_padded_rows_of_gpt2() -> None:
    config = peer("transformers").GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=101, n_positions=64)
    equal(lambda: gpt2(Shape(101, 64, 64, 2, 4), cached=True), config, torch.bfloat16, True, padded=True)


BERT = {"model_type": "bert", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 96, "vocab_size": 101, "max_position_embeddings": 64}  # fmt: skip
T5 = {"model_type": "t5", "d_model": 64, "d_ff": 96, "num_layers": 2, "num_heads": 4, "d_kv": 16, "vocab_size": 101,
      "decoder_start_token_id": 0}  # fmt: skip
VIT = {"model_type": "vit", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
       "intermediate_size": 96, "image_size": 32}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "architecture"),
    [(BERT, "BertForMaskedLM"), (BERT, "BertForSequenceClassification"), (BERT, "BertForTokenClassification"),
     (BERT, "BertForQuestionAnswering"), (T5, "T5ForConditionalGeneration"), (VIT, "ViTForImageClassification"),
     ({"model_type": "gpt_neox", **{key: BERT[key] for key in BERT if key != "model_type"}}, "GPTNeoXForCausalLM")],
)  # fmt: skip
def test_any_other_family_steps_on_tensors_without_memory_as_it_does_for_real(
    tmp_path: Path, config: dict[str, Any], architecture: str
) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    peer("transformers")
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": [architecture]}))
    scenario = Scenario(batch=2, sequence=None if config is VIT else 16)

    def make() -> Callable[[], Any]:
        parts = workload(str(tmp_path), scenario).build()
        loss = parts.loss
        assert loss is not None
        return loss

    real = events(make)
    with FakeTensorMode(allow_non_fake_inputs=True):
        fake = events(make)
    for at, (one, two) in enumerate(zip(fake[1:], real[1:], strict=True)):
        assert not first_difference(one, two), f"step {at}"
