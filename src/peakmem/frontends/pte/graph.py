"""A method of a program as a graph: instructions become operators, values tensors.

Kernels keep their names (`aten::convolution` is `convolution` of domain `aten`), delegates are operators of domain
`executorch` called after their backend; XNNPACK's have what they compute as a body. A result that an instruction writes
a second time is a new tensor in the same place. Where the exporter left a view out, because it is the same bytes under
another shape, an operator `executorch:view` stands for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from peakmem.errors import FormatError
from peakmem.frontends.pte import schema, xnnpack
from peakmem.frontends.pte.arguments import attributes
from peakmem.frontends.pte.body import Body, body
from peakmem.frontends.pte.program import Instruction, Method, Place, Program, TensorValue
from peakmem.frontends.pte.schema import Call, Kind
from peakmem.ir.graph import Graph, Operator, Tensor, Unknown

DOMAIN = "executorch"
VIEW = "view"
MOST_ARGUMENTS = 1 << 20
# of all calls together, lists spread out: calls may share a list, and a hostile file has all of them do so
MOST_NODES = 1_000_000
# of delegates, each counted as often as it is called
_LISTS = (Kind.TENSOR_LIST, Kind.OPTIONAL_TENSOR_LIST)


@dataclass(frozen=True, slots=True)
class Planned:
    """Where a tensor lies in planned memory."""

    memory: int
    # number of the buffer, from 1
    offset: int
    nbytes: int


@dataclass(slots=True)
class Built:
    """A method's graph, and what it needs told beside it."""

    graph: Graph
    places: dict[str, Planned]
    # by tensor, in the order they are written
    delegates: list[tuple[str, int, xnnpack.Blob | None]]
    # operator, number of the delegate, its graph where it could be read


@dataclass(slots=True)
class _State:
    program: Program
    method: Method
    tensors: dict[str, Tensor] = field(default_factory=dict)
    operators: list[Operator] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    # of the tensor that a value holds now
    places: dict[str, Planned] = field(default_factory=dict)
    last: dict[tuple[int, int], str] = field(default_factory=dict)
    # what was written last at the beginning of a place
    owners: dict[Place | str, str] = field(default_factory=dict)
    # the constant that owns some bytes of the file, or of another file by name
    bodies: dict[int, Body] = field(default_factory=dict)
    delegates: list[tuple[str, int, xnnpack.Blob | None]] = field(default_factory=list)
    unknowns: list[Unknown] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    blobs: dict[int, xnnpack.Blob] = field(default_factory=dict)
    arguments: int = 0
    nodes: int = 0

    def note(self, what: str) -> None:
        self.notes[what] = self.notes.get(what, 0) + 1

    def unique(self, wanted: str) -> str:
        name, serial = wanted or "tensor", 1
        while name in self.taken:
            serial += 1
            name = f"{wanted}#{serial}"
        self.taken.add(name)
        return name

    def tensor_at(self, value: int) -> TensorValue:
        found = self.method.values[value].content
        assert isinstance(found, TensorValue)
        return found

    def is_tensor(self, value: int) -> bool:
        return self.method.values[value].kind == Kind.TENSOR

    def enter(self, value: int, name: str, role: str) -> str:
        """File what `value` holds from now on as `name`."""
        told = self.tensor_at(value)
        if told.dtype is None:
            self.note(f"tensors of a type that peakmem does not know (number {told.scalar_type})")
        shape = None if told.dynamism == schema.UNBOUND else told.shape
        self.tensors[name] = Tensor(name, shape, told.dtype, role)  # type: ignore[arg-type]
        self.names[value] = name
        if told.planned and told.dynamism != schema.UNBOUND:
            self.places[name] = Planned(told.memory, told.offset, told.nbytes)
            self.last[told.memory, told.offset] = name
        return name


