"""One step of an optimizer, written into a recorder as its library would allocate and free."""

from __future__ import annotations

from collections.abc import Sequence

from peakmem.training.optimizers import blockwise, factored, factored_transformers, signs, steps
from peakmem.training.optimizers.kernels import Kernels, Tensor
from peakmem.training.optimizers.parameters import NARROW, OptimizerState, Parameter
from peakmem.training.optimizers.settings import Algorithm, Settings, settle
from peakmem.training.recorder import Recorder
from peakmem.training.scenario import Implementation, Optimizer

_STEPS: dict[tuple[Algorithm, Implementation], steps.Step] = {
    ("sgd", "single"): steps.sgd_single,
    ("sgd", "foreach"): steps.sgd_foreach,
    ("sgd", "fused"): steps.sgd_fused,
    ("adam", "single"): steps.adam_single,
    ("adam", "foreach"): steps.adam_foreach,
    ("adam", "fused"): steps.counted_fused,
    ("rmsprop", "single"): steps.rmsprop_single,
    ("rmsprop", "foreach"): steps.rmsprop_foreach,
    ("adagrad", "single"): steps.adagrad_single,
    ("adagrad", "foreach"): steps.adagrad_foreach,
    ("adagrad", "fused"): steps.counted_fused,
    ("adafactor", "single"): factored.adafactor_single,
    ("adafactor", "foreach"): factored.adafactor_foreach,
    ("adafactor-transformers", "single"): factored_transformers.adafactor_transformers,
    ("lion", "single"): signs.lion_single,
    ("lion", "foreach"): signs.lion_foreach,
    ("blockwise", "fused"): blockwise.blockwise,
}


def write_build(
    recorder: Recorder, parameters: Sequence[Parameter], optimizer: Optimizer, state: OptimizerState, device: str
) -> None:
    """What making the optimizer allocates: Adagrad's sums, the 8-bit ones' tables, copies in 32 bits if asked for."""
    settings = settle(optimizer, device)
    kernels = Kernels(recorder, device, state)
    if settings.master:
        for item in parameters:
            if item.gradient and item.dtype in NARROW:
                kernels.keep(item, item.shape, "float32", "aten::_to_copy")
    if settings.algorithm == "adagrad":
        steps.make_state(kernels, settings, [_widened(item, settings) for item in parameters])
    if settings.algorithm == "blockwise":
        blockwise.make_tables(kernels)


def write_step(
    recorder: Recorder, parameters: Sequence[Parameter], optimizer: Optimizer, state: OptimizerState, device: str
) -> None:
    """What one step allocates and frees; the recorder's phase and step are the caller's to set.

    `state` goes from step to step: what a parameter's first step makes, it makes once. Parameters without a gradient
    are passed over.
    """
    settings = settle(optimizer, device)
    kernels = Kernels(recorder, device, state)
    trained = [item for item in parameters if item.gradient]
    copies = [
        kernels.make(Tensor(item.shape, "float32"), "aten::_to_copy", category="gradient", name=item.name)
        for item in trained
        if settings.master and item.dtype in NARROW
    ]
    _STEPS[settings.algorithm, settings.implementation](
        kernels, settings, [_widened(item, settings) for item in trained]
    )
    for copy in copies:
        kernels.drop(copy)


def _widened(parameter: Parameter, settings: Settings) -> Parameter:
    """The parameter that the optimizer steps: its copy in 32 bits where there is one."""
    return parameter._replace(dtype="float32") if settings.master and parameter.dtype in NARROW else parameter
