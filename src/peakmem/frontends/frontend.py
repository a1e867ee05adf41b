"""The protocol of a front end: how a format is recognised, how it is read, what it can tell.

No format is known here, and no reader is imported before it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

from peakmem.frontends.head import Head
from peakmem.ir.graph import Graph

Options: TypeAlias = Mapping[str, str]
NO_OPTIONS: Options = {}


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """One format."""

    name: str
    # as in `peakmem formats` and `--format`
    title: str
    suffixes: tuple[str, ...]
    # what such files are usually called; the bytes decide
    matches: Callable[[Head], bool]
    read: Callable[..., Graph]
    # (path, **options) -> the unbound graph
    reads: str
    # what is read, one sentence
    unknown: str
    # what cannot be known from it, one sentence
    extra: str = ""
    # the extra of peakmem that it needs: pip install 'peakmem[extra]'
    library: str = ""
    # what that extra makes importable; the name of the extra when empty
    options: Mapping[str, str] = field(default_factory=dict)
    # options it takes, with a sentence on each


def later(home: str) -> Callable[..., Graph]:
    """The reader `home`, "package.module:name", imported when it is first called."""
    module, _, name = home.partition(":")

    def read(path: Path, **options: str) -> Graph:
        graph = getattr(import_module(module), name)(path, **options)
        assert isinstance(graph, Graph)
        return graph

    return read
