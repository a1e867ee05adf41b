"""What a network is fed: random numbers of a fixed seed, or the user's own arrays, as raw files for the process.

The measured process reads bytes and needs no library for it; shapes, dtypes and formats are settled here, before. Files
are copied in pieces, so an input may be larger than memory. Nothing is cast and nothing is unpickled.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peakmem.dtypes import DTYPES, DType, parse_dtype
from peakmem.errors import PeakmemError, UsageError
from peakmem.measuring import arrays
from peakmem.measuring.arrays import Array
from peakmem.units import format_bytes

Shape = tuple[int, ...]
SEED = 0
FREE = -1
# a dimension that has no value yet


@dataclass(frozen=True, slots=True)
class Port:
    """An input of a network, as an engine or a model file describes it."""

    name: str
    dtype: str
    # empty where it is not known
    shape: Shape | None
    # FREE for a dimension without a value; None where not even their number is known


@dataclass(frozen=True, slots=True)
class Given:
    """What the user says of the inputs."""

    feed: str | Path | Sequence[str | Path] | None = None
    # .npy, .npz, a folder of .npy, or NAME=FILE (several); None for random numbers
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    seed: int = SEED


@dataclass(frozen=True, slots=True)
class InputFile:
    """One input, ready to be read: little-endian elements, last dimension fastest."""

    name: str
    dtype: str
    shape: Shape
    path: Path
    source: str
    # "random", or the name of the user's file

    @property
    def nbytes(self) -> int:
        """Bytes of it."""
        return self.path.stat().st_size


def prepare(ports: Sequence[Port], known: Sequence[Port], given: Given, scratch: Path) -> tuple[InputFile, ...]:
    """One file for each of `ports`, in their order.

    Arguments:
        ports: the inputs as the engine names them.
        known: the inputs as the model before a conversion describes them, in the same order; () where nobody knows.
        given: what the user says; its names may be those of `ports` or of `known`.
        scratch: the folder for the files.

    Raises:
        UsageError: something that the user gives and that does not fit, or does not give and that is missing.
        PeakmemError: no space for the files.
    """
    inputs = _match(ports, known)
    _check_names(inputs, given)
    arrays_given = _choose(inputs, given.feed)
    made: list[InputFile] = []
    for number, (one, array) in enumerate(zip(inputs, arrays_given, strict=True)):
        path = scratch / f"input{number}"
        dtype = _dtype(one, array)
        shape = _shape(one, given.shapes, array)
        _check_space(one, dtype, shape, scratch)
        try:
            if array is None:
                arrays.random(dtype, shape, path, seed=(given.seed, number))
            else:
                array.copy(path)
        except OSError as fault:
            raise PeakmemError(f"input {one.name!r} cannot be written: {fault.strerror}") from fault
        made.append(InputFile(one.name, dtype.name, shape, path, "random" if array is None else array.source))
    return tuple(made)


@dataclass(frozen=True, slots=True)
class _Input:
    name: str
    alias: str
    # its name before the conversion; the same where there was none
    dtype: str
    shape: Shape | None
    before: Shape | None
    # its shape before the conversion

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,) if self.name == self.alias else (self.name, self.alias)

    def __str__(self) -> str:
        text = repr(self.name) if self.name == self.alias else f"{self.name!r} ({self.alias!r} in the model)"
        return f"{text} {self.dtype or 'of unknown dtype'} {shown(self.shape)}"


def shown(shape: Sequence[int] | None) -> str:
    """A shape for a message: 1x3x?x?."""
    if shape is None:
        return "of unknown shape"
    return "x".join("?" if dim < 0 else str(dim) for dim in shape) or "scalar"


def _listed(inputs: Sequence[_Input]) -> str:
    return "; ".join(map(str, inputs)) or "no inputs"


def _match(ports: Sequence[Port], known: Sequence[Port]) -> tuple[_Input, ...]:
    """Each port with what is known of it: by name, else by its place when the counts agree."""
    by_name = {port.name: port for port in known}
    same_count = len(ports) == len(known)
    found = []
    for place, port in enumerate(ports):
        other = by_name.get(port.name)
        if other is None and same_count and known[place].name not in {one.name for one in ports}:
            other = known[place]
        if other is None:
            found.append(_Input(port.name, port.name, port.dtype, port.shape, None))
        else:
            if other.name == port.name and other.shape is not None and port.shape is not None:
                _check_fixed(port, other.shape)
            shape = _merged(port.shape, other.shape)
            found.append(_Input(port.name, other.name, port.dtype or other.dtype, shape, other.shape))
    return tuple(found)


def _check_fixed(port: Port, wanted: Shape) -> None:
    """The sizes that were asked for have to be those that the engine has fixed; another rank is another layout."""
    assert port.shape is not None
    if len(port.shape) == len(wanted) and not _agree(port.shape, wanted):
        raise UsageError(
            f"input {port.name!r} is {shown(port.shape)} in this engine and cannot be {shown(wanted)}",
            hint="a model file whose dimensions are free, or of that size",
        )  # fmt: skip


def _merged(shape: Shape | None, other: Shape | None) -> Shape | None:
    """The engine's shape, its free dimensions filled from the other where they are of one rank."""
    if shape is None:
        return other
    if other is None or len(other) != len(shape):
        return shape
    return tuple(there if here < 0 else here for here, there in zip(shape, other, strict=True))


