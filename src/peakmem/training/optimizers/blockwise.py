"""Steps of bitsandbytes' 8-bit optimizers (0.50.2): state by `optim/optimizer.py`, temporaries by the device's backend.

On a GPU one kernel takes all of a parameter and nothing is allocated beside the state. On the processor
(`backends/cpu/ops.py`) states are unpacked into float32, updated and packed again. Paged states are managed memory,
outside of the caching allocator: a log of a GPU's allocator does not hold them.
"""

from __future__ import annotations

from collections.abc import Sequence

from peakmem.training.optimizers.kernels import Kernels, Scope, Tensor
from peakmem.training.optimizers.layouts import TABLE, layout
from peakmem.training.optimizers.parameters import Parameter
from peakmem.training.optimizers.settings import Settings


def make_tables(kernels: Kernels) -> None:
    """The tables of quantised values: both are made by the host with the optimizer."""
    for name in ("dynamic", "udynamic"):
        kernels.make(Tensor((TABLE,), "float32"), "", category="optimizer state", name=f"({name} map)", host=True)
    kernels.state.tables = kernels.device == "cpu"


def blockwise(kernels: Kernels, settings: Settings, parameters: Sequence[Parameter]) -> None:
    """`Optimizer8bit.step`: one parameter after the other."""
    for parameter in parameters:
        state = layout(settings, parameter)
        packed = state[0].dtype == "uint8"
        if parameter.name not in kernels.state.made:
            kernels.state.made.add(parameter.name)
            if packed and not kernels.state.tables:
                kernels.state.tables = True
                for name in ("dynamic", "udynamic")[: settings.moments]:
                    kernels.make(Tensor((TABLE,), "float32"), "aten::_to_copy", category="optimizer state",
                                 name=f"({name} map)")  # fmt: skip
            for item in state:
                if not (item.paged and kernels.device == "cuda"):
                    kernels.keep(parameter, item.shape, item.dtype, item.operator)
        if kernels.device == "cpu":
            _update(kernels, settings, parameter, packed=packed)


def _update(kernels: Kernels, settings: Settings, parameter: Parameter, *, packed: bool) -> None:
    """`_optimizer_update_8bit_blockwise_cpu`, and `_optimizer_update_32bit_cpu` for what is not packed."""
    wide = Tensor(parameter.shape, "float32")
    scope = Scope(kernels, "state1", "state2", "grad", "parameter", "update")
    if packed:
        for name in ("state1", "state2")[: settings.moments]:
            scope.bind(name, kernels.make(wide, "bitsandbytes::dequantize_blockwise"))
    cast = parameter.dtype != "float32"
    copy = kernels.make(wide, "aten::_to_copy") if cast else None
    _product(kernels, scope, "grad", wide)
    if copy is not None:
        kernels.drop(copy)
        scope.bind("parameter", kernels.make(wide, "aten::_to_copy"))
    if settings.moments == 2:
        _adam(kernels, settings, scope, wide, packed=packed)
    else:
        _lion(kernels, settings, scope, wide, packed=packed)
    if packed:
        blocks = Tensor((-(-parameter.elements // settings.block),), "float32")
        for _ in range(settings.moments):
            scales = kernels.make(blocks, "bitsandbytes::quantize_blockwise")
            kernels.brief(Tensor(parameter.shape, "uint8"), "bitsandbytes::quantize_blockwise")
            kernels.drop(scales)
    scope.leave()


def _product(kernels: Kernels, scope: Scope, name: str, wide: Tensor, operator: str = "aten::mul") -> None:
    made = kernels.number("float32", operator, gives=wide)
    assert made is not None
    scope.bind(name, made)


def _adam(kernels: Kernels, settings: Settings, scope: Scope, wide: Tensor, *, packed: bool) -> None:
    kernels.number("float32", "aten::mul_")
    kernels.number("float32", "aten::mul_")
    if not packed and settings.weight_decay:
        kernels.number("float32", "aten::mul_")
    root = kernels.make(wide, "aten::sqrt")
    quotient = kernels.number("float32", "aten::div" if packed else "aten::add", gives=wide)
    kernels.drop(root)
    assert quotient is not None
    if packed:
        scope.bind("update", quotient)
        kernels.number("float32", "aten::add_")
        if settings.weight_decay:
            kernels.number("float32", "aten::mul_")
    else:
        scope.bind("update", kernels.make(wide, "aten::div"))
        kernels.drop(quotient)


def _lion(kernels: Kernels, settings: Settings, scope: Scope, wide: Tensor, *, packed: bool) -> None:
    if settings.weight_decay:
        kernels.number("float32", "aten::mul_")
    first = kernels.number("float32", "aten::mul", gives=wide)
    second = kernels.number("float32", "aten::mul", gives=wide) if packed else None
    total = kernels.make(wide, "aten::add")
    for item in (first, second):
        if item is not None:
            kernels.drop(item)
    if packed:
        scope.bind("update", kernels.make(wide, "aten::sign"))
        kernels.drop(total)
    else:
        scope.bind("update", total)
        kernels.brief(wide, "aten::sign")
    kernels.number("float32", "aten::mul_")
