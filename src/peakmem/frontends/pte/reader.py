"""ExecuTorch programs to graphs, without a library and without loading weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from peakmem.errors import FormatError, UsageError
from peakmem.frontends.door import door
from peakmem.frontends.pte import schema
from peakmem.frontends.pte.graph import Built, Planned, build
from peakmem.frontends.pte.program import Method, Program
from peakmem.frontends.pte.schema import Kind
from peakmem.frontends.section import Section
from peakmem.ir.graph import Detail, Graph
from peakmem.ir.validate import validate

_DAMAGE = (IndexError, KeyError, ValueError, TypeError)
_MOST_SHOWN = 8
_WHAT = "the ExecuTorch program"


def read_pte(path: Path, *, method: str = "") -> Graph:
    """The graph of a method of an ExecuTorch program.

    Args:
        path: the file.
        method: its name; `forward`, or the first where there is none, unless told.

    Raises:
        FormatError: not an ExecuTorch program, or a damaged one.
        UsageError: no such method.
    """
    with door(path, *_DAMAGE, what=_WHAT), Section(path) as section:
        program = Program(section)
        chosen = program.method(choose(program, method))
        built = build(program, chosen)
        graph = replace(
            built.graph,
            name=path.stem,
            source=str(path),
            format="pte",
            notes=(*built.graph.notes, *_notes(chosen)),
            details=tuple(_details(program, chosen, built)),
            bound=True,
        )
        validate(graph)
        return graph


def read_places(path: Path, *, method: str = "") -> Mapping[str, Planned]:
    """Where each tensor of a method's graph lies in planned memory, by its name, in the order they are written.

    Raises:
        FormatError: not an ExecuTorch program, or a damaged one.
        UsageError: no such method.
    """
    with door(path, *_DAMAGE, what=_WHAT), Section(path) as section:
        program = Program(section)
        return build(program, program.method(choose(program, method))).places


def choose(program: Program, method: str) -> str:
    """The name of the method that is meant."""
    if not program.methods:
        raise FormatError("the program has no method", expected="at least one")
    if not method:
        return "forward" if "forward" in program.methods else program.methods[0]
    if method not in program.methods:
        raise UsageError(f"the program has no method {method!r}", expected=f"one of {', '.join(program.methods[:20])}")
    return method


def _notes(method: Method) -> Iterator[str]:
    kinds = [one.content.dynamism for one in method.values if one.kind == Kind.TENSOR]
    if bound := kinds.count(schema.BOUND):
        yield f"tensors of dynamic shape, counted at the largest that their place is planned for: {bound}"
    if unbound := kinds.count(schema.UNBOUND):
        yield f"tensors whose shape only running tells, not counted: {unbound}"


def _details(program: Program, method: Method, built: Built) -> Iterator[Detail]:
    for number, nbytes in list(enumerate(method.buffers))[1 : _MOST_SHOWN + 1]:
        tensors = sum(1 for place in built.places.values() if place.memory == number)
        yield Detail(f"planned buffer {number}", f"{tensors} tensors have a place in it, planned ahead", nbytes)
    if len(method.buffers) > _MOST_SHOWN + 1:
        rest = method.buffers[_MOST_SHOWN + 1 :]
        yield Detail("planned buffers", f"{len(rest)} more", sum(rest))
    if method.devices:
        yield Detail("planned buffers of devices", f"{method.devices} are not in the memory of the CPU")
    if program.constant_segment is not None:
        yield Detail("constant segment", "weights of all methods that no delegate has", program.constant_segment.nbytes)
    if program.mutable_segment_bytes:
        yield Detail("mutable segments", "first contents of states", program.mutable_segment_bytes)
    if program.named:
        places = set(program.named.values())
        yield Detail("named data", f"{len(program.named)} that delegates ask for", sum(one.nbytes for one in places))
    for title, number, blob in built.delegates[:_MOST_SHOWN]:
        nodes = f"{len(blob.nodes)} nodes of XNNPACK" if blob is not None else "what it computes is not read"
        yield Detail(f"delegate {title}", f"{nodes}; what it was given", method.delegates[number].place.nbytes)
    if len(built.delegates) > _MOST_SHOWN:
        rest_bytes = sum(method.delegates[number].place.nbytes for _, number, _ in built.delegates[_MOST_SHOWN:])
        yield Detail("delegates", f"{len(built.delegates) - _MOST_SHOWN} more calls", rest_bytes)
    others = [name for name in program.methods if name != method.name]
    for name in others[:_MOST_SHOWN]:
        text = f"not this graph; its planned buffers (--option method={name})"
        yield Detail(f"method {name}", text, sum(program.buffers[name][1:]))
    if len(others) > _MOST_SHOWN:
        yield Detail("methods", f"{len(others) - _MOST_SHOWN} more")
    yield Detail("program", "tables, before the segments", program.program_bytes)


__all__ = ["Planned", "read_places", "read_pte"]
