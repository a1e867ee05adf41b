"""What ExecuTorch's XNNPACK delegate was given: a graph of XNNPACK's values and nodes, and where its constants lie.

Field numbers: backends/xnnpack/serialization/runtime_schema.fbs of pytorch/executorch 1.4.1; the head before the
tables: backends/xnnpack/runtime/XNNHeader.h. Nothing of the weights is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from peakmem import dtypes
from peakmem.dtypes import DType
from peakmem.errors import FormatError
from peakmem.frontends.flatbuffer import FlatFile, Table
from peakmem.frontends.pte.program import Delegate, Place, Program

ID = "XnnpackBackend"
HEADER = b"XH00"
HEADER_BYTES = 30
IDENTIFIERS = (b"XN00", b"XN01")
MOST_EXTERNS = 4096
# as XNNCompiler.cpp has it
MOST_VALUES = 1_000_000
MOST_RANK = 64
NONE = 0xFFFFFFFF
# XNN_INVALID_VALUE_ID
INPUT, OUTPUT = 1, 2
# XNN_VALUE_FLAG_EXTERNAL_*


class _Graph:
    """Fields of XNNGraph."""

    NODES, VALUES, EXTERNS, INPUTS, OUTPUTS, BUFFERS = range(1, 7)
    CONSTANTS = 8


DATATYPES = (
    "invalid", "fp32", "fp16", "qint8", "quint8", "qint32", "qcint8", "qcint32", "qcint4", "qdint8", "qbint4", "qpint8",
    "int32", "pfp32", "bf16",
)  # fmt: skip
# XNNDatatype
DTYPES: Mapping[str, DType] = {
    "fp32": dtypes.FLOAT32, "fp16": dtypes.FLOAT16, "bf16": dtypes.BFLOAT16, "int32": dtypes.INT32,
    "pfp32": dtypes.FLOAT32, "qint8": dtypes.INT8, "quint8": dtypes.UINT8, "qint32": dtypes.INT32,
    "qcint8": dtypes.INT8, "qcint32": dtypes.INT32, "qcint4": dtypes.INT4, "qdint8": dtypes.INT8,
    "qbint4": dtypes.INT4, "qpint8": dtypes.INT8,
}  # fmt: skip

_UNARY, _BINARY, _CAT = ("input", "output", "flags"), ("input1", "input2", "output", "flags"), (
    "axis", "input1", "input2", "input3", "input4", "output", "flags", "input5",
)  # fmt: skip
_CONVOLUTION = (
    "padding_top", "padding_right", "padding_bottom", "padding_left", "kernel_height", "kernel_width",
    "subsampling_height", "subsampling_width", "dilation_height", "dilation_width", "group_input_channels",
    "group_output_channels", "groups", "adjustment_height", "adjustment_width", "input1", "filter", "bias", "output",
    "flags",
)  # fmt: skip
_POOLING = (
    "padding_top", "padding_right", "padding_bottom", "padding_left", "pooling_height", "pooling_width",
    "stride_height", "stride_width", "dilation_height", "dilation_width", "input", "output", "flags",
)  # fmt: skip

NODES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Add", _BINARY), ("FullyConnected", ("input1", "filter", "bias", "output", "flags")), ("Softmax", _UNARY),
    ("Sigmoid", _UNARY), ("StaticTranspose", ("num_dims", "*perm", "input", "output", "flags")), ("Clamp", _UNARY),
    ("Conv2d", _CONVOLUTION), ("Div", _BINARY),
    ("StaticResizeBilinear2D", ("new_height", "new_width", "input", "output", "flags")),
    ("StaticConstantPad", ("*pre_paddings", "*post_paddings", ".padding_value", "input", "output", "flags")),
    ("AvgPooling2d", _POOLING), ("Minimum", _BINARY), ("DepthwiseConv2d", _CONVOLUTION), ("MaxPooling2d", _POOLING),
    ("Multiply", _BINARY), ("Subtract", _BINARY), ("Floor", _UNARY), ("Convert", _UNARY),
    ("GlobalAvgPooling2d", _UNARY), ("StaticReshape", ("num_dims", "*new_shape", "input", "output", "flags")),
    ("ArgMaxPooling2d", (*_POOLING[:6], "input", "output", "output_index", "flags")), ("SquareRoot", _UNARY),
    ("Ceiling", _UNARY), ("Hardswish", _UNARY), ("LeakyReLU", (".negative_slope", *_UNARY)), ("Maximum", _BINARY),
    ("Negate", _UNARY), ("Square", _UNARY), ("ELU", (".alpha", *_UNARY)), ("Abs", _UNARY), ("PReLU", _BINARY),
    ("Concatenate2", _CAT), ("Concatenate3", _CAT), ("Concatenate4", _CAT),
    ("StaticSlice", ("num_dims", "*offsets", "*sizes", "input", "output", "flags")),
    ("ScaledDotProductAttention", ("query", "key", "value", "scale", "mask", "output", "flags")),
    ("BatchMatrixMultiply", _BINARY), ("Concatenate5", _CAT), ("ConvTranspose2d", _CONVOLUTION),
    ("ReciprocalSquareRoot", _UNARY), ("Log", _UNARY), ("Gelu", _UNARY), ("Tanh", _UNARY), ("Exp", _UNARY),
    ("Sin", _UNARY), ("Copy", _UNARY), ("Cos", _UNARY),
)  # fmt: skip
# XNodeUnion, numbered from 1: names of its fields by their numbers, "*" a list of uint32, "." a float, else uint32
READS = (
    "input", "input1", "input2", "input3", "input4", "input5", "filter", "bias", "query", "key", "value", "scale",
    "mask",
)  # fmt: skip
MAKES = ("output", "output_index")
# names of fields that hold the id of a value


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor, in the order they are defined."""

    id: int
    # that nodes know it by
    datatype: str
    shape: tuple[int, ...]
    external: int
    # its place among the external values; NONE for an internal one
    flags: int
    constant: Place | None
    # its bytes in the file
    name: str
    # of the named data they are; empty where they lie in the blob
    quantisation: str = ""
    # per tensor, per channel, per token, per block; empty where it is not quantised
    scale: float = 0.0
    zero_point: int = 0
    block: int = 0
    nonbatch: int = 0
    scales: int = 0
    # of a constant per channel or per block, how many

    @property
    def nbytes(self) -> int:
        dtype = DTYPES.get(self.datatype)
        return (dtype.nbytes(math.prod(self.shape)) or 0) if dtype is not None else 0


