"""Start a process, follow its marks, read it from outside, end it: one Run, whatever happens in it.

Nothing of the process outlives this module's `run_process`: its group is killed, a grandchild that left the group is
found by a variable of its environment, its folder is removed.
"""

from __future__ import annotations

import json
import marshal
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from peakmem.errors import Denied, Ended, FormatError, PeakmemError
from peakmem.measuring import mappings, probes
from peakmem.measuring.counter import build, log
from peakmem.measuring.ending import GRACE, end_process, network_of
from peakmem.measuring.engine import Engine
from peakmem.measuring.environment import environment, fixed_addresses
from peakmem.measuring.inputs import Given, Port, prepare
from peakmem.measuring.record import Counted, Fullest, Heap, InputUsed, Mark, Outcome, Run, Value
from peakmem.measuring.scratch import scratch_folder
from peakmem.measuring.timeline import timeline_of

CHILD = Path(__file__).with_name("child.py")
LONGEST_LINE = 2**20
# bytes of the wire; a longer one is garbage
OUTPUT_KEPT = 4000
# characters of what the process wrote
LARGEST_FILE = 2**32
# bytes that the process may write into one file
LARGEST_LIMIT = 2**63 - 1
# bytes that a limit can be, more than any address space

STATUSES = frozenset({"ok", "failed", "crashed", "timeout", "out of memory", "unsupported", "missing", "denied"})
# how a process may say that it ended
STARVED = ("bad_alloc", "allocate memory", "memory allocation", "memoryerror", "out of memory")
# what libraries write when an allocation fails, in small letters
_MALLINFO = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


@dataclass(frozen=True, slots=True)
class Order:
    """What one process is to do."""

    engine: Engine
    model: str
    settings: Mapping[str, Value]
    # all of them
    runs: int = 3
    given: Given = field(default_factory=Given)
    # inputs and shapes of the user
    ports: tuple[Port, ...] = ()
    # what is known of the inputs where the engine cannot tell
    instrumented: bool = False
    timeline: bool = False
    timeout: float = 600.0
    # seconds, from start to end
    memory_limit: int = 0
    # bytes of private writable memory (RLIMIT_DATA); 0 for none
    events: Path | None = None
    # a folder that keeps the event list


@dataclass(slots=True)
class _Process:
    """What is known of the process while it runs."""

    pid: int
    phase: str = "start"
    began: float = 0.0
    hwm_reset: bool = True
    marks: list[Mark] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    ports: list[Port] = field(default_factory=list)
    used: tuple[InputUsed, ...] = ()
    maps: str = ""
    network: str = ""
    # the network of its own, once it is cut off
    ended: Outcome | None = None


def run_process(order: Order) -> Run:
    """Carry out `order` in a process of its own.

    Raises:
        UsageError: the user's inputs do not fit the network.
        PeakmemError: the process cannot be started at all.
    """
    preload = ""
    if order.instrumented:
        counter = build.find_counter()
        if counter.path is None:
            return Run(True, Outcome("missing", f"no allocation counter: {counter.reason}", "start"), (), {})
        preload = str(counter.path)
    with scratch_folder() as scratch:
        return _follow(order, scratch, preload)


def _follow(order: Order, scratch: Path, preload: str) -> Run:
    token = secrets.token_hex(16)
    events = scratch / "events"
    wire_read, wire_write = os.pipe()
    answer_read, answer_write = os.pipe()
    command = [sys.executable, "-S", "-P", "-s", "-B", str(CHILD), f"{wire_write:04d}", f"{answer_read:04d}"]
    variables = environment(
        order.engine, order.settings, scratch=str(scratch), token=token, preload=preload,
        log=str(events) if preload else "", arguments=command,
    )  # fmt: skip
    try:
        with (scratch / "output").open("wb") as output, fixed_addresses():
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=scratch, env=variables,
                pass_fds=(wire_write, answer_read), start_new_session=True,
            )  # fmt: skip
    except OSError as fault:
        for end in (wire_read, wire_write, answer_read, answer_write):
            os.close(end)
        return Run(order.instrumented, Outcome("failed", f"the process did not start: {fault}", "start"), (), {})
    os.close(wire_write)
    os.close(answer_read)
    process = _Process(child.pid, began=time.monotonic())
    try:
        try:
            _send(answer_write, _orders(order, scratch))
            outcome = _listen(order, process, wire_read, answer_write, scratch)
        except Ended:
            outcome = None
        except BrokenPipeError:
            alive = child.poll() is None
            outcome = Outcome("crashed", "it closed its connection to us", process.phase) if alive else None
        except PeakmemError as fault:
            if not isinstance(fault, Denied):
                raise
            outcome = Outcome("denied", str(fault), process.phase)
        except OSError as fault:
            outcome = Outcome("failed", f"{fault.strerror} ({fault.filename or 'pipe'})", process.phase)
        good = outcome is not None and outcome.status == "ok"
        code = end_process(child, token, network=process.network, patience=GRACE if good else 0.0)
    except BaseException:
        end_process(child, token, network=process.network)
        raise
    finally:
        os.close(wire_read)
        os.close(answer_write)
    text = _tail(scratch / "output")
    if outcome is None:
        outcome = _died(code, process, text, order)
    run = Run(order.instrumented, outcome, tuple(process.marks), process.facts, text, inputs=process.used)
    return _with_events(run, order, process, events, token) if preload else run


