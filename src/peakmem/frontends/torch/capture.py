"""PyTorch modules to graphs: captured on tensors without memory, so that nothing is allocated or computed.

torch.export is asked first; where it refuses, the module runs once on fake tensors and the
operators are written down as they run. The module is left as it was.
"""

from __future__ import annotations

from typing import Any

from peakmem.errors import UsageError
from peakmem.frontends.torch.fake import (
    fake_arguments,
    floating_of,
    in_mode,
    mode_of,
    place_of,
    quiet,
    require_torch,
    restored,
    without_allocation,
)
from peakmem.frontends.torch.graph import graph_of
from peakmem.frontends.torch.inputs import Arguments, arguments
from peakmem.frontends.torch.program import Program
from peakmem.frontends.torch.refusals import depends_on_data, first_line, lazy, needs_inputs, refusal
from peakmem.ir.graph import Graph

_EXAMPLES = ("example_inputs", "example_input_array", "dummy_inputs")
# attributes in which modules say what they are called with


def capture(model: Any, *, inputs: object, batch: int | None, notes: tuple[str, ...] = ()) -> Graph:
    """The graph of one call of a module in eval mode, or of an ExportedProgram.

    Args:
        model: a `torch.nn.Module`, with real, fake or meta tensors; or what `torch.export.export` gave.
        inputs: what it is called with; a program brings its own.
        batch: in place of the first dimension of every input.
        notes: what to note besides.

    Raises:
        UsageError: inputs that do not fit, or a module that decides by the content of tensors.
        MissingLibrary: torch is not installed.
    """
    torch = require_torch()
    if not isinstance(model, torch.nn.Module):
        return _exported(model, inputs)
    unsized = lazy(model)
    if unsized is not None:
        raise unsized
    given = call_arguments(model, inputs)
    if batch is not None and batch < 1:
        raise UsageError(f"--batch is {batch}", expected="1 or more")
    if batch is not None:
        given = given.batched(batch)
    program, how = _program(model, given)
    return graph_of(
        program, name=type(model).__name__, form="torch", source=f"{type(model).__module__}.{type(model).__qualname__}",
        bound=True, notes=(*notes, how),
    )  # fmt: skip


def _exported(model: Any, inputs: object) -> Graph:
    if inputs is not None:
        raise UsageError("an exported program brings its own inputs", hint="--dim for dimensions it left open")
    from peakmem.frontends.torch.export import program_of

    return graph_of(program_of(model), name="exported", form="torch", source="torch.export.ExportedProgram")


def call_arguments(model: Any, inputs: object) -> Arguments:
    """What the user said, or else what the module says of itself."""
    if inputs is not None:
        return arguments(inputs)
    for name in _EXAMPLES:
        try:
            example = getattr(model, name, None)
            example = example() if callable(example) else example
        except Exception:  # a property or method of the user's own module may fail in any way
            continue
        if example is not None:
            return arguments(example)
    raise needs_inputs(model)


def _program(model: Any, given: Arguments) -> tuple[Program, str]:
    """(program, a sentence on how it was captured)."""
    with quiet(), restored(model):
        model.eval()
        mode = mode_of(model)
        floating, device = floating_of(model), place_of(model)
        in_mode(model, mode)
        try:
            positional, named = fake_arguments(given, mode, floating=floating, device=device)
        except Exception as fault:  # torch raises many kinds for sizes and devices it cannot have
            raise UsageError(f"the inputs cannot be made: {first_line(fault)}") from fault
        try:
            return _by_export(model, positional, named), "captured by torch.export"
        except (Exception, SystemExit) as fault:  # whatever export refuses for
            refused = fault
        from peakmem.frontends.torch.trace import trace

        try:
            program = trace(model, mode, positional, named)
        except (Exception, SystemExit) as fault:  # whatever the module's own code raises
            raise refusal(model, refused if depends_on_data(refused) else fault) from fault
    return program, f"captured by tracing the operators that ran, because torch.export refused: {first_line(refused)}"


def _by_export(model: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> Program:
    from peakmem.frontends.torch.export import export, program_of

    return program_of(export(model, positional, named))


__all__ = ["capture", "quiet", "without_allocation"]
