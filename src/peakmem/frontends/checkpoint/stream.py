"""The bytes of a pickle or of what follows it, read on from where a file stands; nothing here knows an opcode."""

from __future__ import annotations

from typing import IO

from peakmem.errors import FormatError

LONGEST_LINE = 1 << 16
# bytes, as of a number in decimal digits
CHUNK = 1 << 16
# bytes read at a time


class Stream:
    """Bytes of a file from where it stands, in chunks; `limit` bytes at most."""

    def __init__(self, file: IO[bytes], limit: int, *, seekable: bool) -> None:
        self.file = file
        self.limit = limit
        self.seekable = seekable
        self.buffer = b""
        self.at = 0
        self.before = 0
        # bytes in front of the buffer

    @property
    def position(self) -> int:
        """Bytes consumed so far."""
        return self.before + self.at

    def take(self, count: int) -> bytes:
        """The next `count` bytes; the caller bounds `count`."""
        stop = self.at + count
        if stop > len(self.buffer):
            self._fill(count)
            stop = count
        data = self.buffer[self.at : stop]
        self.at = stop
        return data

    def line(self) -> bytes:
        """Bytes up to a newline, which is left out."""
        while True:
            stop = self.buffer.find(b"\n", self.at)
            if stop >= 0:
                data = self.buffer[self.at : stop]
                self.at = stop + 1
                return data
            held = len(self.buffer) - self.at
            if held > LONGEST_LINE:
                raise FormatError(f"the pickle holds a line of more than {LONGEST_LINE:,} bytes")
            self._fill(held + 1)

    def skip(self, count: int) -> None:
        """Step over `count` bytes without holding them."""
        held = len(self.buffer) - self.at
        if count <= held:
            self.at += count
            return
        count -= held
        self.before += len(self.buffer)
        self.buffer, self.at = b"", 0
        if self.before + count > self.limit:
            raise FormatError("the pickle is truncated", expected=f"{count:,} more bytes")
        if self.seekable:
            self.file.seek(count, 1)
            self.before += count
            return
        while count:
            data = self.file.read(min(count, CHUNK))
            if not data:
                raise FormatError("the pickle is truncated", expected=f"{count:,} more bytes")
            self.before += len(data)
            count -= len(data)

    def _fill(self, count: int) -> None:
        rest = self.buffer[self.at :]
        self.before += self.at
        more = min(max(count, CHUNK) - len(rest), self.limit - self.before - len(rest))
        data = self.file.read(more) if more > 0 else b""
        self.buffer, self.at = rest + data, 0
        if len(self.buffer) < count:
            raise FormatError("the pickle is truncated", expected="more opcodes, up to STOP")
