"""Execution assumptions: what we suppose an engine does, by name, as lists of passes.

An assumption never looks at an engine; engines have their own rules. It is the frame in which a
live peak is exact for a serial executor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from peakmem.errors import UsageError
from peakmem.ir.graph import Graph
from peakmem.passes.alias import alias_in_place, alias_views, own_buffers
from peakmem.passes.fuse import fuse_pointwise


@dataclass(frozen=True, slots=True)
class Assumption:
    """A named way of running a graph."""

    name: str
    title: str
    passes: tuple[Callable[[Graph], Graph], ...]

    def apply(self, graph: Graph) -> Graph:
        """`graph` as it runs under this assumption."""
        for step in self.passes:
            graph = step(graph)
        return graph


ASSUMPTIONS: Mapping[str, Assumption] = {
    assumption.name: assumption
    for assumption in (
        Assumption("naive", "every output has a buffer of its own", (own_buffers,)),
        Assumption("eager", "every operator runs by itself; views share the buffer of their input", (alias_views,)),
        Assumption(
            "inplace",
            "as eager, and elementwise operators write over an input that nobody reads later",
            (alias_views, alias_in_place),
        ),
        Assumption(
            "fused",
            "convolution, product, norm or sum and the activation after it are one operator; views share",
            (fuse_pointwise, alias_views),
        ),
        Assumption(
            "fused_add",
            "as fused, and elementwise operators such as a residual sum write over an input",
            (fuse_pointwise, alias_views, alias_in_place),
        ),
    )
}
DEFAULT_ASSUMPTION = "fused"


def assumption(name: str) -> Assumption:
    """The assumption called `name` (`fused-add` and `fused_add` are the same).

    Raises:
        UsageError: there is none of that name.
    """
    found = ASSUMPTIONS.get(name.replace("-", "_"))
    if found is None:
        raise UsageError(
            f"no execution assumption is called {name!r}", expected=f"one of {', '.join(ASSUMPTIONS)}",
            hint=f"--assume {DEFAULT_ASSUMPTION}",
        )  # fmt: skip
    return found
