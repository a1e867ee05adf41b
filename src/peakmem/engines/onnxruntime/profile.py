"""The profile of ONNX Runtime on its CPU provider: from a graph of ONNX and settings to what it holds.

The parts: `optimise` and `layout` rewrite the graph, `prepack` packs weights, `parse` finds the peak of loading,
`plan` the requests of a run, `arena` what the arena makes of them, `objects` the engine's structures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from peakmem.engines.onnxruntime import parse, prepack, workspace
from peakmem.engines.onnxruntime.arena import Arena
from peakmem.engines.onnxruntime.network import MICROSOFT, NCHWC, Network
from peakmem.engines.onnxruntime.network import Value as NetworkValue
from peakmem.engines.onnxruntime.objects import FIRST_RUN, PROTO, objects
from peakmem.engines.onnxruntime.optimise import LEVELS, UNREAD, optimise
from peakmem.engines.onnxruntime.plan import Event, Plan, pattern_bytes, plan
from peakmem.engines.prediction import Holding, Moment, Prediction, Processor, Unmodelled, Value
from peakmem.errors import GraphError, UsageError
from peakmem.ir.graph import Graph
from peakmem.measuring.engine import engine
from peakmem.passes.fold import fold_constants

NAME = "onnxruntime"
DOMAIN = ""
VERIFIED = "1.31.1"
FORMATS = ("onnx", "zoo")
# a network of the zoo is what its export holds
DOMAINS = ("", "ai.onnx", "com.microsoft")
MEASURED = frozenset({
    "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Constant", "Conv", "ConvTranspose", "Cos", "Div",
    "Dropout", "Elu", "Exp", "Flatten", "Floor", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid",
    "HardSwish", "Identity", "InstanceNormalization", "LRN", "LeakyRelu", "Log", "MatMul", "MaxPool", "Mul", "Neg",
    "PRelu", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Resize", "Round", "Sigmoid", "Sign", "Sin", "Softmax",
    "Softplus", "Softsign", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Transpose", "Unsqueeze",
})  # fmt: skip
# operators whose requests were compared with the engine's, or that are a view
EXTERNAL_FROM = 1024
# bytes; size_threshold of onnx.save_model
STEADY = 3
# runs that are gone through; the pattern begins with the second


@dataclass(slots=True)
class _Run:
    """What the allocator held over one run, above what it held before."""

    top: int
    # activations, results and workspace in use at most
    held: int
    # taken from the system at that time, in use or not
    after: int
    # held at the end
    step: int


def block_floats(processor: Processor) -> int:
    """Channels of a block: MlasNchwcGetBlockSize, onnxruntime/core/mlas/lib/platform.cpp; 0 without the layout."""
    if processor.architecture != "x86_64":
        return 0
    if "avx512f" in processor.features:
        return 16
    return 8 if "avx" in processor.features else 0


class OnnxRuntime:
    """How ONNX Runtime allocates."""

    name = NAME
    domain = DOMAIN

    def predict(self, graph: Graph, settings: Mapping[str, Value], processor: Processor) -> Prediction:
        """What ONNX Runtime holds with `graph`, all dimensions bound.

        Raises:
            UsageError: a setting that is not modelled, or unknown.
            GraphError: a tensor without a size.
        """
        chosen = _settings(settings)
        _readable(graph)
        level = str(chosen["optimisation"])
        file_nodes = len(graph.operators)
        stored = [value for value in Network(graph).values.values() if value.constant]
        network = Network(graph if level == "disable" else fold_constants(graph))
        outside = _outside(graph, stored)
        for value in stored:
            if value.name in network.values:
                network.values[value.name].outside = value.name in outside
        missing = _unmodelled(network, chosen, processor)
        optimise(network, level, block_floats(processor))
        packed = prepack.pack(network) if chosen["prepacking"] else []
        sequential = chosen["execution_mode"] == "sequential"
        pattern = bool(chosen["mem_pattern"]) and sequential
        weights = network.weights()
        kept = sum(value.nbytes for value in weights if not value.outside)
        planned = sum(value.asked for value in weights) if pattern and not chosen["prepacking"] else 0
        whole = _file_bytes(graph) if chosen["model_as_bytes"] else 0
        if chosen["model_as_bytes"] and not whole:
            raise UsageError("model_as_bytes hands over a file, and this network has none", where=graph.source)
        own = objects(network, level, int(chosen["threads"]), file_nodes, len(stored))
        sizes = [value.nbytes for value in stored if value.name not in outside]
        early = PROTO * (file_nodes + len(stored))
        buffer = min(parse.READ_BUFFER, _file_bytes(graph) or sum(sizes))
        top = parse.top(sizes, network.grown, kept, packed, planned, whole, buffer, early, own)

        freed = {weight.name for weight in packed if weight.freed}
        names = {value.name for value in stored}
        plain = sum(
            value.nbytes for value in weights
            if value.name in names and value.name not in freed and not value.outside
        )  # fmt: skip
        made = sum(value.nbytes for value in weights if value.name not in names and value.name not in freed)
        arena = _arena(chosen) if chosen["arena"] else None
        if arena is not None:
            for weight in packed:
                if weight.in_arena:
                    arena.request(weight.after_bytes)
        made += sum(weight.after_bytes for weight in packed if arena is None or not weight.in_arena)
        base = [Holding("objects", own, "registries, nodes, names, kernels")]
        if whole:
            base.append(Holding("file", whole, "the bytes handed over, kept by the Python face"))
        standing = [*base, Holding("weights", plain, "as stored")]
        if made:
            standing.append(Holding("repacked weights", made, "fused, in blocks or packed; originals freed"))
        if planned:
            standing.append(Holding("repacked weights", planned, "a second copy in one block: not packed, patterns on"))
        if arena is not None and arena.grown:
            held = arena.extended_bytes + arena.handle_bytes + FIRST_RUN
            at_start = Holding("pools", held, "the arena, with weights packed into it")
        else:
            at_start = Holding("pools", 0)
        at_load = [replace(base[0], nbytes=top.objects), *base[1:]]
        at_load.append(Holding("weights", top.standing - whole, "strings of the file, or tensors"))
        copies = top.nbytes - top.standing - top.objects
        at_load.append(Holding("repacked weights", copies, "copies, growing strings, the reader's buffer"))

        requests = plan(network, workspace.of(network, int(chosen["threads"])), reuse=bool(chosen["mem_reuse"]))
        fed = sum(network.values[name].nbytes for name in network.inputs if name not in names)
        fed_holding = Holding("inputs and outputs", fed, "inputs, the caller's")
        runs = [_run(requests, arena, chosen, pattern=pattern and number > 0) for number in range(STEADY)]
        moments = [_loaded(standing, at_load, at_start, top.where)]
        for phase, run in (("run 1", runs[0]), ("steady", runs[-1])):
            live = [*standing, fed_holding]
            if arena is not None:
                live.append(Holding("pools", run.after, "the arena's extents and handles"))
            peak = [*standing, fed_holding, Holding("activations", run.top, "with results and working buffers")]
            peak.append(Holding("pools", run.held - run.top, "the arena's extents not in use, and handles"))
            where = requests.steps[run.step].name if run.step < len(requests.steps) else "the end"
            moments.append(Moment(phase, tuple(live), tuple(peak), where))  # type: ignore[arg-type]
        details = {
            "nodes": len(network.nodes),
            "nodes in blocks": sum(node.domain == NCHWC for node in network.nodes.values()),
            "weights": kept,
            "packed": sum(weight.after_bytes for weight in packed),
            "activations at most": _live_peak(requests.events),
            "pattern": pattern_bytes(requests.events),
        }
        if arena is not None:
            details["arena extended"] = sum(arena.grown)
            details |= {f"arena extent {number}": size for number, size in enumerate(arena.grown, 1)}
        notes = (f"{len(outside)} weights are taken to lie in other files, mapped",) if outside else ()
        return Prediction(NAME, VERIFIED, chosen, tuple(moments), missing, notes, details)


def _settings(settings: Mapping[str, Value]) -> dict[str, Value]:
    """All settings, the engine's defaults where nothing is said; those that stay unmodelled refused."""
    known = engine(NAME)
    chosen: dict[str, Value] = dict(known.defaults())
    for name, value in settings.items():
        if name not in chosen:
            raise UsageError(f"ONNX Runtime has no setting {name!r}", expected=", ".join(sorted(chosen)))
        chosen[name] = value
    if chosen["optimisation"] not in LEVELS:
        raise UsageError(f"no optimisation level {chosen['optimisation']!r}", expected=", ".join(LEVELS))
    if chosen["mmap"]:
        raise UsageError("mmap is for .ort files, which this profile does not read", hint="--set mmap=off")
    for name in ("log", "profile"):
        if chosen[name]:
            raise UsageError(f"{name} costs memory of its own, which is not modelled", hint=f"--set {name}=off")
    if int(chosen["threads"]) < 1:
        raise UsageError("threads are counted from 1", expected="1 or more")
    return chosen


