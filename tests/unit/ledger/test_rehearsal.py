"""Claims as strangers write them: model cards, tables of frameworks, blogs on language models; values by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peakmem.errors import PeakmemError
from peakmem.ledger import check_claims
from peakmem.ledger.amount import amounts
from peakmem.ledger.value import Shape
from peakmem.ledger.verdict import matches
from peakmem.report.ledger import Statement

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
    "max_position_embeddings": 8192, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "hidden_act": "silu",
}  # fmt: skip
# Llama 3 8B: 2 x 32 layers x 8 heads x 128 x 2 bytes = 131,072 B of cache for each token; 8,030,261,248 parameters


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "llama3").mkdir()
    (tmp_path / "llama3" / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    return tmp_path


def one(folder: Path, written: str) -> Statement:
    path = folder / "claims.yaml"
    path.write_text(f"claims:\n- {{{written}}}\n", encoding="utf-8")
    (found,) = check_claims(path).statements
    return found


@pytest.mark.parametrize(
    ("written", "value", "verdict"),
    [
        ("claim: 1 GiB, quantity: kv cache, context: {context: 8192}", 2**30, "right"),
        ("claim: 512 MiB, quantity: cache, context: {context: 8192}, kv_dtype: fp8", 2**29, "right"),
        ("claim: 128 KiB per token, compute: state(context=1)", 2**17, "right"),
        ("claim: 512 KiB/token, compute: state(context=1)", 2**17, "wrong"),  # all heads taken for key-value heads
        ("claim: 16 GiB, compute: 'state(context=8192, batch=16)'", 2**34, "right"),
        ("claim: 8B, quantity: parameters", 8_030_261_248, "right"),
        ("claim: 8.03B, quantity: parameters", 8_030_261_248, "right"),
        ("claim: 7B, quantity: model size", 8_030_261_248, "wrong"),
        ("claim: 16 GB, quantity: model size", 16_060_522_496, "right"),
        ("claim: 16.06 GB, quantity: parameters", 16_060_522_496, "right"),
    ],
)
def test_language_models(folder: Path, written: str, value: int, verdict: str) -> None:
    found = one(folder, f"{written}, network: llama3")
    assert found.computed[0].values == (value,)
    assert found.verdict == verdict


def test_the_length_of_a_prefill_is_a_setting_of_files(folder: Path) -> None:
    found = one(folder, "claim: 32 MiB, compute: state(), network: llama3, sequence: 256")
    assert found.computed[0].values == (256 * 2**17,)
    assert found.context == "llama3, sequence=256"


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("claim: 4 MB, quantity: kv cache, network: resnet50", "resnet50 keeps nothing between calls"),
        ("claim: 4 MB, quantity: peak, network: gpt2_small, kv_dtype: fp8", "kv_dtype is a setting of a config.json"),
        ("claim: 4 MB, quantity: cache, network: llama3, context: {context: 0}", "context is 0"),
        ("claim: 4 MB, quantity: cache, network: llama3, kv_dtype: fp9", "no dtype is called 'fp9'"),
        ("claim: 4 MB, quantity: cache, network: llama3, width: 0.5", "an option of built-in networks"),
        ("claim: 4 MBB, quantity: weights, network: vgg16", "Try: MB"),
        ("claim: 4 MB, quantity: weights, network: mobilenetv3", "Try: mobilenet_v3_large"),
        ("claim: 4 MB, compute: 'layer_output(\"conv_1\")', network: mobilenet_v2", "peakmem mobilenet_v2 --layers"),
    ],
)
def test_mistakes(folder: Path, written: str, says: str) -> None:
    with pytest.raises(PeakmemError) as fault:
        one(folder, written)
    assert says in str(fault.value)
    assert "claims.yaml:2: claim 1" in str(fault.value)


# -- what a word for the size of a model stands for ------------------------------------


@pytest.mark.parametrize(
    ("written", "verdict"),
    [
        ("claim: 102.2 MB, quantity: model size", "right"),  # 25,557,032 x 4; other readings do not spoil it
        ("claim: 102.4 MB, quantity: model size", "ambiguous"),  # with 53,120 running statistics
        ("claim: 98 MB, quantity: model size", "ambiguous"),  # so, and in MiB: 97.69
        ("claim: 25.7 MB, quantity: model size, dtype: int8", "right"),  # biases and norms kept wider
        ("claim: 25.6 MB, quantity: model size, dtype: int8", "ambiguous"),  # a byte for each of 25,557,032
        ("claim: 51.1 MB, quantity: model size, dtype: float16", "right"),
        ("claim: 29 MB, quantity: model size", "wrong"),
    ],
)
def test_model_size(folder: Path, written: str, verdict: str) -> None:
    assert one(folder, f"{written}, network: resnet50").verdict == verdict


def test_a_dtype_for_all_explains_a_convention(folder: Path) -> None:
    found = one(folder, "claim: 25.6 MB, quantity: weights, network: resnet50, dtype: int8")
    assert found.verdict == "wrong"
    assert found.explanations[0].change == "all parameters in that dtype, biases and norms too"
    assert "25,557,032 B" in found.explanations[0].shown


def test_a_file_explains_what_its_weights_do_not(folder: Path) -> None:
    """torchvision prints 110.4 MB for DenseNet-161: MiB of the file, whose weights are 110.25."""
    found = one(folder, "claim: 110.4 MB, quantity: weights, network: densenet161")
    assert found.verdict == "wrong"
    assert found.explanations[0].change == "the size of the pt file"
    assert found.explanations[0].shown.endswith("MB read as MiB")


def test_other_classes_and_another_unit_are_two_changes(folder: Path) -> None:
    found = one(folder, "claim: 98 MB, compute: parameter_bytes(), network: resnet50")  # with 1001 classes 97.5 MiB
    assert not any(one.change.startswith("classes") for one in found.explanations)


# -- words of amounts -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claimed", "compute", "verdict"),
    [
        ("2 bytes per parameter", "dtype_bytes('float16')", "right"),
        ("12.8 MB/image", "tensor_bytes('64x224x224')", "right"),
        ("16 Mbit", "parse('2 MB')", "right"),
        ("1.2e6 parameters", "elements('112x112x96')", "right"),
        ("1.3e6 parameters", "elements('112x112x96')", "wrong"),
        ("half", "dtype_bytes('float16') / dtype_bytes('float32')", "right"),
        ("twice", "dtype_bytes('float16') / dtype_bytes('float32')", "wrong"),
        ("75 % less", "1 - dtype_bytes('int8') / dtype_bytes('float32')", "right"),
        ("just under 500 MB", "parse('497,759,232 B')", "right"),
        ("just under 500 MB", "parse('3 MB')", "wrong"),
        ("53 conv layers", "53", "right"),
    ],
)
def test_words(folder: Path, claimed: str, compute: str, verdict: str) -> None:
    assert one(folder, f'claim: "{claimed}", compute: "{compute}"').verdict == verdict


@pytest.mark.parametrize(
    ("claimed", "value", "verdict"),
    [
        ("1 GB", "0.9 GB", "right"),
        ("1 GB", "0.55 GB", "ambiguous"),  # rounds to it, and is half of it
        ("~1 GB", "0.55 GB", "right"),
        ("1 GB", "0.4 GB", "wrong"),
        ("14 GB", "13.48 GB", "ambiguous"),
        ("1.3 MB", "1.204 MB", "wrong"),  # 8 % is no rounding up
    ],
)
def test_roundings_have_an_end(folder: Path, claimed: str, value: str, verdict: str) -> None:
    assert one(folder, f"claim: {claimed}, compute: 'parse(\"{value}\")'").verdict == verdict


def test_the_room_of_a_cache_explains_its_size(folder: Path) -> None:
    """1 GiB for 8,192 tokens; half a gibibyte rounds to 1 and explains nothing."""
    found = one(folder, "claim: 1 GiB, quantity: kv cache, network: llama3, context: {context: 2048}")
    assert found.verdict == "wrong"
    assert ("context 8192", "1.07 GB = 1.00 GiB (1,073,741,824 B)") in [
        (each.change, each.shown) for each in found.explanations
    ]


def test_bytes_times_bytes_are_refused(folder: Path) -> None:
    with pytest.raises(PeakmemError, match="bytes are not multiplied by bytes"):
        one(folder, "claim: 350 GB, compute: parse('175B') * dtype_bytes('float16')")


def test_a_number_of_many_digits_will_have_been_bytes(folder: Path) -> None:
    with pytest.raises(PeakmemError, match="Try: claim: 553,430,176 B"):
        one(folder, "claim: '553,430,176', quantity: weights, network: vgg16")


def test_dtypes_of_blocks_have_a_size(folder: Path) -> None:
    """GGML's q4_0 has 18 bytes for 32 weights; 8.03 billion in it and the norms."""
    found = one(folder, "claim: 4.5 GB, quantity: model size, network: llama3, dtype: q4_0")
    assert found.verdict == "right"


