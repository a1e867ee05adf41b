"""A Keras configuration as data: the JSON text, layers with their calls, settings with their kinds checked.

Nothing is deserialised as Keras does it: class names are compared with those we know, never
imported. Both ways of writing calls are read, those of Keras 3 and the lists of Keras 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from peakmem.dtypes import DTYPES, DType
from peakmem.errors import FormatError, GraphError
from peakmem.frontends.bounded_json import parse_json
from peakmem.frontends.names import shown_value

LARGEST_CONFIG = 32 << 20
MOST_LAYERS = 10_000
MOST_OUTPUTS = 10_000
# of one layer, and calls of it
LARGEST_NUMBER = 2**48
LONGEST_LIST = 1 << 16
DEEPEST = 40


def parse(text: bytes, where: str) -> dict[str, Any]:
    """The JSON object in `text`.

    Raises:
        FormatError: not JSON, not an object, or too much of it.
    """
    if len(text) > LARGEST_CONFIG:
        raise FormatError("the configuration is too large for a model", where=where)
    found = parse_json(text, what="the configuration", where=where)
    if not isinstance(found, dict):
        raise FormatError("the configuration is no JSON object", where=where, expected="what model.to_json() writes")
    return found


@dataclass(frozen=True, slots=True)
class TensorRef:
    """The output `index` of call number `node` of the layer called `layer`."""

    layer: str
    node: int
    index: int
    shape: tuple[int | None, ...] | None = None
    # as Keras recorded it
    dtype: DType | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One call of a layer; arguments are JSON with TensorRef leaves."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    old: bool = False
    # whether it is written as Keras 2 writes it

    @property
    def refs(self) -> list[TensorRef]:
        """Every tensor the call is given, in order."""
        return [*references(self.args), *references(self.kwargs)]


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One layer as the configuration has it."""

    name: str
    class_name: str
    config: Mapping[str, Any]
    module: str
    # as in "keras.layers"; "keras" where the configuration does not tell
    known: bool
    # whether the class is Keras' own
    nodes: tuple[Node, ...] = ()
    built: Mapping[str, Any] = field(default_factory=dict)
    # its build_config
    is_function: bool = False
    # whether it is a function of keras.ops, called on symbolic tensors

    @property
    def is_model(self) -> bool:
        """Whether it holds layers of its own."""
        return "layers" in self.config and isinstance(self.config["layers"], list)


def references(value: Any, depth: int = 0) -> Iterator[TensorRef]:
    """The TensorRef leaves of nested arguments; dictionaries in the order of their keys, as Keras flattens them.

    Raises:
        FormatError: arguments are nested too deeply.
    """
    if isinstance(value, TensorRef):
        yield value
    elif depth > DEEPEST:
        raise FormatError("arguments of a layer are nested too deeply")
    elif isinstance(value, list | tuple):
        for item in value:
            yield from references(item, depth + 1)
    elif isinstance(value, Mapping):
        for key in value:
            yield from references(value[key], depth + 1)


