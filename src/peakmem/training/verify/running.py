"""Starts the process that trains, waits for it, and reads what it left."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from peakmem.errors import MissingLibrary, PeakmemError, UsageError
from peakmem.measuring import probes
from peakmem.measuring.scratch import scratch_folder
from peakmem.training.log import Log
from peakmem.training.scenario import Scenario
from peakmem.training.verify import wire
from peakmem.training.verify.measured import log_of

CHILD = "peakmem.training.verify.child"
OUTPUT_KEPT = 2000
# characters of what the process wrote


@dataclass(frozen=True, slots=True)
class Measured:
    """What a real run allocated."""

    log: Log
    facts: dict[str, str]
    counters: dict[str, int]
    # "max_memory_allocated" and "max_memory_reserved" on a GPU


@dataclass(frozen=True, slots=True)
class Resident:
    """What the kernel says of the clean process in one phase."""

    phase: str
    # "build -1", "forward 0", …; "imports" before all
    resident_bytes: int
    # VmRSS at its end
    peak_bytes: int
    # VmHWM within it, set back before it


def measured(
    target: str, scenario: Scenario, *, inputs: tuple[str, ...] = (), resolve: str = wire.NAMED,
    timeout: float = 1800.0, threads: int = 0,
) -> Measured:  # fmt: skip
    """Train for real under the profiler, in a process of its own.

    Raises:
        UsageError: the step raised.
        PeakmemError: the process ended early, or took too long.
    """
    with scratch_folder() as folder:
        order, answer = folder / "order.json", folder / "recording.json"
        wire.write(order, wire.Order(target, scenario, resolve, "events", inputs, threads))
        try:
            ended = subprocess.run(
                _command(order, str(answer)), env=_environment(), stdin=subprocess.DEVNULL, capture_output=True,
                timeout=timeout, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise PeakmemError(
                f"{target}: the step did not end within {timeout:.0f} s", hint="--timeout with more, or a smaller batch"
            ) from None
        if not answer.exists():
            raise _died(target, ended.returncode, ended.stderr)
        recording = wire.read_recording(answer)
    if recording.fault:
        kind, words, hint, line = recording.fault
        raise UsageError(f"{target}: {words}" if hint else f"{target}: {kind}: {words}", where=line, hint=hint)
    return Measured(log_of(recording), recording.facts, recording.counters)


def resident(
    target: str, scenario: Scenario, *, inputs: tuple[str, ...] = (), resolve: str = wire.NAMED, threads: int = 0
) -> tuple[Resident, ...]:
    """Train for real in a clean process, which waits at the end of each phase while it is looked at.

    Raises:
        PeakmemError: the process ended early; where the system hides it, the answer is empty.
    """
    found: list[Resident] = []
    with scratch_folder() as folder:
        order = folder / "order.json"
        wire.write(order, wire.Order(target, scenario, resolve, "resident", inputs, threads))
        phases_read, phases_write = os.pipe()
        turns_read, turns_write = os.pipe()
        process = subprocess.Popen(
            _command(order, str(phases_write), str(turns_read)), env=_environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=(phases_write, turns_read),
        )  # fmt: skip
        os.close(phases_write)
        os.close(turns_read)
        try:
            with os.fdopen(phases_read) as phases:
                for line in phases:
                    sizes = probes.status(process.pid)
                    name = line.strip() if found else "imports"
                    found.append(Resident(name, sizes["VmRSS"], max(sizes["VmHWM"], sizes["VmRSS"])))
                    probes.reset_hwm(process.pid)
                    os.write(turns_write, b"\n")
            _, said = process.communicate()
        finally:
            os.close(turns_write)
            process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()
    if process.returncode:
        raise _died(target, process.returncode, said)
    return tuple(found)


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", CHILD, *map(str, arguments)]


def _environment() -> dict[str, str]:
    """Ours, with the places where modules are found here; nothing is looked for on the network."""
    places = [place or str(Path.cwd()) for place in sys.path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places), "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def _died(target: str, code: int, said: bytes) -> PeakmemError:
    words = said.decode("utf-8", "replace").strip()[-OUTPUT_KEPT:]
    last = words.splitlines()[-1] if words else "it wrote nothing"
    if "No module named 'torch'" in words:
        return MissingLibrary("torch", extra="torch", purpose="running a training step")
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    hint = "a smaller batch, if memory ran out" if code in (-9, 137) else ""
    return PeakmemError(f"{target}: the process that trains {how}: {last}", hint=hint)
