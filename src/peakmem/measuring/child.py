"""The measured process: a bare interpreter that starts an engine, marks phases and waits while it is looked at.

    python -S -P child.py WRITE READ

It is executed as a file and imports nothing of this package, so that what is in the process is the engine. On file
descriptor WRITE it tells what it does, one line of tab-separated fields each:

    mark   PHASE  mallinfo2's ten numbers  the counter's numbers   then it waits for a byte on READ
    port   NAME  DTYPE  SHAPE                                      an input; `ports` ends the list
    fact   NAME  VALUE                                             what the engine says of itself
    note   ID  NAME                                                an operator of the event list
    end    STATUS  REASON

On READ come first its orders (four bytes of length, then marshal), later for each input a path, and a byte for each
mark. All reading of /proc is done from outside: a process that looks at itself changes what it sees.
"""

from __future__ import annotations

import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Tell = Callable[..., None]
    Hear = Callable[[int], bytes]

MALLINFO = (
    "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
)  # fmt: skip
# the fields of mallinfo2, malloc.h of glibc 2.33 and later


class Unsupported(Exception):
    """The engine refuses the model, an operator or a setting."""


class Missing(Exception):
    """A library that the engine needs is not installed."""


class Tools:
    """What a runner may use: the wire to the measuring process."""

    Unsupported = Unsupported
    Missing = Missing

    def __init__(self, orders: dict[str, Any], tell: Tell, hear: Hear) -> None:
        self.scratch = orders["scratch"]
        # a folder of this process, removed afterwards
        self.instrumented = orders["instrumented"]
        self.folder = orders["folder"]
        # where the user stands: a module of theirs may lie there
        self.ports = orders["ports"]
        # (name, dtype, shape) of inputs as far as the user said
        self.timeline = orders["timeline"]
        # whether operators should be noted in the event list
        self._tell = tell
        self._hear = hear
        self._names: dict[str, int] = {}
        self._load_libc()

    def _load_libc(self) -> None:
        import ctypes

        class MallInfo2(ctypes.Structure):
            _fields_ = tuple((name, ctypes.c_size_t) for name in MALLINFO)

        self.libc = libc = ctypes.CDLL(None, use_errno=True)
        self._mallinfo2 = getattr(libc, "mallinfo2", None)
        if self._mallinfo2 is not None:
            self._mallinfo2.restype = MallInfo2
        self._counter = libc if self.instrumented and hasattr(libc, "peakmem_counter_read") else None
        self._numbers = (ctypes.c_longlong * 8)()
        self._fullest = (ctypes.c_longlong * 8)()

    def mark(self, phase: str) -> None:
        """Say that `phase` has ended and wait until it has been looked at."""
        counted = ""
        if self._counter is not None:
            self._counter.peakmem_counter_note(self._note("phase:" + phase))
            self._counter.peakmem_counter_read(self._numbers)
            self._counter.peakmem_counter_fullest(self._fullest)
            counted = ",".join(map(str, (*self._numbers, *self._fullest)))
        heap = ""
        if self._mallinfo2 is not None:
            info = self._mallinfo2()
            heap = ",".join(str(getattr(info, name)) for name in MALLINFO)
        self._tell("mark", phase, heap, counted)
        self._hear(1)
        if self._counter is not None:
            self._counter.peakmem_counter_reset()

    def fact(self, name: str, value: object) -> None:
        """Report what the engine says of itself."""
        self._tell("fact", name, str(value))

    def note(self, operator: str) -> None:
        """Write into the event list that `operator` begins; nothing without the counter."""
        if self._counter is not None:
            self._counter.peakmem_counter_note(self._note(operator))

    def _note(self, name: str) -> int:
        number = self._names.get(name)
        if number is None:
            number = self._names[name] = len(self._names) + 1
            self._tell("note", str(number), name)
        return number

    def output(self) -> str:
        """What the process wrote on its standard output and error so far."""
        sys.stdout.flush()
        sys.stderr.flush()
        self.libc.fflush(None)
        with open(os.path.join(self.scratch, "output"), encoding="utf-8", errors="replace") as file:
            return file.read()


