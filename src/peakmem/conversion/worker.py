"""The process that runs one conversion step: `python -P -m peakmem.conversion.worker`, in a scratch folder.

It finds `job.json` in the working directory, and leaves `result.json` there: what was made, or what went wrong. Before
anything is imported it takes care that it dies with the process that started it, has no network where the system
allows that, and cannot import what reports to somebody. Only the step's own module is imported here.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from peakmem.measuring.child import confine

JOB, RESULT, TARGET, LOG = "job.json", "result.json", "target", "log"
# in the scratch folder


def main() -> int:
    """Do what job.json says."""
    told = json.loads(Path(JOB).read_text(encoding="utf-8"))
    _confine(told)
    for name in told["stubs"]:
        sys.modules[name] = None  # type: ignore[assignment]  # importing it raises ImportError
    try:
        result = _made(told)
    except MemoryError as fault:
        result = {"failure": "memory", "what": _sentence(fault)}
    except OSError as fault:
        form = "disk" if fault.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG) else "tool"
        result = {"failure": form, "what": fault.strerror if form == "disk" else _sentence(fault)}
    except BaseException as fault:
        result = _failure(fault)
    part = Path(f"{RESULT}.part")
    with contextlib.suppress(OSError):
        # a full disk: the missing result says so
        part.write_text(json.dumps(result), encoding="utf-8")
        part.replace(RESULT)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
    # not through the destructors of tools


def _confine(told: dict[str, Any]) -> None:
    user, group = os.getuid(), os.getgid()
    _, largest_file = resource.getrlimit(resource.RLIMIT_FSIZE)
    limits = {"parent": told["parent"], "data_limit": told["memory_limit"], "file_limit": largest_file}
    confine(limits, lambda *_fact: None)
    if os.getuid() != user:
        # A user namespace without a mapping: the user has no name, which some libraries cannot stand.
        for name, text in (("setgroups", "deny"), ("gid_map", f"{group} {group} 1"), ("uid_map", f"{user} {user} 1")):
            with contextlib.suppress(OSError):
                Path("/proc/self", name).write_text(text, encoding="ascii")


def _made(told: dict[str, Any]) -> dict[str, Any]:
    from peakmem.conversion.step import Job, Made, Port

    home = Path.cwd()
    job = Job(
        told["source"], home / TARGET, tuple(Port(name, dtype, tuple(shape)) for name, shape, dtype in told["inputs"]),
        told["options"], home / LOG, told["name"], tuple(told["outputs"]),
    )  # fmt: skip
    module, _, name = told["run"].partition(":")
    step: ModuleType = import_module(module)
    made: Made = getattr(step, name)(job)
    if not (job.target / made.path).exists():
        return {"failure": "tool", "what": f"it left no {made.path}"}
    inputs = [(port.name, list(port.shape), port.dtype) for port in made.inputs]
    return {"path": made.path, "inputs": inputs, "notes": list(made.notes)}


def _failure(fault: BaseException) -> dict[str, Any]:
    from peakmem.errors import ConversionError, MissingLibrary, PeakmemError

    if isinstance(fault, PeakmemError):
        form = (
            "operators" if isinstance(fault, ConversionError)
            else "missing" if isinstance(fault, MissingLibrary) else "refused"
        )  # fmt: skip
        operators = list(fault.operators) if isinstance(fault, ConversionError) else []
        return {
            "failure": form, "what": fault.what, "where": fault.where, "expected": fault.expected, "hint": fault.hint,
            "operators": operators,
        }  # fmt: skip
    if isinstance(fault, ModuleNotFoundError):
        return {"failure": "missing", "what": f"there is no module {fault.name!r}", "module": fault.name or ""}
    text = str(fault)
    if "bad_alloc" in text or "allocate memory" in text or "can't allocate" in text:
        return {"failure": "memory", "what": _sentence(fault)}
    import traceback

    traceback.print_exception(fault)
    # into the log, whose end is shown
    return {"failure": "tool", "what": _sentence(fault)}


def _sentence(fault: BaseException) -> str:
    text = " ".join(str(fault).split())[:600]
    return f"{type(fault).__name__}: {text}" if text else type(fault).__name__


if __name__ == "__main__":
    sys.exit(main())