def _check_names(inputs: Sequence[_Input], given: Given) -> None:
    names = {name for one in inputs for name in one.names}
    if any(one.before is not None for one in inputs):
        return
        # shapes were bound when the model was converted, by names that may be gone
    for name in given.shapes:
        if name not in names:
            raise UsageError(f"no input is called {name!r}", where="--shape", expected=_listed(inputs))


def _dtype(one: _Input, array: Array | None) -> DType:
    name = one.dtype or (array.dtype if array else "")
    if not name:
        raise UsageError(f"the dtype of input {one.name!r} is not known", hint=f"--feed {one.name}=FILE.npy")
    try:
        dtype = DTYPES.get(name) or parse_dtype(name)
    except UsageError as fault:
        fault.locate(f"input {one.name!r}")
        raise
    if array is None:
        if not arrays.can_make(dtype):
            raise UsageError(f"no data can be made for input {one.name!r} of dtype {dtype}", expected="numbers or bool")
    elif not arrays.holds(array, dtype):
        raise UsageError(
            f"input {one.name!r} is {dtype}, the file holds {array.dtype}", where=array.source,
            hint=f"numpy.save(…, array.astype({dtype.name!r}))" if dtype.name in arrays.NATIVE else "",
        )  # fmt: skip
    return dtype


def _shape(one: _Input, shapes: Mapping[str, Shape], array: Array | None) -> Shape:
    """The concrete shape of an input."""
    wanted = one.shape
    asked = next((tuple(shapes[name]) for name in one.names if name in shapes), None)
    if asked is not None:
        if not _agree(asked, wanted) and (one.before is None or not _agree(asked, one.before)):
            raise UsageError(
                f"input {one.name!r} is {shown(wanted)}, not {shown(asked)}", where="--shape", hint="leave --shape away"
            )
        if _agree(asked, wanted):
            wanted = _merged(asked, wanted)
    if array is not None:
        return _fitted(one, wanted, array)
    if wanted is None or min(wanted, default=1) < 0:
        size = "x".join("4" if dim < 0 else str(dim) for dim in wanted) if wanted else "1x3x224x224"
        raise UsageError(
            f"input {one.name!r} is {shown(wanted)}: it needs a size",
            hint=f"--shape {one.alias}={size}",
        )  # fmt: skip
    return wanted


