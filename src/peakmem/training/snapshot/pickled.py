"""The plain values of a pickle: dictionaries, lists, tuples, texts and numbers, and nothing else.

A snapshot of torch's allocator holds no classes, so an opcode that names or calls something is refused here, where a
checkpoint's reader (`peakmem.frontends.checkpoint`) keeps it as a record. Nothing is imported and nothing called. Work
and memory are bounded by the bytes of the file: every opcode adds at most one value. Keys are texts and small whole
numbers, so that no file can choose keys that collide.

Opcodes are those of protocols 0 to 5 (Python's pickletools).
"""

from __future__ import annotations

import struct
from typing import Any

from peakmem.errors import FormatError

MOST_STEPS = 60_000_000
# opcodes of one pickle; an event takes about 20, with its frames up to 60
LONGEST_NUMBER = 16
# bytes of a whole number

_CALLS = {
    0x63: "GLOBAL", 0x93: "STACK_GLOBAL", 0x52: "REDUCE", 0x69: "INST", 0x6F: "OBJ", 0x81: "NEWOBJ", 0x92: "NEWOBJ_EX",
    0x62: "BUILD", 0x82: "EXT1", 0x83: "EXT2", 0x84: "EXT4", 0x50: "PERSID", 0x51: "BINPERSID",
}  # fmt: skip
_UNPACK_FLOAT = struct.Struct(">d").unpack_from


def load_plain(data: bytes) -> Any:
    """The value that the pickle in `data` holds.

    Raises:
        FormatError: truncated, no pickle, more than the bounds allow, or one that names or calls something.
    """
    reader = _Reader(data)
    try:
        return reader.load()
    except (IndexError, KeyError, struct.error, ValueError, TypeError, AttributeError, OverflowError) as fault:
        raise FormatError(
            f"the pickle is truncated or damaged at byte {min(reader.at, len(data)):,} ({type(fault).__name__})"
        ) from fault


