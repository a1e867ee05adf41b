"""What `torch.save(module.state_dict(), path)` writes: a zip archive, not compressed, each record at a multiple of 64.

The pickle is made by Python's own pickler with stand-ins for PyTorch's names, so that its memo counts as PyTorch's
does; it holds no data. Layout: PyTorchStreamWriter of caffe2/serialize/inline_container.cc, as of PyTorch 2.13.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from peakmem.dtypes import DType
from peakmem.errors import UsageError
from peakmem.filesize.bits import padding
from peakmem.filesize.content import Stored
from peakmem.filesize.sheet import Sheet

STORAGES: Mapping[str, str] = {
    "float32": "FloatStorage", "float16": "HalfStorage", "bfloat16": "BFloat16Storage", "float64": "DoubleStorage",
    "int64": "LongStorage", "int32": "IntStorage", "int16": "ShortStorage", "int8": "CharStorage",
    "uint8": "ByteStorage", "bool": "BoolStorage", "complex64": "ComplexFloatStorage",
    "complex128": "ComplexDoubleStorage",
}  # fmt: skip
# classes of module torch that stand for the dtypes
LOCAL, DESCRIPTOR, CENTRAL = 30, 16, 46
# bytes of a zip archive for each record: its header, what follows its data, its line in the directory
END = 56 + 20 + 22
# the end of the directory, in its long form, the place of that, and in its short form
FIELD, ALIGNMENT = 4, 64
# a record's extra field and where its data begins
LARGE = 2**32 - 1
# sizes and places from there on take fields of eight bytes
SMALL_RECORDS: tuple[tuple[str, int], ...] = ((".format_version", 1), (".storage_alignment", 2), ("byteorder", 6))
LAST_RECORDS: tuple[tuple[str, int], ...] = (("version", 2), (".data/serialization_id", 40))
BATCH_NORM_VERSION = 2
# of the state of a batch norm that counts its batches; all other modules are at 1


def sheet(
    stored: Sequence[Stored], scopes: Iterable[str] = (), archive: str = "model", tied: Mapping[str, str] | None = None
) -> Sheet:
    """The file at `ARCHIVE.pt`.

    Args:
        scopes: modules that may hold no tensor.
        tied: other names of stored tensors, by which a state_dict has them once more.

    Raises:
        UsageError: a dtype that PyTorch has no typed storage for.
    """
    for one in stored:
        if one.dtype.name not in STORAGES:
            raise UsageError(
                f"no tensors of {one.dtype} are written here", where=one.name, expected=", ".join(STORAGES),
                hint="--format safetensors",
            )  # fmt: skip
    described = len(state_pickle(stored, module_versions(stored, scopes), tied or {}))
    names = [f"data/{number}" for number in range(len(stored))]
    sizes = [one.nbytes for one in stored]
    records = [("data.pkl", described), *SMALL_RECORDS, *zip(names, sizes, strict=True), *LAST_RECORDS]
    at = headers = gaps = 0
    directory = END
    for name, size in records:
        path = len(f"{archive}/{name}")
        wide = 0
        if size >= LARGE or at >= LARGE:
            wide = 4 + (16 if size >= LARGE else 0) + (8 if at >= LARGE else 0)
        start = at + LOCAL + path + FIELD + wide
        gap = padding(start, ALIGNMENT)
        after = DESCRIPTOR + (8 if size >= LARGE else 0)
        headers += LOCAL + path + FIELD + wide + after
        gaps += gap
        at = start + gap + size + after
        directory += CENTRAL + path + wide
    small = sum(size for _, size in (*SMALL_RECORDS, *LAST_RECORDS))
    around = {"names and shapes": described, "header": headers + directory + small, "padding": gaps}
    notes = (f"the archive is called {archive!r}, as the file is; a longer name takes {len(records)} bytes a letter",)
    return Sheet("torch.save of a state_dict", tuple(stored), around, notes=notes)


def module_versions(stored: Sequence[Stored], scopes: Iterable[str]) -> dict[str, int]:
    """What a state_dict says of each module: its name and the version of its state."""
    found: dict[str, int] = {"": 1}
    paths = [one.name.rpartition(".")[0] for one in stored]
    counted = {name.rpartition(".")[0] for name in (one.name for one in stored) if name.endswith("num_batches_tracked")}
    for path in (*paths, *map(_module, scopes)):
        parts = path.split(".") if path else []
        for end in range(1, len(parts) + 1):
            found.setdefault(".".join(parts[:end]), 1)
    return {name: BATCH_NORM_VERSION if name in counted else version for name, version in found.items()}


def _module(scope: str) -> str:
    """The module that a scope names: "more/more.0" and "more/0" are both more.0."""
    path = ""
    for part in scope.split("/"):
        path = part if not path or part.startswith(f"{path}.") else f"{path}.{part}"
    return path


def writable(dtype: DType) -> bool:
    """Whether floating tensors can be stored at `dtype`."""
    return dtype.name in STORAGES


class _Name(NamedTuple):
    """Stands for a class or function of a module that is not imported."""

    module: str
    name: str


class _Storage(NamedTuple):
    """Stands for a tensor's storage."""

    kind: _Name
    key: str
    elements: int


