"""What exporters write out, put back into the calls that PyTorch code makes: one operator, one backward.

A pass: Graph in, Graph out. Only chains whose inner tensors nobody else reads are put together, and each kind that was
found is told, since code may as well have been written that way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from peakmem.ir.graph import Graph, Operator
from peakmem.ir.kinds import key

DOMAIN = "torch"
# of the operators made here


class _Chains:
    """Who makes and who reads each tensor."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.operators = list(graph.operators)
        self.maker = {name: step for step, operator in enumerate(self.operators) for name in operator.outputs if name}
        self.readers: dict[str, list[int]] = graph.consumers()
        self.outputs = set(graph.outputs)
        self.gone: set[int] = set()
        self.made: dict[int, Operator] = {}
        # at the step of the last operator of a chain

    def made_by(self, name: str, *kinds: str) -> tuple[int, Operator] | None:
        """The operator that makes a tensor, if it is one of these and nobody else reads the tensor."""
        step = self.maker.get(name)
        if step is None or name in self.outputs or len(self.readers.get(name, ())) != 1:
            return None
        return (step, self.operators[step]) if key(self.operators[step]) in kinds else None

    def only_reader(self, name: str, *kinds: str) -> tuple[int, Operator] | None:
        """The only operator that reads a tensor, if it is one of these."""
        readers = self.readers.get(name, [])
        if len(readers) != 1 or name in self.outputs:
            return None
        operator = self.operators[readers[0]]
        return (readers[0], operator) if key(operator) in kinds and readers[0] not in self.gone else None

    def is_number(self, name: str) -> bool:
        """Whether a tensor is one number that does not depend on what is computed."""
        tensor = self.graph.tensors.get(name)
        return tensor is not None and tensor.count == 1 and (tensor.role == "constant" or self.from_sizes(name))

    def rank(self, name: str) -> int:
        """Dimensions of a tensor; -1 where it is no constant."""
        tensor = self.graph.tensors[name]
        return len(tensor.shape or ()) if tensor.role == "constant" else -1

    def other(self, operator: Operator, name: str) -> str:
        """The other input of an operator of two."""
        return operator.inputs[1] if operator.inputs[0] == name else operator.inputs[0]

    def from_sizes(self, name: str) -> bool:
        """Whether a tensor follows from the sizes of others alone."""
        waiting, seen = [name], set()
        while waiting:
            item = waiting.pop()
            step = self.maker.get(item)
            if step is None:
                tensor = self.graph.tensors[item]
                if tensor.role != "constant" or (tensor.count or 0) > 16:
                    return False
            elif step not in seen:
                seen.add(step)
                if key(self.operators[step]) not in ("Shape", "Size"):
                    waiting += self.operators[step].reads
        return True

    def put(self, steps: list[int], operator: Operator) -> None:
        """One operator at the place of the last of these."""
        self.gone.update(steps)
        self.made[max(steps)] = operator


def raised(graph: Graph, *, attention: str = "fused") -> tuple[Graph, Counter[str]]:
    """The graph in the calls of PyTorch code, and how often each idiom was found."""
    chains = _Chains(graph)
    found: Counter[str] = Counter()
    looks: list[tuple[str, Callable[[_Chains, int, Operator], bool]]] = [
        ("linear", _linear), ("gelu", _gelu), ("silu", _silu), ("hardswish", _hard_swish), ("layer norm", _layer_norm),
    ]  # fmt: skip
    if attention == "fused":
        looks.append(("attention", _attention))
    for step, operator in enumerate(chains.operators):
        if step in chains.gone:
            continue
        for name, look in looks:
            if look(chains, step, operator):
                found[name] += 1
                break
    operators = tuple(
        chains.made.get(step, operator)
        for step, operator in enumerate(chains.operators)
        if step not in chains.gone or step in chains.made
    )
    return replace(graph, operators=_read(operators, graph)), found


