"""MNN files to graphs, without a library and without loading weights.

A file stores shapes for its inputs and constants alone; all others are inferred. Weights that lie inside an operator
become constants of the graph, in the place after the operator's own inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from peakmem.dtypes import FLOAT16, FLOAT32, INT8, INT32, UINT8, DType
from peakmem.errors import FormatError
from peakmem.frontends.door import door
from peakmem.frontends.flatbuffer import FlatFile, Table
from peakmem.frontends.mnn import schema
from peakmem.frontends.names import unique
from peakmem.frontends.section import Section
from peakmem.ir.dims import Dim, Shape, Symbol
from peakmem.ir.graph import Detail, Graph, Operator, Tensor
from peakmem.ir.validate import schedule_order, validate

DOMAIN = "mnn"
MOST_TENSORS = 1 << 20
MOST_VALUES = 1024
# elements of a constant that are kept as values
MOST_DIMS = 64
_DAMAGE = (IndexError, KeyError, ValueError, TypeError)
_VALUES = {
    "int32": (schema.Blob.INT32S, "i"),
    "int64": (schema.Blob.INT64S, "q"),
    "float32": (schema.Blob.FLOAT32S, "f"),
}
_NCHW = {0: "batch", 1: "channels", 2: "height", 3: "width"}


def read_mnn(path: Path) -> Graph:
    """The graph of an MNN file; a size that it leaves open becomes a symbol.

    Raises:
        FormatError: not an MNN file, or a damaged one.
        GraphError: a tensor made twice or never, a cycle.
    """
    with door(path, *_DAMAGE, what="the MNN file"), Section(path) as section:
        return _Reader(path, FlatFile(section)).graph()


class _Reader:
    def __init__(self, path: Path, file: FlatFile) -> None:
        if file.size < 16:
            raise FormatError("this is not an MNN file", expected="a flatbuffer with operators")
        self.path = path
        self.net = file.root()
        self.count = int(self.net.number(schema.Net.TENSORS, "i"))
        vector, listed = self.net.span(schema.Net.NAMES, "I")
        self.count = max(self.count, listed)
        if not 0 < self.count <= MOST_TENSORS:
            raise FormatError(f"the file says it has {self.count:,} tensors", expected=f"1 to {MOST_TENSORS:,}")
        taken: dict[str, int] = {}
        self.names = []
        for at in range(self.count):
            name = ""
            if at < listed:
                place = vector + 4 * at
                name = file.text(place + int(file.number("I", place)))
            self.names.append(unique(name or f"tensor_{at}", taken))
        self.taken = taken
        self.operator_names: dict[str, int] = {}
        self.tensors: dict[str, Tensor] = {}
        self.inputs: list[str] = []
        self.details: list[Detail] = []
        self.notes: list[str] = []
        self.elsewhere = 0
        # weights in a file of their own

    def graph(self) -> Graph:
        operators = [one for table in self.net.tables(schema.Net.OPERATORS) if (one := self.operator(table))]
        if not operators and not self.inputs:
            raise FormatError("the file has no operator, so that nothing runs", expected="at least one")
        if self.net.count(schema.Net.SUBGRAPHS):
            self.notes.append(f"bodies of loops and branches: {self.net.count(schema.Net.SUBGRAPHS)}, not read")
        if self.elsewhere:
            self.notes.append(f"weights in the file beside it: {self.elsewhere}")
        read = {name for one in operators for name in one.inputs}
        made = [name for one in operators for name in one.outputs]
        graph = Graph(
            name=self.path.stem,
            tensors=self.tensors,
            operators=schedule_order(operators, str(self.path)),
            inputs=tuple(self.inputs),
            outputs=self.outputs(made) or tuple(name for name in made if name not in read),
            source=str(self.path),
            notes=tuple(self.notes),
            format="mnn",
            details=tuple(self.details),
        )
        validate(graph)
        return graph

    def outputs(self, made: list[str]) -> tuple[str, ...]:
        vector, count = self.net.span(schema.Net.OUTPUTS, "I")
        known, file = set(made), self.net.file
        told = []
        for at in range(count):
            place = vector + 4 * at
            told.append(file.text(place + int(file.number("I", place))))
        return tuple(dict.fromkeys(name for name in told if name in known))

    def named(self, table: Table, field: int, what: str) -> tuple[str, ...]:
        found = []
        for at in table.numbers(field, "i"):
            if at == -1:
                found.append("")
                continue
            if not 0 <= at < self.count:
                raise FormatError(f"{what} refers to tensor {at}", expected=f"one of {self.count}")
            found.append(self.names[at])
        return tuple(found)

    def operator(self, table: Table) -> Operator | None:
        """An operator; inputs and constants become tensors and give None."""
        number = table.number(schema.Op.TYPE, "i")
        op_type = schema.OPERATORS.get(number, f"operator_{number}")
        name = unique(table.text(schema.Op.NAME) or op_type, self.operator_names)
        outputs = self.named(table, schema.Op.OUTPUTS, f"operator {name!r}")
        kind = schema.PARAMETERS.get(table.number(schema.Op.KIND, "B"), "")
        main = table.table(schema.Op.MAIN) if kind else None
        if op_type in ("Input", "Const", "TrainableParam"):
            if op_type == "Input":
                self.input(outputs[0], main)
            else:
                self.constant(outputs[0], main)
            return None
        inputs = list(self.named(table, schema.Op.INPUTS, f"operator {name!r}"))
        attributes: dict[str, Any] = {}
        if main is not None:
            attributes = _attributes(kind, main)
            inputs += self.weights(name, kind, main, attributes)
        if op_type in ("While", "If"):
            attributes["parameter"] = kind
            # LoopParam is a loop of copies; the others have bodies
        for output in outputs:
            self.tensors[output] = Tensor(output)
        return Operator(name, op_type, tuple(inputs), outputs, attributes, DOMAIN)

    # -- tensors -------------------------------------------------------------------------

    def input(self, name: str, main: Table | None) -> None:
        dims: tuple[int, ...] = main.numbers(schema.Input.DIMS, "i") if main else ()
        if len(dims) > MOST_DIMS:
            raise FormatError(f"input {name!r} has {len(dims)} dimensions")
        sizes: list[Dim] = [
            dim if dim > 0 else Symbol(f"{name}.{_NCHW.get(at, at)}") for at, dim in enumerate(dims)
        ]  # fmt: skip
        code = main.number(schema.Input.DTYPE, "i", 1) if main else 1
        self.tensors[name] = Tensor(name, tuple(sizes) if main else None, schema.DTYPES.get(code, FLOAT32), "input")
        self.inputs.append(name)
        form = main.number(schema.Input.FORMAT, "b", 2) if main else 2
        if 0 <= form < len(schema.FORMATS):
            self.details.append(Detail(f"layout of {name}", schema.FORMATS[form]))

    def constant(self, name: str, main: Table | None) -> None:
        shape, dtype, values = _blob(main) if main is not None else ((0,), FLOAT32, None)
        self.tensors[name] = Tensor(name, shape, dtype, "constant", values=values, parameter=values is None)

    def weight(self, operator: str, what: str, shape: Shape, dtype: DType) -> str:
        name = unique(f"{operator}.{what}", self.taken)
        self.tensors[name] = Tensor(name, shape, dtype, "constant")
        return name

    def weights(self, name: str, kind: str, main: Table, attributes: dict[str, Any]) -> list[str]:
        """The constants inside an operator."""
        if kind == "Convolution2D":
            return self.convolution(name, main, attributes)
        made = []
        for field, what in schema.WEIGHTS.get(kind, ()):
            _, count = main.span(field, "f")
            if count:
                made.append(self.weight(name, what, (count,), FLOAT32))
        for field, what in schema.BLOBS.get(kind, ()):
            blob = main.table(field)
            if blob is not None:
                shape, dtype, _ = _blob(blob)
                if prod(dim for dim in shape if isinstance(dim, int)):
                    made.append(self.weight(name, what, shape, dtype))
        return made

    def convolution(self, name: str, main: Table, attributes: dict[str, Any]) -> list[str]:
        """Weight and bias as ONNX has them: (O, I of a group, height, width) and (O)."""
        field = schema.Convolution
        common = main.table(field.COMMON)
        if common is None:
            raise FormatError(f"convolution {name!r} has no sizes")
        attributes.update(_common(common))
        _, count = main.span(field.WEIGHT, "f")
        _, biases = main.span(field.BIAS, "f")
        dtype = FLOAT32
        extra: list[str] = []
        quantised, symmetric = main.table(field.QUANTISED), main.table(field.SYMMETRIC)
        outside = main.numbers(field.EXTERNAL, "q") if main.where(field.EXTERNAL) else ()
        if quantised is not None and not count:
            stored = quantised.span(schema.Quantised.BUFFER, "B")[1]
            code = quantised.number(schema.Quantised.TYPE, "i")
            half = code == schema.Quantised.HALF
            dtype, count = (FLOAT16, stored // 2) if half else (INT8, stored)
            attributes["stored"] = "half" if half else "quantised"
            _, scales = quantised.span(schema.Quantised.ALPHA, "f")
            if scales and not half:
                extra.append(self.weight(name, "scale", (scales,), FLOAT32))
        if symmetric is not None and not count:
            dtype, count = INT8, symmetric.span(schema.Symmetric.WEIGHT, "b")[1]
            biases = biases or symmetric.span(schema.Symmetric.BIAS, "i")[1]
            _, scales = symmetric.span(schema.Symmetric.SCALE, "f")
            attributes["stored"] = "int8"
            if scales:
                extra.append(self.weight(name, "scale", (scales,), FLOAT32))
        if len(outside) >= 3 and not count and min(outside) >= 0:
            self.elsewhere += 1
            dtype, count = FLOAT32, int(outside[1]) // 4
            biases = biases or int(outside[2]) // 4
        if not count:
            return extra
        kernel = attributes["kernel"]
        outputs = attributes["outputs"] or biases
        area = kernel[0] * kernel[1]
        fits = outputs > 0 and area > 0 and count % (outputs * area) == 0
        shape: Shape = (outputs, count // (outputs * area), *kernel) if fits else (count,)
        made = [self.weight(name, "weight", shape, dtype)]
        if biases:
            made.append(self.weight(name, "bias", (biases,), INT32 if symmetric is not None else FLOAT32))
        return made + extra


def _attributes(kind: str, main: Table) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: main.number(field, code, default) for name, field, code, default in schema.NUMBERS.get(kind, ())
    }
    for name, field in schema.LISTS.get(kind, ()):
        if main.where(field):
            found[name] = main.numbers(field, "i")
    if kind == "Pool":
        found |= _pool(main)
    elif kind == "Pool3D":
        fields = schema.Pool3D
        found |= {
            "kernel": main.numbers(fields.KERNELS, "i"), "strides": main.numbers(fields.STRIDES, "i"),
            "pads": main.numbers(fields.PADS, "i"), "global": main.number(fields.GLOBAL, "?", default=False),
            "pad_type": main.number(fields.PAD_TYPE, "b"),
        }  # fmt: skip
    elif kind == "Interp":
        found["scales"] = (main.number(1, "f"), main.number(0, "f"))
    return found


def _common(common: Table) -> dict[str, Any]:
    field = schema.Common
    one = {at: common.number(at, "i", 1) for at in range(field.KERNEL_X, field.PAD_MODE)}
    pads = common.numbers(field.PADS, "i") if common.where(field.PADS) else ()
    if len(pads) < 4:
        y, x = common.number(field.PAD_Y, "i"), common.number(field.PAD_X, "i")
        pads = (y, x, y, x)
    return {
        "kernel": (one[field.KERNEL_Y], one[field.KERNEL_X]),
        "strides": (one[field.STRIDE_Y], one[field.STRIDE_X]),
        "dilations": (one[field.DILATE_Y], one[field.DILATE_X]),
        "pads": tuple(pads[:4]),
        "pad_mode": common.number(field.PAD_MODE, "b"),
        "group": common.number(field.GROUP, "i", 1),
        "outputs": common.number(field.OUTPUTS, "i"),
        "inputs": common.number(field.INPUTS, "i"),
        "out_pads": common.numbers(field.OUT_PADS, "i") if common.where(field.OUT_PADS) else (),
        "has_shape": common.number(field.HAS_SHAPE, "?", default=False),
    }


def _pool(main: Table) -> dict[str, Any]:
    field = schema.Pool
    pads = main.numbers(field.PADS, "i") if main.where(field.PADS) else ()
    if len(pads) == 2:
        pads = (pads[0], 0, pads[1], 0)
    if len(pads) != 4:
        y, x = main.number(field.PAD_Y, "i"), main.number(field.PAD_X, "i")
        pads = (y, x, y, x)
    return {
        "kernel": (main.number(field.KERNEL_Y, "i"), main.number(field.KERNEL_X, "i")),
        "strides": (main.number(field.STRIDE_Y, "i"), main.number(field.STRIDE_X, "i")),
        "pads": tuple(pads),
        "pad_type": main.number(field.PAD_TYPE, "b"),
        "global": main.number(field.GLOBAL, "?", default=False),
        "ceil": main.number(field.CEIL, "?", default=True),
    }


def _blob(blob: Table) -> tuple[Shape, DType, tuple[Any, ...] | None]:
    """Shape, element type, and the contents of a small one."""
    dims = blob.numbers(schema.Blob.DIMS, "i") if blob.where(schema.Blob.DIMS) else ()
    if any(dim < 0 for dim in dims) or len(dims) > MOST_DIMS:
        raise FormatError(f"a constant has the dimensions {dims[:8]}", expected="none below 0")
    dtype = schema.DTYPES.get(blob.number(schema.Blob.TYPE, "i", 1), UINT8)
    values: Mapping[str, tuple[int, str]] = _VALUES
    where = values.get(dtype.name)
    count = prod(dims)
    if where is None or count > MOST_VALUES or not blob.where(where[0]):
        return dims, dtype, None
    found = blob.numbers(*where)
    return dims, dtype, found if len(found) == count else None
