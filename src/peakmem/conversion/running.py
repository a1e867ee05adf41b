"""Run one step in a child process, and turn what came of it into a folder or an error.

The child is the only place where a conversion tool is imported or executed. What it started is killed when the time is
over, when the user interrupts, and when it has ended, so that nothing is left running.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from peakmem.conversion.step import Port, Step, Value
from peakmem.conversion.worker import JOB, LOG, RESULT, TARGET
from peakmem.errors import ConversionError, MissingLibrary, PeakmemError, UsageError
from peakmem.measuring.ending import end_process
from peakmem.measuring.environment import TOKEN
from peakmem.units import format_bytes

QUIET: Mapping[str, str] = {
    "ORT_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONUNBUFFERED": "1",
    "NO_COLOR": "1",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
}
# of every step, before its own
PASSED = ("PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "OMP_NUM_THREADS", "KERAS_BACKEND")
# from the user's environment; all of it where the user's own code runs
LEAST_ROOM = 1 << 20
# bytes; with less, a disk counts as full
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_LAST = 5
# lines of output that an error shows


@dataclass(frozen=True, slots=True)
class Done:
    """What a step made, still in scratch."""

    path: str
    inputs: tuple[Port, ...]
    notes: tuple[str, ...]


def run(
    step: Step, source: str, folder: Path, *, inputs: tuple[Port, ...], outputs: tuple[str, ...],
    options: Mapping[str, Value], timeout: float, memory_limit: int | None, own_code: bool,
) -> Done:  # fmt: skip
    """Run `step` on `source` with the empty folder `folder` as its working directory; results are in its `target`.

    Args:
        own_code: whether the source is the user's Python, which gets the user's environment and home.
        timeout: seconds.
        memory_limit: bytes of data the process may have (RLIMIT_DATA).

    Raises:
        ConversionError: the tool failed, named operators it cannot convert, or took too long or too much memory.
        MissingLibrary: the tool is not installed.
        PeakmemError: what the step itself says.
    """
    for name in (TARGET, "tmp"):
        (folder / name).mkdir()
    job: dict[str, Any] = {
        "run": step.run, "source": source, "inputs": [(port.name, list(port.shape), port.dtype) for port in inputs],
        "outputs": list(outputs), "options": dict(options), "name": "model", "stubs": list(step.stubs),
        "parent": os.getpid(), "memory_limit": memory_limit or 0,
    }  # fmt: skip
    (folder / JOB).write_text(json.dumps(job), encoding="utf-8")
    token = secrets.token_hex(16)
    with (folder / LOG).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "peakmem.conversion.worker"],
            cwd=folder, env={**_environment(step, folder, own_code=own_code), TOKEN: token},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        late = False
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            end_process(process, token)
    tool = step.distributions[0]
    if late:
        raise ConversionError(f"{tool} did not end within {timeout:g} s", where=source, hint="a longer timeout")
    try:
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise _gone(step, source, folder, process.returncode, memory_limit) from None
    if "failure" in result:
        raise _fault(step, source, folder, result, memory_limit)
    ports = tuple(Port(name, dtype, tuple(shape)) for name, shape, dtype in result["inputs"])
    if shutil.disk_usage(folder).free < LEAST_ROOM:
        # Tools that do not look at what write() says leave a file that is cut off.
        raise _full(folder)
    return Done(result["path"], ports, tuple(result["notes"]))


def _environment(step: Step, folder: Path, *, own_code: bool) -> dict[str, str]:
    given = dict(os.environ) if own_code else {name: os.environ[name] for name in PASSED if name in os.environ}
    if not own_code:
        given.update(HOME=str(folder / "tmp"), XDG_CACHE_HOME=str(folder / "tmp"))
    paths = [path for path in sys.path if path]
    if own_code:
        paths.append(str(Path.cwd()))
    given.update(QUIET, TMPDIR=str(folder / "tmp"), PYTHONPATH=os.pathsep.join(paths))
    given.update(step.environment)
    return given


def _gone(step: Step, source: str, folder: Path, code: int, memory_limit: int | None) -> PeakmemError:
    """Why a process left no result."""
    if shutil.disk_usage(folder).free < LEAST_ROOM:
        return _full(folder)
    how = f"ended with code {code}"
    if code < 0:
        try:
            how = f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            how = f"was ended by signal {-code}"
    limited = f" (it was allowed {format_bytes(memory_limit)})" if memory_limit else ""
    return ConversionError(f"{step.distributions[0]} {how}{limited}{_said(folder)}", where=source)


def _fault(step: Step, source: str, folder: Path, result: dict[str, Any], memory_limit: int | None) -> PeakmemError:
    form, what, tool = result["failure"], result["what"], step.distributions[0]
    if form == "operators":
        return ConversionError(
            what, operators=tuple(result["operators"]), where=result["where"] or source, expected=result["expected"],
            hint=result["hint"],
        )  # fmt: skip
    if form == "refused":
        return UsageError(what, where=result["where"] or source, expected=result["expected"], hint=result["hint"])
    if form == "missing":
        if "module" not in result:
            return PeakmemError(what, hint=result["hint"])
        home = packages_distributions().get(result["module"].partition(".")[0], [])
        if not home and step.extra:
            return MissingLibrary(
                result["module"], extra=step.extra, purpose=f"converting {step.source} to {step.target}"
            )
        return ConversionError(f"{tool} cannot be used: {what}", where=source)
    if form == "memory":
        limit = f" than the {format_bytes(memory_limit)} it was allowed" if memory_limit else " than there is"
        return ConversionError(f"{tool} needed more memory{limit}", where=source)
    if form == "disk" or shutil.disk_usage(folder).free < LEAST_ROOM:
        return _full(folder)
    return ConversionError(f"{tool} failed: {what}", where=source)


def _full(folder: Path) -> UsageError:
    return UsageError(
        "the disk is full, so the converted model cannot be kept", where=str(folder.parent.parent),
        hint="PEAKMEM_CACHE=FOLDER, a folder with room",
    )  # fmt: skip


def _said(folder: Path) -> str:
    """The end of what it printed, as a part of a sentence."""
    try:
        text = (folder / LOG).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in _ESCAPES.sub("", text).splitlines() if line.strip()]
    return f"; it last said: {' | '.join(lines[-_LAST:])[-600:]}" if lines else ""
