"""Closed forms against what was published with them, or arithmetic by hand.

Sources stand beside the numbers: papers, documentation, logs and pull requests of the tools.
"""

from __future__ import annotations

from fractions import Fraction

import pytest

from peakmem.errors import UsageError
from peakmem.training.formulas import (
    FORMULAS,
    STATEMENTS,
    Facts,
    Shape,
    Traced,
    activations,
    adapters,
    budget,
    communication,
    deepspeed,
    facts_of,
    megatron,
    parallel,
    recompute,
    saved_bytes,
    shown,
    states,
    unet,
)
from peakmem.training.formulas.shape import layer_parameters, parameters
from peakmem.training.recorder import Recorder

GPT3 = Shape(layers=96, hidden=12288, heads=96, sequence=2048, batch=1, vocabulary=51200)
MT_NLG = Shape(layers=105, hidden=20480, heads=128, sequence=2048, batch=1, vocabulary=51200)
MODEL_22B = Shape(layers=48, hidden=6144, heads=64, sequence=2048, batch=4, vocabulary=51200)
GPT2_XL = Shape(layers=48, hidden=1600, heads=25, sequence=1024, vocabulary=50304, positions=1024)
LLAMA = {"gated": True, "biases": False, "norm_biases": False}
LLAMA_3_8B = Shape(32, 4096, 32, 8192, vocabulary=128256, feed_forward=14336, kv_heads=8, tied=False, **LLAMA)
LLAMA_32_3B = Shape(28, 3072, 24, 2048, vocabulary=128256, feed_forward=8192, kv_heads=8, **LLAMA)


# Parameters ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        (LLAMA_3_8B, 8_030_261_248),  # safetensors index of meta-llama/Meta-Llama-3-8B
        (LLAMA_32_3B, 3_212_749_824),  # PEFT, method_comparison: total minus trainable parameters
        (Shape(32, 4096, 32, 4096, vocabulary=32000, feed_forward=11008, tied=False, **LLAMA), 6_738_415_616),
        # Llama-2-7B, safetensors index
        (Shape(12, 768, 12, 1024, vocabulary=50257, positions=1024), 124_439_808),  # GPT-2 small, transformers
    ],
)
def test_parameters_are_the_published_count(shape: Shape, count: int):
    assert parameters(shape) == count


@pytest.mark.parametrize(
    ("shape", "rank", "count"),
    [
        # litgpt, tutorials/finetune_lora.md and its logs: adapters of rank 8 at queries and values
        (Shape(32, 4096, 32, 1), 8, 4_194_304),  # Llama-2 7B
        (Shape(40, 5120, 40, 1), 8, 6_553_600),  # Llama-2 13B
        (Shape(24, 2048, 32, 1), 8, 1_572_864),  # phi-1.5
        (Shape(16, 4096, 32, 1), 8, 2_097_152),  # StableLM base alpha 3B
        (Shape(60, 8192, 128, 1, kv_heads=8), 8, 12_042_240),  # Falcon-40B, 8 groups
        (LLAMA_32_3B, 32, 9_175_040),  # PEFT, method_comparison, lora rank 32
    ],
)
def test_adapters_are_the_published_count(shape: Shape, rank: int, count: int):
    assert adapters.lora_of(shape, rank) == count


def test_scales_of_nf4_cost_what_the_paper_says():
    assert adapters.scale_bits(nested=False) == Fraction(1, 2)
    assert float(adapters.scale_bits(nested=True)) == pytest.approx(0.127, abs=0.0005)  # QLoRA, section 3
    big = adapters.nf4_bytes(2**30)
    assert big.nbytes * 8 / 2**30 == pytest.approx(4.127, abs=0.0005)
    assert adapters.nf4_bytes(65).parts == (("weights", 33), ("scales", 2), ("scales of scales", 4))
    assert adapters.nf4_bytes(65, nested=False).nbytes == 33 + 8


# States --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "gigabytes"), [(0, 120.0), (1, 31.4), (2, 16.6), (3, 1.9)]
)  # ZeRO, figure 1: 7.5 billion parameters, 64 ranks, K = 12
def test_zero_is_figure_1(stage, gigabytes: float):
    found = states.zero_states(7_500_000_000, 64, stage).nbytes / 1e9
    assert round(found, 1) == gigabytes


def test_known_bytes_are_split_by_stage():
    assert [states.sharded_states(400, 401, 800, 4, stage).nbytes for stage in (0, 1, 2, 3)] == [1601, 1001, 701, 401]
    whole = states.sharded_states(400, 400, 800, 4, 3, whole_unit_bytes=64)
    assert (whole.part("gathered parameters"), whole.nbytes) == (64, 464)


