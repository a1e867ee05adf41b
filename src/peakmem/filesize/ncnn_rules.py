"""Which layer each operator becomes: one function a kind, called with the network so far and the blobs it reads.

None from a rule says that it does not hold. Parameters are spelled as pnnx 20261020 spells them (save_ncnn.cpp).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod

from peakmem.filesize.kinds import kind_of
from peakmem.filesize.ncnn_moving import MOVING, memory, spelled
from peakmem.filesize.ncnn_network import Layer, Network, Weight, number
from peakmem.ir.graph import Operator
from peakmem.ir.kinds import kernel

AXES: Mapping[int, str] = {1: "1D", 2: "", 3: "3D"}
SIZES: Mapping[str, tuple[int, ...]] = {"kernel": (1, 11, 21), "dilation": (2, 12, 22), "stride": (3, 13, 23)}
# numbers of the parameters for width, height and depth
PADS = (4, 14, 24)
BINARY: Mapping[str, int] = {"Add": 0, "Sub": 1, "Mul": 2, "Div": 3, "Max": 4, "Min": 5, "Pow": 6}


def _sizes(operator: Operator, what: str, axes: int) -> tuple[int, ...]:
    given = operator.attributes.get({"kernel": "kernel_shape", "dilation": "dilations", "stride": "strides"}[what])
    return tuple(int(one) for one in given) if given else (1,) * axes


def _window(operator: Operator, axes: int, pads: Sequence[int], *, kind: str = "") -> dict[int, str]:
    """The parameters that say where a window lies."""
    found: dict[int, str] = {}
    for what, numbers in SIZES.items():
        for size, place in zip(reversed(_sizes(operator, what, axes)), numbers, strict=False):
            found[place] = str(size)
    for pad, place in zip(reversed(pads[:axes]), PADS, strict=False):
        found[place] = str(pad)
    if axes == 2 and tuple(pads[2:]) != tuple(pads[:2]):
        found.update({15: str(pads[3]), 16: str(pads[2])} if len(pads) == 4 else {})
    if kind == "Deconvolution" and axes > 1:
        found.update({18: "0", 19: "0"})
    return found


def _dense(operator: Operator, given: list[str], outside: int, count: int, stored: tuple[Weight, ...]) -> Layer:
    """A matrix of weights on one vector; int8 adds a scale for each row and one for the input."""
    said = f" 0={outside} 1={len(stored) - 1} 2={count}"
    return Layer("InnerProduct", tuple(given[:1]), operator.outputs[:1], said, stored, outside + 1)


def convolution(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    weight = operator.inputs[1] if len(operator.inputs) > 1 else ""
    if not network.constant(weight):
        return None
    shape = kernel(operator, network.whole(weight))
    if shape is None or shape.outside is None:
        return None
    axes = len(shape.window)
    count, outside = network.count(weight), shape.outside
    bias = len(operator.inputs) > 2 and bool(operator.inputs[2])
    stored = _matrix(network, operator, outside, bias=bias)
    first = operator.outputs[0]
    group = int(operator.attributes.get("group", 1) or 1)
    turned = "Transpose" in kind_of(operator, network.graph)
    point = all(dim == 1 for dim in (*shape.window, *network.shape(operator.inputs[0])[1:]))
    if point and axes == 2 and group == 1 and not turned and given[0] in network.flat:
        network.flat.add(first)
        return _dense(operator, given, outside, count, stored)
    kind = "Deconvolution" if turned else "Convolution"
    values = _window(operator, axes, tuple(operator.attributes.get("pads", ()) or (0,) * axes), kind=kind)
    values |= {0: str(outside), 5: str(int(bias)), 6: str(count)}
    if axes == 1:
        values = {place: text for place, text in values.items() if place < 10}
    if group > 1:
        values[7] = str(group)
    title = f"{kind}{'DepthWise' if group > 1 else ''}{AXES.get(axes, '')}"
    # a kernel of its own for each channel has a scale of its own
    scales = 0 if turned or axes != 2 else (group if group > 1 else outside) + 1
    return Layer(title, tuple(given[:1]), (first,), spelled(values), stored, scales)


def _matrix(network: Network, operator: Operator, outside: int, *, bias: bool) -> tuple[Weight, ...]:
    stored = (Weight(operator.inputs[1], "weights", network.count(operator.inputs[1]), True),)
    return (*stored, Weight(operator.inputs[2], "biases", outside)) if bias else stored


def _gemm(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    weight = operator.inputs[1] if len(operator.inputs) > 1 else ""
    if not network.constant(weight) or len(given) != 1:
        return None
    shape, count = network.whole(weight), network.count(weight)
    outside = network.whole(operator.outputs[0])[-1] if network.whole(operator.outputs[0]) else shape[0]
    bias = len(operator.inputs) > 2 and bool(operator.inputs[2])
    stored = _matrix(network, operator, outside, bias=bias)
    flat = len(network.whole(operator.inputs[0])) <= 2 or operator.op_type == "InnerProduct"
    if flat:
        network.flat.add(operator.outputs[0])
        return _dense(operator, given, outside, count, stored)
    return _product(network, operator, given[0], operator.inputs[2] if bias else "")


def _product(network: Network, operator: Operator, given: str, bias: str) -> Layer:
    """A matrix of weights on rows: Gemm, whose bias has a tag too."""
    weight = operator.inputs[1]
    rows = prod(network.shape(operator.inputs[0])[:-1])
    inside = network.whole(operator.inputs[0])[-1]
    count = network.count(weight)
    outside = count // max(1, inside)
    stored = [Weight(weight, "weights", count, True)]
    if bias:
        stored.append(Weight(bias, "biases", network.count(bias), True))
    said = f" 10={4 if bias else -1} 2=0 3=1 4=0 5=1 6=1 7={rows} 8={outside} 9={inside}"
    return Layer("Gemm", (given,), operator.outputs[:1], said, tuple(stored), 1)


def _matmul(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    weight = operator.inputs[1]
    if not network.constant(weight):
        return Layer("MatMul", tuple(given), operator.outputs[:1]) if len(given) == 2 else None
    if len(network.whole(operator.inputs[0])) <= 2:
        count = network.count(weight)
        outside = network.whole(operator.outputs[0])[-1]
        network.flat.add(operator.outputs[0])
        return _dense(operator, given, outside, count, (Weight(weight, "weights", count, True),))
    return _product(network, operator, given[0], "")


def _batch_norm(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    channels = network.count(operator.inputs[3]) if len(operator.inputs) > 3 else 0
    epsilon = number(float(operator.attributes.get("epsilon", 1e-5)))
    parts = (("weight", "norms"), ("mean", "statistics"), ("variance", "statistics"), ("bias", "norms"))
    stored = tuple(Weight("", part, channels) for _, part in parts)
    return Layer("BatchNorm", tuple(given), operator.outputs[:1], f" 0={channels} 1={epsilon}", stored)


def _instance_norm(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    size = network.count(operator.inputs[1]) if len(operator.inputs) > 1 else 0
    epsilon = number(float(operator.attributes.get("epsilon", 1e-5)))
    stored = (Weight("", "norms", size), Weight("", "norms", size)) if size else ()
    said = f" 0={size} 1={epsilon} 2={int(bool(size))}"
    return Layer("InstanceNorm", tuple(given[:1]), operator.outputs[:1], said, stored)


def _group_norm(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    size = network.count(operator.inputs[1]) if len(operator.inputs) > 1 else 0
    groups = int(operator.attributes.get("num_groups", 1) or 1)
    epsilon = number(float(operator.attributes.get("epsilon", 1e-5)))
    stored = (Weight("", "norms", size), Weight("", "norms", size)) if size else ()
    said = f" 0={groups} 1={size} 2={epsilon} 3={int(bool(size))}"
    return Layer("GroupNorm", tuple(given[:1]), operator.outputs[:1], said, stored)


def _elu(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    alpha = number(float(operator.attributes.get("alpha", 1.0)))
    return Layer("ELU", tuple(given[:1]), operator.outputs[:1], f" 0={alpha}")


def _layer_norm(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    size = network.count(operator.inputs[1]) if len(operator.inputs) > 1 else 0
    epsilon = number(float(operator.attributes.get("epsilon", 1e-5)))
    stored = (Weight("", "norms", size), Weight("", "norms", size)) if size else ()
    return Layer(
        "LayerNorm", tuple(given[:1]), operator.outputs[:1], f" 0={size} 1={epsilon} 2={int(bool(size))}", stored
    )


def _pooling(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    axes = len(operator.attributes.get("kernel_shape", ()) or (1, 1))
    pads = tuple(operator.attributes.get("pads", ()) or (0,) * axes)
    values = _window(replace(operator), axes, pads)
    renamed = {0: "0" if kind_of(operator, network.graph) == "MaxPool" else "1"}
    for what, places in (("kernel", (1, 11, 21)), ("stride", (2, 12, 22))):
        for place, source in zip(places, SIZES[what], strict=True):
            if source in values:
                renamed[place] = values[source]
    for place, source in zip((3, 13, 23), PADS, strict=True):
        if source in values:
            renamed[place] = values[source]
    renamed[5] = "0" if operator.attributes.get("ceil_mode") else "1"
    if renamed[0] == "1":
        renamed[6] = str(int(operator.attributes.get("count_include_pad", 0) or 0))
    return Layer("Pooling", tuple(given[:1]), operator.outputs[:1], spelled(renamed))


def _binary(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    code = BINARY[kind_of(operator, network.graph)]
    if kind_of(operator, network.graph) == "Mul" and len(given) == 2:
        swish = _swish(network, operator, given)
        if swish is not None:
            return swish
    if len(given) == 2:
        return Layer("BinaryOp", tuple(given), operator.outputs[:1], f" 0={code}")
    stored = next((name for name in operator.inputs if name and network.constant(name)), "")
    if len(given) != 1:
        return None
    if not stored:  # the other side is an attribute
        return Layer("BinaryOp", tuple(given), operator.outputs[:1], f" 0={code} 1=1 2=1.0")
    value = network.value(stored)
    if value is not None:
        return Layer("BinaryOp", tuple(given), operator.outputs[:1], f" 0={code} 1=1 2={number(value)}")
    before = network.layers[-1] if network.layers else None
    if code == 0 and before is not None and before.outputs[:1] == (given[0],) and len(before.weights) == 1:
        taken = _with_bias(network, before, operator, stored)
        if taken is not None:
            network.layers.pop()
            return taken
    memory(network, stored)
    return Layer("BinaryOp", (given[0], stored), operator.outputs[:1], f" 0={code}")


def _with_bias(network: Network, before: Layer, operator: Operator, bias: str) -> Layer | None:
    """A product and the bias that follows it."""
    count = network.count(bias)
    if before.kind == "Gemm" and count == network.whole(operator.outputs[0])[-1]:
        said = before.parameters.replace(" 10=-1", " 10=4")
    elif before.kind == "InnerProduct" and " 1=0" in before.parameters:
        said = before.parameters.replace(" 1=0", " 1=1")
    else:
        return None
    added = Weight(bias, "biases", count, before.kind == "Gemm")
    return replace(before, outputs=operator.outputs[:1], parameters=said, weights=(*before.weights, added))


def _swish(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    """x · sigmoid(x) as one layer."""
    for one, other in (given, given[::-1]):
        for at, layer in enumerate(network.layers):
            if layer.kind == "Sigmoid" and layer.outputs == (one,) and layer.inputs == (other,):
                network.layers.pop(at)
                return Layer("Swish", (other,), operator.outputs[:1])
    return _gelu(network, operator, given)


def _gelu(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    """x · (erf(x/√2) + 1), whose half comes before or after, as one layer."""
    kinds = [layer.kind for layer in network.layers[-3:]]
    if kinds == ["BinaryOp", "Erf", "BinaryOp"] and network.layers[-1].outputs[0] in given:
        start = network.layers[-3].inputs
        if start and start[0] in given:
            del network.layers[-3:]
            return Layer("GELU", start, operator.outputs[:1])
    return None


def _clip(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    bounds = [network.value(name) for name in operator.inputs[1:3] if name]
    low = operator.attributes.get("min", bounds[0] if bounds else None)
    high = operator.attributes.get("max", bounds[1] if len(bounds) > 1 else None)
    low, high = 0.0 if low is None else float(low), 6.0 if high is None else float(high)
    return Layer("Clip", tuple(given[:1]), operator.outputs[:1], f" 0={number(low)} 1={number(high)}")


def _leaky(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    slope = number(float(operator.attributes.get("alpha", 0.01)))
    return Layer("ReLU", tuple(given[:1]), operator.outputs[:1], f" 0={slope}")


def _lrn(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    told = operator.attributes
    said = f" 0=0 1={int(told.get('size', 5))} 2={number(float(told.get('alpha', 1e-4)))}"
    said += f" 3={number(float(told.get('beta', 0.75)))} 4={number(float(told.get('bias', 1.0)))}"
    return Layer("LRN", tuple(given[:1]), operator.outputs[:1], said)


def _recurrent(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    kind = kind_of(operator, network.graph)
    gates, biases = {"LSTM": (4, 4), "GRU": (3, 4), "RNN": (1, 1)}[kind]
    weight, again = (network.count(name) for name in operator.inputs[1:3])
    hidden = int(operator.attributes.get("hidden_size", 0) or 1)
    many = max(1, again // max(1, gates * hidden * hidden))
    stored = (
        Weight(operator.inputs[1], "weights", weight, True), Weight("", "biases", many * biases * hidden, True),
        Weight(operator.inputs[2], "weights", again, True),
    )  # fmt: skip
    direction = 2 if many == 2 else 1 if operator.attributes.get("direction") == "reverse" else 0
    said = f" 0={hidden} 1={weight} 2={direction}" + (f" 3={hidden}" if kind == "LSTM" else "")
    return Layer(kind, tuple(given[:1]), operator.outputs[:1], said, stored, 2 * many * gates * hidden)


def _slope(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    count = network.count(operator.inputs[1])
    stored = (Weight(operator.inputs[1], "weights", count),)
    return Layer("PReLU", tuple(given[:1]), operator.outputs[:1], f" 0={count}", stored)


RULES: Mapping[str, Callable[[Network, Operator, list[str]], Layer | None]] = {
    **MOVING,
    "Conv": convolution, "ConvTranspose": convolution, "Gemm": _gemm, "MatMul": _matmul,
    "BatchNormalization": _batch_norm, "LayerNormalization": _layer_norm,
    "InstanceNormalization": _instance_norm, "GroupNormalization": _group_norm, "Elu": _elu, "MaxPool": _pooling,
    "AveragePool": _pooling, **dict.fromkeys(BINARY, _binary), "Clip": _clip, "LeakyRelu": _leaky, "LRN": _lrn,
    "PRelu": _slope, "LSTM": _recurrent, "GRU": _recurrent, "RNN": _recurrent,
}  # fmt: skip
