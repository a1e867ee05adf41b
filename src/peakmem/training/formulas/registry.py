"""The closed forms by name, so that each can stand beside a traced answer."""

from __future__ import annotations

from peakmem.training.formulas import activations, deepspeed, megatron, states
from peakmem.training.formulas.answer import Answer, Formula, answer
from peakmem.training.formulas.budget import MB, four_weights
from peakmem.training.formulas.facts import Facts
from peakmem.training.formulas.shape import Shape

FORMULAS: dict[str, Formula] = {}


def _register(formula: Formula) -> None:
    FORMULAS[formula.name] = formula


def _shape(facts: Facts) -> Shape:
    assert facts.shape is not None
    return facts.shape


def _nodes(facts: Facts) -> tuple[int, int]:
    per_node = facts.ranks_per_node or facts.ranks
    return per_node, -(-facts.ranks // per_node)


def _four(facts: Facts) -> Answer:
    return four_weights(facts.parameters * facts.parameter_bytes, facts.feature_map_bytes)


def _table(facts: Facts) -> Answer:
    nbytes = facts.parameters * facts.parameter_bytes
    return answer(
        parameters=nbytes, optimizer_state=2 * nbytes, gradients=nbytes, activations=facts.feature_map_bytes,
        framework_overhead=1000 * MB,
    )  # fmt: skip


def _zero2(facts: Facts) -> Answer:
    return answer(model_states=deepspeed.zero2(facts.parameters, *_nodes(facts), offload=False).gpu_bytes)


def _zero3(facts: Facts) -> Answer:
    needs = deepspeed.zero3(facts.parameters, facts.largest_layer, *_nodes(facts), offload=False)
    return answer(model_states=needs.gpu_bytes)


def _math(facts: Facts) -> Answer:
    found = states.transformer_math(facts.parameters)
    return Answer((*found.parts, ("activations", activations.model_bytes(_shape(facts)))))


_register(
    Formula(
        "adam-4w", "4w and the feature maps", "4·w + batch · feature maps",
        "“What is the memory cost of a CNN?”, Data Science Stack Exchange 16047 (2017)",
        "estimates by hand for convolutional networks",
        "weights, gradients, two moments, every operator's output",
        "optimizer temporaries, masks, indices, workspaces; it counts outputs that backward does not need",
        _four, ("feature maps",),
    )
)  # fmt: skip
_register(
    Formula(
        "budget-table", "Budget of a tutorial", "w + 2w + w + activations + 1,000 MB",
        "“Efficiency Metrics Part 2: Memory Metrics for Deep Learning” (2024), the V100 table",
        "whether a batch fits a card, by hand",
        "weights, Adam's state, gradients, activations, a flat overhead of the framework",
        "temporaries and workspaces; the overhead is a guess", _table, ("feature maps",),
    )
)  # fmt: skip
_register(
    Formula(
        "zero-16", "16 bytes a parameter", "(2 + 2 + 12) · Ψ, split by stage",
        "Rajbhandari et al. 2020 (arXiv:1910.02054), section 3.1", "planning of mixed-precision training",
        "16-bit weights and gradients, a float32 copy and two moments", "activations, buffers, fragmentation",
        lambda facts: states.zero_states(facts.parameters, facts.ranks),
    )
)  # fmt: skip
_register(
    Formula(
        "deepspeed-zero2", "DeepSpeed's estimator, stage 2", "2·P + 18·P / GPUs",
        "DeepSpeed 0.19.6, runtime/zero/stage_1_and_2.py", "DeepSpeed's users, before they choose a stage",
        "16-bit weights, gradients in 16 and 32 bits, float32 weights, two moments", "activations, buckets, buffers",
        _zero2,
    )
)  # fmt: skip
_register(
    Formula(
        "deepspeed-zero3", "DeepSpeed's estimator, stage 3", "4 · largest layer + 18·P / GPUs",
        "DeepSpeed 0.19.6, runtime/zero/stage3.py", "DeepSpeed's users, before they choose a stage",
        "the same, split; the largest layer whole", "activations, buckets, prefetched parameters", _zero3,
    )
)  # fmt: skip
_register(
    Formula(
        "accelerate", "accelerate estimate-memory", "4 · model",
        "accelerate 1.15.0, commands/estimate.py", "Hugging Face's users: “Training using Adam”",
        "weights, gradients, two moments in float32", "activations, whatever the batch",
        lambda facts: states.accelerate(facts.parameters),
    )
)  # fmt: skip
_register(
    Formula(
        "hf-anatomy", "Anatomy of a model's memory", "(6 + 8 + 4) · P",
        "transformers, docs/source/en/model_memory_anatomy.md", "Hugging Face's users, mixed precision with AdamW",
        "weights in 16 and 32 bits, two moments, float32 gradients", "activations and temporaries",
        lambda facts: states.anatomy(facts.parameters),
    )
)  # fmt: skip
_register(
    Formula(
        "transformer-math", "Transformer Math 101", "(2 + 12 + 4) · P + sbhL(34 + 5as/h)",
        "EleutherAI, blog.eleuther.ai/transformer-math (2023)", "planning of language models' training",
        "16-bit weights, AdamW with its float32 copy, float32 gradients, activations without recompute",
        "embedding, logits and loss; fused attention makes the last term too large", _math, ("shape",),
    )
)  # fmt: skip
_register(
    Formula(
        "megatron", "Megatron-LM's report", "18 · P + sbh(10 + 24) · L · 1.05 + embedding and logits",
        "Megatron-LM d98e8a6, megatron/training/theoretical_memory_usage.py", "printed at the start of each run",
        "16-bit weights, float32 gradients, weights and moments; layers without attention scores, logits",
        "attention scores, temporaries of the loss, buffers of collectives",
        lambda facts: megatron.report(_shape(facts), sequence_parallel=False), ("shape",),
    )
)  # fmt: skip
