"""The profile of ONNX Runtime on its CPU provider: from a graph of ONNX and settings to what it holds.

The parts: `optimise` and `layout` rewrite the graph, `prepack` packs weights, `parse` finds the peak of loading,
`plan` the requests of a run, `arena` what the arena makes of them, `objects` the engine's structures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from peakmem.engines.onnxruntime import bodies, parse, prepack, quantised, workspace
from peakmem.engines.onnxruntime.accepted import check
from peakmem.engines.onnxruntime.arena import Arena
from peakmem.engines.onnxruntime.file import File, read
from peakmem.engines.onnxruntime.fold import Folded, folded
from peakmem.engines.onnxruntime.network import NCHWC, Network
from peakmem.engines.onnxruntime.network import Value as NetworkValue
from peakmem.engines.onnxruntime.objects import FIRST_RUN, PROTO, PROTO_ENTRY, QUANTISED, frame, objects
from peakmem.engines.onnxruntime.optimise import LEVELS, optimise
from peakmem.engines.onnxruntime.plan import Event, Plan, pattern_bytes, plan
from peakmem.engines.prediction import Holding, Moment, Prediction, Processor, Unmodelled, Value
from peakmem.errors import GraphError, UsageError
from peakmem.ir.graph import Graph
from peakmem.measuring.engine import engine

NAME = "onnxruntime"
VERIFIED = "1.31.1"
FORMATS = ("onnx", "zoo")
# a network of the zoo is what its export holds
DOMAINS = ("", "ai.onnx", "com.microsoft")
MEASURED = frozenset({
    "Abs", "Add", "And", "AveragePool", "BatchNormalization", "Cast", "Celu", "Clip", "Concat", "Constant", "Conv",
    "ConvTranspose", "Cos", "CumSum", "DepthToSpace", "DequantizeLinear", "Div", "Dropout", "DynamicQuantizeLinear",
    "Elu", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "GRU", "Gather", "Gelu", "Gemm", "GlobalAveragePool",
    "GlobalMaxPool", "Greater", "GreaterOrEqual", "GridSample", "HardSigmoid", "HardSwish", "Hardmax", "Identity",
    "If", "InstanceNormalization", "LRN", "LSTM", "LayerNormalization", "LeakyRelu", "Less", "Log", "LogSoftmax",
    "Loop", "LpNormalization", "LpPool", "MatMul", "MatMulInteger", "Max", "MaxPool", "Mean", "Min", "Mod", "Mul",
    "Neg", "Not", "Or", "PRelu", "Pad", "Pow", "QGemm", "QLinearAdd", "QLinearConv", "QLinearGlobalAveragePool",
    "QLinearMatMul", "QuantizeLinear", "RNN", "Range", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceSum", "Relu",
    "Reshape", "Resize", "Round", "Scan", "ScatterND", "Selu", "Shape", "Shrink", "Sigmoid", "Sign", "Sin", "Slice",
    "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh",
    "ThresholdedRelu", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where",
})  # fmt: skip
# operators whose requests were compared with the engine's, that are a view, or that are elementwise like others here
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
    """Channels of a block: NchwcBlockSize of onnxruntime/core/mlas/lib/platform.cpp; 0 without the layout.

    8 on any x86-64 processor, also without AVX, and 16 with AVX-512; ARM has the layout only where the library was
    built with MLAS_USE_ARM_NEON_NCHWC, which is taken to be off.
    """
    if processor.architecture != "x86_64":
        return 0
    return 16 if "avx512f" in processor.features else 8


class OnnxRuntime:
    """How ONNX Runtime allocates."""

    name = NAME
    reads = ("onnx",)

    def predict(self, graph: Graph, settings: Mapping[str, Value], processor: Processor) -> Prediction:
        """What ONNX Runtime holds with `graph`, all dimensions bound.

        Raises:
            UsageError: a setting that is not modelled, or unknown.
            GraphError: a tensor without a size.
        """
        chosen = _settings(settings)
        _readable(graph)
        check(graph, MEASURED)
        level = str(chosen["optimisation"])
        file = read(graph)
        file_nodes = len(graph.operators)
        stored = [value for value in Network(graph).values.values() if value.constant]
        constants = Folded(graph) if level == "disable" else folded(graph, frozenset(file.shapes))
        network = Network(constants.graph, file.shapes)
        for value in network.values.values():
            value.outside = value.name in file.external
        missing = _unmodelled(network, processor)
        optimise(network, level, block_floats(processor), processor.architecture)
        packed = prepack.pack(network, processor.architecture) if chosen["prepacking"] else []
        sequential = chosen["execution_mode"] == "sequential"
        pattern = bool(chosen["mem_pattern"]) and sequential
        weights = network.weights()
        kept = sum(value.nbytes for value in weights if not value.outside)
        planned = sum(value.asked for value in weights) if pattern and not chosen["prepacking"] else 0
        whole = file.nbytes if chosen["model_as_bytes"] else 0
        if chosen["model_as_bytes"] and not whole:
            raise UsageError("model_as_bytes hands over a file, and this network has none", where=graph.source)
        # operators of one provider follow each other in the parallel mode too: it has one stream of them
        workers = int(chosen["threads"]) + (0 if sequential else max(1, int(chosen["inter_threads"])) - 1)
        own = objects(network, level, workers, file_nodes, len(stored), file) + bodies.objects(network)
        inside, packed_inside = bodies.weights(
            network, packing=bool(chosen["prepacking"]), architecture=processor.architecture
        )
        unmade = QUANTISED * sum(node.op_type.startswith("Q") for node in network.nodes.values())
        sizes = [_reading(value, file) for value in stored if value.name not in file.external]
        early = PROTO * (file_nodes + len(stored)) + file.metadata_bytes + PROTO_ENTRY * file.metadata_entries
        buffer = min(parse.READ_BUFFER, file.nbytes or sum(nbytes for nbytes, _ in sizes))
        arena = _arena(chosen) if chosen["arena"] else None
        top = parse.top(
            sizes,
            network.grown,
            kept + inside,
            packed,
            planned,
            whole,
            buffer,
            early,
            own,
            constants.made,
            arena,
            unmade,
        )

        freed = {weight.name for weight in packed if weight.freed}
        names = {value.name for value in stored}
        plain = sum(
            value.nbytes for value in weights
            if value.name in names and value.name not in freed and not value.outside
        )  # fmt: skip
        made = sum(value.nbytes for value in weights if value.name not in names and value.name not in freed)
        made += sum(weight.after_bytes for weight in packed if arena is None or not weight.in_arena)
        base = [Holding("objects", own, "registries, nodes, names, kernels")]
        if whole:
            base.append(Holding("file", whole, "the bytes handed over, kept by the Python face"))
        standing = [*base, Holding("weights", plain, "as stored")]
        if made:
            standing.append(Holding("repacked weights", made, "fused, in blocks or packed; originals freed"))
        if inside:
            standing.append(Holding("weights", inside, "of bodies: messages and tensors"))
        if packed_inside:
            standing.append(Holding("repacked weights", packed_inside, "of bodies, packed"))
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

        wanted = workspace.of(
            network, int(chosen["threads"]), processor.architecture, packed=bool(chosen["prepacking"])
        )
        for node in network.nodes.values():
            if node.graphs:
                wanted[node.number] = (bodies.working(node, int(chosen["threads"]), processor.architecture) or 0,)
        requests = plan(network, wanted, reuse=bool(chosen["mem_reuse"]))
        fed = sum(network.values[name].nbytes for name in network.inputs if name not in names)
        fed_holding = Holding("inputs and outputs", fed, "inputs, the caller's")
        runs = [_run(requests, arena, chosen, pattern=pattern and number > 0) for number in range(STEADY)]
        moments = [_loaded(standing, at_load, at_start, top.where)]
        left = quantised.kept(network, processor.architecture)
        if left:
            standing.append(Holding("workspace", left, "a thread's own, from its first product of whole numbers on"))
        for phase, run in (("run 1", runs[0]), ("steady", runs[-1])):
            live = [*standing, fed_holding]
            if arena is not None:
                live.append(Holding("pools", run.after, "the arena's extents and handles"))
            peak = [*standing, fed_holding, Holding("activations", run.top, "with results and working buffers")]
            peak.append(Holding("pools", run.held - run.top, "the arena's extents not in use, and handles"))
            peak.append(Holding("objects", frame(network), "the list of values of a run"))
            where = requests.steps[run.step].name if run.step < len(requests.steps) else "the end"
            moments.append(Moment(phase, tuple(live), tuple(peak), where))  # type: ignore[arg-type]
        details = {
            "nodes": len(network.nodes),
            "nodes in blocks": sum(node.domain == NCHWC for node in network.nodes.values()),
            "weights": kept,
            "packed": sum(weight.after_bytes for weight in packed),
            "activations at most": bodies.live_peak(requests.events),
            "pattern": pattern_bytes(requests.events),
        }
        if arena is not None:
            details["arena extended"] = sum(arena.grown)
            details |= {f"arena extent {number}": size for number, size in enumerate(arena.grown, 1)}
        mapped = sum(value.nbytes for value in weights if value.outside and value.name not in freed)
        if mapped:
            beside = (Holding("file", mapped, "weights in other files, mapped and read in place"),)
            moments = [replace(moment, outside=beside) for moment in moments]
        notes = []
        measured = processor.architecture == "x86_64" and "avx512f" in processor.features
        if file.external:
            notes.append(f"{len(file.external)} weights lie in other files, which the engine maps")
        if file.shapes:
            notes.append("the file leaves sizes open: nothing that needs them is computed or fused at load")
        if not measured:
            notes.append("rules for processors without AVX-512 come from the source and were not measured")
        known = VERIFIED if measured else ""
        return Prediction(NAME, known, chosen, tuple(moments), missing, tuple(notes), details=details)


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


def _unmodelled(network: Network, processor: Processor) -> tuple[Unmodelled, ...]:
    """What has no rule, each once, with what it may hold: weights and results of all its nodes."""
    reasons: dict[str, str] = {}
    nbytes: dict[str, int] = {}
    for node in network.nodes.values():
        reason = ""
        if node.graphs:
            known = bodies.working(node, 1, processor.architecture) is not None
            reason = "" if known else "sizes inside its body are not known before it runs"
        elif node.domain not in ("", "ai.onnx") and node.op_type not in MEASURED:
            reason = "its kernel was not measured"
        elif node.op_type not in MEASURED:
            reason = "what its kernel packs or asks for while it runs was not measured"
        if node.op_type in workspace.ASKING and any(name and name not in network.values for name in node.inputs):
            reason = f"the size of an operand of {node.name} is not known before it runs"
        if any(name and name not in network.values for name in node.outputs):
            reason = f"the size of a result of {node.name} is not known before it runs"
        if reason:
            what = f"operator {node.op_type}"
            reasons[what] = reason
            names = (*node.inputs, *node.outputs)
            sizes = [network.values[name].nbytes for name in node.outputs if name in network.values]
            sizes += [network.values[name].nbytes for name in names if network.weight(name) is not None]
            nbytes[what] = nbytes.get(what, 0) + sum(sizes)
            nbytes[what] += sum(tensor.nbytes or 0 for body in node.graphs for tensor in body.tensors.values())
    return tuple(Unmodelled(what, reason, nbytes.get(what, 0)) for what, reason in reasons.items())


def _loaded(standing: list[Holding], peak: list[Holding], pools: Holding, where: str) -> Moment:
    """The end of loading: the arena holds something only where a kernel packed into it."""
    live = (*standing, pools) if pools.nbytes else tuple(standing)
    if sum(one.nbytes for one in peak) < sum(one.nbytes for one in live):
        return Moment("load", live, live, "the end")
    return Moment("load", live, tuple(peak), where)


def _reading(value: NetworkValue, file: File) -> tuple[int, list[int]]:
    """(bytes, sizes that its content takes while it is read) of a weight in the file."""
    if value.name not in file.numbers:
        return value.nbytes, parse.string_steps(value.nbytes)
    begin, end = file.numbers[value.name]
    if value.kind == "float" and value.bits >= 32:
        return value.nbytes, parse.list_steps(begin, end)
    # numbers as short as they are: at most one for a byte, each of 4 or 8 bytes in memory
    return value.nbytes, [value.count * max(4, value.bits // 8) + parse.LIST_HEADER]


def _arena(chosen: Mapping[str, Value]) -> Arena:
    return Arena(str(chosen["arena_extend"]), int(chosen["arena_initial_chunk"]), int(chosen["arena_max_extend"]))


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
    # a run that asks for nothing holds most at its end
    return _Run(top, max(held, after), after, step)


def predict(graph: Graph, settings: Mapping[str, Value], processor: Processor) -> Prediction:
    """`OnnxRuntime.predict`."""
    return PROFILE.predict(graph, settings, processor)


PROFILE = OnnxRuntime()