def _read(operators: tuple[Operator, ...], graph: Graph) -> tuple[Operator, ...]:
    """Without operators whose results nobody reads any more."""
    wanted, kept = set(graph.outputs), []
    for operator in reversed(operators):
        if not operator.outputs or any(name in wanted for name in operator.outputs):
            kept.append(operator)
            if operator.outputs:
                wanted.update(operator.reads)
    return tuple(reversed(kept))


def _linear(c: _Chains, step: int, operator: Operator) -> bool:
    """MatMul by a stored matrix and Add of a stored vector: torch.nn.functional.linear."""
    if key(operator) != "MatMul" or c.rank(operator.inputs[1]) != 2:
        return False
    reader = c.only_reader(operator.outputs[0], "Add")
    if reader is None:
        return False
    at, addition = reader
    bias = c.other(addition, operator.outputs[0])
    if c.rank(bias) != 1:
        return False
    made = replace(
        addition,
        name=operator.name,
        op_type="linear",
        domain=DOMAIN,
        inputs=(*operator.inputs[:2], bias),
        scope=operator.scope,
    )
    c.put([step, at], made)
    return True


def _gelu(c: _Chains, step: int, operator: Operator) -> bool:
    """x · (1 + erf(x / √2)) / 2 in any order of its products."""
    if key(operator) != "Erf":
        return False
    scaled = c.made_by(operator.inputs[0], "Div", "Mul")
    if scaled is None or not any(c.is_number(name) for name in scaled[1].inputs):
        return False
    x = next((name for name in scaled[1].inputs if not c.is_number(name)), "")
    shifted = c.only_reader(operator.outputs[0], "Add")
    if shifted is None:
        return False
    steps, name = [scaled[0], step, shifted[0]], shifted[1].outputs[0]
    last, saw_x = shifted[1], False
    for _ in range(3):
        product = c.only_reader(name, "Mul")
        if product is None:
            break
        at, last_product = product
        other = c.other(last_product, name)
        half = c.made_by(other, "Mul")
        if other == x and not saw_x:
            saw_x = True
        elif half is not None and x in half[1].inputs and not saw_x:
            saw_x = True
            steps.append(half[0])
        elif not c.is_number(other):
            break
        steps.append(at)
        last, name = last_product, last_product.outputs[0]
    if not saw_x:
        return False
    c.put(steps, replace(last, name=operator.name, op_type="Gelu", domain="", inputs=(x,), attributes={}))
    return True


def _silu(c: _Chains, step: int, operator: Operator) -> bool:
    """x · sigmoid(x)."""
    return _gated(c, step, operator, "Sigmoid", "Swish")


def _hard_swish(c: _Chains, step: int, operator: Operator) -> bool:
    """x · hardsigmoid(x)."""
    return _gated(c, step, operator, "HardSigmoid", "HardSwish")


def _gated(c: _Chains, step: int, operator: Operator, gate: str, whole: str) -> bool:
    if key(operator) != gate:
        return False
    product = c.only_reader(operator.outputs[0], "Mul")
    if product is None or c.other(product[1], operator.outputs[0]) != operator.inputs[0]:
        return False
    made = replace(product[1], name=operator.name, op_type=whole, domain="", inputs=operator.inputs[:1], attributes={})
    c.put([step, product[0]], made)
    return True


def _layer_norm(c: _Chains, step: int, operator: Operator) -> bool:
    """(x - mean) / √(variance + ε) · weight + bias, as operator sets before 17 have to write it."""
    if key(operator) != "ReduceMean":
        return False
    x = operator.inputs[0]
    centred = c.only_reader(operator.outputs[0], "Sub")
    if centred is None or centred[1].inputs[0] != x:
        return False
    middle = centred[1].outputs[0]
    readers = c.readers.get(middle, [])
    squares = next((at for at in readers if key(c.operators[at]) in ("Pow", "Mul")), None)
    division = next((at for at in readers if key(c.operators[at]) == "Div"), None)
    if squares is None or division is None or len(readers) != 2:
        return False
    steps, name = [step, centred[0], squares], c.operators[squares].outputs[0]
    for kind in ("ReduceMean", "Add", "Sqrt"):
        following = c.only_reader(name, kind)
        if following is None:
            return False
        steps.append(following[0])
        name = following[1].outputs[0]
    if c.operators[division].inputs[1] != name:
        return False
    steps.append(division)
    parts, last = [], c.operators[division]
    for kind in ("Mul", "Add"):
        following = c.only_reader(last.outputs[0], kind)
        if following is None or c.rank(c.other(following[1], last.outputs[0])) < 1:
            break
        parts.append(c.other(following[1], last.outputs[0]))
        last = following[1]
        steps.append(following[0])
    axes = max((c.rank(part) for part in parts), default=1)
    made = replace(last, op_type="LayerNormalization", domain="", inputs=(x, *parts), attributes={"axis": -axes})
    c.put(steps, made)
    return True


