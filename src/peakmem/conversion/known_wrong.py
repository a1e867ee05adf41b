"""What converters take without a word and compute otherwise: looked for in the ONNX file before a tool is run.

Each rule began with an operator run through the tool whose answer differed from ONNX Runtime's (pnnx 20261020 and
ncnn 1.0.20261020, MNN 3.6.1, OpenVINO 2026.4.1; tests/unit/conversion/test_user_files.py); some refuse more than the
one case that was seen, so as to refuse rather than compute otherwise. A file that such an operator is in is refused by
name: its answer, and often its sizes, would not be the model's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from peakmem.conversion.step import Job
from peakmem.errors import ConversionError, PeakmemError
from peakmem.ir.graph import Graph, Operator

_POOLS = ("AveragePool", "MaxPool", "LpPool")
_WINDOWS = (*_POOLS, "Conv", "ConvTranspose")
_SOFTMAXES = ("Softmax", "LogSoftmax", "Hardmax")
_FLAT_BEFORE = 13
# operator set until which a softmax takes all dimensions from `axis` on as one


def refuse(kind: str, job: Job) -> None:
    """Look for operators that the converter to `kind` gets wrong.

    Raises:
        ConversionError: there are some; `operators` names each with the setting that is the reason.
    """
    from peakmem.binding import bound
    from peakmem.pipeline import load

    try:
        graph = bound(load(job.source), shapes={port.name: port.shape for port in job.inputs})
    except PeakmemError:
        return
    found = dict.fromkeys(_found(kind, graph))
    if found:
        raise ConversionError(
            f"the file for {kind} would compute something else: {', '.join(found)}", operators=tuple(found)
        )


def _found(kind: str, graph: Graph) -> Iterator[str]:
    for operator in graph.operators:
        if operator.domain == "":
            reason = RULES[kind](Sight(graph, operator))
            if reason:
                yield f"{operator.op_type} ({reason})"
        for body in operator.subgraphs:
            yield from _found(kind, body)


@dataclass(frozen=True, slots=True)
class Sight:
    """An operator with what a rule asks of it."""

    graph: Graph
    operator: Operator

    @property
    def kind(self) -> str:
        """Its op type."""
        return self.operator.op_type

    def text(self, name: str, default: str) -> str:
        """An attribute that is a word."""
        value = self.operator.attributes.get(name, default)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    def number(self, name: str, default: int = 0) -> int:
        """An attribute that is a number."""
        value: Any = self.operator.attributes.get(name, default)
        return int(value)

    def numbers(self, name: str) -> tuple[int, ...]:
        """An attribute that is a list of numbers; empty when it is absent."""
        value: Any = self.operator.attributes.get(name)
        return tuple(int(item) for item in value) if value is not None else ()

    def shape(self, position: int = 0, *, of_output: bool = False) -> tuple[int, ...]:
        """Sizes of an input or output; empty when they are not all known."""
        names = self.operator.outputs if of_output else self.operator.inputs
        tensor = self.graph.tensors.get(names[position]) if position < len(names) else None
        shape = tensor.shape if tensor is not None else None
        return tuple(int(dim) for dim in shape if isinstance(dim, int)) if shape is not None else ()

    def values(self, position: int) -> tuple[Any, ...]:
        """Contents of an input, as far as the file tells them."""
        names = self.operator.inputs
        tensor = self.graph.tensors.get(names[position]) if position < len(names) else None
        return (tensor.values or ()) if tensor is not None else ()

    def uneven(self) -> bool:
        """Whether a window has unequal padding in front and behind."""
        pads = self.numbers("pads")
        return self.text("auto_pad", "NOTSET") == "NOTSET" and pads[: len(pads) // 2] != pads[len(pads) // 2 :]

    def same(self) -> str:
        """SAME_UPPER or SAME_LOWER where that makes one side's padding larger; else nothing."""
        mode = self.text("auto_pad", "NOTSET")
        if mode not in ("SAME_UPPER", "SAME_LOWER"):
            return ""
        given, made = self.shape()[2:], self.shape(of_output=True)[2:]
        kernel = self.numbers("kernel_shape") or self.shape(1)[2:]
        rank = len(kernel)
        strides = self.numbers("strides") or (1,) * rank
        dilations = self.numbers("dilations") or (1,) * rank
        if not rank or len(given) != rank or len(made) != rank:
            return mode
        if self.kind == "ConvTranspose":
            given, made = made, given
        rows = zip(given, made, kernel, strides, dilations, strict=True)
        odd = any(max((out - 1) * step + (size - 1) * gap + 1 - there, 0) % 2 for there, out, size, step, gap in rows)
        return mode if odd else ""

    def flat(self) -> bool:
        """Whether a softmax of an old operator set runs over several dimensions."""
        if self.kind not in _SOFTMAXES or self.graph.opsets.get("", _FLAT_BEFORE) >= _FLAT_BEFORE:
            return False
        shape, axis = self.shape(), self.number("axis", 1)
        tensor = self.graph.tensors.get(self.operator.inputs[0])
        rank = len(tensor.shape) if tensor is not None and tensor.shape is not None else len(shape)
        axis += rank if axis < 0 else 0
        return rank - axis > 1 and (len(shape) != rank or any(dim != 1 for dim in shape[axis + 1 :]))

    def split_unevenly(self) -> bool:
        """Whether parts without sizes of their own are not all equal."""
        if self.kind != "Split" or len(self.operator.inputs) > 1 or self.numbers("split"):
            return False
        parts = {self.shape(at, of_output=True) for at in range(len(self.operator.outputs))}
        return len(parts) > 1

    def resize(self) -> tuple[str, str, str]:
        """(mode, coordinates, rounding) of a Resize."""
        return (
            self.text("mode", "nearest"), self.text("coordinate_transformation_mode", "half_pixel"),
            self.text("nearest_mode", "round_prefer_floor"),
        )  # fmt: skip