def test_bytes_per_parameter_are_the_documented_ones():
    """Hugging Face: 18 bytes with mixed precision and AdamW, 6 for inference, 8-bit 2, SGD with momentum 4."""
    assert states.anatomy(1).nbytes == 18
    assert states.anatomy(1, optimizer="8-bit").nbytes == 12
    assert states.anatomy(1, mixed=False, optimizer="momentum").nbytes == 12
    assert states.transformer_math(1).nbytes == 18
    assert states.transformer_math(1, optimizer="8-bit", wide_gradients=False).nbytes == 10
    with pytest.raises(UsageError, match="no bytes for 'lion'"):
        states.anatomy(1, optimizer="lion")


def test_accelerate_shows_four_times_the_model():
    """Its documentation, bert-base-cased: 413.18 MB, of training 1.61 GB in float32 and 826.36 MB in float16.

    108,310,272 parameters, and two buffers of 512 int64 each, which it counts, too.
    """
    elements = 108_310_272 + 2 * 512 * 2
    assert round(4 * elements / 2**20, 2) == 413.18
    assert round(states.accelerate(elements).nbytes / 2**30, 2) == 1.61
    assert round(states.accelerate(elements, "float16").nbytes / 2**20, 2) == 826.36


T0_3B = (2_783_959_040, 65_798_144)
# transformers' DeepSpeed documentation, "Memory requirements": 2783M parameters, 65M in the largest layer


@pytest.mark.parametrize(
    ("options", "host", "gpu"),
    [
        ({}, "70.00", "0.25"),
        ({"sharded_start": False}, "70.00", "0.25"),
        ({"offload_parameters": False}, "62.23", "5.43"),
        ({"offload_parameters": False, "sharded_start": False}, "62.23", "5.43"),
        ({"offload": False}, "0.37", "46.91"),
        ({"offload": False, "sharded_start": False}, "15.56", "46.91"),
    ],
)
def test_deepspeed_stage_3_prints_the_documented_table(options: dict[str, bool], host: str, gpu: str):
    found = deepspeed.zero3(*T0_3B, **options)
    assert (f"{found.host_bytes / 2**30:.2f}", f"{found.gpu_bytes / 2**30:.2f}") == (host, gpu)


def test_deepspeed_stage_2_by_hand():
    """10 parameters on 2 nodes of 4 GPUs: host 10 · max(32, 16) · 1.5, GPU 20; without offload 20 + 180 / 8."""
    assert deepspeed.zero2(10, 4, 2) == deepspeed.Needs(480, 20)
    assert deepspeed.zero2(10, 4, 2, offload=False) == deepspeed.Needs(240, 42)


# Activations ---------------------------------------------------------------------------------------------------------


def test_attention_scores_are_the_papers():
    """arXiv:2205.05198, section 5: 5as/h is 80 for GPT-3 and 64 for MT-NLG; selective recompute saves 70 % and 65 %."""
    assert [Fraction(5 * item.heads * item.sequence, item.hidden) for item in (GPT3, MT_NLG)] == [80, 64]
    assert [round(activations.selective_saving(item) * 100) for item in (GPT3, MT_NLG)] == [70, 65]


def test_layers_are_table_2_of_the_paper():
    base = 2048 * 4 * 6144
    scores = Fraction(5 * 64 * 2048, 6144)
    one = activations.layer_bytes
    assert one(MODEL_22B) == base * (34 + scores)
    assert one(MODEL_22B, tensor=8) == base * (10 + 3 + scores / 8)
    assert one(MODEL_22B, tensor=8, sequence_parallel=True) == Fraction(base, 8) * (34 + scores)
    assert one(MODEL_22B, tensor=8, sequence_parallel=True, recompute="selective") == Fraction(34 * base, 8)
    assert one(MODEL_22B, tensor=8, recompute="selective") == 13 * base
    assert one(MODEL_22B, tensor=8, recompute="full") == 2 * base


def test_sequence_and_selective_take_a_fifth():
    """The abstract: both together reduce activations five times (models of table 3, tensor parallel over 8)."""
    for shape in (MODEL_22B, GPT3, MT_NLG):
        before = activations.layer_bytes(shape, tensor=8)
        after = activations.layer_bytes(shape, tensor=8, sequence_parallel=True, recompute="selective")
        assert 0.15 < after / before < 0.25


def test_interleaving_holds_more():
    """arXiv:2205.05198, section 4.2.3: 1 + (p - 1)/(pm); 8 stages in 3 parts: 31/24."""
    assert activations.interleaving(8, 3) == Fraction(31, 24)
    plain = activations.model_bytes(GPT3)
    assert activations.model_bytes(GPT3, stages=8, parts=3) == plain * 31 // 24


def test_gpipe_by_hand():
    """24 units of activations over 4 stages and 3 micro-batches are 2, beside 5 at the boundary."""
    assert activations.pipeline_bytes(24, 5, 4, 3) == 7


