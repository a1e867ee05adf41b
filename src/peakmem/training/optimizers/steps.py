"""Steps of SGD, Adam, RMSprop and Adagrad, operator by operator, as torch 2.13's `torch/optim` takes them.

Each function stands beside one of torch's (`_single_tensor_adam`, …): names are bound, bound anew and cleared where
its names are, since that is when tensors go. What allocates nothing (`lerp_`, `addcmul_`, `addcdiv_`, `add_` with an
alpha) is not written down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from peakmem.training.optimizers.groups import groups
from peakmem.training.optimizers.kernels import Kernels, Scope, Tensor, of
from peakmem.training.optimizers.layouts import layout
from peakmem.training.optimizers.parameters import Parameter
from peakmem.training.optimizers.settings import Settings

Parameters = Sequence[Parameter]
Step = Callable[[Kernels, Settings, Parameters], None]


def make_state(kernels: Kernels, settings: Settings, parameters: Parameters) -> None:
    """State of parameters that have none yet: torch's `_init_group`."""
    for parameter in parameters:
        if parameter.name not in kernels.state.made:
            kernels.state.made.add(parameter.name)
            for item in layout(settings, parameter):
                kernels.keep(parameter, item.shape, item.dtype, item.operator, host=item.host)


def _gradients(kernels: Kernels, settings: Settings, scope: Scope, name: str, group: Parameters) -> None:
    """Gradients of a group, negated to maximise."""
    scope.bind(name, *(kernels.make(of(item), "aten::_foreach_neg") for item in group if settings.maximize))


def _decay(kernels: Kernels, settings: Settings, scope: Scope, name: str, group: Parameters) -> None:
    """Weight decay of a group: in place on the parameters or on negated gradients, else new gradients."""
    if settings.weight_decay and settings.decoupled:
        _numbers(kernels, group, "aten::_foreach_mul_")
    elif settings.weight_decay and not settings.maximize:
        scope.bind(name, *[kernels.make(of(item), "aten::_foreach_add") for item in group])


def _gradient(kernels: Kernels, settings: Settings, scope: Scope, parameter: Parameter) -> None:
    """The gradient of one parameter, negated to maximise."""
    scope.bind("grad", *([kernels.make(of(parameter), "aten::neg")] if settings.maximize else []))


def _decay_one(kernels: Kernels, settings: Settings, scope: Scope, parameter: Parameter) -> None:
    if settings.weight_decay and settings.decoupled:
        kernels.number(parameter.dtype, "aten::mul_")
    elif settings.weight_decay:
        scope.bind("grad", kernels.make(of(parameter), "aten::add"))


def _numbers(kernels: Kernels, group: Parameters, operator: str) -> None:
    """An operation of each tensor with a number."""
    for item in group:
        kernels.number(item.dtype, operator)


def _roots(kernels: Kernels, group: Parameters) -> list[Tensor]:
    return [kernels.make(of(item), "aten::_foreach_sqrt") for item in group]


# SGD -----------------------------------------------------------------------------------------------------------------


def _buffer(kernels: Kernels, settings: Settings, parameter: Parameter) -> None:
    """The momentum of one parameter: made from its first gradient, later scaled in place."""
    if parameter.name in kernels.state.made:
        kernels.number(parameter.dtype, "aten::mul_")
    else:
        make_state(kernels, settings, [parameter])


def sgd_single(kernels: Kernels, settings: Settings, parameters: Parameters) -> None:
    """`_single_tensor_sgd`."""
    scope = Scope(kernels, "grad")
    for parameter in parameters:
        _gradient(kernels, settings, scope, parameter)
        _decay_one(kernels, settings, scope, parameter)
        if settings.momentum:
            _buffer(kernels, settings, parameter)
            scope.bind("grad", *([kernels.make(of(parameter), "aten::add")] if settings.nesterov else []))
    scope.leave()


def sgd_foreach(kernels: Kernels, settings: Settings, parameters: Parameters) -> None:
    """`_multi_tensor_sgd`: Nesterov's term is added to the gradients in place."""
    scope = Scope(kernels, "device_grads")
    for group in groups(parameters, kernels.device):
        scope.delete("device_grads")
        _gradients(kernels, settings, scope, "device_grads", group)
        _decay(kernels, settings, scope, "device_grads", group)
        if settings.momentum:
            for parameter in group:
                _buffer(kernels, settings, parameter)
            if not settings.nesterov:
                scope.delete("device_grads")
    scope.leave()


def sgd_fused(kernels: Kernels, settings: Settings, parameters: Parameters) -> None:
    """`_fused_sgd`."""
    make_state(kernels, settings, parameters)


# Adam ----------------------------------------------------------------------------------------------------------------


