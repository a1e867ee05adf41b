"""Adapters against PEFT's own: every allocation and release, one by one; patterns, refusals, layers in NF4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.unit.training.networks_events import events, first_difference, peer  # noqa: E402
from tests.unit.training.test_networks_transformers import SMALL, in_dtype, step_of  # noqa: E402

from peakmem.errors import UsageError  # noqa: E402
from peakmem.training.networks import lora  # noqa: E402
from peakmem.training.networks.built_in import widened  # noqa: E402
from peakmem.training.networks.decoder import decoder  # noqa: E402
from peakmem.training.networks.gpt2 import Shape, gpt2  # noqa: E402
from peakmem.training.networks.llama import LlamaLike  # noqa: E402
from peakmem.training.networks.nf4 import Nf4Linear, quantise  # noqa: E402
from peakmem.training.scenario import Lora  # noqa: E402

GPT2 = Shape(101, 64, 64, 2, 4)


def llama(*, cached: bool = False) -> Any:
    shape = decoder({"model_type": "llama", **SMALL})
    assert shape is not None
    return LlamaLike(shape, cached=cached)


def recomputed(model: Any) -> None:
    from peakmem.training.tracing import loop
    from peakmem.training.tracing.blocks import blocks_of
    from peakmem.training.tracing.step import Parts

    widened(model)
    loop._recompute(model, Parts(model=model, blocks=tuple(blocks_of(model))), "blocks")


CASES = [
    ("llama", "bfloat16", ("q_proj", "v_proj"), 0.1, False),
    ("gpt2", "bfloat16", ("c_attn",), 0.0, False),
    *(pytest.param(family, dtype, targets, dropout, again, marks=pytest.mark.slow)
      for family, layers, embedding in (("llama", ("q_proj", "v_proj"), "embed_tokens"), ("gpt2", ("c_attn",), "wte"))
      for dtype in ("float32", "bfloat16")
      for targets, dropout, again in ((layers, 0.0, False), ((layers[0], embedding), 0.0, False), (layers, 0.0, True))),
]  # fmt: skip


@pytest.mark.parametrize(("family", "dtype", "targets", "dropout", "again"), CASES)
def test_adapters_allocate_what_pefts_do(
    family: str, dtype: str, targets: tuple[str, ...], dropout: float, again: bool
) -> None:
    transformers, peft = peer("transformers"), peer("peft")
    wide, cached = getattr(torch, dtype), not again
    if family == "llama":
        config = transformers.LlamaConfig(**SMALL)
    else:
        config = transformers.GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=101, n_positions=64)

    def ours() -> Any:
        model = in_dtype(lambda: llama(cached=cached) if family == "llama" else gpt2(GPT2, cached=cached), wide)()
        lora.apply(model, Lora(rank=4, targets=targets, dropout=dropout))
        if again:
            recomputed(model)
        return model

    def theirs() -> Any:
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=wide)
        if again:
            model.gradient_checkpointing_enable()
        given = peft.LoraConfig(
            r=4, target_modules=list(targets), lora_dropout=dropout, task_type="CAUSAL_LM",
            fan_in_fan_out=family == "gpt2",
        )  # fmt: skip
        return peft.get_peft_model(model, given).base_model.model

    own, other = {}, {}
    found = events(step_of(ours, lambda model, x, y, _: model(x, y).loss, own))
    wanted = events(step_of(theirs, lambda model, x, y, _: model(input_ids=x, labels=y, use_cache=cached).loss, other))
    assert own == other
    for at, (one, two) in enumerate(zip(found[1:], wanted[1:], strict=True)):
        assert not first_difference(one, two), f"step {at}"


def trainable(model: Any) -> int:
    return sum(item.numel() for item in model.parameters() if item.requires_grad)


def test_every_linear_layer_but_the_last_has_an_adapter_where_none_is_named() -> None:
    """A rank r beside in x out takes r·(in + out): two layers of q, k, v, o and the gated three."""
    model = llama()
    places = lora.apply(model, Lora(rank=4))
    sizes = [(64, 64), (64, 32), (64, 32), (64, 64), (64, 96), (64, 96), (96, 64)]
    assert trainable(model) == 2 * 4 * sum(map(sum, sizes))
    assert len(places) == 14
    assert "lm_head" not in places


@pytest.mark.parametrize(
    ("target", "meant"), [("q_proj", 2), ("*.mlp.*_proj", 6), ("model.layers.0.self_attn.q_proj", 1)]
)
def test_targets_are_names_ends_of_paths_or_patterns(target: str, meant: int) -> None:
    assert len(lora.apply(llama(), Lora(targets=(target,)))) == meant


@pytest.mark.parametrize(
    ("asked", "said"),
    [(Lora(rank=0), "rank of 0"), (Lora(targets=("nothing",)), "no layer is called"),
     (Lora(targets=("norm",)), "cannot have an adapter"), (Lora(dtype="int8"), "not known")],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(asked: Lora, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        lora.apply(llama(), asked)


def test_multihead_attention_keeps_its_own_projection() -> None:
    model = torch.nn.Sequential(torch.nn.MultiheadAttention(8, 2), torch.nn.Linear(8, 8), torch.nn.Linear(8, 2))
    assert lora.apply(model, Lora(rank=2)) == ("1",)


def test_a_layer_in_nf4_takes_four_bits_a_weight_and_their_factors() -> None:
    layer = Nf4Linear(256, 512, None, torch.device("cpu"))
    held = {
        name: item.numel() * item.element_size() for name, item in (*layer.named_parameters(), *layer.named_buffers())
    }
    assert held == {
        "weight": 65_536, "absmax": 2_048, "nested_absmax": 32, "nested_quant_map": 1_024, "quant_map": 64, "offset": 4,
    }  # fmt: skip


def test_a_layer_in_nf4_makes_its_weight_in_the_forward_and_again_in_the_backward() -> None:
    layer = Nf4Linear(64, 96, None, torch.device("cpu"))

    def make() -> Callable[[], Any]:
        x = torch.zeros(8, 64, dtype=torch.bfloat16, requires_grad=True)
        return lambda: layer(x).sum()

    _, step, _ = events(make)
    whole = [nbytes for operator, nbytes in step if operator == "aten::zeros" and nbytes == 64 * 96 * 2]
    assert len(whole) == 2
    assert step.count(("", -64 * 96 * 2)) == 2  # neither outlives its product


def test_a_cast_leaves_nf4_as_it_is() -> None:
    model = llama()
    quantise(model, torch.device("cpu"), lora.last_layer(model))
    model.to(torch.bfloat16)
    layer = model.model.layers[0].mlp.up_proj
    assert (layer.weight.dtype, layer.nested_absmax.dtype) == (torch.uint8, torch.float32)
    assert model.lm_head.weight.dtype == torch.bfloat16


def test_a_tied_head_is_not_quantised() -> None:
    model = gpt2(GPT2)
    assert quantise(model, torch.device("cpu"), lambda _path: False) == 4 * len(model.transformer.h)  # its Conv1D
    assert model.lm_head.weight is model.transformer.wte.weight


def test_qlora_steps_and_trains_adapters_alone() -> None:
    model = llama()
    lora.apply(model, Lora(rank=2, quantised=True))
    tokens = torch.randint(0, 100, (2, 8))
    model(tokens, tokens).loss.backward()
    with_gradient = {name for name, item in model.named_parameters() if item.grad is not None}
    assert with_gradient == {name for name, _ in model.named_parameters() if "lora_" in name}
