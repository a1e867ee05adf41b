"""ncnn: a .param file of text, one line a layer, and a .bin file of arrays, as pnnx writes them.

Arrays follow each other at multiples of four bytes. Only those with a tag in front (kernels and matrices) are halved
by fp16 or quantised by int8; biases, norms and constants stay float32. pnnx always folds batch norms into the
convolution or product in front of them. int8 is what ncnn2int8 stores: scales for each output channel and one for
the input of each layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from peakmem.dtypes import FLOAT16, FLOAT32, INT8, DType
from peakmem.filesize.bits import padding
from peakmem.filesize.content import Stored
from peakmem.filesize.ncnn_layers import layers
from peakmem.filesize.ncnn_network import Layer, Network, Weight
from peakmem.filesize.sheet import Sheet
from peakmem.ir.graph import Graph

TAG, ALIGNMENT, SCALE = 4, 4, 4
MAGIC = len("7767517\n")
WIDTH = 24
# characters that a layer's type and name take at least
ROLES = {"weights": "weight", "biases": "bias", "norms": "norm", "statistics": "statistic"}
UNKNOWN_LINE = 40
# characters by which the line of a layer without a rule may be off
QUANTISED = frozenset({"Convolution", "ConvolutionDepthWise", "InnerProduct"})


def sheet(graph: Graph, dtype: DType | None) -> Sheet:
    """The two files that `graph`, its batch norms folded, becomes at float32, float16 or int8; None: as stored."""
    network = layers(graph)
    readers: dict[str, list[Layer]] = {}
    for layer in network.layers:
        for name in layer.inputs:
            readers.setdefault(name, []).append(layer)
    parts: dict[str, int] = {}
    tags = gaps = 0
    stored: list[Stored] = []
    for layer in network.layers:
        for weight in layer.weights:
            kept = _kept(network, layer, weight, dtype)
            nbytes = kept.nbytes(weight.elements) or 0
            parts[weight.part] = parts.get(weight.part, 0) + nbytes
            if weight.tagged:
                tags += TAG
                gaps += padding(nbytes, ALIGNMENT)
            role = ROLES.get(weight.part, "other")
            stored.append(Stored(weight.name, role, (weight.elements,), kept, weight.elements, 1, 0))
        if _quantised(network, layer, dtype):
            scales = layer.quantised + _hands_on(network, layer, readers, dtype)
            parts["quantisation"] = parts.get("quantisation", 0) + SCALE * scales
    text = _param(network, dtype)
    binary = sum(parts.values()) + tags + gaps
    strange = sum(network.strange.values())
    notes = []
    if strange:
        named = ", ".join(f"{count} × {name}" for name, count in sorted(network.strange.items()))
        notes.append(f"no rule says what pnnx makes of {named}: their lines are typical ones")
    quantised = any(_quantised(network, layer, dtype) for layer in network.layers)
    slack = strange * UNKNOWN_LINE + text // (2 if quantised else 10)
    if quantised:
        notes.append("ncnn2int8 writes the .param anew: without defaults, and with shapes where it knows them")
    return Sheet(
        "pnnx" + (" and ncnn2int8" if dtype == INT8 else ""), tuple(stored),
        {"graph": text, "header": tags, "padding": gaps}, ((".ncnn.param", text), (".ncnn.bin", binary)),
        exact=False, below=slack, above=slack, notes=tuple(notes), parts=parts,
    )  # fmt: skip


def _kept(network: Network, layer: Layer, weight: Weight, dtype: DType | None) -> DType:
    """How an array is stored."""
    own = network.own_dtype(weight.name) if weight.tagged else None
    if own is not None and (dtype is None or own.kind != "float"):
        return own
    if weight.tagged and dtype == FLOAT16:
        return FLOAT16
    return INT8 if weight.tagged and _quantised(network, layer, dtype) else FLOAT32


def _quantised(network: Network, layer: Layer, dtype: DType | None) -> bool:
    """Whether a layer's weight is int8 and its scales are stored."""
    if layer.kind not in QUANTISED or not layer.quantised:
        return False
    own = network.own_dtype(layer.weights[0].name) if layer.weights else None
    return dtype == INT8 or (own is not None and own.kind in ("int", "uint"))


def _hands_on(network: Network, layer: Layer, readers: dict[str, list[Layer]], dtype: DType | None) -> bool:
    """Whether a convolution gives int8 to the next ones, for which it has the scale of its result, too."""
    after = [reader for name in layer.outputs for reader in readers.get(name, ())]
    chain = (layer, *after)
    return bool(after) and all("Conv" in one.kind and _quantised(network, one, dtype) for one in chain)


def _param(network: Network, dtype: DType | None) -> int:
    """Bytes of the .param file."""
    lines = list(_split(network))
    blobs = {name for layer in lines for name in layer.outputs}
    first, last = set(network.graph.inputs), {network.blob(name) for name in network.graph.outputs}
    spelled: dict[str, int] = {}
    number = 0
    for layer in lines:
        for name in layer.outputs:
            if name in first:
                spelled[name] = len(f"in{list(network.graph.inputs).index(name)}")
            elif name in last:
                spelled[name] = len(f"out{[network.blob(one) for one in network.graph.outputs].index(name)}")
            else:
                number += 1
                spelled[name] = len(str(number))
    size = MAGIC + len(f"{len(lines)} {len(blobs)}\n")
    for layer in lines:
        names = [*layer.inputs, *layer.outputs]
        name = layer.outputs[0] if layer.kind == "MemoryData" else ""
        head = (
            max(WIDTH, len(layer.kind)) + 1 + max(WIDTH, len(name)) + len(f" {len(layer.inputs)} {len(layer.outputs)}")
        )
        size += head + sum(1 + spelled.get(one, 3) for one in names) + len(layer.parameters) + 1
        if _quantised(network, layer, dtype):
            size += len(" 8=2")
    return size


def _split(network: Network) -> Iterable[Layer]:
    """The layers with a Split behind each blob that several read."""
    readers: dict[str, int] = {}
    for layer in network.layers:
        for name in layer.inputs:
            readers[name] = readers.get(name, 0) + 1
    waiting: dict[str, list[str]] = {
        name: [f"{name}/{copy}" for copy in range(count)] for name, count in readers.items() if count > 1
    }
    copies = {name: list(names) for name, names in waiting.items()}
    for layer in network.layers:
        inputs = tuple(waiting[name].pop(0) if waiting.get(name) else name for name in layer.inputs)
        kept = tuple(name for name in layer.outputs if name in readers or layer.outputs.index(name) == 0)
        yield replace(layer, inputs=inputs, outputs=kept)
        for name in kept:
            if name in copies:
                yield Layer("Split", (name,), tuple(copies[name]))