def _orders(order: Order, scratch: Path) -> bytes:
    path = [str(Path(entry).resolve()) for entry in sys.path if entry]
    model = str(Path(order.model).resolve()) if Path(order.model).exists() else order.model
    # the process stands in its own folder; package.module:factory stays as it is
    return _framed(
        {
            "runner": str(order.engine.path), "model": model, "settings": dict(order.settings),
            "runs": order.runs, "scratch": str(scratch), "instrumented": order.instrumented,
            "timeline": order.timeline, "path": path, "folder": _standing(scratch), "parent": os.getpid(),
            "data_limit": min(order.memory_limit, LARGEST_LIMIT), "file_limit": LARGEST_FILE,
            "ports": [(port.name, port.dtype, port.shape) for port in order.ports],
        }
    )  # fmt: skip


def _standing(otherwise: Path) -> str:
    """Where the user stands; a folder that was removed is nowhere."""
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return str(otherwise)


def _framed(value: Any) -> bytes:
    data = marshal.dumps(value)
    return len(data).to_bytes(4, "little") + data


def _send(end: int, data: bytes) -> None:
    while data:
        data = data[os.write(end, data) :]


def _listen(order: Order, process: _Process, wire: int, answer: int, scratch: Path) -> Outcome | None:
    """Follow the process until it says that it ends; None when it is gone without a word."""
    deadline = time.monotonic() + order.timeout
    watch = os.pidfd_open(process.pid)
    buffer = b""
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(wire, selectors.EVENT_READ)
            selector.register(watch, selectors.EVENT_READ)
            while process.ended is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return Outcome("timeout", f"no end after {order.timeout:g} s", process.phase)
                ready = {key.fd for key, _ in selector.select(left)}
                if wire in ready:
                    piece = os.read(wire, 65536)
                    if not piece:
                        selector.unregister(wire)
                        # closed by an engine; the process itself will end or run into the deadline
                    buffer += piece
                    *lines, buffer = buffer.split(b"\n")
                    if len(buffer) > LONGEST_LINE:
                        return Outcome("failed", "garbage on the wire of the process", process.phase)
                    for line in lines:
                        _hear(line, order, process, answer, scratch)
                elif watch in ready:
                    return None
    finally:
        os.close(watch)
    return process.ended


def _hear(line: bytes, order: Order, process: _Process, answer: int, scratch: Path) -> None:
    verb, *fields = (_unescape(field) for field in line.decode("utf-8", "replace").split("\t"))
    try:
        if verb == "mark":
            phase, heap, counted = fields
            process.marks.append(_look(order, process, phase, heap, counted))
            process.phase = _next(phase, loaded=any(mark.phase == "load" for mark in process.marks))
            process.began = time.monotonic()
            _send(answer, b"!")
        elif verb == "fact":
            name, value = fields
            process.facts[name] = value
        elif verb == "note":
            number, name = fields
            process.names[int(number)] = name
        elif verb == "port":
            name, dtype, shape = fields
            known = None if shape == "?" else tuple(int(dim) for dim in shape.split(",") if dim)
            process.ports.append(Port(name, dtype, known))
        elif verb == "ports":
            files = prepare(process.ports, order.ports, order.given, scratch)
            process.used = tuple(InputUsed(one.name, one.shape, one.dtype, one.source) for one in files)
            for one in files:
                _send(answer, _framed((one.name, one.dtype, one.shape, str(one.path))))
        elif verb == "end":
            status, reason = fields
            if status not in STATUSES:
                raise ValueError(status)
            if status == "out of memory" and order.memory_limit:
                reason = f"{reason or 'an allocation failed'} under a limit of {order.memory_limit:,} B"
            process.ended = Outcome(status, reason, "" if status == "ok" else process.phase)  # type: ignore[arg-type]
    except ValueError:
        raise OSError(0, f"garbage on the wire of the process: {line[:80]!r}") from None


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    pieces = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}
    out, at = [], 0
    while at < len(text):
        pair = text[at : at + 2]
        out.append(pieces.get(pair, text[at]))
        at += 2 if pair in pieces else 1
    return "".join(out)


def _next(phase: str, *, loaded: bool) -> str:
    """What comes after `phase`, for a reason that names it; engines set marks of their own while they load."""
    follows = {"interpreter": "import", "load": "inputs", "inputs": "run 1"}
    if phase in follows:
        return follows[phase]
    return f"after {phase}" if loaded else "load"


