"""ONNX files to graphs, without loading weights and without importing onnx.

The file is walked on the wire: nodes, shapes and small integer constants are read, the bytes of
weights are stepped over and only sized; external data is only looked up. Control-flow bodies
become subgraphs, model-local functions are inlined, Constant nodes become constants.

Field numbers are those of onnx.proto3 (ONNX 1.23, IR version 14).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peakmem import dtypes
from peakmem.errors import FormatError, GraphError
from peakmem.frontends.door import door
from peakmem.frontends.names import unique
from peakmem.frontends.onnx import wire
from peakmem.frontends.onnx.tensors import (
    KEEP_INTEGERS,
    Memory,
    Source,
    TensorReader,
    element_type,
    string_entry,
    value_info,
)
from peakmem.frontends.onnx.wire import BYTES, FIXED32, VARINT, WireError, WireFile, signed, text
from peakmem.ir.dims import Shape
from peakmem.ir.graph import Graph, Operator, Tensor, Unknown
from peakmem.ir.validate import schedule_order, validate

SMALL_MESSAGE = 1 << 20
# bytes; a node up to this size is read whole, a larger one is walked in the file
LONGEST_SCOPE, DEEPEST_SCOPE = 4096, 64
# characters and parts of a module path
DEEPEST = 48
# nested subgraphs and functions
MOST_OPERATORS = 2_000_000
MOST_EXPANSION = 1_000_000
# what inlining functions may add: nodes, their names, and the bytes read again for them
LONGEST_LIST = 1 << 18
LONGEST_TEXT = 1 << 16
# elements and bytes; lists and texts of attributes up to here are kept, larger ones only sized
SHORT_ATTRIBUTE = 256
# bytes; attributes up to here are read once for all nodes that have the same

_INTEGER = frozenset(
    ("K", "N", "axis", "batch_dims", "blocksize", "ceil_mode", "group", "hidden_size", "keepdims", "num_outputs",
     "num_scan_inputs")
)  # fmt: skip
_INTEGERS = frozenset(
    ("axes", "dilations", "kernel_shape", "output_padding", "pads", "perm", "scan_input_axes", "scan_output_axes",
     "split", "strides")
)  # fmt: skip
# attributes that are of one kind wherever the operators of ONNX and ONNX Runtime have them
LOCATED: Mapping[int, str] = {5: "tensor", 6: "graph", 22: "sparse"}
# fields of AttributeProto that are stepped over
_DTYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")
_ONNX_DOMAINS = ("", "ai.onnx")
_KNOWN_DOMAINS = ("", "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc")


@dataclass(frozen=True, slots=True)
class _Located:
    """An attribute that is not read but found again: a tensor, a sparse tensor or a graph."""

    form: str
    source: Source
    start: int
    end: int


@dataclass(slots=True)
class _Function:
    """A model-local function, kept as located bytes until it is called."""

    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    nodes: list[tuple[Source, int, int]]


def read_onnx(path: Path) -> Graph:
    """The graph of an ONNX file, unbound: inputs may carry symbols, other shapes are as declared.

    Raises:
        FormatError: not an ONNX file, or a damaged one.
        GraphError: a cycle, a name made twice or never.
    """
    with door(path):
        try:
            with WireFile(path) as file:
                return _Reader(path, file).model()
        except WireError as fault:
            raise FormatError(f"the ONNX file is truncated or damaged: {fault.what}") from fault


class _Reader:
    def __init__(self, path: Path, file: WireFile) -> None:
        self.path = path
        self.file = file
        self.opsets: dict[str, int] = {}
        self.functions: dict[tuple[str, str, str], _Function] = {}
        self.tensors = TensorReader(path)
        self.operator_count = 0
        self.expansion = 0
        self.plain: dict[bytes, tuple[str, Any]] = {}
        self.settled: dict[tuple[str | bytes, ...], dict[str, Any]] = {}
        # attributes by what is written, one by one and all of a node: a network repeats itself
        self.calling: list[tuple[str, str, str]] = []
        # functions that are being inlined, outermost first
        self.notes: list[str] = []
        self.unknowns: list[Unknown] = []

    # -- the model -----------------------------------------------------------------------

    def model(self) -> Graph:
        file = self.file
        if file.size == 0:
            raise FormatError("the file is empty", expected="an ONNX model")
        graph_at: tuple[int, int] | None = None
        functions = []
        try:
            for number, kind, value, end in file.fields(0, file.size):
                if number == 7 and kind == BYTES:
                    graph_at = (value, end)
                elif number == 8 and kind == BYTES:
                    domain, version = _opset(file.read(value, end))
                    self.opsets[domain] = version
                elif number == 25 and kind == BYTES:
                    functions.append((value, end))
        except WireError:
            if graph_at is None and not self.opsets and not _looks_like_onnx(file):
                raise FormatError("this is not an ONNX model", expected="an ONNX protobuf file") from None
            raise
        if graph_at is None:
            raise FormatError("this is not an ONNX model: it holds no graph", expected="an ONNX protobuf file")
        if not self.opsets:
            self.opsets[""] = 1
        if self.opsets.get("", 7) < 7:
            self.notes.append(
                f"operator set {self.opsets['']} is older than 7, the oldest with a fixed meaning for all operators"
            )
        for start, end in functions:
            self._function(start, end)
        graph = self.graph(file, *graph_at, name="", depth=0, given={})
        if not graph.operators and not graph.inputs and not graph.outputs:
            raise FormatError("this is not an ONNX model: its graph is empty", expected="an ONNX protobuf file")
        for given in graph.inputs:
            if graph.tensors[given].shape is None and graph.tensors[given].dtype is None:
                reason = "the input is not a dense tensor (a sequence, a map or an optional)"
                self.unknowns.append(Unknown(given, "input", reason))
        if self.tensors.missing_data:
            self.notes.append(f"{self.tensors.missing_data} constants hold no data; they are sized by their shapes")
        graph = replace(
            graph,
            tensors=_with_literal_parameters(graph.tensors),
            name=graph.name or self.path.stem,
            source=str(self.path),
            notes=(*graph.notes, *self.notes, *self.tensors.notes),
            unknowns=(*graph.unknowns, *self.unknowns),
        )
        validate(graph)
        return graph

    def _function(self, start: int, end: int) -> None:
        name = domain = overload = ""
        function = _Function([], [], {}, [])
        for number, kind, value, stop in self.file.fields(start, end):
            if kind != BYTES:
                continue
            if number in (1, 4, 5, 6, 10, 13):
                word = text(self.file.read(value, stop), 0, stop - value)
                if number == 1:
                    name = word
                elif number == 10:
                    domain = word
                elif number == 13:
                    overload = word
                elif number == 4:
                    function.inputs.append(word)
                elif number == 5:
                    function.outputs.append(word)
            elif number == 7:
                function.nodes.append((self.file, value, stop))
            elif number == 9:
                where, version = _opset(self.file.read(value, stop))
                self.opsets.setdefault(where, version)
            elif number == 11:
                key, content = self._attribute(self.file, value, stop, {})
                function.attributes[key] = content
        self.functions["" if domain in _ONNX_DOMAINS else domain, name, overload] = function

    # -- graphs --------------------------------------------------------------------------

    def graph(self, source: Source, start: int, end: int, *, name: str, depth: int, given: Mapping[str, Any]) -> Graph:
        """A GraphProto; `name` is the attribute it belongs to, empty for the main graph.

        `given` holds the attributes of the function whose body this is part of.
        """
        if depth > DEEPEST:
            raise FormatError(f"subgraphs are nested deeper than {DEEPEST}")
        title = name
        outer_storages, self.tensors.storages = self.tensors.storages, {}
        declared: dict[str, Tensor] = {}
        constants: dict[str, Tensor] = {}
        inputs: dict[str, None] = {}
        outputs: list[str] = []
        operators: list[Operator] = []
        taken: dict[str, int] = {}
        for number, kind, value, stop in source.fields(start, end):
            if kind != BYTES:
                continue
            if number == 1:
                self._node(source, value, stop, operators, constants, taken, "", given, depth)
            elif number == 5:
                tensor = self.tensors.constant(source, value, stop, "")
                _add_constant(constants, tensor)
            elif number == 15:
                _add_constant(constants, self.tensors.sparse(source, value, stop, ""))
            elif number in (11, 12, 13):
                data = source.read(value, stop)
                tensor = value_info(data, "input" if number == 11 else "activation")
                if number == 13:
                    declared.setdefault(tensor.name, tensor)
                    continue
                if number == 12:
                    outputs.append(tensor.name)
                elif not tensor.name:
                    raise GraphError("a graph input has no name")
                elif tensor.name in inputs:
                    raise GraphError(f"two graph inputs are called {tensor.name!r}")
                else:
                    inputs[tensor.name] = None
                if number == 11 or tensor.name not in inputs:
                    declared[tensor.name] = tensor
            elif number == 2 and not name:
                title = text(source.read(value, stop), 0, stop - value)
        open_inputs = tuple(word for word in inputs if word not in constants)
        self.tensors.storages = outer_storages
        tensors: dict[str, Tensor] = {word: declared[word] for word in open_inputs}
        tensors.update(constants)
        for operator in operators:
            for output in operator.outputs:
                have = tensors.get(output)
                if have is None and output:
                    said = declared.get(output)
                    tensors[output] = Tensor(output) if said is None else said
                elif have is not None and have.role != "activation":
                    raise GraphError(f"tensor {output!r} is made twice, again by {operator.name!r}")
        return Graph(
            title, tensors, schedule_order(operators), open_inputs, tuple(outputs), opsets=self.opsets
        )  # fmt: skip

    # -- nodes ---------------------------------------------------------------------------

    def _node(
        self, source: Source, start: int, end: int, operators: list[Operator], constants: dict[str, Tensor],
        taken: dict[str, int], prefix: str, given: Mapping[str, Any], depth: int,
        rename: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Append what a NodeProto stands for: an operator, a constant, or a function's operators."""
        if end - start <= SMALL_MESSAGE:
            data = source.read(start, end)
            source, start, end = Memory(data), 0, len(data)
        inputs: list[str] = []
        outputs: list[str] = []
        op_type = domain = name = overload = scope = ""
        attributes: dict[str, Any] = {}
        located: dict[str, _Located] = {}
        sized: dict[str, Tensor] = {}
        written: list[bytes] | None = None if given else []
        # the attributes as bytes, when all are plain and short
        for number, kind, value, stop in source.fields(start, end):
            if kind != BYTES:
                continue
            if number == 5:
                raw = source.read(value, stop) if stop - value <= SHORT_ATTRIBUTE and not given else b""
                key, content = self.plain.get(raw) or self._attribute(source, value, stop, given)
                if not raw or isinstance(content, _Located | Tensor):
                    written = None
                else:
                    self.plain[raw] = key, content
                    if written is not None:
                        written.append(raw)
                if isinstance(content, _Located):
                    located[key] = content
                elif isinstance(content, Tensor):
                    sized[key] = content
                elif content is not None:
                    attributes[key] = content
                    if isinstance(content, tuple) and len(content) > KEEP_INTEGERS and not isinstance(content[0], str):
                        dtype = dtypes.FLOAT32 if isinstance(content[0], float) else dtypes.INT64
                        sized[key] = Tensor("", (len(content),), dtype, "constant")
                continue
            if number > 9:
                continue
            if number == 9:
                scope = _scope_of_metadata(source.read(value, stop)) or scope
                continue
            word = text(source.read(value, stop), 0, stop - value)
            if number == 1:
                inputs.append(word)
            elif number == 2:
                outputs.append(word)
            elif number == 4:
                op_type = word
            elif number == 3:
                name = word
            elif number == 7:
                domain = "" if word in _ONNX_DOMAINS else word
            elif number == 8:
                overload = word
        if not op_type:
            raise FormatError(f"operator {name or len(operators)!r} has no operator type")
        if rename is not None:
            self._spend(prefix, (*inputs, *outputs), attributes, end - start)
            inputs = [_renamed(word, rename, prefix) for word in inputs]
            outputs = [_renamed(word, rename, prefix) for word in outputs]
        scope = scope or _scope_of_name(name)
        name = unique(prefix + (name or f"{op_type}_{len(operators)}"), taken)
        called = (domain, op_type, overload)
        function = self.functions.get(called)
        if function is not None:
            attributes.update(located)
            if called in self.calling or len(self.calling) >= DEEPEST:
                chain = " → ".join([caller[1] for caller in (*self.calling[-3:], called)])
                raise FormatError(f"functions call themselves, or each other too deep: {chain}")
            self.calling.append(called)
            self._inline(function, name, inputs, outputs, attributes, operators, constants, taken, depth)
            self.calling.pop()
            return
        if op_type == "Constant" and not domain and len(outputs) == 1:
            constant = self._constant_node(outputs[0], attributes, {**located, **sized})
            if constant is not None:
                _add_constant(constants, constant)
                return
        bodies: list[Graph] = []
        for key, place in located.items():
            if place.form == "graph":
                body = self.graph(place.source, place.start, place.end, name=key, depth=depth + 1, given=given)
                bodies.append(body if rename is None else _rename_captured(body, rename, prefix))
            elif op_type == "ConstantOfShape" and key == "value" and place.form == "tensor":
                fill = self.tensors.constant(place.source, place.start, place.end, key)
                attributes["value"] = fill.values or (0,)
                attributes["value_dtype"] = fill.dtype.name if fill.dtype else "float32"
            else:
                sized[key] = self._located(place, f"{name}.{key}")
        for key, constant in sized.items():
            _add_constant(constants, replace(constant, name=f"{name}.{key}"))
        shared: tuple[str | bytes, ...] | None = None if written is None else (domain, op_type, *written)
        settled = None if shared is None else self.settled.get(shared)
        if settled is None:
            _settle(name, domain, attributes)
            settled = attributes
            if shared is not None:
                self.settled[shared] = settled
        self.operator_count += 1
        if self.operator_count > MOST_OPERATORS:
            raise FormatError(f"the model expands to more than {MOST_OPERATORS:,} operators")
        operators.append(
            Operator(name, op_type, tuple(inputs), tuple(outputs), settled, domain, scope, tuple(bodies))
        )  # fmt: skip

    def _inline(
        self, function: _Function, name: str, inputs: list[str], outputs: list[str], attributes: dict[str, Any],
        operators: list[Operator], constants: dict[str, Tensor], taken: dict[str, int], depth: int,
    ) -> None:  # fmt: skip
        rename = {inner: outer for inner, outer in zip(function.outputs, outputs, strict=False) if outer}
        padded = inputs + [""] * (len(function.inputs) - len(inputs))
        rename.update(zip(function.inputs, padded, strict=False))
        for inner, outer in zip(function.outputs, outputs, strict=False):
            if outer and rename[inner] != outer:
                # An input handed out as it came in.
                operators.append(Operator(unique(f"{name}/{inner}", taken), "Identity", (rename[inner],), (outer,)))
        given = {**function.attributes, **attributes}
        for source, start, end in function.nodes:
            self._node(
                source, start, end, operators, constants, taken, f"{name}/", given, depth + 1, rename
            )  # fmt: skip

    def _spend(self, prefix: str, names: tuple[str, ...], attributes: Mapping[str, Any], nbytes: int) -> None:
        """Count what inlining a node costs, so that a small file cannot expand without end."""
        lists = sum(len(content) for content in attributes.values() if isinstance(content, tuple | str))
        self.expansion += 1 + len(names) * (1 + len(prefix) // 256) + lists // 64 + min(nbytes, SMALL_MESSAGE) // 4096
        if self.expansion > MOST_EXPANSION:
            raise FormatError("its functions call each other so often that the network is beyond any size")

    # -- attributes ----------------------------------------------------------------------

    def _attribute(self, source: Source, start: int, end: int, given: Mapping[str, Any]) -> tuple[str, Any]:
        """(name, content): tensors and graphs are located, lists and texts that are long become a Tensor."""
        name = reference = ""
        content: Any = None
        many: list[Any] = []
        code = count = 0
        dtype = dtypes.INT64
        for number, kind, value, stop in source.fields(start, end):
            if number == 1 and kind == BYTES:
                name = text(source.read(value, stop), 0, stop - value)
            elif number == 3 and kind == VARINT:
                content = signed(value)
            elif number == 8 and kind in (VARINT, BYTES):
                # Packed numbers are counted as one byte each until they are read.
                count += 1 if kind == VARINT else stop - value
                if count <= LONGEST_LIST:
                    many += [signed(value)] if kind == VARINT else wire.packed_varints(source.read(value, stop))
            elif number == 7 and kind in (FIXED32, BYTES):
                dtype = dtypes.FLOAT32
                count += (stop - value) // 4
                if count <= LONGEST_LIST:
                    data = source.read(value, stop)
                    many += struct.unpack(f"<{len(data) // 4}f", data[: len(data) // 4 * 4])
            elif number == 2 and kind == FIXED32:
                content = wire.float32(source.read(value, stop), 0)
            elif number == 4 and kind == BYTES:
                if stop - value > LONGEST_TEXT:
                    content = Tensor("", (stop - value,), dtypes.UINT8, "constant")
                else:
                    content = str(source.read(value, stop), "utf-8", "replace")
            elif number == 9 and kind == BYTES:
                many.append(str(source.read(value, stop), "utf-8", "replace"))
            elif number in LOCATED and kind == BYTES:
                content = _Located(LOCATED[number], source, value, stop)
            elif number == 20 and kind == VARINT:
                code = value
            elif number == 21 and kind == BYTES:
                reference = text(source.read(value, stop), 0, stop - value)
        if reference:
            return name, given.get(reference)
        if count > LONGEST_LIST:
            return name, Tensor("", (count,), dtype, "constant")
        # AttributeProto.AttributeType: 1 FLOAT, 2 INT, 3 STRING, 6 FLOATS, 7 INTS, 8 STRINGS
        if many or code in (6, 7, 8):
            return name, tuple(many)
        if content is None and code in (1, 2, 3):
            content = {1: 0.0, 2: 0, 3: ""}[code]
        return name, content

    # -- constants -----------------------------------------------------------------------

    def _located(self, place: _Located, name: str) -> Tensor:
        """The constant that an attribute holds, called `name`."""
        read = self.tensors.sparse if place.form == "sparse" else self.tensors.constant
        return read(place.source, place.start, place.end, name)

    def _constant_node(
        self, output: str, attributes: Mapping[str, Any], held: Mapping[str, _Located | Tensor]
    ) -> Tensor | None:
        for key, place in held.items():
            if isinstance(place, _Located) and place.form != "graph":
                return replace(self._located(place, output), parameter=False)
            if isinstance(place, Tensor) and key not in attributes:
                if key == "value_string":
                    place = Tensor(output, (), dtypes.STRING, "constant")
                return replace(place, name=output, parameter=False)
        for key, content in attributes.items():
            many = isinstance(content, tuple)
            values = content if many else (content,)
            dtype = {"value_float": dtypes.FLOAT32, "value_int": dtypes.INT64, "value_string": dtypes.STRING}.get(
                key.removesuffix("s") if many else key
            )
            if dtype is not None:
                shape: Shape = (len(values),) if many else ()
                kept = values if len(values) <= KEEP_INTEGERS else None
                return Tensor(output, shape, dtype, "constant", values=kept, parameter=False)
        return None


def _opset(data: bytes) -> tuple[str, int]:
    """An OperatorSetIdProto as (domain, version)."""
    domain, version = "", 0
    for number, kind, value, end in wire.fields(data, 0, len(data)):
        if number == 1 and kind == BYTES:
            domain = text(data, value, end)
        elif number == 2 and kind == VARINT:
            version = signed(value)
    return "" if domain in _ONNX_DOMAINS else domain, version


def _with_literal_parameters(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """`tensors`, with Constant nodes as parameters where the file stores none as initializers."""

    def is_table(tensor: Tensor) -> bool:
        floating = tensor.dtype is not None and tensor.dtype.kind == "float"
        return tensor.role == "constant" and floating and (tensor.count or 0) > 1

    if any(tensor.parameter and is_table(tensor) for tensor in tensors.values()):
        return tensors
    return {name: replace(tensor, parameter=True) if is_table(tensor) else tensor for name, tensor in tensors.items()}


def _looks_like_onnx(file: WireFile) -> bool:
    """Whether the first field could be a ModelProto's ir_version."""
    try:
        number, kind, value, _ = next(file.fields(0, file.size))
    except (WireError, StopIteration):
        return False
    return number == 1 and kind == VARINT and 0 < value < 64


def _settle(node: str, domain: str, attributes: dict[str, Any]) -> None:
    """Give element types their names, and check what has to be a whole number."""
    for key in _DTYPE_ATTRIBUTES:
        code = attributes.get(key)
        if isinstance(code, int) and not domain:
            if code == 0:
                del attributes[key]
                continue
            attributes[key] = element_type(code, f"attribute {key!r} of operator {node!r}").name
    if domain in _KNOWN_DOMAINS:
        _check_kinds(node, attributes)


def _check_kinds(node: str, attributes: Mapping[str, Any]) -> None:
    """Refuse an operator whose sizes are not whole numbers."""
    for key, content in attributes.items():
        if key in _INTEGERS:
            if not isinstance(content, tuple) or not all(isinstance(item, int) for item in content):
                raise FormatError(f"attribute {key!r} of operator {node!r} is not a list of whole numbers")
        elif key in _INTEGER and not isinstance(content, int):
            raise FormatError(f"attribute {key!r} of operator {node!r} is not a whole number")


def _add_constant(constants: dict[str, Tensor], tensor: Tensor) -> None:
    if tensor.name in constants:
        raise GraphError(f"constant {tensor.name!r} is given twice")
    constants[tensor.name] = tensor


def _scope_of_name(name: str) -> str:
    """`/layer1/layer1.0/conv1/Conv` → `layer1/layer1.0/conv1`; a name without parts has no scope."""
    head, slash, _ = name.strip("/").rpartition("/")
    return _scope(head) if slash else ""


def _scope(path: str) -> str:
    """`path`, or nothing where no module tree could be so deep."""
    return path if len(path) <= LONGEST_SCOPE and path.count("/") < DEEPEST_SCOPE else ""


_QUOTED = re.compile(r"'([^']*)'")


def _scope_of_metadata(data: bytes) -> str:
    """The module path that PyTorch's newer exporter writes into a node's metadata."""
    key, content = string_entry(data)
    if key != "pkg.torch.onnx.name_scopes":
        return ""
    return _scope("/".join(part for part in _QUOTED.findall(content)[:-1] if part))


def _renamed(word: str, rename: Mapping[str, str], prefix: str) -> str:
    return "" if not word else rename.get(word, prefix + word)


def _rename_captured(body: Graph, rename: Mapping[str, str], prefix: str) -> Graph:
    """A body inside an inlined function: names it takes from the function follow the inlining."""
    outside = {name: _renamed(name, rename, prefix) for name in body.captured()}

    def there(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(outside.get(name, name) for name in names)

    operators = tuple(
        replace(
            operator,
            inputs=there(operator.inputs),
            subgraphs=tuple(_rename_captured(inner, rename, prefix) for inner in operator.subgraphs),
        )
        for operator in body.operators
    )
    return replace(body, operators=operators, outputs=there(body.outputs))
