"""Arrays in files: .npy and .npz read piece by piece, random ones written.

NumPy's format (numpy.lib.format): a magic, a version, a header that is a Python literal, then the elements. Objects are
pickles and are refused.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from peakmem.dtypes import DType
from peakmem.errors import FormatError, UsageError

PIECE = 1 << 20
# elements made or copied at once
LARGEST_ENTRY_NAME = 200
# characters of a name that are shown

NATIVE = frozenset({
    "float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8",
    "bool", "complex64", "complex128",
})  # fmt: skip
# dtypes that NumPy has too, under the same names
_NIBBLES = {4: 0x11, 2: 0x55}
# packed integers of so many bits: a byte in which each is 0 or 1
_BELOW_ONE = {"float8e4m3fn": 0x38, "float8e5m2": 0x3C, "float8e4m3fnuz": 0x40, "float8e5m2fnuz": 0x40}
# the byte that stands for 1.0; smaller ones are the numbers from 0 up to it (OCP 8-bit floating point 1.0; the fnuz
# kinds have an exponent bias larger by one: arXiv 2206.02915)


@dataclass(frozen=True, slots=True)
class Array:
    """An array in a file, its elements not read yet."""

    name: str
    # of the entry of an .npz, or of the file without suffix
    dtype: str
    # by NumPy's name, "void16" for raw elements of 2 bytes
    shape: tuple[int, ...]
    source: str
    # the file's name, with the entry of an .npz
    path: Path
    entry: str
    # of an .npz; empty for .npy
    start: int
    # bytes before the elements
    code: str
    # NumPy's description of an element, with its byte order
    fortran: bool
    # first dimension fastest

    def copy(self, target: Path) -> None:
        """Write the elements to `target`: little-endian, last dimension fastest.

        Raises:
            FormatError: fewer elements than the header promises, or a damaged archive.
        """
        import numpy as np

        element = np.dtype(self.code)
        left = math.prod(self.shape) * element.itemsize
        with _opened(self.path, self.entry) as source, target.open("wb") as file:
            source.read(self.start)
            while left:
                data = source.read(min(left, PIECE * element.itemsize))
                if not data or len(data) % element.itemsize:
                    raise FormatError("the file ends before its last element", where=self.source)
                left -= len(data)
                if element.byteorder == ">":
                    data = np.frombuffer(data, element).astype(element.newbyteorder("<")).tobytes()
                file.write(data)
        if self.fortran and len(self.shape) > 1 and math.prod(self.shape) > 0:
            _reorder(target, element.newbyteorder("<"), self.shape)


def holds(array: Array, dtype: DType) -> bool:
    """Whether an array's elements are of a dtype. NumPy writes dtypes that it does not have as raw bytes."""
    if dtype.name in NATIVE:
        return array.dtype == dtype.name
    whole = dtype.bits in (8, 16) and dtype.kind == "float"
    return whole and array.dtype == f"void{dtype.bits}"


def can_make(dtype: DType) -> bool:
    """Whether random elements of a dtype can be made."""
    return dtype.name in NATIVE or dtype.name in ("bfloat16", *_BELOW_ONE) or _packed(dtype) is not None


def _packed(dtype: DType) -> int | None:
    return _NIBBLES.get(dtype.bits or 0) if dtype.kind in ("int", "uint") and dtype.block == 1 else None


def random(dtype: DType, shape: tuple[int, ...], target: Path, *, seed: tuple[int, ...]) -> None:
    """Write random elements: floats in [0, 1), integers 0 or 1 (an index fits any table of two rows), bool false."""
    import numpy as np

    generator = np.random.Generator(np.random.PCG64(seed))
    left = math.prod(shape)
    packed = _packed(dtype)
    if packed is not None:
        left = dtype.nbytes(left) or 0
        # bytes
    with target.open("wb") as file:
        while left:
            count = min(left, PIECE)
            left -= count
            if packed is not None:
                piece: Any = generator.integers(0, 256, count, np.uint8) & np.uint8(packed)
            elif dtype.name == "bfloat16":
                piece = (generator.random(count, np.float32).view(np.uint32) >> np.uint32(16)).astype("<u2")
                # its upper half, rounded towards zero
            elif dtype.name in _BELOW_ONE:
                piece = generator.integers(0, _BELOW_ONE[dtype.name], count, np.uint8)
            elif dtype.kind == "bool":
                piece = np.zeros(count, np.uint8)
            elif dtype.kind == "float":
                piece = _floats(generator, count, dtype.name)
            elif dtype.kind == "complex":
                part = "float32" if dtype.name == "complex64" else "float64"
                piece = _floats(generator, 2 * count, part)
            else:
                piece = generator.integers(0, 2, count, np.uint8).astype(dtype.name)
            file.write(piece.astype(piece.dtype.newbyteorder("<"), copy=False))


