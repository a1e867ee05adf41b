"""The forward of a network: its operators in the order of the graph, and blocks that recompute runs once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from peakmem.dtypes import UINT8
from peakmem.ir.kinds import RANDOM
from peakmem.training.saved.eager import Eager, Saved, Value
from peakmem.training.saved.network import Network, Step
from peakmem.training.saved.pointwise import NO_GRADIENT
from peakmem.training.saved.rules import RULES, Call, unknown

SMALL = 4096
# bytes up to which what follows from shapes alone is taken to be Python's numbers
RANDOM_STATE = 5056
# bytes of `torch.get_rng_state()`, torch 2.13


class _Enough(Exception):
    """All that a block had dropped is there again (checkpoint's early stop)."""


class Walk:
    """Runs steps of a network."""

    def __init__(self, e: Eager, network: Network, constants: Mapping[str, Value], blocks: Mapping[str, str]) -> None:
        self.e, self.network, self.constants = e, network, constants
        self.unknown: dict[str, int] = {}
        # operators without a rule: how often each ran
        self.segments = _segments(network.steps, blocks)

    def forward(self, inputs: Mapping[str, Value]) -> list[Value]:
        """The floating outputs of the graph."""
        there = dict(inputs)
        for block, steps in self.segments:
            if block:
                self._checkpointed(steps, there)
            else:
                self.run(steps, there)
        graph = self.network.graph
        return [
            there[name] for name in graph.outputs if name in there and there[name].dtype.kind == "float"
        ]  # fmt: skip

    def run(self, steps: Sequence[Step], there: dict[str, Value]) -> None:
        """Run steps on the tensors that are there, and put theirs beside them."""
        for step in steps:
            self.e.module = step.module
            for name, value in zip(step.operator.outputs, self._results(step, there), strict=False):
                if name and value is not None:
                    there[name] = value
                value = None
            for name in step.frees:
                there.pop(name, None)

    def _results(self, step: Step, there: Mapping[str, Value]) -> Sequence[Value | None]:
        operator, graph = step.operator, self.network.graph
        values = [there.get(name) or self.constants.get(name) if name else None for name in operator.inputs]
        if all(value is None for value in values) and (step.kind not in RANDOM):
            return self._plain(step) if any(self._is_big(name) for name in operator.outputs if name) else []
        if step.kind in NO_GRADIENT:
            return [] if step.kind in ("Shape", "Size") else self._plain(step)
        free = frozenset(
            at for at, name in enumerate(operator.inputs) if name in step.frees and name not in graph.inputs
        )  # fmt: skip
        call = Call(self.e, graph, operator, step.kind, values, free, self.network.narrow, step.residual)
        del values
        run = RULES.get(step.kind)
        if run is None:
            self.unknown[step.kind] = self.unknown.get(step.kind, 0) + 1
            run = unknown
        return run(call)

    def _is_big(self, name: str) -> bool:
        tensor = self.network.graph.tensors[name]
        return tensor.values is None and (tensor.nbytes or 0) > SMALL

    def _plain(self, step: Step) -> list[Value | None]:
        """Outputs through which no gradient goes."""
        found: list[Value | None] = []
        for name in step.operator.outputs:
            tensor = self.network.graph.tensors[name] if name else None
            if tensor is None or tensor.dtype is None:
                found.append(None)
            else:
                found.append(self.e.new(tuple(map(int, tensor.shape or ())), tensor.dtype, step.kind))  # type: ignore[arg-type]
        return found

    def _checkpointed(self, steps: Sequence[Step], there: dict[str, Value]) -> None:
        """Run a block so that nothing of it is kept but what it was given."""
        made = {name for step in steps for name in step.operator.outputs}
        read = {name for step in steps for name in step.operator.inputs if name and name not in made}
        given = {name: _linked(there[name]) for name in read if name in there}
        frame = _Frame(self, steps, given)
        del given
        before, self.e.pack = self.e.pack, frame.drop
        try:
            self.run(steps, there)
        finally:
            self.e.pack = before


class _Frame:
    """One block's forward: what it was given, and the tensors that its backward will ask for."""

    def __init__(self, walk: Walk, steps: Sequence[Step], given: dict[str, Value]) -> None:
        self.walk, self.steps, self.given = walk, steps, given
        self.saved: list[Saved | None] = []
        self.filled = 0
        self.random = self.state()

    def state(self) -> Value | None:
        """The processor's random state, which checkpoint keeps for the second run."""
        e = self.walk.e
        return e.new((RANDOM_STATE,), UINT8, "get_rng_state") if e.device == "cpu" else None

    def drop(self, _value: Value) -> Saved:
        """Remember that a tensor was asked for, and let go of it."""
        saved = Saved(None, self.make)
        self.saved.append(saved)
        return saved

    def make(self, _wanted: Saved) -> None:
        """Run the block again until all that it dropped is there."""
        e = self.walk.e
        before, module, recording = e.pack, e.module, e.recording
        e.pack, e.recording, self.filled = self.fill, True, 0
        own = self.state()  # that the backward goes on with
        try:
            self.walk.run(self.steps, {name: _linked(value) for name, value in self.given.items()})
        except _Enough:
            pass
        finally:
            e.pack, e.module, e.recording = before, module, recording
            self.saved, self.given, self.random = [], {}, None
            del own

    def fill(self, value: Value) -> Saved:
        """Give the next dropped tensor back."""
        saved = self.saved[self.filled]
        assert saved is not None
        saved.value = value.again()
        self.saved[self.filled] = None
        self.filled += 1
        if self.filled == len(self.saved):
            raise _Enough
        return Saved(value.again())


def _linked(value: Value) -> Value:
    same = value.again()
    same.edge = value.edge
    return same


def _segments(steps: Sequence[Step], blocks: Mapping[str, str]) -> list[tuple[str, list[Step]]]:
    """The steps in runs of one block; those between belong to none."""
    found: list[tuple[str, list[Step]]] = []
    for step in steps:
        block = blocks.get(step.module, "")
        if not found or found[-1][0] != block:
            found.append((block, []))
        found[-1][1].append(step)
    return found