def adam_single(kernels: Kernels, settings: Settings, parameters: Parameters) -> None:
    """`_single_tensor_adam`: the denominator of one parameter lives until that of the next one is there."""
    make_state(kernels, settings, parameters)
    scope = Scope(kernels, "grad", "denom")
    for parameter in parameters:
        _gradient(kernels, settings, scope, parameter)
        kernels.count(1, together=False, host=True)
        _decay_one(kernels, settings, scope, parameter)
        kernels.number(parameter.dtype, "aten::mul_")
        root = kernels.make(of(parameter), "aten::sqrt")
        quotient = kernels.number(parameter.dtype, "aten::div", gives=of(parameter))
        kernels.drop(root)
        kernels.number(parameter.dtype, "aten::add_")
        scope.bind("denom", *([quotient] if quotient else []))
    scope.leave()


def adam_foreach(kernels: Kernels, settings: Settings, parameters: Parameters) -> None:
    """`_multi_tensor_adam`: roots of all second moments at once."""
    make_state(kernels, settings, parameters)
    scope = Scope(kernels, "device_grads", "exp_avg_sq_sqrt")
    for group in groups(parameters, kernels.device):
        _gradients(kernels, settings, scope, "device_grads", group)
        kernels.count(len(group), together=True, host=True)
        _decay(kernels, settings, scope, "device_grads", group)
        _numbers(kernels, group, "aten::_foreach_mul_")
        scope.delete("device_grads")
        scope.bind("exp_avg_sq_sqrt", *_roots(kernels, group))
        _numbers(kernels, group, "aten::_foreach_div_")
        _numbers(kernels, group, "aten::_foreach_add_")
    scope.leave()


def counted_fused(kernels: Kernels, settings: Settings, parameters: Parameters) -> None:
    """`_fused_adam` and `_fused_adagrad`: one kernel, no temporaries; counters are on the device."""
    make_state(kernels, settings, parameters)
    for group in groups(parameters, kernels.device):
        kernels.count(len(group), together=False, host=False)


# RMSprop -------------------------------------------------------------------------------------------------------------


def rmsprop_single(kernels: Kernels, settings: Settings, parameters: Parameters) -> None:
    """`_single_tensor_rmsprop`."""
    make_state(kernels, settings, parameters)
    scope = Scope(kernels, "grad", "avg")
    for parameter in parameters:
        scope.delete("grad")
        _gradient(kernels, settings, scope, parameter)
        kernels.count(1, together=False, host=True)
        _decay_one(kernels, settings, scope, parameter)
        kernels.number(parameter.dtype, "aten::mul_")
        scope.bind("avg", kernels.make(of(parameter), "aten::addcmul" if settings.centered else "aten::sqrt"))
        kernels.number(parameter.dtype, "aten::add_")
        if settings.momentum > 0:
            kernels.number(parameter.dtype, "aten::mul_")
    scope.leave()


def rmsprop_foreach(kernels: Kernels, settings: Settings, parameters: Parameters) -> None:
    """`_multi_tensor_rmsprop`."""
    make_state(kernels, settings, parameters)
    scope = Scope(kernels, "grouped_grads", "avg")
    for group in groups(parameters, kernels.device):
        scope.delete("grouped_grads")
        _gradients(kernels, settings, scope, "grouped_grads", group)
        kernels.count(len(group), together=True, host=True)
        _decay(kernels, settings, scope, "grouped_grads", group)
        _numbers(kernels, group, "aten::_foreach_mul_")
        operator = "aten::_foreach_addcmul" if settings.centered else "aten::_foreach_sqrt"
        scope.bind("avg", *[kernels.make(of(item), operator) for item in group])
        _numbers(kernels, group, "aten::_foreach_add_")
        if settings.momentum > 0:
            _numbers(kernels, group, "aten::_foreach_mul_")
    scope.leave()


# Adagrad -------------------------------------------------------------------------------------------------------------


def adagrad_single(kernels: Kernels, settings: Settings, parameters: Parameters) -> None:
    """`_single_tensor_adagrad`."""
    make_state(kernels, settings, parameters)
    scope = Scope(kernels, "grad", "std")
    for parameter in parameters:
        scope.delete("grad")
        kernels.count(1, together=False, host=True)
        _gradient(kernels, settings, scope, parameter)
        _decay_one(kernels, settings, scope, parameter)
        root = kernels.make(of(parameter), "aten::sqrt")
        kernels.number(parameter.dtype, "aten::add_")
        scope.bind("std", root)
    scope.leave()


def adagrad_foreach(kernels: Kernels, settings: Settings, parameters: Parameters) -> None:
    """`_multi_tensor_adagrad`: gradients are scaled in place where they are copies already."""
    make_state(kernels, settings, parameters)
    scope = Scope(kernels, "device_grads", "std", "numerator")
    for group in groups(parameters, kernels.device):
        scope.delete("device_grads")
        _gradients(kernels, settings, scope, "device_grads", group)
        kernels.count(len(group), together=True, host=True)
        _decay(kernels, settings, scope, "device_grads", group)
        scope.bind("std", *_roots(kernels, group))
        _numbers(kernels, group, "aten::_foreach_add_")
        if settings.weight_decay or settings.maximize:
            _numbers(kernels, group, "aten::_foreach_mul_")
            scope.share("numerator", "device_grads")
        else:
            products = [kernels.number(item.dtype, "aten::_foreach_mul", gives=of(item)) for item in group]
            scope.bind("numerator", *[item for item in products if item])
    scope.leave()
