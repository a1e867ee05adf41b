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
from peakmem.engines.onnxruntime.network import NCHWC, Network
from peakmem.engines.onnxruntime.objects import FIRST_RUN, PROTO, objects
from peakmem.engines.onnxruntime.optimise import LEVELS, UNREAD, optimise
from peakmem.engines.onnxruntime.plan import Event, Plan, pattern_bytes, plan
from peakmem.engines.prediction import Holding, Moment, Prediction, Processor, Unmodelled, Value
from peakmem.errors import GraphError, UsageError
from peakmem.ir.graph import Graph
from peakmem.measuring.engine import engine

NAME = "onnxruntime"
DOMAIN = ""
VERIFIED = "1.31.1"
DOMAINS = ("", "ai.onnx", "com.microsoft")
KERNEL_STATE = ("LSTM", "GRU", "RNN", "Attention", "QAttention", "QLinearConv", "ConvInteger", "MatMulInteger",
                "QLinearMatMul", "QGemm", "MatMulNBits", "ConvTranspose", "Einsum", "DequantizeLinear")  # fmt: skip
# kernels whose packed weights or buffers have no rule, or one that was not measured
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
        network = Network(graph)
        level = str(chosen["optimisation"])
        file_nodes = len(network.nodes)
        stored = [value for value in network.values.values() if value.constant]
        missing = _unmodelled(network, chosen, processor)
        optimise(network, level, block_floats(processor))
        packed = prepack.pack(network) if chosen["prepacking"] else []
        sequential = chosen["execution_mode"] == "sequential"
        pattern = bool(chosen["mem_pattern"]) and sequential
        weights = network.weights()
        kept = sum(value.nbytes for value in weights)
        planned = sum(value.asked for value in weights) if pattern and not chosen["prepacking"] else 0
        whole = _file_bytes(graph) if chosen["model_as_bytes"] else 0
        own = objects(network, level, int(chosen["threads"]), file_nodes, len(stored))
        early = file_nodes + len(stored)
        top = parse.top([value.nbytes for value in stored], network.grown, kept, packed, planned, whole, early * PROTO, own)

        freed = {weight.name for weight in packed if weight.freed}
        names = {value.name for value in stored}
        plain = sum(value.nbytes for value in weights if value.name in names and value.name not in freed)
        made = sum(value.nbytes for value in weights if value.name not in names and value.name not in freed)
        made += sum(weight.after_bytes for weight in packed)
        base = [Holding("objects", own, "registries, nodes, names, kernels")]
        if whole:
            base.append(Holding("file", whole, "the bytes handed over, kept by the Python face"))
        standing = [*base, Holding("weights", plain, "as stored")]
        if made:
            standing.append(Holding("repacked weights", made, "fused, in blocks or packed; originals freed"))
        if planned:
            standing.append(Holding("repacked weights", planned, "a second copy in one block: not packed, patterns on"))
        at_load = [replace(base[0], nbytes=top.objects), *base[1:]]
        at_load.append(Holding("weights", top.standing - whole, "strings of the file, or tensors"))
        at_load.append(Holding("repacked weights", top.nbytes - top.standing - top.objects, "copies, growing strings, read buffer"))

        requests = plan(network, workspace.of(network, int(chosen["threads"])), reuse=bool(chosen["mem_reuse"]))
        fed = sum(network.values[name].nbytes for name in network.inputs if name not in names)
        fed_holding = Holding("inputs and outputs", fed, "inputs, the caller's")
        copied = sum(network.values[name].nbytes for name in network.outputs if name in network.values)
        arena = _arena(chosen) if chosen["arena"] else None
        runs = [_run(requests, arena, chosen, pattern=pattern and number > 0) for number in range(STEADY)]
        results = copied if chosen["binding"] == "numpy" else 0
        moments = [Moment("load", tuple(standing), tuple(at_load), top.where)]
        for phase, run in (("run 1", runs[0]), ("steady", runs[-1])):
            live = [*standing, fed_holding]
            if arena is not None:
                live.append(Holding("pools", run.after, "the arena's extents and handles"))
            peak = [*standing, fed_holding, Holding("activations", run.top, "with results and working buffers")]
            peak.append(Holding("pools", run.held - run.top, "the arena's extents not in use, and handles"))
            where = requests.steps[run.step].name if run.step < len(requests.steps) else "the end"
            if results:
                peak.append(Holding("inputs and outputs", results, "results copied to numpy"))
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
        return Prediction(NAME, VERIFIED, chosen, tuple(moments), missing, (), details)


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
    if graph.format != "onnx":
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
        elif node.op_type in KERNEL_STATE:
            found[f"operator {node.op_type}"] = "what its kernel packs or asks for while it runs was not measured"
        if any(name and name not in network.values for name in node.outputs):
            found[f"operator {node.op_type}"] = f"the size of a result of {node.name} is not known before it runs"
    if chosen["execution_mode"] == "parallel":
        found["execution_mode=parallel"] = "operators are taken one after the other; together they hold more"
    if processor.architecture != "x86_64":
        found[f"processor {processor.architecture}"] = "packing and layout of that processor have no rule here"
    return tuple(Unmodelled(what, reason) for what, reason in found.items())


def _file_bytes(graph: Graph) -> int:
    path = Path(graph.source)
    if not graph.source or not path.is_file():
        raise UsageError("model_as_bytes hands over a file, and this network has none", hint="--set model_as_bytes=off")
    return path.stat().st_size


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
