"""The walk over a schedule and its subgraphs that infers every tensor and notes what it could not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from peakmem.ir.dims import Dim, Shape, Symbol, format_shape
from peakmem.ir.graph import Graph, Operator, Tensor, Unknown
from peakmem.ir.kinds import native
from peakmem.ir.shapes.binding import bound_value, quoted
from peakmem.ir.shapes.call import Unresolved
from peakmem.ir.shapes.control import CONTROL, Inner, Run, control
from peakmem.ir.shapes.facts import NEWEST_OPSET, NOTHING, Fact
from peakmem.ir.shapes.operators import Fallback, check_size, infer_operator
from peakmem.ir.shapes.rules import DECLARED

MOST_WORK = 50_000
# operators inferred again for loops in loops, beyond twenty times all there are
MOST_VALUES = 2_000_000
LONG = 64
# elements; contents longer than LONG are followed until so many are held


def is_open(shape: Shape | None) -> bool:
    """Whether anything of `shape` is not a number yet."""
    if shape is None:
        return True
    for dim in shape:  # noqa: SIM110 - asked of every tensor; a generator costs twice as much
        if not isinstance(dim, int):
            return True
    return False


def count_all(graph: Graph) -> int:
    """How many operators there are, those of subgraphs included."""
    return sum(1 + sum(count_all(body) for body in operator.subgraphs) for operator in graph.operators)


class Walk:
    """One pass over a graph and its subgraphs; collects what could not be told."""

    def __init__(
        self, dims: Mapping[str, int], fallback: Fallback | None, trust_declared: bool, opsets: Mapping[str, int]
    ) -> None:
        self.opsets = opsets
        self.symbols: set[str] = set()
        # names of open dimensions met so far
        self.dims = dims
        self.fallback = fallback
        self.trust_declared = trust_declared
        self.unknowns: list[Unknown] = []
        self.work = 0
        # operators inferred so far, those of a body each time it is run
        self.most_work = MOST_WORK
        self.values_held = 0
        self.followers = 0
        # operators without a shape only because an input has none
        self.declared_used = 0
        self.disagreements: list[str] = []

    def notes(self) -> list[str]:
        notes = []
        if self.followers:
            notes.append(f"operators without a known size because they follow an unknown one: {self.followers}")
        if self.declared_used:
            notes.append(f"shapes taken from the file's own declarations: {self.declared_used}")
        if self.disagreements:
            shown = "; ".join(self.disagreements[:3])
            many = len(self.disagreements)
            notes.append(f"declared shapes that differ from the inferred ones, which were used: {many} ({shown})")
        return notes

    def graph(self, graph: Graph, outer: Mapping[str, Fact]) -> Graph:
        """`graph` inferred, with the facts that `outer` lends it."""
        if not self.work:
            self.most_work += 20 * count_all(graph)
        self.work += len(graph.operators)
        facts: dict[str, Fact] = dict(outer)
        for name in graph.inputs:
            self.symbols.update(dim.name for dim in graph.tensors[name].shape or () if isinstance(dim, Symbol))
        for tensor in graph.tensors.values():
            if tensor.role != "activation":
                facts[tensor.name] = Fact(tensor.shape, tensor.dtype, tensor.values)
        tensors = dict(graph.tensors)
        operators = []
        opsets = graph.opsets or self.opsets
        for operator in graph.operators:
            bodies, results = self.operator(operator, graph, facts, opsets)
            if bodies is not operator.subgraphs:
                operator = replace(operator, subgraphs=bodies)
            operators.append(operator)
            for name, fact in zip(operator.outputs, results, strict=True):
                if name:
                    facts[name] = fact
                    tensors[name] = self.tensor(tensors.get(name), name, fact)
        return replace(graph, tensors=tensors, operators=tuple(operators))

    @staticmethod
    def tensor(declared: Tensor | None, name: str, fact: Fact) -> Tensor:
        if declared is None:
            return Tensor(name, fact.shape, fact.dtype, values=fact.values)
        return Tensor(
            name, fact.shape, fact.dtype, declared.role, declared.storage, fact.values, declared.parameter
        )  # fmt: skip

    def operator(
        self, operator: Operator, graph: Graph, facts: dict[str, Fact], opsets: Mapping[str, int]
    ) -> tuple[tuple[Graph, ...], list[Fact]]:
        """The bodies of an operator, inferred, and the facts of its outputs."""
        given = [facts.get(name, NOTHING) if name else NOTHING for name in operator.inputs]
        if self.values_held > MOST_VALUES:
            given = [replace(fact, values=None) if fact.values and len(fact.values) > LONG else fact for fact in given]
        bodies = operator.subgraphs
        results: list[Fact]
        reason = ""
        try:
            if operator.domain in DECLARED:
                return bodies, self.declared(operator, graph)
            if bodies and native(operator) in CONTROL:
                inner = Inner(self.runner(facts, opsets), opsets.get("", NEWEST_OPSET))
                bodies, results = control(operator, given, inner)
            else:
                results = infer_operator(operator, given, opsets, self.fallback)
        except Unresolved as fault:
            reason = str(fault)
            results = [NOTHING] * len(operator.outputs)
        for fact in results:
            if fact.values is not None and len(fact.values) > LONG:
                self.values_held += len(fact.values)
        settled = [self.settle(name, fact, graph) for name, fact in zip(operator.outputs, results, strict=True)]
        if any(is_open(fact.shape) for fact in settled):
            follows = any(name and fact.shape is None for name, fact in zip(operator.inputs, given, strict=True))
            self.record(operator, results, settled, reason, follows=follows)
        return bodies, settled

    def declared(self, operator: Operator, graph: Graph) -> list[Fact]:
        """The outputs of an operator without a rule, as its source declares them."""
        facts = []
        for name in operator.outputs:
            said = graph.tensors.get(name)
            shape = None if said is None or said.shape is None else tuple(self.bound(dim) for dim in said.shape)
            if shape is not None and said is not None:
                check_size(operator, shape, said.dtype)
            facts.append(NOTHING if said is None else Fact(shape, said.dtype, said.values))
        if any(name and is_open(fact.shape) for name, fact in zip(operator.outputs, facts, strict=True)):
            self.record(operator, [NOTHING] * len(facts), facts, "", follows=False)
        return facts

    def runner(self, outer: Mapping[str, Fact], opsets: Mapping[str, int]) -> Run:
        """How the bodies of one operator are inferred; a body run again replaces what was noted before."""
        before: dict[str, tuple[int, int, int, int]] = {}

        def run(body: Graph, inputs: list[Fact]) -> tuple[Graph, list[Fact]]:
            if self.work > self.most_work:
                raise Unresolved("loops that hold loops change their shapes in too many ways to be followed")
            if body.name in before:
                unknowns, disagreements, self.declared_used, self.followers = before[body.name]
                del self.unknowns[unknowns:], self.disagreements[disagreements:]
            before[body.name] = len(self.unknowns), len(self.disagreements), self.declared_used, self.followers
            return self.body(body, inputs, outer, opsets)

        return run

    def body(
        self, body: Graph, inputs: list[Fact], outer: Mapping[str, Fact], opsets: Mapping[str, int]
    ) -> tuple[Graph, list[Fact]]:
        """Infer a subgraph with `inputs` for its formal inputs; the facts of its outputs."""
        tensors = dict(body.tensors)
        for name, fact in zip(body.inputs, inputs, strict=False):
            have = tensors.get(name) or Tensor(name, role="input")
            shape = fact.shape
            if shape is None and self.trust_declared and have.shape is not None:
                shape = tuple(self.bound(dim) for dim in have.shape)
            tensors[name] = replace(have, shape=shape, dtype=fact.dtype or have.dtype, values=fact.values)
        lent = {name: outer[name] for name in body.captured() if name in outer}
        done = self.graph(replace(body, tensors=tensors, opsets=body.opsets or opsets), lent)
        out = []
        for name in body.outputs:
            tensor = done.tensors.get(name)
            out.append(lent.get(name, NOTHING) if tensor is None else Fact(tensor.shape, tensor.dtype, tensor.values))
        return replace(done, opsets=body.opsets), out

    def settle(self, name: str, fact: Fact, graph: Graph) -> Fact:
        """`fact` with symbols bound and gaps filled from what the file declares."""
        if not name:
            return fact
        declared = graph.tensors.get(name)
        if declared is None and not self.dims:
            return fact
        shape, dtype = fact.shape, fact.dtype
        said = declared.shape if declared is not None and self.trust_declared else None
        if shape == said or said is None:
            if shape is not None and is_open(shape):
                shape = tuple(self.bound(dim) for dim in shape)
        elif shape is None:
            shape = tuple(self.bound(dim) for dim in said)
            self.declared_used += 1
        else:
            shape = self.agreed(name, shape, said)
        if dtype is None and declared is not None:
            dtype = declared.dtype
        return fact if shape is fact.shape and dtype is fact.dtype else replace(fact, shape=shape, dtype=dtype)

    def agreed(self, name: str, shape: Shape, said: Shape) -> Shape:
        """`shape` with its open dimensions taken from the declared one, where that says more."""
        here = tuple(self.bound(dim) for dim in shape)
        there = tuple(self.bound(dim) for dim in said)
        if len(here) != len(there) or any(
            isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(here, there, strict=True)
        ):
            self.disagreements.append(f"{name}: {format_shape(there)} declared, {format_shape(here)}")
            return here
        return tuple(
            b if isinstance(a, Symbol) and (isinstance(b, int) or a.name == f"{name}.{axis}") else a
            for axis, (a, b) in enumerate(zip(here, there, strict=True))
        )

    def bound(self, dim: Dim) -> Dim:
        return bound_value(dim, self.dims) if isinstance(dim, Symbol) else dim

    def record(self, operator: Operator, results: list[Fact], facts: list[Fact], reason: str, *, follows: bool) -> None:
        """Note an output without a shape, or with a dimension that is first met here.

        `results` is what the rule said, `facts` what holds after declared shapes filled its gaps.
        With `follows` an input has no shape either: the cause was noted before and is not repeated.
        """
        for name, result, fact in zip(operator.outputs, results, facts, strict=True):
            if not name:
                continue
            if fact.shape is None:
                if result.elements is not None:
                    reason = "a sequence of tensors has no size of its own"
                if follows:
                    self.followers += 1
                else:
                    self.unknowns.append(Unknown(operator.name, operator.op_type, reason or "its output has no shape"))
                return
            if not is_open(fact.shape):
                continue
            made = (*operator.outputs, operator.name)
            guessed = result.shape is None or any(_made_by(dim, made) for dim in result.shape)
            new = [
                dim
                for dim in fact.shape
                if isinstance(dim, Symbol) and (_made_by(dim, made) or (guessed and dim.name not in self.symbols))
            ]
            if new:
                self.symbols.update(dim.name for dim in new)
                hint = " ".join(f"--dim {quoted(dim.name)}=VALUE" for dim in dict.fromkeys(new))
                why = f"the size of {name!r} ({format_shape(fact.shape)}) is known only while running"
                self.unknowns.append(Unknown(operator.name, operator.op_type, why, hint))
                return


def _made_by(dim: Dim, names: tuple[str, ...]) -> bool:
    """Whether `dim` is a symbol that an operator with these outputs introduced."""
    return isinstance(dim, Symbol) and dim.name.rpartition(".")[0] in names
