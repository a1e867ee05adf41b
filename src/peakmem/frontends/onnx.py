"""ONNX files to graphs, without loading weights and without importing onnx.

The file is walked on the wire: nodes, shapes and small integer constants are read, the bytes of
weights are stepped over and only sized; external data is only looked up. Control-flow bodies
become subgraphs, model-local functions are inlined, Constant nodes become constants.

Field numbers are those of onnx.proto3 (ONNX 1.23, IR version 14).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from peakmem import dtypes
from peakmem.dtypes import DType
from peakmem.errors import FormatError, GraphError, PeakmemError
from peakmem.frontends import wire
from peakmem.frontends.wire import BYTES, FIXED32, VARINT, Field, WireError, WireFile, signed, text
from peakmem.ir.dims import Dim, Shape, Symbol
from peakmem.ir.graph import Graph, Operator, Tensor, Unknown
from peakmem.ir.validate import schedule_order, validate

KEEP_INTEGERS = 4096
KEEP_FLOATS = 64
# elements; constants up to here are read, because shapes may be computed from them
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
# elements and bytes; attributes up to here are kept, larger ones only sized

# TensorProto.DataType
ELEMENT_TYPES: Mapping[int, DType] = {
    1: dtypes.FLOAT32, 2: dtypes.UINT8, 3: dtypes.INT8, 4: dtypes.UINT16, 5: dtypes.INT16,
    6: dtypes.INT32, 7: dtypes.INT64, 8: dtypes.STRING, 9: dtypes.BOOL, 10: dtypes.FLOAT16,
    11: dtypes.FLOAT64, 12: dtypes.UINT32, 13: dtypes.UINT64, 14: dtypes.COMPLEX64,
    15: dtypes.COMPLEX128, 16: dtypes.BFLOAT16, 17: dtypes.FLOAT8E4M3FN, 18: dtypes.FLOAT8E4M3FNUZ,
    19: dtypes.FLOAT8E5M2, 20: dtypes.FLOAT8E5M2FNUZ, 21: dtypes.UINT4, 22: dtypes.INT4,
    23: dtypes.FLOAT4E2M1, 24: dtypes.FLOAT8E8M0, 25: dtypes.UINT2, 26: dtypes.INT2,
    27: dtypes.FLOAT6E2M3, 28: dtypes.FLOAT6E3M2,
}  # fmt: skip
_STRUCT_CODES = {
    "int64": "q", "int32": "i", "int16": "h", "int8": "b", "uint64": "Q", "uint32": "I",
    "uint16": "H", "uint8": "B", "bool": "?", "float32": "f", "float64": "d", "float16": "e",
}  # fmt: skip
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


class Source(Protocol):
    """Where a message lies: bytes in memory, or a file walked through a window."""

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`."""

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of the message between two offsets."""


class Memory:
    """A message that is small enough to be held."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, start: int, end: int) -> bytes:
        return self.data[start:end]

    def fields(self, start: int, end: int) -> Iterator[Field]:
        return wire.fields(self.data, start, end)


@dataclass(slots=True)
class _Constant:
    """A TensorProto as far as it is read."""

    name: str = ""
    dims: list[int] = field(default_factory=list)
    code: int = 0
    raw: tuple[int, int] | None = None
    typed: list[tuple[int, int, int, int]] = field(default_factory=list)
    external: dict[str, str] = field(default_factory=dict)
    is_external: bool = False


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
    try:
        with WireFile(path) as file:
            return _Reader(path, file).model()
    except WireError as fault:
        raise FormatError(f"the ONNX file is truncated or damaged: {fault.what}", where=str(path)) from fault
    except PeakmemError as fault:
        if fault.where:
            raise
        fault.where = str(path)
        fault.args = (str(fault),)
        raise
    except (RecursionError, MemoryError, OverflowError, struct.error) as fault:
        raise FormatError(f"the file is damaged or hostile ({type(fault).__name__})", where=str(path)) from fault


