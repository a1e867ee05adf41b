"""A program's tables as plain data: methods with their values and instructions, and where bytes lie in the file.

Everything is checked against the file before it is followed; nothing here recurses, and no weight is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from peakmem.dtypes import DType
from peakmem.errors import FormatError
from peakmem.frontends.flatbuffer import FlatFile, Table
from peakmem.frontends.pte import schema
from peakmem.frontends.pte.schema import Kind
from peakmem.frontends.section import Section

MOST_VALUES = 1_000_000
MOST_INSTRUCTIONS = 1_000_000
MOST_LISTED = 100_000
# methods, segments, delegates, operators, named data
MOST_RANK = 64


@dataclass(frozen=True, slots=True)
class Place:
    """Bytes of the file."""

    start: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Value:
    """An entry of a method's list of values: a tensor, a number, a text, or a list."""

    kind: int
    # of schema.Kind
    content: Any = None
    # a number or text; of lists of numbers their values, of lists of integers and tensors positions, -1 none


@dataclass(frozen=True, slots=True)
class TensorValue:
    """A tensor's description; the content of a Value of kind TENSOR."""

    dtype: DType | None
    scalar_type: int
    shape: tuple[int, ...]
    # where it is dynamic, the largest
    buffer: int
    # of constants and of what has contents at first; 0 for none
    memory: int = -1
    # number of the planned buffer (memory_id); -1 where it has no place planned
    offset: int = 0
    # in that buffer
    dynamism: int = schema.STATIC
    name: str = ""
    external: bool = False
    # a constant of another file (.ptd)
    extra: bool = False
    # it has a table of further facts

    @property
    def planned(self) -> bool:
        return self.memory >= 0

    @property
    def nbytes(self) -> int:
        return (self.dtype.nbytes(math.prod(self.shape)) or 0) if self.dtype is not None else 0


@dataclass(frozen=True, slots=True)
class Instruction:
    """One step of a method."""

    kind: int
    # of schema.Call
    index: int = 0
    # of the operator or delegate; of a move what it moves from; of a jump the condition; of a free what it frees
    values: tuple[int, ...] = ()
    # arguments of a call; of a move what it moves to
    target: int = 0
    # of a jump


@dataclass(frozen=True, slots=True)
class Delegate:
    """A part of a method that a backend computes."""

    id: str
    place: Place
    # what the backend was given
    inline: bool
    specs: int
    # how many settings it was compiled with