def _floats(generator: Any, count: int, name: str) -> Any:
    import numpy as np

    if name == "float64":
        return generator.random(count)
    numbers = generator.random(count, np.float32)
    return numbers if name == "float32" else np.minimum(numbers.astype(np.float16), np.float16(1 - 2**-11))
    # the largest below 1; rounding might have reached it


def read(path: Path) -> list[Array]:
    """The arrays of an .npy, an .npz or a folder of .npy; a folder's in the order of their names, numbers by value.

    Raises:
        UsageError: no such file, or none of these.
        FormatError: not what its name says, damaged, or with Python objects.
    """
    if path.is_dir():
        files = sorted((file for file in path.iterdir() if file.suffix == ".npy"), key=lambda file: _natural(file.stem))
        if not files:
            raise UsageError("the folder has no .npy files", where=str(path))
        return [one(file) for file in files]
    if path.suffix == ".npz":
        return _archive(path)
    return [one(path)]


def one(path: Path) -> Array:
    """The array of an .npy.

    Raises:
        UsageError: no such file, or another kind of file.
        FormatError: not what its name says, damaged, or with Python objects.
    """
    _check_exists(path)
    if path.suffix != ".npy":
        raise UsageError("not a file of an array", where=path.name, expected=".npy, .npz or a folder of .npy")
    return _header(path, "", path.stem, path.name, path.stat().st_size)


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise UsageError("there is no such file", where=str(path))
    if not path.is_file():
        raise UsageError("not a file", where=str(path), expected=".npy, .npz or a folder of .npy")


def _archive(path: Path) -> list[Array]:
    _check_exists(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [(info.filename, info.file_size) for info in archive.infolist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as fault:
        raise FormatError(f"not an .npz: {fault}", where=path.name) from None
    found = []
    for entry, nbytes in entries:
        name = entry.removesuffix(".npy")
        found.append(_header(path, entry, name, f"{path.name}:{name[:LARGEST_ENTRY_NAME]}", nbytes))
    if not found:
        raise UsageError("there are no arrays in it", where=path.name)
    return found


@contextmanager
def _opened(path: Path, entry: str) -> Iterator[IO[bytes]]:
    if not entry:
        with path.open("rb") as file:
            yield file
        return
    import zlib

    try:
        with zipfile.ZipFile(path) as archive, archive.open(entry) as member:
            yield member
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError) as fault:
        raise FormatError(f"the archive is damaged: {fault}", where=path.name) from None


def _header(path: Path, entry: str, name: str, source: str, nbytes: int) -> Array:
    """What stands before the elements."""
    import numpy as np
    from numpy.lib import format as npy

    try:
        with _opened(path, entry) as file:
            version = npy.read_magic(file)
            read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
            if read_header is None:
                # version 3 differs from 2 in the coding of field names, which plain elements do not have
                raise FormatError(f"version {version[0]}.{version[1]} of .npy is not read", where=source)
            shape, fortran, element = read_header(file)
            start = file.tell()
    except OSError as fault:
        raise UsageError(f"it cannot be read: {fault.strerror}", where=source) from None
    except FormatError:
        raise
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as fault:
        text = " ".join(str(fault).split())[:200]
        raise FormatError(f"not an .npy: {text}", where=source) from None
    if element.hasobject:
        raise FormatError("it holds Python objects, which would be executed to be read", where=source,
                          hint="save an array of numbers")  # fmt: skip
    if any(dim < 0 for dim in shape):
        raise FormatError(f"a negative dimension: {shape}", where=source)
    needed = start + math.prod(shape) * element.itemsize
    if nbytes < needed:
        raise FormatError(
            f"the file ends before its last element: {nbytes:,} bytes", where=source, expected=f"{needed:,} bytes"
        )
    if nbytes > needed:
        raise FormatError(f"{nbytes - needed:,} bytes after the last element", where=source)
    dtype = f"void{element.itemsize * 8}" if element.kind == "V" and element.names is None else np.dtype(element).name
    dims = tuple(int(dim) for dim in shape)
    return Array(name, dtype, dims, source, path, entry, start, str(element.str), bool(fortran))


def _reorder(path: Path, element: Any, shape: tuple[int, ...]) -> None:
    """Turn a file of elements, first dimension fastest, into one with the last fastest."""
    import numpy as np

    before = path.rename(path.with_name(f"{path.name}.fortran"))
    source = np.memmap(before, element, "r", shape=shape, order="F")
    axis = next(axis for axis in range(len(shape)) if math.prod(shape[axis + 1 :]) <= PIECE)
    step = PIECE // math.prod(shape[axis + 1 :])
    with path.open("wb") as file:
        for outer in np.ndindex(*shape[:axis]):
            for first in range(0, shape[axis], step):
                file.write(source[outer][first : first + step].tobytes(order="C"))
    del source
    before.unlink()


def _natural(text: str) -> list[tuple[bool, int, str]]:
    """A key by which input_10 comes after input_9."""
    return [(piece.isdigit(), int(piece) if piece.isdigit() else 0, piece) for piece in re.split(r"(\d+)", text)]
