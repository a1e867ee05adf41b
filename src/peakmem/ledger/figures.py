"""Networks of claims, looked at once: studies and logs of training steps by context, each made when first asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING

from peakmem.binding import bound
from peakmem.conventions import CONVENTIONS
from peakmem.dtypes import parse_dtype
from peakmem.errors import UsageError
from peakmem.ir.graph import Graph
from peakmem.ledger.context import Context, is_built_in
from peakmem.ledger.value import Item, Kind, Value, nbytes
from peakmem.parameters import Parameters, parameters
from peakmem.pipeline import load, paused_collection, retype
from peakmem.study import Study

if TYPE_CHECKING:
    from peakmem.training.log import Log

MOST_STUDIES = 100
MOST_LOGS = 16
# kept at a time; values that were asked for are kept all


class Figures:
    """Everything computed so far, by what it was computed from."""

    def __init__(self) -> None:
        self.items: dict[Hashable, Item] = {}
        # results of functions
        self._loaded: dict[Hashable, Graph] = {}
        self._studies: OrderedDict[Context, tuple[Study, Parameters, Kind]] = OrderedDict()
        self._logs: dict[tuple[Context, str], Log] = {}

    def study(self, context: Context) -> Study:
        """The network under `context`.

        Raises:
            PeakmemError: it cannot be read, or its sizes are not what is asked for.
        """
        return self._made(context)[0]

    def stored(self, context: Context) -> Parameters:
        """What the source stores, before it is counted in another dtype."""
        return self._made(context)[1]

    def kind(self, context: Context) -> Kind:
        """Whether everything in the network is known."""
        return self._made(context)[2]

    def convention(self, name: str, context: Context) -> Value:
        """A convention's bytes."""
        study = self.study(context)
        if study.stored.weights_only and name not in ("weights", "weights_only"):
            raise UsageError(f"{name} needs operators; {context.network!r} holds weights alone")
        found = CONVENTIONS[name].compute(study)
        return nbytes(found.nbytes, self.kind(context), found.operator)

    def _made(self, context: Context) -> tuple[Study, Parameters, Kind]:
        key = _sized(context)
        if key in self._studies:
            self._studies.move_to_end(key)
            return self._studies[key]
        with paused_collection():
            made = self._retyped(key) if key.dtype else self._bound(key)
        self._studies[key] = made
        if len(self._studies) > MOST_STUDIES:
            self._studies.popitem(last=False)
        return made

    def _bound(self, key: Context) -> tuple[Study, Parameters, Kind]:
        graph = bound(self._load(key), batch=key.batch, shapes=dict(key.shape) or None, dims=dict(key.dims) or None)
        stored = parameters(graph)
        unsized = graph.unknowns or any(tensor.nbytes is None for tensor in graph.tensors.values())
        study = Study(graph, hold_inputs=key.hold_inputs, known_parameters=stored)
        return study, stored, "lower bound" if unsized else "estimate"

    def _retyped(self, key: Context) -> tuple[Study, Parameters, Kind]:
        study, stored, kind = self._made(replace(key, dtype=""))
        if _is_in(study.stored, key.dtype):
            return study, stored, kind
        graph = retype(study.stored, parse_dtype(key.dtype), stored)
        return Study(graph, hold_inputs=key.hold_inputs, known_parameters=parameters(graph)), stored, kind

    def _load(self, context: Context) -> Graph:
        source, options = context.source, context.reading
        key = (source, tuple(options.items()))
        if key not in self._loaded:
            if len(self._loaded) >= MOST_STUDIES:
                self._loaded.clear()
            self._loaded[key] = load(source, options=options or None)
        return self._loaded[key]

    def log(self, context: Context, route: str) -> Log:
        """The log of a training step.

        Raises:
            MissingLibrary: it needs torch, which is not installed.
            PeakmemError: the network cannot be trained so.
        """
        from peakmem.ledger.steps import log

        key = replace(context, assume="", folder="" if is_built_in(context.network) else context.folder)
        if (key, route) not in self._logs:
            if len(self._logs) >= MOST_LOGS:
                self._logs.pop(next(iter(self._logs)))
            self._logs[key, route] = log(key, route)
        return self._logs[key, route]


def _is_in(graph: Graph, dtype: str) -> bool:
    """Whether all floating tensors have this dtype already."""
    if any(operator.subgraphs for operator in graph.operators):
        return False
    floating = {tensor.dtype for tensor in graph.tensors.values() if tensor.dtype and tensor.dtype.kind == "float"}
    return floating == {parse_dtype(dtype)}


def _sized(context: Context) -> Context:
    """The part of a context that a network's sizes depend on."""
    folder = "" if is_built_in(context.network) else context.folder
    return Context(
        network=context.network, batch=context.batch, dtype=context.dtype, shape=context.shape, dims=context.dims,
        hold_inputs=context.hold_inputs, options=context.options, kv_dtype=context.kv_dtype,
        attention=context.attention, folder=folder,
    )  # fmt: skip
