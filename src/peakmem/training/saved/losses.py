"""A loss on what a network gives (torch/nn/functional.py, PyTorch 2.13)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from peakmem.dtypes import FLOAT32, INT64, DType
from peakmem.training.saved import movement, pointwise
from peakmem.training.saved.eager import Dims, Eager, Value
from peakmem.training.saved.kernels import took


def targets(shape: Dims, *, tokens: bool) -> tuple[str, Dims, DType | None]:
    """Which loss suits scores of a shape, and the shape and dtype of its target (None: that of the scores).

    Classes stand in the second axis, for sequences of tokens in the last one.
    """
    if len(shape) == 2 or (len(shape) in (4, 5) and shape[1] > 1):
        return "cross-entropy", (shape[0], *shape[2:]), INT64
    if len(shape) == 3 and tokens:
        return "token cross-entropy", shape[:2], INT64
    return "mean squared error", shape, None


def cross_entropy(e: Eager, scores: Value, target: Value, narrow: DType | None) -> Value:
    """log_softmax, then nll_loss: its input, the target and a sum of weights are kept."""
    image = len(scores.shape) > 2
    if narrow is not None and e.device == "cpu":
        scores = pointwise.cast(e, scores, FLOAT32)
    logs = pointwise.softmax(e, scores, log=True)
    del scores
    if narrow is not None:
        # on cuda cross_entropy_loss asks log_softmax for the dtype it was given, so only nll_loss is wide
        logs = pointwise.cast(e, logs, FLOAT32)
    name = "aten::nll_loss2d" if image else "aten::nll_loss"
    y = e.new((), logs.dtype, f"{name}_forward")
    total = e.new((), logs.dtype, f"{name}_forward")
    kept = [e.keep(item) for item in (logs, target, total)]

    def run(_given: Sequence[Value | None]) -> list[Value | None]:
        held = [saved.get() for saved in kept]
        found: list[Value | None] = [e.new(held[0].shape, held[0].dtype, f"{name}_backward")]
        del held
        return found

    e.link(name, [logs], [y], run)
    return y


def token_cross_entropy(e: Eager, scores: Value, target: Value, narrow: DType | None) -> Value:
    """The same on one row per token."""
    rows = movement.reshape(e, scores, (prod(scores.shape[:-1]), scores.shape[-1]))
    del scores
    return cross_entropy(e, rows, movement.reshape(e, target, (target.count,)), narrow)


def squared_error(e: Eager, scores: Value, target: Value, narrow: DType | None) -> Value:
    """The mean of (scores - target)²: both are kept."""
    if narrow is not None:
        scores = pointwise.cast(e, scores, FLOAT32)
    y = e.new((), scores.dtype, "aten::mse_loss")
    took(e, "aten::mse_loss", (scores, target), y)
    kept = [e.keep(item) for item in (scores, target)]

    def run(given: Sequence[Value | None]) -> list[Value | None]:
        held = [saved.get() for saved in kept]
        found: list[Value | None] = [e.like(held[0], "aten::mse_loss_backward")]
        took(e, "aten::mse_loss_backward", (given[0], *held), found)
        del held
        return found

    e.link("aten::mse_loss", [scores], [y], run)
    return y


def mean_of_all(e: Eager, outputs: list[Value]) -> Value:
    """The sum of the means of several outputs, where no usual loss is known."""
    total: Value | None = None
    while outputs:
        part = movement.mean(e, outputs.pop(0), ())
        total = part if total is None else pointwise.add(e, total, part)
    assert total is not None
    return total


LOSSES = {
    "cross-entropy": cross_entropy,
    "token cross-entropy": token_cross_entropy,
    "mean squared error": squared_error,
}
