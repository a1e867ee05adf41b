"""What the Python binding and PyTorch hold beside a method: the open program, tensors over the inputs, results.

From extension/pybindings/pybindings.cpp (PyProgram, ProgramMemory, PyMethod) of ExecuTorch 1.4.1; sizes of objects
measured on x86-64, Python 3.11, PyTorch 2.13, to the byte equal in every file tried.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from peakmem.engines.executorch.method import capacity
from peakmem.engines.prediction import Holding

MMAP_LOADER, BUFFER_LOADER = 40, 24
PROGRAM, PROGRAM_STATE, PROGRAM_MEMORY, PY_PROGRAM, HOLDER = 152, 32, 544, 56, 24
# HOLDER: of pybind11, for each object that Python sees
PY_METHOD = 64
VECTOR, SPAN = 24, 16
MAP_NODE = 48
BYTES_OBJECT, BYTEARRAY, SMALL_BLOCKS = 33, 1, 512
# CPython: header of bytes; a bytearray ends with a zero; smaller blocks come from arenas of its own
FIRST_TENSOR, TENSOR = 2584, 824
# what PyTorch keeps when the first tensor is made over given bytes; of each such tensor
RESULTS, RUNTIME_FACE = 32, 1040
# of PyTorch, from the first copy of a result on; what executorch.runtime's modules make the first run add
CALL = 2048
# dictionaries that pybind11 keeps during a call
CALL_INPUT, CALL_OUTPUT, CALL_REST, COPYING = 40, 272, 32, 264
# during a run: of each input, of each result until the last is handed over, of copying a result
BYTES = 32
# of a program from bytes, until its method is loaded
METHOD_META, INFO = 40, 96
# what describes a method, and one of its inputs


def opened(path: str, nbytes: int, load: str, buffers: Sequence[int]) -> tuple[Holding, ...]:
    """After the program was opened; `buffers` are the planned ones, each the largest of all methods."""
    count = len(buffers)
    objects = PROGRAM + PROGRAM_STATE + PROGRAM_MEMORY + PY_PROGRAM + HOLDER
    objects += VECTOR * capacity(count) + SPAN * capacity(count)
    if load == "bytes":
        return (
            Holding("file", nbytes + BYTES_OBJECT, "read into memory; constants are used from there"),
            Holding("objects", objects + BUFFER_LOADER, "the program"),
        )
    return (Holding("objects", objects + MMAP_LOADER + len(os.fsencode(path)) + 1, "the program, and its file's name"),)


def opening(path: str, load: str, buffers: Sequence[int]) -> int:
    """What opening takes for a moment beside that: the call, the name as a text, sizes of the buffers."""
    return CALL + MAP_NODE * len(buffers) - HOLDER + (len(os.fsencode(path)) + 1 if load != "bytes" else 0)


def looking(inputs: int) -> int:
    """What asking a method for its inputs takes for a moment beside what stays: one at a time, the last still there."""
    described = METHOD_META + HOLDER + (INFO + HOLDER if inputs else 0)
    return CALL + described + (INFO if inputs > 1 else 0)


def input_bytes(sizes: Sequence[int]) -> int:
    """What the caller's bytes of the inputs take from the heap."""
    blocks = [size + BYTEARRAY for size in sizes]
    return sum(block for block in blocks if block > SMALL_BLOCKS)


def tensors(count: int) -> int:
    """What tensors over the inputs take."""
    return FIRST_TENSOR + TENSOR * count if count else 0


def kept(outputs: int, *, clones: bool, face: str) -> int:
    """What a run leaves: the list of memory for results that have no place planned, and PyTorch's."""
    return VECTOR * outputs + (RESULTS if clones else 0) + (RUNTIME_FACE if face == "runtime" else 0)


def calling(inputs: int, outputs: int, *, clones: bool) -> int:
    """What a run takes for a moment, beside the copies of the results themselves."""
    return CALL + CALL_REST + CALL_INPUT * inputs + CALL_OUTPUT * outputs + (COPYING if clones else 0)
