"""The state of one translation: layers of `__init__`, statements of `forward`, where each weight goes.

`Call` is what a rule sees of its operator. A rule gives the expression of the operator's only output, or writes
statements itself and gives an expression for each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from peakmem.conversion.torch_source.names import MODULE_ATTRIBUTES, TAKEN, Names, literal
from peakmem.ir.graph import Graph, Operator, Tensor

if TYPE_CHECKING:
    import numpy as np

    Change = Callable[[np.ndarray], np.ndarray]

DTYPES: Mapping[str, str] = {
    "float64": "torch.float64", "float32": "torch.float32", "float16": "torch.float16", "bfloat16": "torch.bfloat16",
    "int64": "torch.int64", "int32": "torch.int32", "int16": "torch.int16", "int8": "torch.int8",
    "uint8": "torch.uint8", "bool": "torch.bool", "complex64": "torch.complex64", "complex128": "torch.complex128",
}  # fmt: skip
# dtypes that torch's operators compute in


class Refused(Exception):
    """A rule cannot translate its operator; the message is a phrase."""


class Many(str):
    """An expression that gives all outputs of its operator at once, as a tuple."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Weight:
    """Where the contents of a stored tensor go in the written module."""

    path: str
    # of the parameter or buffer, as in state_dict
    tensor: str
    # of the graph
    change: Change | None = None
    # from the graph's layout to the module's; None when they agree


