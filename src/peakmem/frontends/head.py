"""What a front end may look at to recognise a file: its first bytes, its name, what lies around it.

Whose file it is, is not decided here; damage makes a listing empty and is left to the reader to tell.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

from peakmem.errors import FormatError, PeakmemError

HEAD_BYTES = 4096
ZIP = b"PK\x03\x04"
# how zip archives begin
LARGEST_JSON = 64 << 20
# bytes; a larger JSON file is not parsed to find out what it is


class Head:
    """The beginning of a file, or a folder."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            FormatError: no such file, or something that is neither a regular file nor a folder.
        """
        self.path = path
        where = str(path)
        self.data = b""
        self.size = 0
        try:
            status = path.stat()
            self.is_folder = S_ISDIR(status.st_mode)
            if self.is_folder:
                return
            if not S_ISREG(status.st_mode):
                # A pipe or a device may have no end; it is not even opened.
                raise FormatError("this is not a regular file", where=where, expected="a model file such as model.onnx")
            self.size = status.st_size
            with path.open("rb") as file:
                self.data = file.read(HEAD_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            raise FormatError(
                "there is no such file", where=where, expected="a model file or a built-in network"
            ) from None
        except (OSError, ValueError) as fault:
            reason = getattr(fault, "strerror", None) or str(fault)
            raise FormatError(f"cannot be read ({reason})", where=where) from fault

    @property
    def suffix(self) -> str:
        """The suffix of the name in lower case, with its dot."""
        return self.path.suffix.lower()

    def has(self, name: str) -> bool:
        """Whether a folder holds a file of that name."""
        return self.is_folder and (self.path / name).is_file()

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Names of the files in a folder, sorted."""
        if not self.is_folder:
            return ()
        try:
            return tuple(sorted(entry.name for entry in self.path.iterdir() if entry.is_file()))
        except OSError as fault:
            raise FormatError(f"cannot be listed ({fault.strerror})", where=str(self.path)) from fault

    @cached_property
    def members(self) -> tuple[str, ...]:
        """Names in a zip archive; empty for anything else, a damaged archive included."""
        if not self.data.startswith(ZIP):
            return ()
        from peakmem.frontends.archive import Archive

        try:
            with Archive(self.path) as archive:
                return tuple(archive.members)
        except PeakmemError:
            return ()

    @cached_property
    def json(self) -> Any:
        """The content of a JSON file of moderate size; None for anything else."""
        if not self.data.lstrip().startswith((b"{", b"[")) or self.size > LARGEST_JSON:
            return None
        from peakmem.frontends.bounded_json import parse_json

        try:
            return parse_json(self.path.read_bytes(), what="the file")
        except (PeakmemError, OSError):
            return None

    @cached_property
    def text(self) -> str:
        """The first bytes as text; empty when they are not text."""
        data = self.data
        if b"\0" in data:
            return ""
        for cut in range(4):  # a character may be cut at the end
            try:
                return data[: len(data) - cut].decode("utf-8-sig")
            except UnicodeDecodeError:
                continue
        return ""