@dataclass(frozen=True, slots=True)
class Node:
    """An operator."""

    type: str
    # without its XNN
    reads: tuple[int, ...]
    # ids; NONE for an absent bias
    makes: tuple[int, ...]
    fields: Mapping[str, int | float | tuple[int, ...]]
    # all but ids
    clamp: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Blob:
    """One delegate's graph."""

    nbytes: int
    externs: int
    # ids reserved for external values
    values: tuple[Value, ...]
    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    # external ids, in the order of the call's arguments
    outputs: tuple[int, ...]


def read_blob(program: Program, delegate: Delegate) -> Blob:
    """The graph that `delegate` computes.

    Raises:
        FormatError: it is damaged, or of a version that is not known.
    """
    place = delegate.place
    section = program.section
    head = section.pread(place.start, min(place.nbytes, HEADER_BYTES))
    tables, constants = Place(place.start, place.nbytes), Place(place.start, 0)
    if head[4:8] == HEADER and len(head) == HEADER_BYTES:
        at = [
            int.from_bytes(head[begin : begin + width], "little")
            for begin, width in ((10, 4), (14, 4), (18, 4), (22, 8))
        ]
        tables, constants = Place(place.start + at[0], at[1]), Place(place.start + at[2], at[3])
        for one in (tables, constants):
            if one.start + one.nbytes > place.start + place.nbytes:
                raise FormatError("the head of an XNNPACK delegate tells of more bytes than it has")
    file = FlatFile(section.part(tables.start, tables.nbytes))
    if file.size < 8 or file.read(4, 4) not in IDENTIFIERS:
        raise FormatError("an XNNPACK delegate has another mark", expected="XN00 or XN01")
    root = file.root()
    externs = root.number(_Graph.EXTERNS, "I")
    if externs > MOST_EXTERNS:
        raise FormatError(f"an XNNPACK delegate has {externs} external values", expected=f"at most {MOST_EXTERNS}")
    for field in (_Graph.NODES, _Graph.VALUES, _Graph.CONSTANTS):
        if root.count(field) > MOST_VALUES:
            raise FormatError(f"an XNNPACK delegate has more than {MOST_VALUES:,} values or nodes")
    stored = list(_constants(root, program, tables, constants))
    values = tuple(_value(table, stored) for table in root.tables(_Graph.VALUES))
    nodes = tuple(_node(table) for table in root.tables(_Graph.NODES))
    known = {one.id for one in values}
    for node in nodes:
        for number in (*node.reads, *node.makes):
            if number != NONE and number not in known:
                raise FormatError(f"a node of an XNNPACK delegate ({node.type}) refers to value {number}")
    return Blob(
        place.nbytes, externs, values, nodes, root.numbers(_Graph.INPUTS, "I"), root.numbers(_Graph.OUTPUTS, "I")
    )  # fmt: skip


