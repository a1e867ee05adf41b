"""What to say when a step cannot be traced: what stopped it, on which line of the user's code, what to declare.

A trace that stops gives no number at all. Imported with torch at hand.
"""

from __future__ import annotations

import linecache
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from peakmem.errors import PeakmemError, UsageError
from peakmem.frontends.torch.refusals import depends_on_data, first_line

TORCH = str(Path(torch.__file__).parent) + os.sep
OURS = str(Path(__file__).parents[2]) + os.sep
LIBRARY = sysconfig.get_paths()["stdlib"] + os.sep
MACHINERY = tuple(
    str(Path(OURS, "training", name))
    for name in ("workspaces", "recorder.py", "tracing/tracer.py", "tracing/corrections.py")
)
# our code that asks PyTorch for something on nobody's behalf
CALLING = tuple(str(Path(OURS, "training", "tracing", name)) for name in ("given.py", "loop.py", "run.py"))
# our code that calls functions of the user's
DEEPEST = 400
# frames looked at
WIDEST = 80
# characters of a line of code shown


_RULELESS = re.compile(r"([\w:.]+): attempted to run this operator with Meta tensors")


@dataclass(frozen=True, slots=True)
class Site:
    """A place in code."""

    path: str
    line: int
    function: str

    @property
    def name(self) -> str:
        """As a value is declared for it: the file's name and the line."""
        return f"{Path(self.path).name}:{self.line}"

    @property
    def text(self) -> str:
        """The line itself."""
        text = linecache.getline(self.path, self.line).strip()
        return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"

    @property
    def is_foreign(self) -> bool:
        """Whether it is code of PyTorch or of this package, and none of the user's."""
        return self.path.startswith((TORCH, OURS, "<"))

    def __str__(self) -> str:
        return f"{self.name} ({self.text})" if self.text else self.name


