"""Where the operators of a Keras model are written down, and what the layers write with.

A `Draft` collects tensors and operators; shapes follow from the shape rules as layers are added,
because a layer's weights are sized by its input. A `LayerCall` is one call of one layer: its
settings, its inputs, and the verbs to add weights and operators under its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from peakmem.dtypes import DTYPES, DType
from peakmem.errors import GraphError, ShapeError
from peakmem.frontends.keras.config import FLOAT32, LayerSpec, Policy, Settings, layer_spec
from peakmem.ir.dims import Dim, Shape, Symbol, element_count, format_shape
from peakmem.ir.graph import Operator, Tensor, Unknown
from peakmem.ir.shapes.call import Unresolved
from peakmem.ir.shapes.infer import LARGEST_TENSOR, Fact, infer_operator

DOMAIN = "keras"
MOST_OPERATORS = 15_000
MOST_TENSORS = 100_000


class Draft:
    """The graph in the making."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.facts: dict[str, Fact] = {}
        # with shapes in symbols, as far as the rules can tell
        self.operators: list[Operator] = []
        self.owners: dict[str, list[str]] = {}
        # layer path -> its constants, in the order Keras makes them
        self.mirrored: dict[str, list[tuple[int, ...]]] = {}
        # top layer -> weights that Keras writes to a file a second time, under the wrapper of their layer
        self.notes: dict[str, None] = {}
        self.unknowns: list[Unknown] = []
        self.names: dict[str, int] = {}

    def note(self, text: str) -> None:
        """Say an assumption once."""
        self.notes.setdefault(text)

    def unique(self, stem: str) -> str:
        """`stem`, or `stem_1` and so on where that is taken."""
        count = self.names.get(stem, 0)
        name = stem
        while name in self.names:
            count += 1
            name = f"{stem}_{count}"
        self.names[stem] = count
        self.names.setdefault(name, 0)
        return name

    def add(self, tensor: Tensor) -> str:
        """A tensor that is no activation."""
        self.tensors[tensor.name] = tensor
        self.facts[tensor.name] = Fact(tensor.shape, tensor.dtype, tensor.values)
        return tensor.name

    def shape(self, name: str) -> Shape | None:
        """What is known of the shape of a tensor."""
        return self.facts[name].shape

    def dtype(self, name: str) -> DType | None:
        """What is known of the dtype of a tensor."""
        return self.facts[name].dtype

    def constant(self, owner: str, name: str, shape: Sequence[Dim], dtype: DType, *, parameter: bool = True) -> str:
        """A stored weight of the layer `owner`; asked again for a shared layer, it is the same one."""
        full = f"{owner}/{name}"
        sizes = tuple(shape)
        if not all(isinstance(dim, int) for dim in sizes):
            raise GraphError(
                f"the size of weight {name!r} ({format_shape(sizes)}) depends on a dimension that is not known",
                where=f"layer {owner[:200]!r}",
            )
        have = self.tensors.get(full)
        if have is not None:
            if have.shape != sizes:
                raise ShapeError(
                    f"the shared layer is called on inputs for which {name!r} would be {format_shape(have.shape)} "
                    f"and {format_shape(sizes)}",
                    where=f"layer {owner[:200]!r}",
                )
            return full
        if (dtype.nbytes(element_count(sizes) or 0) or 0) > LARGEST_TENSOR:
            raise ShapeError(
                f"weight {name!r} of {format_shape(sizes)} is larger than any address space",
                where=f"layer {owner[:200]!r}",
            )
        if len(self.tensors) > MOST_TENSORS:
            raise GraphError(f"the model has more than {MOST_TENSORS:,} tensors")
        self.owners.setdefault(owner, []).append(full)
        return self.add(Tensor(full, sizes, dtype, "constant", parameter=parameter))

    def emit(
        self, op_type: str, inputs: Sequence[str], outputs: Sequence[str], attributes: Mapping[str, Any], *,
        name: str, scope: str,
    ) -> None:  # fmt: skip
        """Append an operator; what its rule cannot tell stays open."""
        if len(self.operators) >= MOST_OPERATORS:
            raise GraphError(f"the model has more than {MOST_OPERATORS:,} operators once its layers are written out")
        kept = {key: value for key, value in attributes.items() if value is not None}
        operator = Operator(name, op_type, tuple(inputs), tuple(outputs), kept, domain=DOMAIN, scope=scope)
        given = [self.facts[word] if word else Fact(None, None) for word in inputs]
        try:
            found = infer_operator(operator, given, {})
        except Unresolved:
            found = [Fact(None, None)] * len(outputs)
        self.operators.append(operator)
        for output, fact in zip(outputs, found, strict=True):
            self.tensors[output] = Tensor(output)
            self.facts[output] = fact

    def declare(self, name: str, recorded: tuple[int | None, ...] | None, dtype: DType | None) -> None:
        """Take what the configuration recorded of a tensor where the rules are silent."""
        fact = self.facts[name]
        shape = None
        if recorded is not None:
            # Keras leaves the batch open and counts it first; other open sizes get names of their own.
            shape = tuple(
                (Symbol("batch") if axis == 0 else Symbol(f"{name}.{axis}")) if dim is None else dim
                for axis, dim in enumerate(recorded)
            )
        tensor = self.tensors[name]
        if tensor.role == "activation":
            self.tensors[name] = replace(tensor, shape=shape or tensor.shape, dtype=dtype or tensor.dtype)
        if fact.shape is None and shape is not None:
            fact = replace(fact, shape=shape)
        elif fact.shape is not None and shape is not None and len(shape) == len(fact.shape):
            merged = tuple(
                there if isinstance(here, Symbol) and isinstance(there, int) else here
                for here, there in zip(fact.shape, shape, strict=True)
            )
            fact = replace(fact, shape=merged)
        self.facts[name] = replace(fact, dtype=fact.dtype or dtype)