def _ncnn(sight: Sight) -> str:
    kind = sight.kind
    if kind == "Resize":
        mode, coordinates, rounding = sight.resize()
        if mode != "nearest" and coordinates == "asymmetric":
            return f"mode {mode} with coordinates {coordinates}"
        if mode == "nearest" and rounding == "floor" and coordinates != "asymmetric":
            return f"mode nearest with coordinates {coordinates}"
    if kind == "AveragePool" and sight.text("auto_pad", "NOTSET").startswith("SAME"):
        return f"auto_pad {sight.text('auto_pad', '')}"
    if kind == "AveragePool" and sight.number("ceil_mode") and sight.number("count_include_pad"):
        return "ceil_mode with count_include_pad"
    if kind == "MaxPool" and (sight.uneven() or sight.same()):
        return "padding that differs in front and behind"
    if kind == "ConvTranspose" and sight.numbers("output_shape"):
        return "output_shape"
    if kind == "SpaceToDepth":
        return "always"
    if sight.flat():
        return "over several dimensions, as before operator set 13"
    return "into unequal parts without sizes" if sight.split_unevenly() else ""


def _mnn(sight: Sight) -> str:
    kind = sight.kind
    if kind == "Resize":
        mode, coordinates, rounding = sight.resize()
        if mode == "cubic" and coordinates.endswith("half_pixel"):
            return f"mode cubic with coordinates {coordinates}"
        if mode == "nearest" and rounding.endswith("ceil"):
            return f"nearest_mode {rounding}"
    if kind == "AveragePool" and sight.number("count_include_pad") and sight.uneven():
        return "count_include_pad with padding that differs in front and behind"
    if kind in _WINDOWS and sight.same() == "SAME_LOWER":
        return "auto_pad SAME_LOWER"
    if kind in _POOLS and any(gap != 1 for gap in sight.numbers("dilations")):
        return "dilations"
    if kind == "ConvTranspose" and sight.numbers("output_shape"):
        return "output_shape"
    if kind == "Pad" and any(size < 0 for size in (*sight.values(1), *sight.numbers("pads"))):
        return "negative padding"
    if kind in ("LSTM", "GRU", "RNN") and sight.text("direction", "forward") == "reverse":
        return "direction reverse"
    if kind in ("ScatterND", "QuantizeLinear", "DequantizeLinear"):
        return "always"
    if kind == "LogSoftmax" and sight.flat():
        return "over several dimensions, as before operator set 13"
    return "into unequal parts without sizes" if sight.split_unevenly() else ""


def _openvino(sight: Sight) -> str:
    return "over several dimensions, as before operator set 13" if sight.flat() else ""


RULES: dict[str, Callable[[Sight], str]] = {"ncnn": _ncnn, "mnn": _mnn, "openvino": _openvino}
# kind of model -> the reason, or nothing