def _constants(root: Table, program: Program, tables: Place, inside: Place) -> Iterator[tuple[Place, str]]:
    """Bytes and name of each constant, by its number; the first stands for none."""
    if not inside.nbytes and not root.count(_Graph.CONSTANTS):
        for table in root.tables(_Graph.BUFFERS):  # of before the head was added
            start, nbytes = table.span(0)
            yield Place(tables.start + start, nbytes), ""
        return
    for table in root.tables(_Graph.CONSTANTS):
        name = table.text(2)
        offset, nbytes = table.number(0, "Q"), table.number(1, "Q")
        if not name:
            if offset + nbytes > inside.nbytes:
                raise FormatError(f"a constant of an XNNPACK delegate ends at byte {offset + nbytes} of its data")
            yield Place(inside.start + offset, nbytes), ""
        elif name in program.named:
            yield program.named[name], name
        else:
            yield Place(0, 0), name  # in another file


def _value(table: Table, stored: list[tuple[Place, str]]) -> Value:
    kind, told = table.number(0, "B"), table.table(1)
    quantised: Table | None = None
    if kind == 2 and told is not None:
        quantised, told = told, told.table(0)
    if kind not in (1, 2) or told is None:
        raise FormatError(f"a value of an XNNPACK delegate is of kind {kind}", expected="1 or 2, with its table")
    number = told.number(0, "h")
    if not 0 <= number < len(DATATYPES):
        raise FormatError(
            f"a value of an XNNPACK delegate has datatype {number}", expected=f"0 to {len(DATATYPES) - 1}"
        )
    if told.count(2) > MOST_RANK:
        raise FormatError(f"a value of an XNNPACK delegate has {told.count(2)} dimensions")
    shape = told.numbers(2, "I")
    buffer = told.number(3, "I")
    place, name = None, ""
    if buffer:
        if buffer >= len(stored):
            raise FormatError(
                f"constant {buffer} of an XNNPACK delegate is referred to", expected=f"{len(stored)} at most"
            )
        place, name = stored[buffer]
    found = Value(told.number(6, "I"), DATATYPES[number], shape, told.number(4, "I"), told.number(5, "I"), place, name)
    if place is not None and place.start and place.nbytes < found.nbytes:
        raise FormatError(
            f"constant {buffer} of an XNNPACK delegate has {place.nbytes} bytes", expected=f"{found.nbytes} for {shape}"
        )
    return found if quantised is None else _quantised(found, quantised)


def _quantised(found: Value, table: Table) -> Value:
    """`found` with how it is quantised; kinds are numbered from 1 as in XNNQuantParams."""
    kind, how = table.number(1, "B"), table.table(2)
    if how is None:
        raise FormatError("a quantised value of an XNNPACK delegate does not tell how")
    base = (
        found.id, found.datatype, found.shape, found.external, found.flags, found.constant, found.name,
    )  # fmt: skip
    if kind == 1:
        return Value(*base, "per channel", scales=max(how.span(0, "f")[1], how.number(3, "I")))
    if kind == 2:
        return Value(*base, "per tensor", how.number(0, "f"), how.number(1, "i"))
    if kind == 3:
        return Value(*base, "per token", nonbatch=how.number(0, "i"))
    if kind == 4:
        return Value(*base, "per block", block=how.number(2, "i"), scales=max(how.span(0, "f")[1], how.number(5, "I")))
    raise FormatError(f"a value of an XNNPACK delegate is quantised in a way {kind}", expected="1 to 4")


def _node(table: Table) -> Node:
    kind, told = table.number(0, "B"), table.table(1)
    if not 1 <= kind <= len(NODES) or told is None:
        raise FormatError(f"a node of an XNNPACK delegate is of kind {kind}", expected=f"1 to {len(NODES)}")
    name, names = NODES[kind - 1]
    fields: dict[str, int | float | tuple[int, ...]] = {}
    ids: dict[str, int] = {}
    for slot, field in enumerate(names):
        if field.startswith("*"):
            if told.count(slot) > MOST_RANK:
                raise FormatError(f"a node of an XNNPACK delegate ({name}) has a list of {told.count(slot)}")
            fields[field[1:]] = told.numbers(slot, "I")
        elif field.startswith("."):
            fields[field[1:]] = told.number(slot, "f")
        elif field in READS or field in MAKES:
            ids[field] = told.number(slot, "I")
        else:
            fields[field] = told.number(slot, "I")
    wanted = [field for field in READS if field in ids]
    if name.startswith("Concatenate"):
        wanted = wanted[: int(name[-1])]
    limits = table.table(3)
    clamp = (-math.inf, math.inf) if limits is None else (limits.number(0, "f"), limits.number(1, "f"))
    reads, makes = tuple(ids[field] for field in wanted), tuple(ids[field] for field in MAKES if field in ids)
    return Node(name, reads, makes, fields, clamp)