class Given(str):
    """The name of a tensor among plain arguments."""

    __slots__ = ()


def tensors_in(value: Any) -> list[str]:
    """The tensors in nested arguments, in order."""
    if isinstance(value, Given):
        return [str(value)]
    if isinstance(value, list | tuple):
        return [name for item in value for name in tensors_in(item)]
    if isinstance(value, Mapping):
        return [name for item in value.values() for name in tensors_in(item)]
    return []


class Inside(Protocol):
    """Whoever can call a layer that stands inside another one."""

    def call(
        self, spec: LayerSpec, outer_path: str, args: Any, given: Mapping[str, Any], outer: Policy, wanted: int,
        depth: int,
    ) -> list[str]:  # fmt: skip
        """Call it; the names of its outputs."""


class LayerCall:
    """One call of one layer."""

    def __init__(
        self, draft: Draft, inside: Inside, spec: LayerSpec, path: str, args: Sequence[Any], given: Mapping[str, Any],
        policy: Policy, wanted: int, depth: int,
    ) -> None:  # fmt: skip
        self.draft = draft
        self.inside = inside
        self.spec = spec
        self.path = path
        # of the layer: its name after those of the models it stands in
        self.args = args
        self.given = given
        # arguments as they were given, tensors as `Given`
        self.inputs = tensors_in(args) or tensors_in(given)
        self.policy = policy
        self.settings = Settings(spec.config, path)
        self.wanted = wanted
        # outputs that the model reads of this call, at least
        self.depth = depth

    # -- what it is given ----------------------------------------------------------------

    @property
    def op_type(self) -> str:
        """The class of the layer."""
        return self.spec.class_name

    def shape(self, at: int = 0) -> Shape:
        """Shape of an input that the layer cannot do without."""
        if at >= len(self.inputs):
            raise self.settings.error(f"is called with {len(self.inputs)} tensors", expected=f"{at + 1} at least")
        return self.shape_of(self.inputs[at])

    def shape_of(self, name: str) -> Shape:
        """Shape of a tensor that the layer cannot do without."""
        shape = self.draft.shape(name)
        if shape is None:
            raise self.settings.error(f"the shape of its input {name[:200]!r} is not known, so its weights are not")
        return shape

    def rank(self, at: int = 0, *, least: int = 0) -> int:
        """Rank of an input."""
        rank = len(self.shape(at))
        if rank < least:
            raise self.settings.error(f"its input {format_shape(self.shape(at))} has rank {rank}", f"{least} at least")
        return rank

    def dim(self, axis: int, at: int = 0) -> int:
        """One size of an input that must be a number."""
        shape = self.shape(at)
        if not -len(shape) <= axis < len(shape):
            raise self.settings.error(f"axis {axis} is outside of its input {format_shape(shape)}")
        dim = shape[axis]
        if not isinstance(dim, int):
            raise self.settings.error(f"axis {axis} of its input {format_shape(shape)} is open, so its weights are")
        return dim

    @property
    def channels_axis(self) -> int:
        """Where the channels are."""
        return 1 if self.channels_first else -1

    @property
    def channels_first(self) -> bool:
        """Whether channels come before the spatial axes."""
        return self.settings.word("data_format", "channels_last") == "channels_first"

    def argument(self, position: int, name: str) -> Any:
        """An argument by position or name; None without it."""
        if position < len(self.args):
            return self.args[position]
        return self.given.get(name)

    def nested(self, key: str) -> LayerSpec:
        """The layer that this one wraps."""
        value = self.settings.config.get(key)
        if not isinstance(value, dict):
            raise self.settings.error(f"{key} is no layer")
        return layer_spec(value)

    # -- what it writes ------------------------------------------------------------------

    def weight(self, name: str, shape: Sequence[Dim], dtype: DType | None = None) -> str:
        """A variable of the layer."""
        return self.draft.constant(self.path, name, shape, dtype or self.policy.variable)

    def cast(self, name: str) -> str:
        """A floating tensor in the dtype the layer computes in."""
        have = self.draft.dtype(name)
        if have is None or have.kind != "float" or have is self.policy.compute:
            return name
        return self.op("Cast", [name], part="cast", dtype=self.policy.compute.name)

    def op(
        self, op_type: str, inputs: Sequence[str], *, part: str = "", outputs: int = 1, **attributes: Any
    ) -> str:  # fmt: skip
        """Add an operator with one output that matters; its name."""
        return self.ops(op_type, inputs, part=part, outputs=outputs, **attributes)[0]

    def ops(
        self, op_type: str, inputs: Sequence[str], *, part: str = "", outputs: int = 1, **attributes: Any
    ) -> list[str]:
        """Add an operator; the names of its outputs."""
        name = self.draft.unique(f"{self.path}/{part}" if part else self.path)
        names = [f"{name}:{index}" if outputs > 1 else f"{name}:out" for index in range(outputs)]
        self.draft.emit(op_type, inputs, names, attributes, name=name, scope=self.path)
        return names

    def activated(self, name: str, key: str = "activation", default: str = "linear") -> str:
        """`name` after the activation that the settings give, an operator of its own."""
        function = self.settings.named(key, default)
        return self.function(name, function)

    def function(self, name: str, function: str) -> str:
        """`name` after an activation function."""
        function = function.removeprefix("keras.activations.")
        if function in ("", "linear"):
            return name
        op_type = ACTIVATIONS.get(function.lower())
        if op_type is None:
            self.draft.note(f"the activation {function[:100]!r} is not Keras' own; taken as elementwise")
            op_type = "Activation"
        return self.op(op_type, [name], part=function[:100], function=function)

    @property
    def compute(self) -> str:
        """Name of the dtype the layer computes in."""
        return self.policy.compute.name


