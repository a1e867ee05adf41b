"""How much memory a neural network needs, before it runs.

    >>> import peakmem
    >>> answer = peakmem.estimate("mobilenet_v1", batch=1)
    >>> answer.peak_bytes, answer.weights_bytes
    (4816896, 17015584)

`load` reads a model file or a built-in network into a Graph, `estimate` computes the report, `measure` runs it on
engines and tells what it took; `engines` lists them. Names are imported when they are first used, so that
`import peakmem` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from peakmem._version import __version__

if TYPE_CHECKING:
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
    from peakmem.report.comparison import Comparison
    from peakmem.report.model import Estimate

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
    "ShapeError": "peakmem.errors",
    "Tensor": "peakmem.ir.graph",
    "UnboundDimension": "peakmem.errors",
    "UsageError": "peakmem.errors",
    "compare": "peakmem.pipeline",
    "estimate": "peakmem.pipeline",
    "list_engines": "peakmem.measurement",
    "load": "peakmem.pipeline",
    "measure": "peakmem.measurement",
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
    "ShapeError",
    "Tensor",
    "UnboundDimension",
    "UsageError",
    "__version__",
    "compare",
    "estimate",
    "list_engines",
    "load",
    "measure",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
