"""Tensors of PyTorch and NumPy out of the records of a pickle: dtype, shape, strides, and the storage they view.

The functions that would rebuild a tensor are known by name and by the meaning of their arguments;
none is called. What is no tensor is walked through for tensors inside, each container once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from peakmem import dtypes
from peakmem.dtypes import DType
from peakmem.errors import FormatError
from peakmem.frontends.checkpoint.pickles import Blob, Global, Persistent, Record, Table
from peakmem.frontends.names import shown
from peakmem.frontends.weights import LARGEST_TENSOR, MOST_DIMENSIONS, MOST_TENSORS

LONGEST_PATH = 1024
MOST_PATHS = 32 << 20
# characters of one name and of all
DEEPEST = 200
MOST_LAYERS = 32
# wrappers around one tensor: a parameter of a subclass of …

_COMPLEX32 = DType("complex32", 32, "complex")
_FLOAT4X2 = DType("float4e2m1fn_x2", 8, "float")
# two elements of 4 bits that PyTorch counts as one
TORCH_DTYPES: Mapping[str, DType] = {
    "float64": dtypes.FLOAT64, "double": dtypes.FLOAT64, "float32": dtypes.FLOAT32, "float": dtypes.FLOAT32,
    "float16": dtypes.FLOAT16, "half": dtypes.FLOAT16, "bfloat16": dtypes.BFLOAT16,
    "float8_e4m3fn": dtypes.FLOAT8E4M3FN, "float8_e5m2": dtypes.FLOAT8E5M2,
    "float8_e4m3fnuz": dtypes.FLOAT8E4M3FNUZ, "float8_e5m2fnuz": dtypes.FLOAT8E5M2FNUZ,
    "float8_e8m0fnu": dtypes.FLOAT8E8M0, "float4_e2m1fn_x2": _FLOAT4X2,
    "int64": dtypes.INT64, "long": dtypes.INT64, "int32": dtypes.INT32, "int": dtypes.INT32,
    "int16": dtypes.INT16, "short": dtypes.INT16, "int8": dtypes.INT8,
    "uint8": dtypes.UINT8, "uint16": dtypes.UINT16, "uint32": dtypes.UINT32, "uint64": dtypes.UINT64,
    "bool": dtypes.BOOL, "complex32": _COMPLEX32, "complex64": dtypes.COMPLEX64, "cfloat": dtypes.COMPLEX64,
    "complex128": dtypes.COMPLEX128, "cdouble": dtypes.COMPLEX128,
    "qint8": dtypes.INT8, "quint8": dtypes.UINT8, "qint32": dtypes.INT32,
    "quint4x2": dtypes.UINT4, "quint2x4": dtypes.UINT2,
}  # fmt: skip
_STORAGES: Mapping[str, DType] = {
    "Double": dtypes.FLOAT64, "Float": dtypes.FLOAT32, "Half": dtypes.FLOAT16, "BFloat16": dtypes.BFLOAT16,
    "Long": dtypes.INT64, "Int": dtypes.INT32, "Short": dtypes.INT16, "Char": dtypes.INT8, "Byte": dtypes.UINT8,
    "Bool": dtypes.BOOL, "ComplexFloat": dtypes.COMPLEX64, "ComplexDouble": dtypes.COMPLEX128,
    "QInt8": dtypes.INT8, "QUInt8": dtypes.UINT8, "QInt32": dtypes.INT32,
    "QUInt4x2": dtypes.UINT4, "QUInt2x4": dtypes.UINT2, "Untyped": dtypes.UINT8,
}  # fmt: skip
# torch.FloatStorage, torch.cuda.FloatStorage, … by their first part
_NUMPY = {"f": "float", "i": "int", "u": "uint", "c": "complex"}

_VIEWS = {
    f"torch._utils.{name}"
    for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor")
}
_WRAPPERS = {
    "torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state",
    "torch._utils._rebuild_nested_tensor", "torch._utils._rebuild_device_tensor_from_numpy",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer",
    "torch.jit._pickle.restore_type_tag",
}  # fmt: skip
# functions whose first argument is the tensor
_TYPED = {f"torch.{module}.{name}" for module in ("_tensor", "tensor") for name in
          ("_rebuild_from_type", "_rebuild_from_type_v2")}  # fmt: skip
_ARRAYS = {f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")}
_BUFFERS = {f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")}
HARMLESS = (
    _VIEWS | _WRAPPERS | _TYPED | _ARRAYS | _BUFFERS
    | {f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")}
    | {
        "collections.OrderedDict", "collections.defaultdict", "collections.Counter", "collections.deque",
        "numpy.dtype", "numpy.ndarray", "torch.Size", "torch.device", "argparse.Namespace", "torch.Tensor",
        "torch._utils._rebuild_sparse_tensor", "torch._utils._rebuild_meta_tensor_no_storage",
        "torch.storage._load_from_bytes", "torch.serialization._get_layout", "_codecs.encode",
        "torch._utils._rebuild_wrapper_subclass", "torch.storage.TypedStorage", "torch.storage._TypedStorage",
        "torch.storage.UntypedStorage", "copyreg._reconstructor", "copy_reg._reconstructor",
    }
)  # fmt: skip
# globals whose meaning is known here, and plain data of Python, NumPy and PyTorch
_PLAIN = re.compile(
    r"torch\.(\w+Storage|float\w*|b?float\w*|u?int\d+|bool|complex\w*|q?u?int\w+|double|half|strided|sparse_\w+|per_\w+"
    r"|preserve_format|channels_last\w*|contiguous_format)$|torch\.cuda\.\w+Storage$|(builtins|__builtin__)\.\w+$"
)
_DANGEROUS = re.compile(
    r"(builtins|__builtin__)\.(eval|exec|compile|open|getattr|setattr|__import__|input|globals|vars)$"
)
_MODULE_PARTS = ("_parameters", "_buffers", "_modules")
_OPTIMIZER = re.compile(r"^(optim(izer)?s?|optim(izer)?s?_.*|.*_optim(izer)?s?(_.*)?)$", re.IGNORECASE)
_MOMENTS = frozenset(
    ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer", "square_avg", "grad_avg", "acc_delta",
     "exp_avg_sq_row", "exp_avg_sq_col", "master_param")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Storage:
    """Bytes beside the pickle (or in it) that tensors view."""

    key: str
    element: DType
    nbytes: int
    device: str = ""
    inline: bool = False
    # inside the pickle: nothing beside it to check


@dataclass(frozen=True, slots=True)
class View:
    """A tensor as a part of a storage."""

    name: str
    storage: Storage
    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    # in elements
    offset: int
    # in elements
    of_optimizer: bool = False


def is_harmless(item: Global) -> bool:
    """Whether what a pickle names is plain data or a function whose effect is known here."""
    name = str(item)
    return name in HARMLESS or (_PLAIN.match(name) is not None and _DANGEROUS.match(name) is None)


class Finder:
    """Collects the tensors of a pickled object under dotted names."""

    def __init__(self, persistent: Callable[[Any], Any], nested: Callable[[Blob], Storage | None]) -> None:
        self.persistent = persistent
        # what a reference of the pickle stands for: a Storage, a View, a class, or None
        self.nested = nested
        # the storage inside bytes that hold a file of their own
        self.views: list[View] = []
        self.names: dict[str, int] = {}
        self.characters = 0
        self.unsized: list[str] = []
        self.parts: list[str] = []
        # what the object holds at its top level that is no tensor itself

    def find(self, root: Any, name: str = "") -> list[View]:
        """All tensors below `root`, in the order they stand in."""
        if self.tensor(root, name or "tensor") or not isinstance(root, list | tuple | Table | Record):
            return self.views
        seen: set[int] = set()
        stack = [self.children(root, name)]
        while stack:
            for path, value in stack[-1]:
                if id(value) in seen:
                    continue
                if isinstance(value, Record | Persistent) and self.tensor(value, path):
                    continue
                if not isinstance(value, list | tuple | Table | Record):
                    continue
                seen.add(id(value))
                if len(stack) == 1:
                    self.parts.append(path)
                if len(stack) >= DEEPEST:
                    raise FormatError(f"the pickle is nested deeper than {DEEPEST} levels")
                stack.append(self.children(value, path))
                break
            else:
                stack.pop()
        return self.views

    def children(self, value: Any, path: str) -> Iterator[tuple[str, Any]]:
        """What a container or record holds, under its dotted name; numbers and texts are left out."""
        if isinstance(value, list | tuple):
            for at, child in enumerate(value):
                if not isinstance(child, int | float | str | None):
                    yield self.joined(path, str(at)), child
            return
        for key, child in value.items or ():
            if not isinstance(child, int | float | str | None):
                word = key if isinstance(key, str) else str(key) if isinstance(key, int | float | None) else "?"
                yield path if word in _MODULE_PARTS else self.joined(path, word), child
        if isinstance(value, Record):
            for part in (value.state, value.entries, value.args):
                if isinstance(part, Table | list | tuple | Record):
                    yield path, part

    def joined(self, path: str, word: str) -> str:
        name = f"{path}.{word}" if path else word
        if len(name) > LONGEST_PATH:
            raise FormatError(
                f"a name of {len(name):,} characters, {shown(name)}", expected=f"at most {LONGEST_PATH:,}"
            )
        return name

    # -- tensors -------------------------------------------------------------------------

    def tensor(self, value: Any, name: str) -> bool:
        """Note the tensor that `value` is; whether it is one."""
        for _ in range(MOST_LAYERS):
            if isinstance(value, Persistent):
                found = self.persistent(value.key)
                if isinstance(found, View):
                    self.add(name, found.storage, found.dtype, found.shape, found.strides, found.offset)
                    return True
                return False
            if not isinstance(value, Record) or not isinstance(value.of, Global):
                return False
            called, args = str(value.of), value.args if isinstance(value.args, tuple) else ()
            if called in _WRAPPERS and args:
                value = args[0]
            elif called in _TYPED and len(args) >= 3:
                value = Record(args[0], args[2])
            elif called in _VIEWS and len(args) >= 4:
                self.view(name, called, args)
                return True
            elif called == "torch._utils._rebuild_sparse_tensor" and len(args) == 2:
                return self.sparse(name, args[1])
            elif called == "torch._utils._rebuild_meta_tensor_no_storage":
                return True
            elif called in _ARRAYS or called in _BUFFERS:
                return self.array(name, value, args)
            else:
                return False
        raise FormatError(f"tensor {shown(name)} is wrapped more than {MOST_LAYERS} times")

    def view(self, name: str, called: str, args: tuple[Any, ...]) -> None:
        storage, base = self.storage(args[0])
        if storage is None:
            self.unsized.append(name)
            return
        dtype = storage.element
        if called.endswith("_v3") and len(args) >= 7 and isinstance(args[6], Global):
            told = TORCH_DTYPES.get(args[6].name)
            if told is None:
                raise FormatError(f"tensor {shown(name)} has the dtype {shown(str(args[6]))}, which is not known")
            dtype = told
        shape, strides = (_whole(item, name) for item in args[2:4])
        if type(args[1]) is not int or not 0 <= args[1] < LARGEST_TENSOR:
            raise FormatError(f"tensor {shown(name)} starts at {shown(str(args[1])[:80])}", expected="a whole number")
        self.add(name, storage, dtype, shape, strides, base + args[1])
        if called.endswith("_qtensor") and len(args) >= 5 and isinstance(args[4], tuple):
            for word, part in zip(("scales", "zero_points"), args[4][1:3], strict=False):
                self.tensor(part, self.joined(name, word))

    def sparse(self, name: str, data: Any) -> bool:
        parts = data if isinstance(data, tuple) else ()
        tensors = [part for part in parts if isinstance(part, Record) and str(part.of) != "torch.Size"]
        words = ("indices", "values") if len(tensors) == 2 else ("crow_indices", "col_indices", "values")
        for word, part in zip(words, tensors, strict=False):
            self.tensor(part, self.joined(name, word))
        return bool(tensors)

    def array(self, name: str, value: Record, args: tuple[Any, ...]) -> bool:
        """A NumPy array, whose bytes stand in the pickle."""
        if str(value.of) in _BUFFERS:
            shape, kind = (args[2], args[1]) if len(args) >= 3 else (None, None)
        else:
            state = value.state if isinstance(value.state, tuple) and len(value.state) >= 5 else (None,) * 5
            shape, kind = state[1], state[2]
        dtype = _numpy_dtype(kind)
        if dtype is None or not isinstance(shape, tuple):
            return False
        sizes = _whole(shape, name)
        count = 1
        for size in sizes:
            count *= size
        nbytes = dtype.nbytes(count) or 0
        self.add(name, Storage(f"array {id(value)}", dtype, nbytes, inline=True), dtype, sizes, _row_major(sizes), 0)
        return True

    def storage(self, value: Any) -> tuple[Storage | None, int]:
        """(storage, first element in it) of what a tensor says it views."""
        if isinstance(value, Record):
            args = value.args if isinstance(value.args, tuple) else ()
            if str(value.of) == "torch.storage._load_from_bytes" and args and isinstance(args[0], Blob):
                return self.nested(args[0]), 0
            return None, 0
        if not isinstance(value, Persistent):
            return None, 0
        found = self.persistent(value.key)
        if isinstance(found, Storage):
            return found, 0
        if isinstance(found, View):
            return found.storage, found.offset
        return None, 0

    def add(
        self, name: str, storage: Storage, dtype: DType, shape: tuple[int, ...], strides: tuple[int, ...], offset: int
    ) -> None:
        if len(shape) > MOST_DIMENSIONS or len(shape) != len(strides):
            raise FormatError(f"tensor {shown(name)} has {len(shape)} dimensions and {len(strides)} strides")
        count, last = 1, offset
        for size, stride in zip(shape, strides, strict=True):
            count *= size
            last += (size - 1) * stride
        if count and (last + 1) * (dtype.bits or 8) > storage.nbytes * 8:
            raise FormatError(
                f"tensor {shown(name)} reaches beyond its storage of {storage.nbytes:,} bytes",
                expected=f"{((last + 1) * (dtype.bits or 8) + 7) // 8:,} bytes or more",
            )
        if count > LARGEST_TENSOR:
            raise FormatError(f"tensor {shown(name)} is larger than any address space")
        self.characters += len(name)
        if len(self.views) >= MOST_TENSORS or self.characters > MOST_PATHS:
            raise FormatError(f"more than {MOST_TENSORS:,} tensors, or names of more than {MOST_PATHS:,} characters")
        times = self.names.get(name, 0)
        self.names[name] = times + 1
        unique = f"{name}#{times + 1}" if times else name
        parts = name.split(".")
        optimizer = any(_OPTIMIZER.match(part) for part in parts[:-1]) or ("state" in parts and parts[-1] in _MOMENTS)
        self.views.append(View(unique, storage, dtype, shape, strides, offset, optimizer))


def storage_of(kind: Any, key: Any, device: Any, count: Any) -> Storage:
    """The storage that a persistent id describes.

    Raises:
        FormatError: not a kind of storage that is known, or a length that is none.
    """
    name = kind.name if isinstance(kind, Global) else ""
    element = _STORAGES.get(name.removesuffix("Storage")) if name.endswith("Storage") else None
    if element is None and name in TORCH_DTYPES:
        element = TORCH_DTYPES[name]  # a dtype instead of a class, as some exporters write
    if element is None:
        raise FormatError(
            f"a storage of the kind {shown(str(kind)[:100])}, which is not known",
            expected="torch.FloatStorage or another",
        )
    if type(count) is not int or not 0 <= count < LARGEST_TENSOR or not isinstance(key, str | int):
        raise FormatError(f"a storage of {shown(str(count)[:80])} elements", expected="a whole number")
    width = max((element.bits or 8) // 8, 1)
    return Storage(str(key)[:LONGEST_PATH], element, count * width, device if isinstance(device, str) else "")


def _whole(value: Any, name: str) -> tuple[int, ...]:
    """The sizes or strides in `value`, checked."""
    if isinstance(value, Record) and isinstance(value.args, tuple) and value.args:
        value = value.args[0]  # torch.Size((…))
    if not isinstance(value, tuple | list) or len(value) > MOST_DIMENSIONS:
        raise FormatError(f"tensor {shown(name)} has no usable shape", expected="a tuple of whole numbers")
    if not all(type(size) is int and 0 <= size < LARGEST_TENSOR for size in value):
        raise FormatError(f"tensor {shown(name)} has the sizes {str(value[:8])[:120]}", expected="whole numbers")
    return tuple(value)


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def _numpy_dtype(value: Any) -> DType | None:
    """The dtype that numpy.dtype("f4", …) describes; None for structures and objects."""
    if not isinstance(value, Record) or str(value.of) != "numpy.dtype" or not isinstance(value.args, tuple):
        return None
    code = value.args[0] if value.args and isinstance(value.args[0], str) else ""
    if code in ("b1", "?"):
        return dtypes.BOOL
    kind, width = _NUMPY.get(code[:1]), code[1:]
    if kind is None or width not in ("1", "2", "4", "8", "16"):
        return None
    return dtypes.DTYPES.get(f"{kind}{8 * int(width)}")
