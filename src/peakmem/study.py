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
        self._peaks: dict[str, tuple[int, str]] = {}
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
            self._graphs[name] = self._applied(name)
        return self._graphs[name]

    def _applied(self, name: str) -> Graph:
        """The graph under `name`, from one at hand that has the first of its passes behind it."""
        passes = assumption(name).passes
        graph, done = self.prepared, 0
        for other, known in self._graphs.items():
            begun = assumption(other).passes
            if done < len(begun) and passes[: len(begun)] == begun:
                graph, done = known, len(begun)
        for step in passes[done:]:
            graph = step(graph)
        return graph

    def timeline(self, name: str) -> Timeline:
        """Live bytes under the execution assumption `name`."""
        if name not in self._timelines:
            self._timelines[name] = timeline(self.graph(name), hold_inputs=self.hold_inputs)
        return self._timelines[name]

    def peak(self, name: str) -> tuple[int, str]:
        """The live peak under an execution assumption, and the operator it is reached at.

        Nothing else is kept of a timeline that is asked for its peak alone: with many operators
        five of them would be the most of what peakmem itself needs.
        """
        if name not in self._peaks:
            graph = self._graphs.get(name) or self._applied(name)
            line = self._timelines.get(name) or timeline(graph, hold_inputs=self.hold_inputs)
            where = graph.operators[line.peak_step].name if graph.operators else ""
            self._peaks[name] = line.peak_bytes, where
        return self._peaks[name]

    def layers(self, name: str) -> tuple[Layer, ...]:
        """The layer table under the execution assumption `name`."""
        if name not in self._layers:
            self._layers[name] = layers(self.graph(name))
        return self._layers[name]
