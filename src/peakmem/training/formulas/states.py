"""Bytes per parameter, as papers and tools count them: nothing here knows of activations' shapes."""

from __future__ import annotations

from typing import Literal

from peakmem.errors import UsageError
from peakmem.training.formulas.answer import Answer, answer

Stage = Literal[0, 1, 2, 3]

EIGHT_BIT, MOMENTUM, ADAM = "8-bit", "momentum", "adam"


def zero_states(parameters: int, ranks: int = 1, stage: Stage = 0, optimizer_bytes: int = 12) -> Answer:
    """2Ψ + 2Ψ + KΨ of mixed precision, split by stage (Rajbhandari et al. 2020, arXiv:1910.02054, section 3 and 5).

    K is 12 for Adam: a float32 copy and two moments.
    """

    def split(from_stage: int, nbytes: int) -> int:
        return -(-nbytes // ranks) if stage >= from_stage else nbytes

    return answer(
        parameters=split(3, 2 * parameters),
        gradients=split(2, 2 * parameters),
        optimizer_state=split(1, optimizer_bytes * parameters),
    )


def sharded_states(
    parameter_bytes: int, gradient_bytes: int, state_bytes: int, ranks: int, stage: Stage, whole_unit_bytes: int = 0
) -> Answer:
    """The same split of bytes that are known, whatever their dtypes.

    `whole_unit_bytes`: parameters of the largest unit that stage 3 gathers while it runs (FSDP's wrapped module),
    which a rank holds whole beside its shards.
    """

    def split(from_stage: int, nbytes: int) -> int:
        return -(-nbytes // ranks) if stage >= from_stage else nbytes

    return answer(
        parameters=split(3, parameter_bytes),
        gathered_parameters=whole_unit_bytes if stage == 3 and ranks > 1 else 0,
        gradients=split(2, gradient_bytes),
        optimizer_state=split(1, state_bytes),
    )


def anatomy(parameters: int, *, mixed: bool = True, optimizer: str = ADAM) -> Answer:
    """Hugging Face, "Anatomy of a model's memory": 6 + 8 + 4 = 18 bytes with mixed precision and AdamW.

    Two copies of the weights (float32 and 16 bits), 8 bytes of state (2 in 8 bits, 4 with momentum), gradients in
    float32 (docs/source/en/model_memory_anatomy.md of transformers).
    """
    state = {ADAM: 8, EIGHT_BIT: 2, MOMENTUM: 4, "sgd": 0}
    _known(optimizer, state)
    return answer(
        parameters=(6 if mixed else 4) * parameters,
        optimizer_state=state[optimizer] * parameters,
        gradients=4 * parameters,
    )


def transformer_math(parameters: int, *, optimizer: str = ADAM, wide_gradients: bool = True) -> Answer:
    """EleutherAI, "Transformer Math 101" (2023): 16-bit weights, 12 bytes of AdamW (6 in 8 bits, 8 with momentum).

    The optimizer's bytes hold the float32 copy of the weights. Gradients are 4 bytes, or 2 where they are 16-bit.
    """
    state = {ADAM: 12, EIGHT_BIT: 6, MOMENTUM: 8}
    _known(optimizer, state)
    return answer(
        parameters=2 * parameters,
        optimizer_state=state[optimizer] * parameters,
        gradients=(4 if wide_gradients else 2) * parameters,
    )


def accelerate(parameters: int, precision: Literal["float32", "float16"] = "float32") -> Answer:
    """`accelerate estimate-memory`, "Training using Adam": the largest of four entries, not their sum.

    float32: 4 times the model. float16: model 1, gradients 1.5, optimizer 2, and the step 2 times the float32 model,
    of which 2 is shown (accelerate 1.15.0, commands/estimate.py, `estimate_training_usage`).
    """
    whole = 4 * parameters
    return answer(step=4 * whole if precision == "float32" else 2 * whole)


def _known(optimizer: str, state: dict[str, int]) -> None:
    if optimizer not in state:
        raise UsageError(f"this formula has no bytes for {optimizer!r}", expected=f"one of {', '.join(state)}")
