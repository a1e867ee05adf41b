"""How long Python holds each result: a module run once on fake tensors, with a look at when each of them goes.

What a forward keeps in its variables stands in no graph. Imported with torch at hand; nothing is computed.
"""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from peakmem.frontends.torch.capture import call_arguments
from peakmem.frontends.torch.fake import (
    fake_arguments,
    floating_of,
    in_mode,
    mode_of,
    place_of,
    quiet,
    require_torch,
    restored,
)


@dataclass(slots=True)
class Step:
    """One operator as it ran."""

    op: str
    # without its overload
    gone: list[int]
    # for each tensor among its results, the step while or before which it went; the number of steps for those
    # that are there when the module has returned


def lifetimes(model: Any, inputs: object) -> list[Step] | None:
    """The operators of one call in inference mode; None where the module cannot be run without content."""
    torch = require_torch()
    from torch.utils._python_dispatch import TorchDispatchMode

    steps: list[Step] = []

    class Follower(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            step = Step(getattr(func, "_opname", str(func)), [])
            steps.append(step)
            for item in result if isinstance(result, list | tuple) else (result,):
                if isinstance(item, torch.Tensor):
                    step.gone.append(-1)
                    weakref.finalize(item, _went, steps, step, len(step.gone) - 1)
            return result

    with quiet(), restored(model):
        model.eval()
        mode = mode_of(model)
        in_mode(model, mode)
        try:
            given = call_arguments(model, inputs)
            positional, named = fake_arguments(given, mode, floating=floating_of(model), device=place_of(model))
            with torch.inference_mode(), mode, Follower():
                result = model(*positional, **named)
                end = len(steps)
        except (Exception, SystemExit):  # whatever the module's own code raises
            return None
        kept = [at for at, step in enumerate(steps[:end]) if step.gone]
        # what makes no tensor (a question for a device or a size) is in no graph
        number = {at: place for place, at in enumerate(kept)}
        behind = list(accumulate((at in number for at in range(end)), initial=0))
        for step in steps[:end]:
            step.gone = [len(kept) if gone < 0 else behind[gone + 1] - 1 for gone in step.gone]
        del result
        gc.collect()
    return [steps[at] for at in kept]


def _went(steps: list[Step], step: Step, at: int) -> None:
    if step.gone[at] < 0:
        step.gone[at] = len(steps) - 1
