"""What folding with arrays is handed: one operator and the contents of its inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from peakmem.ir.shapes.call import Call

Array: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class Work:
    """An operator and its inputs as arrays, None for those that are absent."""

    call: Call
    x: list[Array]

    def attr(self, name: str, default: Any = None) -> Any:
        return self.call.attr(name, default)

    def given(self, position: int) -> Array | None:
        return self.x[position] if position < len(self.x) else None

    @property
    def symbolic(self) -> bool:
        return any(array is not None and array.dtype == object for array in self.x)


Fold: TypeAlias = Callable[[Work], Any]
# an array, a list of them for several outputs, or None when it cannot be told


def reduction(name: str) -> Fold:
    """A reduction over `axes`, by the NumPy function of that name."""

    def run(work: Work) -> Array:
        axes = work.attr("axes", work.given(1))
        axes = () if axes is None else tuple(int(axis) for axis in np.reshape(axes, -1))
        if not axes and work.attr("noop_with_empty_axes"):
            return work.x[0]
        return getattr(np, name)(work.x[0], axis=axes or None, keepdims=bool(work.attr("keepdims", 1)))

    return run