def _attention(c: _Chains, step: int, operator: Operator) -> bool:
    """softmax(query · keyᵀ · scale + mask) · value: scaled_dot_product_attention."""
    if key(operator) != "Softmax":
        return False
    context = c.only_reader(operator.outputs[0], "MatMul")
    if context is None or context[1].inputs[0] != operator.outputs[0]:
        return False
    steps, name, mask = [step, context[0]], operator.inputs[0], ""
    while True:
        inner = c.made_by(name, "Div", "Mul", "Add", "Where")
        if inner is None:
            break
        numbers = [item for item in inner[1].inputs if c.is_number(item)]
        if key(inner[1]) in ("Div", "Mul") and len(numbers) == 1:
            name = c.other(inner[1], numbers[0])
        elif key(inner[1]) == "Add" and not mask:
            ranks = [c.made_by(item, "MatMul", "Div", "Mul") is not None for item in inner[1].inputs]
            if sum(ranks) != 1:
                return False
            name, mask = inner[1].inputs[ranks.index(True)], inner[1].inputs[ranks.index(False)]
        elif key(inner[1]) == "Where" and not mask:
            branches = [item for item in inner[1].inputs[1:] if not c.is_number(item)]
            if len(branches) != 1:
                return False
            name, mask = branches[0], inner[1].inputs[0]
        else:
            return False
        steps.append(inner[0])
    scores = c.made_by(name, "MatMul")
    if scores is None or c.rank(scores[1].inputs[1]) >= 0 or len(c.graph.tensors[name].shape or ()) != 4:
        return False
    steps.append(scores[0])
    query, turned = scores[1].inputs[:2]
    factors = []
    for item in (query, turned):
        scaled = c.made_by(item, "Mul", "Div")
        numbers = [part for part in scaled[1].inputs if c.is_number(part)] if scaled is not None else []
        if scaled is not None and len(numbers) == 1:  # the scale, half of it on each factor
            steps.append(scaled[0])
            item = c.other(scaled[1], numbers[0])
        factors.append(item)
    straight = _unturned(c, factors[1], steps)
    factors[1] = straight or factors[1]
    if mask and c.from_sizes(mask):
        mask = ""  # a causal one, which the kernel needs no tensor for
    inputs = (*factors, context[1].inputs[1], *((mask,) if mask else ()))
    made = replace(
        context[1], name=f"{operator.scope}/attention".lstrip("/"), op_type="attention", domain=DOMAIN, inputs=inputs,
        attributes={"turned": int(not straight)}, scope=operator.scope,
    )  # fmt: skip
    c.put(steps, made)
    return True


def _unturned(c: _Chains, name: str, steps: list[int]) -> str:
    """The keys before they were turned in three dimensions, as torch.export writes it; "" where it was not so."""
    last = c.made_by(name, "Reshape")
    turned = c.made_by(last[1].inputs[0], "Transpose") if last is not None else None
    if last is None or turned is None or tuple(turned[1].attributes.get("perm", ())) != (0, 2, 1):
        return ""
    first = c.made_by(turned[1].inputs[0], "Reshape")
    if first is None or len(c.graph.tensors[first[1].inputs[0]].shape or ()) != 4:
        return ""
    steps += [last[0], turned[0], first[0]]
    return first[1].inputs[0]