_REBUILD = _Name("torch._utils", "_rebuild_tensor_v2")


class _Tensor:
    """Stands for a tensor; pickled as PyTorch pickles one."""

    def __init__(self, key: str, one: Stored, kinds: dict[str, _Name]) -> None:
        kind = kinds.setdefault(one.dtype.name, _Name("torch", STORAGES[one.dtype.name]))
        strides: list[int] = []
        step = 1
        for dim in reversed(one.shape):
            strides.append(step)
            step *= max(dim, 1)
        self.arguments = (_Storage(kind, key, one.elements), 0, one.shape, tuple(reversed(strides)), False)


class _State(OrderedDict[str, Any]):
    """Stands for a state_dict, which has `_metadata` as an attribute."""


_PythonPickler: Any = pickle._Pickler  # type: ignore[attr-defined, unused-ignore]
# the one written in Python, whose parts can be replaced


class _Pickler(_PythonPickler):  # type: ignore[misc]
    """Python's pickler, with names instead of classes."""

    def persistent_id(self, obj: object) -> object:
        if isinstance(obj, _Storage):
            return ("storage", obj.kind, obj.key, "cpu", obj.elements)
        return None

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, _Name):
            known = self.memo.get(id(obj))
            if known is not None:
                self.write(self.get(known[0]))
                return
            self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode())
            self.memoize(obj)
        elif isinstance(obj, _Tensor):
            self.save_reduce(_REBUILD, (*obj.arguments, OrderedDict()), obj=obj)
        else:
            super().save(obj, save_persistent_id)

    def save_reduce(self, func: Any, args: Any, state: Any = None, listitems: Any = None, dictitems: Any = None,
                    state_setter: Any = None, *, obj: Any = None) -> None:  # fmt: skip
        if isinstance(obj, _State):
            func, state = OrderedDict, {"_metadata": obj.metadata}  # type: ignore[attr-defined]
        if isinstance(func, _Name):
            self.save(func)
            self.save(args)
            self.write(pickle.REDUCE)
            self.memoize(obj)
            return
        super().save_reduce(func, args, state, listitems, dictitems, state_setter, obj=obj)


def state_pickle(stored: Sequence[Stored], versions: Mapping[str, int], tied: Mapping[str, str]) -> bytes:
    """The archive's data.pkl."""
    kinds: dict[str, _Name] = {}
    kept: list[object] = []
    # what the pickler remembers by identity must live as long as it
    state = _State()
    keys = {one.name: (str(number), one) for number, one in enumerate(stored)}
    names = {**{name: name for name in keys}, **{name: owner for name, owner in tied.items() if owner in keys}}
    for name, owner in names.items():
        tensor = _Tensor(*keys[owner], kinds)
        kept.append(tensor)
        state[name] = tensor
    state.metadata = OrderedDict((name, {"version": version}) for name, version in versions.items())  # type: ignore[attr-defined]
    out = io.BytesIO()
    _Pickler(out, protocol=2).dump(state)
    return out.getvalue()
