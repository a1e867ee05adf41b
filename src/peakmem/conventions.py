"""The registry of named definitions of "memory", each with formula, source and value.

Papers and tools use one word for many quantities. Here each has a name, says what it includes
and leaves out, and is computed from the same graph, so that a published number can be matched to
its definition. Values are bytes at the dtypes of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from peakmem.ir import kinds
from peakmem.ir.graph import Graph
from peakmem.layers import Layer
from peakmem.liveness import state_bytes
from peakmem.passes.assume import ASSUMPTIONS
from peakmem.study import Study


@dataclass(frozen=True, slots=True)
class Measure:
    """A value of a convention, and the operator at which a maximum is reached."""

    nbytes: int
    operator: str = ""


@dataclass(frozen=True, slots=True)
class Convention:
    """One named definition of memory."""

    name: str
    title: str
    formula: str
    source: str
    # who uses it
    includes: str
    excludes: str
    compute: Callable[[Study], Measure]
    per_layer: Callable[[Layer], int | None] | None = None
    # what one row of the layer table contributes, None for rows that do not count
    row_formula: str = ""


CONVENTIONS: dict[str, Convention] = {}


def _register(convention: Convention) -> None:
    CONVENTIONS[convention.name] = convention


# -- weights ------------------------------------------------------------------------------


def weights(study: Study) -> Measure:
    """Everything the model stores."""
    return Measure(study.parameters.nbytes())


def _kernels(study: Study) -> Measure:
    return Measure(study.parameters.nbytes("weight"))


# -- sums of outputs ----------------------------------------------------------------------


def _sum_outputs(study: Study) -> Measure:
    return Measure(sum(layer.output_bytes for layer in study.layers("eager")))


def _sum_outputs_in_place(study: Study) -> Measure:
    return Measure(
        sum(
            layer.output_bytes
            for layer, operator in zip(study.layers("eager"), study.graph("eager").operators, strict=True)
            if kinds.key(operator) not in kinds.ACTIVATIONS
        )
    )


def _sum_outputs_weighted(study: Study) -> Measure:
    return Measure(sum(layer.output_bytes for layer in study.layers("eager") if layer.weighted))


def _sum_outputs_conv(study: Study) -> Measure:
    return Measure(sum(layer.output_bytes for layer in study.layers("eager") if layer.weighted == "conv"))


def _sum_outputs_fused(study: Study) -> Measure:
    return Measure(sum(layer.output_bytes for layer in study.layers("fused")))


def _input_bytes(study: Study) -> int:
    return sum(study.stored.tensors[name].nbytes or 0 for name in study.stored.inputs)


def _feature_maps(study: Study) -> Measure:
    return Measure(_sum_outputs(study).nbytes + _input_bytes(study))


# -- largest layers -----------------------------------------------------------------------


def _largest(pairs: Iterator[tuple[int, str]]) -> Measure:
    best = Measure(0)
    for nbytes, name in pairs:
        if nbytes > best.nbytes:
            best = Measure(nbytes, name)
    return best


def _weighted_layers(study: Study) -> Iterator[Layer]:
    return (layer for layer in study.layers("fused") if layer.weighted)


def _in_out(layer: Layer) -> int | None:
    return layer.input_bytes + layer.output_bytes if layer.weighted else None


def _in_out_weights(layer: Layer) -> int | None:
    return layer.input_bytes + layer.output_bytes + layer.weight_bytes if layer.weighted else None


def _output(layer: Layer) -> int | None:
    return layer.output_bytes


def _largest_output(study: Study) -> Measure:
    return _largest((layer.output_bytes, layer.name) for layer in study.layers("eager"))


def _largest_in_out(study: Study) -> Measure:
    return _largest((_in_out(layer) or 0, layer.name) for layer in _weighted_layers(study))


def _largest_in_out_weights(study: Study) -> Measure:
    return _largest((_in_out_weights(layer) or 0, layer.name) for layer in _weighted_layers(study))


def _sum_in_out_weights(study: Study) -> Measure:
    return Measure(sum(_in_out_weights(layer) or 0 for layer in _weighted_layers(study)))


# -- blocks -------------------------------------------------------------------------------


def blocks(rows: tuple[Layer, ...]) -> dict[str, str]:
    """The enclosing block of each conv and linear operator, by operator name; "" without one.

    A block is the deepest module path that holds at least two conv or linear operators, the
    network itself excepted. Graphs without module paths have none.
    """
    members: dict[str, int] = {}
    paths: dict[str, list[str]] = {}
    for layer in rows:
        if not layer.weighted:
            continue
        parts = layer.scope.split("/") if layer.scope else []
        paths[layer.name] = ["/".join(parts[:depth]) for depth in range(len(parts), 0, -1)]
        for path in paths[layer.name]:
            members[path] = members.get(path, 0) + 1
    total = sum(1 for candidates in paths.values() if candidates)
    return {
        name: next((path for path in candidates if 2 <= members[path] < total), "")
        for name, candidates in paths.items()
    }


def _block_inputs(study: Study) -> dict[str, tuple[int, str]]:
    """(bytes, tensor) of the block input that is held at each conv and linear operator."""
    graph, rows = study.graph("fused"), study.layers("fused")
    block_of = blocks(rows)
    if not any(block_of.values()):
        return _forked_inputs(graph, rows)
    producers = graph.producers()
    scope_of_step = [operator.scope for operator in graph.operators]
    held: dict[str, tuple[int, str]] = {}
    entry: dict[str, str] = {}
    for layer, operator in zip(rows, graph.operators, strict=True):
        block = block_of.get(layer.name, "")
        if not block:
            continue
        if block not in entry:
            # The first activation the block reads from outside of it.
            for name in operator.reads:
                tensor = graph.tensors.get(name)
                if tensor is None or tensor.role == "constant":
                    continue
                step = producers.get(name)
                inside = step is not None and _within(scope_of_step[step], block)
                if not inside:
                    entry[block] = name
                    break
        name = entry.get(block, "")
        if name:
            held[layer.name] = (graph.tensors[name].nbytes or 0, name)
    return held


def _forked_inputs(graph: Graph, rows: tuple[Layer, ...]) -> dict[str, tuple[int, str]]:
    """As `_block_inputs` without module paths: from a tensor read twice to its last reader."""
    forks = [
        (steps[0], steps[-1], name)
        for name, steps in graph.consumers().items()
        if len(steps) > 1 and name in graph.tensors and graph.tensors[name].role != "constant"
    ]
    forks.sort(reverse=True)
    held: dict[str, tuple[int, str]] = {}
    open_forks: list[tuple[int, int, str]] = []
    for layer in rows:
        while forks and forks[-1][0] <= layer.step:
            open_forks.append(forks.pop())
        while open_forks and open_forks[-1][1] < layer.step:
            open_forks.pop()
        if layer.weighted and open_forks:
            name = open_forks[-1][2]
            held[layer.name] = (graph.tensors[name].nbytes or 0, name)
    return held


def _within(scope: str, block: str) -> bool:
    return scope == block or scope.startswith(block + "/")


def _block_input_held(study: Study) -> Measure:
    held = _block_inputs(study)
    graph = study.graph("fused")

    def values() -> Iterator[tuple[int, str]]:
        for layer in _weighted_layers(study):
            nbytes = _in_out(layer) or 0
            block = held.get(layer.name)
            if block is not None and block[1] not in graph.operators[layer.step].inputs:
                nbytes += block[0]
            yield nbytes, layer.name

    return _largest(values())


def _mcunet_code(study: Study) -> Measure:
    held = _block_inputs(study)
    graph = study.graph("fused")
    added = {name for operator in graph.operators if kinds.key(operator) in ("Add", "Sum") for name in operator.inputs}

    def values() -> Iterator[tuple[int, str]]:
        for layer in _weighted_layers(study):
            nbytes = _in_out(layer) or 0
            block = held.get(layer.name)
            if layer.depthwise and block is not None and block[1] in added:
                reads = graph.operators[layer.step].inputs
                nbytes += block[0] if block[1] not in reads else 0
            yield nbytes, layer.name

    return _largest(values())


# -- successive layers, live peaks --------------------------------------------------------


def _successive(study: Study, name: str) -> Measure:
    rows = [layer for layer in study.layers(name) if layer.output_bytes]
    best = _largest((a.output_bytes + b.output_bytes, b.name) for a, b in pairwise(rows))
    return best if len(rows) > 1 else _largest((row.output_bytes, row.name) for row in rows)


def _plus_weights(study: Study, measure: Measure) -> Measure:
    return Measure(measure.nbytes + study.parameters.nbytes(), measure.operator)


def _plus_state(study: Study, measure: Measure) -> Measure:
    return Measure(measure.nbytes + state_bytes(study.stored), measure.operator)


def _live(name: str) -> Callable[[Study], Measure]:
    return lambda study: Measure(*study.peak(name))


def _resident(name: str) -> Callable[[Study], Measure]:
    return lambda study: _plus_state(study, _plus_weights(study, _live(name)(study)))


# -- other tools --------------------------------------------------------------------------


def _torchsummary_activations(study: Study) -> Measure:
    return Measure(2 * _sum_outputs(study).nbytes)


def _torchsummary_total(study: Study) -> Measure:
    stored = study.parameters.nbytes("weight", "bias", "norm")
    return Measure(_torchsummary_activations(study).nbytes + stored + _input_bytes(study))


def _torchinfo_activations(study: Study) -> Measure:
    return Measure(2 * sum(layer.output_bytes for layer in study.layers("eager") if layer.weighted or _has_norm(layer)))


def _has_norm(layer: Layer) -> bool:
    if layer.kind in kinds.NORMALIZATIONS:
        return True
    return layer.parameters > 0 and (layer.kind in kinds.RECURRENT or layer.kind in ("Gather", "PRelu"))


def _torchinfo_total(study: Study) -> Measure:
    stored = study.parameters.nbytes("weight", "bias", "norm")
    return Measure(_torchinfo_activations(study).nbytes + stored + _input_bytes(study))


_SEED_003 = "Efficiency Metrics Part 2 (2024), total activations"
_MCUNET = "MCUNet (Lin et al. 2020)"

for _convention in (
    Convention(
        "weights", "weights as stored", "Σ constants × bytes(dtype)", "everyone",
        "weights, biases, norm affine and statistics, quantisation data, literals", "activations", weights,
    ),
    Convention(
        "weights_only", "kernels and matrices as stored", "Σ weights × bytes(dtype)", "parameter formulas of papers",
        "kernels, matrices, embeddings", "biases, norms, statistics, quantisation data", _kernels,
    ),
    Convention(
        "sum_outputs", "sum of all outputs", "Σ over operators of output bytes", _SEED_003,
        "every operator's output, activation functions and norms included", "views, network input, weights",
        _sum_outputs, _output, "output",
    ),
    Convention(
        "sum_outputs_inplace", "sum of outputs, activation functions in place",
        "Σ over operators other than activation functions of output bytes", "PyTorch models with inplace=True",
        "norms, sums, pools", "activation functions, views, network input, weights", _sum_outputs_in_place,
    ),
    Convention(
        "sum_outputs_conv_linear", "sum of conv and linear outputs", "Σ over conv and linear of output bytes",
        "fvcore ActivationCountAnalysis", "outputs of convolutions and matrix products with a stored weight",
        "everything else", _sum_outputs_weighted,
    ),
    Convention(
        "sum_outputs_conv", "sum of conv outputs", "Σ over convolutions of output bytes", "network design papers",
        "outputs of convolutions", "everything else", _sum_outputs_conv,
    ),
    Convention(
        "sum_outputs_fused", "sum of outputs, conv+norm+activation fused",
        "Σ over fused operators of output bytes", "inference engines' layer lists",
        "one tensor per fused layer", "views, network input, weights", _sum_outputs_fused,
    ),
    Convention(
        "feature_maps", "all feature maps × batch, forward only", "input + Σ outputs, at the given batch",
        "What is the memory cost of a CNN? (2017), training", "network input and every output",
        "weights, gradients, optimizer state", _feature_maps,
    ),
    Convention(
        "largest_output", "largest single output", "max over operators of output bytes", "quick estimates",
        "one tensor", "the tensor it is computed from", _largest_output,
    ),
    Convention(
        "layer_in_out", "largest layer, input + output", "max over conv and linear of input + output",
        _MCUNET + " text",
        "activations of one layer", "weights, tensors held for later", _largest_in_out, _in_out, "input + output",
    ),
    Convention(
        "layer_in_out_weights", "largest layer, input + output + weights",
        "max over conv and linear of input + output + kernel", "NCNN Peak Memory Benchmark, layer table",
        "activations and kernel of one layer", "biases, norms, tensors held for later",
        _largest_in_out_weights, _in_out_weights, "input + output + kernel",
    ),
    Convention(
        "layer_in_out_weights_sum", "sum over layers, input + output + weights",
        "Σ over conv and linear of input + output + kernel", "NCNN Peak Memory Benchmark, layer table",
        "activations (twice) and kernels of all layers", "biases, norms", _sum_in_out_weights, _in_out_weights,
        "input + output + kernel",
    ),
    Convention(
        "block_input_held", "input + output + block input held",
        "max over conv and linear of input + output + input of the block",
        _MCUNET + " table: 7.2 / 6.8 / 1.7 MB", "the block's input throughout the block, shortcut or not", "weights",
        _block_input_held,
    ),
    Convention(
        "mcunet_code", "MCUNet's code", "as layer_in_out; at a depthwise conv of a block with shortcut + block input",
        "mcunet count_peak_activation_size", "the shortcut at the depthwise convolution only", "weights",
        _mcunet_code,
    ),
    Convention(
        "two_successive", "two successive layers", "max over neighbours of output(i) + output(i+1)",
        "What is the memory cost of a CNN? (2017), inference", "two outputs", "weights, tensors held for later",
        lambda study: _successive(study, "eager"),
    ),
    Convention(
        "two_successive_weights", "two successive layers + weights",
        "weights + max over neighbours of output(i) + output(i+1)",
        "What is the memory cost of a CNN? (2017), inference", "two outputs and all weights",
        "tensors held for later", lambda study: _plus_weights(study, _successive(study, "eager")),
    ),
    Convention(
        "two_successive_fused", "two successive fused layers", "max over neighbours of fused output(i) + output(i+1)",
        "engines that fuse conv+norm+activation", "two outputs", "weights, tensors held for later",
        lambda study: _successive(study, "fused"),
    ),
):  # fmt: skip
    _register(_convention)

for _assumption in ASSUMPTIONS.values():
    _register(
        Convention(
            f"live_{_assumption.name}", f"live peak, {_assumption.name}",
            f"max over steps of live bytes [{_assumption.name}]",
            "serial executors", f"activations and inputs; {_assumption.title}", "weights, workspace",
            _live(_assumption.name),
        )
    )  # fmt: skip
for _assumption in ASSUMPTIONS.values():
    _register(
        Convention(
            f"resident_{_assumption.name}", f"weights + live peak, {_assumption.name}",
            f"weights + state + max over steps of live bytes [{_assumption.name}]", "engines that hold weights in RAM",
            f"all weights, state, activations and inputs; {_assumption.title}", "workspace, the engine itself",
            _resident(_assumption.name),
        )
    )  # fmt: skip

for _convention in (
    Convention(
        "torchsummary", "torchsummary forward/backward size", "2 × Σ over operators of output bytes",
        "torchsummary 1.5.1", "every output twice, in-place activations as if new",
        "containers, which the tool counts again where a module holds no operator of its own",
        _torchsummary_activations,
    ),
    Convention(
        "torchsummary_total", "torchsummary total size", "input + torchsummary + trainable parameters",
        "torchsummary 1.5.1", "input, every output twice, parameters", "statistics", _torchsummary_total,
    ),
    Convention(
        "torchinfo", "torchinfo forward/backward size", "2 × Σ over operators with parameters of output bytes",
        "torchinfo 1.8.0", "outputs of conv, linear, norm, recurrent and embedding layers twice",
        "activation functions, pools, sums, attention matrices", _torchinfo_activations,
    ),
    Convention(
        "torchinfo_total", "torchinfo total size", "input + torchinfo + trainable parameters", "torchinfo 1.8.0",
        "input, outputs of layers with parameters twice, parameters", "statistics", _torchinfo_total,
    ),
):  # fmt: skip
    _register(_convention)


WEIGHT_CONVENTIONS = ("weights", "weights_only")
# what can be told of a source that holds weights only
