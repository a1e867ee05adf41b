"""How TensorFlow Lite for Microcontrollers sets up a network in its arena, in the engine's own order.

From tensorflow/lite/micro/{micro_allocator,micro_allocation_info,micro_interpreter,micro_interpreter_graph,
recording_micro_allocator}.cc of tflite-micro 90b983c (2026-08-20), with compression built in, pointers of 8 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from peakmem.engines.tflm import kernels
from peakmem.engines.tflm.arena import ALIGNMENT, Arena, up
from peakmem.engines.tflm.kernels import Kept, Node, Operand, Scratch
from peakmem.engines.tflm.planner import MOST_LINEAR, ONLINE, Buffer, extent, greedy, linear, lower_bound
from peakmem.errors import GraphError

POINTER = 8
TENSOR, EVAL_TENSOR, AFFINE = 64, 24, 24
# TfLiteTensor with TF_LITE_STATIC_MEMORY, TfLiteEvalTensor, TfLiteAffineQuantization
NODE, REQUEST, HANDLE, INFO, SUBGRAPH, BUILTIN_ALLOCATOR = 64, 16, 8, 32, 24, 16
# NodeAndRegistration, ScratchBufferRequest, ScratchBufferHandle, AllocationInfo, SubgraphAllocations, and the
# allocator of operator options
RECORDING = (104, 72, 272)
# RecordingSingleArenaBufferAllocator, GreedyMemoryPlanner, RecordingMicroAllocator
PRESERVING = (72, 8216, 72)
# SingleArenaBufferAllocator, LinearMemoryPlanner, MicroAllocator
RESOURCES, RESOURCE = 16, 40
# MicroResourceVariables, MicroResourceVariable
MOST_SCRATCH = 12
# kMaxScratchBuffersPerOp
DEEPEST = 64

EVAL, TENSORS, QUANTISATION, BUFFERS, VARIABLES, NODES = (
    "TfLiteEvalTensor data", "Persistent TfLiteTensor data", "Persistent TfLiteTensor quantization data",
    "Persistent buffer data", "TfLiteTensor variable buffer data", "NodeAndRegistration struct",
)  # fmt: skip
# as the engine names them
OBJECTS, OPTIONS, HANDLES = "allocators and planner", "operator options", "scratch buffer handles"
# which it does not record
_BRANCHES = {
    "IF": ("then_subgraph_index", "else_subgraph_index"),
    "CALL_ONCE": ("init_subgraph_index",),
    "WHILE": ("cond_subgraph_index", "body_subgraph_index"),
}


class Call(Protocol):
    """An operator as the file lists it; tensors by position, -1 for none."""

    @property
    def domain(self) -> str: ...
    @property
    def op_type(self) -> str: ...
    @property
    def inputs(self) -> tuple[int, ...]: ...
    @property
    def outputs(self) -> tuple[int, ...]: ...
    @property
    def intermediates(self) -> tuple[int, ...]: ...
    @property
    def options(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor as the file lists it."""

    name: str
    shape: tuple[int, ...]
    type: str
    stored: bool = False
    variable: bool = False
    scales: int = 0
    zero_points: int = 0

    @property
    def count(self) -> int:
        total = 1
        for size in self.shape:
            total *= size
        return total

    @property
    def nbytes(self) -> int:
        found = kernels.nbytes(self.shape, self.type)
        if found is None:
            raise GraphError(f"TFLM has no tensors of type {self.type}", where=self.name)
        if found < 0:
            raise GraphError(
                f"a tensor has the shape {list(self.shape)}", where=self.name, expected="sizes of 0 or more"
            )
        return found


@dataclass(frozen=True, slots=True)
class Body:
    """A subgraph."""

    tensors: tuple[Tensor, ...]
    calls: Sequence[Call]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """Scratch that an operator asked for."""

    body: int
    call: int
    nbytes: int
    what: str


