"""Training steps of claims: from a context to the log of a step, traced or followed."""

from __future__ import annotations

from itertools import accumulate
from typing import get_args

from peakmem.errors import UsageError
from peakmem.ledger.context import Context
from peakmem.producing import Source, producer
from peakmem.training.log import CATEGORIES, Log
from peakmem.training.scenario import Optimizer, Precision, Scenario

STEPS_ON_CUDA = 3
# the allocator settles in the third


def log(context: Context, route: str) -> Log:
    """Two steps with AdamW, or with what the context says.

    Raises:
        MissingLibrary: it needs torch, which is not installed.
        UsageError: a precision, an optimizer or a device that is not there.
    """
    asked = scenario(context)
    maker = producer(Source(context.source, None, dict(context.shape), dict(context.dims)), asked, route)
    return maker.make(maker.scenario).log


def scenario(context: Context) -> Scenario:
    """What the context asks of a step.

    Raises:
        UsageError: a precision or a device that is not there.
    """
    if context.precision and context.precision not in get_args(Precision):
        raise UsageError(
            f"no precision is called {context.precision!r}", expected=f"one of {', '.join(get_args(Precision))}"
        )
    device = context.device or "cpu"
    if device not in ("cpu", "cuda"):
        raise UsageError(f"a step runs on {device[:40]!r}", expected="cpu or cuda")
    if context.dtype not in ("", "float32"):
        raise UsageError(f"a step in {context.dtype}", expected='precision="amp-fp16", "bf16" …')
    return Scenario(
        device="cuda" if device == "cuda" else "cpu",
        batch=context.batch,
        optimizer=Optimizer(context.optimizer) if context.optimizer else None,
        precision=context.precision or "float32",  # type: ignore[arg-type]
        recompute=context.recompute,
        accumulate=context.accumulate,
        steps=max(context.steps, STEPS_ON_CUDA) if device == "cuda" else context.steps,
    )


def most(found: Log, category: str) -> int:
    """The most bytes of one category alive at once.

    Raises:
        UsageError: there is no such category.
    """
    if category not in CATEGORIES:
        raise UsageError(f"no part of a step is called {category!r}", expected=f"one of {', '.join(CATEGORIES)}")
    change = [0] * (found.moments + 1)
    for item in found.storages:
        if item.category == category:
            change[item.start] += item.nbytes
            change[item.stop] -= item.nbytes
    return max(accumulate(change))