ACTIVATIONS: Mapping[str, str] = {
    "relu": "Relu", "relu6": "Relu6", "sigmoid": "Sigmoid", "tanh": "Tanh", "softmax": "Softmax",
    "log_softmax": "LogSoftmax", "elu": "Elu", "selu": "Selu", "celu": "Celu", "gelu": "Gelu", "silu": "Silu",
    "swish": "Silu", "mish": "Mish", "softplus": "Softplus", "softsign": "Softsign", "exponential": "Exp",
    "hard_sigmoid": "HardSigmoid", "hard_silu": "HardSilu", "hard_swish": "HardSilu", "hard_tanh": "HardTanh",
    "leaky_relu": "LeakyRelu", "log_sigmoid": "LogSigmoid", "glu": "Glu", "squareplus": "Squareplus",
    "soft_shrink": "SoftShrink", "hard_shrink": "HardShrink", "tanh_shrink": "TanhShrink", "threshold": "Threshold",
    "sparse_plus": "SparsePlus", "sparse_sigmoid": "SparseSigmoid", "sparsemax": "Sparsemax",
    "prelu": "LeakyRelu", "leakyrelu": "LeakyRelu",
}  # fmt: skip
# Keras' name of an activation -> the class of the operation


def known_dtype(name: object, default: DType = FLOAT32) -> DType:
    """The dtype of that name; `default` for none of ours."""
    return DTYPES.get(name, default) if isinstance(name, str) else default
