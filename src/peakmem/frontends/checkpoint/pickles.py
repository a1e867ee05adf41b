"""A pickle as plain records: its opcodes are followed, nothing it names is imported, nothing is called.

Classes and functions stay names (`Global`), what would be called or instantiated becomes a `Record`
of name, arguments and state, dictionaries become lists of pairs (no key from a file is ever hashed).
Bytes, texts and numbers beyond a bound are stepped over. Work and memory are bounded by `MOST_STEPS`
and by what is kept, however the pickle refers to itself.

Opcodes are those of protocols 0 to 5 (Python's pickletools).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from peakmem.errors import FormatError
from peakmem.frontends.checkpoint.stream import Stream

MOST_STEPS = 2_000_000
# opcodes of one pickle; a tensor of a checkpoint takes about 40
LONGEST_TEXT = 1 << 16
MOST_KEPT = 48 << 20
# bytes of texts, numbers and byte strings that are kept, of one and of all
LONGEST_NUMBER = 64
# bytes of a whole number
MOST_MEMO = 1 << 32


class Global:
    """A class or function that the pickle names and nobody imports."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Record:
    """What a pickle would have called or instantiated."""

    __slots__ = ("args", "entries", "items", "of", "state")

    def __init__(self, of: Any, args: Any) -> None:
        self.of = of
        # a Global, or another record
        self.args = args
        self.state: Any = None
        # what BUILD hands to __setstate__
        self.items: list[tuple[Any, Any]] | None = None
        # pairs set on a dict of this class
        self.entries: list[Any] | None = None
        # what a list of this class was extended by


class Table:
    """A dictionary, as pairs in the order they were set."""

    __slots__ = ("items",)

    def __init__(self, items: list[tuple[Any, Any]] | None = None) -> None:
        self.items = items


class Persistent:
    """A reference to something beside the pickle, such as a storage."""

    __slots__ = ("key",)

    def __init__(self, key: Any) -> None:
        self.key = key


class Blob:
    """Bytes, or a text or number too long to keep."""

    __slots__ = ("data", "nbytes", "position")

    def __init__(self, nbytes: int, position: int, data: bytes | None = None) -> None:
        self.nbytes = nbytes
        self.position = position
        # in the stream the pickle came from
        self.data = data


class _Mark:
    __slots__ = ()


_MARK = _Mark()
_DICTS = frozenset(
    ("collections.OrderedDict", "collections.defaultdict", "collections.Counter", "builtins.dict", "__builtin__.dict")
)
_LISTS = frozenset(
    f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("set", "frozenset", "list", "tuple")
) | {"collections.deque"}


