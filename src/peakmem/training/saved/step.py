"""The log of training steps of a graph: what PyTorch would allocate if this network were a module of its own.

As a training loop writes it: gradients cleared, forward and loss, backward, optimizer. An estimate: the graph does not
tell what the code holds besides, nor which norms and which dropout it has in training.
"""

from __future__ import annotations

from dataclasses import replace

from peakmem.dtypes import FLOAT32, INT64
from peakmem.errors import UsageError
from peakmem.ir.graph import Graph
from peakmem.training import optimizers
from peakmem.training.log import Category, Log
from peakmem.training.recorder import Recorder
from peakmem.training.saved import losses, paths, pointwise
from peakmem.training.saved.autocast import Cache
from peakmem.training.saved.eager import Eager, Value
from peakmem.training.saved.engine import Leaf, backward
from peakmem.training.saved.network import Network, prepared
from peakmem.training.saved.walk import Walk
from peakmem.training.scenario import Optimizer, Scenario
from peakmem.training.workspaces import AMPERE, Machine

ESTIMATE = "an estimate from the graph by autograd's rules, not a trace: the file holds no training code"


def graph_log(graph: Graph, scenario: Scenario, *, attention: str = "fused") -> Log:
    """The log of `scenario.steps` training steps of a network whose dimensions all have values.

    Args:
        graph: as `peakmem.binding.bound` returns it.
        scenario: what is asked; `batch`, `sequence` and `resolution` are in the graph already.
        attention: "fused" takes attention that is written out for one kernel, "written" for what it is.

    Raises:
        UnboundDimension: a dimension without a value.
        GraphError: nothing learns, integer arithmetic, branches and loops.
        UsageError: a scenario that a graph cannot be put under.
    """
    _answerable(scenario)
    network = prepared(graph, scenario, attention=attention)
    recorder = Recorder(device=scenario.device, origin="graph")
    return _Training(network, scenario, recorder).log()


def _answerable(scenario: Scenario) -> None:
    if scenario.lora is not None:
        raise UsageError("adapters cannot be put into a graph from a file", hint="a trace of the model, or --freeze")
    if scenario.sharding.ranks > 1 or scenario.sharding.tensor > 1:
        raise UsageError("sharding is not worked out from a graph", hint="the closed forms, or a trace")
    if scenario.precision == "bf16-master":
        raise UsageError(
            "master copies are not worked out from a graph", expected="float32, amp-bf16, amp-fp16, bf16 or fp16"
        )


def _machine(scenario: Scenario) -> Machine | None:
    """The card that is meant; None on the processor."""
    if scenario.device != "cuda":
        return None
    return replace(
        AMPERE,
        capability=scenario.capability or AMPERE.capability,
        multiprocessors=scenario.multiprocessors or AMPERE.multiprocessors,
    )


