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
    from peakmem.budgets.checking import check
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
    from peakmem.filesize.predict import file_size
    from peakmem.fitting.fit import fit
    from peakmem.growth import what_grew
    from peakmem.ir.builder import GraphBuilder
    from peakmem.ir.graph import Graph, Operator, Tensor
    from peakmem.ledger import check_claims
    from peakmem.measurement import list_engines, measure
    from peakmem.measuring.record import Measurement
    from peakmem.pipeline import compare, estimate, load
    from peakmem.prediction import predict
    from peakmem.pricing import cost
    from peakmem.reconciliation import reconcile
    from peakmem.rehearsal import train
    from peakmem.report.check import Check
    from peakmem.report.comparison import Comparison
    from peakmem.report.cost import Cost
    from peakmem.report.file_size import FileSize
    from peakmem.report.fit import Fit
    from peakmem.report.formula import PeakFormula
    from peakmem.report.growth import Growth
    from peakmem.report.model import Estimate
    from peakmem.report.prediction import Predictions
    from peakmem.report.reconciliation import Reconciliation
    from peakmem.report.training import Training
    from peakmem.scaling import peak_formula
    from peakmem.training.scenario import Scenario

_HOMES = {
    "Check": "peakmem.report.check",
    "Comparison": "peakmem.report.comparison",
    "Cost": "peakmem.report.cost",
    "Estimate": "peakmem.report.model",
    "FileSize": "peakmem.report.file_size",
    "Fit": "peakmem.report.fit",
    "FormatError": "peakmem.errors",
    "Graph": "peakmem.ir.graph",
    "GraphBuilder": "peakmem.ir.builder",
    "GraphError": "peakmem.errors",
    "Growth": "peakmem.report.growth",
    "Measurement": "peakmem.measuring.record",
    "MissingLibrary": "peakmem.errors",
    "Operator": "peakmem.ir.graph",
    "PeakFormula": "peakmem.report.formula",
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
    "check": "peakmem.budgets.checking",
    "check_claims": "peakmem.ledger",
    "compare": "peakmem.pipeline",
    "cost": "peakmem.pricing",
    "estimate": "peakmem.pipeline",
    "file_size": "peakmem.filesize.predict",
    "fit": "peakmem.fitting.fit",
    "list_engines": "peakmem.measurement",
    "load": "peakmem.pipeline",
    "measure": "peakmem.measurement",
    "peak_formula": "peakmem.scaling",
    "predict": "peakmem.prediction",
    "reconcile": "peakmem.reconciliation",
    "train": "peakmem.rehearsal",
    "what_grew": "peakmem.growth",
}

__all__ = [
    "Check",
    "Comparison",
    "Cost",
    "Estimate",
    "FileSize",
    "Fit",
    "FormatError",
    "Graph",
    "GraphBuilder",
    "GraphError",
    "Growth",
    "Measurement",
    "MissingLibrary",
    "Operator",
    "PeakFormula",
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
    "check",
    "check_claims",
    "compare",
    "cost",
    "estimate",
    "file_size",
    "fit",
    "list_engines",
    "load",
    "measure",
    "peak_formula",
    "predict",
    "reconcile",
    "train",
    "what_grew",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
