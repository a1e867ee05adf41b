"""Random small .tflite files that TensorFlow Lite for Microcontrollers runs: for its arena, byte by byte."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.unit.frontends import tflite_files as files
from tests.unit.frontends.tflite_files import FLOAT32, INT8, INT32, Table, Vector, ints

Shape = tuple[int, ...]
POOL, CONCAT, LOGISTIC, MAX_POOL, SOFTMAX, SVDF, PAD, MEAN, SPLIT, TRANSPOSE_CONV = 1, 2, 14, 17, 25, 27, 34, 40, 49, 67
MIRROR_PAD, DEPTH_TO_SPACE = 100, 5
CODES = (
    files.ADD, POOL, CONCAT, files.CONV_2D, files.DEPTHWISE, files.FULLY_CONNECTED, LOGISTIC, MAX_POOL, files.MUL,
    files.RELU, files.RESHAPE, SOFTMAX, SVDF, PAD, MEAN, SPLIT, TRANSPOSE_CONV, MIRROR_PAD, DEPTH_TO_SPACE,
)  # fmt: skip


@dataclass
class Made:
    """A subgraph in the making."""

    chance: random.Random
    whole: bool
    # int8, or float32
    tensors: list[tuple[Shape, int, int, Table | None, bool]] = field(default_factory=list)
    buffers: list[bytes] = field(default_factory=list)
    calls: list[tuple[int, list[int], list[int], int, dict[int, object]]] = field(default_factory=list)

    def tensor(
        self, shape: Sequence[int], dtype: int | None = None, stored: bytes | None = None, *, variable: bool = False,
        scale: float = 0.5, zero: int = 0, scales: int = 1, axis: int = 0,
    ) -> int:  # fmt: skip
        kind = (INT8 if self.whole else FLOAT32) if dtype is None else dtype
        quantised = None
        if self.whole and scales:
            quantised = Table({2: Vector("f", [scale] * scales), 3: Vector("q", [zero] * scales), 6: ("i", axis)})
        if stored is not None:
            self.buffers.append(stored)
        buffer = len(self.buffers) if stored is not None else 0
        self.tensors.append((tuple(shape), kind, buffer, quantised, variable))
        return len(self.tensors) - 1

    def numbers(self, *values: int, shape: Shape | None = None) -> int:
        return self.tensor((len(values),) if shape is None else shape, INT32, files.i32(*values), scales=0)

    def weights(self, shape: Shape, channels: int, axis: int = 0) -> int:
        scales = channels if self.chance.random() < 0.7 else 1
        return self.tensor(shape, None, bytes(math.prod(shape) * (1 if self.whole else 4)), scales=scales, axis=axis)

    def bias(self, count: int) -> int:
        return self.tensor((count,), INT32 if self.whole else FLOAT32, bytes(4 * count), scale=0.25)

    def call(self, code: int, inputs: Sequence[int], outputs: Sequence[int], kind: int = 0, **options: object) -> None:
        numbered = {int(name[1:]): value for name, value in options.items()}
        self.calls.append((code, list(inputs), list(outputs), kind, numbered))

    def shape(self, at: int) -> Shape:
        return self.tensors[at][0]


Step = Callable[[Made, int], list[int]]


def convolution(net: Made, x: int) -> list[int]:
    batch, rows, columns, channels = net.shape(x)
    out, side, stride = net.chance.choice((1, 4, 6, 20)), net.chance.choice((1, 3)), net.chance.choice((1, 1, 2))
    y = net.tensor((batch, -(-rows // stride), -(-columns // stride), out))
    kernel = net.weights((out, side, side, channels), out)
    net.call(files.CONV_2D, (x, kernel, net.bias(out)), (y,), 1, _1=("i", stride), _2=("i", stride))
    return [y]


def depthwise(net: Made, x: int) -> list[int]:
    batch, rows, columns, channels = net.shape(x)
    times, stride = net.chance.choice((1, 2)), net.chance.choice((1, 2))
    out = channels * times
    y = net.tensor((batch, -(-rows // stride), -(-columns // stride), out))
    kernel = net.weights((1, 3, 3, out), out, 3)
    options = {"_1": ("i", stride), "_2": ("i", stride), "_3": ("i", times)}
    net.call(files.DEPTHWISE, (x, kernel, net.bias(out)), (y,), 2, **options)
    return [y]


def transposed(net: Made, x: int) -> list[int]:
    batch, rows, columns, channels = net.shape(x)
    shape = (batch, 2 * rows, 2 * columns, net.chance.choice((1, 5)))
    y = net.tensor(shape)
    kernel = net.weights((shape[3], 2, 2, channels), shape[3])
    bias = [net.bias(shape[3])] if net.chance.random() < 0.5 else []
    net.call(TRANSPOSE_CONV, (net.numbers(*shape), kernel, x, *bias), (y,), 49, _1=("i", 2), _2=("i", 2))
    return [y]


def pool(net: Made, x: int) -> list[int]:
    batch, rows, columns, channels = net.shape(x)
    y = net.tensor((batch, -(-rows // 2), -(-columns // 2), channels))
    window = {f"_{at}": ("i", 2) for at in (1, 2, 3, 4)}
    net.call(net.chance.choice((POOL, MAX_POOL)), (x,), (y,), 5, **window)
    return [y]


def mean(net: Made, x: int) -> list[int]:
    batch, _, _, channels = net.shape(x)
    y = net.tensor((batch, channels))
    net.call(MEAN, (x, net.numbers(1, 2)), (y,), 27)
    return [y]


def unpacked(net: Made, x: int) -> list[int]:
    batch, rows, columns, channels = net.shape(x)
    if channels % 4:
        return []
    y = net.tensor((batch, 2 * rows, 2 * columns, channels // 4))
    net.call(DEPTH_TO_SPACE, (x,), (y,), 94, _0=("i", 2))
    return [y]


def dense(net: Made, x: int) -> list[int]:
    shape = net.shape(x)
    out = net.chance.choice((2, 9))
    y = net.tensor((math.prod(shape[:-1]), out))
    kernel = net.weights((out, shape[-1]), out)
    net.call(files.FULLY_CONNECTED, (x, kernel, net.chance.choice((-1, net.bias(out)))), (y,), 8)
    return [y]


def joined(net: Made, x: int) -> list[int]:
    shape, count = net.shape(x), net.chance.randint(2, 4)
    y = net.tensor((*shape[:-1], shape[-1] * count))
    net.call(CONCAT, [x] * count, (y,), 10, _0=("i", len(shape) - 1))
    return [y]


def halves(net: Made, x: int) -> list[int]:
    shape = net.shape(x)
    if shape[-1] % 2:
        return []
    both = [net.tensor((*shape[:-1], shape[-1] // 2)) for _ in range(2)]
    net.call(SPLIT, (net.numbers(len(shape) - 1, shape=()), x), both, 35, _0=("i", 2))
    return both


def summed(net: Made, x: int) -> list[int]:
    y = net.tensor(net.shape(x))
    code, kind = net.chance.choice(((files.ADD, 11), (files.MUL, 21)))
    others = [at for at, one in enumerate(net.tensors) if one[0] == net.shape(x) and not one[2] and not one[4]][:-1]
    net.call(code, (x, net.chance.choice(others)), (y,), kind)
    return [y]


def flat(net: Made, x: int) -> list[int]:
    shape = (1, math.prod(net.shape(x)))
    y = net.tensor(shape)
    net.call(files.RESHAPE, (x, net.numbers(*shape)), (y,), 17, _0=ints(*shape))
    return [y]


def softmax(net: Made, x: int) -> list[int]:
    y = net.tensor(net.shape(x), scale=1 / 256, zero=-128)
    net.call(SOFTMAX, (x,), (y,), 9, _0=("f", 1.0))
    return [y]


def logistic(net: Made, x: int) -> list[int]:
    y = net.tensor(net.shape(x), scale=1 / 256, zero=-128)
    net.call(LOGISTIC, (x,), (y,))
    return [y]


def relu(net: Made, x: int) -> list[int]:
    y = net.tensor(net.shape(x))
    net.call(files.RELU, (x,), (y,))
    return [y]


def padded(net: Made, x: int) -> list[int]:
    shape = net.shape(x)
    around = [net.chance.choice((0, 1)) if size > 1 else 0 for size in shape]
    y = net.tensor([size + 2 * more for size, more in zip(shape, around, strict=True)])
    table = net.numbers(*(more for one in around for more in (one, one)), shape=(len(shape), 2))
    code, kind = net.chance.choice(((PAD, 22), (MIRROR_PAD, 77)))
    net.call(code, (x, table), (y,), kind)
    return [y]


def svdf(net: Made, x: int) -> list[int]:
    """A layer with a state: rank 2, 3 units, 4 steps."""
    batch, size = net.shape(x)
    filters = net.weights((6, size), 1)
    state = net.tensor((batch, 24), variable=True)
    y = net.tensor((batch, 3))
    time = net.weights((6, 4), 1)
    net.call(SVDF, (x, filters, time, net.bias(3), state), (y,), 6, _0=("i", 2))
    return [y]


IMAGES: tuple[Step, ...] = (convolution, convolution, depthwise, depthwise, pool, transposed, mean, unpacked)
ANY: tuple[Step, ...] = (dense, joined, halves, summed, summed, flat, softmax, logistic, relu, padded)


def network(seed: int) -> bytes:
    """A file; what is drawn decides all of it. Nothing in it is larger than some KiB."""
    chance = random.Random(seed)
    net = Made(chance, chance.random() < 0.6)
    side = chance.choice((4, 7, 9))
    live = [net.tensor((1, side, side, chance.choice((1, 3, 4, 8))))]
    for _ in range(chance.randint(2, 12)):
        x = chance.choice(live[-3:])
        step = chance.choice(IMAGES + ANY if len(net.shape(x)) == 4 else ANY)
        if math.prod(net.shape(x)) <= 4096:
            live += step(net, x)
    if chance.random() < 0.4:
        live += svdf(net, flat(net, live[-1])[0])
    if chance.random() < 0.3:
        net.tensor((3, 5))  # nothing reads it
    outputs = list(dict.fromkeys((live[-1], chance.choice(live))))
    order = list(range(len(net.tensors)))
    if chance.random() < 0.6:
        chance.shuffle(order)
    return _file(net, [live[0]], outputs, order, chance)


def _file(net: Made, inputs: list[int], outputs: list[int], order: list[int], chance: random.Random) -> bytes:
    new = {old: at for at, old in enumerate(order)} | {-1: -1}
    tensors = []
    for old in order:
        shape, kind, buffer, quantised, variable = net.tensors[old]
        more = {4: quantised} if quantised else None
        tensors.append(files.tensor(f"t{old}", shape, kind, buffer, variable=variable, more=more))
    calls = [
        files.operator(CODES.index(code), [new[at] for at in given], [new[at] for at in made], kind, options)
        for code, given, made, kind, options in net.calls
    ]
    graph = files.subgraph(tensors, [new[at] for at in inputs], [new[at] for at in outputs], calls)
    buffers, more = list(net.buffers), {}
    if chance.random() < 0.2:
        offsets = [chance.choice((-1, -1, 0, 16, 2048)) for _ in order]
        buffers.append(files.i32(1, 0, len(offsets), *offsets))
        more = {6: [Table({0: "OfflineMemoryAllocation", 1: ("I", len(buffers))})]}
    return files.model([graph], [files.code(one) for one in CODES], buffers, more)
