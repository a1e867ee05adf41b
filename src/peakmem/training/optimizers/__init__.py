"""What optimizers allocate: their state, and every temporary of a step in its order.

Layouts are data, read from the sources of the libraries; steps are written event by event into a recorder, so that a
producer without torch can write its optimizer phase and a log can have its optimizer replaced. No torch in here.
"""

from peakmem.training.optimizers.layouts import StateTensor, layout, state_bytes
from peakmem.training.optimizers.parameters import OptimizerState, Parameter
from peakmem.training.optimizers.replace import (
    parameters_of,
    with_none_gradients,
    with_optimizer,
    with_zeroed_gradients,
)
from peakmem.training.optimizers.settings import KNOWN, Settings, settle
from peakmem.training.optimizers.write import write_build, write_step

__all__ = [
    "KNOWN", "OptimizerState", "Parameter", "Settings", "StateTensor", "layout", "parameters_of", "settle",
    "state_bytes", "with_none_gradients", "with_optimizer", "with_zeroed_gradients", "write_build", "write_step",
]  # fmt: skip