def main(write: int, read: int) -> None:
    """Carry out the orders that come on `read`, and end the process."""

    def tell(*fields: str) -> None:
        line = "\t".join(map(escaped, fields))
        data = (line + "\n").encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(write, data) :]

    def hear(count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = os.read(read, count - len(data))
            if not piece:
                os._exit(3)
                # nobody is there any more
            data += piece
        return data

    orders = marshal.loads(hear(int.from_bytes(hear(4), "little")))
    try:
        confine(orders, tell)
        tools = Tools(orders, tell, hear)
        sys.path[:] = orders["path"]
        sys.argv = [""]
        space: dict[str, Any] = {"__name__": "runner", "__file__": orders["runner"]}
        with open(orders["runner"], encoding="utf-8") as file:
            exec(compile(file.read(), orders["runner"], "exec"), space)
        runner = space["Runner"](orders["settings"], tools)
        measure(runner, orders, tools, tell, hear)
    except BaseException as fault:
        tell("end", status_of(fault), sentence(fault))
    else:
        tell("end", "ok", "")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
    # not through the destructors of engines: what they do at exit is not measured


def confine(orders: dict[str, Any], tell: Tell) -> None:
    """Limits of the process: it dies with its parent, has no network where the system allows, and so much memory."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(1, 9, 0, 0, 0)
    # PR_SET_PDEATHSIG, SIGKILL
    if os.getppid() != orders["parent"]:
        os._exit(3)
    cut = libc.unshare(0x40000000) == 0 or libc.unshare(0x10000000 | 0x40000000) == 0
    # CLONE_NEWNET, with CLONE_NEWUSER where the first needs a privilege
    tell("fact", "network", "cut off" if cut else "not cut off by the system, telemetry switched off by settings")
    fixed = libc.personality(0xFFFFFFFF) & 0x0040000
    tell("fact", "addresses", "the same in every process" if fixed else "drawn anew for every process")
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (orders["file_limit"],) * 2)
    if orders["data_limit"]:
        resource.setrlimit(resource.RLIMIT_DATA, (orders["data_limit"],) * 2)


def measure(runner: Any, orders: dict[str, Any], tools: Tools, tell: Tell, hear: Hear) -> None:
    """The phases, one after the other."""
    tools.mark("interpreter")
    runner.start()
    tools.mark("import")
    ports = runner.load(orders["model"])
    tools.mark("load")
    values = []
    for name, dtype, shape in ports:
        tell("port", name, dtype, "?" if shape is None else ",".join(map(str, shape)))
    tell("ports")
    for _ in ports:
        name, dtype, shape, path = marshal.loads(hear(int.from_bytes(hear(4), "little")))
        values.append((name, tuple(shape), dtype, contents(path)))
    runner.feed(values)
    del values
    tools.mark("inputs")
    for number in range(1, orders["runs"] + 1):
        runner.run()
        tools.mark(f"run {number}")
    runner.release()
    tools.mark("release")


def contents(path: str) -> bytearray:
    """A file's bytes, held once and by nobody else."""
    data = bytearray(os.path.getsize(path))
    with open(path, "rb", buffering=0) as file:
        view = memoryview(data)
        while view:
            count = file.readinto(view)
            if not count:
                raise EOFError("an input ends before its last byte")
            view = view[count:]
    return data


def escaped(field: str) -> str:
    """A field without the characters that end it."""
    return field.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def status_of(fault: BaseException) -> str:
    """What kind of end an exception is; engines say in many words that an allocation failed."""
    said = str(fault)
    if isinstance(fault, MemoryError) or any(sign in said for sign in ("bad_alloc", "llocate memory", "out of memory")):
        return "out of memory"
    if isinstance(fault, Unsupported | NotImplementedError):
        return "unsupported"
    if isinstance(fault, Missing | ModuleNotFoundError):
        return "missing"
    return "denied" if isinstance(fault, PermissionError) else "failed"


def sentence(fault: BaseException) -> str:
    """An exception as one line, its kind first unless it is one of ours."""
    text = " ".join(str(fault).split())[:2000]
    if isinstance(fault, Unsupported | Missing):
        return text
    if isinstance(fault, MemoryError):
        return text or "an allocation failed"
    return f"{type(fault).__name__}: {text}" if text else f"it ended with {type(fault).__name__} and no words"


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
