"""Layers that move, pick, join or reduce values, and tables that are looked up; functions as in ncnn_rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from peakmem.filesize.kinds import kind_of
from peakmem.filesize.ncnn_network import Layer, Network, Weight, number
from peakmem.ir.graph import Operator

REDUCTIONS: Mapping[str, int] = {"ReduceSum": 0, "ReduceMean": 3, "ReduceMax": 4, "ReduceMin": 5, "ReduceProd": 6}
ORDERS: Mapping[tuple[int, ...], int] = {
    (0, 1): 0, (1, 0): 1, (0, 1, 2): 0, (0, 2, 1): 1, (1, 0, 2): 2, (1, 2, 0): 3, (2, 0, 1): 4, (2, 1, 0): 5,
}  # fmt: skip
# order_type of Permute, by the order of the axes without the batch


def spelled(values: Mapping[int, str]) -> str:
    """Parameters in the order that a map of their numbers as texts has."""
    return "".join(f" {place}={values[place]}" for place in sorted(values, key=str))


def memory(network: Network, name: str) -> None:
    """A constant as a layer of its own."""
    if any(name in layer.outputs for layer in network.layers):
        return
    shape = network.whole(name)
    shape = shape[1:] if 1 < len(shape) < 4 and shape[0] == 1 else shape
    places = (0, 1, 11, 2) if len(shape) == 4 else (0, 1, 2)
    said = spelled({place: str(dim) for place, dim in zip(places, reversed(shape), strict=False)})
    network.layers.append(Layer("MemoryData", (), (name,), said, (Weight(name, "weights", network.count(name)),)))


def _concat(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    for name in operator.inputs:
        if name and network.constant(name):
            memory(network, name)
    axis = int(operator.attributes.get("axis", 1))
    rank = len(network.whole(operator.outputs[0]))
    names = tuple(network.blob(name) for name in operator.inputs if name)
    return Layer("Concat", names, operator.outputs[:1], f" 0={(axis + rank if axis < 0 else axis) - 1}")


def _softmax(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    axis = int(operator.attributes.get("axis", -1))
    rank = len(network.whole(operator.outputs[0]))
    return Layer("Softmax", tuple(given), operator.outputs[:1], f" 0={(axis + rank if axis < 0 else axis) - 1} 1=1")


def _split(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    axis = int(operator.attributes.get("axis", 0))
    rank = len(network.whole(operator.inputs[0]))
    axis = axis + rank if axis < 0 else axis
    sizes = [str(network.whole(name)[axis]) for name in operator.outputs]
    said = f" -23300={len(sizes)},{','.join(sizes)} 1={axis - 1}"
    return Layer("Slice", tuple(given[:1]), tuple(operator.outputs), said)


def _reshape(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    shuffled = _shuffle(network, operator, given)
    if shuffled is not None:
        return shuffled
    shape = network.shape(operator.outputs[0])
    if len(network.shape(operator.inputs[0])) == 1 and len(shape) == 1:
        network.flat.add(operator.outputs[0])
        return Layer("Reshape", tuple(given[:1]), operator.outputs[:1], f" 0={shape[0]} 1=1")
    if len(shape) == 1 and kind_of(operator, network.graph) in ("Reshape", "Flatten"):
        return Layer("Flatten", tuple(given[:1]), operator.outputs[:1])
    said = spelled({place: str(dim) for place, dim in zip((0, 1, 2, 11), reversed(shape), strict=False)})
    return Layer("Reshape", tuple(given[:1]), operator.outputs[:1], said)


def _shuffle(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    """Groups of channels taken apart, exchanged and put together, as one layer."""
    last = network.layers[-2:]
    if [layer.kind for layer in last] != ["Reshape", "Permute"] or last[1].outputs != tuple(given[:1]):
        return None
    apart, whole = network.shape(last[0].outputs[0]), network.shape(operator.outputs[0])
    if len(apart) != len(whole) + 1 or apart[0] * apart[1] != whole[0]:
        return None
    source = last[0].inputs
    del network.layers[-2:]
    return Layer("ShuffleChannel", source, operator.outputs[:1], f" 0={apart[0]} 1=0")


def transpose(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    order = tuple(int(axis) for axis in operator.attributes.get("perm", ()))
    inside = tuple(axis - 1 for axis in order[1:])
    return Layer("Permute", tuple(given[:1]), operator.outputs[:1], f" 0={ORDERS.get(inside, 0)}")


def _slice(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    starts, ends = network.numbers(operator, 1, "starts"), network.numbers(operator, 2, "ends")
    axes = network.numbers(operator, 3, "axes") or tuple(range(len(starts)))
    if not starts or len(starts) != len(ends) or len(given) != 1:
        return None
    return _crop(given[0], operator.outputs[0], starts, ends, tuple(axis - 1 for axis in axes))


def _crop(given: str, made: str, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int]) -> Layer:
    lists = [
        f" {place}={len(numbers)},{','.join(map(str, numbers))}"
        for place, numbers in ((-23310, ends), (-23311, axes), (-23309, starts))
    ]
    return Layer("Crop", (given,), (made,), "".join(lists))


def _resize(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    before, after = network.shape(operator.inputs[0])[1:], network.shape(operator.outputs[0])[1:]
    if len(before) != 2 or len(after) != 2:
        return None
    way = {"nearest": 1, "linear": 2, "cubic": 3}.get(str(operator.attributes.get("mode", "nearest")), 1)
    corners = int(operator.attributes.get("coordinate_transformation_mode") == "align_corners")
    height, width = (number(new / old) for new, old in zip(after, before, strict=True))
    return Layer("Interp", tuple(given[:1]), operator.outputs[:1], f" 0={way} 1={height} 2={width} 6={corners}")


def _reduction(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    axes = network.numbers(operator, 1, "axes")
    kept = int(operator.attributes.get("keepdims", 1))
    if kept == 0 and kind_of(operator, network.graph) == "ReduceMean" and axes in ((2, 3), (-2, -1), (-1, -2)):
        network.flat.add(operator.outputs[0])
    inside = ",".join(str(axis - 1 if axis > 0 else axis) for axis in axes)
    said = (
        f" 0={REDUCTIONS[kind_of(operator, network.graph)]} 1={int(not axes)} -23303={len(axes)},{inside} 4={kept} 5=1"
    )
    return Layer("Reduction", tuple(given[:1]), operator.outputs[:1], said)


def _one_of(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    """One place of an axis: a Crop of one, and a Squeeze."""
    index, axis = network.numbers(operator, 1, ""), int(operator.attributes.get("axis", 0))
    if len(index) != 1 or len(given) != 1:
        return None
    between = f"{operator.outputs[0]}/crop"
    network.layers.append(_crop(given[0], between, index, (index[0] + 1,), (axis - 1,)))
    if len(network.shape(operator.outputs[0])) == 1:
        network.flat.add(operator.outputs[0])
    return Layer("Squeeze", (between,), operator.outputs[:1], f" -23303=1,{axis - 1}")


def _gather(network: Network, operator: Operator, given: list[str]) -> Layer | None:
    table = operator.inputs[0]
    if not network.constant(table):
        return _one_of(network, operator, given)
    rows, columns = (*network.whole(table), 1)[:2]
    said = f" 0={columns} 1={rows} 2=0 3={rows * columns}"
    stored = (Weight(table, "weights", rows * columns, True),)
    return Layer("Embed", tuple(given[:1]), operator.outputs[:1], said, stored, 1)


MOVING: Mapping[str, Callable[[Network, Operator, list[str]], Layer | None]] = {
    "Concat": _concat, "Softmax": _softmax, "Split": _split, "Reshape": _reshape, "Flatten": _reshape,
    "Resize": _resize, "Slice": _slice, **dict.fromkeys(REDUCTIONS, _reduction), "Gather": _gather,
    "Transpose": transpose,
}  # fmt: skip