# Megatron ------------------------------------------------------------------------------------------------------------


def test_megatron_prints_the_logged_numbers():
    """Logs of its runs: "weight and optimizer=26699.47 MB" (GPT-2 XL) and "57438.81 MB" (Llama-3-8B, 8 ranks).

    The first log's activation footprint is 53.1 MB a layer. Both logs are of versions that counted one more norm's
    weights with LayerNorm's bias: Llama's vectors count twice.
    """
    assert states_mb(GPT2_XL) == pytest.approx(26699.47, abs=0.01)
    logged = Shape(**{**_fields(LLAMA_3_8B), "norm_biases": True})
    assert states_mb(logged, data=8, distributed_optimizer=True) == pytest.approx(57438.81, abs=0.1)
    per_layer = activations.layer_bytes(GPT2_XL, recompute="selective") / 2**20
    assert round(float(per_layer), 1) == 53.1


def _fields(shape: Shape) -> dict[str, object]:
    return {name: getattr(shape, name) for name in shape.__slots__}


def states_mb(shape: Shape, **options: object) -> float:
    return megatron.states(shape, **options) / 2**20  # type: ignore[arg-type]


def test_megatron_activations_by_hand():
    """s 4, b 1, h 8, f 32, L 2, v 16: 4·(144 + 128)·2 + (8 + 8)·4 + 4·4·(8 + 16) = 2,176 + 64 + 384."""
    shape = Shape(2, 8, 2, 4, vocabulary=16)
    assert megatron.activations(shape) == 2624
    assert megatron.activations(shape, tensor=2) == 1312
    # without: 4·8·34·2 + 64 + (4·16 + 4·8)·2 = 2,176 + 64 + 192, and 5 %
    assert megatron.activations(shape, sequence_parallel=False) == 2432 * 105 // 100
    # two stages, one micro-batch of two in flight: half of 2,176 + 2·64
    assert megatron.activations(shape, stages=2, micro_batches=1) == (2176 + 128) // 2
    assert megatron.activations(shape, stages=2, parts=2) == (2176 + 128) * 5 // 4


# Splitting -----------------------------------------------------------------------------------------------------------


def test_volumes_are_those_of_zero():
    """arXiv:1910.02054, section 7: 2Ψ, 2Ψ and 3Ψ in the limit of many ranks."""
    many = 10**6
    for stage, times in ((0, 2), (1, 2), (2, 2), (3, 3)):
        sent = communication.data_parallel(10**9, 10**9, many, stage).nbytes
        assert sent == pytest.approx(times * 10**9, rel=1e-5)
    assert communication.data_parallel(100, 100, 4, 3, gather_again=False).nbytes == 150
    assert communication.all_reduce(100, 4) == 150


def test_tensor_parallel_by_hand():
    """s 4, b 1, h 8 in 16 bits over 2 ranks: an all-reduce of 64 bytes sends 64; two forward, two backward."""
    shape = Shape(2, 8, 2, 4, vocabulary=16)
    assert communication.tensor_parallel_layer(shape, 2, recompute=True).parts == (
        ("forward", 128), ("backward", 128), ("recompute", 128),
    )  # fmt: skip
    assert communication.pipeline_boundary(shape) == 128
    assert communication.bubble(4, 8) == Fraction(3, 8)
    # 12h² + 13h of a layer, of which 12h² + 7h are split and 6h (two biases, two norms) are whole
    assert layer_parameters(shape) == 12 * 64 + 13 * 8
    assert parallel.rank_layer_parameters(shape, 2) == (12 * 64 + 7 * 8) // 2 + 6 * 8
    assert parallel.rank_parameters(shape, 1) == parameters(shape)
    with pytest.raises(UsageError, match="cannot be split over 3"):
        parallel.rank_layer_parameters(shape, 3)


def test_a_gpt3_rank_of_8_holds_an_eighth():
    assert parallel.rank_parameters(GPT3, 8) == pytest.approx(parameters(GPT3) / 8, rel=1e-3)


# Recompute -----------------------------------------------------------------------------------------------------------


def test_operations_are_those_of_the_papers():
    """72bLsh²(1 + s/6h + V/12hL) (arXiv:2205.05198, A); with full recompute 96bLsh²(1 + s/6h + V/16hL) (2104.04473)."""
    s, b, h, v, layers = (GPT3.sequence, GPT3.batch, GPT3.hidden, GPT3.vocabulary, GPT3.layers)
    base = b * layers * s * h * h
    found = recompute.step_flops(GPT3, "full")
    assert found.model == 72 * base * (1 + Fraction(s, 6 * h) + Fraction(v, 12 * h * layers))
    assert found.model + found.repeated == 96 * base * (1 + Fraction(s, 6 * h) + Fraction(v, 16 * h * layers))
    selective = recompute.step_flops(GPT3, "selective")
    assert selective.repeated == 72 * base * Fraction(s, 18 * h)
    assert recompute.step_flops(GPT3).overhead == 0
    assert recompute.step_flops(GPT3, "full", every=2).repeated * 2 == found.repeated
    assert recompute.chain_overhead(1, 2) == Fraction(1, 3)


