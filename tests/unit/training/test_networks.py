"""The built-in networks to train: names, parameter counts, batches, blocks, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from peakmem.errors import FormatError, UsageError
from peakmem.training.networks import NETWORKS, known, workload
from peakmem.training.networks.decoder import decoder
from peakmem.training.scenario import Lora, Scenario
from peakmem.zoo.registry import NETWORKS as ZOO

torch = pytest.importorskip("torch")

LLAMA_3_8B = {
    "model_type": "llama", "vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192,
    "rope_theta": 500_000.0, "architectures": ["LlamaForCausalLM"],
}  # fmt: skip
# meta-llama/Meta-Llama-3-8B, config.json


def parts_of(name: str, scenario: Scenario, **options: object) -> Any:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True):
        return workload(name, scenario, **options).build()


def configuration(folder: Path, **fields: object) -> str:
    (folder / "config.json").write_text(json.dumps(fields))
    return str(folder)


def count(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, peakmem.training.networks as n; assert len(n.NETWORKS) > 50; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_network_of_the_zoo_can_be_trained() -> None:
    assert set(ZOO) <= set(NETWORKS)
    assert all(known(name) for name in ZOO)


@pytest.mark.parametrize("name", sorted(ZOO))
def test_a_network_has_the_parameters_that_the_zoo_publishes(name: str) -> None:
    model = parts_of(name, Scenario(batch=2)).model
    extra = sum(item.numel() for key, item in model.named_parameters() if key.startswith(("aux1.", "aux2.")))
    assert count(model) - extra == ZOO[name].parameters


# torchvision 0.28, num_params of the weights' metadata; OpenAI's sizes as Hugging Face counts them
PUBLISHED = {
    "resnet34": 21_797_672, "resnet101": 44_549_160, "resnet152": 60_192_808, "resnext50_32x4d": 25_028_904,
    "wide_resnet50_2": 68_883_240, "vgg11": 132_863_336, "vgg19_bn": 143_678_248, "densenet121": 7_978_856,
    "densenet201": 20_013_928, "efficientnet_b4": 19_341_616, "efficientnet_v2_s": 21_458_488,
    "shufflenet_v2_x0_5": 1_366_792, "squeezenet1_0": 1_248_424, "vit_b_16": 86_567_656, "vit_l_32": 306_535_400,
    "gpt2_medium": 354_823_168, "gpt2_xl": 1_557_611_200,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_relatives_have_the_parameters_that_are_published(name: str) -> None:
    assert count(parts_of(name, Scenario(batch=1)).model) == PUBLISHED[name]


def test_llama_3_8b_from_its_configuration_alone(tmp_path: Path) -> None:
    parts = parts_of(configuration(tmp_path, **LLAMA_3_8B), Scenario(precision="bf16", sequence=64))
    assert count(parts.model) == 8_030_261_248
    assert {item.dtype for item in parts.model.parameters()} == {torch.bfloat16}
    assert len(parts.blocks) == 32
    assert parts.blocks[0] == "model.layers.0"


@pytest.mark.parametrize(
    ("name", "scenario", "shape"),
    [
        ("resnet18", Scenario(batch=3, resolution=64), (3, 1000)),
        ("unet", Scenario(batch=1, resolution=188), (1, 2, 4, 4)),
        ("unet_256", Scenario(batch=2, resolution=32), (2, 2, 32, 32)),
        ("vit_b_16", Scenario(batch=2, resolution=32), (2, 1000)),
    ],
)
def test_batch_and_resolution_are_honoured(name: str, scenario: Scenario, shape: tuple[int, ...]) -> None:
    seen: list[tuple[int, ...]] = []
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        parts = workload(name, scenario).build()
        parts.model.register_forward_hook(lambda _module, _inputs, result: seen.append(tuple(result.shape)))
        assert parts.loss().shape == ()
    assert seen == [shape]
    assert parts.samples == scenario.batch
    assert parts.model.training


def test_a_sequence_is_honoured() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        parts = workload("gpt2", Scenario(batch=2, sequence=16), keep_outputs=True).build()
        loss, out = parts.loss()
    assert loss.shape == ()
    assert out.logits.shape == (2, 16, 50_257)
    assert len(out.cache.held) == 12


def test_recompute_and_a_cache_exclude_each_other() -> None:
    parts = parts_of("gpt2", Scenario(batch=1, sequence=8, recompute="blocks"))
    assert not parts.model.cached
    assert any("are not cached" in note for note in parts.notes)


@pytest.mark.parametrize(
    ("name", "first", "blocks"),
    [("resnet50", "layer1.0", 16), ("mobilenet_v2", "features.1", 17), ("vit_s16", "blocks.0", 12),
     ("densenet121", "features.denseblock1.denselayer1", 58), ("gpt2", "transformer.h.0", 12)],
)  # fmt: skip
def test_the_repeated_blocks_are_found(name: str, first: str, blocks: int) -> None:
    found = parts_of(name, Scenario(batch=1)).blocks
    assert first in found
    assert len([path for path in found if path.rpartition(".")[0] or blocks < 3]) >= blocks


def test_pure_bf16_is_built_in_bf16() -> None:
    parts = parts_of("resnet18", Scenario(batch=1, resolution=32, precision="bf16"))
    assert {item.dtype for item in parts.model.parameters()} == {torch.bfloat16}


def test_a_real_build_is_filled_and_a_step_of_it_runs() -> None:
    parts = workload("squeezenet1_1", Scenario(batch=1, resolution=32)).build()
    loss = parts.loss()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(item.grad is not None for item in parts.model.parameters())


def test_an_unknown_name_names_a_near_one() -> None:
    with pytest.raises(UsageError, match="peakmem train resnet50"):
        workload("resnet5O", Scenario())


def test_an_option_that_a_network_does_not_have() -> None:
    with pytest.raises(UsageError, match="no option 'depth'"):
        parts_of("resnet18", Scenario(batch=1), depth=3)


def test_classes_can_be_chosen() -> None:
    assert parts_of("resnet18", Scenario(batch=1), classes=10).model.fc.out_features == 10


@pytest.mark.parametrize("text", ["{", "[]", '{"hidden_size": 3}'])
def test_a_configuration_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(FormatError):
        workload(str(tmp_path), Scenario())


@pytest.mark.parametrize(
    "change",
    [{"hidden_size": None}, {"num_hidden_layers": -1}, {"vocab_size": "many"}, {"num_key_value_heads": 5}],
)
def test_a_configuration_with_a_size_that_cannot_be(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        workload(configuration(tmp_path, **(LLAMA_3_8B | change)), Scenario())


def test_a_window_that_is_shorter_than_the_sequence_is_refused(tmp_path: Path) -> None:
    folder = configuration(tmp_path, **(LLAMA_3_8B | {"model_type": "mistral", "sliding_window": 128}))
    with pytest.raises(UsageError, match="--sequence 127"):
        parts_of(folder, Scenario(sequence=256))


def test_what_a_configuration_leaves_out_is_the_familys_own() -> None:
    small = {"vocab_size": 100, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 8,
             "num_attention_heads": 8}  # fmt: skip
    families = ("llama", "qwen2", "qwen3", "gemma", "smollm3", "bert")
    found = {family: decoder({"model_type": family, "num_key_value_heads": 8, **small}) for family in families}
    assert found["bert"] is None
    assert found["llama"] is not None
    assert not found["llama"].tied
    assert found["qwen2"] is not None
    assert (found["qwen2"].query_bias, found["qwen2"].output_bias) == (True, False)
    assert found["qwen3"] is not None
    assert (found["qwen3"].head, found["qwen3"].head_norms) == (128, True)
    assert found["gemma"] is not None
    assert (found["gemma"].head, found["gemma"].tied) == (256, True)
    assert found["smollm3"] is not None
    assert found["smollm3"].unrotated == (3, 7)


def test_code_that_a_configuration_brings_is_not_run(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    folder = configuration(
        tmp_path, model_type="llama", architectures=["OwnForCausalLM"], auto_map={"AutoConfig": "evil.Config"}
    )
    with pytest.raises(UsageError, match="not run"):
        workload(folder, Scenario())


def test_qlora_never_has_the_frozen_weights_whole(tmp_path: Path) -> None:
    """4 bits a weight, a byte for 64 of them and 4 for 256 of those: 4.127 bits (Dettmers et al., 2023, section 3)."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = 0

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and not result.is_meta:
                largest = max(largest, result.numel() * result.element_size())
            return result

    scenario = Scenario(precision="bf16", sequence=8, lora=Lora(quantised=True))
    folder = configuration(tmp_path, **LLAMA_3_8B)
    with FakeTensorMode(allow_non_fake_inputs=True), Largest():
        model = workload(folder, scenario).build().model
    layer = model.model.layers[0].mlp.gate_proj
    held = sum(item.numel() * item.element_size() for item in (layer.weight, layer.absmax, layer.nested_absmax))
    assert held * 8 / (4096 * 14_336) == pytest.approx(4.127, abs=0.001)
    assert largest == 128_256 * 4096 * 2  # the embedding stays in bfloat16
    assert model.lm_head.weight.dtype == torch.bfloat16
