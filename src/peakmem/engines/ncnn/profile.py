"""The profile of ncnn: what is on the heap after loading, during the first inference and in steady state."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from peakmem.engines.ncnn import (
    arm,
    convolution,
    forward_attention,
    forward_convolution,
    forward_int8,
    forward_others,
    forward_products,
    forward_recurrent,
    products,
    recurrent,
)
from peakmem.engines.ncnn.forward import BESIDE, FORWARD, fallback, nothing
from peakmem.engines.ncnn.heap import Heap
from peakmem.engines.ncnn.layers import (
    BLOB,
    INPLACE,
    MAT,
    STRUCTURES,
    Layer,
    layer_of,
    numbers,
    string_bytes,
    structure_bytes,
)
from peakmem.engines.ncnn.load import PARAMETERS, Loader
from peakmem.engines.ncnn.mat import Mat, Shared, Sizes
from peakmem.engines.ncnn.options import Options, options_of
from peakmem.engines.ncnn.pools import Pool, System
from peakmem.engines.ncnn.run import Call, Extractor, Forward, Network
from peakmem.engines.ncnn.window import window_of
from peakmem.engines.prediction import Category, Holding, Moment, Prediction, Processor, Unmodelled, Value
from peakmem.errors import UsageError
from peakmem.ir.graph import Graph

_RULES = (
    convolution, products, recurrent, forward_attention, forward_convolution, forward_int8, forward_others,
    forward_products, forward_recurrent,
)  # fmt: skip
# imported for the rules that they register
GROUPED = ("ConvolutionDepthWise", "DeconvolutionDepthWise")
VERIFIED = "1.0.20261020"
FACE = 1490
# of the network with its face in Python, its pools and what the runner keeps; measured
FILE = 4096 + 472 + 144 + 128
# of an open file: the .param's, then the .bin's; measured
POOLS = 320
# two PoolAllocators; measured
UNBOUND = 1728
# of ctypes, by which the runner sets options that the binding does not show; measured
HANDLE = 40
# of a layer that was looked at from Python; measured
LISTS, LISTED = 12170, 220
# of the lists of layers and blobs that the runner looks at, and of one layer in them; measured
STEADY_RUN = 3
# the last run of a measurement that is not told how many
MOST_RUNS = 24


@dataclass(frozen=True, slots=True)
class Simulated:
    """A simulation, with what an oracle can be held against."""

    moments: tuple[Moment, ...]
    requests: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    # of each run: bytes of requests for blobs, and for workspace
    live: tuple[int, ...]
    # after each run
    most: tuple[int, int]
    # bytes of blobs, and of workspace, requested and not come back, in the first run at most


class Profile:
    """How ncnn allocates."""

    name = "ncnn"
    reads = ("ncnn",)

    def predict(self, graph: Graph, settings: Mapping[str, Value], processor: Processor) -> Prediction:
        """What ncnn holds with `graph`, all dimensions bound.

        Raises:
            UsageError: a graph of another format; a setting or a processor without rules.
            GraphError: a blob without a shape.
        """
        options = options_of(settings, processor)
        result = simulate(graph, options)
        missing = unmodelled(graph, options)
        blobs, works = result.requests[0]
        notes = _notes(options)
        settled = max(result.live)
        if settled > result.live[STEADY_RUN - 1]:
            first = result.live.index(settled) + 1
            more = settled - result.live[STEADY_RUN - 1]
            notes += (f"steady is after run {STEADY_RUN}; the pools take {more:,} B more up to run {first}",)
        return Prediction(
            self.name, "" if options.arm else VERIFIED, dict(settings), result.moments, missing, notes,
            {
                "blob requests": len(blobs), "workspace requests": len(works), "runs simulated": len(result.live),
                "most live bytes": settled, "requests run 1": len(blobs) + len(works),
                "blob peak run 1": result.most[0], "workspace peak run 1": result.most[1],
                **{f"live after run {at}": live for at, live in enumerate(result.live[:8], 1)},
            },
        )  # fmt: skip


PROFILE = Profile()


def simulate(graph: Graph, options: Options, *, most: int = MOST_RUNS) -> Simulated:
    """Load `graph` and run it until the pools repeat themselves, `most` times at most and `STEADY_RUN` at least."""
    foreign = next((one for one in graph.operators if one.domain != "ncnn"), None)
    if foreign is not None or graph.format != "ncnn":
        raise UsageError(
            f"the profile of ncnn reads ncnn's files, this is {graph.format}", hint="peakmem convert MODEL --to ncnn"
        )
    heap = Heap()
    layers = tuple(layer_of(graph, operator) for operator in graph.operators)
    if not options.int8 and any(layer.int8 for layer in layers):
        raise UsageError(
            "with int8_inference=off ncnn reads int8 weights as if they were floats, past their end",
            expected="int8_inference=on for a network with int8 layers",
        )
    used = {name for layer in layers for name in (*layer.bottoms, *layer.tops)} | set(graph.inputs)
    sizes = {name: numbers(graph.tensors[name].shape, name) for name in used}
    blobs = (*graph.inputs, *(top for layer in layers for top in layer.tops))
    heap.step = "reading"
    heap.take("objects", FACE + 8 * (len(layers) + len(graph.inputs)) + BLOB * len(blobs))
    heap.take("objects", sum(string_bytes(name) for name in blobs))
    heap.take("objects", (0 if options.pools else -POOLS) + (0 if options.pools and not options.mapped else UNBOUND))
    for name in graph.inputs:
        heap.take("objects", STRUCTURES["Input"] + 4 + MAT + string_bytes(name))
    for layer in layers:
        heap.take("objects", structure_bytes(layer))
    heap.burst(FILE + PARAMETERS)
    filed = any(detail.name == ".bin file" for detail in graph.details)
    reading = FILE if filed and not options.mapped else 0
    heap.take("objects", reading)
    loader = Loader(heap, options, _hints(graph, sizes), empty=not filed)
    made = tuple(loader.create(layer) for layer in layers)
    heap.take("objects", -reading)
    heap.step = "end of loading"
    heap.take("objects", HANDLE * (len(layers) + len(graph.inputs)))
    heap.burst(LISTS + LISTED * (len(layers) + len(graph.inputs)))
    moments = [heap.moment("load")]
    outside = _mapped(graph) if options.mapped else ()

    inputs = {}
    for name in graph.inputs:
        mat = Mat(sizes[name], 4, 1, Shared(None, None))
        heap.block("inputs and outputs", mat.nbytes)
        heap.take("objects", MAT + 24)
        inputs[name] = mat
    network = Network(layers, made, inputs, graph.outputs, blobs, sizes)
    blob, work = _allocator(heap, options, "activations"), _allocator(heap, options, "workspace")
    requests: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    live: list[int] = []
    most_out = (0, 0)
    seen: set[tuple[object, ...]] = set()
    for run in range(1, most + 1):
        heap.restart()
        for allocator in (blob, work):
            allocator.requests.clear()
        Extractor(network, options, heap, blob, work, _forward, _beside).run()
        requests.append((tuple(blob.requests), tuple(work.requests)))
        live.append(heap.total)
        if run == 1:
            moments.append(heap.moment("run 1"))
            most_out = (blob.most_bytes, work.most_bytes)
        if run == STEADY_RUN:
            moments.append(heap.moment("steady"))
        state = (heap.total, *(tuple(one.kept) for one in (blob, work) if isinstance(one, Pool)))
        if run >= STEADY_RUN and state in seen:
            break
            # from here on all repeats
        seen.add(state)
    found = tuple(replace(moment, outside=outside) for moment in moments)
    return Simulated(found, tuple(requests), tuple(live), most_out)


def _mapped(graph: Graph) -> tuple[Holding, ...]:
    """The .bin where it is mapped: all of it was read by the end of loading."""
    size = next((detail.nbytes for detail in graph.details if detail.name == ".bin file"), None)
    return (Holding("file", size, "the .bin, mapped: pages of the file"),) if size else ()


def _allocator(heap: Heap, options: Options, category: Category) -> Pool | System:
    return Pool(heap, category) if options.pools else System(heap, category)


def _forward(layer: Layer) -> Forward:
    if layer.int8 or layer.block_bits:
        return FORWARD.get(f"{layer.type} {'int8' if layer.int8 else 'blocks'}", fallback)
    return FORWARD.get(layer.type, fallback)


def _beside(layer: Layer) -> Callable[[Call, Mat], None]:
    return BESIDE.get(layer.type, nothing)


def _hints(graph: Graph, sizes: Mapping[str, Sizes]) -> Mapping[str, Sizes]:
    """Shapes that the file itself says; a file that says some is taken to say all."""
    return sizes if any(detail.name == "shape hints" for detail in graph.details) else {}


def unmodelled(graph: Graph, options: Options) -> tuple[Unmodelled, ...]:
    """Layers for which there is no rule, or not for this way of theirs, with what they may hold beside."""
    found = []
    for operator in graph.operators:
        layer = layer_of(graph, operator)
        reason = _missing(layer, options)
        if reason:
            made = (numbers(graph.tensors[name].shape, name) for name in operator.outputs)
            size = sum(weight.count for weight in layer.weights) + sum(math.prod(sizes) for sizes in made)
            extra = 0
            if layer.type in forward_others.FOUND:
                read = [numbers(graph.tensors[name].shape, name) for name in layer.bottoms]
                extra = forward_others.lists_bytes(layer, read)
            found.append(Unmodelled(layer.title, reason, 4 * size + extra))
    return tuple(found)


def _missing(layer: Layer, options: Options) -> str:
    """Why a layer is not modelled; empty where it is."""
    kind, values = layer.type, layer.values
    if kind not in FORWARD and kind not in INPLACE:
        return "no rule: counted with its weights and its results, without workspace"
    quantised = values.get("quantize_term") and not layer.int8 and not layer.block_bits
    if quantised or (layer.int8 and f"{kind} int8" not in FORWARD):
        return "int8 of this type is not modelled: counted as if it were computed in float"
    if values.get("dynamic_weight"):
        return "weights that come as blobs are not modelled"
    if options.bf16_storage and not options.arm and kind in GROUPED and not layer.int8 and not _depthwise(layer):
        return "in bf16 ncnn computes the groups in single precision from weights of bf16, past their end; it may crash"
    if kind in forward_others.FOUND:
        return "how many boxes are found depends on the data: counted as many as there may be, without their lists"
    if options.arm and layer.int8:
        return "int8 on Arm is not modelled: counted with the tiles of x86_64"
    if options.arm and kind in arm.OTHERWISE:
        return "its layer for Arm has not been read: counted by the rule of x86_64"
    if kind == "MultiHeadAttention" and values.get("kv_cache"):
        return "the cache of keys and values of this type is not modelled: counted without"
    if options.threads > 1 and (kind == "MultiHeadAttention" or (kind == "SDPA" and layer.int8)):
        return "heads run side by side: whose workspace overlaps depends on timing; counted one after another"
    return ""


def _depthwise(layer: Layer) -> bool:
    window = window_of(layer)
    return window.channels_in == window.group == window.channels_out


def _notes(options: Options) -> tuple[str, ...]:
    notes = [f"tiles for {options.l2_bytes:,} B of cache of level 2, {options.lanes} floats in a register"]
    if options.arm:
        notes.append("unverified: rules for aarch64 follow the source of ncnn and were never measured")
    if options.threads > 1:
        notes.append("stacks of threads are address space, not heap")
    if options.mapped:
        notes.append("the .bin is mapped: weights that are not repacked are not on the heap")
    return tuple(notes)