class _Training:
    """One log in the making."""

    def __init__(self, network: Network, scenario: Scenario, recorder: Recorder) -> None:
        self.network, self.scenario, self.recorder = network, scenario, recorder
        self.e = Eager(recorder, scenario.device, _machine(scenario))
        self.leaves: list[Leaf] = []
        self.constants: dict[str, Value] = {}
        self.held: list[Value] = []
        # what nothing in the graph reads: counters of batch norms
        self.inputs: dict[str, Value] = {}
        self.target: Value | None = None
        self.loss_name = ""
        self.state = optimizers.OptimizerState()

    def log(self) -> Log:
        """All steps."""
        self._build()
        paths_of_steps = [step.module for step in self.network.steps]
        blocks: dict[str, str] = {}
        if self.scenario.recompute:
            blocks = paths.blocks(paths_of_steps, self.scenario.recompute)
            if not blocks:
                raise UsageError(
                    f"no module is meant by recompute {self.scenario.recompute!r}",
                    hint="--recompute 'layers.*' (a pattern of module paths)",
                )
        walk = Walk(self.e, self.network, self.constants, blocks)
        loss: Value | None = None
        for number in range(self.scenario.steps):
            loss = self._step(walk, number)  # the loop's variable holds the one before until then
        self.recorder.notes += self._notes(walk)
        log = self.recorder.finish()
        del loss
        return log

    def _build(self) -> None:
        """Parameters, buffers, a batch with its targets, and what the optimizer makes at once."""
        e, graph = self.e, self.network.graph
        by_storage = {}
        for weight in self.network.weights:
            if weight.tensor.dtype is None or weight.tensor.count is None:
                continue
            e.module = weight.name.rpartition(".")[0]
            category: Category = "parameter" if weight.trains or weight.name in self._frozen() else "buffer"
            shape = tuple(int(dim) for dim in weight.tensor.shape or ())  # type: ignore[arg-type]
            if weight.tensor.count <= 1 and not weight.trains:
                continue  # a number
            value = e.new(shape, weight.tensor.dtype, category=category, name=weight.name, operator="aten::empty")
            if weight.trains:
                leaf = Leaf(e, weight.name, value)
                value.edge = (leaf, 0)
                self.leaves.append(leaf)
            by_storage[weight.tensor.name] = value
        for name, tensor in graph.tensors.items():
            root = tensor.storage or name
            if tensor.role == "constant" and root in by_storage:
                self.constants[name] = by_storage[root]
        e.module = ""
        for _ in range(self.network.norms):
            self.held.append(e.new((), INT64, "aten::zeros", category="buffer", name="num_batches_tracked"))
        optimizers.write_build(self.recorder, self._parameters(), self._optimizer(), self.state, self.scenario.device)
        for name in graph.inputs:
            tensor = graph.tensors[name]
            if tensor.dtype is not None and tensor.role != "constant":
                shape = tuple(int(dim) for dim in tensor.shape or ())  # type: ignore[arg-type]
                self.inputs[name] = e.new(shape, tensor.dtype, "aten::empty", category="input", name=name)
        scores = [graph.tensors[name] for name in graph.outputs]
        floats = [tensor for tensor in scores if tensor.dtype is not None and tensor.dtype.kind == "float"]
        if len(floats) == 1:
            shape = tuple(int(dim) for dim in floats[0].shape or ())  # type: ignore[arg-type]
            tokens = any(value.dtype.kind == "int" for value in self.inputs.values())
            self.loss_name, wanted, dtype = losses.targets(shape, tokens=tokens)
            self.target = e.new(wanted, dtype or floats[0].dtype, "aten::empty", category="input", name="target")  # type: ignore[arg-type]

    def _frozen(self) -> set[str]:
        return {
            weight.name for weight in self.network.weights if weight.kept and not weight.trains and self.scenario.freeze
        }

    def _step(self, walk: Walk, number: int) -> Value:
        """One training step; its loss."""
        self.recorder.enter("zero_grad", number)
        if self.scenario.set_to_none:
            for leaf in self.leaves:
                leaf.gradient = None
        loss: Value | None = None
        for _ in range(self.scenario.accumulate):
            self.recorder.enter("forward")
            new = self._loss(walk)
            loss = new
            del new
            first = self.e.new(loss.shape, loss.dtype, "aten::ones_like")
            self.recorder.enter("backward")
            backward(self.e, loss, first)
            loss.edge = None
            del first
        self.recorder.enter("optimizer")
        optimizers.write_step(self.recorder, self._parameters(), self._optimizer(), self.state, self.scenario.device)
        assert loss is not None
        return loss

    def _loss(self, walk: Walk) -> Value:
        e, narrow = self.e, self.network.narrow
        e.cache = Cache() if narrow is not None else None
        outputs = walk.forward(self.inputs)
        e.module = ""
        if self.target is None:
            loss = losses.mean_of_all(e, outputs)
        else:
            if self.network.graph.format == "hf_config":  # loss_utils.py of transformers: logits.float()
                outputs.append(pointwise.cast(e, outputs.pop(), FLOAT32))
            loss = losses.LOSSES[self.loss_name](e, outputs.pop(), self.target, narrow)
        e.cache = None
        return loss

    def _optimizer(self) -> Optimizer:
        return self.scenario.optimizer or Optimizer()

    def _parameters(self) -> list[optimizers.Parameter]:
        weights = {weight.name: weight for weight in self.network.weights}
        return [
            optimizers.Parameter(leaf.name, leaf.shape, str(weights[leaf.name].tensor.dtype), True)
            for leaf in self.leaves
        ]

    def _notes(self, walk: Walk) -> list[str]:
        notes = [ESTIMATE, f"the loss is {self.loss_name or 'the sum of the means of all outputs'}"]
        notes += self.network.notes
        for kind, count in sorted(walk.unknown.items()):
            notes.append(f"{kind} ({count}×) has no rule: it is taken to keep all that goes in and comes out")
        return notes
