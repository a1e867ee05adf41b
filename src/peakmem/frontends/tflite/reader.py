"""TensorFlow Lite files to graphs, without a library and without loading weights.

The main subgraph is the graph; bodies of IF, WHILE, CALL_ONCE and composites become subgraphs of the
operator that calls them, with their constants and states filed in the graph itself, because bodies
may share them. Shapes are as the file declares them: what it leaves open becomes a symbol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from peakmem.errors import FormatError, UsageError
from peakmem.frontends.door import door
from peakmem.frontends.flatbuffer import FlatFile, Table
from peakmem.frontends.section import Section
from peakmem.frontends.tflite import details as told
from peakmem.frontends.tflite import schema
from peakmem.frontends.tflite.subgraph import Filed, Scope, Variable
from peakmem.frontends.tflite.tensors import Buffers
from peakmem.ir.graph import Detail, Graph
from peakmem.ir.validate import schedule_order, validate

DEEPEST = 32
# bodies in bodies
MOST_EXPANSION = 50_000
# operators that subgraphs called more than once may add
_DAMAGE = (IndexError, KeyError, ValueError, TypeError)
# what damaged tables make of reading them, besides what damage makes of any file


def read_tflite(path: Path, *, signature: str = "", subgraph: str = "") -> Graph:
    """The graph of a TensorFlow Lite file, unbound.

    Args:
        path: the file.
        signature: the key of a signature whose subgraph is read instead of the first one.
        subgraph: the number of the subgraph to read, or its name.

    Raises:
        FormatError: not a TensorFlow Lite file, or a damaged one.
        GraphError: a tensor made twice or never, a cycle.
        UsageError: no such signature or subgraph.
    """
    with door(path, *_DAMAGE, what="the TensorFlow Lite file"), Section(path) as section:
        return _Reader(path, FlatFile(section)).graph(signature, subgraph)


def read_offline_plan(path: Path) -> Mapping[str, int]:
    """Offsets by tensor name that the metadata of a file plans ahead for its main subgraph; -1 leaves one open.

    Raises:
        FormatError: not a TensorFlow Lite file, or a damaged one.
    """
    with door(path, *_DAMAGE, what="the TensorFlow Lite file"), Section(path) as section:
        file = FlatFile(section)
        reader = _Reader(path, file)
        offsets = told.offline_plan(reader.model, file, reader.filed.buffers)
        if not offsets:
            return {}
        reader.graph("", "")
        names = reader.names[0]
        return {name: offset for name, offset in zip(names, offsets, strict=False) if name}


class _Reader:
    def __init__(self, path: Path, file: FlatFile) -> None:
        if file.size < 8 or file.read(4, 4) != b"TFL3":
            raise FormatError("this is not a TensorFlow Lite file", expected="the mark TFL3 at byte 4")
        self.path = path
        self.file = file
        self.model = file.root()
        version = self.model.number(schema.Model.VERSION, "I")
        if version != 3:
            raise FormatError(f"the schema has version {version}", expected="version 3")
        codes = [_code(table) for table in self.model.tables(schema.Model.OPERATOR_CODES)]
        self.filed = Filed(file, self.model, Buffers(file, self.model), codes)
        self.vector, self.count = self.model.span(schema.Model.SUBGRAPHS, "I")
        self.built: dict[int, Graph] = {}
        self.sizes: dict[int, int] = {}
        # operators of a subgraph that was built, those of its bodies included
        self.operators = 0
        # read so far
        self.names: dict[int, list[str]] = {}
        # of its tensors, by position

    def graph(self, signature: str, subgraph: str) -> Graph:
        if not self.count:
            raise FormatError("the file has no subgraph, so that nothing runs", expected="at least one")
        chosen = self.chosen(signature, subgraph)
        body = self.body(chosen, (), {})
        filed = self.filed
        notes = [f"{what}: {count}" for what, count in filed.buffers.notes.items()]
        graph = replace(
            body,
            name=self.path.stem,
            tensors=filed.tensors,
            defaults=filed.defaults,
            source=str(self.path),
            format="tflite",
            notes=tuple(notes),
            unknowns=tuple(filed.unknowns),
            details=tuple(self.details(chosen)),
        )
        validate(graph)
        return graph

    def details(self, chosen: int) -> list[Detail]:
        model, buffers = self.model, self.filed.buffers
        return [
            *told.quantisation(self.filed.quantised),
            *told.functions(model, chosen),
            *told.others(model, buffers, set(self.built)),
            *told.metadata(model, self.file, buffers),
        ]

    def chosen(self, signature: str, subgraph: str) -> int:
        """The number of the subgraph that is asked for."""
        if signature:
            known = {one.key: one.subgraph for one in told.signatures(self.model)}
            if signature not in known:
                shown = ", ".join(known) or "none: the file has no signatures"
                raise UsageError(f"the model has no signature {signature!r}", expected=f"one of {shown}")
            return known[signature]
        if not subgraph:
            return 0
        if subgraph.isascii() and subgraph.isdecimal():
            if int(subgraph[:9]) < self.count:
                return int(subgraph[:9])
        else:
            for number in range(self.count):
                if self.model.entry(self.vector, number).text(schema.SubGraph.NAME) == subgraph:
                    return number
        raise UsageError(f"the model has no subgraph {subgraph!r}", expected=f"a number below {self.count}, or a name")

    def body(self, number: int, above: tuple[int, ...], lent: dict[int, Variable]) -> Graph:
        """Subgraph `number`, which `above` call; `lent` are variables among its inputs."""
        if number in self.built:
            return self.built[number]
        if not 0 <= number < self.count:
            raise FormatError(f"subgraph {number} is called", expected=f"one of the {self.count} of the file")
        if number in above:
            raise FormatError(f"subgraph {number} calls itself, directly or through others")
        if len(above) >= DEEPEST:
            raise FormatError(f"subgraphs call each other {len(above)} deep", expected=f"at most {DEEPEST}")
        table = self.model.entry(self.vector, number)
        scope = Scope(self.filed, table, number, lent, main=not above)
        self.names[number] = scope.names
        self.operators += len(scope.raw)
        size = 0
        # operators of the bodies, as often as they are called

        def build(inner: int, variables: dict[int, Variable]) -> Graph:
            nonlocal size
            graph = self.body(inner, (*above, number), variables)
            size += self.sizes[inner]
            if size > self.operators + MOST_EXPANSION:
                raise FormatError(f"subgraphs call each other so often that they are {size:,} operators and more")
            return graph

        operators = [scope.operator(position, build) for position in range(len(scope.raw))]
        self.sizes[number] = size + len(operators)
        ordered = schedule_order(operators, str(self.path))
        if any(one is not other for one, other in zip(ordered, operators, strict=True)):
            self.filed.buffers.note("subgraphs with operators before what they read, which were put in order")
        self.built[number] = Graph(
            name=table.text(schema.SubGraph.NAME) or f"subgraph_{number}",
            tensors=scope.tensors,
            operators=ordered,
            inputs=tuple(name for at in scope.inputs if (name := scope.names[at]) in scope.given),
            outputs=tuple(scope.names[at] for at in scope.outputs),
        )
        return self.built[number]


def _code(table: Table) -> tuple[str, str]:
    """(domain, op type) of an operator code."""
    number = max(
        table.number(schema.OperatorCode.OLD_BUILTIN, "b"), table.number(schema.OperatorCode.BUILTIN, "i")
    )  # files of before and after the byte became too small
    if number == schema.CUSTOM:
        return "tflite.custom", table.text(schema.OperatorCode.CUSTOM)[:256] or "CUSTOM"
    if 0 <= number < len(schema.OPERATORS):
        return "tflite", schema.OPERATORS[number]
    return "tflite", f"BUILTIN_{number}"
