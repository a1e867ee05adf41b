"""What a process with ExecuTorch holds when it has loaded a program, in its first run and from then on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from peakmem.engines.executorch import binding
from peakmem.engines.executorch.delegate import WORKSPACE, Delegate
from peakmem.engines.executorch.method import METHOD, Requests
from peakmem.engines.prediction import Holding, Moment, Value
from peakmem.frontends.pte.graph import Built
from peakmem.frontends.pte.program import Method, TensorValue


@dataclass(frozen=True, slots=True)
class Read:
    """What a file says, and what its delegates hold."""

    method: Method
    built: Built
    delegates: tuple[Delegate, ...]
    buffers: tuple[int, ...]
    # planned, by number from 1, each the largest of all methods
    nbytes: int
    mapped: int
    # bytes of the pages of the file that stay mapped


def _sizes(method: Method, positions: Sequence[int]) -> list[tuple[int, bool]]:
    """(bytes, planned) of the tensors among values."""
    found = [method.values[position].content for position in positions]
    return [(one.nbytes, one.planned) for one in found if isinstance(one, TensorValue)]


def moments(read: Read, asked: Requests, path: str, settings: Mapping[str, Value]) -> tuple[Moment, ...]:
    """The phases; `asked` is what loading the method takes, `path` the file as the binding is given it."""
    method, load = read.method, str(settings.get("load", "file"))
    inputs, outputs = _sizes(method, method.inputs), _sizes(method, method.outputs)
    opened = binding.opened(path, read.nbytes, load, read.buffers)
    planned = _planned(read)
    objects = (*asked.holdings(), Holding("objects", binding.PY_METHOD + binding.HOLDER, "its face in Python"))
    created = [one for part in read.delegates for one in (*part.own, *part.created)]
    if read.delegates:
        created.append(Holding("objects", WORKSPACE, "the workspace that delegates share"))
    loaded = (*opened, *planned, *objects, *created)
    outside = _outside(read, load)
    fed = (
        *loaded,
        Holding(
            "inputs and outputs", binding.input_bytes([nbytes for nbytes, _ in inputs]), "inputs, copied when they run"
        ),
        Holding("objects", binding.tensors(len(inputs)), "PyTorch's tensors over the inputs"),
    )
    own = sum(nbytes for nbytes, is_planned in outputs if not is_planned)
    cloned, face = bool(settings.get("clone_outputs", True)), str(settings.get("face", "extension"))
    running = (
        *fed,
        *_running(read),
        Holding("objects", binding.kept(len(method.outputs), clones=cloned, face=face), "lists of results"),
        Holding("inputs and outputs", own, "results that have no place planned"),
    )
    clones = sum(nbytes for nbytes, _ in outputs) if cloned else 0
    after = (
        *running,
        Holding("objects", binding.calling(len(inputs), len(outputs), clones=cloned), "the call"),
        Holding("inputs and outputs", clones, "copies of the results"),
    )
    first, where = after, "copying the results"
    growing = _growing(read) + binding.CALL + binding.SPAN * len(method.outputs)
    growing += binding.VECTOR * len(method.outputs) - binding.kept(len(method.outputs), clones=cloned, face=face)
    if growing > sum(one.nbytes for one in after) - sum(one.nbytes for one in running):
        first = (*running, Holding("workspace", growing, "a larger workspace of XNNPACK's beside the smaller one"))
        where = "XNNPACK plans its memory"
    moment = _at_load(read, asked, path, settings, sum(one.nbytes for one in (*objects, *created)))
    loading = (*loaded, Holding("objects", moment, "loading, for a moment"))
    return (
        Moment("load", _some(loaded), _some(loading), "load", outside),
        Moment("run 1", _some(running), _some(first), where, outside),
        Moment("steady", _some(running), _some(after), "copying the results", outside),
    )


def _at_load(read: Read, asked: Requests, path: str, settings: Mapping[str, Value], added: int) -> int:
    """Most bytes at once up to load beside what is held after it; `added` came since the program was opened."""
    load = str(settings.get("load", "file"))
    moments = [
        binding.looking(len(read.method.inputs)),
        binding.opening(path, load, read.buffers) - added,
        asked.growing + binding.CALL - added,
    ]
    if read.delegates:
        later = asked.of("calls") + asked.later_vector + METHOD + binding.PY_METHOD + binding.HOLDER
        moments.append(_compiling(read) + binding.CALL - later)
    return max(moments) + (binding.BYTES if load == "bytes" else 0)


def _growing(read: Read) -> int:
    """Most bytes in the first run beside what is held after it and the call's own: workspaces take turns."""
    most = current = 0
    final = max((one.workspace.nbytes for one in read.delegates), default=0)
    behind = sum(_indirections(one) for one in read.delegates)
    for one in read.delegates:
        behind -= _indirections(one)
        # of the delegates that run after this one, and are not there yet
        room = one.workspace.nbytes
        most = max(most, current + one.held.planning - final - behind)
        if room > current:
            most = max(most, current + room + one.workspace.records - final - behind)
            current = room
    return most


def _some(holdings: Sequence[Holding]) -> tuple[Holding, ...]:
    return tuple(one for one in holdings if one.nbytes)


def _planned(read: Read) -> tuple[Holding, ...]:
    """The planned buffers: states, inputs and results, other tensors, gaps."""
    places, tensors = read.built.places, read.built.graph.tensors
    state = min(sum(place.nbytes for name, place in places.items() if tensors[name].role == "state"), sum(read.buffers))
    total = sum(read.buffers)
    return (
        Holding("activations", total - state, "planned buffers, as the file has them"),
        Holding("state", state, "states in the planned buffers"),
    )


def _indirections(one: Delegate) -> int:
    """What the first run adds beside the workspace."""
    return sum(holding.nbytes for holding in one.held.planned if holding.category not in ("activations", "pools"))


def _compiling(read: Read) -> int:
    """Most bytes for a moment beside what is held after load: a delegate's subgraph comes on top of those before."""
    worst = later = 0
    for one in reversed(read.delegates):
        worst = max(worst, one.compiling - later)
        later += sum(holding.nbytes for holding in (*one.own, *one.created))
    return worst


def _running(read: Read) -> tuple[Holding, ...]:
    """What the first run adds in delegates: indirection buffers of each, one workspace for all of them."""
    if not read.delegates:
        return ()
    largest = max(read.delegates, key=lambda one: one.workspace.nbytes)
    alive = min(largest.held.tensors, largest.workspace.nbytes)
    found = [
        one for part in read.delegates for one in part.held.planned if one.category not in ("activations", "pools")
    ]
    return (
        Holding("activations", alive, "tensors and operators' scratch of a delegate that live at once"),
        Holding(
            "pools",
            largest.workspace.nbytes - alive,
            "gaps that XNNPACK's planner leaves, and the end of its workspace",
        ),
        *found,
    )


def _outside(read: Read, load: str) -> tuple[Holding, ...]:
    if load == "bytes":
        return ()
    return (Holding("file", read.mapped, "the program's tables and the methods' constants, mapped and locked"),)
