"""safetensors: the headers of one file, of the shards an index names, or of a folder.

Only headers are read; the data are sized by the offsets, which have to cover the file without
holes, as the format's own library demands. Nothing is said of what is computed with the weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peakmem import dtypes
from peakmem.dtypes import DType
from peakmem.errors import FormatError
from peakmem.frontends.bounded_json import unrepeated
from peakmem.frontends.checkpoint.reader import read_checkpoints
from peakmem.frontends.door import door
from peakmem.frontends.names import listed, shown
from peakmem.frontends.safetensors.packing import packed_weights
from peakmem.frontends.shards import MOST_SHARDS, Index, read_index
from peakmem.frontends.weights import LONGEST_NAME, MOST_TENSORS, beside, sized, weights_graph
from peakmem.ir.dims import format_shape
from peakmem.ir.graph import Detail, Graph, Tensor

LARGEST_HEADER = 100_000_000
# bytes; the limit of the format's own library
LARGEST_METADATA = 16 << 20
# bytes of __metadata__
LARGEST_ENTRY = 1 << 16
# bytes of one tensor's entry
INDEX_SUFFIX = ".safetensors.index.json"

STORED: Mapping[str, DType] = {
    "BOOL": dtypes.BOOL, "F4": dtypes.FLOAT4E2M1, "F6_E2M3": dtypes.FLOAT6E2M3, "F6_E3M2": dtypes.FLOAT6E3M2,
    "U8": dtypes.UINT8, "I8": dtypes.INT8,
    "F8_E5M2": dtypes.FLOAT8E5M2, "F8_E4M3": dtypes.FLOAT8E4M3FN, "F8_E8M0": dtypes.FLOAT8E8M0,
    "F8_E4M3FNUZ": dtypes.FLOAT8E4M3FNUZ, "F8_E5M2FNUZ": dtypes.FLOAT8E5M2FNUZ,
    "I16": dtypes.INT16, "U16": dtypes.UINT16, "F16": dtypes.FLOAT16, "BF16": dtypes.BFLOAT16,
    "I32": dtypes.INT32, "U32": dtypes.UINT32, "F32": dtypes.FLOAT32, "C64": dtypes.COMPLEX64,
    "F64": dtypes.FLOAT64, "I64": dtypes.INT64, "U64": dtypes.UINT64,
}  # fmt: skip
# names of the format (safetensors 0.8, tensor.rs) and what they are here

_STRING = rb'"(?:[^"\\\x00-\x1f]++|\\.)*+"'
_GAP = rb"[ \t\r\n]*+"
_OPEN = re.compile(_GAP + rb"\{" + _GAP + rb"(\}" + _GAP + rb")?")
_PLAIN = re.compile(
    rb'"((?:[^"\\\x00-\x1f])*+)":\{"dtype":"(\w{1,16}+)","shape":\[([\d,]*+)\],"data_offsets":\[(\d{1,20}+),(\d{1,20}+)\]\}'
)
# an entry as the libraries write it; anything else of the same meaning goes through json
_NAME = re.compile(rb"(" + _STRING + rb")" + _GAP + rb":" + _GAP)
_ENTRY = re.compile(rb"\{(?:[^{}\"]++|" + _STRING + rb")*+\}")
_NEXT = re.compile(_GAP + rb"(?:," + _GAP + rb"(?=\")|(\})" + _GAP + rb")")
_SHARD = re.compile(r"^(.*)-(\d{3,6})-of-(\d{3,6})\.safetensors$")


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of one safetensors file says."""

    path: Path
    tensors: tuple[Tensor, ...]
    # by their place in the file
    metadata: Mapping[str, str]
    data_start: int
    # bytes before the data: the length and the header
    data_bytes: int
    offsets: Mapping[str, int]
    # where each tensor's data start in the file


def read_safetensors(path: Path) -> Graph:
    """The graph of a .safetensors file, of an index and its shards, or of a folder of them.

    Raises:
        FormatError: a damaged header, data that do not fill the file, a missing shard or tensor.
    """
    if path.name.endswith(".json"):
        index = read_index(path)
        if index.names and not any(name.endswith(".safetensors") for name in index.names):
            return read_checkpoints(path, index)
    notes: list[str] = []
    headers = read_headers(path, notes)
    tensors = [tensor for header in headers for tensor in header.tensors]
    notes.append("tied weights are stored once in a safetensors file, so that tying cannot be seen")
    details = [*_layout(headers), *packed_weights(tensors, _small_integers(headers))]
    if any(tensor.name.endswith((".lora_A.weight", ".lora_B.weight", ".lora_down.weight")) for tensor in tensors):
        notes.append("the file holds a LoRA adapter: the weights of the model it belongs to come on top")
    return weights_graph("safetensors", path, tensors, hint=beside(path), notes=notes, details=details)


