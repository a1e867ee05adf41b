"""How much memory a neural network needs, before it runs.

    >>> import peakmem
    >>> answer = peakmem.estimate("mobilenet_v1", batch=1)
    >>> answer.peak_bytes, answer.weights_bytes
    (4816896, 17015584)

`load` reads a model file or a built-in network into a Graph, `estimate` computes the report, `predict` says what an
engine will hold with it, `measure` runs it on engines and tells what it took, `reconcile` puts both side by side and
names every byte between; `list_engines` lists them. `train` says what a training step needs. Names are imported when
they are first used, so that `import peakmem` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from peakmem._version import __version__

if TYPE_CHECKING:
    from peakmem.engines.prediction import Processor
    from peakmem.errors import (
        FormatError,
        GraphError,
        MissingLibrary,
        PeakmemError,
        ShapeError,
        UnboundDimension,
        UsageError,
    )
    from peakmem.ir.builder import GraphBuilder
    from peakmem.ir.graph import Graph, Operator, Tensor
    from peakmem.measurement import list_engines, measure
    from peakmem.measuring.record import Measurement
    from peakmem.pipeline import compare, estimate, load
    from peakmem.prediction import predict
    from peakmem.reconciliation import reconcile
    from peakmem.rehearsal import train
    from peakmem.report.comparison import Comparison
    from peakmem.report.model import Estimate
    from peakmem.report.prediction import Predictions
    from peakmem.report.reconciliation import Reconciliation
    from peakmem.report.training import Training
    from peakmem.training.scenario import Scenario

_HOMES = {
    "Comparison": "peakmem.report.comparison",
    "Estimate": "peakmem.report.model",
    "FormatError": "peakmem.errors",
    "Graph": "peakmem.ir.graph",
    "GraphBuilder": "peakmem.ir.builder",
    "GraphError": "peakmem.errors",
    "Measurement": "peakmem.measuring.record",
    "MissingLibrary": "peakmem.errors",
    "Operator": "peakmem.ir.graph",
    "PeakmemError": "peakmem.errors",
    "Predictions": "peakmem.report.prediction",
    "Processor": "peakmem.engines.prediction",
    "Reconciliation": "peakmem.report.reconciliation",
    "Scenario": "peakmem.training.scenario",
    "ShapeError": "peakmem.errors",
    "Tensor": "peakmem.ir.graph",
    "Training": "peakmem.report.training",
    "UnboundDimension": "peakmem.errors",
    "UsageError": "peakmem.errors",
    "compare": "peakmem.pipeline",
    "estimate": "peakmem.pipeline",
    "list_engines": "peakmem.measurement",
    "load": "peakmem.pipeline",
    "measure": "peakmem.measurement",
    "predict": "peakmem.prediction",
    "reconcile": "peakmem.reconciliation",
    "train": "peakmem.rehearsal",
}

__all__ = [
    "Comparison",
    "Estimate",
    "FormatError",
    "Graph",
    "GraphBuilder",
    "GraphError",
    "Measurement",
    "MissingLibrary",
    "Operator",
    "PeakmemError",
    "Predictions",
    "Processor",
    "Reconciliation",
    "Scenario",
    "ShapeError",
    "Tensor",
    "Training",
    "UnboundDimension",
    "UsageError",
    "__version__",
    "compare",
    "estimate",
    "list_engines",
    "load",
    "measure",
    "predict",
    "reconcile",
    "train",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
