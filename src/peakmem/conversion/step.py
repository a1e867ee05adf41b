"""The interface of a conversion step: what a tool of another project is told, and what it hands back.

A step turns a model of one kind into a model of another with one tool. It is a module of this package that imports
nothing but the standard library and `peakmem` at the top, with

    STEPS = (Step("onnx", "ncnn", "peakmem.conversion.to_ncnn:convert", ("pnnx",), "ncnn", …),)

    def convert(job: Job) -> Made: …

The function runs in a clean child process (`peakmem.conversion.worker`): a scratch folder is the working directory,
there is no network where the system allows it, standard output and error go to a file (`job.log`), and the process may
be killed at any time. It writes what is to be kept into the folder `job.target` and nothing else there; whatever it
leaves in the working directory is thrown away. It must not look into the cache, nor at the user's folders other than
`job.source`. What goes wrong is raised:

    ConversionError(what, operators=(…))   the tool cannot convert these operators, each by the tool's own name for it
    PeakmemError of another kind           what it says is shown to the user
    any other exception                    is reported as a failure of the tool, with the end of its output

`route.py` finds the steps, `cache.py` keeps what they made, by content.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from peakmem.measuring import inputs

Value: TypeAlias = bool | int | str

KINDS: Mapping[str, str] = {
    "zoo": "a built-in network, such as mobilenet_v2:width=0.5",
    "onnx": "an ONNX file, with the files of its external data beside it",
    "ort": "a file of ONNX Runtime's own format",
    "ncnn": "a .param file with its .bin beside it, of the same stem",
    "tflite": "a .tflite file",
    "openvino": "an IR .xml with its .bin beside it, of the same stem",
    "torch": "a PyTorch module: a .py file with a function `model()` (made here; the weights may lie beside it), "
    "package.module:factory of the user, or a .pt2 file",
    "keras": "a .keras or .h5 file, or package.module:factory of the user",
    "pte": "an ExecuTorch program",
    "mnn": "an MNN file",
}
# kinds of model and what a path of that kind is; engines name in READS what they load


@dataclass(frozen=True, slots=True)
class Port(inputs.Port):
    """An input of a model whose dimensions all have values."""

    shape: tuple[int, ...]
    # as the file wants it, so an ncnn port has no batch dimension


@dataclass(frozen=True, slots=True)
class Option:
    """What can be chosen about a step; a value enters the key of what is kept."""

    name: str
    default: Value
    choices: tuple[Value, ...]
    # empty for flags (a bool default), free numbers and texts
    effect: str


@dataclass(frozen=True, slots=True)
class Step:
    """One way from a kind of model to another."""

    source: str
    # a key of KINDS
    target: str
    run: str
    # "package.module:function", imported and called in the child process
    distributions: tuple[str, ...]
    # whose versions enter the key; the tool's own first; "peakmem" for work that is done here
    extra: str
    # the extra of peakmem that installs them, for the hint when one is missing; empty when nothing has to be
    options: tuple[Option, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    # variables that must stand before the tool is imported; telemetry above all
    stubs: tuple[str, ...] = ()
    # modules that must not be imported; importing one raises ImportError
    revision: int = 1
    # raised by one when the same source gives another file
    cost: int = 1
    # of two routes the cheaper one is taken


@dataclass(frozen=True, slots=True)
class Job:
    """What a step is to do."""

    source: str
    # absolute path of a file, or a zoo spec, or package.module:factory
    target: Path
    # an empty folder; what is in it afterwards is kept
    inputs: tuple[Port, ...]
    # of the source, with a number for every dimension; empty where the source does not tell them (a factory called
    # without `inputs`)
    options: Mapping[str, Value]
    # all of the step's options, defaults filled in
    log: Path
    # where what the process prints goes; a tool's own program writes there too (`call`)
    name: str = "model"
    # what the file is to be called, without suffix
    outputs: tuple[str, ...] = ()
    # names of the source's outputs, where they are known


@dataclass(frozen=True, slots=True)
class Made:
    """What a step made."""

    path: str
    # the file to hand on, relative to `job.target`
    inputs: tuple[Port, ...] = ()
    # of the new file; empty where it is not known without running it
    notes: tuple[str, ...] = ()
    # what a user should know of it, one sentence each


def call(arguments: Sequence[str], job: Job, *, environment: Mapping[str, str] | None = None) -> int:
    """Run a tool's program inside a step; its exit code, negative for a signal. Its output is in `job.log`.

    The program dies with the process that runs the step.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with job.log.open("ab") as log:
        return subprocess.run(
            list(arguments), stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False,
            env={**os.environ, **(environment or {})},
            preexec_fn=lambda: libc.prctl(1, signal.SIGKILL, 0, 0, 0),
            # PR_SET_PDEATHSIG
        ).returncode  # fmt: skip


def printed(job: Job) -> str:
    """What the process, and programs it called, printed so far."""
    ctypes.CDLL(None).fflush(None)
    return job.log.read_text(encoding="utf-8", errors="replace") if job.log.exists() else ""
