"""Readers of model files, one package a format, found by what the file is rather than its name.

`read` gives an unbound Graph: nothing is executed, no weight is loaded. A front end knows one
format and nothing of memory. Packages add their own with an entry point in the group
`peakmem.frontends` that names a FrontEnd; those are asked after the formats that are known by
their bytes and before ONNX, which has no mark of its own; not for files that are called .onnx.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from peakmem.errors import FormatError, PeakmemError, UsageError
from peakmem.frontends.formats import BUILT_IN, ONNX, foreign
from peakmem.frontends.frontend import NO_OPTIONS, FrontEnd, Options
from peakmem.frontends.head import Head
from peakmem.ir.graph import Graph

GROUP = "peakmem.frontends"
CONFIG = "config.json"
WHOLE = ("model.safetensors", "model.safetensors.index.json")
# names of files that hold all weights of a network; beside a configuration they are that network


@cache
def third_party() -> tuple[FrontEnd, ...]:
    """Front ends of other packages, by name.

    Raises:
        UsageError: an entry point that cannot be imported or is no FrontEnd.
    """
    from importlib.metadata import entry_points  # takes longer than most files

    found = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            loaded = entry.load()
        except Exception as fault:  # anything may go wrong in a foreign module
            raise UsageError(f"the front end {entry.name!r} ({entry.value}) cannot be imported: {fault}") from fault
        if not isinstance(loaded, FrontEnd):
            raise UsageError(f"the front end {entry.name!r} ({entry.value}) is no peakmem.frontends.FrontEnd")
        found.append(loaded)
    return tuple(found)


def front_ends() -> dict[str, FrontEnd]:
    """Every front end by name: the built-in ones, then those of other packages."""
    return {front_end.name: front_end for front_end in (*third_party(), *BUILT_IN, ONNX)}


def recognise(path: Path) -> FrontEnd:
    """The front end for the file or folder at `path`.

    Raises:
        FormatError: no such file, or no format peakmem reads.
    """
    head = Head(path)
    if not (head.is_folder or head.data):
        raise FormatError("the file is empty", where=str(path), expected=f"{by_name(path).title}, by its name")
    for front_end in BUILT_IN:
        if front_end.matches(head):
            return front_end
    what, advice = foreign(head)
    if head.suffix == ".onnx" and not what:
        return ONNX
    for front_end in third_party():
        if front_end.matches(head):
            return front_end
    if what:
        raise FormatError(f"this is {what}", where=str(path), hint=advice)
    return ONNX if ONNX.matches(head) else by_name(path)


def by_name(path: Path) -> FrontEnd:
    """The front end whose suffix the name ends in, the longest one first; ONNX for any other name.

    Only for files whose bytes tell nothing: the reader that knows the format says what is wrong with them.
    """
    name = path.name.lower()
    known = [(len(suffix), one) for one in BUILT_IN for suffix in one.suffixes if name.endswith(suffix)]
    return max(known, key=lambda item: item[0])[1] if known else ONNX


def read(path: Path, *, form: str = "", options: Options = NO_OPTIONS) -> Graph:
    """The unbound graph of the model at `path`.

    Args:
        path: a file, or a folder for the formats that are one.
        form: name of the front end; found by what the file is when empty.
        options: what the front end takes, by name.

    Raises:
        UsageError: no such front end, or an option it does not take.
        FormatError: no such file, not a regular file, or no format peakmem reads.
        GraphError: the file describes a network that contradicts itself.
    """
    if form:
        known = front_ends()
        if form not in known:
            raise UsageError(f"no format is called {form!r}", expected=f"one of {', '.join(sorted(known))}")
        Head(path)
        front_end = known[form]
    else:
        front_end = recognise(path)
        if front_end.name == "safetensors" and path.name in WHOLE and (path.parent / CONFIG).is_file():
            return _with_config(path, front_end, options)
    for name in options:
        if name not in front_end.options:
            takes = ", ".join(front_end.options) or "no option"
            raise UsageError(f"{front_end.title} has no option {name!r}", where=str(path), expected=takes)
    return front_end.read(path, **options)


def _with_config(path: Path, weights: FrontEnd, options: Options) -> Graph:
    """The network of the config.json beside the weights at `path`; the weights alone where that cannot be read."""
    network = front_ends()["hf_config"]
    try:
        return replace(network.read(path.parent, **options), source=str(path))
    except PeakmemError as fault:
        if options:
            raise
        graph = weights.read(path)
        return replace(graph, notes=(*graph.notes, f"the {CONFIG} beside the weights was not used: {fault}"))


__all__ = ["FrontEnd", "Head", "Options", "by_name", "front_ends", "read", "recognise", "third_party"]
