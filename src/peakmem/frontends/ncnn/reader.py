"""ncnn models to graphs: the param file, text or binary, and the .bin file beside it where there is one.

Nothing but the param file and four bytes for each weight is read. A blob of ncnn has no batch: its
shape is (w), (h, w), (c, h, w) or (c, d, h, w). The files carry few shapes; those they hint at are
taken as declarations, all others are inferred.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from peakmem.dtypes import FLOAT32, INT32
from peakmem.frontends.door import door
from peakmem.frontends.names import unique
from peakmem.frontends.ncnn.binary import TABLE_BYTES, Stored, beside, expected_bytes, walk
from peakmem.frontends.ncnn.caches import with_caches
from peakmem.frontends.ncnn.layers import TYPES, is_known, values
from peakmem.frontends.ncnn.operators import attributes, inputs
from peakmem.frontends.ncnn.param import Line, read_lines, wholes
from peakmem.frontends.ncnn.weights import Weight, given_shape, weights
from peakmem.ir.dims import Dim, Shape, Symbol
from peakmem.ir.graph import Detail, Graph, Operator, Tensor
from peakmem.ir.validate import schedule_order, validate

_HINTS = 30
# parameter with the shapes of the tops
_AXES = {1: "w", 2: "hw", 3: "chw", 4: "cdhw"}
_NAMES = {"w": "width", "h": "height", "d": "depth", "c": "channels"}


def read_ncnn(path: Path) -> Graph:
    """The graph of an ncnn param file, unbound: an input without a size in the file has no shape.

    Raises:
        FormatError: not a param file, a damaged one, or a .bin file that does not belong to it.
        GraphError: the layers contradict themselves or each other.
    """
    with door(path, ValueError):
        return _Reader(path, read_lines(path, TYPES)).graph()


class _Reader:
    def __init__(self, path: Path, lines: list[Line]) -> None:
        self.path = path
        self.lines = lines
        self.names: dict[str, int] = {}
        # of operators, and how often each was asked for
        self.tensors: dict[str, Tensor] = {}
        self.inputs: list[str] = []
        self.notes: list[str] = []
        self.details: list[Detail] = []
        self.blobs = {name for line in lines for name in (*line.bottoms, *line.tops)}

    def graph(self) -> Graph:
        known = [values(line, self.where(line)) for line in self.lines]
        needed = [weights(line.op_type, row, self.where(line)) for line, row in zip(self.lines, known, strict=True)]
        stored = self.stored(needed)
        operators = []
        for line, row, many, lie in zip(self.lines, known, needed, stored, strict=True):
            self.declare(line)
            if line.op_type == "Input":
                for position, top in enumerate(line.tops):
                    self.input(top, self.input_shape(line, row, position))
                continue
            name = self.unique(line.name)
            slots = {weight.slot: self.weight(name, weight, how) for weight, how in zip(many, lie, strict=True)}
            operators.append(
                Operator(
                    name, line.op_type, inputs(line.op_type, line.bottoms, row, slots), line.tops,
                    attributes(line.op_type, row), "ncnn", aliases=_sharing(line),
                )
            )  # fmt: skip
        made = {top for line in self.lines for top in line.tops}
        for bottom in dict.fromkeys(bottom for line in self.lines for bottom in line.bottoms if bottom not in made):
            self.input(bottom, None)
        read = {bottom for line in self.lines for bottom in line.bottoms}
        outputs = tuple(dict.fromkeys(top for op in operators for top in op.outputs if top not in read))
        self.identifiers(operators)
        hinted = sum(_HINTS in line.params for line in self.lines)
        if hinted:
            self.details.append(Detail("shape hints", f"{hinted} of {len(self.lines)} layers say the shapes they make"))
        graph = Graph(
            name=self.path.name.split(".")[0] or self.path.name,
            tensors=self.tensors,
            operators=schedule_order(operators, str(self.path)),
            inputs=tuple(dict.fromkeys(self.inputs)),
            outputs=outputs,
            source=str(self.path),
            notes=(
                *self.notes,
                "activations are float32: fp16 and bf16 storage and packed layouts are options of the engine",
            ),
            format="ncnn",
            batched=False,
            details=tuple(self.details),
        )
        validate(graph)
        return with_caches(graph)

    def where(self, line: Line) -> str:
        return f"{self.path}, layer {line.name!r} ({line.op_type})"

    def unique(self, name: str) -> str:
        return unique(name, self.names)

    # -- blobs ---------------------------------------------------------------------------

    def declare(self, line: Line) -> None:
        """Tensors for the tops of a layer, with the shapes that the file hints at."""
        hints = line.params.get(_HINTS)
        numbers = () if hints is None else wholes(hints, self.where(line))
        step = len(numbers) // len(line.tops) if line.tops else 0
        for position, top in enumerate(line.tops):
            shape = _hint(numbers[position * step : (position + 1) * step])
            self.tensors.setdefault(top, Tensor(top, shape))

    def input_shape(self, line: Line, row: Mapping[str, object], position: int) -> Shape | None:
        sizes = given_shape(row)
        if not sizes:
            return self.tensors[line.tops[position]].shape
        top = line.tops[position]
        dims: list[Dim] = []
        for axis, size in zip(_AXES[len(sizes)], sizes, strict=True):
            dims.append(size if size > 0 else Symbol(f"{top}.{_NAMES[axis]}"))
        return tuple(dims)

    def input(self, name: str, shape: Shape | None) -> None:
        self.tensors[name] = Tensor(name, shape, FLOAT32, "input")
        self.inputs.append(name)

    def identifiers(self, operators: list[Operator]) -> None:
        """Inputs that only embeddings read hold whole numbers; they have as many bits as floats."""
        readers: dict[str, list[Operator]] = {}
        for operator in operators:
            for name in operator.inputs:
                readers.setdefault(name, []).append(operator)
        for name in self.inputs:
            waiting, kinds = [name], set()
            for blob in waiting:
                for operator in readers.get(blob, ()):
                    if operator.op_type == "Split":
                        waiting += operator.outputs
                    else:
                        kinds.add(operator.op_type)
            if kinds == {"Embed"}:
                self.tensors[name] = replace(self.tensors[name], dtype=INT32)

    # -- weights -------------------------------------------------------------------------

    def stored(self, needed: list[list[Weight]]) -> list[list[Stored]]:
        """How each weight is stored: as the .bin file says, else as ncnn's tools would write it."""
        custom = next((line for line in self.lines if not is_known(line.op_type)), None)
        found = beside(self.path)
        if found is not None and custom is None:
            names = [line.name for line in self.lines]
            rows = walk(found, list(zip(names, needed, strict=True)))
            kinds = {stored.dtype.name for row in rows for stored in row}
            self.details.append(Detail(".bin file", f"{found.name}, as long as its layers say", found.stat().st_size))
            if "float16" in kinds:
                self.notes.append("float16 weights are counted as stored; ncnn makes float32 of them when it loads")
            return rows
        total = sum(expected_bytes(weight) for row in needed for weight in row)
        if custom is not None:
            self.notes.append(
                f"what custom layers such as {custom.name!r} ({custom.op_type}) store cannot be told, "
                "so the .bin file was not checked"
            )
        elif total:
            self.notes.append(
                "there is no .bin file beside it: weights are counted from the layers, as float32 or as the int8 "
                "that quantised layers say"
            )
            self.details.append(Detail("expected .bin file", "its length if weights are not float16", total))
        return [[Stored(weight.dtype, expected_bytes(weight)) for weight in row] for row in needed]

    def weight(self, layer: str, weight: Weight, stored: Stored) -> str:
        name = f"{layer}.{weight.name}"
        while name in self.tensors or name in self.blobs:
            name += "~"
        self.tensors[name] = Tensor(name, weight.shape, stored.dtype, "constant")
        if stored.table:
            table = f"{name}.table"
            self.tensors[table] = Tensor(table, (TABLE_BYTES // 4,), FLOAT32, "constant")
        return name


def _sharing(line: Line) -> tuple[tuple[int, int], ...]:
    """Tops that are a bottom: all of a Split are its one, those of a Noop each its own."""
    if line.op_type == "Split" and line.bottoms:
        return tuple((top, 0) for top in range(len(line.tops)))
    if line.op_type == "Noop":
        return tuple((at, at) for at in range(min(len(line.tops), len(line.bottoms))))
    return ()


def _hint(numbers: tuple[int, ...]) -> Shape | None:
    """A shape hint, (dims, w, h, c) or (dims, w, h, d, c); None where it says nothing."""
    if len(numbers) < 2:
        return None
    rank, *sizes = numbers
    shape: tuple[int, ...] = ()
    if rank == 1:
        shape = (sizes[0],)
    elif rank == 2 and len(sizes) > 1:
        shape = (sizes[1], sizes[0])
    elif rank == 3 and len(sizes) > 2:
        shape = (sizes[3] if len(sizes) == 4 else sizes[2], sizes[1], sizes[0])
    elif rank == 4 and len(sizes) > 3:
        shape = (sizes[3], sizes[2], sizes[1], sizes[0])
    return shape if shape and all(size > 0 for size in shape) else None


__all__ = ["read_ncnn"]
