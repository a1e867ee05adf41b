"""Steps of Adafactor (Shazeer and Stern 2018), operator by operator: torch 2.13's, and that of transformers 5.23.

Second moments of matrices are a row and a column. What allocates nothing is not written down.
"""

from __future__ import annotations

from collections.abc import Sequence

from peakmem.training.optimizers.groups import groups
from peakmem.training.optimizers.kernels import Kernels, Scope, Tensor, of
from peakmem.training.optimizers.parameters import Parameter
from peakmem.training.optimizers.settings import Settings
from peakmem.training.optimizers.steps import make_state

_NORM = "aten::linalg_vector_norm"
_ONEDNN_ABOVE = 16**3


def _row(parameter: Parameter) -> Tensor:
    return Tensor((*parameter.shape[:-1], 1), parameter.dtype)


def _column(parameter: Parameter) -> Tensor:
    return Tensor((*parameter.shape[:-2], 1, parameter.shape[-1]), parameter.dtype)


def _norm(kernels: Kernels, dtype: str) -> None:
    """The norm of a whole tensor, read at once."""
    kernels.brief(Tensor((), dtype), _NORM)


def _estimate(kernels: Kernels, parameter: Parameter) -> Tensor:
    """Row times column; PyTorch takes `bmm` for what has more dimensions than two.

    On the processor oneDNN takes products of bfloat16 above 16³ operations (ATen/native/mkldnn/Matmul.cpp), with a
    workspace of its own: up to 64 bytes a row and a column and 64 KiB in all shapes watched (86,656 for 600 × 400).
    """
    operator = "aten::mm" if len(parameter.shape) == 2 else "aten::bmm"
    made = kernels.make(of(parameter), operator)
    if kernels.device == "cpu" and parameter.dtype == "bfloat16" and parameter.elements > _ONEDNN_ABOVE:
        at_most = 64 * sum(parameter.shape[-2:]) + 64 * 1024
        kernels.recorder.doubt(at_most, operator, "oneDNN's workspace for a product of bfloat16")
    return made


def _row_mean(kernels: Kernels, parameter: Parameter) -> Tensor:
    return kernels.mean(_row(parameter), (*parameter.shape[:-2], 1, 1))


def adafactor_single(kernels: Kernels, settings: Settings, parameters: Sequence[Parameter]) -> None:
    """`_single_tensor_adafactor`: the update of one parameter lives until that of the next one is there."""
    make_state(kernels, settings, parameters)
    scope = Scope(kernels, "grad", "row_mean", "col_mean", "var_estimate", "grad_squared", "update")
    for parameter in parameters:
        scope.bind("grad", *([kernels.make(of(parameter), "aten::neg")] if settings.maximize else []))
        kernels.count(1, together=False, host=True)
        _norm(kernels, parameter.dtype)
        if settings.weight_decay:
            kernels.number(parameter.dtype, "aten::mul_")
        if len(parameter.shape) > 1:
            for name, like in (("row_mean", _row(parameter)), ("col_mean", _column(parameter))):
                mean = kernels.make(like, _NORM)
                kernels.number(parameter.dtype, "aten::div_", whole=True)
                scope.bind(name, mean)
            scope.bind("var_estimate", _estimate(kernels, parameter))
            kernels.drop(_row_mean(kernels, parameter))
        else:
            scope.bind("grad_squared", kernels.make(of(parameter), "aten::mul"))
            scope.bind("var_estimate", kernels.make(of(parameter), "aten::clone"))
        scope.share("update", "var_estimate")
        _norm(kernels, parameter.dtype)
    scope.leave()


def _by_rank(parameters: Sequence[Parameter], device: str) -> list[list[Parameter]]:
    """Groups by device and dtype, each split into matrices and vectors, whichever comes first."""
    found: list[list[Parameter]] = []
    for group in groups(parameters, device):
        split: dict[bool, list[Parameter]] = {}
        for parameter in group:
            split.setdefault(len(parameter.shape) > 1, []).append(parameter)
        found += split.values()
    return found


def adafactor_foreach(kernels: Kernels, settings: Settings, parameters: Sequence[Parameter]) -> None:
    """`_multi_tensor_adafactor`."""
    make_state(kernels, settings, parameters)
    scope = Scope(kernels, "device_grads", "means", "var_estimates", "row_var_means", "grads_squared", "updates")
    for group in _by_rank(parameters, kernels.device):
        scope.delete("device_grads")
        scope.bind(
            "device_grads", *[kernels.make(of(item), "aten::_foreach_neg") for item in group if settings.maximize]
        )
        kernels.count(len(group), together=True, host=True)
        for item in group:
            _norm(kernels, item.dtype)
        if settings.weight_decay:
            _numbers(kernels, group, "aten::_foreach_mul_")
        if len(group[0].shape) > 1:
            for like in (_row, _column):
                scope.bind("means", *[kernels.make(like(item), _NORM) for item in group])
                _numbers(kernels, group, "aten::_foreach_div_", whole=True)
                scope.delete("means")
            scope.bind("var_estimates", *[_estimate(kernels, item) for item in group])
            scope.bind("row_var_means", *[_row_mean(kernels, item) for item in group])
            scope.delete("row_var_means")
        else:
            scope.bind("grads_squared", *[kernels.make(of(item), "aten::_foreach_mul") for item in group])
            scope.delete("grads_squared")
            scope.bind("var_estimates", *[kernels.make(of(item), "aten::clone") for item in group])
        scope.share("updates", "var_estimates")
        for item in group:
            _norm(kernels, item.dtype)
        _numbers(kernels, group, "aten::_foreach_mul_")
    scope.leave()


def _numbers(kernels: Kernels, group: Sequence[Parameter], operator: str, *, whole: bool = False) -> None:
    for item in group:
        kernels.number(item.dtype, operator, whole=whole)
