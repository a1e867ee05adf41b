"""What loading a method takes from its allocator: every request in its order.

From Method::load, Method::init and Method::parse_values (runtime/executor/method.cpp), parseTensor
(tensor_parser_portable.cpp), parseTensorList and parseListOptionalType (tensor_parser_exec_aten.cpp, tensor_parser.h)
of ExecuTorch 1.4.1. The Python binding gives MallocMemoryAllocator (extension/memory_allocator): one malloc a request,
freed with the program, and a vector that remembers them all, which doubles. Its other allocator says that it has no
room (size 0), so that lists that are only needed while a kernel is looked up come from this one as well, and stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from peakmem.engines.prediction import Holding
from peakmem.frontends.pte.program import Method, TensorValue
from peakmem.frontends.pte.schema import STATIC, Call, Kind

# sizes of structures in 64-bit builds; each is named as in the sources
POINTER = 8
EVALUE = 16
TENSOR_IMPL = 64
TENSOR = 8
# a pointer to its TensorImpl
OPTIONAL_TENSOR = 16
BOXED_LIST = 24
# BoxedEvalueList: an ArrayRef of pointers and the pointer to unboxed entries
ARRAY_REF = 16
NAMED_DATA = 48
# key and FreeableBuffer
BACKEND_DELEGATE = 56
# FreeableBuffer, backend, handle
XNN_EXECUTOR = 184
COMPILE_SPEC = 24
CHAIN = 32
OP_FUNCTION = 8
INSTRUCTION_ARGS = 16
TENSOR_META = 24
METHOD = 160


Group = Literal["values", "delegates", "calls"]


@dataclass(frozen=True, slots=True)
class Requests:
    """What the method's allocator was asked for, in its order."""

    ordered: tuple[tuple[Group, int], ...]

    @property
    def count(self) -> int:
        return len(self.ordered)

    @property
    def nbytes(self) -> int:
        return sum(size for _, size in self.ordered)

    @property
    def vector(self) -> int:
        """Bytes of the vector that remembers them."""
        return POINTER * capacity(self.count)

    @property
    def later_vector(self) -> int:
        """Bytes that it grows by after the delegates."""
        return self.vector - POINTER * capacity(sum(1 for group, _ in self.ordered if group != "calls"))

    @property
    def growing(self) -> int:
        """Most bytes at once while requests come in, delegates left aside: a vector that doubles is there twice."""
        most = live = 0
        for number, (_, size) in enumerate(self.ordered, 1):
            live += size
            before, after = POINTER * capacity(number - 1), POINTER * capacity(number)
            most = max(most, live + after + (before if after != before else 0))
        return most

    def of(self, group: Group) -> int:
        return sum(size for one, size in self.ordered if one == group)

    def holdings(self) -> tuple[Holding, ...]:
        return (
            Holding("objects", self.of("values"), "values of the method: tensors, numbers, lists"),
            Holding("objects", self.of("calls"), "instructions and arguments, with what looking up kernels leaves"),
            Holding("objects", self.of("delegates"), "delegates"),
            Holding("objects", self.vector, "the allocator's list of what it gave"),
            Holding("objects", METHOD, "the method"),
        )


def capacity(count: int) -> int:
    """Room of a vector after `count` entries were put at its end, one by one."""
    return 1 << (count - 1).bit_length() if count else 0


def requests(method: Method, executor: str = "XnnpackBackend") -> Requests:
    """All that loading `method` asks for; `executor` is the backend whose handle comes from the same allocator."""
    groups: tuple[tuple[Group, Iterator[int]], ...] = (
        ("values", _values(method)), ("delegates", _delegates(method, executor)), ("calls", _calls(method)),
    )  # fmt: skip
    return Requests(tuple((group, size) for group, sizes in groups for size in sizes))


def _values(method: Method) -> Iterator[int]:
    yield EVALUE * len(method.values)
    if method.inputs:
        yield len(method.inputs)
    external = sum(1 for one in method.values if isinstance(one.content, TensorValue) and one.content.external)
    if external:
        yield NAMED_DATA * external
    for value in method.values:
        told = value.content
        if isinstance(told, TensorValue):
            rank = len(told.shape)
            if told.dynamism != STATIC:
                yield 4 * rank
                yield rank
            yield 4 * rank  # strides
            yield TENSOR_IMPL
        elif value.kind in _ENTRIES:
            yield POINTER * len(told)
            yield _ENTRIES[value.kind] * len(told)
            yield BOXED_LIST
        elif value.kind in (Kind.BOOL_LIST, Kind.DOUBLE_LIST, Kind.STRING):
            yield ARRAY_REF


_ENTRIES = {Kind.INT_LIST: 8, Kind.TENSOR_LIST: TENSOR, Kind.OPTIONAL_TENSOR_LIST: OPTIONAL_TENSOR}


def _delegates(method: Method, executor: str) -> Iterator[int]:
    yield BACKEND_DELEGATE * len(method.delegates)
    for delegate in method.delegates:
        yield COMPILE_SPEC * delegate.specs  # even where there are none
        if delegate.id == executor:
            yield XNN_EXECUTOR


def _calls(method: Method) -> Iterator[int]:
    yield CHAIN * len(method.chains)
    for chain in method.chains:
        yield OP_FUNCTION * len(chain)
        yield INSTRUCTION_ARGS * len(chain)
        for instruction in chain:
            if instruction.kind not in (Call.KERNEL, Call.DELEGATE):
                continue
            yield POINTER * len(instruction.values)
            if instruction.kind == Call.DELEGATE:
                continue
            yield TENSOR_META * len(instruction.values)
            for value in instruction.values:
                told = method.values[value].content
                if isinstance(told, TensorValue):
                    yield len(told.shape)  # its dim order
