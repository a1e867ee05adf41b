"""The step of transformers' Adafactor (5.23, `optimization.py`), operator by operator: one parameter after the other,
in 32 bits where gradients are 16.

With `scaled` it compares each parameter's root mean square with 0.001 and takes the larger: the root mean square is
assumed to be that (below it, a tensor of one element does not come).
"""

from __future__ import annotations

from collections.abc import Sequence

from peakmem.training.optimizers.kernels import Kernels, Scope, Tensor
from peakmem.training.optimizers.layouts import layout
from peakmem.training.optimizers.parameters import NARROW, Parameter
from peakmem.training.optimizers.settings import Settings


def adafactor_transformers(kernels: Kernels, settings: Settings, parameters: Sequence[Parameter]) -> None:
    """`Adafactor.step`."""
    scope = Scope(kernels, "grad", "p_data_fp32", "lr", "update")
    for parameter in parameters:
        narrow = parameter.dtype in NARROW
        wide = Tensor(parameter.shape, "float32" if narrow else parameter.dtype)
        scope.delete("grad")
        if narrow:
            scope.bind("grad", kernels.make(wide, "aten::_to_copy"))
        _make_state(kernels, settings, parameter)
        scope.delete("p_data_fp32")
        if narrow:
            scope.bind("p_data_fp32", kernels.make(wide, "aten::_to_copy"))
        _keep_root(kernels, parameter, _root_mean_square(kernels, wide.dtype))
        if settings.scaled:
            _compare(kernels, wide.dtype)
            scope.bind("lr", *_given(kernels.number(wide.dtype, "aten::mul", gives=Tensor((), wide.dtype))))
        _update(kernels, scope, wide)
        _clip(kernels, wide.dtype)
        if not settings.scaled:
            kernels.number(wide.dtype, "aten::mul_")
        if settings.first_moment:
            kernels.number(wide.dtype, "aten::mul_")
            scope.delete("update")
        if settings.scaled and settings.weight_decay:
            _drop(kernels, kernels.number(wide.dtype, "aten::mul", gives=Tensor((), wide.dtype)))
        kernels.brief(wide, "aten::neg")
    scope.leave()


def _given(tensor: Tensor | None) -> list[Tensor]:
    return [] if tensor is None else [tensor]


def _drop(kernels: Kernels, tensor: Tensor | None) -> None:
    if tensor is not None:
        kernels.drop(tensor)


def _make_state(kernels: Kernels, settings: Settings, parameter: Parameter) -> None:
    """Rows and columns are made in 32 bits by the host and brought to the gradient's dtype and device."""
    if parameter.name in kernels.state.made:
        return
    kernels.state.made.add(parameter.name)
    for item in layout(settings, parameter):
        moved = item.operator == "aten::zeros" and item.dtype != "float32"
        zeros = kernels.make(Tensor(item.shape, "float32"), item.operator, host=True) if moved else None
        kernels.keep(parameter, item.shape, item.dtype, item.operator)
        if zeros is not None:
            kernels.drop(zeros)


def _root_mean_square(kernels: Kernels, dtype: str) -> Tensor:
    norm = kernels.make(Tensor((), dtype), "aten::linalg_vector_norm")
    quotient = kernels.number(dtype, "aten::div", gives=Tensor((), dtype))
    kernels.drop(norm)
    assert quotient is not None
    return quotient


def _keep_root(kernels: Kernels, parameter: Parameter, root: Tensor) -> None:
    """The root mean square of a parameter stays until the next step's replaces it."""
    left = kernels.state.left
    if root.number >= 0:
        kernels.recorder.label(root.number, "optimizer state", parameter.name)
    if parameter.name in left:
        kernels.recorder.release(left[parameter.name])
    left[parameter.name] = root.number


def _compare(kernels: Kernels, dtype: str) -> None:
    """A comparison with a number, read at once; the wrapped number goes before its cast here."""
    small = (
        [Tensor((), "float64"), *([Tensor((), dtype)] if dtype != "float64" else [])] if kernels.device == "cpu" else []
    )
    made = [kernels.make(item, "aten::gt") for item in (*small, Tensor((), "bool"))]
    for item in made:
        kernels.drop(item)


def _update(kernels: Kernels, scope: Scope, wide: Tensor) -> None:
    """The squared gradient, then the estimate made of its mean rows and columns."""
    square = kernels.make(wide, "aten::pow")
    total = kernels.number(wide.dtype, "aten::add", gives=wide)
    kernels.drop(square)
    scope.bind("update", *_given(total))
    kernels.number(wide.dtype, "aten::mul_")
    if len(wide.shape) < 2:
        scope.bind("update", kernels.make(wide, "aten::rsqrt"))
        return
    row, column = wide.shape[:-1], (*wide.shape[:-2], wide.shape[-1])
    kernels.drop(kernels.mean(wide, row))
    kernels.number(wide.dtype, "aten::mul_")
    kernels.drop(kernels.mean(wide, column))
    mean = kernels.mean(Tensor(row, wide.dtype), (*row[:-1], 1))
    rows = kernels.make(Tensor(row, wide.dtype), "aten::div")
    kernels.drop(mean)
    columns = kernels.make(Tensor(column, wide.dtype), "aten::rsqrt")
    product = kernels.make(wide, "aten::mul")
    kernels.drop(rows)
    kernels.drop(columns)
    scope.bind("update", product)


def _clip(kernels: Kernels, dtype: str) -> None:
    """The update is divided by its root mean square over a threshold."""
    root = _root_mean_square(kernels, dtype)
    ratio = kernels.number(dtype, "aten::div", gives=Tensor((), dtype))
    kernels.drop(root)
    _drop(kernels, ratio)
