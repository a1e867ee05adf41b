"""Field numbers of ExecuTorch's tables, and what its enumerations mean.

schema/program.fbs, schema/scalar_type.fbs and schema/extended_header.cpp of pytorch/executorch 1.4.1; fields are
only ever appended. A union takes two numbers: its kind, then its table.
"""

from __future__ import annotations

from collections.abc import Mapping

from peakmem import dtypes
from peakmem.dtypes import DType

IDENTIFIER = b"ET"
# at byte 4, with two digits of the version behind it; Program::load wants 12
VERSION = b"12"
HEADER, HEADER_AT = b"eh00", 8
# then uint32 length, uint64 bytes of the program, uint64 start of the segments, uint64 bytes of all segments
HEADER_BYTES, HEADER_WITH_SEGMENTS = 24, 32


class Program:
    VERSION, PLANS, CONSTANT_BUFFERS, DELEGATE_DATA, SEGMENTS, CONSTANT_SEGMENT, MUTABLE_SEGMENTS, NAMED_DATA = range(8)


class Plan:
    NAME, CONTAINER, VALUES, INPUTS, OUTPUTS, CHAINS, OPERATORS, DELEGATES, BUFFER_SIZES, BUFFER_DEVICES = range(10)


class EValue:
    KIND, VALUE = range(2)


class Kind:
    """KernelTypes, numbered from 1."""

    NULL, INT, BOOL, DOUBLE, TENSOR, STRING = range(1, 7)
    INT_LIST, DOUBLE_LIST, BOOL_LIST, TENSOR_LIST, OPTIONAL_TENSOR_LIST = range(7, 12)


class Tensor:
    SCALAR_TYPE, STORAGE_OFFSET, SIZES, DIM_ORDER, REQUIRES_GRAD, DATA_BUFFER, ALLOCATION, LAYOUT = range(8)
    DYNAMISM, EXTRA = 8, 9


class Extra:
    MUTABLE_SEGMENT, NAME, LOCATION, DEVICE_TYPE, DEVICE_INDEX = range(5)


class Allocation:
    MEMORY, OFFSET_LOW, OFFSET_HIGH = range(3)


class Operator:
    NAME, OVERLOAD = range(2)


class Chain:
    INPUTS, OUTPUTS, INSTRUCTIONS, STACKTRACE = range(4)


class Instruction:
    KIND, ARGUMENTS = range(2)


class Call:
    """InstructionArguments, numbered from 1."""

    KERNEL, DELEGATE, MOVE, JUMP_FALSE, FREE = range(1, 6)


class Arguments:
    """Of kernel and delegate calls: number of the operator or the delegate, values."""

    INDEX, VALUES = range(2)


class Move:
    FROM, TO = range(2)


class Delegate:
    ID, PROCESSED, SPECS = range(3)


class Processed:
    LOCATION, INDEX = range(2)


class Segment:
    OFFSET, SIZE = range(2)


class Subsegments:
    SEGMENT, OFFSETS = range(2)


class Named:
    KEY, SEGMENT = range(2)


DATA = 0
# the only field of Buffer, BackendDelegateInlineData and of the tables of single values and lists
INLINE, SEGMENT, EXTERNAL = 0, 1, 1
STATIC, BOUND, UNBOUND = 0, 1, 2
# TensorShapeDynamism
CPU = 0

TYPES: Mapping[int, DType] = {
    0: dtypes.UINT8, 1: dtypes.INT8, 2: dtypes.INT16, 3: dtypes.INT32, 4: dtypes.INT64, 5: dtypes.FLOAT16,
    6: dtypes.FLOAT32, 7: dtypes.FLOAT64, 9: dtypes.COMPLEX64, 10: dtypes.COMPLEX128, 11: dtypes.BOOL,
    12: dtypes.INT8, 13: dtypes.UINT8, 14: dtypes.INT32, 15: dtypes.BFLOAT16, 23: dtypes.FLOAT8E5M2,
    24: dtypes.FLOAT8E4M3FN, 25: dtypes.FLOAT8E5M2FNUZ, 26: dtypes.FLOAT8E4M3FNUZ, 27: dtypes.UINT16,
    28: dtypes.UINT32, 29: dtypes.UINT64,
}  # fmt: skip
# ScalarType; 8 is complex32, which the schema leaves out, 12 to 14 are quantised (qint8, quint8, qint32)
