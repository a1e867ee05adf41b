"""How MNN computes a convolution in float, what it keeps for it and what it needs meanwhile.

source/backend/cpu/compute of 3.6.1: ConvolutionFloatFactory.cpp (the choice), Convolution1x1Strassen.cpp,
DenseConvolutionTiledExecutor.cpp, ConvolutionPackWinograd.cpp, ConvolutionGroup.cpp; CPUConvolutionDepthwise.cpp and
CPUDeconvolution.cpp one folder up.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt, prod
from typing import Any

from peakmem.engines.mnn.allocators import Eager, Planner
from peakmem.engines.mnn.kernels import FLOAT, HEADER, Kernels, divided, up
from peakmem.engines.mnn.strassen import strassen
from peakmem.engines.mnn.values import Command

WINOGRAD_SIZES = (4, 6, 8)
# of the transformed tile; MAX_UNIT 8, MIN_UNIT 2


@dataclass(frozen=True, slots=True)
class Chosen:
    """The way one convolution, or one group of it, is computed."""

    way: str
    # "product" for 1x1, "winograd", "dense"
    inputs: int
    outputs: int
    # channels of a group
    unit: int = 0
    # Winograd: side of the output tile


def choose(command: Command, kernels: Kernels, level: int) -> Chosen:
    """_createUnit; `level` is the setting winograd_level."""
    given, made = command.inputs[0], command.outputs[0]
    kernel, group = command.attributes["kernel"], groups(command)
    inputs, outputs = given.channels // group, made.channels // group
    strides, dilations = command.attributes["strides"], command.attributes["dilations"]
    if kernel == (1, 1) and strides == (1, 1) and given.shape[2:] == made.shape[2:]:
        return Chosen("product", inputs, outputs)
    square = kernel[0] == kernel[1] and kernel[0] > 1 and dilations == (1, 1) and strides == (1, 1)
    if level and square:
        unit = _best_unit(kernel[0], inputs, outputs, made.shape[2:], kernels.threads, level)
        if unit > 1:
            return Chosen("winograd", inputs, outputs, unit)
    return Chosen("dense", inputs, outputs)


def groups(command: Command) -> int:
    """How many convolutions it is: ConvolutionFloatFactory::create."""
    inside, channels = int(command.attributes["inputs"]), command.inputs[0].channels
    if inside > 0 and inside != channels and channels % inside == 0:
        return channels // inside
    return max(1, int(command.attributes["group"]))


def _best_unit(kernel: int, inputs: int, outputs: int, sizes: tuple[int, ...], threads: int, level: int) -> int:
    """ConvolutionPackWinograd::bestWinogradUnit: the tile with the fewest additions and multiplications."""
    height, width = (*sizes, 1, 1)[:2]
    if not height * width * inputs * outputs:
        return 0
    most = max(2, min(8, isqrt(-(-height * width // threads)))) if level == 3 else 2
    plain = height * width * 2.0 * inputs * outputs * kernel * kernel
    best, rate = 0, 0.0
    for unit in range(2, most + 1):
        tile = unit + kernel - 1
        if tile not in WINOGRAD_SIZES:
            continue
        cost = 2.0 * tile * tile * tile * inputs + 2.0 * tile * tile * inputs * outputs
        cost += (tile + unit) * unit * 2.0 * tile * outputs
        cost *= -(-width // unit) * -(-height // unit)
        if plain / cost > rate:
            best, rate = unit, plain / cost
    return best if rate >= 1.0 else 0


# -- what is kept: static memory -----------------------------------------------------------


def create(command: Command, kernels: Kernels, level: int, static: Eager) -> None:
    """The weights and biases of one convolution."""
    if command.op_type == "ConvolutionDepthwise":
        channels = kernels.blocks(command.outputs[0].channels)
        static.alloc(channels * prod(command.attributes["kernel"]) * FLOAT)
        static.alloc(channels * FLOAT)
        return
    if command.op_type.startswith("Deconvolution"):
        _create_deconvolution(command, kernels, static)
        return
    if not command.weights:
        return
    expanded = expanded_bytes(command)
    if expanded:
        static.beside(expanded)
    chosen, many = choose(command, kernels, level), groups(command)
    for _ in range(many):
        _create_unit(command, chosen, kernels, static)
    if expanded:
        static.beside(-expanded)


def expanded_bytes(command: Command) -> int:
    """Weights that the file stores in fewer bytes are floats while the convolution is made; in the end they go."""
    if "stored" not in command.attributes:
        return 0
    shape = command.weights[0][0]
    return prod(shape) * FLOAT + HEADER


def _create_unit(command: Command, chosen: Chosen, kernels: Kernels, static: Eager) -> None:
    area = prod(command.attributes["kernel"])
    static.alloc(kernels.blocks(chosen.outputs) * FLOAT)
    columns = up(chosen.outputs, kernels.columns)
    if chosen.way == "product":
        static.alloc(columns * chosen.inputs * FLOAT)
    elif chosen.way == "winograd":
        side = chosen.unit + command.attributes["kernel"][0] - 1
        size = side * side * columns * chosen.inputs * FLOAT
        static.beside(size + HEADER)
        static.alloc(size)
        static.beside(-size - HEADER)
    else:
        static.alloc(columns * chosen.inputs * area * FLOAT)
        static.free(static.alloc(chosen.outputs * chosen.inputs * area * FLOAT))


def _create_deconvolution(command: Command, kernels: Kernels, static: Eager) -> None:
    inputs, outputs = command.inputs[0].channels, command.outputs[0].channels
    area = prod(command.attributes["kernel"])
    wide = kernels.blocks(outputs)
    if command.op_type == "DeconvolutionDepthwise":
        static.alloc(wide * area * FLOAT)
        static.alloc(wide * FLOAT)
        return
    static.alloc(up(wide * area, kernels.columns) * inputs * FLOAT)
    static.alloc(wide * FLOAT)
    cache = wide * area * inputs * FLOAT + HEADER
    static.beside(cache)
    static.beside(-cache)


# -- what it needs while it runs: planned memory --------------------------------------------


def resize(command: Command, kernels: Kernels, level: int, planner: Planner) -> None:
    """Ask for the working memory of one convolution and give it back."""
    if command.op_type == "ConvolutionDepthwise":
        _resize_depthwise(command, kernels, planner)
    elif command.op_type == "Deconvolution":
        _resize_deconvolution(command, kernels, planner)
    elif command.op_type == "Convolution":
        chosen, many = choose(command, kernels, level), groups(command)
        parts: list[Any] = []
        given, made = command.inputs[0], command.outputs[0]
        if many > 1:
            # slices of input and output, in blocks and plain
            sizes = (
                given.batch * kernels.blocks(chosen.outputs) * made.area,
                given.batch * kernels.blocks(chosen.inputs) * given.area, given.count, made.count,
            )  # fmt: skip
            parts = [planner.alloc(size * FLOAT) for size in sizes]
        for _ in range(many):
            _resize_unit(command, chosen, kernels, planner)
        give_back(planner, parts)


def give_back(planner: Planner, parts: list[Any]) -> None:
    """Free in the order of asking."""
    for part in parts:
        planner.free(part)


def _resize_unit(command: Command, chosen: Chosen, kernels: Kernels, planner: Planner) -> None:
    made = command.outputs[0]
    plane = made.batch * made.area
    kernel = command.attributes["kernel"]
    if chosen.way == "product":
        _resize_product(chosen, plane, kernels, planner)
    elif chosen.way == "winograd":
        side = chosen.unit + kernel[0] - 1
        inside, outside = kernels.blocks(chosen.inputs), kernels.blocks(chosen.outputs)
        blocks = inside // kernels.pack
        sizes = (
            kernels.rows * (inside + outside) * side * side,
            side * kernels.rows * inside,
            (1 + blocks * kernels.rows) * side * side * kernels.pack,
        )
        first, second, third = (planner.alloc(size * kernels.threads * FLOAT) for size in sizes)
        give_back(planner, [first, third, second])
    else:
        width = made.shape[3] if len(made.shape) > 3 else 1
        lines = -(-kernels.rows // max(1, width)) + 1
        tile = planner.alloc(kernels.threads * chosen.inputs * prod(kernel) * kernels.rows * FLOAT)
        pointers = planner.alloc(prod(kernel) * lines * kernels.threads * 24)
        give_back(planner, [tile, pointers])


def _resize_product(chosen: Chosen, plane: int, kernels: Kernels, planner: Planner) -> None:
    """Convolution1x1Strassen::onResize: rows, or else blocks of output channels, are shared among the threads."""
    planner.begin()
    blocks = kernels.blocks(chosen.outputs) // kernels.pack
    if plane > kernels.rows * 8 * kernels.threads and plane > blocks:
        for rows in divided(plane, kernels.threads):
            if rows > 0:
                strassen(rows, chosen.inputs, chosen.outputs, kernels, planner)
    else:
        by = max(1, kernels.columns // kernels.pack)
        start = 0
        for many in divided(-(-blocks // by), kernels.threads):
            end = min(start + many * by, blocks)
            if end > start:
                tiles = -(-chosen.outputs // kernels.columns) - start * kernels.pack // kernels.columns
                wanted = min(-(-(end - start) * kernels.pack // kernels.columns), tiles)
                columns = min((end - start) * kernels.pack, wanted * kernels.columns)
                strassen(plane, chosen.inputs, columns, kernels, planner)
            start = end
    planner.end()


def _resize_depthwise(command: Command, kernels: Kernels, planner: Planner) -> None:
    """A padded copy of one block of channels for each thread that has work."""
    given, made = command.inputs[0], command.outputs[0]
    shared = divided(made.batch * kernels.blocks(made.channels) // kernels.pack, kernels.threads)
    threads = max(1, sum(part > 0 for part in shared))
    attributes = command.attributes
    sizes = []
    for at in (0, 1):
        size, out = (*given.shape[2:], 1, 1)[at], (*made.shape[2:], 1, 1)[at]
        reach = (out - 1) * attributes["strides"][at] + (attributes["kernel"][at] - 1) * attributes["dilations"][at]
        pad = attributes["pads"][at]
        if attributes["pad_mode"] == 2:
            pad = max(0, reach + 1 - size) // 2
        elif attributes["pad_mode"] == 1:
            pad = 0
        sizes.append(size + pad + max(0, reach - pad - size + 1))
    give_back(planner, [planner.alloc(threads * prod(sizes) * kernels.pack * FLOAT)])


def _resize_deconvolution(command: Command, kernels: Kernels, planner: Planner) -> None:
    given, made = command.inputs[0], command.outputs[0]
    plane = given.batch * given.area
    threads = min(-(-plane // kernels.rows), kernels.threads, 4)
    wide = kernels.blocks(made.channels)
    area = prod(command.attributes["kernel"])
    parts: list[Any] = [
        planner.alloc(threads * given.channels * kernels.rows * FLOAT),
        planner.alloc(threads * wide * area * kernels.rows * FLOAT),
    ]
    if threads > 1:
        parts.append(planner.alloc((threads - 1) * made.batch * made.area * wide * FLOAT))
    give_back(planner, parts)
