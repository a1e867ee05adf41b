"""A graph of MNN as the commands that its session runs: views become rasters where a kernel reads them.

source/geometry of MNN 3.6.1 (GeometryComputerUtils.cpp, GeometryComputer.cpp and one file an operator). Operators whose
result follows from shapes and constants are computed while resizing and hold nothing here (buildConstantTensors).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from peakmem.errors import GraphError
from peakmem.frontends.mnn.schema import FORMATS
from peakmem.ir.graph import Graph, Operator

NC4HW4 = "NC4HW4"
WINDOWS = ("Convolution", "ConvolutionDepthwise", "Deconvolution", "DeconvolutionDepthwise")
VIEWS = frozenset((
    "ConvertTensor", "Copy", "Dropout", "ExpandDims", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze",
))  # fmt: skip
# a region of the whole input
PARTS = frozenset((
    "BroadcastTo", "Concat", "Crop", "DepthToSpace", "Gather", "GatherV2", "Pack", "Padding", "Permute", "Slice",
    "SliceTf", "SpaceToDepth", "StridedSlice", "Tile", "Transpose", "Unpack",
))  # fmt: skip
# regions that move, repeat or join parts of their inputs
NO_CONTENT = frozenset(("Shape", "Rank", "Size", "ZerosLike"))
# operators that need only the shape of what they read: OpCommonUtils::opNeedContent
SECOND_IS_SHAPE = frozenset(("Interp", "Crop", "Reshape", "Reduction", "Resize"))
EXTENDED = frozenset((
    "Convolution", "ConvolutionDepthwise", "Deconvolution", "DeconvolutionDepthwise", "MatMul", "BatchMatMul",
    "BinaryOp", "Eltwise", "UnaryOp", "Pooling", "Raster", "ReLU", "ReLU6", "Select", "PReLU", "GridSample",
    "ROIPooling", "ROIAlign", "RNNSequenceGRU", "LayerNorm", "Softmax", "Scale", "While", "Reduction",
))  # fmt: skip
# what the backend of the vector extension takes (OpCommonUtils::opCompabilityForLowp); others run on the plain one


@dataclass(slots=True, eq=False)
class Value:
    """A tensor of the session."""

    name: str
    shape: tuple[int, ...]
    layout: str
    item: int = 4
    # bytes of an element
    usage: str = ""
    # "input", "output" or "constant"
    origins: tuple[Value, ...] | None = None
    # of a view that no raster has written yet: what it shows, real tensors alone
    whole: bool = False
    # the view shows all of one tensor, element by element
    plain: bool = False
    # the backend without vector extension holds it, in blocks of 4

    @property
    def batch(self) -> int:
        return self.shape[0] if self.shape else 1

    @property
    def channels(self) -> int:
        return self.shape[1] if len(self.shape) > 1 else 1

    @property
    def area(self) -> int:
        return prod(self.shape[2:])

    @property
    def count(self) -> int:
        return prod(self.shape)

    def nbytes(self, pack: int) -> int:
        """CPUBackend::getTensorSize: channels in whole blocks where the layout has them."""
        if self.layout != NC4HW4 or len(self.shape) < 2:
            return self.count * self.item
        wide = 4 if self.plain else pack
        return self.shape[0] * -(-self.shape[1] // wide) * wide * prod(self.shape[2:]) * self.item


@dataclass(slots=True, eq=False)
class Command:
    """One execution."""

    op_type: str
    name: str
    inputs: list[Value]
    outputs: list[Value]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    weights: tuple[tuple[tuple[int, ...], int], ...] = ()
    # shape and bytes of the constants inside


class Commands:
    """All commands of a graph in their order."""

    def __init__(self, graph: Graph, pack: int) -> None:
        self.graph = graph
        self.pack = pack
        self.values: dict[str, Value] = {}
        self.commands: list[Command] = []
        self.constant: set[str] = set()
        self.constant_bytes: list[int] = []
        # what operators computed while resizing hold, one entry a result
        self.loose: list[int] = []
        # bytes of the constants that are no part of an operator
        self.unsized: list[Operator] = []
        layouts = {one.name.removeprefix("layout of "): one.text for one in graph.details}
        for name in graph.inputs:
            self._enter(name, layouts.get(name, "NCHW"), "input")
        inside = {name for one in graph.operators for name in one.inputs if self._inside(one, name)}
        for name, tensor in graph.tensors.items():
            if tensor.role == "constant" and tensor.shape is not None:
                value = self._enter(name, "NCHW", "constant")
                self.constant.add(name)
                if name not in inside and value.count:
                    self.loose.append(value.count * value.item)
        outputs = set(graph.outputs)
        for operator in graph.operators:
            self._operator(operator, outputs)

    def _enter(self, name: str, layout: str, usage: str) -> Value:
        tensor = self.graph.tensors[name]
        shape = tensor.shape
        if shape is None or not all(isinstance(dim, int) for dim in shape):
            raise GraphError(f"the size of {name!r} is not known", where=self.graph.source, hint="--shape NAME=DIMS")
        whole = tensor.dtype is not None and tensor.dtype.kind in ("int", "uint")
        item = max(1, (tensor.dtype.bits or 32) // 8) if whole and tensor.dtype is not None else 4
        value = Value(name, tuple(int(dim) for dim in shape if isinstance(dim, int)), layout, item, usage)
        self.values[name] = value
        return value

    def _operator(self, operator: Operator, outputs: set[str]) -> None:
        own = [name for name in operator.inputs if name]
        read = [name for at, name in enumerate(own) if not (at == 1 and operator.op_type in SECOND_IS_SHAPE)]
        if any(self.graph.tensors[name].shape is None for name in operator.outputs):
            self.unsized.append(operator)
            for name in operator.outputs:
                self.values.setdefault(name, Value(name, (1,), "NCHW"))
            return
        if operator.op_type in NO_CONTENT or (read and all(name in self.constant for name in read)):
            for name in operator.outputs:
                self.constant.add(name)
                self.constant_bytes.append(max(1, self._enter(name, "NCHW", "constant").count) * 4)
            return
        first = self.values[own[0]] if own else None
        layout = first.layout if first is not None else "NCHW"
        if operator.op_type == "BinaryOp" and len(self.values[own[1]].shape) > len(self.values[own[0]].shape):
            layout = self.values[own[1]].layout
        if operator.op_type == "ConvertTensor":
            layout = FORMATS[int(operator.attributes.get("to", 0))]
        made = [self._enter(name, layout, "output" if name in outputs else "") for name in operator.outputs]
        data = [self.values[name] for name in own if not (name in self.constant and self._inside(operator, name))]
        if operator.op_type in VIEWS:
            self._view(made[0], [data[0]], whole=True)
        elif operator.op_type in PARTS:
            for one in made:
                self._view(one, data if operator.op_type in ("Concat", "Pack") else data[:1], whole=False)
        else:
            self._real(operator, data, made)
        for one in made:
            if one.usage == "output":
                self._raster(one)

    def _inside(self, operator: Operator, name: str) -> bool:
        """Whether a constant is stored in the operator itself."""
        return name.startswith(f"{operator.name}.")

    def _view(self, made: Value, shown: list[Value], *, whole: bool) -> None:
        origins: list[Value] = []
        same = whole
        for one in shown:
            if one.origins is None:
                origins.append(one)
                continue
            same = same and one.whole and len(one.origins) == 1
            origins += one.origins
        made.origins, made.whole = tuple(origins), same

    def _raster(self, value: Value) -> None:
        """A view that is read becomes a tensor of its own, once."""
        if value.origins is None:
            return
        self.commands.append(
            Command("Raster", value.name, list(value.origins), [value], {"whole": value.whole}),
        )
        value.origins = None

    def _real(self, operator: Operator, data: list[Value], made: list[Value]) -> None:
        op_type = operator.op_type
        if op_type == "BinaryOp":
            data = self._broadcast(data, made[0], operator)
        elif op_type == "Select" and len(data) == 3:
            # GeometrySelect: the third follows the size of the second
            data = [
                self._full(one, made[0]) if sized.count != made[0].count else one
                for one, sized in zip(data, (data[0], data[1], data[1]), strict=True)
            ]
        after: Value | None = None
        if op_type in WINDOWS and data[0].layout != NC4HW4:
            # brought into blocks and back: GeometryConvUtils::computeSingle
            inside = Value(data[0].name + "'", data[0].shape, NC4HW4)
            self._view(inside, [data[0]], whole=True)
            data, after = [inside, *data[1:]], made[0]
            made = [Value(made[0].name + "'", made[0].shape, NC4HW4)]
        if op_type == "Pooling3D" and (operator.attributes.get("global") or len(data[0].shape) < 5):
            op_type = "Pooling"
        for at, one in enumerate(data):
            if not (at == 1 and op_type in SECOND_IS_SHAPE):
                self._raster(one)
        tensors = self.graph.tensors
        stored = tuple(
            (tuple(int(dim) for dim in shape if isinstance(dim, int)), tensors[name].nbytes or 0)
            for name in operator.inputs
            if name and self._inside(operator, name) and (shape := tensors[name].shape) is not None
        )
        if op_type not in EXTENDED:
            self._plain(op_type, operator, data, made, stored)
        else:
            self.commands.append(Command(op_type, operator.name, list(data), made, operator.attributes, stored))
        if after is not None:
            self._view(after, made, whole=True)

    def _broadcast(self, data: list[Value], made: Value, operator: Operator) -> list[Value]:
        """GeometryBinary: an input of another size or layout is written out in full; a single number is not.

        In plain layouts one such input is read in a loop instead.
        """
        if any(one.count == 1 for one in data):
            return data
        other = [
            one.count != made.count or one.layout != made.layout
            or (len(one.shape) != len(made.shape) and made.layout == NC4HW4)
            for one in data
        ]  # fmt: skip
        alike = made.layout != NC4HW4 and all(one.layout == made.layout for one in data)
        if sum(other) == 1 and alike and not operator.attributes.get("activation"):
            return data
        return [self._full(one, made) if wanted else one for one, wanted in zip(data, other, strict=True)]

    def _full(self, one: Value, made: Value) -> Value:
        full = Value(f"{made.name}<{one.name}", made.shape, made.layout, made.item)
        self._view(full, [one], whole=one.count == made.count)
        return full

    def _plain(
        self, op_type: str, operator: Operator, data: list[Value], made: list[Value],
        stored: tuple[tuple[tuple[int, ...], int], ...],
    ) -> None:  # fmt: skip
        """On the backend without vector extension: blocks of 4 channels, copied from and to the wider ones."""
        inputs, outputs = [], []
        for one in data:
            if one.layout == NC4HW4 and not one.plain and self.pack != 4 and one.usage != "constant":
                copy = Value(one.name + "/4", one.shape, NC4HW4, one.item, plain=True)
                self.commands.append(Command("Copy", one.name, [one], [copy]))
                inputs.append(copy)
            else:
                inputs.append(one)
        for one in made:
            one.plain = self.pack != 4 and one.layout == NC4HW4
            outputs.append(one)
        self.commands.append(Command(op_type, operator.name, inputs, outputs, operator.attributes, stored))
        for one in made:
            if one.plain:
                wide = Value(one.name, one.shape, one.layout, one.item, one.usage)
                self.commands.append(Command("Copy", one.name, [one], [wide]))
                one.usage = ""
                self.values[one.name] = wide
