"""The layer table: one row per operator, with what goes in, comes out and is stored.

Rows are facts of one operator. What a convention makes of them stands in `conventions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from sys import intern

from peakmem.ir import kinds
from peakmem.ir.dims import Shape, format_shape
from peakmem.ir.graph import Graph, Operator, Tensor


@dataclass(frozen=True, slots=True)
class Layer:
    """One operator as a row."""

    step: int
    name: str
    op_type: str
    # with what was merged into it: "Conv+BatchNormalization+Relu"
    kind: str
    # what the operator is, as `kinds.key` names it, merged ones left out
    scope: str
    kernel: str
    # shape of the weight as papers write it, "3x3x3x32" (height, width, in, out); empty without one
    stride: str
    input_shape: str
    output_shape: str
    dtype: str
    # of the output
    input_bytes: int
    # of all activations it reads, each once
    output_bytes: int
    # of the outputs that have a buffer of their own
    weight_bytes: int
    # kernels and matrices; no bias, no norm
    parameter_bytes: int
    # everything stored that the operator reads, merged norms included
    parameters: int
    # elements of that
    weighted: str
    # "conv", "linear" or "": whether the layer counts in conventions over conv and linear layers
    depthwise: bool


def layers(graph: Graph) -> tuple[Layer, ...]:
    """The rows of `graph` in schedule order."""
    return tuple(_layer(graph, step, operator) for step, operator in enumerate(graph.operators))


def weighted(operator: Operator, graph: Graph) -> str:
    """ "conv" or "linear" for an operator whose weight is a constant, else ""."""
    name = kinds.key(operator)
    form = "conv" if name in kinds.CONVOLUTIONS else "linear" if name in kinds.PRODUCTS else ""
    if form and any(_is_constant(graph, operator.inputs, at) for at in kinds.WEIGHTS[name]):
        return form
    return ""


def _is_constant(graph: Graph, inputs: Sequence[str], position: int) -> bool:
    if position >= len(inputs) or not inputs[position]:
        return False
    tensor = graph.tensors.get(inputs[position])
    return tensor is not None and tensor.role == "constant"


def _layer(graph: Graph, step: int, operator: Operator) -> Layer:
    # Texts that many rows share are interned: a network repeats itself.
    tensors = graph.tensors
    given: list[Tensor] = []
    stored: dict[str, Tensor] = {}
    for name in dict.fromkeys((*operator.reads, *operator.absorbed)):
        tensor = tensors.get(name)
        if tensor is None:
            continue
        if tensor.role == "constant":
            if tensor.parameter or (tensor.count or 0) > 1:
                stored[tensor.storage or name] = tensor
        else:
            given.append(tensor)
    made = [tensors[name] for name in operator.outputs if name]
    shared = {output for output, _ in operator.aliases}
    own = [tensors[name] for at, name in enumerate(operator.outputs) if name and at not in shared]
    form = weighted(operator, graph)
    weights: dict[str, Tensor] = {}
    for position in kinds.WEIGHTS.get(kinds.key(operator), ()):
        if _is_constant(graph, operator.inputs, position):
            tensor = tensors[operator.inputs[position]]
            weights[tensor.storage or tensor.name] = tensor
    first = next(iter(weights.values()), None)
    shape = first.shape if first is not None else None
    written = kinds.kernel(operator, shape) if shape is not None else None
    depthwise = form == "conv" and written is not None and written.depthwise and bool(written.window)
    return Layer(
        step=step,
        name=operator.name,
        op_type=intern("+".join((operator.op_type, *operator.fused))),
        kind=kinds.key(operator),
        scope=operator.scope,
        kernel=intern(_kernel(operator, shape, written)),
        stride=intern(_stride(operator)),
        input_shape=intern(format_shape(given[0].shape)) if given else "",
        output_shape=intern(format_shape(made[0].shape)) if made else "",
        dtype=str(made[0].dtype) if made and made[0].dtype else "?",
        input_bytes=sum(tensor.nbytes or 0 for tensor in given),
        output_bytes=sum(tensor.nbytes or 0 for tensor in own),
        weight_bytes=sum(tensor.nbytes or 0 for tensor in weights.values()),
        parameter_bytes=sum(tensor.nbytes or 0 for tensor in stored.values()),
        parameters=sum(tensor.count or 0 for tensor in stored.values()),
        weighted=form,
        depthwise=depthwise,
    )


def _kernel(operator: Operator, shape: Shape | None, written: kinds.Kernel | None) -> str:
    """The weight as papers write it: 3x3x3x32 for a convolution, 3x3x32 depthwise, 1024x1000 linear."""
    if shape is None:
        size = operator.attributes.get("kernel_shape")
        return "x".join(str(dim) for dim in size) if isinstance(size, tuple) else ""
    if written is None or written.inside is None or written.outside is None:
        return format_shape(shape)
    if written.depthwise and written.window:
        return format_shape((*written.window, written.outside))
    return format_shape((*written.window, written.inside, written.outside))


def _stride(operator: Operator) -> str:
    strides = operator.attributes.get("strides")
    if not strides or not isinstance(strides, tuple):
        return ""
    return str(strides[0]) if len(set(strides)) == 1 else "x".join(str(stride) for stride in strides)


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that repeat: `rows` stand `times` times one after the other."""

    rows: tuple[Layer, ...]
    times: int


def _signature(layer: Layer) -> tuple[object, ...]:
    return (
        layer.op_type, layer.kernel, layer.stride, layer.input_shape, layer.output_shape,
        layer.input_bytes, layer.output_bytes, layer.parameter_bytes,
    )  # fmt: skip


LONGEST_PERIOD = 64
# rows; a block of a language model has some forty operators


def groups(rows: Sequence[Layer]) -> list[Group]:
    """`rows` with runs that repeat a block of up to LONGEST_PERIOD rows folded into groups.

    Greedy from the start: at each row the block that covers the most rows by repeating wins,
    the shorter one on a tie.
    """
    known: dict[tuple[object, ...], int] = {}
    signatures = [known.setdefault(_signature(row), len(known)) for row in rows]
    found: list[Group] = []
    at = 0
    while at < len(rows):
        period, times = 1, 1
        for length in range(1, min(LONGEST_PERIOD, (len(rows) - at) // 2) + 1):
            if signatures[at + length] != signatures[at]:
                continue
            block = signatures[at : at + length]
            count = 1
            while signatures[at + count * length : at + (count + 1) * length] == block:
                count += 1
            if count > 1 and count * length > period * times:
                period, times = length, count
        found.append(Group(tuple(rows[at : at + period]), times))
        at += period * times
    return found
