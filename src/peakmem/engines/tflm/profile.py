"""Profile of TensorFlow Lite for Microcontrollers: its arena, and what the Python process holds beside it.

The arena is exact where every operator has a rule. The binding takes it whole from the heap, so that a process holds
what was asked for and not what is used; both are told.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from peakmem.engines.prediction import Holding, Moment, Prediction, Processor, Unmodelled, Value
from peakmem.engines.tflm import kernels
from peakmem.engines.tflm.arena import up
from peakmem.engines.tflm.walk import VARIABLES, Body, Laid, Tensor, lay
from peakmem.errors import GraphError, UsageError
from peakmem.ir.graph import Graph

if TYPE_CHECKING:
    from peakmem.frontends.tflite.census import Census

VERIFIED = "0.dev20261023182759"
# of tflite-micro; rules read at 90b983c, sizes of options from the wheel's own machine code
LARGEST = 2**31 - 16
# bytes of an arena: its offsets are int
WRAPPER = 14_048
# the binding's interpreter with its list of operators; measured with seven files, 14,048 to 14,056
BYTES_OBJECT, BYTEARRAY, SMALL_BLOCKS = 33, 1, 512
# CPython: header of bytes; a bytearray ends with a zero; smaller blocks come from arenas of its own
BINDING_LOAD, BINDING_RUN = 104, 32
# what load and a run hold for a moment; measured
ARCHITECTURES = ("x86_64", "aarch64")
_WITHOUT_EFFECT = (
    "reset", "smallest_arena", "threads", "malloc_mmap_threshold", "malloc_trim_threshold", "malloc_arena_max",
)  # fmt: skip


class Tflm:
    """Reads the file the graph came from: scales, unread tensors and their order are no part of a Graph."""

    name = "tflm"
    reads = ("tflite",)

    def predict(self, graph: Graph, settings: Mapping[str, Value], processor: Processor) -> Prediction:
        """What the engine holds with `graph`.

        Raises:
            UsageError: no .tflite file, another architecture, other shapes than the file's, or an arena too small.
            GraphError: the engine would refuse the network.
        """
        if processor.architecture not in ARCHITECTURES:
            raise UsageError(
                f"TFLM's structures are not known on {processor.architecture}", expected=" or ".join(ARCHITECTURES)
            )
        census = self._census(graph)
        preserve = settings.get("interpreter", "recording") == "preserve_all_tensors"
        asked = int(settings.get("arena", 0))
        size = asked or min(10 * census.nbytes, LARGEST)
        if not 0 < size <= LARGEST:
            raise UsageError(f"an arena of {size} B", expected=f"1 to {LARGEST} B")
        _check_operators(census)
        laid = lay(_bodies(census), census.plan, size, preserve=preserve)
        whole = laid if up(size) == size else lay(_bodies(census), census.plan, up(size), preserve=preserve)
        least = up(whole.arena.least)
        if laid.arena.least > size:
            raise UsageError(
                f"an arena of {size} B is too small for this network at {laid.arena.least_at}",
                expected=f"{least} B or more", hint=f"--set arena={least}",
            )  # fmt: skip
        unmodelled = _unmodelled(census, settings, laid)
        notes = [
            f"the arena is asked for whole: {size:,} B, of which {laid.head + laid.arena.tail_bytes:,} B are used",
            f"the smallest arena is {least:,} B: {_reason(laid)}",
        ]
        if laid.lower_bound > laid.head:
            notes.append("offsets planned ahead in the file let tensors overlap that live at the same time")
        if processor.architecture != "x86_64":
            notes.append("measured on x86_64 only; structures are the same with pointers of 8 bytes")
        return Prediction(
            engine=self.name,
            verified=VERIFIED,
            settings=dict(settings),
            moments=_moments(census, laid, size, int(settings.get("decompression_memory", 0))),
            unmodelled=unmodelled,
            notes=tuple(notes),
            details=_details(laid, least),
        )

    def _census(self, graph: Graph) -> Census:
        from peakmem.frontends.tflite.census import read_census

        path = Path(graph.source)
        if graph.format != "tflite" or not path.is_file():
            raise UsageError(
                "TFLM is predicted from a .tflite file", where=graph.source, expected="a file that is there"
            )
        census = read_census(path)
        if not census.bodies:
            raise GraphError("the file has no subgraph", where=graph.source)
        if census.behind:
            raise GraphError("TFLM takes weights behind the flatbuffer for activations", where=graph.source)
        main = census.bodies[0]
        given = [main.tensors[at] for at in main.inputs if not (main.tensors[at].stored or main.tensors[at].variable)]
        if len(given) == len(graph.inputs):
            for one, name in zip(given, graph.inputs, strict=True):
                shape = graph.tensors[name].shape
                if shape is not None and any(
                    isinstance(size, int) and size != there for size, there in zip(shape, one.shape, strict=False)
                ):
                    raise UsageError(
                        f"TFLM runs the shapes of the file: {name} is {list(one.shape)} there", where=graph.source
                    )
        return census


PROFILE = Tflm()


def _bodies(census: Census) -> list[Body]:
    return [
        Body(
            tuple(
                Tensor(
                    one.name, one.shape, one.dtype.name if one.dtype else "unknown", one.stored, one.variable,
                    one.scales, one.zero_points,
                )
                for one in body.tensors
            ),
            body.calls, body.inputs, body.outputs,
        )
        for body in census.bodies
    ]  # fmt: skip


def _check_operators(census: Census) -> None:
    for body in census.bodies:
        for at, call in enumerate(body.calls):
            known = call.op_type in (kernels.PREPARE if call.domain == "tflite" else kernels.OTHERS)
            if not known:
                raise GraphError(f"this build of TFLM has no operator {call.op_type}", where=f"{call.op_type}_{at}")


def _unmodelled(census: Census, settings: Mapping[str, Value], laid: Laid) -> tuple[Unmodelled, ...]:
    found = [
        Unmodelled(name, "what its kernel takes is not known: left out of head and tail") for name in laid.without_rule
    ]
    if census.compressed:
        found.append(Unmodelled("compressed constants", "their tables at the tail, room to unpack them at the head"))
    if settings.get("python_malloc", "pymalloc") != "pymalloc":
        found.append(Unmodelled("python_malloc=malloc", "Python's small objects beside the arena"))
    modelled = {"arena", "interpreter", "decompression_memory", "python_malloc", *_WITHOUT_EFFECT}
    found += [Unmodelled(f"{name}={value}", "no rule") for name, value in settings.items() if name not in modelled]
    return tuple(found)


def _reason(laid: Laid) -> str:
    if laid.arena.least_at == "planning":
        return "the planner's lists and the records of all tensors stand in it before the head is laid"
    if laid.arena.least_at == "inputs and outputs":
        return "head and tail"
    return f"descriptions of tensors while {laid.arena.least_at} is prepared"


def _moments(census: Census, laid: Laid, size: int, decompression: int) -> tuple[Moment, ...]:
    arena = laid.arena
    state = arena.kept.get(VARIABLES, 0)
    alive = min(laid.lower_bound, laid.head)
    # a plan in the file may let tensors share bytes
    scratch = min(laid.workspace, alive)
    held = [
        Holding("file", census.nbytes + BYTES_OBJECT, "read into memory; weights are used from there"),
        Holding("activations", alive - scratch, f"tensors alive at {laid.fullest}"),
        Holding("workspace", scratch, f"scratch alive at {laid.fullest}"),
        Holding("state", state, "variable tensors, at the tail"),
        Holding("objects", arena.tail_bytes - state, "the interpreter's structures, at the tail"),
        Holding("objects", WRAPPER, "the binding and its list of operators"),
        Holding("pools", laid.head - alive, "gaps between tensors that the planner leaves in the head"),
        Holding("pools", size - laid.head - arena.tail_bytes, "the rest of the arena, asked for and not used"),
    ]
    if decompression:
        held.append(Holding("workspace", decompression, "decompression_memory"))
    main = census.bodies[0]
    inputs = 0
    for at in main.inputs:
        one = main.tensors[at]
        block = (kernels.nbytes(one.shape, one.dtype.name if one.dtype else "") or 0) + BYTEARRAY
        inputs += block if block > SMALL_BLOCKS else 0
    fed = [*held, Holding("inputs and outputs", inputs, "inputs, from which the interpreter copies")]
    loaded = tuple(one for one in held if one.nbytes)
    running = tuple(one for one in fed if one.nbytes)
    at_load = Holding("objects", BINDING_LOAD, "the binding, for a moment")
    at_run = Holding("objects", BINDING_RUN, "the binding, for a moment")
    return (
        Moment("load", loaded, (*loaded, at_load), "setting up"),
        Moment("run 1", running, (*running, at_run), laid.fullest),
        Moment("steady", running, (*running, at_run), laid.fullest),
    )


def _details(laid: Laid, least: int) -> dict[str, int]:
    arena = laid.arena
    return {
        "head": laid.head,
        "tail": arena.tail_bytes,
        "total": laid.head + arena.tail_bytes,
        "lower bound": laid.lower_bound,
        "smallest arena": least,
        "temporary peak": arena.temporary_peak,
        **{f"tail: {what}": count for what, count in arena.kept.items()},
    }
