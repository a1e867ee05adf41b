"""The inference pass: from input shapes to the shape, dtype and small contents of every tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from peakmem.ir.graph import Graph
from peakmem.ir.shapes.binding import bind, refuse_unbound, unbound
from peakmem.ir.shapes.facts import LARGEST_TENSOR, Fact
from peakmem.ir.shapes.operators import Fallback, infer_operator
from peakmem.ir.shapes.walk import Walk


def infer(
    graph: Graph,
    *,
    dims: Mapping[str, int] | None = None,
    fallback: Fallback | None = None,
    trust_declared: bool = True,
    symbolic: bool = False,
) -> Graph:
    """`graph` with the shape and dtype of every tensor that can be told.

    Args:
        graph: inputs and constants carry shapes; other shapes are what the file declares.
        dims: values for symbols, those that data-dependent operators introduce included.
        fallback: asked for operators without a rule.
        trust_declared: whether declared shapes may stand in for what cannot be inferred; false
            after an input was given another shape than the file's.
        symbolic: keep symbols of the inputs instead of refusing them.

    Raises:
        UnboundDimension: an input has a symbolic dimension without a value.
        ShapeError: shapes contradict each other.
    """
    if not symbolic:
        refuse_unbound(graph)
    walk = Walk(dims or {}, fallback, trust_declared, graph.opsets)
    inferred = walk.graph(graph, {})
    return replace(inferred, unknowns=(*graph.unknowns, *walk.unknowns), notes=(*graph.notes, *walk.notes()))


__all__ = [
    "LARGEST_TENSOR",
    "Fact",
    "Fallback",
    "bind",
    "infer",
    "infer_operator",
    "unbound",
]
