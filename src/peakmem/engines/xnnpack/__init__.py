"""XNNPACK: what a runtime holds for a subgraph, whoever defines it."""

from peakmem.engines.xnnpack.held import Held
from peakmem.engines.xnnpack.runtime import hold
from peakmem.engines.xnnpack.subgraph import Node, Subgraph, Value, Window

__all__ = ["Held", "Node", "Subgraph", "Value", "Window", "hold"]
