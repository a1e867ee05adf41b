"""The report on sizes of model files: frozen data that renderers read and JSON carries. Nothing is computed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from peakmem._version import __version__

SCHEMA = "peakmem.file_size/1"
Kind = Literal["exact", "estimate"]
# exact: the writer writes nothing that does not follow from the graph; estimate: names or the writer's choices move it


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of one kind within a file."""

    name: str
    # tensors: "weights", "biases", "norms", "statistics", "quantisation", "other constants";
    # around them: "graph", "names and shapes", "header", "padding"
    nbytes: int
    tensors: int = 0
    # how many are counted here


@dataclass(frozen=True, slots=True)
class FileSize:
    """The size that a model file of one format would have."""

    name: str
    format: str
    dtype: str
    # what floating weights are stored as; "stored" for as they are
    folded: bool
    # batch norms are part of the convolutions in front of them
    batch_norms: int
    # that were folded, or would be
    writer: str
    # whose file it is
    nbytes: int
    kind: Kind
    low_bytes: int
    high_bytes: int
    # bounds; nbytes where it is exact
    tensor_bytes: int
    # contents of tensors alone
    parts: tuple[Part, ...]
    # adds up to nbytes
    files: tuple[Part, ...] = ()
    # where a model is several files, by their endings; adds up to nbytes
    notes: tuple[str, ...] = ()

    @property
    def around_bytes(self) -> int:
        """Bytes that are no content of a tensor: description, header, padding."""
        return self.nbytes - self.tensor_bytes

    def part(self, name: str) -> int:
        """Bytes of the part called `name`; 0 where there is none."""
        return sum(part.nbytes for part in self.parts if part.name == name)


@dataclass(frozen=True, slots=True)
class FileSizes:
    """One network in several formats and dtypes."""

    name: str
    source: str
    parameters: int
    # trainable ones, as papers count
    sizes: tuple[FileSize, ...]
    refused: tuple[str, ...] = ()
    # formats that cannot be written at a dtype, one sentence each
    notes: tuple[str, ...] = ()
    peakmem: str = __version__
    schema: str = SCHEMA

    def to_json(self) -> str:
        """All of it as indented JSON."""
        import msgspec

        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()
