"""pnnx files to graphs: PyTorch's operators as pnnx writes them, with the shapes it recorded.

Nothing is inferred: an operand has the shape that stands in the file. `?` in a shape is a symbol.
The archive with the weights is only listed, to hold its sizes against the file's.

The grammar is that of `tools/pnnx/src/ir.cpp` in ncnn (2026-07).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peakmem import dtypes
from peakmem.dtypes import INT64, DType
from peakmem.errors import FormatError
from peakmem.frontends.archive import Archive
from peakmem.frontends.door import door
from peakmem.frontends.names import unique
from peakmem.frontends.ncnn.param import content, header, split_row, text_of
from peakmem.frontends.ncnn.pnnx_views import Views
from peakmem.ir.dims import Dim, Shape, Symbol
from peakmem.ir.graph import Detail, Graph, Operator, Tensor
from peakmem.ir.kinds.pnnx import BIAS_SLOT, NAMED_SLOTS, WEIGHT_SLOT
from peakmem.ir.validate import schedule_order, validate

DTYPES: Mapping[str, DType] = {
    "f32": dtypes.FLOAT32, "f64": dtypes.FLOAT64, "f16": dtypes.FLOAT16, "i32": dtypes.INT32, "i64": dtypes.INT64,
    "i16": dtypes.INT16, "i8": dtypes.INT8, "u8": dtypes.UINT8, "bool": dtypes.BOOL, "c64": dtypes.COMPLEX64,
    "c128": dtypes.COMPLEX128, "c32": DType("complex32", 32, "complex"), "bf16": dtypes.BFLOAT16,
}  # fmt: skip
MOST_DIMS = 64
_PACKING = frozenset(("prim::TupleConstruct", "prim::ListConstruct"))
_UNPACKING = frozenset(("prim::TupleUnpack", "prim::ListUnpack"))
_NUMBERS = frozenset(("Tensor.size", "aten::size", "prim::Constant", "aten::Int", "aten::dim", "Tensor.dim"))
# operators whose results are numbers of the host, a few bytes
_ONNX = {"kernel_size": "kernel_shape", "stride": "strides", "dilation": "dilations", "groups": "group"}
_TYPED = re.compile(r"\(([^()]*)\)(\w+)")


def read_pnnx(path: Path) -> Graph:
    """The graph of a pnnx param file, with the shapes it was exported with.

    Raises:
        FormatError: not a pnnx file, a damaged one, or an archive of other sizes beside it.
        GraphError: operators that contradict each other.
    """
    with door(path, ValueError):
        return _Reader(path, text_of(content(path), "a pnnx file")).graph()


@dataclass(slots=True)
class _Row:
    """One operator as the file has it."""

    op_type: str
    name: str
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    params: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, tuple[Shape, DType]] = field(default_factory=dict)


class _Reader:
    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.tensors: dict[str, Tensor] = {}
        self.recorded: dict[str, tuple[Shape, DType | None]] = {}
        self.rows = list(self.read(text))
        types = {row.op_type for row in self.rows}
        if "Input" in types and not any(name.startswith("pnnx.") for name in types):
            raise FormatError(
                "this is an ncnn param file", where=str(path), expected="a pnnx one", hint="without --format pnnx"
            )
        self.packed: dict[str, tuple[str, ...]] = {}
        # tuples and lists by name: what they hold
        self.same: dict[str, str] = {}
        # names that unpacking gives to what was packed before
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.names: dict[str, int] = {}

    def read(self, text: str) -> Iterator[_Row]:
        layers, _, rows = header(text, str(self.path))
        count = 0
        for number, line in rows:
            where = f"{self.path}, line {number}"
            if count == layers:
                raise FormatError(f"more operators than the {layers} that line 2 says", where=where)
            op_type, name, reads, makes, rest = split_row(line, where)
            row = _Row(op_type, name, reads, makes)
            for word in rest.split():
                key, mark, value = word.partition("=")
                if not mark:
                    raise FormatError(f"{word[:40]!r} is no parameter", where=where, expected="name=value")
                if key.startswith("@"):
                    shape, dtype = self.typed(value, key[1:], where)
                    if dtype is not None:
                        row.weights[key[1:]] = shape, dtype
                elif key.startswith("#"):
                    self.recorded.setdefault(key[1:], self.typed(value, key[1:], where))
                elif not key.startswith("$"):
                    row.params[key] = _value(value)
            count += 1
            yield row
        if count != layers:
            raise FormatError(f"line 2 says {layers} operators, the file has {count}", where=str(self.path))

    def typed(self, text: str, name: str, where: str) -> tuple[Shape, DType | None]:
        """A shape with its dtype, `(1,3,?,?)f32`."""
        match = _TYPED.fullmatch(text)
        if match is None or (match[2] not in DTYPES and match[2] != "null"):
            raise FormatError(f"{text[:60]!r} is no shape", where=where, expected="a shape such as (1,3,224,224)f32")
        dims: list[Dim] = []
        for axis, word in enumerate(match[1].split(",") if match[1] else ()):
            if word.isdecimal() and len(word) < 16:
                dims.append(int(word))
            elif word == "?" or word.startswith("%"):
                dims.append(Symbol(word[1:] or f"{name}.{axis}"))
            else:
                raise FormatError(f"{word[:40]!r} is no size", where=where, expected="a number or ?")
        if len(dims) > MOST_DIMS:
            raise FormatError(f"a shape of {len(dims)} dimensions", where=where, expected=f"at most {MOST_DIMS}")
        return tuple(dims), DTYPES.get(match[2])

    # -- the graph -----------------------------------------------------------------------

    def graph(self) -> Graph:
        operators: list[Operator] = []
        views = Views()
        for row in self.rows:
            if row.op_type == "pnnx.Input":
                for name in row.makes:
                    self.made(name, role="input")
                    self.inputs.append(name)
            elif row.op_type == "pnnx.Output":
                self.outputs += [inner for name in row.reads for inner in self.held(name)]
            elif row.op_type in _PACKING:
                for name in row.makes:
                    self.packed[name] = tuple(inner for read in row.reads for inner in self.held(read))
            elif row.op_type in _UNPACKING and row.reads and len(self.held(row.reads[0])) == len(row.makes):
                self.same.update(zip(row.makes, self.held(row.reads[0]), strict=True))
            elif row.op_type == "pnnx.Attribute" and len(row.weights) == len(row.makes) == 1:
                self.weight(row.makes[0], *next(iter(row.weights.values())))
            else:
                operators.append(self.operator(row, views))
        read = {name for operator in operators for name in operator.inputs}
        if not self.outputs:
            self.outputs = [name for operator in operators for name in operator.outputs if name not in read]
        graph = Graph(
            name=self.path.name.split(".")[0] or self.path.name,
            tensors=self.tensors,
            operators=schedule_order(operators, str(self.path)),
            inputs=tuple(dict.fromkeys(self.inputs)),
            outputs=tuple(dict.fromkeys(self.outputs)),
            source=str(self.path),
            format="pnnx",
            details=self.archive(),
            notes=("shapes are those that pnnx recorded; views share the bytes of what they look at, as in PyTorch",),
        )
        validate(graph)
        return graph

    def held(self, name: str) -> tuple[str, ...]:
        """What a tuple or list holds; the operand itself for anything else."""
        name = self.same.get(name, name)
        return self.packed.get(name, (name,))

    def made(self, name: str, *, role: str = "activation", number: bool = False) -> None:
        shape, dtype = self.recorded.get(name, ((), INT64) if number else (None, None))
        self.tensors.setdefault(name, Tensor(name, shape, dtype, "input" if role == "input" else "activation"))

    def operator(self, row: _Row, views: Views) -> Operator:
        reads = tuple(inner for name in row.reads for inner in self.held(name))
        number = row.op_type in _NUMBERS or (
            row.op_type == "pnnx.Expression" and all(self.is_number(name) for name in reads)
        )
        for name in row.makes:
            self.made(name, number=number)
        label = unique(row.name, self.names)
        return Operator(
            label, row.op_type, self.with_weights(label, row, reads), row.makes, _attributes(row.params), "pnnx",
            scope="/".join(row.name.split(".")[:-1][:16]), aliases=views.of(row.op_type, reads, row.makes),
        )  # fmt: skip

    def is_number(self, name: str) -> bool:
        tensor = self.tensors.get(name)
        return tensor is not None and tensor.shape == () and tensor.dtype is INT64

    def with_weights(self, label: str, row: _Row, reads: tuple[str, ...]) -> tuple[str, ...]:
        """The operands, then the weights: those with a name that ONNX has a place for, others by what they are."""
        if not row.weights:
            return reads
        slots = list(reads)
        named = NAMED_SLOTS.get(row.op_type)
        weight_at, bias_at = WEIGHT_SLOT, BIAS_SLOT
        for key, (shape, dtype) in row.weights.items():
            name = f"{label}.{key}"
            while name in self.tensors or name in self.recorded:
                name += "~"
            self.weight(name, shape, dtype)
            if named is not None and key in named:
                slot = named[key]
            elif "bias" in key:
                slot, bias_at = bias_at, bias_at + 2
            else:
                slot, weight_at = weight_at, weight_at + 2
            slots += [""] * (slot + 1 - len(slots))
            if slots[slot]:
                slots.append(name)
            else:
                slots[slot] = name
        return tuple(slots)

    def weight(self, name: str, shape: Shape, dtype: DType) -> None:
        if any(not isinstance(dim, int) for dim in shape):
            raise FormatError(f"the weight {name!r} has no fixed shape", where=str(self.path))
        self.tensors[name] = Tensor(name, shape, dtype, "constant")

    def archive(self) -> tuple[Detail, ...]:
        """What the archive beside the file holds, if it is there; its sizes have to be those of the file."""
        name = self.path.name
        if not name.lower().endswith(".param"):
            return ()
        beside = self.path.with_name(name[: -len("param")] + "bin")
        if not beside.is_file():
            return ()
        with Archive(beside) as archive:
            total = 0
            for row in self.rows:
                for key, (shape, dtype) in row.weights.items():
                    member = f"{row.name}.{key}"
                    size = Tensor(member, shape, dtype).nbytes
                    if member in archive and size:
                        if archive.size(member) != size:
                            raise FormatError(
                                f"{member[:200]!r} has {archive.size(member):,} bytes, its shape takes {size:,}",
                                where=str(beside),
                                expected="the .bin file that belongs to the .param file",
                            )
                        total += size
        return (Detail(".bin archive", f"{beside.name}, its members as large as the file says", total),)


def _value(text: str) -> Any:
    """A parameter as a plain value; a text when it is nothing else."""
    if text in ("True", "False"):
        return int(text == "True")
    if text.startswith("(") and text.endswith(")"):
        return tuple(_value(word) for word in text[1:-1].split(",") if word and "(" not in word)
    if len(text) < 40 and re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    try:
        return float(text) if len(text) < 40 and text[:1] in "+-.0123456789" else text
    except ValueError:
        return text


def _attributes(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of an operator, a window's as ONNX names them."""
    found = {key: value for key, value in params.items() if value != "None"}
    for theirs, onnx in _ONNX.items():
        if theirs in found and (theirs == "groups" or isinstance(found[theirs], tuple)):
            found[onnx] = found.pop(theirs)
    if isinstance(found.get("padding"), tuple) and "kernel_shape" in found:
        found["pads"] = (*found["padding"], *found.pop("padding"))
    return found