class Unpickler:
    """Follows one pickle; `globals` collects what it names, `references` what stands beside it."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.globals: dict[tuple[str, str], Global] = {}
        self.references: list[Persistent] = []
        self.kept = 0
        self.copied = 0

    def load(self) -> Any:
        """The object of the pickle, in records.

        Raises:
            FormatError: truncated, no pickle, or more than the bounds allow.
        """
        take, handlers = self.stream.take, _HANDLERS
        steps = 0
        try:
            while True:
                steps += 1
                if steps > MOST_STEPS:
                    raise FormatError(f"the pickle has more than {MOST_STEPS:,} opcodes")
                code = take(1)[0]
                if code == 0x2E:  # STOP
                    return self.pop()
                handler = handlers[code]
                if handler is None:
                    raise FormatError(f"byte {self.stream.position - 1:,} of the pickle, {code:#04x}, is no opcode")
                handler(self)
        except (IndexError, struct.error, ValueError, OverflowError, AttributeError, TypeError) as fault:
            raise FormatError(f"the pickle is damaged at byte {self.stream.position:,} ({fault})") from fault

    # -- the stack -----------------------------------------------------------------------

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise FormatError(f"the pickle is damaged at byte {self.stream.position:,}: it pops a mark")
        return value

    def pop_mark(self) -> list[Any]:
        """What stands above the last mark."""
        stack = self.stack
        at = len(stack) - 1
        while stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise FormatError(f"the pickle is damaged at byte {self.stream.position:,}: there is no mark")
        items = stack[at + 1 :]
        del stack[at:]
        return items

    def keep(self, count: int) -> bytes | None:
        """The next `count` bytes, or None after stepping over them where they are too many."""
        self.kept += min(count, LONGEST_TEXT)
        if count > LONGEST_TEXT or self.kept > MOST_KEPT:
            self.stream.skip(count)
            return None
        return self.stream.take(count)

    def number(self, layout: str) -> int:
        value: int = struct.unpack(layout, self.stream.take(struct.calcsize(layout)))[0]
        if value < 0:
            raise FormatError(f"the pickle is damaged at byte {self.stream.position:,}: a length of {value}")
        return value

    def text(self, count: int, encoding: str) -> None:
        position = self.stream.position
        data = self.keep(count)
        self.stack.append(Blob(count, position) if data is None else data.decode(encoding, "replace"))

    def blob(self, count: int) -> None:
        position = self.stream.position
        self.stack.append(Blob(count, position, self.keep(count)))

    def whole(self, count: int) -> None:
        position = self.stream.position
        if count > LONGEST_NUMBER:
            self.stream.skip(count)
            self.stack.append(Blob(count, position))
        else:
            self.stack.append(int.from_bytes(self.stream.take(count), "little", signed=True))

    # -- numbers and texts written as lines ----------------------------------------------

    def decimal(self) -> None:
        line = self.stream.line().rstrip(b"L")
        if line in (b"00", b"01"):  # how protocol 0 writes booleans
            self.stack.append(line == b"01")
        elif len(line) > 4 * LONGEST_NUMBER:
            self.stack.append(Blob(len(line), self.stream.position))
        else:
            self.stack.append(int(line))

    def quoted(self) -> None:
        line = self.stream.line().strip()
        self.kept += len(line)
        self.stack.append(line[1:-1].decode("latin-1") if self.kept < MOST_KEPT else Blob(len(line), 0))

    def unicode_line(self) -> None:
        line = self.stream.line()
        self.kept += len(line)
        self.stack.append(line.decode("raw-unicode-escape", "replace") if self.kept < MOST_KEPT else Blob(len(line), 0))

    # -- names and calls -----------------------------------------------------------------

    def named(self, module: Any, name: Any) -> Global:
        if not isinstance(module, str) or not isinstance(name, str):
            raise FormatError(f"the pickle is damaged at byte {self.stream.position:,}: a global without a name")
        return self.globals.setdefault((module, name), Global(module, name))

    def global_line(self) -> None:
        module, name = (self.stream.line().decode("utf-8", "replace") for _ in range(2))
        self.kept += len(module) + len(name)
        if self.kept > MOST_KEPT:
            raise FormatError("the pickle names too many globals")
        self.stack.append(self.named(module, name))

    def stack_global(self) -> None:
        name = self.pop()
        self.stack.append(self.named(self.pop(), name))

    def extension(self, layout: str) -> None:
        self.stack.append(self.named("copyreg", f"extension {self.number(layout)}"))

    def made(self, of: Any, args: Any) -> Any:
        """What calling `of` would have given, for the few containers of Python itself, else a record."""
        called = str(of) if isinstance(of, Global) else ""
        if called in _DICTS:
            first = args[-1] if isinstance(args, tuple) and args else None
            if not isinstance(first, list) or not first:
                return Table()
            self.afford(len(first))
            return Table([(pair[0], pair[1]) for pair in first if isinstance(pair, list | tuple) and len(pair) == 2])
        if called in _LISTS:
            first = args[0] if isinstance(args, tuple) and args else None
            return first if isinstance(first, list | tuple) else []
        if called in ("copyreg._reconstructor", "copy_reg._reconstructor") and isinstance(args, tuple) and args:
            return Record(args[0], args[1:])
        return Record(of, args)

    def afford(self, count: int) -> None:
        """Count `count` copied items as opcodes: the same list may be copied again and again."""
        self.copied += count
        if self.copied > MOST_STEPS:
            raise FormatError(f"the pickle copies more than {MOST_STEPS:,} items")

    def reduce(self) -> None:
        args = self.pop()
        self.stack.append(self.made(self.pop(), args))

    def new_with_keywords(self) -> None:
        self.pop()
        self.reduce()

    def instance(self) -> None:
        module, name = (self.stream.line().decode("utf-8", "replace") for _ in range(2))
        args = tuple(self.pop_mark())
        self.stack.append(self.made(self.named(module, name), args))

    def object(self) -> None:
        items = self.pop_mark()
        self.stack.append(self.made(items[0], tuple(items[1:])))

    def build(self) -> None:
        state = self.pop()
        target = self.stack[-1]
        if isinstance(target, Record):
            target.state = state

    def refer(self, key: Any) -> None:
        reference = Persistent(key)
        self.references.append(reference)
        self.stack.append(reference)

    # -- containers ----------------------------------------------------------------------

    def set_items(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Record | Table):
            if target.items is None:
                target.items = []
            target.items.extend(zip(pairs[::2], pairs[1::2], strict=True))

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Record):
            if target.entries is None:
                target.entries = []
            target.entries.extend(items)
        elif isinstance(target, list):
            target.extend(items)

    def table(self) -> None:
        items = self.pop_mark()
        self.stack.append(Table(list(zip(items[::2], items[1::2], strict=True))))

    def set_item(self) -> None:
        value = self.pop()
        self.set_items([self.pop(), value])

    def append(self) -> None:
        value = self.pop()
        self.extend([value])

    def some(self, count: int) -> None:
        items = self.stack[-count:]
        if len(items) != count or _MARK in items:
            raise FormatError(f"the pickle is damaged at byte {self.stream.position:,}: a tuple of too few")
        self.stack[-count:] = [tuple(items)]

    def read_only(self) -> None:
        """READONLY_BUFFER changes nothing that matters here."""

    def pop_any(self) -> None:
        self.stack.pop()

    # -- the memo ------------------------------------------------------------------------

    def put(self, at: int) -> None:
        if not 0 <= at < MOST_MEMO:
            raise FormatError(f"the pickle is damaged at byte {self.stream.position:,}: memo {at}")
        value = self.stack[-1]
        if value is _MARK:
            raise FormatError(f"the pickle is damaged at byte {self.stream.position:,}: it keeps a mark")
        self.memo[at] = value

    def get(self, at: int) -> None:
        if at not in self.memo:
            raise FormatError(f"the pickle is damaged at byte {self.stream.position:,}: memo {at} was never set")
        self.stack.append(self.memo[at])


def _handlers() -> list[Callable[[Unpickler], None] | None]:
    """What each opcode does, by its byte."""

    def put(value: Callable[[], Any]) -> Callable[[Unpickler], None]:
        return lambda at: at.stack.append(value())

    def real(at: Unpickler) -> None:
        at.stack.append(struct.unpack(">d", at.stream.take(8))[0])

    table: dict[bytes, Callable[[Unpickler], None]] = {
        b"(": lambda at: at.stack.append(_MARK),
        b"0": Unpickler.pop_any,
        b"1": lambda at: (at.pop_mark(), None)[1],
        b"2": lambda at: at.stack.append(at.stack[-1]),
        b"N": put(lambda: None), b"\x88": put(lambda: True), b"\x89": put(lambda: False),
        b"I": Unpickler.decimal, b"L": Unpickler.decimal,
        b"J": lambda at: at.stack.append(struct.unpack("<i", at.stream.take(4))[0]),
        b"K": lambda at: at.stack.append(at.stream.take(1)[0]),
        b"M": lambda at: at.stack.append(at.number("<H")),
        b"\x8a": lambda at: at.whole(at.number("<B")), b"\x8b": lambda at: at.whole(at.number("<i")),
        b"F": lambda at: at.stack.append(float(at.stream.line())), b"G": real,
        b"S": Unpickler.quoted, b"V": Unpickler.unicode_line,
        b"T": lambda at: at.text(at.number("<i"), "latin-1"), b"U": lambda at: at.text(at.number("<B"), "latin-1"),
        b"X": lambda at: at.text(at.number("<I"), "utf-8"), b"\x8c": lambda at: at.text(at.number("<B"), "utf-8"),
        b"\x8d": lambda at: at.text(at.number("<Q"), "utf-8"),
        b"B": lambda at: at.blob(at.number("<I")), b"C": lambda at: at.blob(at.number("<B")),
        b"\x8e": lambda at: at.blob(at.number("<Q")), b"\x96": lambda at: at.blob(at.number("<Q")),
        b"\x97": put(lambda: Blob(0, 0)), b"\x98": Unpickler.read_only,
        b"]": put(list), b"\x8f": put(list), b")": put(tuple), b"}": put(Table),
        b"l": lambda at: at.stack.append(at.pop_mark()), b"t": lambda at: at.stack.append(tuple(at.pop_mark())),
        b"\x91": lambda at: at.stack.append(at.pop_mark()), b"d": Unpickler.table,
        b"\x85": lambda at: at.some(1), b"\x86": lambda at: at.some(2), b"\x87": lambda at: at.some(3),
        b"a": Unpickler.append, b"e": lambda at: at.extend(at.pop_mark()), b"\x90": lambda at: at.extend(at.pop_mark()),
        b"s": Unpickler.set_item, b"u": lambda at: at.set_items(at.pop_mark()),
        b"c": Unpickler.global_line, b"\x93": Unpickler.stack_global,
        b"R": Unpickler.reduce, b"\x81": Unpickler.reduce, b"\x92": Unpickler.new_with_keywords,
        b"i": Unpickler.instance, b"o": Unpickler.object, b"b": Unpickler.build,
        b"P": lambda at: at.refer(at.stream.line().decode("utf-8", "replace")), b"Q": lambda at: at.refer(at.pop()),
        b"p": lambda at: at.put(int(at.stream.line())), b"q": lambda at: at.put(at.number("<B")),
        b"r": lambda at: at.put(at.number("<I")), b"\x94": lambda at: at.put(len(at.memo)),
        b"g": lambda at: at.get(int(at.stream.line())), b"h": lambda at: at.get(at.number("<B")),
        b"j": lambda at: at.get(at.number("<I")),
        b"\x82": lambda at: at.extension("<B"), b"\x83": lambda at: at.extension("<H"),
        b"\x84": lambda at: at.extension("<i"),
        b"\x80": lambda at: (at.stream.take(1), None)[1], b"\x95": lambda at: (at.stream.take(8), None)[1],
    }  # fmt: skip
    return [table.get(bytes((code,))) for code in range(256)]


_HANDLERS = _handlers()
