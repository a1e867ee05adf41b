"""What a writer's module gives back: the bytes of a file by part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from peakmem.filesize.content import Stored, total


@dataclass(frozen=True, slots=True)
class Sheet:
    """One file, or one model in several files, counted."""

    writer: str
    # whose file this is
    stored: tuple[Stored, ...]
    # tensors as written
    around: Mapping[str, int]
    # bytes that are no tensor: "graph", "names and shapes", "header", "padding"
    files: tuple[tuple[str, int], ...] = ()
    # (ending, bytes) where a model is several files
    exact: bool = True
    below: int = 0
    # bytes that the file may be smaller
    above: int = 0
    # and larger
    notes: tuple[str, ...] = ()
    parts: Mapping[str, int] = field(default_factory=dict)
    # bytes of tensors by part where they are not the sum of `stored`

    @property
    def tensors(self) -> Mapping[str, int]:
        """Bytes of tensors by part."""
        return self.parts or total(one for one in self.stored if not one.literal)

    @property
    def nbytes(self) -> int:
        """All of it."""
        return sum(self.tensors.values()) + sum(self.around.values())


def count(stored: Iterable[Stored]) -> int:
    """Tensors that are stored beside the graph."""
    return sum(not one.literal for one in stored)