# -- shapes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claimed", "dims", "true"),
    [
        ("7x7x2048", (1, 2048, 7, 7), True),
        ("2048x7x7", (1, 2048, 7, 7), True),
        ("96x96x1", (1, 96, 96, 1), True),
        ("1x3x224x224", (1, 224, 224, 3), True),
        ("388x388", (1, 2, 388, 388), True),
        ("49x40", (1, 49, 40, 8), True),
        ("2x388", (1, 2, 388, 388), False),
        ("7x2048", (1, 2048, 7, 7), False),
        ("384x197", (1, 197, 384), False),
        ("197x384", (1, 197, 384), True),
        ("7x7x1024", (1, 2048, 7, 7), False),
        ("8x3x224x224", (1, 3, 224, 224), False),
    ],
)
def test_channels_stand_first_or_last(claimed: str, dims: tuple[int, ...], true: bool) -> None:
    assert matches(amounts(claimed), Shape(dims)).true is true


def test_layers_go_by_the_names_that_pytorch_prints(folder: Path) -> None:
    found = one(folder, "claim: 56x56x64, compute: 'layer_shape(\"layer1.0.conv1\")', network: resnet50")
    assert found.verdict == "right"


# -- sentences ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentence", "value", "verdict"),
    [
        ("MobileNetV1 0.25 has 470 thousand parameters", 470_072, "right"),
        ("MobileNetV2 0.35 has 1.68M parameters", 1_677_128, "right"),
        ("ViT-S/16 has 22M parameters", 22_050_664, "right"),
        ("Quantized ResNet-50 is 25.7 MB", 25_719_392, "right"),
        ("The weights of ResNet-50 in int8 take 25.6 MB", 25_719_392, "ambiguous"),
        ("ResNet-50 is 102.2 MB", 102_228_128, "right"),
    ],
)
def test_sentences(folder: Path, sentence: str, value: int, verdict: str) -> None:
    path = folder / "said.yaml"
    path.write_text(f"- {sentence}\n", encoding="utf-8")
    (found,) = check_claims(path).statements
    assert (found.computed[0].values, found.verdict) == ((value,), verdict)
