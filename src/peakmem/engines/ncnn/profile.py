"""The profile of ncnn: what is on the heap after loading, during the first inference and in steady state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from peakmem.engines.ncnn import convolution, forward_convolution, forward_products, products
from peakmem.engines.ncnn.forward import BESIDE, FORWARD, fallback, nothing
from peakmem.engines.ncnn.heap import Heap
from peakmem.engines.ncnn.layers import BLOB, INPLACE, MAT, STRUCTURES, Layer, layer_of, numbers, string_bytes, structure_bytes
from peakmem.engines.ncnn.load import RULES, Loader, Made
from peakmem.engines.ncnn.mat import Mat, Shared, Sizes
from peakmem.engines.ncnn.options import Options, options_of
from peakmem.engines.ncnn.pools import Allocator, Pool, System
from peakmem.engines.ncnn.run import Call, Extractor, Forward, Network
from peakmem.engines.prediction import Moment, Prediction, Processor, Unmodelled, Value
from peakmem.errors import GraphError, UsageError
from peakmem.ir.graph import Graph

_RULES = (convolution, products, forward_convolution, forward_products)
# imported for the rules that they register
VERIFIED = "1.0.20261020"
FACE = 1440
# of the network with its face in Python, its pools and what the runner keeps; measured
READING = 4096 + 472 + 256 + 17
# of the open file while weights are read; measured
HANDLE = 40
# of a layer that was looked at from Python; measured
LISTS, LISTED = 6000, 320
# of the lists of layers and blobs that the runner looks at, and of one layer in them; measured
MOST_RUNS = 12


@dataclass(frozen=True, slots=True)
class Simulated:
    """A simulation, with what an oracle can be held against."""

    moments: tuple[Moment, ...]
    requests: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    # of each run: bytes of requests for blobs, and for workspace
    live: tuple[int, ...]
    # after each run


class Profile:
    """How ncnn allocates."""

    name = "ncnn"
    domain = "ncnn"

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
        return Prediction(
            self.name, VERIFIED, dict(settings), result.moments, missing, _notes(options),
            {
                "blob requests": len(blobs), "workspace requests": len(works), "runs until steady": len(result.live),
                **{f"live after run {at}": live for at, live in enumerate(result.live, 1)},
            },
        )  # fmt: skip


PROFILE = Profile()


def simulate(graph: Graph, options: Options, *, runs: int = MOST_RUNS) -> Simulated:
    """Load `graph` and run it until nothing changes, `runs` times at most."""
    foreign = next((one for one in graph.operators if one.domain != "ncnn"), None)
    if foreign is not None or graph.format != "ncnn":
        raise UsageError(
            f"the profile of ncnn reads ncnn's files, this is {graph.format}", hint="peakmem convert MODEL --to ncnn"
        )
    heap = Heap()
    layers = tuple(layer_of(graph, operator) for operator in graph.operators)
    used = {name for layer in layers for name in (*layer.bottoms, *layer.tops)} | set(graph.inputs)
    sizes = {name: numbers(graph.tensors[name].shape, name) for name in used}
    blobs = (*graph.inputs, *(top for layer in layers for top in layer.tops))
    heap.step = "reading"
    heap.take("objects", FACE + 8 * (len(layers) + len(graph.inputs)) + BLOB * len(blobs))
    heap.take("objects", sum(string_bytes(name) for name in blobs))
    for name in graph.inputs:
        heap.take("objects", STRUCTURES["Input"] + 4 + MAT + string_bytes(name))
    for layer in layers:
        heap.take("objects", structure_bytes(layer))
    reading = READING if any(detail.name == ".bin file" for detail in graph.details) else 0
    heap.take("objects", reading)
    loader = Loader(heap, options, _hints(graph, sizes))
    made = tuple(loader.create(layer) for layer in layers)
    heap.take("objects", -reading)
    heap.step = "end of loading"
    heap.take("objects", HANDLE * (len(layers) + len(graph.inputs)))
    heap.burst(LISTS + LISTED * (len(layers) + len(graph.inputs)))
    moments = [heap.moment("load")]

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
    before: tuple[object, ...] = ()
    for at in range(runs):
        heap.restart()
        for allocator in (blob, work):
            allocator.requests.clear()
        Extractor(network, options, heap, blob, work, _forward, _beside).run()
        requests.append((tuple(blob.requests), tuple(work.requests)))
        live.append(heap.total)
        if at == 0:
            moments.append(heap.moment("run 1"))
        state = (heap.total, heap.peak, *(tuple(one.kept) for one in (blob, work) if isinstance(one, Pool)))
        if state == before:
            break
        before = state
    moments.append(heap.moment("steady"))
    return Simulated(tuple(moments), tuple(requests), tuple(live))


def _allocator(heap: Heap, options: Options, category: str) -> Pool | System:
    kind = Pool if options.pools else System
    return kind(heap, "activations" if category == "activations" else "workspace")


def _forward(layer: Layer) -> Forward:
    return FORWARD.get(layer.type, fallback)


def _beside(layer: Layer):  # type: ignore[no-untyped-def]
    return BESIDE.get(layer.type, nothing)


def _hints(graph: Graph, sizes: Mapping[str, Sizes]) -> dict[str, Sizes]:
    """Shapes that the file itself says of what layers make."""
    return {
        name: sizes[name]
        for operator in graph.operators if operator.attributes.get("shape_hints") for name in operator.outputs
    }  # fmt: skip


def unmodelled(graph: Graph, options: Options) -> tuple[Unmodelled, ...]:
    """Layers for which there is no rule, or not for this way of theirs."""
    found = []
    for operator in graph.operators:
        kind, values = operator.op_type, operator.attributes
        title = f"{operator.name} ({kind})"
        if kind not in FORWARD and kind not in INPLACE:
            found.append(Unmodelled(title, "no rule: counted with its weights and its results, without workspace"))
        elif values.get("int8_scale_term") or values.get("quantize_term"):
            found.append(Unmodelled(title, "int8 is not modelled: counted as if it were computed in float"))
        elif values.get("dynamic_weight"):
            found.append(Unmodelled(title, "weights that come as blobs are not modelled"))
        elif options.bf16_storage and kind in ("Gemm", "MultiHeadAttention", "LSTM"):
            found.append(Unmodelled(title, "bf16 of this type is not modelled: counted as float"))
    return tuple(found)


def _notes(options: Options) -> tuple[str, ...]:
    notes = [f"tiles for {options.l2_bytes:,} B of cache of level 2, {options.lanes} floats in a register"]
    if options.threads > 1:
        notes.append("stacks of threads are address space, not heap")
    if options.mapped:
        notes.append("the .bin is mapped: weights that are not repacked are not on the heap")
    return tuple(notes)