def _readable(graph: Graph) -> None:
    if graph.format not in FORMATS:
        raise GraphError(f"ONNX Runtime reads ONNX, this is {graph.format}", where=graph.source)
    for operator in graph.operators:
        if operator.domain not in DOMAINS:
            raise GraphError(
                f"ONNX Runtime knows no operator {operator.op_type} of {operator.domain!r}", where=operator.name
            )


def _unmodelled(network: Network, chosen: Mapping[str, Value], processor: Processor) -> tuple[Unmodelled, ...]:
    """What has no rule, each once."""
    found: dict[str, str] = {}
    for node in network.nodes.values():
        if node.op_type in UNREAD:
            found[f"operator {node.op_type}"] = "the optimiser may fuse or fold around it in ways without a rule"
        elif node.domain == MICROSOFT or node.op_type not in MEASURED:
            found[f"operator {node.op_type}"] = "what its kernel packs or asks for while it runs was not measured"
        if any(name and name not in network.values for name in node.outputs):
            found[f"operator {node.op_type}"] = f"the size of a result of {node.name} is not known before it runs"
    if chosen["execution_mode"] == "parallel":
        found["execution_mode=parallel"] = "operators are taken one after the other; together they hold more"
    if processor.architecture != "x86_64":
        found[f"processor {processor.architecture}"] = "packing and layout of that processor have no rule here"
    return tuple(Unmodelled(what, reason) for what, reason in found.items())


