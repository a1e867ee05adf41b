"""A configuration held against the safetensors files beside it, tensor by tensor, from their headers.

What a file stores replaces what the configuration says about dtypes; names and shapes that differ are
told with counts and the first of them. Nothing but headers is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from peakmem.dtypes import DType
from peakmem.errors import FormatError
from peakmem.ir.dims import format_shape
from peakmem.ir.graph import Graph, Tensor

_OLD_NAMES = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
# as BERT's first files have them; the library renames them when it loads


def stored_tensors(folder: Path) -> Mapping[str, Tensor]:
    """The tensors of the safetensors files in a folder; none when it has no such file."""
    if not any(folder.glob("*.safetensors")):
        return {}
    from peakmem.frontends.safetensors.reader import read_safetensors

    graph = read_safetensors(folder)
    return {name: tensor for name, tensor in graph.tensors.items() if tensor.role == "constant"}


def working_dtype(stored: Mapping[str, Tensor]) -> DType | None:
    """The dtype of 16 bits or more that most elements are stored in."""
    counts: dict[DType, int] = {}
    for tensor in stored.values():
        dtype = tensor.dtype
        if dtype is not None and dtype.kind == "float" and (dtype.bits or 0) >= 16 and dtype.block == 1:
            counts[dtype] = counts.get(dtype, 0) + (tensor.count or 0)
    return max(counts, key=lambda dtype: counts[dtype]) if counts else None


def held_against(graph: Graph, stored: Mapping[str, Tensor], where: str) -> Graph:
    """`graph` with the dtypes that are stored, and notes on what differs.

    Raises:
        FormatError: not one tensor of the network is in the files.
    """
    tensors = dict(graph.tensors)
    prefix = _prefix(graph, stored)
    seen: set[str] = set()
    missing: list[str] = []
    differing: list[str] = []
    matched = 0
    for tensor in graph.tensors.values():
        if tensor.role != "constant":
            continue
        name = next((name for name in _spellings(tensor.name, prefix) if name in stored), "")
        if not name:
            if not tensor.storage:
                missing.append(tensor.name)
            continue
        seen.add(name)
        if tensor.storage:
            continue
        found = stored[name]
        if found.shape == tensor.shape and found.dtype is not None:
            tensors[tensor.name] = replace(tensor, dtype=found.dtype)
            matched += 1
        elif found.nbytes == tensor.nbytes and not _same_width(found, tensor):
            matched += 1  # packed: several elements in a word
        else:
            differing.append(f"{tensor.name} is {_shape(found)}, not {_shape(tensor)}")
    if not matched and (missing or differing):
        raise FormatError(
            "the weights beside config.json are of another network: no tensor has the name and shape it should",
            where=where,
            expected=f"tensors such as {(missing or differing)[0][:120]!r}",
            hint="the config.json alone, in a folder of its own",
        )
    extra = [name for name in stored if name not in seen]
    notes = [f"{matched} tensors of the safetensors headers have the names and shapes of the configuration"]
    for what, names in (
        ("tensors of the configuration are not in the files", missing),
        ("tensors have another shape in the files; the configuration's was counted", differing),
        ("tensors of the files are not part of the network and were not counted", extra),
    ):
        if names:
            more = ", …" if len(names) > 3 else ""
            notes.append(f"{len(names)} {what}: {', '.join(name[:120] for name in names[:3])}{more}")
    return replace(graph, tensors=tensors, notes=(*graph.notes, *notes))


def _same_width(found: Tensor, tensor: Tensor) -> bool:
    return found.dtype is not None and tensor.dtype is not None and found.dtype.bits == tensor.dtype.bits


def _shape(tensor: Tensor) -> str:
    return f"{format_shape(tensor.shape)} {tensor.dtype}"


def _spellings(name: str, prefix: tuple[str, str]) -> Iterator[str]:
    cut, put = prefix
    for candidate in dict.fromkeys((name, put + name.removeprefix(cut))):
        yield candidate
        for new, old in _OLD_NAMES:
            if candidate.endswith(new):
                yield candidate.removesuffix(new) + old


def _prefix(graph: Graph, stored: Mapping[str, Tensor]) -> tuple[str, str]:
    """What to cut off and to put before names: files of a bare model leave out the part its head's class adds."""
    names = [tensor.name for tensor in graph.tensors.values() if tensor.role == "constant" and not tensor.storage]
    roots = dict.fromkeys(name.partition(".")[0] + "." for name in names)
    others = dict.fromkeys(name.partition(".")[0] + "." for name in stored)
    choices = [("", ""), *((root, "") for root in roots), *(("", root) for root in list(others)[:8])]

    def matches(choice: tuple[str, str]) -> int:
        cut, put = choice
        return sum(1 for name in names if put + name.removeprefix(cut) in stored)

    return max(choices[:16], key=matches)
