"""Ends a process that was started here, with all that it started: its group, and what left the group.

What escaped is known by a variable of its environment, or by the network that was made for it. Nothing else is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from peakmem.measuring.environment import TOKEN

GRACE = 10.0
# seconds in which what was killed has to be gone
QUIET = 3
# looks in a row that have to find nothing


def end_process(child: subprocess.Popen[bytes], token: str, *, network: str = "", patience: float = 0.0) -> int:
    """Wait for `child`, the first of a group, or kill it; its exit code. Everything that it started is killed.

    Args:
        token: the value of its variable TOKEN.
        network: the network that is its own, as `network_of` names it; empty where it has none.
        patience: seconds in which it may end by itself.
    """
    with suppress(subprocess.TimeoutExpired):
        # one that died keeps its own exit code
        child.wait(patience)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    code = child.wait()
    mark = f"{TOKEN}={token}".encode()
    until = time.monotonic() + GRACE
    quiet = 0
    while quiet < QUIET and time.monotonic() < until:
        # they fork while we look: one that ended before it was looked at may have left one that was not listed yet
        quiet = 0 if _kill_marked(mark, network) else quiet + 1
        time.sleep(0.005)
    return code


def _kill_marked(mark: bytes, network: str) -> int:
    """Kill every process that has `mark` among its variables or is in `network`; how many there were."""
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if mark in (entry / "environ").read_bytes() or (network and network_of(entry.name) == network):
                    ended = (entry / "stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
                    os.kill(int(entry.name), signal.SIGKILL)
                    found += not ended
    return found


def network_of(pid: int | str) -> str:
    """What names the network that a process sees; empty where it cannot be read."""
    try:
        return str(Path(f"/proc/{pid}/ns/net").readlink())
    except OSError:
        return ""
