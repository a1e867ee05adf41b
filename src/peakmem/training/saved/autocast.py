"""What torch.autocast does: which operators compute narrow, which wide, and the copies of weights that it keeps.

Lists: aten/src/ATen/autocast_mode.h of PyTorch 2.13 (AT_FORALL_LOWER_PRECISION_FP, AT_FORALL_FP32) and, for the
processor, the registrations at the end of autocast_mode.cpp. All products named in `rules` are narrow on both.
"""

from __future__ import annotations

from peakmem.dtypes import FLOAT32, DType
from peakmem.training.saved import pointwise
from peakmem.training.saved.eager import Eager, Value
from peakmem.training.saved.engine import Leaf

_WIDE_ON_CUDA = frozenset(
    {
        "acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log2", "log1p", "reciprocal", "rsqrt",
        "sinh", "tan", "pow", "softplus", "layer_norm", "group_norm", "softmax", "log_softmax", "sum", "cumsum",
        "cumprod", "prod", "nll_loss", "mse_loss",
    }
)  # fmt: skip
_WIDE_ON_CPU = frozenset({"prod", "mse_loss", "nll_loss"})


def is_wide(operator: str, device: str) -> bool:
    """Whether autocast gives an operator float32 operands."""
    return operator in (_WIDE_ON_CUDA if device == "cuda" else _WIDE_ON_CPU)


class Cache:
    """Narrow copies of the parameters, kept from the first use to the end of the autocast region."""

    def __init__(self) -> None:
        self.copies: dict[int, Value] = {}

    def lowered(self, e: Eager, value: Value, dtype: DType) -> Value:
        """The narrow copy of a parameter."""
        number = value.block.number
        if number not in self.copies:
            self.copies[number] = pointwise.cast(e, value, dtype)
        return self.copies[number]


def lowered(e: Eager, value: Value, dtype: DType | None) -> Value:
    """A factor in the narrow dtype; parameters from the cache."""
    if dtype is None or value.dtype is not FLOAT32:
        return value
    if e.cache is not None and value.edge is not None and isinstance(value.edge[0], Leaf):
        return e.cache.lowered(e, value, dtype)
    return pointwise.cast(e, value, dtype)