def build(program: Program, method: Method) -> Built:
    """The graph of `method`, its chains one after the other."""
    state = _State(program, method)
    for number, value in enumerate(method.inputs):
        if not state.is_tensor(value):
            state.note("inputs that are numbers and no tensors")
        elif value not in state.names:
            state.enter(value, state.unique(f"input_{number}"), "input")
    inputs = tuple(state.names.values())
    step = 0
    for chain in method.chains:
        for instruction in chain:
            _step(state, instruction, step)
            step += 1
    outputs = [_read(state, value) for value in method.outputs if state.is_tensor(value)]
    graph = Graph(
        method.name, state.tensors, tuple(state.operators), inputs, tuple(dict.fromkeys(outputs)),
        unknowns=tuple(state.unknowns),
        notes=tuple(f"{what}: {count}" for what, count in state.notes.items()),
    )  # fmt: skip
    return Built(graph, state.places, state.delegates)


def _step(state: _State, instruction: Instruction, step: int) -> None:
    if instruction.kind == Call.KERNEL:
        _kernel(state, instruction, step)
    elif instruction.kind == Call.DELEGATE:
        _delegate(state, instruction, step)
    elif instruction.kind == Call.MOVE:
        source, target = instruction.index, instruction.values[0]
        if state.is_tensor(source) and state.is_tensor(target):
            read = _read(state, source)
            name = state.enter(target, state.unique(f"move_{step}"), "activation")
            state.operators.append(Operator(name, "move", (read,), (name,), domain=DOMAIN, aliases=((0, 0),)))
    elif instruction.kind == Call.JUMP_FALSE:
        state.note("jumps: branches and turns of loops are counted one after the other, each once")


def _flat(state: _State, values: Sequence[int]) -> list[int]:
    """Positions of tensors among arguments, lists spread out."""
    found: list[int] = []
    for value in values:
        held = state.method.values[value]
        if held.kind == Kind.TENSOR:
            found.append(value)
        elif held.kind in _LISTS:
            state.arguments += len(held.content)
            if state.arguments > MOST_ARGUMENTS:
                raise FormatError(f"its calls have more than {MOST_ARGUMENTS:,} arguments together")
            found += [one for one in held.content if one >= 0 and state.is_tensor(one)]
    return found


def _kernel(state: _State, instruction: Instruction, step: int) -> None:
    """A call; its last argument is what it returns, once more: a tensor, or a list of them (emit/_emitter.py)."""
    method = state.method
    full, overload = method.operators[instruction.index]
    domain, _, op = full.rpartition("::")
    arguments = instruction.values
    made = list(dict.fromkeys(_flat(state, arguments[-1:])))
    given = _flat(state, arguments[:-1])
    in_place = op.endswith("_") and not op.endswith("__") and "out" not in overload
    # What is written is among the arguments as well, but for operators that work in place.
    often = Counter(given)
    left = {value for value in made if value in often and not (in_place and often[value] == 1)}
    reads = []
    for value in reversed(given):
        if value in left:
            left.remove(value)
        else:
            reads.append(value)
    reads.reverse()
    absent = {value for value in reads if _is_absent(state, value)}
    told = attributes(method, domain, op, arguments[:-1])
    if domain == "aten" and op in ("convolution", "_convolution") and told.pop("transposed", False):
        rank = len(state.tensor_at(reads[0]).shape) - 2 if reads else 2
        op = f"conv_transpose{max(rank, 1)}d"
    title = f"{op}_{step}"
    inputs = tuple("" if value in absent else _read(state, value) for value in reads)
    while inputs and not inputs[-1]:
        inputs = inputs[:-1]
    _append(state, Operator(title, op, inputs, (), told, domain or DOMAIN), made, reads)


def _is_absent(state: _State, value: int) -> bool:
    """Whether a value is the empty tensor that the exporter writes for None."""
    told = state.tensor_at(value)
    return (
        told.shape == (0,) and not told.planned and not told.buffer and not told.external and value not in state.names
    )


