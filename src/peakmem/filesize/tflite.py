"""TFLite: a flatbuffer of tables, with the contents of constants at multiples of sixteen, as litert-torch writes it.

Contents are counted tensor by tensor; tables and names are typical ones, as tensors are named after the places of the
program they come from. A convolution without a bias gets one of zeros. A norm that is left is a product and a sum.
Constants of the same contents are stored once, so that a network nobody has trained (all biases zero) is smaller: the
lower bound says by how much. int8 is ai-edge-quantizer's static recipe: a scale (float32) and a zero point (int64) for
each output channel of weights and of biases, and for each activation.
"""

from __future__ import annotations

from collections.abc import Mapping

from peakmem.dtypes import FLOAT32, DType
from peakmem.filesize.content import Stored
from peakmem.filesize.ncnn_layers import layers
from peakmem.filesize.ncnn_network import Layer, Network
from peakmem.filesize.sheet import Sheet
from peakmem.ir.graph import Graph

SCALES = 4 + 8
# bytes of a scale and its zero point
FIXED, OPERATOR, CONSTANT, GAP = 300, 96, 102, 8
# bytes of a file's frame, of an operator's tables and its result's, of a constant's tables, and its padding on
# average; fitted to the files that litert-torch 0.10 writes for the zoo
NAME, NORM_NAME = 62, 85
# bytes of a tensor's name, the modules it comes from, and what a norm inside adds to three of them
QUANTISED_TENSOR = 20
# bytes of a quantisation table
STEP, QUANTISED_STEP = 2900, 4700
# bytes of one step of a recurrent layer, which is written out step by step, and what static int8 adds to it beside
# scales for each channel
MATRICES = frozenset(
    {
        "Convolution", "ConvolutionDepthWise", "InnerProduct", "Gemm", "Embed", "MatMul", "Deconvolution", "LSTM",
        "GRU", "RNN",
    }
)  # fmt: skip
HIDDEN = frozenset({"Input", "Split"})
ROLES = {"weights": "weight", "biases": "bias", "norms": "norm", "statistics": "statistic"}
NORM_VECTORS = 4
# of a norm that is left: mean, deviation, scale and shift, each with an operator of its own
TIMES: Mapping[str, int] = {
    "LayerNorm": 10, "BatchNorm": NORM_VECTORS, "Gemm": 3, "GELU": 3, "ShuffleChannel": 3, "Swish": 2, "Slice": 2,
    "Convolution1D": 2, "LRN": 14,
}  # fmt: skip
# operators that a layer becomes, where it is several
SCHEMES = ("static", "dynamic")
# int8 for weights and activations, or for weights alone


def sheet(graph: Graph, dtype: DType | None, *, norms: int = 0, scheme: str = "static") -> Sheet:
    """The file that `graph`, in which `norms` batch norms were folded, becomes at `dtype`."""
    network = layers(graph)
    parts: dict[str, int] = {}
    written: list[Stored] = []
    whole = any(
        _whole(_kept(network, layer, *one[:2], dtype, static=False))
        for layer in network.layers
        for one in _constants(layer)
    )
    static = whole and scheme == "static"
    same: dict[int, int] = {}
    seen: set[str] = set()
    for layer in network.layers:
        for name, part, count, channels in _constants(layer):
            if name in seen:
                continue
            seen.update({name} - {""})
            kept = _kept(network, layer, name, part, dtype, static=scheme == "static")
            nbytes = kept.nbytes(count) or 0
            parts[part] = parts.get(part, 0) + nbytes
            written.append(Stored("", ROLES[part], (count,), kept, count, channels, 0))
            if part in ("biases", "norms"):
                same[nbytes] = same.get(nbytes, 0) + 1
            if whole and (_whole(kept) or (static and part == "biases")):
                parts["quantisation"] = parts.get("quantisation", 0) + SCALES * channels
    operators = sum(TIMES.get(layer.kind, 1) for layer in network.layers if layer.kind not in HIDDEN)
    constants = len(written)
    flowing = operators + len(graph.inputs)
    if static:
        parts["quantisation"] = parts.get("quantisation", 0) + SCALES * flowing
    steps = sum(_steps(network, layer) for layer in network.layers)
    if static:
        for layer in network.layers:
            channels = max((weight.elements for weight in layer.weights if weight.part == "biases"), default=0)
            more = _steps(network, layer) * (SCALES * channels + QUANTISED_STEP)
            parts["quantisation"] = parts.get("quantisation", 0) + more
    tables = FIXED + OPERATOR * flowing + CONSTANT * constants + STEP * steps
    tables += QUANTISED_TENSOR * (flowing + constants) if whole else 0
    names = NAME * (flowing + constants) + 3 * NORM_NAME * norms
    # nobody's scales are the same twice, so that at int8 no two biases are
    twice = 0 if static else sum(nbytes * (count - 1) for nbytes, count in same.items()) + parts.get("norms", 0)
    notes = []
    if twice:
        notes.append("constants of the same contents are stored once; a network nobody has trained has many")
    if steps:
        notes.append(f"{steps} steps of recurrent layers are written out one by one")
    rows = sum(weight.elements for layer in network.layers if layer.kind == "Gemm" for weight in layer.weights[1:])
    # whether a bias behind a product of rows is the product's, with scales, or a sum's, the converter decides
    unsure = SCALES * rows if static else 0
    doubt = (names + tables + (parts.get("quantisation", 0) if steps and whole else 0)) // 4
    return Sheet(
        "litert-torch" + (" and ai-edge-quantizer" if whole else ""), tuple(written),
        {"graph": tables, "names and shapes": names, "padding": GAP * constants}, exact=False,
        below=twice + doubt + unsure, above=doubt + names,
        notes=tuple(notes), parts=parts,
    )  # fmt: skip


def _constants(layer: Layer) -> list[tuple[str, str, int, int]]:
    """(name, part, elements, channels) of what a layer's operators read."""
    if layer.kind == "BatchNorm":
        count = layer.weights[0].elements
        return [("", "norms", count, 1)] * NORM_VECTORS
    found = []
    outside = 0
    for weight in layer.weights:
        if weight.part == "biases":
            outside = weight.elements
    for weight in layer.weights:
        if weight.part == "biases":
            found.append(("", weight.part, weight.elements, weight.elements))
        else:
            found.append((weight.name, weight.part, weight.elements, outside or _channels(layer)))
    if layer.kind.startswith(("Convolution", "Deconvolution")) and not outside:
        found.append(("", "biases", _channels(layer), _channels(layer)))
    return found


def _channels(layer: Layer) -> int:
    """Output channels of a convolution, as its parameters say."""
    for word in layer.parameters.split():
        if word.startswith("0="):
            return int(float(word[2:]))
        if word.startswith("8="):
            return int(word[2:])
    return 1


def _kept(network: Network, layer: Layer, name: str, part: str, dtype: DType | None, *, static: bool) -> DType:
    """How a constant is stored."""
    own = network.own_dtype(name)
    if own is not None and (dtype is None or _whole(own)):
        return own
    if dtype is None or dtype.kind == "float":
        return dtype or FLOAT32
    if part == "norms":
        return dtype if static else FLOAT32
    return dtype if part == "weights" and layer.kind in MATRICES else FLOAT32


def _whole(dtype: DType) -> bool:
    return dtype.kind in ("int", "uint")


def _steps(network: Network, layer: Layer) -> int:
    """Steps that a recurrent layer runs, in all its directions."""
    if layer.kind not in ("LSTM", "GRU", "RNN"):
        return 0
    shape = network.whole(layer.outputs[0])
    return shape[0] * (shape[1] if len(shape) == 4 else 1) if shape else 1