class _Reader:
    def __init__(self, path: Path, file: WireFile) -> None:
        self.path = path
        self.file = file
        self.opsets: dict[str, int] = {}
        self.functions: dict[tuple[str, str, str], _Function] = {}
        self.storages: dict[tuple[Path, int, int], str] = {}
        # of the graph that is being read: the constant that came first on these external bytes
        self.external: dict[str, tuple[Path, int]] = {}
        # file and size by location
        self.missing_data = 0
        self.operator_count = 0
        self.expansion = 0
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
        if self.missing_data:
            self.notes.append(f"{self.missing_data} constants hold no data; they are sized by their shapes")
        graph = replace(
            graph,
            tensors=_with_literal_parameters(graph.tensors),
            name=graph.name or self.path.stem,
            source=str(self.path),
            notes=(*graph.notes, *self.notes),
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

    def graph(
        self, source: Source, start: int, end: int, *, name: str, depth: int, given: Mapping[str, Any]
    ) -> Graph:
        """A GraphProto; `name` is the attribute it belongs to, empty for the main graph.

        `given` holds the attributes of the function whose body this is part of.
        """
        if depth > DEEPEST:
            raise FormatError(f"subgraphs are nested deeper than {DEEPEST}")
        title = name
        outer_storages, self.storages = self.storages, {}
        nodes: list[tuple[Source, int, int]] = []
        declared: dict[str, Tensor] = {}
        constants: dict[str, Tensor] = {}
        inputs: dict[str, None] = {}
        outputs: list[str] = []
        for number, kind, value, stop in source.fields(start, end):
            if kind != BYTES:
                continue
            if number == 1:
                nodes.append((source, value, stop))
            elif number == 5:
                tensor = self.constant(source, value, stop, "")
                _add_constant(constants, tensor)
            elif number == 15:
                _add_constant(constants, self.sparse(source, value, stop, ""))
            elif number in (11, 12, 13):
                data = source.read(value, stop)
                tensor = _value_info(data, "input" if number == 11 else "activation")
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
        operators: list[Operator] = []
        taken: dict[str, int] = {}
        for where, first, last in nodes:
            self._node(where, first, last, operators, constants, taken, "", given, depth)
        self.storages = outer_storages
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
        for number, kind, value, stop in source.fields(start, end):
            if kind != BYTES:
                continue
            if number == 5:
                key, content = self._attribute(source, value, stop, given)
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
            raise FormatError(f"node {name or len(operators)!r} has no operator type")
        if rename is not None:
            self._spend(prefix, (*inputs, *outputs), attributes, end - start)
            inputs = [_renamed(word, rename, prefix) for word in inputs]
            outputs = [_renamed(word, rename, prefix) for word in outputs]
        scope = scope or _scope_of_name(name)
        name = _unique(prefix + (name or f"{op_type}_{len(operators)}"), taken)
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
                fill = self.constant(place.source, place.start, place.end, key)
                attributes["value"] = fill.values or (0,)
                attributes["value_dtype"] = fill.dtype.name if fill.dtype else "float32"
            else:
                sized[key] = self._located(place, f"{name}.{key}")
        for key, constant in sized.items():
            _add_constant(constants, replace(constant, name=f"{name}.{key}"))
        for key in _DTYPE_ATTRIBUTES:
            code = attributes.get(key)
            if isinstance(code, int) and not domain:
                if code == 0:
                    del attributes[key]
                    continue
                attributes[key] = _element_type(code, f"attribute {key!r} of node {name!r}").name
        if domain in _KNOWN_DOMAINS:
            _check_kinds(name, attributes)
        self.operator_count += 1
        if self.operator_count > MOST_OPERATORS:
            raise FormatError(f"the model expands to more than {MOST_OPERATORS:,} operators")
        operators.append(
            Operator(name, op_type, tuple(inputs), tuple(outputs), attributes, domain, scope, tuple(bodies))
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
                operators.append(Operator(_unique(f"{name}/{inner}", taken), "Identity", (rename[inner],), (outer,)))
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

    def constant(self, source: Source, start: int, end: int, name: str) -> Tensor:
        """A TensorProto as a constant: sized, its content read only when small."""
        proto = _tensor_fields(source, start, end)
        name = name or proto.name
        dtype = _element_type(proto.code, f"constant {name!r}")
        shape = _checked_dims(proto.dims, f"constant {name!r}")
        count = 1
        for dim in shape:
            count *= dim
        nbytes = dtype.nbytes(count)
        if nbytes is not None and nbytes > 1 << 56:
            raise FormatError(f"constant {name!r} of {'x'.join(map(str, shape))} is larger than any address space")
        storage = ""
        if proto.is_external:
            storage = self._external(name, proto.external, nbytes)
        elif proto.raw is not None and nbytes is not None:
            held = proto.raw[1] - proto.raw[0]
            if held != nbytes:
                raise FormatError(
                    f"constant {name!r} holds {held} bytes, its shape {'x'.join(map(str, shape)) or 'scalar'} "
                    f"of {dtype} needs {nbytes}"
                )
        elif count and not proto.typed:
            self.missing_data += 1
        values = _values(source, proto, dtype, count) if not proto.is_external else None
        return Tensor(name, shape, dtype, "constant", storage, values)

    def sparse(self, source: Source, start: int, end: int, name: str) -> Tensor:
        """A SparseTensorProto as the dense constant that engines expand it to at load."""
        values: Tensor | None = None
        stored = 0
        dims: list[int] = []
        for number, kind, value, stop in source.fields(start, end):
            if number in (1, 2) and kind == BYTES:
                part = self.constant(source, value, stop, name)
                stored += part.nbytes or 0
                values = part if number == 1 else values
            elif number == 3:
                dims += (
                    [signed(value)]
                    if kind == VARINT
                    else wire.packed_varints(source.read(value, stop))
                )
        if values is None:
            raise FormatError(f"sparse constant {name!r} has no values")
        shape = _checked_dims(dims, f"sparse constant {values.name!r}")
        self.notes.append(
            f"sparse constant {values.name!r} is counted dense, as engines expand it; the file holds {stored:,} B of it"
        )
        return replace(values, shape=shape, values=None, storage="")

    def _located(self, place: _Located, name: str) -> Tensor:
        """The constant that an attribute holds, called `name`."""
        read = self.sparse if place.form == "sparse" else self.constant
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

    def _external(self, name: str, entries: Mapping[str, str], nbytes: int | None) -> str:
        """Check that external data is there; the name of the first tensor on the same bytes."""
        location = entries.get("location", "")
        where = f"constant {name!r}"
        if not location:
            raise FormatError(f"{where} says its data is external, but not where")
        if location not in self.external:
            self.external[location] = self._beside(location, where)
        target, size = self.external[location]
        try:
            offset = int(entries.get("offset", "0") or 0)
            length = int(entries.get("length", "-1") or -1)
        except ValueError:
            raise FormatError(f"{where} has an external offset or length that is not a number") from None
        if length < 0:
            length = nbytes or 0
        if offset < 0 or offset + length > size:
            raise FormatError(
                f"{where} needs bytes {offset} to {offset + length} of {location!r}, which has {size}"
            )
        if nbytes is not None and length != nbytes:
            raise FormatError(f"{where} has {length} external bytes, its shape needs {nbytes}")
        if length == 0:
            return ""
        first = self.storages.setdefault((target, offset, length), name)
        return "" if first == name else first

    def _beside(self, location: str, where: str) -> tuple[Path, int]:
        """The file that an external location means, and its size.

        It has to be in the model's folder. Where the model itself is a link, as in the cache of the
        Hugging Face hub, the folder it leads to will do.
        """
        shown = location if len(location) <= 200 else f"{location[:200]}…"
        try:
            folders = (self.path.parent.resolve(), self.path.resolve().parent)
            target = (folders[0] / location).resolve()
            if Path(location).is_absolute() or not any(target.is_relative_to(folder) for folder in folders):
                raise FormatError(
                    f"{where} points to external data outside the model's folder: {shown!r}",
                    expected="a file beside the model",
                )
            if not target.is_file():
                raise FormatError(f"the external data file {shown!r} is missing", hint=f"put it into {folders[0]}")
            return target, target.stat().st_size
        except (OSError, ValueError, RuntimeError) as fault:
            # Too long, a NUL in it, or links in a circle.
            reason = getattr(fault, "strerror", None) or str(fault)
            raise FormatError(f"{where} cannot have its data at {shown!r} ({reason})") from fault


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
    return {
        name: replace(tensor, parameter=True) if is_table(tensor) else tensor for name, tensor in tensors.items()
    }


def _looks_like_onnx(file: WireFile) -> bool:
    """Whether the first field could be a ModelProto's ir_version."""
    try:
        number, kind, value, _ = next(file.fields(0, file.size))
    except (WireError, StopIteration):
        return False
    return number == 1 and kind == VARINT and 0 < value < 64


def _unique(name: str, taken: dict[str, int]) -> str:
    """`name`, or with a number behind it that no operator of the graph has yet."""
    count = taken.get(name, 0)
    taken[name] = count + 1
    if not count:
        return name
    while f"{name}#{count}" in taken:
        count += 1
    taken[f"{name}#{count}"] = 1
    return f"{name}#{count}"


def _check_kinds(node: str, attributes: Mapping[str, Any]) -> None:
    """Refuse an operator whose sizes are not whole numbers."""
    for key, content in attributes.items():
        if key in _INTEGERS:
            if not isinstance(content, tuple) or not all(isinstance(item, int) for item in content):
                raise FormatError(f"attribute {key!r} of node {node!r} is not a list of whole numbers")
        elif key in _INTEGER and not isinstance(content, int):
            raise FormatError(f"attribute {key!r} of node {node!r} is not a whole number")


def _add_constant(constants: dict[str, Tensor], tensor: Tensor) -> None:
    if tensor.name in constants:
        raise GraphError(f"constant {tensor.name!r} is given twice")
    constants[tensor.name] = tensor


def _element_type(code: int, where: str) -> DType:
    dtype = ELEMENT_TYPES.get(code)
    if dtype is None:
        raise FormatError(f"{where} has the unknown element type {code}", expected="1 to 28")
    return dtype


def _checked_dims(dims: list[int], where: str) -> tuple[int, ...]:
    for dim in dims:
        if dim < 0:
            raise FormatError(f"{where} has a negative dimension: {'x'.join(map(str, dims))}")
    return tuple(dims)


def _tensor_fields(source: Source, start: int, end: int) -> _Constant:
    proto = _Constant()
    for number, kind, value, stop in source.fields(start, end):
        if number == 1:
            if kind == VARINT:
                proto.dims.append(signed(value))
            elif kind == BYTES:
                proto.dims += wire.packed_varints(source.read(value, stop))
            if len(proto.dims) > 1024:
                raise FormatError("a constant has more than 1024 dimensions")
        elif number == 2 and kind == VARINT:
            proto.code = value
        elif number == 8 and kind == BYTES:
            proto.name = text(source.read(value, stop), 0, stop - value)
        elif number == 9 and kind == BYTES:
            proto.raw = (value, stop)
        elif number in (4, 5, 6, 7, 10, 11):
            if len(proto.typed) <= KEEP_INTEGERS:
                proto.typed.append((number, kind, value, stop))
        elif number == 13 and kind == BYTES:
            key, content = _string_entry(source.read(value, stop))
            proto.external[key] = content
        elif number == 14 and kind == VARINT:
            proto.is_external = value == 1
    return proto


def _values(source: Source, proto: _Constant, dtype: DType, count: int) -> tuple[Any, ...] | None:
    """Content of a small constant of numbers, else None."""
    code = _STRUCT_CODES.get(dtype.name)
    if code is None or count > (KEEP_FLOATS if dtype.kind == "float" else KEEP_INTEGERS):
        return None
    if proto.raw is not None:
        return struct.unpack(f"<{count}{code}", source.read(*proto.raw))
    values: list[Any] = []
    for number, kind, value, stop in proto.typed:
        if kind == VARINT:
            values.append(signed(value))
            continue
        data = source.read(value, stop)
        if number in (5, 7, 11):
            values += wire.packed_varints(data)
        elif number in (4, 10):
            width, letter = (4, "f") if number == 4 else (8, "d")
            values += struct.unpack(f"<{len(data) // width}{letter}", data[: len(data) // width * width])
    if dtype is dtypes.UINT64:
        values = [value & 0xFFFFFFFFFFFFFFFF for value in values if isinstance(value, int)]
    if dtype is dtypes.FLOAT16:
        # float16 travels as its bits in int32_data
        if not all(isinstance(bits, int) for bits in values):
            return None
        values = [struct.unpack("<e", struct.pack("<H", bits & 0xFFFF))[0] for bits in values]
    if dtype is dtypes.BOOL:
        values = [bool(value) for value in values]
    return tuple(values) if len(values) == count else None


def _string_entry(data: bytes) -> tuple[str, str]:
    key = content = ""
    for number, kind, value, stop in wire.fields(data, 0, len(data)):
        if kind == BYTES:
            if number == 1:
                key = text(data, value, stop)
            elif number == 2:
                content = text(data, value, stop)
    return key, content


def _value_info(data: bytes, role: str) -> Tensor:
    """A ValueInfoProto as a declared tensor; a type that is not a dense tensor has no shape."""
    name = ""
    shape: Shape | None = None
    dtype: DType | None = None
    for number, kind, value, stop in wire.fields(data, 0, len(data)):
        if kind != BYTES:
            continue
        if number == 1:
            name = text(data, value, stop)
        elif number == 2:
            for form, form_kind, first, last in wire.fields(data, value, stop):
                if form == 1 and form_kind == BYTES:
                    shape, dtype = _tensor_type(data, first, last, name)
    named = None
    if shape is not None:
        named = tuple(Symbol(f"{name}.{axis}") if dim is None else dim for axis, dim in enumerate(shape))
    return Tensor(name, named, dtype, "input" if role == "input" else "activation")


def _tensor_type(data: bytes, start: int, end: int, name: str) -> tuple[Any, DType | None]:
    shape: list[Dim | None] | None = None
    dtype = None
    for number, kind, value, stop in wire.fields(data, start, end):
        if number == 1 and kind == VARINT:
            dtype = _element_type(value, f"tensor {name!r}") if value else None
        elif number == 2 and kind == BYTES:
            shape = []
            for dim, dim_kind, first, last in wire.fields(data, value, stop):
                if dim == 1 and dim_kind == BYTES:
                    shape.append(_dimension(data, first, last, name))
                    if len(shape) > 1024:
                        raise FormatError(f"tensor {name!r} has more than 1024 dimensions")
    return None if shape is None else tuple(shape), dtype


def _dimension(data: bytes, start: int, end: int, name: str) -> Dim | None:
    for number, kind, value, stop in wire.fields(data, start, end):
        if number == 1 and kind == VARINT:
            size = signed(value)
            if size < -1:
                raise FormatError(f"tensor {name!r} has a negative dimension {size}")
            # -1 is how several exporters write "not fixed".
            return None if size == -1 else size
        if number == 2 and kind == BYTES and stop > value:
            return Symbol(text(data, value, stop))
    return None


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
    key, content = _string_entry(data)
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
