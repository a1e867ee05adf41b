"""Functions on single rows: layers that are alike, phases of a step, what a device does with weights."""

from __future__ import annotations

from typing import get_args

from peakmem.errors import UsageError
from peakmem.ledger.functions.registry import Scope, function, text
from peakmem.ledger.value import Item, nbytes, number
from peakmem.passes.assume import DEFAULT_ASSUMPTION
from peakmem.report.training import Route
from peakmem.training.log import Phase


@function(
    'repeats("Conv2d_7/pointwise")', "how many layers have this one's operator, kernel, stride, input and output",
    "one forward pass",
)  # fmt: skip
def repeats(scope: Scope, name: Item) -> Item:
    """A count of layers, the one that is named included."""
    wanted = text(name, "the layer")
    rows = scope.figures.study(scope.context).layers(scope.context.assume or DEFAULT_ASSUMPTION)
    described = {row.name: (row.op_type, row.kernel, row.stride, row.input_shape, row.output_shape) for row in rows}
    one = described.get(text(wanted, "the layer", tuple(described)))
    return number(sum(1 for other in described.values() if other == one))


@function(
    'phase_peak("backward", batch=32)',
    "the most bytes of tensors within one phase of a training step: forward, backward, optimizer", "a training step",
)  # fmt: skip
def phase_peak(scope: Scope, phase: Item, route: Item = "graph") -> Item:
    """The peak of a phase."""
    from peakmem.training.account import peak

    wanted = text(phase, "the phase", get_args(Phase))
    log = scope.figures.log(scope.context, text(route, "the route", get_args(Route)))
    try:
        top = peak(log, phase=wanted)  # type: ignore[arg-type]
    except ValueError as fault:
        raise UsageError(str(fault), expected="forward, backward or optimizer") from None
    return nbytes(top.nbytes, "estimate", top.operator)


@function(
    'weights_in_flash("stm32f746")', "whether a device reads weights where they are stored, without RAM for them",
    "devices and engines", scoped=False,
)  # fmt: skip
def weights_in_flash(_: Scope, name: Item) -> Item:
    """Yes or no, from the table of devices."""
    from peakmem import devices

    return devices.find(text(name, "the device")).weights_in_flash