def read_headers(path: Path, notes: list[str]) -> tuple[Header, ...]:
    """The headers of all files that make up the weights at `path`, checked against each other.

    Args:
        path: a .safetensors file, an index, or a folder.
        notes: what was assumed is appended here.

    Raises:
        FormatError: see `read_safetensors`.
    """
    with door(path):
        if path.is_dir():
            return _folder(path, notes)
        if path.name.endswith(".json"):
            return _indexed(read_index(path), notes)
        header = read_header(path)
    part = _SHARD.match(path.name)
    if part and int(part[3]) > 1:
        notes.append(f"this is shard {int(part[2])} of {int(part[3])}: the folder or the index gives all of them")
    return (header,)


def read_header(path: Path) -> Header:
    """The header of one .safetensors file.

    Raises:
        FormatError: truncated, damaged, or data that do not fill the file exactly.
    """
    with door(path):
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(9)
            length = int.from_bytes(start[:8], "little")
            if len(start) < 8 or length > size - 8:
                raise FormatError(
                    f"the file is truncated: {size:,} bytes", expected=f"8 bytes and a header of {length:,} bytes"
                )
            if length > LARGEST_HEADER:
                raise FormatError(f"a header of {length:,} bytes", expected=f"at most {LARGEST_HEADER:,}")
            if start[8:] != b"{":
                raise FormatError(
                    f"the header starts with {start[8:]!r}", expected="'{': a safetensors header is a JSON object"
                )
            data = start[8:] + file.read(length - 1)
        if len(data) != length:
            raise FormatError("the file is truncated inside its header")
        metadata: dict[str, str] = {}
        spans = sorted(_entries(data, metadata), key=lambda span: (span[1], span[2]))
        offsets = _covered(spans, size - 8 - length, 8 + length)
    tensors = tuple(span[0] for span in spans)
    return Header(path, tensors, metadata, 8 + length, size - 8 - length, offsets)


def _entries(data: bytes, metadata: dict[str, str]) -> Iterator[tuple[Tensor, int, int]]:
    """(tensor, start, stop) of each entry of a header; `metadata` is filled."""
    match = _OPEN.match(data)
    assert match is not None  # it starts with a brace
    at = match.end()
    ended = match[1] is not None
    names: set[str] = set()
    while not ended:
        plain = _PLAIN.match(data, at)
        if plain is not None:
            at = plain.end()
            name = _text(plain[1])
            shape = tuple(map(int, plain[3].split(b","))) if plain[3] else ()
            entry = (plain[2].decode(), shape, int(plain[4]), int(plain[5]))
        else:
            found = _NAME.match(data, at)
            if found is None:
                raise FormatError(f"the header is no JSON at byte {8 + at:,}", expected="a tensor's name in quotes")
            name = _json(found[1], at)
            body = _ENTRY.match(data, found.end())
            if name == "__metadata__":
                at = _metadata(data, found.end(), metadata)
                entry = None
            elif body is None or len(body[0]) > LARGEST_ENTRY:
                raise FormatError(
                    f"the entry of tensor {shown(name)} is damaged", expected="dtype, shape and data_offsets"
                )
            else:
                at = body.end()
                entry = _entry(name, _json(body[0], found.end()))
        if name in names:
            raise FormatError(f"the header names {shown(name)} twice")
        names.add(name)
        if entry is not None:
            if len(name) > LONGEST_NAME:
                raise FormatError(f"a name of {len(name):,} characters", expected=f"at most {LONGEST_NAME:,}")
            if len(names) > MOST_TENSORS:
                raise FormatError(f"more than {MOST_TENSORS:,} tensors")
            yield _tensor(name, *entry)
        after = _NEXT.match(data, at)
        if after is None:
            raise FormatError(f"the header is no JSON at byte {8 + at:,}", expected="',' or '}' after an entry")
        at = after.end()
        ended = after[1] is not None
    if at != len(data):
        raise FormatError(f"the header goes on after its end, at byte {8 + at:,}", expected="spaces")


