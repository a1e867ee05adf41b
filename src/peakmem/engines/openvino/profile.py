"""The profile of OpenVINO's CPU plugin: from an ONNX graph and settings to what it holds, with a stated residual.

What is exact: the strings of the parser, the constants of the model, the block of all tensors. Repacked weights are
within a few per cent (`weights`); structures and kernels are slopes (`objects`), 0.4 to 40 % of all: that is what makes
small networks uncertain.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from peakmem.engines.openvino import objects
from peakmem.engines.openvino.network import CONVOLUTIONS, Network, network
from peakmem.engines.openvino.solver import UNIT, Box, solve
from peakmem.engines.openvino.weights import repacked
from peakmem.engines.prediction import Holding, Kind, Moment, Prediction, Processor, Unmodelled, Value
from peakmem.errors import GraphError, UsageError
from peakmem.ir.graph import Graph
from peakmem.measuring.engine import engine

NAME = "openvino"
VERIFIED = "2026.4.1"
BELIEVED = 50_000_000
# protobuf's kSafeStringSize: a longer string starts with one byte more and doubles
DOMAINS = ("", "ai.onnx")
RESIDUAL = "structures and kernels are slopes from measurements: a third of all in a network of few megabytes"
ONE_STREAM = ("latency", "cumulative_throughput")
# hints with which a model has one stream on the processor
CONVERTED = frozenset(("", "ai.onnx", "com.microsoft", "mmdeploy", "org.openvinotoolkit", "org.pytorch.aten"))
# of operators that its front end has conversions for (src/frontends/onnx/frontend/src/ops_bridge.cpp)


class OpenVino:
    """How OpenVINO allocates."""

    name = NAME
    reads = ("onnx",)

    def predict(self, graph: Graph, settings: Mapping[str, Value], processor: Processor) -> Prediction:
        """What OpenVINO holds with `graph`, all dimensions bound.

        Raises:
            UsageError: a setting that is not modelled, or unknown.
            GraphError: not an ONNX graph, or a tensor without a size.
        """
        chosen = _settings(settings, processor)
        if graph.format not in ("onnx", "zoo"):
            raise GraphError(f"the profile reads ONNX, this is {graph.format}", where=graph.source)
        for operator in graph.operators:
            if operator.domain not in CONVERTED:
                # "No conversion rule found for operations: my.ops.Foo" (2026.4.1)
                what = f"OpenVINO knows no operator {operator.op_type} of {operator.domain!r}"
                raise GraphError(what, where=operator.name)
        half = _item(chosen, processor) == 2
        made = network(graph)
        stored = [tensor.nbytes for tensor in graph.tensors.values() if tensor.role == "constant" and tensor.nbytes]
        held = _Held(graph, made, stored, chosen, half=half)
        missing = _missing(made, graph, chosen, processor)
        details = {
            "constants": held.constants,
            "repacked weights": held.packed,
            "tensors' block": held.block,
            "nodes": len(made.nodes),
        }
        kind: Kind = "lower bound" if missing else "estimate"
        note = RESIDUAL
        return Prediction(NAME, VERIFIED, chosen, held.moments(), missing, (note,), details=details, kind=kind)


class _Held:
    """The sizes of one prediction."""

    def __init__(
        self, graph: Graph, made: Network, stored: list[int], chosen: Mapping[str, Value], *, half: bool
    ) -> None:
        item = 2 if half else 4
        self.requests = int(chosen["requests"])
        self.strings = sum(_string(nbytes) for nbytes in stored)
        self.stored = sum(stored)
        self.read = objects.read_objects(graph)
        self.parsed = objects.parsed_objects(graph)
        self.constants = sum(weight.nbytes for weight in made.weights) + made.other_bytes
        self.packed = sum(repacked(weight, item) for weight in made.weights)
        self.folded = sum(weight.nbytes for weight in made.weights if weight.folded)
        boxes = [Box(one.count * item, one.start, one.stop) for one in made.buffers if not one.outside]
        self.block = solve(boxes)
        self.inputs, self.outputs, self.left = made.input_bytes, made.output_bytes, made.kept_bytes
        self.streams = _streams(chosen)
        self.nodes = len(made.nodes)
        self.own = objects.compiled_objects(graph, made, half=half)
        self.own += (self.streams - 1) * objects.STREAM_NODE * self.nodes
        if int(chosen["threads"]) > 1:
            self.own += objects.THREADS
        self.kept = self.folded + self.stored - self.constants if chosen["keep_model"] else 0
        self.kept_objects = self.read - objects.TABLES if chosen["keep_model"] else 0

    def standing(self) -> list[Holding]:
        found = [
            Holding("weights", self.constants, "constants of the model, as float32"),
            Holding("repacked weights", self.packed, "in blocks of output channels, in the type of inference"),
            Holding("activations", self.streams * self.block, "one block a stream for all tensors, placed by size"),
            Holding("objects", self.own + self.kept_objects, "nodes, kernels, tables: slopes from measurements"),
        ]
        if self.kept:
            found.append(Holding("weights", max(0, self.kept), "of the model as it was read, before folding"))
        return found

    def moments(self) -> tuple[Moment, ...]:
        standing = self.standing()
        feds = self.requests + self.streams
        # tensors of inputs and results: each request and each stream begins with its own; a stream that is run takes
        # the caller's input and the request's result
        tensors = feds * (self.inputs + self.outputs)
        live = (*standing, Holding("inputs and outputs", tensors, "of inference requests and streams"))
        top, where = self._loading(live)
        set_ones = feds - (self.requests - 1)
        ran = set_ones - min(self.streams, self.requests)
        waiting = self.streams - min(self.streams, self.requests)

        def fed(own: int, results: int) -> tuple[Holding, ...]:
            size = own * self.inputs + results * self.outputs + self.requests * objects.REQUEST
            size += min(self.streams, feds - results) * self.left
            return (*standing, Holding("inputs and outputs", size, "results, and tensors that no run has replaced yet"))

        first, last = fed(ran, self.requests + waiting), fed(1, self.requests)
        running = (*last, Holding("objects", objects.RUNNING, "of a run"))
        return (
            Moment("load", live, top, where),
            Moment("run 1", first, fed(set_ones, feds), "the start"),
            Moment("steady", last, running, "a run"),
        )

    def _loading(self, live: tuple[Holding, ...]) -> tuple[tuple[Holding, ...], str]:
        """The worst of reading, rewriting and finishing."""
        reading = (
            Holding("file", self.strings, "strings of the parsed file, long ones doubled"),
            Holding("weights", self.stored, "constants, copied from them"),
            Holding("objects", self.read + self.parsed, "the parsed file's and the model's"),
        )
        rewriting = (
            Holding("weights", self.stored, "constants"),
            Holding(
                "objects", self.read + objects.TRANSFORMING + objects.TRANSFORMING_NODE * self.nodes,
                "the model, passes that rewrite it and their patterns",
            ),
        )  # fmt: skip
        dropped = 0 if self.kept_objects else int(objects.DROPPED * max(0, self.read - objects.TABLES))
        originals = 0 if self.kept else self.folded
        finishing = (
            *live,
            Holding("weights", originals, "originals of folded weights, until the model is dropped"),
            Holding("objects", (dropped if originals else 0) + objects.FINISHING, "the model as it was read"),
        )
        tops = ((reading, "reading the file"), (rewriting, "rewriting the model"), (finishing, "the end of compiling"))
        return max(tops, key=lambda one: sum(part.nbytes for part in one[0]))


def _string(nbytes: int) -> int:
    """Bytes that protobuf holds for a field of `nbytes`; what it has grown to is not given back."""
    if nbytes <= BELIEVED:
        return nbytes + 1
    size = BELIEVED
    while size < nbytes:
        size *= 2
    return size + 1


def _streams(chosen: Mapping[str, Value]) -> int:
    """Inferences side by side: no more than threads."""
    threads = int(chosen["threads"])
    if chosen["streams"]:
        return min(int(chosen["streams"]), threads)
    return 1 if chosen["performance_hint"] in ONE_STREAM else threads


def _item(chosen: Mapping[str, Value], processor: Processor) -> int:
    """Bytes of an element in the type of inference."""
    precision = chosen["precision"]
    if precision == "default":
        if chosen["execution_mode"] == "accuracy":
            return 4
        # src/plugins/intel_cpu/src/config.cpp: bfloat16 where the processor computes in it
        return 2 if {"avx512_bf16", "amx_bf16"} & processor.features else 4
    return 4 if precision == "f32" else 2


def _missing(made: Network, graph: Graph, chosen: Mapping[str, Value], processor: Processor) -> tuple[Unmodelled, ...]:
    found = []
    for operator in made.unruled:
        sizes = sum(graph.tensors[name].nbytes or 0 for name in operator.outputs if name)
        sizes += sum(graph.tensors[name].nbytes or 0 for name in operator.inputs if name and _is_constant(graph, name))
        found.append(Unmodelled(f"operator {operator.op_type}", f"what {operator.name} becomes has no rule", sizes))
    half = _item(chosen, processor) == 2
    unfitted = [one.op_type for one in made.unfitted if half or one.op_type in CONVOLUTIONS]
    for kind in dict.fromkeys(unfitted):
        nbytes = objects.UNFITTED + objects.UNFITTED_NEXT * (unfitted.count(kind) - 1)
        found.append(Unmodelled(f"kernels of {kind}", "of a kind that no slope was fitted to", nbytes))
    if _streams(chosen) > 1 and not chosen["streams"]:
        reason = "the engine chooses how many streams; as many as threads are counted"
        found.append(Unmodelled(f"performance_hint={chosen['performance_hint']}", reason, _stream(made)))
    outside = _outside(graph)
    if outside:
        reason = "lie in another file, which the engine maps with mmap=on; they are counted as if they did not"
        found.append(Unmodelled("weights in another file", reason, outside))
    if processor.architecture != "x86_64" or "avx512f" not in processor.features:
        found.append(Unmodelled("processor without avx512f", "layouts and kernels of others were not measured"))
    if "amx_bf16" in processor.features:
        found.append(Unmodelled("amx", "weights are packed for its tiles, in larger blocks"))
    return tuple(found)


def _outside(graph: Graph) -> int:
    """Bytes of weights that the file is too small to hold."""
    path = Path(graph.source)
    if graph.format != "onnx" or not graph.source or not path.is_file():
        return 0
    floats = (
        one for one in graph.tensors.values() if one.role == "constant" and one.dtype and one.dtype.kind == "float"
    )
    return max(0, sum(one.nbytes or 0 for one in floats) - path.stat().st_size)


def _stream(made: Network) -> int:
    """Tensors of one more stream, at half precision and not shared."""
    return sum(-(-one.count * 4 // UNIT) * UNIT for one in made.buffers) // 2


def _is_constant(graph: Graph, name: str) -> bool:
    tensor = graph.tensors.get(name)
    return tensor is not None and tensor.role == "constant"


def _settings(settings: Mapping[str, Value], processor: Processor) -> dict[str, Value]:
    chosen: dict[str, Value] = dict(engine(NAME).defaults())
    for name, value in settings.items():
        if name not in chosen:
            raise UsageError(f"OpenVINO has no setting {name!r}", expected=", ".join(sorted(chosen)))
        chosen[name] = value
    if int(chosen["threads"]) < 1 or int(chosen["requests"]) < 1 or int(chosen["streams"]) < 0:
        raise UsageError("threads and requests are counted from 1, streams from 0")
    if chosen["precision"] == "f16" and not {"avx512_fp16", "amx_fp16", "asimdhp"} & processor.features:
        raise UsageError("OpenVINO computes no f16 on this processor", hint="--set precision=f32")
    if chosen["precision"] == "bf16" and not {"avx512f"} & processor.features:
        raise UsageError("OpenVINO computes no bf16 on this processor", hint="--set precision=f32")
    for name in ("release_memory", "layers"):
        if chosen[name]:
            raise UsageError(f"{name} is about what comes after the last run", hint=f"--set {name}=off")
    if chosen["keep_model"] and chosen["compile"] == "file":
        raise UsageError("keep_model keeps what was read and compile=file reads nothing apart")
    return chosen


PROFILE = OpenVino()