def _fitted(one: _Input, wanted: Shape | None, array: Array) -> Shape:
    """The shape of the user's array, where it fits; dimensions of 1 in front may be there or not."""
    if _agree(array.shape, wanted):
        return array.shape
    assert wanted is not None
    bare = _bare(array.shape)
    if _agree(bare, _bare(wanted)) and min(wanted, default=1) >= 0:
        return wanted
    raise UsageError(f"input {one.name!r} is {shown(wanted)}, the file holds {shown(array.shape)}", where=array.source)


def _bare(shape: Shape) -> Shape:
    place = next((place for place, dim in enumerate(shape) if dim != 1), len(shape))
    return shape[place:]


def _agree(shape: Shape, wanted: Shape | None) -> bool:
    """Whether a shape is one that is wanted, where a free dimension takes any size."""
    if wanted is None:
        return True
    return len(shape) == len(wanted) and all(
        here == there or here < 0 or there < 0 for here, there in zip(shape, wanted, strict=True)
    )


def _check_space(one: _Input, dtype: DType, shape: Shape, scratch: Path) -> None:
    nbytes = dtype.nbytes(math.prod(shape))
    free = shutil.disk_usage(scratch).free
    if nbytes is not None and nbytes > free:
        raise PeakmemError(
            f"input {one.name!r} of {shown(shape)} {dtype} takes {format_bytes(nbytes)}, "
            f"the temporary folder has {format_bytes(free)} left",
            hint="TMPDIR=/a/larger/folder",
        )  # fmt: skip


def _choose(inputs: Sequence[_Input], feed: str | Path | Sequence[str | Path] | None) -> tuple[Array | None, ...]:
    """The user's array of each input; None for all without any."""
    if feed is None:
        return (None,) * len(inputs)
    named: dict[str, Array] = {}
    ordered: list[Array] = []
    # those whose names say nothing: matched by their order
    for item in [feed] if isinstance(feed, str | Path) else list(feed):
        name, equals, file = str(item).partition("=")
        if equals and not Path(item).exists():
            if name in named:
                raise UsageError(f"input {name!r} is given twice", where=str(item))
            named[name] = arrays.one(Path(file))
        else:
            ordered += arrays.read(Path(item))
    return _assign(inputs, named, ordered)


def _assign(inputs: Sequence[_Input], named: dict[str, Array], ordered: list[Array]) -> tuple[Array | None, ...]:
    found: dict[int, Array] = {}
    places = {name: place for place, one in reversed(list(enumerate(inputs))) for name in one.names}
    files = {_as_file(name): place for name, place in places.items()}
    # names with signs that no file name has
    for name, array in named.items():
        if name not in places:
            raise UsageError(f"no input is called {name!r}", where=array.source, expected=_listed(inputs))
        if places[name] in found:
            raise UsageError(f"input {name!r} is given twice", where=array.source)
        found[places[name]] = array
    rest: list[Array] = []
    matched = 0
    for array in ordered:
        place = places.get(array.name, files.get(_as_file(array.name)))
        if place is None:
            rest.append(array)
        elif place in found:
            raise UsageError(f"input {inputs[place].name!r} is given twice", where=array.source)
        else:
            found[place] = array
            matched += 1
    missing = [place for place in range(len(inputs)) if place not in found]
    if rest and not matched and len(rest) == len(missing):
        found.update(zip(missing, rest, strict=True))
    elif rest:
        names = ", ".join(repr(array.name) for array in rest)
        raise UsageError(
            f"no input for {names}", where=rest[0].source, expected=_listed(inputs), hint="--feed NAME=FILE.npy"
        )
    elif missing:
        names = ", ".join(repr(inputs[place].name) for place in missing)
        raise UsageError(
            f"nothing is given for input {names}", expected=_listed(inputs), hint="--feed NAME=FILE.npy for each"
        )
    return tuple(found.get(place) for place in range(len(inputs)))


def _as_file(name: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "-." else "_" for sign in name)