class _Reader:
    __slots__ = ("at", "data", "marks", "memo", "stack")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        # heights of the stack at which marks stand
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        data, stack, memo, marks = self.data, self.stack, self.memo, self.marks
        at, size, steps = 0, len(self.data), 0
        while True:
            code = data[at]
            at += 1
            steps += 1
            # The opcodes that snapshots are made of come first.
            if code == 0x68:  # BINGET
                stack.append(memo[data[at]])
                at += 1
            elif code == 0x6A:  # LONG_BINGET
                stack.append(memo[int.from_bytes(data[at : at + 4], "little")])
                at += 4
            elif code == 0x4A:  # BININT
                stack.append(int.from_bytes(data[at : at + 4], "little", signed=True))
                at += 4
            elif code == 0x8A:  # LONG1
                count = data[at]
                if count > LONGEST_NUMBER:
                    raise ValueError
                stack.append(int.from_bytes(data[at + 1 : at + 1 + count], "little", signed=True))
                at += 1 + count
            elif code == 0x94:  # MEMOIZE
                memo[len(memo)] = stack[-1]
            elif code == 0x4B:  # BININT1
                stack.append(data[at])
                at += 1
            elif code == 0x4D:  # BININT2
                stack.append(data[at] | data[at + 1] << 8)
                at += 2
            elif code == 0x8C:  # SHORT_BINUNICODE
                stop = at + 1 + data[at]
                stack.append(data[at + 1 : stop].decode("utf-8", "replace"))
                at = stop
            elif code == 0x28:  # MARK
                marks.append(len(stack))
            elif code == 0x75:  # SETITEMS
                start = marks.pop()
                if start < 1:
                    raise ValueError
                _set(stack[start - 1], stack[start:])
                del stack[start:]
            elif code == 0x7D:  # EMPTY_DICT
                stack.append({})
            elif code == 0x71:  # BINPUT
                memo[data[at]] = stack[-1]
                at += 1
            elif code == 0x72:  # LONG_BINPUT
                memo[int.from_bytes(data[at : at + 4], "little")] = stack[-1]
                at += 4
            elif code == 0x65:  # APPENDS
                start = marks.pop()
                if start < 1 or type(stack[start - 1]) is not list:
                    raise ValueError
                stack[start - 1].extend(stack[start:])
                del stack[start:]
            elif code == 0x5D:  # EMPTY_LIST
                stack.append([])
            elif code == 0x58:  # BINUNICODE
                stop = at + 4 + int.from_bytes(data[at : at + 4], "little")
                stack.append(data[at + 4 : stop].decode("utf-8", "replace"))
                at = stop
            elif code == 0x95:  # FRAME
                at += 8
            elif code == 0x2E:  # STOP
                break
            elif code in _CALLS:
                self.at = at
                raise FormatError(
                    f"the pickle {self._named(code)}, and nothing it names is imported or called",
                    expected="the plain dictionaries, lists and numbers that torch.cuda.memory._dump_snapshot writes",
                )
            else:
                self.at = at
                self._rare(code)
                at = self.at
            if at > size or steps > MOST_STEPS:
                break
            self.at = at
        self.at = at
        if at > size:
            raise FormatError("the pickle is truncated", expected=f"more than {size:,} bytes")
        if steps > MOST_STEPS:
            raise FormatError(f"the pickle has more than {MOST_STEPS:,} opcodes")
        if len(stack) != 1 or marks:
            raise ValueError
        return stack[0]

    def _rare(self, code: int) -> None:
        stack, data, at = self.stack, self.data, self.at
        if code == 0x80:  # PROTO
            self.at += 1
        elif code in (0x85, 0x86, 0x87):  # TUPLE1, TUPLE2, TUPLE3
            count = code - 0x84
            if len(stack) - (self.marks[-1] if self.marks else 0) < count:
                raise ValueError
            stack[-count:] = [tuple(stack[-count:])]
        elif code in (0x74, 0x6C, 0x64):  # TUPLE, LIST, DICT
            start = self.marks.pop()
            items = stack[start:]
            del stack[start:]
            made: Any = tuple(items) if code == 0x74 else items
            if code == 0x64:
                made = {}
                _set(made, items)
            stack.append(made)
        elif code in (0x4E, 0x88, 0x89, 0x29):  # NONE, NEWTRUE, NEWFALSE, EMPTY_TUPLE
            stack.append({0x4E: None, 0x88: True, 0x89: False, 0x29: ()}[code])
        elif code == 0x61:  # APPEND
            value = stack.pop()
            if type(stack[-1]) is not list:
                raise ValueError
            stack[-1].append(value)
        elif code == 0x73:  # SETITEM
            pair = stack[-2:]
            del stack[-2:]
            _set(stack[-1], pair)
        elif code == 0x47:  # BINFLOAT
            stack.append(_UNPACK_FLOAT(data, at)[0])
            self.at += 8
        elif code == 0x8D:  # BINUNICODE8
            stop = at + 8 + int.from_bytes(data[at : at + 8], "little")
            stack.append(data[at + 8 : stop].decode("utf-8", "replace"))
            self.at = stop
        elif code in (0x55, 0x43, 0x54, 0x42):  # SHORT_BINSTRING, SHORT_BINBYTES, BINSTRING, BINBYTES
            width = 1 if code in (0x55, 0x43) else 4
            stop = at + width + int.from_bytes(data[at : at + width], "little")
            stack.append(data[at + width : stop].decode("latin-1"))
            self.at = stop
        elif code == 0x30:  # POP
            stack.pop()
        elif code == 0x32:  # DUP
            stack.append(stack[-1])
        elif code == 0x31:  # POP_MARK
            del stack[self.marks.pop() :]
        elif code in (0x49, 0x4C, 0x46, 0x56, 0x53, 0x70, 0x67):  # INT, LONG, FLOAT, UNICODE, STRING, PUT, GET
            self._line(code)
        else:
            raise FormatError(f"byte {at - 1:,} of the pickle, {code:#04x}, is no opcode of plain data")

    def _line(self, code: int) -> None:
        stop = self.data.index(b"\n", self.at)
        line = self.data[self.at : stop]
        self.at = stop + 1
        if code != 0x56 and code != 0x53 and len(line) > 4 * LONGEST_NUMBER:
            raise ValueError
        if code == 0x49 and line in (b"00", b"01"):  # how protocol 0 writes booleans
            self.stack.append(line == b"01")
        elif code in (0x49, 0x4C):
            self.stack.append(int(line.rstrip(b"L")))
        elif code == 0x46:
            self.stack.append(float(line))
        elif code == 0x56:
            self.stack.append(line.decode("raw-unicode-escape", "replace"))
        elif code == 0x53:
            self.stack.append(line[1:-1].decode("latin-1"))
        elif code == 0x70:
            self.memo[int(line)] = self.stack[-1]
        else:
            self.stack.append(self.memo[int(line)])

    def _named(self, code: int) -> str:
        """What an opcode that is refused would do, in words."""
        if code in (0x63, 0x69):
            module, name = [*self.data[self.at : self.at + 400].split(b"\n"), b"", b""][:2]
            return f"names {module.decode('utf-8', 'replace')}.{name.decode('utf-8', 'replace')}"
        if code == 0x93 and len(self.stack) > 1 and all(isinstance(part, str) for part in self.stack[-2:]):
            return f"names {self.stack[-2][:200]}.{self.stack[-1][:200]}"
        return f"holds {_CALLS[code]} at byte {self.at - 1:,}"


def _set(target: Any, items: list[Any]) -> None:
    if type(target) is not dict or len(items) % 2:
        raise ValueError
    for at in range(0, len(items), 2):
        key = items[at]
        if type(key) is not str and not (type(key) is int and -(1 << 63) <= key < 1 << 63):
            raise ValueError
        target[key] = items[at + 1]
