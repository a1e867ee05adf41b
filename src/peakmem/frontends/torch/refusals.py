"""What to say when a module cannot be captured: what stopped it, where, and what to supply instead."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peakmem.errors import UsageError
from peakmem.frontends.torch.inputs import HINT

LONGEST = 200
# characters of what PyTorch says

_BY_CONTENT = frozenset(
    {"GuardOnDataDependentSymNode", "DataDependentOutputException", "PendingUnbackedSymbolNotFound",
     "DynamicOutputShapeException", "UserErrorType"}
)  # fmt: skip
_CONTENT_TEXT = re.compile(
    r"data-dependent|data dependent|\.item\(\)|_local_scalar_dense|is not supported for tensor subclasses"
    r"|Cannot access data|Cannot convert .* meta|unbacked|but got FakeTensor",
    re.IGNORECASE,
)
_QUANTISED = re.compile(r"\bquantized::\w+")


def first_line(fault: BaseException) -> str:
    """What an exception says, on one line."""
    text = next((line.strip() for line in str(fault).splitlines() if line.strip()), "") or type(fault).__name__
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def depends_on_data(fault: BaseException) -> bool:
    """Whether code asked for the content of a tensor, which a capture has not."""
    return any(type(link).__name__ in _BY_CONTENT or bool(_CONTENT_TEXT.search(str(link))) for link in _chain(fault))


def _chain(fault: BaseException | None) -> Iterator[BaseException]:
    for _ in range(16):
        if fault is None:
            return
        yield fault
        fault = fault.__cause__ or fault.__context__


def place(fault: BaseException) -> tuple[str, str]:
    """(file:line in function, the line) of the module's own code that was running; two empty texts when unknown."""
    import torch

    foreign = (str(Path(torch.__file__).parent), str(Path(__file__).parent.parent))
    for link in reversed(list(_chain(fault))):
        frames = [
            frame
            for frame in traceback.extract_tb(link.__traceback__)
            if frame.filename and not frame.filename.startswith((*foreign, "<"))
        ]
        inside = [frame for frame in frames if frame.name == "forward"] and frames
        if inside:
            frame = frames[-1]
            return f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}", (frame.line or "").strip()
    return "", ""


def refusal(module: Any, fault: BaseException) -> UsageError:
    """The error that tells the user what to supply."""
    where, line = place(fault)
    shown = f" ({line[:80]})" if line else ""
    title = type(module).__name__
    packed = next((found for link in _chain(fault) if (found := _QUANTISED.search(str(link)))), None)
    if packed is not None:
        return UsageError(
            f"{title} runs {packed[0]}, which PyTorch cannot run without data", where=where,
            expected="a module that computes in floating point",
            hint="the module before it was quantised, with --dtype int8",
        )  # fmt: skip
    if depends_on_data(fault):
        return UsageError(
            f"{title} decides by the content of a tensor{shown}, so that what it allocates depends on the data",
            where=where,
            expected="code that depends on shapes alone",
            hint="torch.cond(…) in place of the if, or a fixed number in place of .item() and .numpy()",
        )
    if isinstance(fault, TypeError) and "argument" in str(fault) and "forward" in str(fault):
        return UsageError(f"{first_line(fault)}", expected=f"what {title}.forward{_signature(module)} takes", hint=HINT)
    if "scalar types: Long" in str(fault) or "to have one of the following scalar types" in str(fault):
        return UsageError(
            f"{title} looks up rows by an input that holds no whole numbers{shown}", where=where,
            hint="--input 1x128:int64 (the dtype behind the colon)",
        )  # fmt: skip
    return UsageError(
        f"calling {title} failed: {type(fault).__name__}: {first_line(fault)}{shown}",
        where=where,
        expected=f"inputs that fit forward{_signature(module)}",
        hint=HINT,
    )


def _signature(module: Any) -> str:
    try:
        return str(inspect.signature(module.forward))[:LONGEST]
    except (TypeError, ValueError):
        return "(…)"


def lazy(module: Any) -> UsageError | None:
    """That a layer takes its sizes from the first call; None when all have theirs."""
    import torch

    for path, part in module.named_modules():
        own = (*part._parameters.values(), *part._buffers.values())
        if any(torch.nn.parameter.is_lazy(tensor) for tensor in own):
            return UsageError(
                f"the layer {path or type(part).__name__!r} ({type(part).__name__}) has no sizes before its first call",
                expected="layers of given sizes",
                hint="calling the module once on an example where it is made",
            )
    return None


def needs_inputs(module: Any) -> UsageError:
    """That a module says nothing of what it is called with."""
    return UsageError(
        f"what {type(module).__name__}.forward{_signature(module)} is called with is not known",
        hint="--input 1x3x224x224 (NAME=1x128:int64 for inputs by name and dtype), in Python inputs=[(1, 3, 224, 224)]",
    )