def _frames(frame: FrameType | None) -> Iterator[Site]:
    for _ in range(DEEPEST):
        if frame is None:
            return
        yield Site(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
        frame = frame.f_back


def sites_here() -> list[Site]:
    """Where we are, the innermost first, without this package's own frames."""
    return [site for site in _frames(sys._getframe(1)) if not site.path.startswith(OURS)]


def users(sites: list[Site]) -> Site | None:
    """The innermost place that is the user's."""
    return next((site for site in sites if not site.is_foreign), None)


def _of_node() -> str:
    """The autograd node that runs where no frame is the user's; with the line of its forward if that is known."""
    node = torch._C._current_autograd_node()
    if node is None:
        return ""
    told = node.metadata.get("traceback_") or []  # kept under torch.autograd.set_detect_anomaly alone
    for block in reversed(told):
        lines = [line for line in block.splitlines() if line.strip().startswith("File ")]
        parts = lines[-1].strip().split('"') if lines else []
        if len(parts) > 2 and not parts[1].startswith((TORCH, OURS, "<")):
            site = Site(parts[1], int(parts[2].split("line ")[1].split(",")[0]), "")
            return f"in the backward of {site}"
    return f"in the backward ({node.name()})"


def unread(operator: str, asks: str, example: str) -> UsageError:
    """That code asks for the content of a tensor, and nobody said what to answer.

    Args:
        operator: that was to be run.
        asks: what is not known, as a noun ("how many elements are true").
        example: of a value, as typed behind the line.
    """
    site = users(sites_here())
    where = ", ".join(part for part in (str(site) if site is not None else "", _of_node()) if part)
    key = site.name if site is not None else "*"
    return UsageError(
        f"{operator} needs the content of a tensor, which has none while a step is traced: {asks}",
        where=where,
        expected="a declared value, since what the step allocates may depend on it",
        hint=f"--value {key}={example}",
    )


def site_of(fault: BaseException) -> Site | None:
    """The innermost line of the user's code that was running when it was raised."""
    for link in _chain(fault):
        frames = [
            Site(frame.filename, frame.lineno or 0, frame.name) for frame in traceback.extract_tb(link.__traceback__)
        ]
        found = users(frames[::-1])
        if found is not None:
            return found
    return None


def refusal(name: str, fault: BaseException) -> PeakmemError:
    """The error for a trace that `fault` stopped.

    Args:
        name: what was traced.
        fault: what building it or its step raised.

    Raises:
        Exception: the fault itself, where this package's own code is to blame and not what was traced.
    """
    if isinstance(fault, PeakmemError):
        return fault
    if _is_ours(fault):
        raise fault  # an internal error, to be reported
    site = site_of(fault)
    where = str(site) if site is not None else name
    kind = type(fault).__name__
    if isinstance(fault, MemoryError):
        return UsageError(
            f"tracing {name} itself ran out of memory: something in it makes real tensors", where=where,
            hint="building tensors inside the step or the workload, where they have no memory",
        )  # fmt: skip
    ruleless = _without_rule(fault)
    if ruleless:
        return UsageError(
            f"{name} runs {ruleless}, of which PyTorch does not say what it makes without running it",
            where=where, expected="operators with a meta or fake implementation",
            hint="torch.library.register_fake for an operator of your own",
        )  # fmt: skip
    if depends_on_data(fault):
        key = site.name if site is not None else "*"
        return UsageError(
            f"{name} asks for the content of a tensor, which has none while a step is traced: {first_line(fault)}",
            where=where, expected="a declared value, or code that depends on shapes alone", hint=f"--value {key}=0",
        )  # fmt: skip
    said = first_line(fault)
    if package := _imported(fault):
        return UsageError(
            f"{package} cannot be imported here: {kind}: {said}", where=name,
            hint=f"a build of {package} that goes with torch {torch.__version__}",
        )  # fmt: skip
    if "DataLoader worker" in said:
        return UsageError(
            f"the step of {name} has a DataLoader with worker processes, which are not followed", where=where,
            hint="num_workers=0 while it is traced",
        )  # fmt: skip
    hint = "running one step of it on small data first"
    if "same device" in said:
        hint = "making the tensors of the step on its device: torch.zeros(…, device='cuda'), or .to('cuda')"
    return UsageError(
        f"the step of {name} raised {kind}" + (f": {said}" if said != kind else ""), where=where,
        expected="a step that runs: it is traced as it is", hint=hint,
    )  # fmt: skip


def _chain(fault: BaseException | None) -> Iterator[BaseException]:
    for _ in range(16):
        if fault is None:
            return
        yield fault
        fault = fault.__cause__ or fault.__context__


def _is_ours(fault: BaseException) -> bool:
    """Whether this package's own code is to blame: the innermost that is neither PyTorch's nor Python's library.

    What PyTorch refuses is the user's where our code only hands on an operator or calls the user's model, and so is a
    function that cannot be called as it is.
    """
    beneath_torch = False
    for frame in reversed(traceback.extract_tb(fault.__traceback__)):
        path = frame.filename
        if path.startswith(OURS):
            if beneath_torch:
                return path.startswith(MACHINERY) and frame.name != "__torch_dispatch__"
            return not (path.startswith(CALLING) and isinstance(fault, TypeError) and "argument" in str(fault))
        if path.startswith(TORCH):
            beneath_torch = True
        elif not path.startswith("<") and (not path.startswith(LIBRARY) or "site-packages" in path):
            return False
    return False


def _imported(fault: BaseException) -> str:
    """The installed package whose import raised; empty when none did."""
    for frame in reversed(traceback.extract_tb(fault.__traceback__)):
        parts = Path(frame.filename).parts
        if frame.name == "<module>" and "site-packages" in parts:
            package = parts[parts.index("site-packages") + 1].removesuffix(".py")
            return "" if package == "torch" else package
    return ""


def _without_rule(fault: BaseException) -> str:
    """The operator that has neither a meta nor a fake implementation; empty when that is not what is wrong."""
    for link in _chain(fault):
        func: Any = getattr(link, "func", None)
        if type(link).__name__ == "UnsupportedOperatorException" and func is not None:
            return str(func)
        found = _RULELESS.search(str(link))
        if found is not None:
            return found.group(1)
    return ""


def unsupported_optimizer(title: str, why: str) -> UsageError:
    """That an optimizer's step depends on values."""
    site = users(sites_here())
    return UsageError(
        f"{title} cannot be traced: {why}", where=str(site) if site is not None else "",
        expected="an optimizer whose step makes the same tensors whatever the gradients are",
        hint="--optimizer adamw",
    )  # fmt: skip
