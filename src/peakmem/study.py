"""One network, prepared once and looked at from every side; each view is computed when asked for.

A Study takes an inferred graph. It merges QDQ pairs and folds constants, as every engine does,
and keeps the graph, timeline and layers under each execution assumption.
"""

from __future__ import annotations

from functools import cached_property

from peakmem.ir.graph import Graph
from peakmem.layers import Layer, layers
from peakmem.parameters import Parameters, parameters
from peakmem.passes.assume import assumption
from peakmem.passes.fold import fold_constants
from peakmem.passes.quantise import merge_quantisation
from peakmem.timeline import Timeline, timeline


class Study:
    """Views of one inferred graph; nothing here changes it."""

    def __init__(self, stored: Graph, *, hold_inputs: bool = False, known_parameters: Parameters | None = None) -> None:
        self.stored = stored
        # as read and inferred: what the file holds
        self.hold_inputs = hold_inputs
        self._parameters = known_parameters
        self._graphs: dict[str, Graph] = {}
        self._timelines: dict[str, Timeline] = {}
        self._layers: dict[str, tuple[Layer, ...]] = {}

    @cached_property
    def prepared(self) -> Graph:
        """The graph that runs: QDQ pairs merged, constants folded."""
        return fold_constants(merge_quantisation(self.stored))

    @cached_property
    def parameters(self) -> Parameters:
        """What the model stores."""
        return self._parameters or parameters(self.stored)

    def graph(self, name: str) -> Graph:
        """The graph under the execution assumption `name`."""
        if name not in self._graphs:
            self._graphs[name] = assumption(name).apply(self.prepared)
        return self._graphs[name]

    def timeline(self, name: str) -> Timeline:
        """Live bytes under the execution assumption `name`."""
        if name not in self._timelines:
            self._timelines[name] = timeline(self.graph(name), hold_inputs=self.hold_inputs)
        return self._timelines[name]

    def layers(self, name: str) -> tuple[Layer, ...]:
        """The layer table under the execution assumption `name`."""
        if name not in self._layers:
            self._layers[name] = layers(self.graph(name))
        return self._layers[name]