def layer_spec(entry: Any) -> LayerSpec:
    """A layer, a model or a function as it stands in a configuration.

    Raises:
        FormatError: it is none.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str):
        raise FormatError("a layer of the configuration has no class_name")
    class_name = entry["class_name"]
    config = entry.get("config")
    module = entry.get("module")
    registered = entry.get("registered_name")
    if not isinstance(config, dict):
        # A list of layers is how the first versions of Keras wrote a Sequential model.
        config = {"layers": config} if isinstance(config, list) else {}
    home = module if isinstance(module, str) else "keras" if "module" not in entry else ""
    known = (home == "keras" or home.startswith(("keras.", "tensorflow.keras", "tf_keras", "builtins"))) and not (
        ">" in class_name or (isinstance(registered, str) and ">" in registered)
    )
    name = entry.get("name", config.get("name"))
    function = ".ops" in home
    if "module" not in entry and class_name != "InputLayer" and "layers" not in config:
        # Files of the older kind do not say; layers have a dtype and can be trained.
        function = "trainable" not in config and "dtype" not in config and "inbound_nodes" in entry
    nodes = entry.get("inbound_nodes", [])
    if not isinstance(nodes, list):
        raise FormatError(f"the calls of layer {str(name)[:100]!r} are no list")
    built = entry.get("build_config")
    return LayerSpec(
        str(name)[:500] if isinstance(name, str | int) else class_name[:500],
        class_name[:500],
        config,
        home,
        known,
        tuple(_node(node) for node in nodes),
        built if isinstance(built, dict) else {},
        function,
    )


def _node(node: Any) -> Node:
    if isinstance(node, dict):
        args, kwargs = node.get("args", []), node.get("kwargs", {})
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise FormatError("a call has arguments that are no list")
        return Node(tuple(_argument(item, 0) for item in args), {key: _argument(kwargs[key], 0) for key in kwargs})
    if isinstance(node, list):
        # Keras 2: [[layer, node, tensor, {keyword arguments}], …], or one of them without its list.
        items = [node] if _is_old_ref(node) else node
        refs: list[Any] = []
        given: dict[str, Any] = {}
        for item in items:
            if not _is_old_ref(item):
                raise FormatError("a call names its tensors in no known way")
            if item[0] == "_CONSTANT_VALUE":
                refs.append(item[2])
            else:
                refs.append(TensorRef(item[0], item[1], item[2]))
            if len(item) > 3 and isinstance(item[3], dict):
                given.update({key: _argument(item[3][key], 0) for key in item[3]})
        return Node((refs,) if len(refs) != 1 else (refs[0],), given, old=True)
    raise FormatError("a call of a layer is neither an object nor a list")


def _is_old_ref(item: Any) -> bool:
    """Whether it reads [layer, node, tensor], perhaps with keyword arguments after it."""
    if not isinstance(item, list) or len(item) not in (3, 4) or not isinstance(item[0], str):
        return False
    return (_is_index(item[1]) and _is_index(item[2])) or item[0] == "_CONSTANT_VALUE"


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < MOST_OUTPUTS


def _argument(value: Any, depth: int) -> Any:
    if depth > DEEPEST:
        raise FormatError("arguments of a layer are nested too deeply")
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__" and isinstance(value.get("config"), dict):
            return tensor_ref(value["config"])
        return {key: _argument(value[key], depth + 1) for key in value}
    if isinstance(value, list):
        if _is_old_ref(value) and len(value) == 3 and value[0] != "_CONSTANT_VALUE":
            return TensorRef(value[0], value[1], value[2])
        return [_argument(item, depth + 1) for item in value]
    return value


def tensor_ref(config: Mapping[str, Any]) -> TensorRef:
    """The tensor of a __keras_tensor__ entry.

    Raises:
        FormatError: it does not say which call made the tensor.
    """
    history = config.get("keras_history")
    if not isinstance(history, list) or len(history) != 3 or not isinstance(history[0], str):
        raise FormatError("a tensor of the configuration has no history")
    if not all(_is_index(item) for item in history[1:]):
        raise FormatError("a tensor of the configuration has an odd history")
    shape = config.get("shape")
    dtype = config.get("dtype")
    return TensorRef(
        history[0], history[1], history[2],
        shape_of(shape) if isinstance(shape, list) else None,
        DTYPES.get(dtype) if isinstance(dtype, str) else None,
    )  # fmt: skip


def shape_of(value: Any) -> tuple[int | None, ...] | None:
    """A recorded shape; None when it is none."""
    if isinstance(value, dict) and value.get("class_name") in ("__tuple__", "TensorShape", "tuple"):
        value = value.get("items")
    if not isinstance(value, list | tuple) or len(value) > 64:
        return None
    if not all(item is None or (isinstance(item, int) and 0 <= item <= LARGEST_NUMBER) for item in value):
        return None
    return tuple(value)


def endpoints(value: Any) -> list[TensorRef]:
    """The tensors named in `input_layers` or `output_layers`, in the order Keras flattens them."""
    if _is_old_ref(value) and value[0] != "_CONSTANT_VALUE":
        return [TensorRef(value[0], value[1], value[2])]
    if isinstance(value, list):
        return [ref for item in value for ref in endpoints(item)]
    if isinstance(value, dict):
        return [ref for key in sorted(value) for ref in endpoints(value[key])]
    raise FormatError("the inputs or outputs of a model are named in no known way")


class Settings:
    """The configuration of one layer; everything asked of it is checked, and faults name the layer."""

    __slots__ = ("config", "owner")

    def __init__(self, config: Mapping[str, Any], owner: str) -> None:
        self.config = config
        self.owner = owner

    def error(self, what: str, expected: str = "") -> GraphError:
        """A GraphError that names the layer."""
        return GraphError(what, where=f"layer {self.owner[:200]!r}", expected=expected)

    def has(self, key: str) -> bool:
        """Whether something other than null stands under `key`."""
        return self.config.get(key) is not None

    def whole(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        """A whole number of at least `least`."""
        value = self.config.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST_NUMBER:
            raise self.error(f"{key} is {shown_value(value)}", expected=f"a whole number of {least} or more")
        return value

    def axis(self, key: str, default: int) -> int:
        """An axis; a list of one is one."""
        value = self.config.get(key, default)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 64:
            raise self.error(f"{key} is {shown_value(value)}", expected="an axis")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.config.get(key)
        if value is None:
            return default
        if not isinstance(value, bool | int):
            raise self.error(f"{key} is {shown_value(value)}", expected="true or false")
        return bool(value)

    def word(self, key: str, default: str) -> str:
        """A text."""
        value = self.config.get(key)
        if value is None:
            return default
        if not isinstance(value, str) or len(value) > 500:
            raise self.error(f"{key} is {shown_value(value)}", expected="a text")
        return value

    def window(self, key: str, rank: int, default: int | None = None, *, least: int = 1) -> tuple[int, ...]:
        """One number per spatial axis, written once or one by one."""
        value = self.config.get(key)
        if value is None and default is not None:
            value = default
        items: Sequence[Any] = value if isinstance(value, list | tuple) else [value] * rank
        if len(items) == 1:
            items = list(items) * rank
        if len(items) != rank or not all(
            isinstance(item, int) and not isinstance(item, bool) and least <= item <= LARGEST_NUMBER for item in items
        ):
            raise self.error(f"{key} is {shown_value(value)}", expected=f"{rank} whole numbers of {least} or more")
        return tuple(items)

    def ints(self, key: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """A list of whole numbers."""
        value = self.config.get(key)
        if value is None and default is not None:
            return tuple(default)
        items = value if isinstance(value, list | tuple) else [value]
        if len(items) > LONGEST_LIST or not all(
            isinstance(item, int) and not isinstance(item, bool) and abs(item) <= LARGEST_NUMBER for item in items
        ):
            raise self.error(f"{key} is {shown_value(value)}", expected="a list of whole numbers")
        return tuple(items)

    def pairs(self, key: str, rank: int) -> tuple[tuple[int, int], ...]:
        """(before, after) per spatial axis: 1, [1, 2] (Keras: per axis, or before and after for one) or pairs."""
        value = self.config.get(key)
        if rank == 1 and isinstance(value, list) and len(value) == 2 and all(isinstance(item, int) for item in value):
            value = [value]
        items: Sequence[Any] = value if isinstance(value, list | tuple) else [value] * rank
        found = []
        for item in items:
            pair = item if isinstance(item, list | tuple) else (item, item)
            if len(pair) != 2 or not all(
                isinstance(side, int) and not isinstance(side, bool) and 0 <= side <= LARGEST_NUMBER for side in pair
            ):
                raise self.error(f"{key} is {shown_value(value)}", expected=f"{rank} pairs of whole numbers")
            found.append((pair[0], pair[1]))
        if len(found) != rank:
            raise self.error(f"{key} is {shown_value(value)}", expected=f"{rank} pairs of whole numbers")
        return tuple(found)

    def named(self, key: str, default: str = "") -> str:
        """The name of a function or object: "relu", {"class_name": "relu"} or {"config": "relu"}; "" for none."""
        value = self.config.get(key, default)
        if isinstance(value, dict):
            inner = value.get("config")
            value = inner if isinstance(inner, str) else value.get("class_name", "")
        return value[:200] if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class Policy:
    """The dtypes of a layer."""

    compute: DType
    variable: DType
    quantised: str = ""
    # "int8", "int4", "float8" or another mode of model.quantize


FLOAT32 = DTYPES["float32"]


def policy(value: Any, default: Policy) -> Policy:
    """The dtype policy that `value` names; `default` where it names none."""
    if isinstance(value, dict):
        inner = value.get("config")
        inner = inner if isinstance(inner, dict) else {}
        if "default_policy" in inner:
            return policy(inner["default_policy"], default)
        mode = inner.get("mode")
        if isinstance(mode, str):
            source = policy(inner.get("source_name"), default)
            return Policy(source.compute, source.variable, mode[:40])
        value = inner.get("name")
    if not isinstance(value, str):
        return default
    mode, mark, rest = value.partition("_from_")
    if mark:
        source = policy(rest, default)
        return Policy(source.compute, source.variable, mode[:40])
    if value.startswith("mixed_"):
        compute = DTYPES.get(value[6:])
        return default if compute is None else Policy(compute, FLOAT32)
    found = DTYPES.get(value)
    return default if found is None else Policy(found, found)
