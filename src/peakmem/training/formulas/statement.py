"""What two texts on training memory say, line by line, beside the number that comes out.

The texts: "Efficiency Metrics Part 2: Memory Metrics for Deep Learning" (2024; S3) and the question "What is the
memory cost of a CNN?" (S4). A number is computed from the lines themselves, or it is read from `Traced`: steps that
were traced or measured, handed in by whoever has them. Without, such a line says what it is waiting for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from peakmem.training.formulas.budget import MB

Verdict = Literal["right", "wrong", "depends", "not computed"]


@dataclass(frozen=True, slots=True)
class Traced:
    """Steps behind the statements, in bytes; 0 where nobody traced it."""

    resnet50_parameters: int = 102_228_128
    resnet50_tensors: int = 161
    vgg16_parameters: int = 553_430_176
    # torchvision's counts: 25,557,032 and 138,357,544 parameters of 4 bytes
    resnet50_saved_32: int = 0
    resnet50_saved_64: int = 0
    # saved activations, ResNet-50 at 224 pixels
    resnet50_step_32: int = 0
    # peak of an Adam step
    resnet50_recompute_32: int = 0
    # the same with each block recomputed
    resnet50_recompute_activations_32: int = 0
    resnet50_amp_saved_32: int = 0
    resnet50_amp_step_32: int = 0
    # the same under autocast
    resnet50_step_8: int = 0
    vgg16_feature_maps: int = 0
    # of one image, each operator's output
    vgg16_step_1: int = 0
    vgg16_step_32: int = 0
    recompute_time: Fraction = Fraction(0)
    # of a step with recompute over one without


@dataclass(frozen=True, slots=True)
class Statement:
    """One sentence of a text, and what becomes of it."""

    key: str
    said: str
    ours: Callable[[Traced], str]
    verdict: Verdict
    why: str
    needs: tuple[str, ...] = ()
    # fields of Traced without which there is no number


def shown(statement: Statement, traced: Traced) -> str:
    """Our number, or what is missing for it."""
    missing = [name for name in statement.needs if not getattr(traced, name)]
    return f"needs a trace: {', '.join(missing)}" if missing else statement.ours(traced)


def mb(nbytes: int | Fraction) -> str:
    return f"{float(Fraction(nbytes) / MB):,.0f} MB"


def percent(part: int | Fraction, whole: int | Fraction) -> str:
    return f"{float(Fraction(part) / Fraction(whole) * 100):.1f} %"


def saved(traced: Traced, before: str, after: str) -> str:
    old, new = getattr(traced, before), getattr(traced, after)
    return f"{mb(old)} → {mb(new)} ({percent(new - old, old)})"
