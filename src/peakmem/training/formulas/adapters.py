"""Parameters and bytes of low-rank adapters (LoRA, Hu et al. 2021) and of frozen weights in NF4 (QLoRA, 2023)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from peakmem.training.formulas.answer import Answer, answer
from peakmem.training.formulas.shape import Shape

_WIDTHS = {
    "q": lambda shape: (shape.hidden, shape.query),
    "k": lambda shape: (shape.hidden, shape.key),
    "v": lambda shape: (shape.hidden, shape.key),
    "o": lambda shape: (shape.query, shape.hidden),
    "gate": lambda shape: (shape.hidden, shape.inner),
    "up": lambda shape: (shape.hidden, shape.inner),
    "down": lambda shape: (shape.inner, shape.hidden),
}
# inputs and outputs of the projections of a layer


def lora_parameters(rank: int, linears: Iterable[tuple[int, int]]) -> int:
    """r(in + out) for each linear layer."""
    return sum(rank * (inputs + outputs) for inputs, outputs in linears)


def lora_of(shape: Shape, rank: int, targets: Sequence[str] = ("q", "v")) -> int:
    """Adapters at these projections of every layer."""
    return shape.layers * lora_parameters(rank, (_WIDTHS[name](shape) for name in targets))


NF4_BLOCK = 64
# weights that share a scale (bitsandbytes 0.50.2, functional.py: quantize_4bit's default)
SCALE_BLOCK = 256
# scales that share a scale with nested quantisation ("double quantisation", QLoRA section 3)


def nf4_bytes(elements: int, *, nested: bool = True) -> Answer:
    """Frozen weights: half a byte each and a scale a block; nested, scales are a byte and one float32 for 256 of them.

    QLoRA (arXiv:2305.14314, section 3): 0.5 bits a parameter for scales in float32, 0.127 bits nested. Each tensor
    has its own tables (16 and 256 values of float32) and offset besides, which are left out here.
    """
    blocks = -(-elements // NF4_BLOCK)
    if not nested:
        return answer(weights=-(-elements // 2), scales=4 * blocks)
    return answer(weights=-(-elements // 2), scales=blocks, scales_of_scales=4 * -(-blocks // SCALE_BLOCK))


def scale_bits(*, nested: bool) -> Fraction:
    """Bits a parameter that scales cost in the limit of large tensors."""
    if not nested:
        return Fraction(32, NF4_BLOCK)
    return Fraction(8, NF4_BLOCK) + Fraction(32, NF4_BLOCK * SCALE_BLOCK)


def adapter_step(
    frozen_bytes: int, adapters: int, *, adapter_bytes: int = 4, gradient_bytes: int = 4, state_bytes: int = 8
) -> Answer:
    """What a step keeps: the frozen weights as they are, and adapters with gradients and Adam's state."""
    return answer(
        frozen=frozen_bytes, adapters=adapters * adapter_bytes, gradients=adapters * gradient_bytes,
        optimizer_state=adapters * state_bytes,
    )  # fmt: skip