@dataclass(slots=True)
class Laid:
    """The arena after setting up."""

    arena: Arena
    head: int
    lower_bound: int
    # bytes that live at the same time, so that no plan needs less
    workspace: int
    # those of them that are scratch
    fullest: str
    # the operator at which they do
    buffers: list[Buffer] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    without_rule: dict[str, str] = field(default_factory=dict)
    # operators by name whose kernels are not known


def lay(bodies: Sequence[Body], plan: Sequence[int], nbytes: int, *, preserve: bool = False) -> Laid:
    """Set a network up in an arena of `nbytes`.

    Raises:
        GraphError: the engine would refuse the network, whatever the arena.
    """
    return _Walk(bodies, plan, nbytes, preserve).run()


def _builtin(call: Call, op_type: str) -> bool:
    return call.domain == "tflite" and call.op_type == op_type


def _resource(call: Call) -> tuple[str, str]:
    return str(call.options.get("container", "")), str(call.options.get("shared_name", ""))


class _Walk:
    def __init__(self, bodies: Sequence[Body], plan: Sequence[int], nbytes: int, preserve: bool) -> None:
        self.bodies = [self._stretched(body) for body in bodies]
        self.plan = plan
        self.preserve = preserve
        self.arena = Arena(nbytes)
        self.requests: list[Request] = []
        self.without_rule: dict[str, str] = {}
        self.handles: dict[tuple[int, int], tuple[str, str]] = {}
        # tensors that VAR_HANDLE points at the number of a resource variable, which is (container, name)
        self.resources: set[tuple[str, str]] = set()
        # those that have room
        self.names: list[str] = []
        # operator of each step of time

    def run(self) -> Laid:
        arena = self.arena
        arena.step = "interpreter"
        for size in PRESERVING if self.preserve else RECORDING:
            arena.keep(size, POINTER, OBJECTS)
        self._resource_variables()
        self._start()
        for number, body in enumerate(self.bodies):
            for at, call in enumerate(body.calls):
                self._prepare(number, at, call)
        buffers, offsets = self._finish()
        head = extent(buffers, offsets)
        arena.step = "inputs and outputs"
        arena.resize(0)
        arena.resize(head)
        main = self.bodies[0]
        for ports in (main.inputs, main.outputs):
            arena.keep(POINTER * len(ports), ALIGNMENT, BUFFERS)
            for at in ports:
                self._described(main.tensors[at])
        bound, when = lower_bound(buffers)
        fullest = self.names[when] if 0 <= when < len(self.names) else ""
        workspace = sum(one.nbytes for one in buffers if one.scratch and one.first <= when <= one.last)
        return Laid(arena, head, bound, workspace, fullest, buffers, offsets, self.without_rule)

    def _stretched(self, body: Body) -> Body:
        """Shapes with the size that RESHAPE works out (reshape_common.cc, ReshapeOutput)."""
        tensors = list(body.tensors)
        for call in body.calls:
            for at in call.outputs:
                shape = tensors[at].shape
                if (
                    call.op_type == "RESHAPE"
                    and call.inputs
                    and shape.count(-1) == 1
                    and tensors[call.inputs[0]].count > 0
                ):
                    known = -tensors[at].count
                    size = tensors[call.inputs[0]].count // known if known else 0
                    tensors[at] = replace(tensors[at], shape=tuple(size if one == -1 else one for one in shape))
        return replace(body, tensors=tuple(tensors))

    def _resource_variables(self) -> None:
        """MicroResourceVariables::Create, which the binding calls for as many names as VAR_HANDLE has (runtime.py)."""
        named = {_resource(call)[1] for body in self.bodies for call in body.calls if _builtin(call, "VAR_HANDLE")}
        if named:
            self.arena.keep(RESOURCES, ALIGNMENT, BUFFERS)
            self.arena.keep(RESOURCE * len(named), ALIGNMENT, BUFFERS)

    def _start(self) -> None:
        """StartModelAllocation, then what parsing and Init take."""
        arena = self.arena
        arena.keep(BUILTIN_ALLOCATOR, POINTER, OBJECTS)
        arena.resize(REQUEST * MOST_SCRATCH)
        arena.keep(SUBGRAPH * len(self.bodies), POINTER, OBJECTS)
        for body in self.bodies:
            arena.keep(EVAL_TENSOR * len(body.tensors), POINTER, EVAL)
        for body in self.bodies:
            arena.keep(NODE * len(body.calls), POINTER, NODES)
        for body in self.bodies:
            for call in body.calls:
                size = kernels.PARAMETERS.get(call.op_type) if call.domain == "tflite" else None
                if size:
                    arena.keep(*size, OPTIONS)
        for body in self.bodies:
            for at, call in enumerate(body.calls):
                arena.step = f"{call.op_type}_{at}"
                size_of_data = kernels.DATA.get(call.op_type) if call.domain == "tflite" else None
                if size_of_data:
                    arena.keep(size_of_data, ALIGNMENT, BUFFERS)

    def _prepare(self, number: int, at: int, call: Call) -> None:
        arena, body = self.arena, self.bodies[number]
        arena.step = name = f"{call.op_type}_{at}"
        tensors = body.tensors
        node = Node(
            [tensors[one] if one >= 0 else None for one in call.inputs], [tensors[one] for one in call.outputs],
            call.options,
        )  # fmt: skip
        rule = kernels.PREPARE.get(call.op_type) if call.domain == "tflite" else None
        if rule is None:
            self.without_rule[name] = call.op_type
            return
        if call.op_type == "VAR_HANDLE":
            self.handles.update(((number, one), _resource(call)) for one in call.outputs)
        try:
            steps = rule(node)
        except GraphError as fault:
            fault.locate(name)
            raise
        except (IndexError, AssertionError):
            raise GraphError(
                "TFLM refuses the operator: an input is missing or has too few dimensions", where=name
            ) from None
        for step in steps:
            if isinstance(step, Kept):
                arena.keep(step.nbytes, ALIGNMENT, BUFFERS)
            elif isinstance(step, Scratch):
                self.requests.append(Request(number, at, step.nbytes, name))
            else:
                ports: Sequence[Operand | None] = node.inputs if step[0] == "i" else node.outputs
                port = int(step[1:])
                found = ports[port] if port < len(ports) else None
                if isinstance(found, Tensor):
                    self._described(found, temporary=True)
        if call.op_type == "ASSIGN_VARIABLE" and len(call.inputs) > 1:
            variable = self.handles.get((number, call.inputs[0]))
            if variable is not None and variable not in self.resources:
                # MicroResourceVariables::Allocate
                self.resources.add(variable)
                arena.keep(tensors[call.inputs[1]].nbytes, ALIGNMENT, BUFFERS)
        for one in call.outputs:
            shape = tensors[one].shape
            if shape != (0,) and any(size <= 0 for size in shape):
                raise GraphError(f"TFLM refuses the operator: its output has the shape {shape}", where=name)
        arena.reset()
        arena.resize(REQUEST * (len(self.requests) + MOST_SCRATCH))

    def _described(self, tensor: Tensor, *, temporary: bool = False) -> None:
        """A TfLiteTensor with its quantisation (InitializeTfLiteTensorFromFlatbuffer)."""
        take = self.arena.lend if temporary else self._keep_tensor
        take(TENSOR, POINTER)
        if tensor.scales and tensor.zero_points:
            take = self.arena.lend if temporary else self._keep_quantisation
            take(AFFINE, POINTER)
            take(4 + 4 * tensor.scales, 4)

    def _keep_tensor(self, nbytes: int, alignment: int) -> None:
        self.arena.keep(nbytes, alignment, TENSORS)

    def _keep_quantisation(self, nbytes: int, alignment: int) -> None:
        self.arena.keep(nbytes, alignment, QUANTISATION)

    def _finish(self) -> tuple[list[Buffer], list[int]]:
        """FinishModelAllocation: handles, variables, lives, the plan."""
        arena = self.arena
        arena.step = "planning"
        if self.requests:
            arena.keep(HANDLE * len(self.requests), POINTER, HANDLES)
        count = sum(len(body.tensors) for body in self.bodies)
        if self.plan and len(self.plan) != count:
            raise GraphError(
                f"the plan of offsets in the file's metadata lists {len(self.plan)}", expected=f"{count}, one a tensor"
            )
        arena.lend(POINTER * len(self.bodies), POINTER)
        arena.lend(INFO * (count + len(self.requests)), POINTER)
        for body in self.bodies:
            for at, tensor in enumerate(body.tensors):
                # the engine counts from 0 in each subgraph here (AllocateVariables)
                if tensor.variable and (not self.plan or self.plan[at] == ONLINE):
                    arena.keep(tensor.nbytes, ALIGNMENT, VARIABLES)
        buffers = self._lives()
        if self.preserve:
            if any(one.offset != ONLINE for one in buffers):
                # the linear planner has no AddBuffer with an offset (micro_memory_planner.h)
                raise GraphError("TFLM refuses offsets planned ahead where all tensors are preserved")
            if len(buffers) > MOST_LINEAR:
                raise GraphError(f"TFLM preserves {MOST_LINEAR} tensors at most, the file has {len(buffers)}")
            return buffers, linear(buffers)
        arena.plan(len(buffers))
        return buffers, greedy(buffers)

    # -- lives (micro_allocation_info.cc) ------------------------------------------------

    def _lives(self) -> list[Buffer]:
        self.first: dict[tuple[int, int], int] = {}
        self.last: dict[tuple[int, int], int] = {}
        self.scratch_lives: dict[int, tuple[int, int]] = {}
        self.slots: dict[tuple[int, int], list[int]] = {}
        for slot, request in enumerate(self.requests):
            self.slots.setdefault((request.body, request.call), []).append(slot)
        self.time = 0
        self.names = ["the inputs"]
        self._mark(0, 0)
        found: list[Buffer] = []
        position = 0
        for number, body in enumerate(self.bodies):
            for at, tensor in enumerate(body.tensors):
                offset = self.plan[position] if self.plan else ONLINE
                position += 1
                key = number, at
                planned = tensor.variable and offset != ONLINE
                if tensor.stored or key in self.handles or (tensor.variable and not planned) or tensor.nbytes == 0:
                    continue
                first, last = self.first.get(key, -1), self.last.get(key, -1)
                found.append(Buffer(up(tensor.nbytes), first, last, offset, tensor.name))
        for index, request in enumerate(self.requests):
            first, last = self.scratch_lives.get(index, (-1, -1))
            found.append(Buffer(up(request.nbytes), first, last, ONLINE, request.what, scratch=True))
        return found

    def _tick(self, name: str) -> None:
        self.time += 1
        self.names.append(name)

    def _mark(self, number: int, depth: int) -> None:
        """MarkAllocationLifetimes: each operator is a step of time, bodies are walked where they are called."""
        if depth > DEEPEST or not 0 <= number < len(self.bodies):
            raise GraphError(f"subgraph {number} is called {depth} deep", expected="a subgraph of the file, not itself")
        body = self.bodies[number]
        for at in body.inputs:
            self.first.setdefault((number, at), self.time)
            self.last[number, at] = self.time
        for index, call in enumerate(body.calls):
            self._tick(f"{call.op_type}_{index}")
            start = self.time
            for at in call.outputs:
                self.first.setdefault((number, at), self.time)
            for option in _BRANCHES.get(call.op_type, ()) if call.domain == "tflite" else ():
                self._tick(f"{call.op_type}_{index}")
                self._mark(int(call.options.get(option, 0)), depth + 1)
            for at in (*call.inputs, *call.outputs):
                if at >= 0:
                    self.last[number, at] = self.time
            for slot in self.slots.get((number, index), ()):
                first = self.scratch_lives.get(slot, (start, 0))[0]
                self.scratch_lives[slot] = first, self.time
        for at in body.outputs:
            self.first.setdefault((number, at), self.time)
            self.last[number, at] = self.time
