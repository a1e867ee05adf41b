"""Write a network down, operator by operator; shapes follow from the shape rules as you go.

    b = GraphBuilder("tiny")
    x = b.input("image", (1, 3, 32, 32))
    with b.scope("stem"):
        x = b.relu(b.batch_norm(b.conv(x, 16, kernel=3, stride=2, pad=1)))
    graph = b.finish(b.linear(b.flatten(b.global_average_pool(x)), 10))

The builder is the only mutable thing here; `finish` gives a frozen, validated Graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from peakmem.dtypes import FLOAT32, INT64, DType
from peakmem.errors import GraphError
from peakmem.ir.dims import Dim, Shape, format_shape
from peakmem.ir.graph import Graph, Operator, Tensor
from peakmem.ir.shapes.infer import Fact, infer_operator
from peakmem.ir.validate import validate

OPSET = 17
# the operator set the zoo is written in


def _pair(value: int | Sequence[int], rank: int = 2) -> tuple[int, ...]:
    return (value,) * rank if isinstance(value, int) else tuple(value)


class GraphBuilder:
    """Collects tensors and operators in schedule order; every method returns a tensor name."""

    def __init__(self, name: str, *, dtype: DType = FLOAT32, opset: int = OPSET) -> None:
        self.name = name
        self.dtype = dtype
        self._opsets = {"": opset}
        self._tensors: dict[str, Tensor] = {}
        self._operators: list[Operator] = []
        self._inputs: list[str] = []
        self._scope: list[str] = []
        self._names: dict[str, int] = {}

    # -- naming --------------------------------------------------------------------------

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Operators made inside belong to the module `name`."""
        self._scope.append(name)
        try:
            yield
        finally:
            self._scope.pop()

    def _unique(self, stem: str) -> str:
        full = "/".join([*self._scope, stem])
        count = self._names.get(full, 0)
        self._names[full] = count + 1
        return full if count == 0 else f"{full}_{count}"

    # -- tensors -------------------------------------------------------------------------

    def _add(self, tensor: Tensor) -> str:
        if tensor.name in self._tensors:
            raise GraphError(f"two tensors are called {tensor.name!r}", where=self.name)
        self._tensors[tensor.name] = tensor
        return tensor.name

    def input(self, name: str, shape: Shape, dtype: DType | None = None) -> str:
        """A value the caller gives."""
        self._inputs.append(name)
        return self._add(Tensor(name, tuple(shape), dtype or self.dtype, role="input"))

    def parameter(self, name: str, shape: Shape, dtype: DType | None = None) -> str:
        """A stored parameter; its content is never needed."""
        return self._add(Tensor(self._unique(name), tuple(shape), dtype or self.dtype, role="constant"))

    def tensor(self, tensor: Tensor) -> str:
        """A tensor as it is, such as a constant under its name in a file, or a state."""
        return self._add(tensor)

    def literal(self, values: Sequence[Any], dtype: DType = INT64, *, scalar: bool = False) -> str:
        """A small constant written into the network, as for a target shape."""
        shape: Shape = () if scalar else (len(values),)
        name = self._unique("literal")
        return self._add(Tensor(name, shape, dtype, role="constant", values=tuple(values), parameter=False))

    def shape(self, name: str) -> Shape:
        """Shape of a tensor made so far; GraphError when it could not be inferred."""
        shape = self._tensors[name].shape
        if shape is None:
            raise GraphError(f"the shape of {name!r} is not known", where=self.name)
        return shape

    # -- operators -----------------------------------------------------------------------

    def op(
        self, op_type: str, inputs: Sequence[str], outputs: int = 1, *, name: str = "", domain: str = "",
        aliases: tuple[tuple[int, int], ...] = (), **attributes: Any,
    ) -> tuple[str, ...]:  # fmt: skip
        """Append an operator; the names of its outputs. `aliases` as in Operator."""
        unique = self._unique(name or op_type.lower())
        names = tuple(f"{unique}:{i}" if outputs > 1 else f"{unique}:out" for i in range(outputs))
        kept = {key: value for key, value in attributes.items() if value is not None}
        scope = "/".join(self._scope)
        operator = Operator(unique, op_type, tuple(inputs), names, kept, domain=domain, scope=scope, aliases=aliases)
        missing = [name for name in inputs if name and name not in self._tensors]
        if missing:
            raise GraphError(f"operator {unique!r} reads {missing[0]!r}, which nothing makes", where=self.name)
        facts = [self._fact(name) for name in inputs]
        for output, fact in zip(names, infer_operator(operator, facts, self._opsets), strict=True):
            self._add(Tensor(output, fact.shape, fact.dtype, values=fact.values))
        self._operators.append(operator)
        return names

    def _fact(self, name: str) -> Fact:
        if not name:
            return Fact(None, None)
        tensor = self._tensors[name]
        return Fact(tensor.shape, tensor.dtype, tensor.values)

    def one(self, op_type: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Append an operator with one output; its name."""
        return self.op(op_type, inputs, name=name, **attributes)[0]

    # -- layers --------------------------------------------------------------------------

    def conv(
        self, x: str, channels: int, *, kernel: int | Sequence[int], stride: int | Sequence[int] = 1,
        pad: int | Sequence[int] = 0, group: int = 1, dilation: int | Sequence[int] = 1,
        bias: bool = False, name: str = "conv",
    ) -> str:  # fmt: skip
        """2-D convolution; `pad` is one number, (vertical, horizontal) or (top, left, bottom, right)."""
        size, pads = _pair(kernel), _pair(pad)
        inside = self.shape(x)[1]
        if not isinstance(inside, int) or inside % group or channels % group:
            raise GraphError(f"{inside} and {channels} channels do not split into {group} groups", where=self.name)
        with self.scope(name):
            inputs = [x, self.parameter("weight", (channels, inside // group, *size))]
            if bias:
                inputs.append(self.parameter("bias", (channels,)))
        return self.one(
            "Conv", *inputs, name=name, kernel_shape=size, strides=_pair(stride), dilations=_pair(dilation),
            pads=pads if len(pads) == 4 else (*pads, *pads), group=group,
        )  # fmt: skip

    def depthwise(
        self, x: str, *, kernel: int, stride: int = 1, pad: int | None = None, bias: bool = False, name: str = "conv"
    ) -> str:
        """A convolution with one kernel per channel."""
        channels = self.shape(x)[1]
        assert isinstance(channels, int)
        pad = kernel // 2 if pad is None else pad
        return self.conv(x, channels, kernel=kernel, stride=stride, pad=pad, group=channels, bias=bias, name=name)

    def conv_transpose(self, x: str, channels: int, *, kernel: int, stride: int, bias: bool = True) -> str:
        """2-D transposed convolution without padding."""
        inside = self.shape(x)[1]
        with self.scope("up"):
            inputs = [x, self.parameter("weight", (inside, channels, kernel, kernel))]
            if bias:
                inputs.append(self.parameter("bias", (channels,)))
        return self.one(
            "ConvTranspose", *inputs, name="up", kernel_shape=_pair(kernel), strides=_pair(stride)
        )  # fmt: skip

    def linear(self, x: str, features: int, *, bias: bool = True, name: str = "fc") -> str:
        """Fully connected layer on a matrix (Gemm, weight stored as features × inputs)."""
        inside = self.shape(x)[-1]
        with self.scope(name):
            inputs = [x, self.parameter("weight", (features, inside))]
            if bias:
                inputs.append(self.parameter("bias", (features,)))
        return self.one("Gemm", *inputs, name=name, transB=1)

    def dense(self, x: str, features: int, *, bias: bool = True, name: str = "dense") -> str:
        """Fully connected layer on the last axis of any rank (MatMul, then Add)."""
        inside = self.shape(x)[-1]
        with self.scope(name):
            weight = self.parameter("weight", (inside, features))
            y = self.one("MatMul", x, weight, name="matmul")
            if not bias:
                return y
            return self.one("Add", y, self.parameter("bias", (features,)), name="add")

    def batch_norm(self, x: str, *, name: str = "bn") -> str:
        """Batch normalization with stored statistics."""
        channels = (self.shape(x)[1],)
        with self.scope(name):
            parts = [self.parameter(part, channels) for part in ("weight", "bias", "running_mean", "running_var")]
        return self.one("BatchNormalization", x, *parts, name=name)

    def layer_norm(self, x: str, *, epsilon: float = 1e-5, name: str = "ln") -> str:
        """Layer normalization over the last axis."""
        features = (self.shape(x)[-1],)
        with self.scope(name):
            parts = [self.parameter("weight", features), self.parameter("bias", features)]
        return self.one("LayerNormalization", x, *parts, name=name, axis=-1, epsilon=epsilon)

    def relu(self, x: str) -> str:
        return self.one("Relu", x, name="relu")

    def relu6(self, x: str) -> str:
        return self.one(
            "Clip", x, self.literal([0.0], self.dtype, scalar=True), self.literal([6.0], self.dtype, scalar=True),
            name="relu6",
        )  # fmt: skip

    def sigmoid(self, x: str) -> str:
        return self.one("Sigmoid", x, name="sigmoid")

    def hard_sigmoid(self, x: str) -> str:
        return self.one("HardSigmoid", x, name="hardsigmoid", alpha=1 / 6, beta=0.5)

    def hard_swish(self, x: str) -> str:
        return self.one("HardSwish", x, name="hardswish")

    def silu(self, x: str) -> str:
        """x · sigmoid(x), as two operators."""
        return self.mul(x, self.sigmoid(x))

    def add(self, a: str, b: str, *, name: str = "add") -> str:
        return self.one("Add", a, b, name=name)

    def mul(self, a: str, b: str) -> str:
        return self.one("Mul", a, b, name="mul")

    def max_pool(self, x: str, *, kernel: int, stride: int, pad: int = 0, ceil: bool = False) -> str:
        return self.one(
            "MaxPool", x, name="maxpool", kernel_shape=_pair(kernel), strides=_pair(stride),
            pads=(pad,) * 4, ceil_mode=int(ceil),
        )  # fmt: skip

    def average_pool(self, x: str, *, kernel: int, stride: int, pad: int = 0) -> str:
        return self.one(
            "AveragePool", x, name="avgpool", kernel_shape=_pair(kernel), strides=_pair(stride), pads=(pad,) * 4
        )

    def global_average_pool(self, x: str) -> str:
        return self.one("GlobalAveragePool", x, name="avgpool")

    def concat(self, parts: Sequence[str], *, axis: int = 1) -> str:
        return self.op("Concat", parts, name="concat", axis=axis)[0]

    def flatten(self, x: str, axis: int = 1) -> str:
        return self.one("Flatten", x, name="flatten", axis=axis)

    def reshape(self, x: str, dims: Sequence[int]) -> str:
        """Reshape; 0 copies a dimension, -1 takes what is left."""
        return self.one("Reshape", x, self.literal(dims), name="reshape")

    def transpose(self, x: str, order: Sequence[int]) -> str:
        return self.one("Transpose", x, name="transpose", perm=tuple(order))

    def finish(self, *outputs: str) -> Graph:
        """The frozen, validated graph with `outputs` as its results."""
        graph = Graph(
            self.name, dict(self._tensors), tuple(self._operators), tuple(self._inputs), tuple(outputs),
            opsets=dict(self._opsets), source="zoo", format="zoo",
        )  # fmt: skip
        validate(graph)
        return graph


__all__ = ["OPSET", "Dim", "GraphBuilder", "format_shape"]
