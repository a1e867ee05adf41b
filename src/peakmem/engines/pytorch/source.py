"""How what the runner takes becomes a Graph in ATen's operators.

| what | how |
| --- | --- |
| a network of the zoo, an .onnx file | converted to kind `torch`, which gives a .py file; then as such a file |
| a .py file | imported; its `factory` or `model` captured on tensors without memory, with its `INPUTS`; needs torch |
| package.module:factory | the same, as `peakmem.load` does it; needs torch |
| a .pt2 file | read without torch |

A .py file is code: it is executed, as measuring it does. Engines' profiles themselves execute nothing. A module is
called a second time on tensors without memory, to see how long its variables hold each result.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from peakmem.engines.pytorch.network import DIFFERS, EXPORTED, LIFETIMES
from peakmem.errors import FormatError, MissingLibrary, UsageError
from peakmem.ir.graph import Detail, Graph

MAKERS = ("factory", "model")
# what the runner asks of a file without a name behind it


def graph_for(source: str | Path, *, inputs: object = None) -> Graph:
    """The graph that the profile of PyTorch understands.

    Args:
        source: a .py file, a .pt2 file or package.module:factory, as the runner takes them; a .py file may be
            followed by :NAME.
        inputs: what a module is called with, see `peakmem.load`; a .py file's own `INPUTS` without it.

    Raises:
        UsageError: no such file or name, code that fails, inputs that nobody told.
        MissingLibrary: torch is not installed, and code is to be captured.
        FormatError: a file of another kind.
    """
    from peakmem.frontends.live import is_factory

    text = str(source)
    if text.endswith(".pt2") and Path(text).is_file():
        from peakmem.frontends import read

        return read(Path(text), form="", options={})
    name, _, attribute = text.rpartition(":") if not text.endswith(".py") else (text, "", "")
    if not name.endswith(".py") and not is_factory(text):
        if not Path(text).is_file():
            raise UsageError(f"there is no file {Path(text).name}", where=text)
        raise FormatError(
            "no program of PyTorch", where=text, expected="a .py file, a .pt2 file or package.module:factory"
        )
    if importlib.util.find_spec("torch") is None:
        raise MissingLibrary("torch", extra="torch", purpose=f"capturing {text}")
    home = _imported(name, text)
    attribute = attribute or next((one for one in MAKERS if hasattr(home, one)), MAKERS[0])
    model = _made(home, attribute, text)
    if inputs is None and name.endswith(".py") and getattr(home, "INPUTS", None):
        inputs = _told(home.INPUTS)
    return _captured(model, inputs, text)


def with_lifetimes(graph: Graph, model: object, inputs: object) -> Graph:
    """`graph`, captured from `model`, with a detail that tells how long Python holds each result.

    The detail lists, for each operator, the last step at which each of its results is there.
    """
    from peakmem.frontends.torch.lifetimes import lifetimes

    steps = lifetimes(model, inputs)
    if steps is None:
        return graph
    captured = [operator.op_type for operator in graph.operators]
    if [step.op for step in steps] != captured:
        others = sorted({step.op for step in steps} - set(captured)) or ["the same in another order"]
        return replace(graph, details=(*graph.details, Detail(DIFFERS, ", ".join(others)[:400])))
    text = " ".join("/".join(map(str, step.gone)) or "-" for step in steps)
    return replace(graph, details=(*graph.details, Detail(LIFETIMES, text)))


def _captured(model: Any, inputs: object, text: str) -> Graph:
    from peakmem.frontends.live import read_live

    graph = read_live(model, inputs=inputs, batch=None)
    if graph.source == EXPORTED:
        return graph
    return replace(with_lifetimes(graph, model, inputs), source=text)


def _imported(name: str, text: str) -> Any:
    """The module in a file, or of that name; the current folder is searched too."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    if name.endswith(".py") and not Path(name).is_file():
        raise UsageError(f"there is no Python file {Path(name).name}", where=text)
    try:
        with redirect_stdout(sys.stderr):
            if not name.endswith(".py"):
                return importlib.import_module(name)
            spec = importlib.util.spec_from_file_location("predicted_model", name)
            if spec is None or spec.loader is None:
                raise UsageError("the file cannot be imported", where=text)
            home = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(home)
            return home
    except UsageError:
        raise
    except (Exception, SystemExit) as fault:  # the user's own code may fail in any way
        raise UsageError(f"importing {name} failed: {type(fault).__name__}: {fault}", where=text) from fault


def _made(home: Any, attribute: str, text: str) -> Any:
    """The module that `attribute` of `home` is or gives."""
    from peakmem.frontends.torch.capture import quiet, without_allocation

    found = home
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(f"there is no {attribute!r}", where=text)
        found = getattr(found, part)
    if not callable(found) or hasattr(type(found), "forward"):
        return found
    try:
        with quiet(), without_allocation():
            return found()
    except (Exception, SystemExit):  # code that reads what it builds
        pass
    try:
        with redirect_stdout(sys.stderr):
            return found()
    except (Exception, SystemExit) as fault:  # as above
        raise UsageError(f"calling {attribute} failed: {type(fault).__name__}: {fault}", where=text) from fault


def _told(rows: Sequence[tuple[str, str, Sequence[int]]]) -> list[str]:
    """`INPUTS` of a file as texts that inputs are told in; in order, since locals are renamed."""
    return [f"{'x'.join(map(str, shape)) if shape else 'scalar'}:{dtype}" for _, dtype, shape in rows]
