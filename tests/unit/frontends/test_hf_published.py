"""Parameters, weights and caches of published models, from their configurations alone.

Counts stand in `hf_published` with their source. Cache sizes are those of llama.cpp's logs and of the
models' papers (2 × layers × tokens × key-value heads × head size × bytes; for latent attention
layers × tokens × (latent + rotary) × bytes).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import peakmem
from peakmem.frontends.hf.reader import read_hf_config
from peakmem.parameters import parameters
from peakmem.report.model import Estimate
from tests.unit.frontends.hf_published import (
    DEEPSEEK_V2,
    DEEPSEEK_V3,
    GEMMA3_1B,
    GPT_OSS_20B,
    LLAMA_2_7B,
    LLAMA_3_8B,
    PUBLISHED,
    Fields,
)

MIB = 1 << 20
FP8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}


def written(folder: Path, fields: Fields) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(fields))
    return path


def estimated(folder: Path, fields: Fields, dims: dict[str, int] | None = None, **options: Any) -> Estimate:
    texts = {name: str(value) for name, value in options.items()}
    return peakmem.estimate(written(folder, fields), options=texts, dims=dims)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts_are_exact(name: str, tmp_path: Path) -> None:
    fields, count = PUBLISHED[name]
    assert parameters(read_hf_config(written(tmp_path, fields))).trainable == count


@pytest.mark.parametrize(
    ("fields", "context", "mib"),
    [
        (LLAMA_2_7B, 2048, 1024),
        (LLAMA_3_8B, 8192, 1024),
        (DEEPSEEK_V3, 163_840, 10_980),
        (DEEPSEEK_V3, 16_384, 1098),
        (DEEPSEEK_V3, 20_480, 1372.5),
        (DEEPSEEK_V3, 32_768, 2196),
        (DEEPSEEK_V2, 32_768, 2160),
        (GEMMA3_1B, 32_768, (4 * 32_768 + 22 * 512) * 1024 / MIB),
        (GPT_OSS_20B, 131_072, 12 * (131_072 + 128) * 2048 / MIB),
    ],
)
def test_key_value_caches(fields: Fields, context: int, mib: float, tmp_path: Path) -> None:
    small = {**fields, "n_routed_experts": 8} if "n_routed_experts" in fields else fields
    assert estimated(tmp_path, small, context=context).peak.state_bytes == mib * MIB


def test_the_cache_grows_with_the_batch_and_shrinks_with_its_dtype(tmp_path: Path) -> None:
    path = written(tmp_path, LLAMA_3_8B)
    report = peakmem.estimate(path, batch=4, options={"context": "8192", "kv_dtype": "fp8"})
    assert report.peak.state_bytes == 4 * 1024 * MIB // 2


def test_without_a_context_the_cache_has_room_for_the_sequence(tmp_path: Path) -> None:
    assert estimated(tmp_path, LLAMA_2_7B, dims={"sequence": 2048}).peak.state_bytes == 1024 * MIB


def test_windows_hold_no_more_than_the_sequence(tmp_path: Path) -> None:
    # 26 layers of one head of 256, keys and values in bfloat16: all of 100 tokens, the window is longer.
    assert estimated(tmp_path, GEMMA3_1B, dims={"sequence": 100}).peak.state_bytes == 26 * 100 * 1024


@pytest.mark.parametrize(
    ("fields", "nbytes"),
    [
        (LLAMA_3_8B, 16_060_522_496),  # total_size of the published index
        (GPT_OSS_20B, 13_761_264_768),  # total_size of the published index, mxfp4
        # 291 tensors; 6,979,321,856 weights in blocks at 4 bits: zeros of 4 bits, float16 scales per 128 weights
        (
            LLAMA_3_8B | {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}},
            16_060_522_496 - 6_979_321_856 * 2 + 6_979_321_856 // 2 + 6_979_321_856 // 128 * 5 // 2,
        ),
        # 8 bits, a float32 scale for each of the outputs of 32 × (2 × 4096 + 2 × 1024 + 2 × 14336 + 4096)
        (
            LLAMA_3_8B | {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
            16_060_522_496 - 6_979_321_856 + 32 * 43_008 * 4,
        ),
        # 4 bits, a float32 scale per 64 weights and a table of 16 floats for each of 224 layers
        (
            LLAMA_3_8B | {"quantization_config": {
                "quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}},
            16_060_522_496 - 6_979_321_856 * 2 + 6_979_321_856 // 2 + 6_979_321_856 // 64 * 4 + 224 * 64,
        ),
    ],
    ids=["bfloat16", "mxfp4", "awq", "int8", "nf4"],
)  # fmt: skip
def test_weights_in_bytes(fields: Fields, nbytes: int, tmp_path: Path) -> None:
    assert estimated(tmp_path, fields).peak.weights_bytes == nbytes


def test_fp8_blocks_of_a_mixture(tmp_path: Path) -> None:
    plain = estimated(tmp_path, DEEPSEEK_V3 | {"n_routed_experts": 16})
    packed = estimated(tmp_path, DEEPSEEK_V3 | {"n_routed_experts": 16, "quantization_config": FP8})
    assert packed.parameters.trainable == plain.parameters.trainable
    # Halved but for embeddings, head, norms and routers; float32 scales for 128x128 weights.
    hidden, vocab, layers = 7168, 129_280, 61
    kept = 2 * vocab * hidden + layers * (2 * hidden + 1536 + 512) + hidden + 58 * 16 * hidden
    halved = plain.parameters.trainable - kept
    scales = packed.parameters.nbytes["quantisation"]
    assert plain.peak.weights_bytes - packed.peak.weights_bytes == halved - scales
    # 576 outputs of kv_a_proj_with_mqa take 5 rows of blocks, half a row more than they fill.
    assert scales == (halved // 16384) * 4 + layers * 56 // 2 * 4


def test_tied_heads_are_stored_once(tmp_path: Path) -> None:
    fields, _ = PUBLISHED["meta-llama/Llama-3.2-1B"]
    untied = estimated(tmp_path, fields | {"tie_word_embeddings": False}).parameters.trainable
    assert untied - estimated(tmp_path, fields).parameters.trainable == 128_256 * 2048