@dataclass(frozen=True, slots=True)
class Method:
    """An execution plan."""

    name: str
    buffers: tuple[int, ...]
    # bytes of its planned buffers, by memory id; 0 stands for the constants
    values: tuple[Value, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    chains: tuple[tuple[Instruction, ...], ...]
    operators: tuple[tuple[str, str], ...]
    # (name with its namespace, overload)
    delegates: tuple[Delegate, ...]
    devices: int = 0
    # planned buffers that are not in the CPU's memory

    @property
    def planned_bytes(self) -> int:
        return sum(self.buffers[1:])


class Program:
    """An open `.pte` file; lives as long as its Section.

    Raises:
        FormatError: on construction, when it is none or is cut short.
    """

    def __init__(self, section: Section) -> None:
        head = section.pread(0, 64)
        if len(head) < 8 or head[4:6] != schema.IDENTIFIER:
            raise FormatError("this is not an ExecuTorch program", expected="the mark ET12 at byte 4")
        if head[6:8] != schema.VERSION:
            raise FormatError(f"the program has the mark {head[4:8].decode('latin-1')}", expected="ET12")
        self.section = section
        self.program_bytes, self.segments_at, self.segment_bytes = section.size, 0, 0
        at = schema.HEADER_AT
        if head[at : at + 4] == schema.HEADER:
            length = int.from_bytes(head[at + 4 : at + 8], "little")
            if length < schema.HEADER_BYTES or len(head) < at + length:
                raise FormatError(f"the extended header has {length} bytes", expected=f"{schema.HEADER_BYTES} or more")
            self.program_bytes = int.from_bytes(head[at + 8 : at + 16], "little")
            self.segments_at = int.from_bytes(head[at + 16 : at + 24], "little")
            if length >= schema.HEADER_WITH_SEGMENTS:
                self.segment_bytes = int.from_bytes(head[at + 24 : at + 32], "little")
            wanted = max(self.program_bytes, self.segments_at + self.segment_bytes)
            if wanted > section.size:
                raise FormatError(
                    f"the file ends at byte {section.size}, but its header tells of {wanted} bytes",
                    expected="a complete file",
                )
        self.file = FlatFile(section)
        self.file.size = self.program_bytes
        self.root = self.file.root()
        self._methods: list[Table] = list(self._listed(self.root, schema.Program.PLANS, "methods"))
        self._read: dict[str, Method] = {}

    # -- what lies where ------------------------------------------------------------------

    @property
    def nbytes(self) -> int:
        return self.section.size

    @cached_property
    def segments(self) -> tuple[Place, ...]:
        """Parts of the file behind its tables."""
        found = []
        for number, table in enumerate(self._listed(self.root, schema.Program.SEGMENTS, "segments")):
            start = self.segments_at + table.number(schema.Segment.OFFSET, "Q")
            size = table.number(schema.Segment.SIZE, "Q")
            if start + size > self.section.size:
                raise FormatError(
                    f"segment {number} has {size} bytes from byte {start}, but the file ends at byte "
                    f"{self.section.size}",
                    expected="a complete file",
                )
            found.append(Place(start, size))
        return tuple(found)

    def segment(self, number: int, who: str) -> Place:
        if not 0 <= number < len(self.segments):
            raise FormatError(f"{who} is in segment {number}", expected=f"one of the {len(self.segments)} of the file")
        return self.segments[number]

    @cached_property
    def named(self) -> dict[str, Place]:
        """Data that backends ask for by name."""
        return {
            table.text(schema.Named.KEY): self.segment(table.number(schema.Named.SEGMENT, "I"), "named data")
            for table in self._listed(self.root, schema.Program.NAMED_DATA, "named data")
        }

    @cached_property
    def constant_segment(self) -> Place | None:
        """Where the constants of the methods lie; None when there are none, or inside of the tables."""
        return self._constants[1]

    @cached_property
    def _constants(self) -> tuple[tuple[int, ...], Place | None]:
        table = self.root.table(schema.Program.CONSTANT_SEGMENT)
        if table is None:
            return (), None
        offsets = table.numbers(schema.Subsegments.OFFSETS, "Q")
        # the first stands for tensors that are no constants
        if len(offsets) <= 1:
            return offsets, None
        return offsets, self.segment(table.number(schema.Subsegments.SEGMENT, "I"), "the constant segment")

    def constant(self, tensor: TensorValue) -> Place:
        """The bytes of a constant."""
        offsets, segment = self._constants
        if segment is not None:
            if not 0 < tensor.buffer < len(offsets):
                raise FormatError(f"constant {tensor.buffer} is referred to", expected=f"1 to {len(offsets) - 1}")
            start, room = segment.start + offsets[tensor.buffer], segment.nbytes - offsets[tensor.buffer]
        else:
            vector, count = self.root.span(schema.Program.CONSTANT_BUFFERS, "I")
            if not 0 < tensor.buffer < count:
                raise FormatError(f"constant {tensor.buffer} is referred to", expected=f"1 to {count - 1}")
            start, room = self.root.entry(vector, tensor.buffer).span(schema.DATA)
        if tensor.nbytes > room:
            raise FormatError(
                f"constant {tensor.buffer} has {max(room, 0)} bytes", expected=f"{tensor.nbytes} for {tensor.shape}"
            )
        return Place(start, tensor.nbytes)

    @cached_property
    def mutable_segment_bytes(self) -> int:
        """Bytes of segments with the first contents of states."""
        tables = self._listed(self.root, schema.Program.MUTABLE_SEGMENTS, "mutable segments")
        places = {self.segment(table.number(schema.Subsegments.SEGMENT, "I"), "a mutable segment") for table in tables}
        return sum(place.nbytes for place in places)

    # -- methods --------------------------------------------------------------------------

    @cached_property
    def methods(self) -> tuple[str, ...]:
        return tuple(table.text(schema.Plan.NAME) for table in self._methods)

    @cached_property
    def buffers(self) -> dict[str, tuple[int, ...]]:
        """Sizes of the planned buffers, by method."""
        return {name: self._buffers(table) for name, table in zip(self.methods, self._methods, strict=True)}

    def _buffers(self, table: Table) -> tuple[int, ...]:
        sizes = table.numbers(schema.Plan.BUFFER_SIZES, "q")
        if len(sizes) > MOST_LISTED or any(size < 0 for size in sizes):
            raise FormatError(f"a method has {len(sizes)} planned buffers, or one of less than nothing")
        return sizes

    def method(self, name: str) -> Method:
        """The method called `name`, with all that it has; it must be one of `methods`."""
        if name not in self._read:
            self._read[name] = self._method(self._methods[self.methods.index(name)], name)
        return self._read[name]

    def _method(self, table: Table, name: str) -> Method:
        buffers = self._buffers(table)
        count = table.count(schema.Plan.VALUES)
        if count > MOST_VALUES:
            raise FormatError(f"the method {name!r} has {count:,} values", expected=f"at most {MOST_VALUES:,}")
        values = tuple(self._value(one, position, count, buffers) for position, one in _counted(table))
        inputs = table.numbers(schema.Plan.INPUTS, "i")
        outputs = table.numbers(schema.Plan.OUTPUTS, "i")
        _check((*inputs, *outputs), count, f"the method {name!r}")
        operators = tuple(
            (one.text(schema.Operator.NAME), one.text(schema.Operator.OVERLOAD))
            for one in self._listed(table, schema.Plan.OPERATORS, "operators")
        )
        delegates = tuple(
            self._delegate(one) for one in self._listed(table, schema.Plan.DELEGATES, "delegates")
        )  # fmt: skip
        chains = []
        left = MOST_INSTRUCTIONS
        for chain in self._listed(table, schema.Plan.CHAINS, "chains"):
            left -= chain.count(schema.Chain.INSTRUCTIONS)
            if left < 0:
                raise FormatError(f"the method {name!r} has more than {MOST_INSTRUCTIONS:,} instructions")
            chains.append(
                tuple(
                    _instruction(one, count, len(operators), len(delegates))
                    for one in chain.tables(schema.Chain.INSTRUCTIONS)
                )
            )
        if not chains:
            raise FormatError(f"the method {name!r} has no chain of instructions", expected="at least one")
        devices = table.count(schema.Plan.BUFFER_DEVICES)
        return Method(name, buffers, values, inputs, outputs, tuple(chains), operators, delegates, devices)

    def _delegate(self, table: Table) -> Delegate:
        processed = table.table(schema.Delegate.PROCESSED)
        if processed is None:
            raise FormatError("a delegate has no data", expected="a reference to what the backend was given")
        index = processed.number(schema.Processed.INDEX, "I")
        inline = processed.number(schema.Processed.LOCATION, "b") == schema.INLINE
        if inline:
            vector, count = self.root.span(schema.Program.DELEGATE_DATA, "I")
            if index >= count:
                raise FormatError(f"delegate data {index} are referred to", expected=f"one of {count} of the file")
            place = Place(*self.root.entry(vector, index).span(schema.DATA))
        else:
            place = self.segment(index, "the data of a delegate")
        return Delegate(table.text(schema.Delegate.ID)[:256], place, inline, table.count(schema.Delegate.SPECS))

    def _value(self, table: Table, position: int, count: int, buffers: tuple[int, ...]) -> Value:
        kind = table.number(schema.EValue.KIND, "B")
        if kind == Kind.NULL:
            return Value(kind)
        content = table.table(schema.EValue.VALUE)
        if content is None:
            raise FormatError(f"value {position} is empty", expected="a table of its kind")
        if kind == Kind.TENSOR:
            return Value(kind, _tensor(content, position, buffers))
        if kind == Kind.STRING:
            return Value(kind, content.text(schema.DATA)[:4096])
        if kind in _NUMBERS:
            return Value(kind, content.number(schema.DATA, _NUMBERS[kind]))
        if kind in _LISTS:
            listed = content.numbers(schema.DATA, _LISTS[kind])
            if kind in (Kind.INT_LIST, Kind.TENSOR_LIST, Kind.OPTIONAL_TENSOR_LIST):
                none = -1 if kind == Kind.OPTIONAL_TENSOR_LIST else 0
                _check(tuple(one for one in listed if one != none), count, f"value {position}")
            return Value(kind, listed)
        raise FormatError(f"value {position} is of kind {kind}", expected="1 to 11")

    def _listed(self, table: Table, field: int, what: str) -> Iterator[Table]:
        count = table.count(field)
        if count > MOST_LISTED:
            raise FormatError(f"there are {count:,} {what}", expected=f"at most {MOST_LISTED:,}")
        return table.tables(field)


_NUMBERS = {Kind.INT: "q", Kind.BOOL: "?", Kind.DOUBLE: "d"}
_LISTS = {
    Kind.INT_LIST: "q", Kind.DOUBLE_LIST: "d", Kind.BOOL_LIST: "?", Kind.TENSOR_LIST: "i",
    Kind.OPTIONAL_TENSOR_LIST: "i",
}  # fmt: skip


def _counted(table: Table) -> Iterator[tuple[int, Table]]:
    return enumerate(table.tables(schema.Plan.VALUES))


def _check(positions: tuple[int, ...], count: int, who: str) -> None:
    for at in positions:
        if not 0 <= at < count:
            raise FormatError(f"{who} refers to value {at}", expected=f"one of {count}")


def _tensor(table: Table, position: int, buffers: tuple[int, ...]) -> TensorValue:
    rank = table.count(schema.Tensor.SIZES)
    if rank > MOST_RANK:
        raise FormatError(f"the tensor at value {position} has {rank} dimensions", expected=f"at most {MOST_RANK}")
    shape = table.numbers(schema.Tensor.SIZES, "i")
    if any(size < 0 for size in shape):
        raise FormatError(f"the tensor at value {position} has the shape {shape}", expected="sizes of 0 or more")
    number = table.number(schema.Tensor.SCALAR_TYPE, "b")
    memory = offset = -1
    placed = table.table(schema.Tensor.ALLOCATION)
    if placed is not None:
        memory = placed.number(schema.Allocation.MEMORY, "I")
        low, high = placed.number(schema.Allocation.OFFSET_LOW, "I"), placed.number(schema.Allocation.OFFSET_HIGH, "I")
        offset = low | high << 32
    extra = table.table(schema.Tensor.EXTRA)
    found = TensorValue(
        schema.TYPES.get(number), number, shape, table.number(schema.Tensor.DATA_BUFFER, "I"), memory, max(offset, 0),
        table.number(schema.Tensor.DYNAMISM, "b"),
        extra.text(schema.Extra.NAME)[:256] if extra is not None else "",
        extra is not None and extra.number(schema.Extra.LOCATION, "b") == schema.EXTERNAL and memory < 0,
        extra is not None,
    )  # fmt: skip
    if found.planned and found.dynamism != schema.UNBOUND:
        if not 0 < memory < len(buffers):
            raise FormatError(
                f"the tensor at value {position} lies in planned buffer {memory}", expected=f"1 to {len(buffers) - 1}"
            )
        if found.offset + found.nbytes > buffers[memory]:
            raise FormatError(
                f"the tensor at value {position} ends at byte {found.offset + found.nbytes} of planned buffer {memory}",
                expected=f"at most {buffers[memory]}",
            )
    return found


def _instruction(table: Table, values: int, operators: int, delegates: int) -> Instruction:
    kind = table.number(schema.Instruction.KIND, "B")
    told = table.table(schema.Instruction.ARGUMENTS)
    if told is None:
        raise FormatError("an instruction is empty", expected="a call, a move, a jump or a free")
    first = told.number(0, "i")
    if kind in (schema.Call.KERNEL, schema.Call.DELEGATE):
        known = operators if kind == schema.Call.KERNEL else delegates
        if not 0 <= first < known:
            what = "operator" if kind == schema.Call.KERNEL else "delegate"
            raise FormatError(f"{what} {first} is called", expected=f"one of {known}")
        listed = told.numbers(schema.Arguments.VALUES, "i")
        _check(listed, values, "an instruction")
        return Instruction(kind, first, listed)
    _check((first,), values, "an instruction")
    if kind == schema.Call.MOVE:
        to = told.number(schema.Move.TO, "i")
        _check((to,), values, "an instruction")
        return Instruction(kind, first, (to,))
    if kind == schema.Call.JUMP_FALSE:
        return Instruction(kind, first, target=told.number(1, "i"))
    if kind == schema.Call.FREE:
        return Instruction(kind, first)
    raise FormatError(f"an instruction is of kind {kind}", expected="1 to 5")
