"""What a network needs in RAM and in storage, by its graph alone: live ranges, stored bytes, the packing of an arena.

The numbers are those of `peakmem estimate`; only that weights may be counted in a dtype of their own is new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from peakmem.binding import bound, defaulted
from peakmem.dtypes import parse_dtype
from peakmem.engines.tflm.planner import Buffer as Planned
from peakmem.engines.tflm.planner import extent, greedy
from peakmem.errors import UsageError
from peakmem.fitting.question import Question
from peakmem.ir.graph import Graph
from peakmem.liveness import Buffer, state_bytes
from peakmem.parameters import Parameters, parameters
from peakmem.passes.assume import assumption
from peakmem.pipeline import load, paused_collection, retype
from peakmem.study import Study


@dataclass(frozen=True, slots=True)
class Need:
    """One network as a graph, in bytes."""

    name: str
    weights_bytes: int
    # everything the model stores, in the dtype that was asked for
    matrix_bytes: int
    # the part of it that a narrower dtype shrinks: kernels, matrices, embeddings, with their scales
    matrix_elements: int
    state_bytes: int
    live_bytes: int
    # the live peak
    at: str
    # operator of the peak
    buffers: tuple[Planned, ...]
    # that an arena has to hold
    file_bytes: int | None
    # of the file that was read, with nothing about it changed
    unknowns: tuple[str, ...]
    # what has no size; the numbers are lower bounds then
    assumptions: tuple[str, ...]
    activations_known: bool
    graph: Graph
    # as read, before a dimension had a value


def needed(question: Question) -> Need:
    """What `question` needs, from the graph alone.

    Raises:
        PeakmemError: see `peakmem.load` and `peakmem.estimate`.
    """
    with paused_collection():
        return _needed(question)


def read(question: Question) -> Graph:
    """The network as read, its dimensions not yet given."""
    return load(
        question.source, inputs=question.inputs or None, batch=question.batch, form=question.form,
        options=dict(question.options),
    )  # fmt: skip


def _needed(question: Question) -> Need:
    frame = assumption(question.assume).name
    given = read(question)
    batch = None if given.bound else question.batch
    shapes, dims = dict(question.shapes), dict(question.dims)
    graph = bound(given, batch=batch, shapes=shapes, dims=dims)
    stored = parameters(graph)
    counted = parse_dtype(question.dtype) if question.dtype else None
    narrow = parse_dtype(question.weights) if question.weights else counted
    weights_bytes = stored.nbytes() if narrow is None else sum(stored.size(narrow))
    matrices = Parameters(tuple(one for one in stored.constants if one.role == "weight"))
    if counted is not None:
        graph = retype(graph, counted, stored)
    study = Study(graph)
    known = not graph.weights_only
    line = study.timeline(frame)
    operators = study.graph(frame).operators
    unsized = tuple(dict.fromkeys(line.liveness.unsized))
    reasons = [f"{one.op_type} {one.operator}: {one.reason}" for one in graph.unknowns]
    reasons += [f"tensor {name} has no size" for name in unsized]
    reasons += [
        f"constant {one.name} has no fixed width" for one in graph.tensors.values()
        if one.role == "constant" and one.nbytes is None
    ]  # fmt: skip
    if not known:
        reasons.append("the source holds weights and no operators: its activations are not known")
    path = Path(given.source) if given.source not in ("", "zoo") else None
    same = narrow is None and path is not None and path.is_file()
    return Need(
        given.name if path is None else path.name, weights_bytes,
        matrices.nbytes() if narrow is None else sum(matrices.size(narrow)), matrices.elements("weight"),
        state_bytes(graph), line.peak_bytes if known else 0,
        operators[line.peak_step].name if operators else "", _buffers(line.liveness.buffers, line.liveness.inner_bytes),
        path.stat().st_size if same and path is not None else None, tuple(reasons),
        (*_said(question, graph), *(f"{one} = {given.defaults[one]}, the source's default"
         for one in defaulted(given, batch=batch, shapes=shapes, dims=dims))),
        known, given,
    )  # fmt: skip


def _said(question: Question, graph: Graph) -> tuple[str, ...]:
    frame = assumption(question.assume)
    said = [] if graph.weights_only else [
        f"execution: {frame.name} ({frame.title}); an input is free after its last reader",
        "what operators take only while they run (workspace) is not counted: --engine NAME predicts it",
    ]  # fmt: skip
    if question.dtype:
        said.append(f"floating weights and activations are counted in {question.dtype}, with scales at integer dtypes")
    if question.weights:
        said.append(f"stored weights alone are counted in {question.weights}, with scales at integer dtypes")
    return (*said, *graph.notes)


def _buffers(ranges: Sequence[Buffer], inner: Sequence[tuple[int, int]]) -> tuple[Planned, ...]:
    """Live ranges as a planner is told of them: both ends of a life belong to it."""
    found = [Planned(one.nbytes, one.start, one.stop - 1, what=one.name) for one in ranges if one.nbytes]
    found += [Planned(nbytes, step, step, what=f"inside step {step}", scratch=True) for step, nbytes in inner if nbytes]
    return tuple(found)


# -- an arena ----------------------------------------------------------------------------


def rounded(buffers: Sequence[Planned], alignment: int) -> tuple[Planned, ...]:
    """The buffers, each with a multiple of `alignment`."""
    return tuple(replace(one, nbytes=-(-one.nbytes // alignment) * alignment) for one in buffers)


def packed(buffers: Sequence[Planned]) -> int:
    """The height of an arena in which all of them have their place: TFLM's greedy planner."""
    return extent(buffers, greedy(buffers))


def spread(buffers: Sequence[Planned], banks: Sequence[tuple[str, int]]) -> dict[str, int] | str:
    """Bytes used of each bank when buffers are placed largest first, each in the first bank with room for it.

    Returns:
        The use of each bank, or what does not fit: the name of the first buffer that has no place.
    """
    inside: dict[str, list[Planned]] = {name: [] for name, _ in banks}
    for one in sorted(buffers, key=lambda buffer: -buffer.nbytes):
        for name, size in banks:
            if one.nbytes <= size and packed([*inside[name], one]) <= size:
                inside[name].append(one)
                break
        else:
            return one.what
    return {name: packed(held) for name, held in inside.items()}


def checked(question: Question) -> None:
    """Refuse what does not go together, before anything is read.

    Raises:
        UsageError: a dtype, an assumption or a count that cannot be.
    """
    assumption(question.assume)
    for text in (question.dtype, question.weights):
        if text and parse_dtype(text).bits is None and parse_dtype(text).block == 1:
            what = f"nothing can be counted in {text!r}"
            raise UsageError(what, expected="a dtype of fixed width", hint="--dtype int8")
    if question.devices < 1:
        raise UsageError(f"--devices is {question.devices}", expected="1 or more", hint="--devices 2")
    if question.settings and not question.engine:
        raise UsageError("--set is for engines", hint="--engine NAME --set …")
    if question.engine:
        flags = {
            "--dtype": question.dtype, "--weights-dtype": question.weights, "--format": question.form,
            "--option": question.options, "--file": question.file,
        }  # fmt: skip
        for flag, value in flags.items():
            if value:
                raise UsageError(f"{flag} is for the graph alone: an engine takes the model as it is stored",
                                 hint="--set NAME=VALUE, or leave out --engine")  # fmt: skip