def _loaded(standing: list[Holding], peak: list[Holding], pools: Holding, where: str) -> Moment:
    """The end of loading: the arena holds something only where a kernel packed into it."""
    live = (*standing, pools) if pools.nbytes else tuple(standing)
    if sum(one.nbytes for one in peak) < sum(one.nbytes for one in live):
        return Moment("load", live, live, "the end")
    return Moment("load", live, tuple(peak), where)


def _outside(graph: Graph, stored: list[NetworkValue]) -> frozenset[str]:
    """Weights in other files, which the engine maps.

    The graph does not say which they are. A file that is smaller than its real weights has some; then all of at least
    EXTERNAL_FROM bytes are taken to lie outside, as `onnx.save` places them.
    """
    size = _file_bytes(graph)
    if not size or size >= sum(value.nbytes for value in stored if value.kind == "float"):
        # whole numbers may be stored shorter than they are
        return frozenset()
    return frozenset(value.name for value in stored if value.nbytes >= EXTERNAL_FROM)


def _file_bytes(graph: Graph) -> int:
    """Bytes of the file it was read from; 0 without one."""
    path = Path(graph.source)
    return path.stat().st_size if graph.source and path.is_file() else 0


def _arena(chosen: Mapping[str, Value]) -> Arena:
    return Arena(str(chosen["arena_extend"]), int(chosen["arena_initial_chunk"]), int(chosen["arena_max_extend"]))


def _live_peak(events: tuple[Event, ...]) -> int:
    live = most = 0
    sizes: dict[str, int] = {}
    for event in events:
        live += event.nbytes - (sizes.pop(event.value) if event.nbytes == 0 else 0)
        if event.nbytes:
            sizes[event.value] = event.nbytes
        most = max(most, live)
    return most


def _run(requests: Plan, arena: Arena | None, chosen: Mapping[str, Value], *, pattern: bool) -> _Run:
    """One inference: all requests, with the pattern's block instead of those it covers."""
    events = list(requests.events)
    block = pattern_bytes(requests.events) if pattern else 0
    if block:
        events = [event for event in events if event.result or event.workspace]
        ending = [event for event in events if event.step == len(requests.steps)]
        events = [event for event in events if event.step < len(requests.steps)]
        events = [Event("pattern", block, 0), *events, Event("pattern", 0, len(requests.steps)), *ending]
    top = held = in_use = step = 0
    handles: dict[str, int] = {}
    sizes: dict[str, int] = {}
    shrinks = arena is not None and bool(chosen["arena_shrinkage"])
    for event in events:
        if shrinks and event.result and not event.nbytes:
            # results outlive the run that gives extents back (inference_session.cc, ShrinkMemoryArenas)
            assert arena is not None
            arena.shrink()
            shrinks = False
        if event.nbytes:
            sizes[event.value] = event.nbytes
            in_use += event.nbytes
            if arena is not None:
                handles[event.value] = arena.request(event.nbytes)
        else:
            in_use -= sizes.pop(event.value)
            if arena is not None:
                arena.free(handles.pop(event.value))
        now = arena.extended_bytes + arena.handle_bytes + FIRST_RUN if arena is not None else in_use
        if now > held or (now == held and in_use > top):
            top, held, step = in_use, now, event.step
    after = arena.extended_bytes + arena.handle_bytes + FIRST_RUN if arena is not None else 0
    return _Run(top, held, after, step)


def predict(graph: Graph, settings: Mapping[str, Value], processor: Processor) -> Prediction:
    """`OnnxRuntime.predict`."""
    return OnnxRuntime().predict(graph, settings, processor)