def _look(order: Order, process: _Process, phase: str, heap: str, counted: str) -> Mark:
    """Read the process while it waits."""
    seconds = time.monotonic() - process.began
    pid = process.pid
    if not process.network and process.facts.get("network") == "cut off":
        own = network_of(pid)
        process.network = own if own != network_of("self") else ""
    vm = probes.status(pid)
    threads = probes.threads(pid)
    buckets = mappings.buckets(probes.mappings(pid, threads), model_files=_files(order.model), threads=threads)
    group = probes.cgroup(pid)
    if order.instrumented:
        with suppress(OSError):
            process.maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
    mark = Mark(phase, seconds, vm, buckets, _heap(heap), _counted(counted), group, hwm_reset=process.hwm_reset)
    process.hwm_reset = probes.reset_hwm(pid)
    return mark


def _files(model: str) -> tuple[Path, ...]:
    """The model's files: the one that is named and those beside it of the same stem, for weights."""
    path = Path(model)
    if not path.is_file():
        return ()
    stem = path.name.split(".")[0]
    return tuple(one for one in path.parent.iterdir() if one.name.split(".")[0] == stem)


def _heap(text: str) -> Heap | None:
    if not text:
        return None
    info = dict(zip(_MALLINFO, map(int, text.split(",")), strict=True))
    return Heap(info["uordblks"] + info["hblkhd"], info["hblkhd"], info["fordblks"], info["arena"])


def _counted(text: str) -> Counted | None:
    if not text:
        return None
    numbers = list(map(int, text.split(",")))
    live, peak, usable, usable_peak, blocks, calls, mapped, mapped_peak = numbers[:8]
    fullest = Fullest(*numbers[8:]) if numbers[8] else None
    return Counted(live, peak, usable, usable_peak, blocks, calls, mapped, mapped_peak, fullest=fullest)


def _died(code: int, process: _Process, text: str, order: Order) -> Outcome:
    """Why a process ended that said nothing."""
    starved = any(sign in text.lower() for sign in STARVED)
    limit = f" under a limit of {order.memory_limit:,} B" if order.memory_limit else ""
    if starved:
        return Outcome("out of memory", f"an allocation failed{limit}", process.phase)
    if code < 0:
        name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
        if -code == signal.SIGKILL:
            if _oom_killed(process):
                return Outcome("out of memory", "killed by the kernel, its control group was full", process.phase)
            reason = "killed from outside (SIGKILL), as the kernel does when memory is out"
            return Outcome("crashed", reason, process.phase)
        return Outcome("crashed", f"ended by {name}{limit}", process.phase)
    return Outcome("crashed", f"the engine ended the process with code {code}{limit}", process.phase)


def _oom_killed(process: _Process) -> bool:
    counts = [mark.cgroup["oom_kill"] for mark in process.marks if mark.cgroup and "oom_kill" in mark.cgroup]
    now = probes.cgroup(os.getpid())
    return bool(counts) and now is not None and now.get("oom_kill", counts[0]) > counts[0]


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - OUTPUT_KEPT))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _with_events(run: Run, order: Order, process: _Process, events: Path, token: str) -> Run:
    """`run` with the shares of libraries in each phase, and the event list kept where it is wanted."""
    if not events.exists():
        return run
    try:
        account = log.read_log(events, process.names, process.maps)
    except FormatError as fault:
        return replace(run, facts={**run.facts, "event list": f"unreadable: {fault}"})
    phases = {phase.name: phase for phase in account.phases}
    marks = []
    for mark in run.marks:
        phase = phases.get(mark.phase)
        if mark.counted is None:
            marks.append(mark)
        elif phase is None:
            # the list was full before the phase ended; its totals are the counter's own and hold
            marks.append(replace(mark, counted=replace(mark.counted, complete=False)))
        else:
            counted = replace(mark.counted, libraries=phase.libraries, complete=phase.complete)
            marks.append(replace(mark, counted=counted))
    kept = str(_keep(order, process, events, token)) if order.events is not None else ""
    run = replace(run, marks=tuple(marks), events_file=kept)
    if not order.timeline or run.outcome.status != "ok":
        return run
    return replace(run, timeline=timeline_of(events, process.maps, process.names))


def _keep(order: Order, process: _Process, events: Path, token: str) -> Path:
    """The event list, with what is needed to read it, in the folder that the user named.

    Raises:
        PeakmemError: it cannot be written there.
    """
    assert order.events is not None
    target = order.events / f"{order.engine.name}-{token[:12]}.events"
    settings = dict(order.settings)
    beside = {"names": process.names, "maps": process.maps, "engine": order.engine.name, "settings": settings}
    try:
        order.events.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(events, target)
        target.with_suffix(".json").write_text(json.dumps(beside, indent=1), encoding="utf-8")
    except OSError as fault:
        with suppress(OSError):
            target.unlink(missing_ok=True)
            target.with_suffix(".json").unlink(missing_ok=True)
        raise PeakmemError(f"the event list cannot be written: {fault.strerror}", where=str(order.events)) from fault
    return target


NO_SETTINGS: Mapping[str, Value] = MappingProxyType({})


def order_for(engine: Engine, model: str, chosen: Mapping[str, Value] = NO_SETTINGS, **rest: Any) -> Order:
    """An order with the engine's defaults where `chosen` says nothing."""
    return Order(engine, model, {**engine.defaults(), **chosen}, **rest)
