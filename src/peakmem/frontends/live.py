"""Live models and factories: objects the user made, or code the user asks for by name.

Nothing here runs code from a file unasked: `package.module:factory` is imported because the user
typed it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path

from peakmem.errors import MissingLibrary, UsageError
from peakmem.ir.graph import Graph

_FACTORY = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")


def is_factory(text: str) -> bool:
    """Whether `text` reads as package.module:factory."""
    return _FACTORY.match(text) is not None


def resolved(text: str) -> object:
    """What stands under `package.module:name`, imported; the current folder is searched too.

    Raises:
        UsageError: no such module or name, or the module fails.
        MissingLibrary: it needs torch or keras, which is not installed.
    """
    module_name, _, attribute = text.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        with redirect_stdout(sys.stderr):
            found: object = import_module(module_name)
    except ModuleNotFoundError as fault:
        if fault.name in ("torch", "keras"):
            raise MissingLibrary(fault.name, extra=fault.name, purpose=f"{text!r}") from fault
        raise UsageError(
            f"there is no module {fault.name!r}",
            where=text,
            expected="a file, a built-in network or package.module:factory",
        ) from fault
    except (Exception, SystemExit) as fault:  # the user's own module may fail in any way
        raise UsageError(f"importing {module_name} failed: {_told(fault)}", where=text) from fault
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(f"module {module_name} has no {attribute!r}", where=text)
        found = getattr(found, part)
    return found


def read_factory(text: str, *, inputs: object, batch: int | None) -> Graph:
    """The graph of what `package.module:factory` gives when it is called; the current folder is searched too.

    A factory that is a class or a function is called without arguments; a module that already
    stands under that name is taken as it is.

    Raises:
        UsageError: no such module or name, or the factory fails.
    """
    found = resolved(text)
    if _family(found) or not callable(found):
        return read_live(found, inputs=inputs, batch=batch)
    model, notes = _built(found, text)
    if not _family(model):
        raise UsageError(
            f"the factory gave an object of type {type(model).__name__}, which is no model", where=text,
            expected="a torch.nn.Module or a Keras model",
        )  # fmt: skip
    return read_live(model, inputs=inputs, batch=batch, notes=notes)


def _built(factory: Callable[[], object], text: str) -> tuple[object, tuple[str, ...]]:
    """What `factory` gives, built without memory where PyTorch is there and the factory allows it; notes on how.

    A factory that reads what it builds cannot run without memory; it is called again and allocates.
    """
    import importlib.util

    refused: BaseException | None = None
    if importlib.util.find_spec("torch") is not None:
        from peakmem.frontends.torch.capture import quiet, without_allocation

        try:
            with quiet(), without_allocation():
                model = factory()
            if _family(model) != "keras":
                return model, ()
        except (Exception, SystemExit) as fault:  # the user's own code may fail in any way
            refused = fault
    try:
        with redirect_stdout(sys.stderr):
            model = factory()
    except (Exception, SystemExit) as fault:  # as above
        raise UsageError(f"calling the factory failed: {_told(fault)}", where=text) from fault
    if refused is None or _family(model) == "keras":
        return model, ()
    reason = " ".join(str(refused).split())[:160] or type(refused).__name__
    return model, (f"the module was built with real weights, because the factory cannot run without them: {reason}",)


def _told(fault: BaseException) -> str:
    """What kind of exception it is, and what it says."""
    if isinstance(fault, SystemExit):
        return f"it ended the program (exit code {fault.code})"
    return f"{type(fault).__name__}: {fault}"


def _family(model: object) -> str:
    """ "torch" or "keras" for a model of theirs, told without importing either; else ""."""
    for base in type(model).__mro__:
        home = f"{base.__module__}.{base.__qualname__}"
        if home == "torch.nn.modules.module.Module":
            return "torch"
        if home == "torch.export.exported_program.ExportedProgram":
            return "exported"
        if base.__module__.startswith("keras.") and base.__qualname__ == "Model":
            return "keras"
    return ""


def read_live(model: object, *, inputs: object, batch: int | None, notes: tuple[str, ...] = ()) -> Graph:
    """The graph of a `torch.nn.Module`, an exported program or a Keras model; `notes` go with a module's.

    Raises:
        UsageError: an object of another kind, or inputs that do not fit.
    """
    family = _family(model)
    if family in ("torch", "exported"):
        from peakmem.frontends.torch.capture import capture

        return capture(model, inputs=inputs, batch=batch, notes=notes)
    if family == "keras":
        from peakmem.frontends.keras.reader import read_model

        return read_model(model)
    raise UsageError(
        f"an object of type {type(model).__name__} is no model",
        expected="a path, a torch.nn.Module, a Keras model or a peakmem.Graph",
    )
