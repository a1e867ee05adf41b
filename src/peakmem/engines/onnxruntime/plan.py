"""Which buffer holds which value, and the pattern of all of them as one block.

onnxruntime/core/framework/allocation_planner.cc (PlannerImpl::ComputeReusePlan: in place where the kernel allows and
shapes agree, else the most recently freed buffer of the same shape, else a new one) and mem_pattern_planner.h
(best fit among the gaps, the one up to the block's end so far among them). Read in versions older than 1.31.1, not
all of one commit; where they and 1.31.1's requests disagreed, the requests were followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from peakmem.engines.onnxruntime.network import MICROSOFT, NCHWC, Network, Node, Value

ALIAS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
# KernelDefBuilder::Alias(0, 0) in core/providers/cpu: the output is the input's buffer
IN_PLACE = frozenset({
    "Relu", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "Selu", "Softplus", "Softsign", "HardSigmoid", "ThresholdedRelu",
    "Clip", "Softmax", "LogSoftmax",
})  # fmt: skip
# KernelDefBuilder::MayInplace(0, 0) in core/providers/cpu; Add, Mul, Exp, Sqrt, Neg, Log, Erf and others have none,
# seen in the requests of chains with mem_reuse=off
PATTERN_ALIGNMENT = 256
# sizes in the pattern are multiples of it, those asked for one by one are not; seen in networks of 2 to 28 operators
# whose requests were cut off one after the other, and in the whole quantised ones
FUSED_SUM = 3
# place of the addend in a convolution of blocks, where its result may stand (contrib_ops/cpu/nchwc_ops.cc)


@dataclass(frozen=True, slots=True)
class Event:
    """A buffer is asked for (`nbytes` as asked), or given back (0)."""

    value: str
    nbytes: int
    step: int
    result: bool = False
    # of the network: outside the pattern
    workspace: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Requests of one run in their order; `steps` are the nodes by position."""

    events: tuple[Event, ...]
    steps: tuple[Node, ...]


def plan(network: Network, workspace: Mapping[int, tuple[int, ...]], *, reuse: bool = True) -> Plan:
    """The requests of a run.

    Args:
        workspace: what a node asks for while it runs, by its number; all of it is held at once.
        reuse: whether a value may take the place of one that is not read any more.
    """
    steps = network.order()
    uses = network.reads()
    for name in network.inputs:
        uses[name] = uses.get(name, 0) + 1
        # the caller's
    results = set(network.outputs)
    holder: dict[str, str] = {}
    free: list[str] = []
    asked: dict[str, int] = {}
    last: dict[str, int] = {}
    born: dict[int, list[str]] = {}
    constant = {name for name, value in network.values.items() if value.constant}
    outside = constant | set(network.inputs)
    for step, node in enumerate(steps):
        for name in (name for name in node.outputs if name):
            value = network.values.get(name)
            uses[name] = uses.get(name, 0) + 1
            source = _in_place(node, name, network, uses, holder) if name not in results else None
            if source is None and name not in results and reuse and value is not None and value.shape:
                source = _freed(value, free, network)
            if source is not None:
                original = holder.get(source, source)
                holder[name] = original
                uses[original] = uses.get(original, 0) + uses[name]
            elif value is not None and value.asked:
                asked[name] = step
                born.setdefault(step, []).append(name)
            last[holder.get(name, name)] = step
        for name in (*node.inputs, *node.captured, *node.outputs):
            if not name or name in constant:
                continue
            original = holder.get(name, name)
            uses[original] -= 1
            last[original] = step
            if uses[original] == 0 and original not in outside:
                free.insert(0, original)
    events: list[Event] = []
    dies: dict[int, list[str]] = {}
    for name in asked:
        if name not in results and not any(holder.get(result) == name for result in results):
            dies.setdefault(last[name], []).append(name)
    for step, node in enumerate(steps):
        for name in born.get(step, ()):
            events.append(Event(name, network.values[name].asked, step, result=name in results))
        extra = [
            (f"workspace {node.number}.{at}", size) for at, size in enumerate(workspace.get(node.number, ())) if size
        ]
        events += [Event(name, size, step, workspace=True) for name, size in extra]
        events += [Event(name, 0, step, workspace=True) for name, _ in reversed(extra)]
        for name in dies.get(step, ()):
            events.append(Event(name, 0, step))
    for name in asked:
        if name in results or any(holder.get(result) == name for result in results):
            events.append(Event(name, 0, len(steps), result=name in results))
    return Plan(tuple(events), tuple(steps))


def _in_place(node: Node, name: str, network: Network, uses: dict[str, int], holder: dict[str, str]) -> str | None:
    """The input in whose buffer an output stands."""
    if name != node.outputs[0]:
        return None
    if node.domain == "" and node.op_type in ALIAS:
        return node.inputs[0]
    places: tuple[int, ...] = ()
    if node.domain == NCHWC and node.op_type == "Conv":
        places = (FUSED_SUM,)
    elif node.domain == "":
        places = (0,) if node.op_type in IN_PLACE else ()
    elif node.domain == MICROSOFT and node.op_type == "FusedConv":
        places = (FUSED_SUM,)
    for place in places:
        if place >= len(node.inputs) or not node.inputs[place]:
            continue
        source = node.inputs[place]
        original = holder.get(source, source)
        before, after, owner = (network.values.get(one) for one in (source, name, original))
        if uses.get(original) == 1 and owner is not None and not owner.constant and _same(before, after):
            return source
    return None


def _same(one: Value | None, other: Value | None) -> bool:
    return one is not None and other is not None and one.is_alike(other)


def _freed(value: Value, free: list[str], network: Network) -> str | None:
    for at, name in enumerate(free):
        if _same(network.values.get(name), value):
            return free.pop(at)
    return None


def pattern_bytes(events: tuple[Event, ...]) -> int:
    """Bytes of the one block that holds all values of a run, results and workspaces apart (MemPatternPlanner)."""
    blocks: list[tuple[int, int, str]] = []
    # (offset, bytes, value), ascending by offset
    most = 0
    for event in events:
        if event.result or event.workspace:
            continue
        if event.nbytes == 0:
            blocks = [block for block in blocks if block[2] != event.value]
            continue
        nbytes = -(-event.nbytes // PATTERN_ALIGNMENT) * PATTERN_ALIGNMENT
        place, waste, offset, current = len(blocks), -1, 0, 0
        for at, (begin, size, _) in enumerate((*blocks, (most, 0, ""))):
            gap = begin - current
            if gap >= nbytes and (waste < 0 or gap - nbytes < waste):
                place, waste, offset = at, gap - nbytes, current
            if at < len(blocks):
                current = begin + size
        if waste < 0:
            offset = current
        most = max(most, offset + nbytes)
        blocks.insert(place, (offset, nbytes, event.value))
    return most
