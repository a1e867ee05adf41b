"""The index of a model that is spread over several files: which tensor stands in which of them.

Written by Hugging Face beside shards of safetensors and of PyTorch checkpoints. The files have to
lie beside the index; names that lead elsewhere are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from peakmem.errors import FormatError
from peakmem.frontends.bounded_json import parse_json
from peakmem.frontends.names import listed, shown

LARGEST_INDEX = 64 << 20
# bytes
MOST_SHARDS = 10_000


@dataclass(frozen=True, slots=True)
class Index:
    """What an index says."""

    path: Path
    where: Mapping[str, str]
    # the file of each tensor
    names: tuple[str, ...]
    # of all files, sorted
    total_bytes: int | None

    def check(self, held: Mapping[str, str], notes: list[str]) -> None:
        """Hold the file of each tensor, as found, against the index; extra tensors are noted.

        Raises:
            FormatError: a tensor is not in the file that the index names.
        """
        missing = [name for name, file in self.where.items() if held.get(name) != file]
        if missing:
            raise FormatError(
                f"{len(missing):,} tensors are not in the shard the index names: {listed(missing)}",
                where=str(self.path),
                expected=f"{shown(missing[0])} in {self.where[missing[0]]}",
            )
        extra = sorted(set(held) - set(self.where))
        if extra:
            notes.append(f"{len(extra):,} tensors stand in the shards and not in the index: {listed(extra)}")


def read_index(path: Path) -> Index:
    """The index at `path`, its files all there.

    Raises:
        FormatError: no index, a file outside the folder, a missing one.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_INDEX:
            raise FormatError(f"an index of {size:,} bytes", where=str(path), expected="at most 64 MiB")
        found = parse_json(path.read_bytes(), what="the index", where=str(path))
    except OSError as fault:
        raise FormatError(f"cannot be read ({fault.strerror})", where=str(path)) from fault
    where = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(where, dict) or not all(isinstance(value, str) for value in where.values()):
        raise FormatError("the index has no weight_map", where=str(path), expected="names of tensors and their files")
    names = tuple(sorted(set(where.values())))
    for name in names:
        plain = name not in ("", "..") and Path(name).name == name and "\\" not in name and name.isprintable()
        if not plain or len(name.encode()) > 255:
            raise FormatError(f"the index names the shard {shown(name)}", where=str(path), expected="a file beside it")
    if len(names) > MOST_SHARDS:
        raise FormatError(f"{len(names):,} shards", where=str(path), expected=f"at most {MOST_SHARDS:,}")
    lacking = [name for name in names if not path.with_name(name).is_file()]
    if lacking:
        raise FormatError(f"shards are missing: {listed(lacking)}", where=str(path), expected=f"{len(names)} shards")
    metadata = found.get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    total_bytes = int(total) if isinstance(total, int | float) and 0 <= total < 1 << 62 else None
    return Index(path, where, names, total_bytes)