def _metadata(data: bytes, at: int, metadata: dict[str, str]) -> int:
    """Read `__metadata__` at `at` and return where it ends."""
    body = _ENTRY.match(data, at)
    if body is None:
        if data[at : at + 4] == b"null":
            return at + 4
        raise FormatError("__metadata__ is damaged", expected="an object of texts")
    if len(body[0]) > LARGEST_METADATA:
        return body.end()
    found = _json(body[0], at)
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise FormatError("__metadata__ holds something other than texts", expected="an object of texts")
    metadata.update(found)
    return body.end()


def _entry(name: str, found: Any) -> tuple[str, tuple[int, ...], int, int]:
    """(dtype, shape, start, stop) of a tensor's entry, whatever its order and spacing."""
    where = f"tensor {shown(name)}"
    dtype, shape, span = (found.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str):
        raise FormatError(f"{where} has no dtype", expected=f"one of {', '.join(STORED)}")
    for what, value in (("shape", shape), ("data_offsets", span)):
        if not isinstance(value, list) or not all(type(size) is int and 0 <= size < 1 << 64 for size in value):
            raise FormatError(f"{where} has no usable {what}", expected="a list of whole numbers, 0 or more")
    if len(span) != 2:
        raise FormatError(f"{where} has {len(span)} data_offsets", expected="two: start and stop")
    return dtype, tuple(shape), span[0], span[1]


def _tensor(name: str, code: str, shape: tuple[int, ...], start: int, stop: int) -> tuple[Tensor, int, int]:
    dtype = STORED.get(code)
    if dtype is None:
        raise FormatError(f"tensor {shown(name)} has the dtype {shown(code)}", expected=f"one of {', '.join(STORED)}")
    nbytes = sized(name, shape, dtype)
    tensor = Tensor(name, shape, dtype, "constant")
    assert dtype.bits is not None
    if (tensor.count or 0) * dtype.bits % 8:
        raise FormatError(f"tensor {shown(name)} of {dtype} ends inside a byte", expected="whole bytes")
    if stop - start != nbytes:
        raise FormatError(
            f"tensor {shown(name)} takes bytes {start:,} to {stop:,}, which is {stop - start:,}",
            expected=f"{nbytes:,} for {format_shape(shape)} of {code}",
        )
    return tensor, start, stop


def _covered(spans: list[tuple[Tensor, int, int]], size: int, base: int) -> dict[str, int]:
    """Where each tensor starts in the file; the tensors have to fill `size` bytes of data in order."""
    reached = 0
    offsets = {}
    for tensor, start, stop in spans:
        if start != reached:
            what = "overlaps the one before it" if start < reached else f"leaves a hole of {start - reached:,} bytes"
            raise FormatError(f"tensor {shown(tensor.name)} at {start:,} {what}", expected=f"offset {reached:,}")
        reached = stop
        offsets[tensor.name] = base + start
    if reached != size:
        state = "truncated" if size < reached else "longer than its tensors"
        raise FormatError(f"the file is {state}: {size:,} bytes of data", expected=f"{reached:,} by its header")
    return offsets


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as fault:
        raise FormatError("the header is not UTF-8") from fault


def _json(data: bytes, at: int) -> Any:
    """One JSON value of a header, its keys named once."""
    try:
        return json.loads(_text(data), object_pairs_hook=unrepeated)
    except (ValueError, RecursionError) as fault:
        raise FormatError(f"the header is no JSON at byte {8 + at:,} ({str(fault)[:120]})") from fault


# -- several files -----------------------------------------------------------------------


def _folder(path: Path, notes: list[str]) -> tuple[Header, ...]:
    """The index of a folder, or else all its shards, or its one file."""
    names = sorted(entry.name for entry in path.iterdir() if entry.is_file())
    indices = [name for name in names if name.endswith(INDEX_SUFFIX)]
    files = [name for name in names if name.endswith(".safetensors")]
    if len(indices) > 1:
        raise FormatError(
            f"the folder holds {len(indices)} models: {listed(indices)}", where=str(path), hint=f"one of {indices[0]}"
        )
    if indices:
        headers = _indexed(read_index(path / indices[0]), notes)
        spare = sorted(set(files) - {header.path.name for header in headers})
        if spare:
            notes.append(
                f"the index leaves out {len(spare)} files of the folder, which are not counted: {listed(spare)}"
            )
        return headers
    if not files:
        raise FormatError("the folder holds no .safetensors file", where=str(path))
    if len(files) > MOST_SHARDS:
        raise FormatError(f"{len(files):,} shards", where=str(path), expected=f"at most {MOST_SHARDS:,}")
    if len(files) > 1:
        _whole_set(path, files)
        notes.append(f"the folder has no index: its {len(files)} files were taken for one model")
    headers = tuple(read_header(path / name) for name in files)
    _named_once(headers, path)
    return headers


