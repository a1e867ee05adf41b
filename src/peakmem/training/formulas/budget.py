"""Budgets as tutorials write them: 4w and feature maps, and a table for a ResNet-50 on a V100, line by line."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from peakmem.training.formulas.answer import Answer, answer

MB, MIB, GIB = 10**6, 2**20, 2**30


def four_weights(parameter_bytes: int, feature_map_bytes: int) -> Answer:
    """ "4w + batch times feature maps" for Adam, under the names that the parts really have.

    The text calls them weights, weight updates, gradients and learning rates; updates are applied in place and not
    kept, so its second w is the first moment, and its learning rates are the second.
    """
    return answer(
        parameters=parameter_bytes, first_moment=parameter_bytes, gradients=parameter_bytes,
        second_moment=parameter_bytes, feature_maps=feature_map_bytes,
    )  # fmt: skip


def ram_of_one_image(parameter_bytes: int, layer_input_bytes: int, image_bytes: int, batch: int) -> Answer:
    """ "Batch size times the memory of one image", where one image is parameters, layer inputs and the image itself."""
    return answer(
        parameters=batch * parameter_bytes, layer_inputs=batch * layer_input_bytes, images=batch * image_bytes
    )


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a printed budget."""

    name: str
    printed: int
    # in the table's unit
    percent: str
    # as printed


V100 = (
    Line("Model parameters (FP32)", 98, "0.6"),
    Line("Optimizer state (Adam)", 196, "1.2"),
    Line("Gradients", 98, "0.6"),
    Line("Activations (batch=32)", 5000, "31.3"),
    Line("Framework overhead", 1000, "6.3"),
)
V100_BUFFER = Line("Available buffer", 9608, "60")
V100_TOTAL = Line("Total used", 6392, "40")
V100_CAPACITY = 16000
# "NVIDIA V100 (16GB memory)" in the table's MB


@dataclass(frozen=True, slots=True)
class Checked:
    """A line beside its share as it comes out."""

    line: Line
    share: Fraction
    agrees: bool
    # the printed percentage is the share, rounded to the digits that it has (halves up)


def check(line: Line, capacity: int = V100_CAPACITY) -> Checked:
    """One line of a table: its share of the capacity against the printed one."""
    share = Fraction(line.printed * 100, capacity)
    digits = len(line.percent.partition(".")[2])
    scaled = share * 10**digits
    rounded = (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
    return Checked(line, share, rounded == int(line.percent.replace(".", "")))


def batch_ceiling(capacity: int, fixed: int, per_sample: Fraction | int) -> int:
    """The largest batch for which fixed bytes and that many samples fit."""
    return max(int(Fraction(capacity - fixed) / per_sample), 0)


def v100_ceiling(per_sample: Fraction | int = Fraction(5000, 32), capacity: int = V100_CAPACITY) -> int:
    """The largest batch by the table's own numbers: all lines but activations are fixed."""
    return batch_ceiling(capacity, sum(line.printed for line in V100) - 5000, per_sample)


@dataclass(frozen=True, slots=True)
class Reading:
    """The table read in one unit."""

    unit: str
    unit_bytes: int
    capacity_bytes: int
    used_bytes: int

    @property
    def free_bytes(self) -> int:
        """Left of the card."""
        return self.capacity_bytes - self.used_bytes

    @property
    def used(self) -> Fraction:
        """The share in use."""
        return Fraction(self.used_bytes, self.capacity_bytes)


def readings() -> tuple[Reading, Reading, Reading]:
    """MB throughout (16,000 MB); MiB throughout (16 GiB); and lines in MB on the 16 GiB that the card has."""
    used = sum(line.printed for line in V100)
    return (
        Reading("MB of 16,000 MB", MB, 16000 * MB, used * MB),
        Reading("MiB of 16 GiB", MIB, 16 * GIB, used * MIB),
        Reading("MB of 16 GiB", MB, 16 * GIB, used * MB),
    )


def adam_state_bytes(parameter_bytes: int, tensors: int) -> int:
    """Two moments and torch's step counter of four bytes for each tensor."""
    return 2 * parameter_bytes + 4 * tensors
