"""Zip archives as model files use them: members are found and read within bounds, never unpacked.

Nothing is written to disk, no member is read beyond what its reader asks for, and names that point
outside the archive are refused: a file that has them was not made by a model exporter.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import IO

from peakmem.errors import FormatError

MOST_MEMBERS = 1_000_000
LARGEST_DIRECTORY = 256 << 20
# bytes of the central directory
_END, _END64, _LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_FAULTS = (
    zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, NotImplementedError, RuntimeError, ValueError,
    UnicodeDecodeError,
)  # fmt: skip


class Archive:
    """A zip archive that is only looked into; use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            _check_directory(path)
            self._zip = zipfile.ZipFile(path)
        except _FAULTS as fault:
            raise FormatError(f"the zip archive is truncated or damaged ({fault})", where=str(path)) from fault
        self.members: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            name = info.filename
            if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name[:2]:
                self._zip.close()
                raise FormatError(f"the archive holds a member outside of itself, {name[:200]!r}", where=str(path))
            if name in self.members:
                self._zip.close()
                raise FormatError(f"the archive holds {name[:200]!r} twice", where=str(path))
            self.members[name] = info

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self.members

    def size(self, name: str) -> int:
        """Bytes of a member, unpacked, as the directory says."""
        return self.members[name].file_size

    def read(self, name: str, *, limit: int) -> bytes:
        """A whole member of at most `limit` bytes, unpacked.

        Raises:
            FormatError: no such member, a larger one, a damaged or encrypted one.
        """
        info = self.members.get(name)
        where = f"{self.path}!{name[:200]}"
        if info is None:
            raise FormatError(f"the archive holds no {name[:200]!r}", where=str(self.path))
        if info.file_size > limit:
            raise FormatError(f"{info.file_size:,} bytes", where=where, expected=f"at most {limit:,}")
        try:
            with self._zip.open(info) as file:
                # The directory may lie about the size: never unpack more than was allowed.
                data = file.read(limit + 1)
        except _FAULTS as fault:
            raise FormatError(f"the member is damaged ({fault})", where=where) from fault
        if len(data) > limit:
            raise FormatError("the member is larger than the archive says", where=where)
        return data

    def open(self, name: str) -> IO[bytes]:
        """A member as a stream; the caller bounds what it reads and handles damage."""
        return self._zip.open(self.members[name])


def _check_directory(path: Path) -> None:
    """Refuse a central directory that would not fit into memory before zipfile reads all of it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 65_557))
        tail = file.read(65_557)
        at = tail.rfind(_END)
        if at < 0 or len(tail) - at < 22:
            raise zipfile.BadZipFile("no end of central directory")
        count, nbytes = struct.unpack_from("<HI", tail, at + 10)
        locator = tail.rfind(_LOCATOR64, 0, at)
        if locator >= 0 and at - locator == 20:
            (where,) = struct.unpack_from("<Q", tail, locator + 8)
            if where + 56 <= size:
                file.seek(where)
                record = file.read(56)
                if record[:4] == _END64 and len(record) == 56:
                    count, nbytes = struct.unpack_from("<QQ", record, 32)
    if nbytes > LARGEST_DIRECTORY or count > MOST_MEMBERS:
        raise zipfile.BadZipFile(f"a directory of {nbytes:,} bytes and {count:,} members")
