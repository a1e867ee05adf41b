"""An engine that does what it is told, and what it should not: for tests of the harness.

A runner file like those in peakmem.measuring.runners; "model" is any path. Known amounts are allocated where asked.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = "faulty"
EXTRA = "test"
DISTRIBUTIONS = ("pytest",)
READS = ("onnx",)
ENVIRONMENT: dict[str, str] = {"FAULTY_TELEMETRY": "off"}
FAULTS = (
    "none", "raise", "unsupported", "missing", "exit", "segfault", "abort", "kill", "stop", "hang", "spin", "leave",
    "daemon", "escape", "forge", "turn", "noise", "babble", "garble", "deaf", "starve", "fill",
)  # fmt: skip
PHASES = ("start", "load", "feed", "run", "release")
SETTINGS = (
    ("fault", "none", FAULTS, "what goes wrong"),
    ("at", "run", PHASES, "where"),
    ("load_bytes", 0, (), "allocated at load, kept"),
    ("run_bytes", 0, (), "allocated in each run, given back"),
    ("keep_bytes", 0, (), "allocated in the second run, kept"),
    ("ports", 1, (), "inputs"),
)


class Runner:
    """Allocates through the C library, so that the figures are known."""

    def __init__(self, settings: dict[str, Any], tools: Any) -> None:
        self.settings = settings
        self.tools = tools
        self.kept: list[Any] = []
        self.count = 0

    def _allocate(self, nbytes: int) -> Any:
        import ctypes

        libc = self.tools.libc
        libc.malloc.restype = ctypes.c_void_p
        block = libc.malloc(ctypes.c_size_t(nbytes))
        ctypes.memset(block, 1, nbytes)
        return block

    def _free(self, block: int) -> None:
        import ctypes

        self.tools.libc.free(ctypes.c_void_p(block))

    def _fault(self, place: str) -> None:
        if self.settings["at"] == place and self.settings["fault"] != "none":
            getattr(self, "_" + self.settings["fault"])()

    def _raise(self) -> None:
        raise RuntimeError("the engine says no\nin two lines\twith a tab")

    def _unsupported(self) -> None:
        raise self.tools.Unsupported("no operator Frobnicate")

    def _missing(self) -> None:
        import a_library_that_is_not_there  # type: ignore[import-not-found]  # noqa: F401

    def _exit(self) -> None:
        import os

        os._exit(7)

    def _segfault(self) -> None:
        import ctypes

        ctypes.string_at(8)

    def _abort(self) -> None:
        import os

        os.abort()

    def _kill(self) -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)

    def _stop(self) -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGSTOP)

    def _hang(self) -> None:
        import time

        time.sleep(3600)

    def _spin(self) -> None:
        while True:
            pass

    def _leave(self) -> None:
        """A grandchild in another session that holds every open file, and the process ends."""
        import os
        import time

        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(3600)
            os._exit(0)
        os._exit(0)

    def _daemon(self) -> None:
        """A grandchild that stays behind while the measurement goes on well."""
        import os
        import time

        if os.fork() == 0:
            os.setsid()
            time.sleep(3600)

    def _escape(self) -> None:
        """As a daemon, without our variables and files and in a folder of its own."""
        import os

        if os.fork() == 0:
            os.setsid()
            os.chdir("/")
            os.closerange(0, 64)
            os.execve("/bin/sleep", ["sleep", "3600"], {})

    def _forge(self) -> None:
        """An end of no known kind."""
        import os
        import sys

        os.write(self._wire(sys.argv), b"end\tsplendid\twhat it was\n")

    def _turn(self) -> None:
        """Listens no longer, and lives on."""
        import os
        import time

        with open("/proc/self/cmdline", "rb") as file:
            os.close(int(os.fsdecode(file.read()).split("\0")[-2]))
        os.write(self._wire([]), b"port\tz\tfloat32\t1\nports\n")
        time.sleep(3600)

    def _noise(self) -> None:
        """Anything at all on the standard streams; no fault."""
        import os

        for end in (1, 2):
            os.write(end, os.urandom(1 << 16) + b"\nmark\tload\t\t\nend\tok\t\n")

    def _babble(self) -> None:
        """Writes without end."""
        import os
        import time

        while True:
            os.write(1, b"x" * (1 << 16))
            time.sleep(0.001)
            # at full speed it may reach the limit on files before its time is over

    def _garble(self) -> None:
        """Garbage on the wire to the harness."""
        import os
        import sys

        os.write(self._wire(sys.argv), b"\xff\x00 what\nmark\tx\nport\t\n")
        os.write(self._wire(sys.argv), b"fact\t\\\nnote\tx\ty\n")

    def _deaf(self) -> None:
        """Closes the wire."""
        import os
        import sys

        os.close(self._wire(sys.argv))

    def _wire(self, arguments: list[str]) -> int:
        import os

        del arguments
        with open("/proc/self/cmdline", "rb") as file:
            return int(os.fsdecode(file.read()).split("\0")[-3])

    def _starve(self) -> None:
        """Takes memory until there is none."""
        blocks = []
        while True:
            blocks.append(bytearray(1 << 24))

    def _fill(self) -> None:
        """Fills its folder."""
        with open(self.tools.scratch + "/big", "wb") as file:
            file.write(bytes(1 << 20))

    def start(self) -> None:
        self._fault("start")

    def load(self, model: str) -> list[tuple[str, str, tuple[int, ...] | None]]:
        self._fault("load")
        self.tools.fact("model", model)
        if self.settings["load_bytes"]:
            self.kept.append(self._allocate(self.settings["load_bytes"]))
        return [(f"in{number}", "float32", (1, 4)) for number in range(self.settings["ports"])]

    def feed(self, values: list[tuple[str, tuple[int, ...], str, bytearray]]) -> None:
        self._fault("feed")
        self.tools.fact("fed", " ".join(f"{name}:{len(data)}" for name, _, _, data in values))

    def run(self) -> None:
        self.count += 1
        if self.settings["run_bytes"]:
            self._free(self._allocate(self.settings["run_bytes"]))
        if self.count == 2 and self.settings["keep_bytes"]:
            self.kept.append(self._allocate(self.settings["keep_bytes"]))
        self._fault("run")

    def release(self) -> None:
        self._fault("release")
        for block in self.kept:
            self._free(block)
