"""A file, or a part of one, read at any place: what is asked for and no more; nothing is kept."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from peakmem.errors import FormatError


class Section:
    """`size` bytes of a file from `start`; use it as a context manager."""

    def __init__(self, path: Path, start: int = 0, size: int | None = None) -> None:
        """
        Raises:
            FormatError: the file cannot be opened.
        """
        try:
            self._file: BinaryIO = path.open("rb", buffering=0)
        except OSError as fault:
            raise FormatError(f"cannot be read ({fault.strerror})", where=str(path)) from fault
        self.start = start
        self.size = self._file.seek(0, 2) - start if size is None else size

    def __enter__(self) -> Section:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def part(self, start: int, size: int) -> Section:
        """`size` bytes of it from `start`, over the same open file, which is closed with this one."""
        found = Section.__new__(Section)
        found._file, found.start, found.size = self._file, self.start + start, size
        return found

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def pread(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes at `offset`; fewer where the section or the file ends."""
        if offset < 0 or offset >= self.size:
            return b""
        self._file.seek(self.start + offset)
        left = min(count, self.size - offset)
        data = self._file.read(left) or b""
        if len(data) == left:
            return data
        parts = [data]
        while data and (left := left - len(data)) > 0:  # the system may give less than is asked for
            data = self._file.read(left) or b""
            parts.append(data)
        return b"".join(parts)
