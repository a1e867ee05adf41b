"""The profile of MNN on the processor: from a .mnn graph and settings to what a session or a module holds.

`values` makes the commands that the session runs, `convolution` and `strassen` know the kernels, `allocators` the two
allocators, `plan` goes through the making of a session. Its oracle is getSessionInfo, told as "session memory".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from peakmem.engines.mnn.convolution import choose
from peakmem.engines.mnn.kernels import HEADER, Kernels, kernels
from peakmem.engines.mnn.plan import Session, session
from peakmem.engines.mnn.values import Command, Commands
from peakmem.engines.prediction import Holding, Kind, Moment, Prediction, Processor, Unmodelled, Value
from peakmem.errors import GraphError, UsageError
from peakmem.ir.graph import Graph, Operator
from peakmem.measuring.engine import engine

NAME = "mnn"
VERIFIED = "3.6.1"
MOST_THREADS = 32
# MAX_THREAD_NUMBER, source/backend/cpu/CPUBackend.cpp
READ_BLOCK, READ_ENTRY, READ_FIXED = 4096, 16, 5552
# source/core/FileLoader.cpp: the file is read in blocks, each an allocation of its own with an entry in a list, then
# copied to one; the last figure is the stream's buffer and the interpreter, measured on three files
INTERPRETER = 996
# bytes beside the file when it is read; the same on seven files
BASE, OPERATOR, COMMAND, WINOGRAD, TILE = 5_000, 1_600, 1_050, 2_500, 820
# bytes of the engine's structures: fitted to seven networks of the rules and to two of eight operators, at 1 to 4
# threads; of the seven they are 0.02 to 1.7 % of all
UNWATCHED = 110
# bytes a command less with callbacks=off
MODULE, MODULE_OPERATOR = 2_000, 1_170
# bytes of a module before its first run, and for each of its operators
FED, RUNNING = 512, 120
# bytes of a host tensor beside its data; what a run asks for


class Mnn:
    """How MNN allocates."""

    name = NAME
    reads = ("mnn",)

    def predict(self, graph: Graph, settings: Mapping[str, Value], processor: Processor) -> Prediction:
        """What MNN holds with `graph`, all dimensions bound.

        Raises:
            UsageError: a setting that is not modelled, or unknown.
            GraphError: not a graph of MNN, one with bodies, or a tensor without a size.
        """
        chosen = _settings(settings)
        _readable(graph)
        threads = min(int(chosen["threads"]), MOST_THREADS)
        level = int(chosen["winograd_level"])
        tiles = kernels(processor, threads)
        commands = Commands(graph, tiles.pack)
        late = chosen["api"] == "module" and bool(chosen["shape_mutable"])
        # a module whose shapes may change makes its session at the first run
        made = session(
            commands, tiles, level, eager=chosen["allocator"] == "eager",
            collect=chosen["static_memory"] == "collect", inputs=not late,
        )  # fmt: skip
        objects = _objects(graph, commands, made, tiles, level)
        if not chosen["callbacks"]:
            objects -= UNWATCHED * len(commands.commands)
        stored = _file_bytes(graph)
        base = [
            Holding("file", stored + HEADER, "read into memory; the interpreter keeps it"),
            Holding("objects", objects + INTERPRETER, "operators, tensors, commands, executions"),
        ]
        moments = _moments(graph, commands, made, base, stored)
        if chosen["api"] == "module":
            moments = _module(graph, moments, made, base, stored, late=late)
        missing = _missing(commands, made, chosen, processor)
        details = {
            "session memory": made.told,
            "planned block": made.block,
            "tensors at most": made.placed,
            "commands": len(commands.commands),
        }
        kind: Kind = "lower bound" if missing else "estimate"
        return Prediction(NAME, VERIFIED, chosen, moments, missing, details=details, kind=kind)


def _moments(graph: Graph, commands: Commands, made: Session, base: list[Holding], stored: int) -> tuple[Moment, ...]:
    static = made.static.live - sum(commands.loose) - HEADER * len(commands.loose)
    standing = [*base]
    if commands.loose:
        standing.append(Holding("weights", sum(commands.loose) + HEADER * len(commands.loose), "constants, copied"))
    if made.block:
        standing.append(Holding("repacked weights", static, "in tiles, Winograd or blocks of channels; with biases"))
        standing += _planned(made)
    else:
        standing.append(Holding("repacked weights", static, "with all tensors, which are taken from the same memory"))
    now = sum(one.nbytes for one in standing)
    reading = _reading(stored)
    making = sum(one.nbytes for one in base) + made.making_peak
    top, where = standing, "the end"
    if reading > max(making, now):
        copies = reading - stored - HEADER
        top, where = [base[0], Holding("workspace", copies, "the file in blocks as it was read")], "reading the file"
    elif making > now:
        weights = Holding("repacked weights", made.making_peak, "with a copy that is given back")
        top, where = [*base, weights], "making executions"
    fed = sum(graph.tensors[name].nbytes or 0 for name in graph.inputs)
    given = Holding("inputs and outputs", fed + FED * len(graph.inputs), "host tensors that every run copies from")
    after = (*standing, given)
    running = (*after, Holding("objects", RUNNING, "of a run"))
    return (
        Moment("load", tuple(standing), tuple(top), where),
        Moment("run 1", after, running, made.placed_at),
        Moment("steady", after, running, made.placed_at),
    )


def _module(
    graph: Graph, moments: tuple[Moment, ...], made: Session, base: list[Holding], stored: int, *, late: bool
) -> tuple[Moment, ...]:
    """The newer interface: an input of its own beside the caller's; it reads the file into a second copy for a while.

    Measured on four networks with 3.6.1: the sums are the session's, and these.
    """
    fed = sum(graph.tensors[name].nbytes or 0 for name in graph.inputs)
    given = sum(graph.tensors[name].nbytes or 0 for name in graph.outputs)
    own = Holding("inputs and outputs", fed + given + FED * len(graph.inputs), "the module's own inputs and results")
    loaded, first, steady = moments
    live, peak, where = (*loaded.live, own), loaded.peak, loaded.peak_at
    making = (*base, Holding("repacked weights", made.making_peak, "with a copy that is given back"))
    run = (*first.peak, own)
    if late:
        structures = Holding("objects", MODULE_OPERATOR * len(graph.operators) + INTERPRETER, "operators, tensors")
        live = (base[0], structures, Holding("inputs and outputs", fed + MODULE, "the module's own inputs"))
        copies = _reading(stored) - stored - HEADER
        peak = (base[0], Holding("workspace", copies, "the file in blocks as it was read"))
        where = "reading the file"
        running = (*making, first.live[-1], own)
        run = max(run, running, key=lambda parts: sum(part.nbytes for part in parts))
    else:
        both = (*making, Holding("file", stored, "a second copy"), Holding("inputs and outputs", given, "results"))
        if sum(one.nbytes for one in both) > loaded.peak_bytes:
            peak, where = both, "making executions"
    return (
        Moment("load", live, peak, where),
        Moment("run 1", (*first.live, own), run, first.peak_at),
        Moment("steady", (*steady.live, own), (*steady.peak, own), steady.peak_at),
    )


def _planned(made: Session) -> list[Holding]:
    return [
        Holding("activations", made.placed, f"tensors alive at {made.placed_at}"),
        Holding("workspace", made.block - made.placed, "working memory and gaps of the plan, in the same block"),
        Holding("allocator", HEADER, "alignment of the block"),
    ]


def _reading(stored: int) -> int:
    """The most while the file is read: FileLoader::read and merge."""
    blocks = stored // READ_BLOCK + 1
    entries = 1 << max(0, blocks - 1).bit_length()
    return stored + HEADER + blocks * (READ_BLOCK + HEADER) + entries * READ_ENTRY + READ_FIXED


def _objects(graph: Graph, commands: Commands, made: Session, tiles: Kernels, level: int) -> int:
    winograd = sum(
        command.op_type == "Convolution" and choose(command, tiles, level).way == "winograd"
        for command in commands.commands
    )
    count = OPERATOR * len(graph.operators) + COMMAND * len(commands.commands)
    return BASE + count + WINOGRAD * winograd + TILE * made.tiles


def _missing(
    commands: Commands, made: Session, chosen: Mapping[str, Value], processor: Processor
) -> tuple[Unmodelled, ...]:
    found = [
        Unmodelled(
            f"operator {command.op_type}", f"working memory of {command.name} has no rule", _command_bytes(command)
        )
        for command in made.unruled
    ]
    found += [
        Unmodelled(
            f"operator {operator.op_type}", f"the sizes that {operator.name} makes are not known",
            _weight_bytes(commands.graph, operator),
        )
        for operator in commands.unsized
    ]  # fmt: skip
    quantised = [one for one in commands.commands if one.attributes.get("stored") in ("quantised", "int8")]
    if quantised:
        sizes = sum(_command_bytes(one) for one in quantised)
        found.append(
            Unmodelled(
                f"{len(quantised)} quantised convolutions", "counted as floats, as memory=normal has them", sizes
            )
        )
    if processor.architecture != "x86_64":
        found.append(Unmodelled(f"processor {processor.architecture}", "tiles are read from the source, not measured"))
    if chosen["precision"] in ("low", "low_bf16") and processor.architecture != "x86_64":
        found.append(Unmodelled(f"precision={chosen['precision']}", "float16 halves weights and tensors there"))
    return tuple(found)


def _command_bytes(command: Command) -> int:
    return sum(nbytes for _, nbytes in command.weights) + sum(one.count * one.item for one in command.outputs)


def _weight_bytes(graph: Graph, operator: Operator) -> int:
    tensors = (graph.tensors[name] for name in operator.inputs if name)
    return sum(tensor.nbytes or 0 for tensor in tensors if tensor.role == "constant")


def _settings(settings: Mapping[str, Value]) -> dict[str, Value]:
    chosen: dict[str, Value] = dict(engine(NAME).defaults())
    for name, value in settings.items():
        if name not in chosen:
            raise UsageError(f"MNN has no setting {name!r}", expected=", ".join(sorted(chosen)))
        chosen[name] = value
    if chosen["api"] not in ("session", "module"):
        raise UsageError(f"MNN has no api {chosen['api']!r}", expected="session or module")
    if chosen["winograd_level"] not in (0, 1, 2, 3):
        raise UsageError(f"no winograd_level {chosen['winograd_level']!r}", expected="0 to 3")
    for name in ("rearrange", "dynamic"):
        if chosen[name]:
            raise UsageError(f"{name} is not modelled", hint=f"--set {name}=off")
    others = ("resize", "callbacks") if chosen["api"] == "module" else ("shape_mutable",)
    for name in others:
        if chosen[name] != engine(NAME).defaults()[name]:
            raise UsageError(f"{name} is no setting of api={chosen['api']}")
    if int(chosen["threads"]) < 1:
        raise UsageError("threads are counted from 1", expected="1 or more")
    return chosen


def _readable(graph: Graph) -> None:
    if graph.format != "mnn":
        raise GraphError(f"MNN reads .mnn files, this is {graph.format}", where=graph.source)
    for operator in graph.operators:
        if operator.attributes.get("parameter") in ("WhileParam", "IfParam"):
            raise GraphError(
                f"a session of MNN runs no {operator.op_type} with a body", where=operator.name,
                expected="a network without loops and branches",
            )  # fmt: skip


def _file_bytes(graph: Graph) -> int:
    """Bytes of the file it was read from; its constants where there is none."""
    path = Path(graph.source)
    if graph.source and path.is_file():
        return path.stat().st_size
    return sum(tensor.nbytes or 0 for tensor in graph.tensors.values() if tensor.role == "constant")


PROFILE = Mnn()
