"""Steps of Lion (Chen et al. 2023) as lion-pytorch 0.2.5 takes them: `lion_pytorch.py` and `foreach.py`."""

from __future__ import annotations

from collections.abc import Sequence

from peakmem.training.optimizers.kernels import Kernels, Scope, of
from peakmem.training.optimizers.parameters import Parameter
from peakmem.training.optimizers.settings import Settings
from peakmem.training.optimizers.steps import make_state


def lion_single(kernels: Kernels, settings: Settings, parameters: Sequence[Parameter]) -> None:
    """`update_fn`, one parameter after the other; weight decay scales even where it is 0."""
    for parameter in parameters:
        make_state(kernels, settings, [parameter])
        kernels.number(parameter.dtype, "aten::mul_")
        copy = kernels.make(of(parameter), "aten::clone")
        kernels.number(parameter.dtype, "aten::mul_")
        update = kernels.make(of(parameter), "aten::add")
        kernels.drop(copy)
        kernels.number(parameter.dtype, "aten::mul_")
        kernels.drop(update)


def lion_foreach(kernels: Kernels, settings: Settings, parameters: Sequence[Parameter]) -> None:
    """All parameters in one list, whatever their dtypes."""
    make_state(kernels, settings, parameters)
    scope = Scope(kernels, "updates")
    if settings.weight_decay:
        for parameter in parameters:
            kernels.number(parameter.dtype, "aten::_foreach_mul_")
    scope.bind("updates", *[kernels.make(of(parameter), "aten::clone") for parameter in parameters])
    scope.leave()