@dataclass(slots=True)
class Writer:
    """Collects the text while operators are visited in schedule order."""

    graph: Graph
    uses: Counter[str]
    # how many operator inputs read a stored tensor, by the root of its storage
    layers: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    weights: list[Weight] = field(default_factory=list)
    attributes: Names = field(default_factory=lambda: Names(MODULE_ATTRIBUTES))
    locals: Names = field(default_factory=lambda: Names(TAKEN))
    stored: dict[str, str] = field(default_factory=dict)
    # tensor → expression of the parameter or buffer that holds it
    computed: dict[str, str] = field(default_factory=dict)
    # tensor → local
    passing: list[str] = field(default_factory=list)
    # locals that one operator needs inside

    def dtype(self, tensor: Tensor) -> str:
        """The torch dtype of a tensor."""
        name = tensor.dtype.name if tensor.dtype is not None else "unknown"
        if name not in DTYPES:
            raise Refused(f"dtype {name}")
        return DTYPES[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """The sizes of a tensor, all known."""
        shape = self.graph.tensors[name].shape
        if shape is None or not all(isinstance(dim, int) for dim in shape):
            raise Refused("a shape that only running tells")
        return tuple(int(dim) for dim in shape if isinstance(dim, int))

    def known(self, name: str) -> tuple[Any, ...] | None:
        """Contents of a tensor that follow from the graph; None for weights, even small ones."""
        tensor = self.graph.tensors[name]
        if tensor.values is None or (self.is_weight(name) and len(tensor.values) > 0):
            return None
        return tensor.values

    def is_weight(self, name: str) -> bool:
        """Whether the tensor is stored as a parameter of floating elements."""
        tensor = self.graph.tensors[name]
        floats = tensor.dtype is not None and tensor.dtype.kind == "float"
        return tensor.role == "constant" and tensor.parameter and floats

    def root(self, name: str) -> str:
        """The tensor whose bytes `name` shares; itself when they are its own."""
        return self.graph.tensors[name].storage or name

    def own(self, name: str) -> bool:
        """Whether only one operator reads this weight, so that a layer can hold it."""
        return self.is_weight(name) and self.root(name) == name and self.uses[name] == 1

    def read(self, name: str) -> str:
        """An expression for a tensor, whatever it is."""
        if name in self.computed:
            return self.computed[name]
        if name in self.stored:
            return self.stored[name]
        tensor = self.graph.tensors.get(name)
        if tensor is None:
            raise Refused("a tensor of an outer graph")
        if tensor.values is not None and not self.is_weight(name):
            return self._known(name, tensor)
        if tensor.role != "constant":
            raise Refused(f"a tensor of role {tensor.role}")
        root = self.root(name)
        if root != name and root in self.graph.tensors:
            shared = self.read(root)
            if self.graph.tensors[root].shape != tensor.shape:
                shared = f"{shared}.view({literal(self.shape(name))})"
            return shared
        attribute = self.attributes.make(name, "parameter")
        shape, dtype = self.shape(name), self.dtype(tensor)
        typed = "" if dtype == "torch.float32" else f", dtype={dtype}"
        if tensor.dtype is not None and tensor.dtype.kind == "float":
            self.layers.append(f"self.{attribute} = weight({literal(shape)}{typed})")
        else:
            self.layers.append(f'self.register_buffer("{attribute}", torch.zeros({literal(shape)}, dtype={dtype}))')
        self.weights.append(Weight(attribute, name))
        self.stored[name] = f"self.{attribute}"
        return self.stored[name]

    def _known(self, name: str, tensor: Tensor) -> str:
        """A buffer with contents that the graph tells; it is no part of the state dict."""
        values, shape, dtype = tensor.values or (), self.shape(name), self.dtype(tensor)
        self.stored[name] = self.table(name, values, shape, dtype)
        return self.stored[name]

    def table(self, name: str, values: Sequence[Any], shape: tuple[int, ...], dtype: str) -> str:
        """A buffer of these contents."""
        attribute = self.attributes.make(name, "table")
        text = _contents(values, dtype)
        if shape != (len(values),):
            text += f".reshape({literal(shape)})"
        self.layers.append(f'self.register_buffer("{attribute}", {text}, persistent=False)')
        return f"self.{attribute}"

    def layer(self, name: str, code: str, weights: Iterable[tuple[str, str, Change | None]] = ()) -> str:
        """A layer made in `__init__`; its expression. `weights` are (path inside it, tensor, change)."""
        attribute = self.attributes.make(name, "layer")
        self.layers.append(f"self.{attribute} = {code}")
        self.weights += [Weight(f"{attribute}.{path}", tensor, change) for path, tensor, change in weights]
        return f"self.{attribute}"

    def typed(self, name: str) -> str:
        """The dtype argument of a layer that holds weights like `name`; empty for float32."""
        dtype = self.dtype(self.graph.tensors[name])
        return "" if dtype == "torch.float32" else f", dtype={dtype}"


def _contents(values: Sequence[Any], dtype: str) -> str:
    """`torch.arange` where numbers go up evenly, which keeps long tables readable; else all of them."""
    if len(values) > 8 and all(type(value) is int for value in values):
        step = values[1] - values[0]
        if step and list(values) == list(range(values[0], values[0] + step * len(values), step)):
            return f"torch.arange({literal(values[0])}, {literal(values[0] + step * len(values))}, {literal(step)}, dtype={dtype})"  # fmt: skip  # noqa: E501
    return f"torch.tensor({literal(list(values))}, dtype={dtype})"


@dataclass(frozen=True, slots=True)
class Call:
    """One operator, as its rule sees it."""

    writer: Writer
    operator: Operator

    @property
    def name(self) -> str:
        """What layers and locals of it are called after."""
        return self.operator.name or self.operator.op_type

    @property
    def opset(self) -> int:
        """Version of the operator set; the newest where the file tells none."""
        return self.writer.graph.opsets.get("", 25)

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.operator.attributes.get(name, default)

    def text(self, name: str, default: str) -> str:
        """An attribute that is a word."""
        value = self.attr(name, default)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    def ints_attr(self, name: str, default: tuple[int, ...] | None = None) -> tuple[int, ...] | None:
        """An attribute that is a list of numbers."""
        value = self.attr(name)
        return default if value is None else tuple(int(item) for item in value)

    def has(self, position: int) -> bool:
        """Whether the input is there."""
        return position < len(self.operator.inputs) and bool(self.operator.inputs[position])

    def input(self, position: int) -> str:
        """Name of an input tensor."""
        if not self.has(position):
            raise Refused(f"without input {position}")
        return self.operator.inputs[position]

    def read(self, position: int = 0) -> str:
        """An expression for an input."""
        return self.writer.read(self.input(position))

    def shape(self, position: int = 0) -> tuple[int, ...]:
        """Sizes of an input."""
        return self.writer.shape(self.input(position))

    def rank(self, position: int = 0) -> int:
        """Number of dimensions of an input."""
        shape = self.writer.graph.tensors[self.input(position)].shape
        if shape is None:
            raise Refused("a rank that only running tells")
        return len(shape)

    def out_shape(self, position: int = 0) -> tuple[int, ...]:
        """Sizes of an output."""
        return self.writer.shape(self.operator.outputs[position])

    def dtype(self, position: int = 0) -> str:
        """Torch dtype of an input."""
        return self.writer.dtype(self.writer.graph.tensors[self.input(position)])

    def kind(self, position: int = 0) -> str:
        """ "float", "int", "uint", "bool" or "complex"."""
        dtype = self.writer.graph.tensors[self.input(position)].dtype
        return dtype.kind if dtype is not None else "float"

    def out_dtype(self, position: int = 0) -> str:
        """Torch dtype of an output."""
        return self.writer.dtype(self.writer.graph.tensors[self.operator.outputs[position]])

    def makes(self, position: int) -> bool:
        """Whether anyone reads the output."""
        if position >= len(self.operator.outputs) or not self.operator.outputs[position]:
            return False
        name = self.operator.outputs[position]
        return self.writer.uses[name] > 0 or name in self.writer.graph.outputs

    def only(self, count: int = 1) -> None:
        """Refuse when an output beyond the first `count` is read."""
        if any(self.makes(position) for position in range(count, len(self.operator.outputs))):
            raise Refused(f"its output {count}")

    def values(self, position: int) -> tuple[Any, ...]:
        """Contents of an input that says how to work, such as a target shape; 1-element weights are told too."""
        values = self.writer.graph.tensors[self.input(position)].values
        if values is None:
            raise Refused("a setting that only running tells")
        return values

    def ints(self, position: int, attribute: str = "") -> tuple[int, ...] | None:
        """Numbers of an input or, in old operator sets, of an attribute; None where neither is there."""
        if self.has(position):
            return tuple(int(value) for value in self.values(position))
        return self.ints_attr(attribute) if attribute else None

    def number(self, position: int, attribute: str = "", default: float | None = None) -> float | None:
        """One number of an input or an attribute."""
        if self.has(position):
            values = self.values(position)
            return float(values[0]) if values else default
        value = self.attr(attribute, default) if attribute else default
        return None if value is None else float(value)

    def axis(self, name: str, default: int, position: int = 0) -> int:
        """An axis, counted from the front."""
        axis = int(self.attr(name, default))
        return axis + self.rank(position) if axis < 0 else axis

    def own(self, *positions: int) -> bool:
        """Whether a layer can hold these inputs: weights nobody else reads; absent ones are fine."""
        return all(self.writer.own(self.input(at)) for at in positions if self.has(at))

    def layer(self, code: str, *weights: tuple[str, int, Change | None]) -> str:
        """A layer with (path inside it, input position, change) for its weights."""
        return self.writer.layer(self.name, code, [(path, self.input(at), change) for path, at, change in weights])

    def local(self, hint: str) -> str:
        """A new local, deleted behind the operator."""
        name = self.writer.locals.make(f"{self.name}_{hint}")
        self.writer.passing.append(name)
        return name

    def say(self, line: str) -> None:
        """Write a statement."""
        self.writer.lines.append(line)


Rule = Callable[[Call], "str | Sequence[str]"]
RULES: dict[str, Rule] = {}
# by op type, with "domain:" in front outside ONNX's own


def rule(*op_types: str) -> Callable[[Rule], Rule]:
    """Register the rule of these op types."""

    def add(function: Rule) -> Rule:
        for op_type in op_types:
            RULES[op_type] = function
        return function

    return add
