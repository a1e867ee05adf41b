"""Steps that do what tools do at their worst; `convert` of test_route and test_cache runs them in child processes."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from peakmem.conversion.step import Job, Made, Option, Step
from peakmem.errors import ConversionError

MODES = (
    "works", "operators", "crash", "exit", "hang", "memory", "full", "garbage", "nothing", "raises", "missing", "looks",
    "counts",
)  # fmt: skip
STEPS = (
    Step(
        "onnx", "mnn", "tests.unit.conversion.fake_steps:convert", ("pytest",), "",
        options=(Option("mode", "works", MODES, "what happens"), Option("note", "", (), "a folder to leave marks in")),
        environment={"FAKE": "yes"}, stubs=("colorsys",),
    ),
)  # fmt: skip


def convert(job: Job) -> Made:
    """Write job.target/model.mnn, or do as job.options["mode"] says."""
    mode, marks = job.options["mode"], Path(str(job.options["note"]))
    target = job.target / "model.mnn"
    if mode == "operators":
        raise ConversionError("the tool cannot convert Strange", operators=("Strange",))
    if mode == "crash":
        print("about to crash", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    if mode == "exit":
        os._exit(0)
    if mode == "hang":
        # in a session of its own, as a server that a tool starts
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        (marks / "pids").write_text(f"{os.getpid()} {child.pid} {Path.cwd()}")
        time.sleep(600)
    if mode == "memory":
        bytearray(1 << 31)
    if mode == "full":
        raise OSError(errno.ENOSPC, "No space left on device")
    if mode == "garbage":
        print("\x00\xff\nresult.json", flush=True)
        Path("result.json").write_bytes(b"\xff garbage")
        os._exit(0)
    if mode == "raises":
        raise ZeroDivisionError("a tool divided by zero")
    if mode == "missing":
        import a_module_that_nobody_has  # type: ignore[import-not-found]  # noqa: F401
    if mode == "nothing":
        return Made("model.mnn")
    if mode == "looks":
        _look(marks)
    if mode == "counts":
        with (marks / "runs").open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.5)
    target.write_bytes(b"made of " + Path(job.source).read_bytes()[:8])
    Path("left over").write_bytes(b"thrown away")
    return Made(target.name, job.inputs, ("a note",))


def _look(marks: Path) -> None:
    """Write down what the process can see."""
    try:
        import colorsys  # noqa: F401

        stub = "imported"
    except ImportError:
        stub = "refused"
    try:
        with socket.create_connection(("127.0.0.1", int(os.environ.get("NOBODY", "9"))), timeout=1):
            net = "reached"
    except OSError as fault:
        net = errno.errorcode.get(fault.errno or 0, "?")
    (marks / "seen").write_text(
        f"stub {stub}\nnet {net}\nfake {os.environ.get('FAKE')}\nsecret {os.environ.get('SECRET')}\n"
        f"home {os.environ['HOME']}\ncwd {Path.cwd()}\n"
    )