# Texts ---------------------------------------------------------------------------------------------------------------


def test_the_budget_of_the_tutorial():
    lines = [budget.check(line) for line in (*budget.V100, budget.V100_BUFFER, budget.V100_TOTAL)]
    assert all(item.agrees for item in lines)
    assert sum(line.printed for line in budget.V100) == budget.V100_TOTAL.printed == 6392
    assert budget.V100_CAPACITY - budget.V100_TOTAL.printed == budget.V100_BUFFER.printed
    # 16,000 - 1,392 of everything else over 156.25 an image
    assert budget.v100_ceiling() == 93
    assert not budget.check(budget.Line("wrong", 98, "0.7")).agrees
    assert [item.free_bytes // item.unit_bytes for item in budget.readings()] == [9608, 9992, 10787]
    assert [float(round(item.used * 100, 2)) for item in budget.readings()] == [39.95, 39.01, 37.21]


def test_adam_of_resnet50_has_the_measured_bytes():
    """torch.optim.Adam after one step: 51,114,225 elements of 4 bytes."""
    traced = Traced()
    assert budget.adam_state_bytes(traced.resnet50_parameters, traced.resnet50_tensors) == 51_114_225 * 4


def test_four_weights_of_vgg16():
    """4 × 553.430 MB and 60.348 MB of maps; 32 images: 4,144.867 MB."""
    one = budget.four_weights(553_430_176, 60_348_000)
    assert round(one.nbytes / 1e6, 3) == 2274.069
    assert round(budget.four_weights(553_430_176, 32 * 60_348_000).nbytes / 1e6, 2) == 4144.86
    assert budget.ram_of_one_image(553_430_176, 0, 0, 32).nbytes == 17_709_765_632


def test_the_u_net_of_the_paper():
    """568, 280, 136, 64 and 28 pixels on the way down (figure 1 of the paper); 52, 100, 196, 388 on the way up."""
    found = unet.levels()
    assert found.encoder == tuple(4 * size**2 * (64 << at) for at, size in enumerate((568, 280, 136, 64, 28)))
    assert found.decoder == tuple(4 * size**2 * (512 >> at) for at, size in enumerate((52, 100, 196, 388)))
    assert round(found.peak_bytes / 1e6, 1) == 200.6


def test_statements_say_what_they_wait_for():
    assert len({item.key for item in STATEMENTS}) == len(STATEMENTS)
    waiting = [item for item in STATEMENTS if shown(item, Traced()).startswith("needs a trace")]
    assert {item.key for item in waiting} == {item.key for item in STATEMENTS if item.needs}
    names = [name for name in Traced.__slots__ if not getattr(Traced(), name)]
    full = Traced(**dict.fromkeys(names, 10**9))
    assert not any(shown(item, full).startswith("needs") for item in STATEMENTS)


# Beside a trace ------------------------------------------------------------------------------------------------------


def test_facts_come_from_a_log():
    recorder = Recorder(device="cpu", origin="test")
    for name, elements in (("a.weight", 6), ("a.bias", 2), ("b.weight", 4)):
        recorder.allocate(4 * elements, category="parameter", dtype="float32", shape=(elements,), name=name)
    recorder.enter("forward", 0)
    recorder.release(recorder.allocate(40, "aten::mm"))
    kept = recorder.allocate(24, "aten::relu")
    recorder.workspace(1000, "aten::mm")
    recorder.enter("backward", 0)
    for name, elements in (("a.weight", 6), ("a.bias", 2)):
        recorder.allocate(4 * elements, category="gradient", dtype="float32", shape=(elements,), name=name)
    recorder.release(kept)
    log = recorder.finish()
    assert facts_of(log, batch=2) == Facts(12, 2, 8, 4, 64, 8)
    assert saved_bytes(log) == 24


def test_each_formula_answers_or_says_what_it_needs():
    bare, full = Facts(1000), Facts(1000, feature_map_bytes=500, largest_layer=100, shape=GPT2_XL, ranks=8)
    for formula in FORMULAS.values():
        assert formula.missing(full) == ""
        assert formula.compute(full).nbytes > 0
        assert formula.missing(bare) in ("", *formula.needs)
        assert all((formula.source, formula.includes, formula.excludes, formula.users))
    assert FORMULAS["megatron"].missing(bare) == "shape"
    assert FORMULAS["adam-4w"].compute(full).nbytes == 16 * 1000 + 500