def _append(state: _State, operator: Operator, made: Sequence[int], reads: Sequence[int]) -> None:
    outputs, aliases = [], []
    places = {value: at for at, value in reversed(list(enumerate(reads)))}
    for at, value in enumerate(made):
        if value in places:
            aliases.append((at, places[value]))
        wanted = operator.name if len(made) == 1 else f"{operator.name}.{at}"
        outputs.append(state.enter(value, state.unique(wanted), "activation"))
    aliases = [(at, source) for at, source in aliases if source < len(operator.inputs) and operator.inputs[source]]
    state.operators.append(replace(operator, outputs=tuple(outputs), aliases=tuple(aliases)))


def _read(state: _State, value: int) -> str:
    """The tensor that a value holds; constants, states and views are filed when they are first asked for."""
    if value in state.names:
        return state.names[value]
    told = state.tensor_at(value)
    if not told.planned:
        return _constant(state, value, told)
    base = state.last.get((told.memory, told.offset))
    if told.buffer or told.name or base is None:
        if not told.buffer and not told.name:
            state.note("tensors that are read but neither made nor stored, counted as state")
        name = state.unique(told.name or f"state_{value}")
        return state.enter(value, name, "state")
    name = state.unique(f"{VIEW}_{value}")
    state.operators.append(Operator(name, VIEW, (base,), (name,), domain=DOMAIN, aliases=((0, 0),)))
    return state.enter(value, name, "activation")


def _constant(state: _State, value: int, told: TensorValue) -> str:
    if not told.buffer and not told.external:
        # No bytes of its own: empty, or memory that the caller lends.
        state.note("tensors without a place, counted as state")
        return state.enter(value, state.unique(told.name or f"state_{value}"), "state")
    if told.external:
        state.note("constants kept in another file (.ptd), counted as this one says")
    identity: Place | str = told.name if told.external else state.program.constant(told)
    name = state.unique(told.name or f"constant_{told.buffer or value}")
    owner = state.owners.setdefault(identity, name)
    state.tensors[name] = Tensor(name, told.shape, told.dtype, "constant", owner if owner != name else "")
    state.names[value] = name
    return name


def _delegate(state: _State, instruction: Instruction, step: int) -> None:
    number = instruction.index
    delegate = state.method.delegates[number]
    title = f"{delegate.id}_{step}"
    values = [value for value in instruction.values if state.is_tensor(value)]
    blob = None
    if delegate.id == xnnpack.ID:
        blob = state.blobs.get(number) or xnnpack.read_blob(state.program, delegate)
        state.blobs[number] = blob
        state.nodes += len(blob.nodes) + len(blob.values)
        if state.nodes > MOST_NODES:
            raise FormatError(f"its delegates have more than {MOST_NODES:,} values and nodes together")
        ends = [one.external for one in blob.values if one.flags & xnnpack.OUTPUT]
        if any(not 0 <= at < len(instruction.values) for at in ends):
            raise FormatError(f"an XNNPACK delegate has {len(ends)} results for {len(instruction.values)} arguments")
        made = [instruction.values[at] for at in sorted(set(ends))]
    else:
        made = _results(state, values)
    made = [value for value in made if state.is_tensor(value)]
    reads = [value for value in values if value not in made]
    inputs = tuple(_read(state, value) for value in reads)
    subgraphs: tuple[Graph, ...] = ()
    if blob is not None:
        if number not in state.bodies:
            state.bodies[number] = body(blob, title, state.tensors, state.owners, state.unique)
        inner = state.bodies[number]
        subgraphs = (inner.graph,)
        inputs += inner.constants
    else:
        reason = "what a delegate keeps and works with besides its arguments is not known"
        state.unknowns.append(Unknown(title, f"{DOMAIN}:{delegate.id}", reason))
    told = {"blob_bytes": delegate.place.nbytes, "delegate": number}
    state.delegates.append((title, number, blob))
    _append(state, Operator(title, delegate.id, inputs, (), told, DOMAIN, "", subgraphs), made, reads)


def _results(state: _State, values: list[int]) -> list[int]:
    """Arguments of a delegate that it writes: the last ones, that have a place and were neither made nor given."""
    found: list[int] = []
    for value in reversed(values):
        told = state.tensor_at(value)
        if value in state.names or not told.planned or told.buffer or told.name:
            break
        found.insert(0, value)
    return found