def _whole_set(path: Path, files: list[str]) -> None:
    """Refuse shards of which one is missing, and files that are not shards of one model."""
    parts = [_SHARD.match(name) for name in files]
    sets = {(part[1], int(part[3])) for part in parts if part}
    if not all(parts) or len(sets) != 1:
        raise FormatError(
            f"the folder holds several models: {listed(files)}", where=str(path), hint=str(path / files[0])
        )
    stem, count = sets.pop()
    have = {int(part[2]) for part in parts if part}
    missing = [number for number in range(1, min(count, MOST_SHARDS) + 1) if number not in have]
    if missing or len(have) != len(files):
        digits = len(parts[0][2]) if parts[0] else 5
        lacking = [f"{stem}-{number:0{digits}}-of-{count:0{digits}}.safetensors" for number in missing]
        raise FormatError(f"shards are missing: {listed(lacking)}", where=str(path), expected=f"{count} shards")


def _named_once(headers: tuple[Header, ...], path: Path) -> None:
    seen: dict[str, Path] = {}
    for header in headers:
        for tensor in header.tensors:
            before = seen.setdefault(tensor.name, header.path)
            if before is not header.path:
                raise FormatError(
                    f"tensor {shown(tensor.name)} stands in {before.name} and in {header.path.name}", where=str(path)
                )
    if len(seen) > MOST_TENSORS:
        raise FormatError(f"{len(seen):,} tensors", where=str(path), expected=f"at most {MOST_TENSORS:,}")


def _indexed(index: Index, notes: list[str]) -> tuple[Header, ...]:
    """The shards that an index names, each tensor found in the shard it is said to be in."""
    headers = tuple(read_header(index.path.with_name(name)) for name in index.names)
    _named_once(headers, index.path)
    index.check({tensor.name: header.path.name for header in headers for tensor in header.tensors}, notes)
    stored = sum(header.data_bytes for header in headers)
    if index.total_bytes not in (None, stored):
        notes.append(f"the index says {index.total_bytes:,} bytes in total, its shards hold {stored:,}")
    return headers


# -- what else the headers tell ----------------------------------------------------------


def _layout(headers: tuple[Header, ...]) -> Iterator[Detail]:
    start = sum(header.data_start for header in headers)
    many = f"{len(headers)} files" if len(headers) > 1 else "the file"
    yield Detail("headers", f"length and header of {many}, before the data", start)
    crooked = [header.path.name for header in headers if header.data_start % 8]
    if crooked:
        yield Detail("alignment", f"the data do not start at a multiple of 8 bytes: {listed(crooked)}")
    for key in ("format", "quant_method", "modelspec.architecture", "modelspec.title", "ss_base_model_version"):
        value = next((header.metadata[key] for header in headers if key in header.metadata), "")
        if value and value.isprintable():
            yield Detail(key, value[:120])


def _small_integers(headers: tuple[Header, ...]) -> Mapping[str, tuple[int, ...]]:
    """Contents of the few constants that hold the shape of a packed weight (`weight_shape`)."""
    found: dict[str, tuple[int, ...]] = {}
    for header in headers:
        wanted = [
            tensor
            for tensor in header.tensors
            if tensor.name.endswith(".weight_shape") and (tensor.count or 0) <= 8
            and tensor.dtype in (dtypes.INT64, dtypes.INT32)
        ]  # fmt: skip
        if not wanted:
            continue
        with header.path.open("rb") as file:
            for tensor in wanted:
                file.seek(header.offsets[tensor.name])
                data = file.read(tensor.nbytes or 0)
                width = 8 if tensor.dtype is dtypes.INT64 else 4
                found[tensor.name] = tuple(
                    int.from_bytes(data[at : at + width], "little", signed=True) for at in range(0, len(data), width)
                )
    return found
