"""What a writer of optimizer steps is told of a parameter, and what it remembers between steps."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

BYTES = {
    "float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1,
}  # fmt: skip
# of one element, by torch's names

NARROW = ("bfloat16", "float16")
# dtypes that training keeps copies of in 32 bits


class Parameter(NamedTuple):
    """A parameter, as an optimizer sees it."""

    name: str
    # tells it from the others
    shape: tuple[int, ...]
    dtype: str = "float32"
    gradient: bool = True
    # it has one; a frozen parameter has none, and the optimizer passes it over

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Its bytes."""
        return self.elements * BYTES[self.dtype]


class OptimizerState:
    """Which parameters have state, so that a step knows whether it is the first one for them."""

    def __init__(self) -> None:
        self.made: set[str] = set()
        # names of parameters
        self.tables = False
        # whether the 8-bit optimizers' tables are on the device
        self.counted = 0
        # 0-dimensional tensors that the last step left behind and the next one replaces, by number
        self.left: dict[str, int] = {}
