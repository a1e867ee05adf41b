"""What a model stores: parameters by role, counted three ways, and their bytes at any dtype.

A constant gets its role from the operator that reads it, found through operators that work on
constants alone (a transposed weight is still a weight). Constants that share a storage count once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from peakmem import dtypes
from peakmem.dtypes import DType
from peakmem.ir import kinds
from peakmem.ir.dims import Shape
from peakmem.ir.graph import Graph, Operator, Tensor
from peakmem.naming import ParameterRole, stored_roles

ROLES: tuple[ParameterRole, ...] = get_args(ParameterRole)
_RANK = {role: position for position, role in enumerate(ROLES)}

SIZE_DTYPES: tuple[DType, ...] = (
    dtypes.FLOAT32, dtypes.FLOAT16, dtypes.BFLOAT16, dtypes.FLOAT8E4M3FN, dtypes.INT8, dtypes.INT4,
)  # fmt: skip
SCALE_BYTES = 4
# one float32 scale per output channel; symmetric, so no zero point
BIAS_BYTES = 4
# biases become int32 in int8 and int4 engines (scale = input scale × weight scale)


@dataclass(frozen=True, slots=True)
class Constant:
    """One stored constant and what it is for."""

    name: str
    role: ParameterRole
    elements: int
    nbytes: int
    channels: int
    # output channels, for a weight: the number of scales when quantised per channel
    row: int
    # input channels of a matrix, the elements that block formats store together; 0 for what is no matrix
    dtype: DType | None
    shape: Shape | None


@dataclass(frozen=True, slots=True)
class Parameters:
    """The constants of a model; counts are elements, sizes are bytes as stored."""

    constants: tuple[Constant, ...]

    def elements(self, *roles: ParameterRole) -> int:
        """Elements of the constants with one of `roles`."""
        return sum(constant.elements for constant in self.constants if constant.role in roles)

    def nbytes(self, *roles: ParameterRole) -> int:
        """Stored bytes of the constants with one of `roles`; of all when none is given."""
        return sum(constant.nbytes for constant in self.constants if not roles or constant.role in roles)

    @property
    def weights_only(self) -> int:
        """Kernels, matrices and embeddings; no bias, no norm."""
        return self.elements("weight")

    @property
    def trainable(self) -> int:
        """Weights, biases and norm affine: the count that papers publish."""
        return self.elements("weight", "bias", "norm")

    @property
    def with_statistics(self) -> int:
        """`trainable` and the running statistics of batch norms."""
        return self.elements("weight", "bias", "norm", "statistic")

    def size(self, dtype: DType) -> tuple[int, int]:
        """(payload, side) bytes of all constants if floating ones were stored as `dtype`.

        At an integer dtype weights take `dtype`, one float32 scale per output channel goes with
        each (side), biases take int32, norms and statistics stay float32. Integer constants
        (already quantised weights, indices) keep their stored bytes. A block dtype is for weights
        whose rows it divides; all else keeps its dtype.
        """
        payload = side = 0
        for constant in self.constants:
            if constant.dtype is None or constant.dtype.kind != "float":
                payload += constant.nbytes
            elif dtype.block > 1:
                fits = constant.role == "weight" and dtype.fits(constant.row)
                payload += (dtype.nbytes(constant.elements) or 0) if fits else constant.nbytes
            elif dtype.kind in ("int", "uint"):
                if constant.role == "weight":
                    payload += dtype.nbytes(constant.elements) or 0
                    side += SCALE_BYTES * constant.channels
                elif constant.role == "bias":
                    payload += BIAS_BYTES * constant.elements
                else:
                    payload += constant.nbytes
            elif constant.role == "quantisation":
                payload += constant.nbytes
            else:
                payload += dtype.nbytes(constant.elements) or 0
        return payload, side


def parameters(graph: Graph) -> Parameters:
    """The stored constants of an inferred graph, its subgraphs included, each once."""
    # By the tensor itself, not its name: two branches may each hold a constant of the same name.
    found: dict[int, tuple[Tensor, ParameterRole, int, int]] = {}
    elements: dict[int, int] = {}
    for name, role, channels, row, packed, table in _uses(graph, {}):
        tensor = table[name]
        if packed:
            elements[id(tensor)] = packed
        have = found.get(id(tensor))
        if have is None or _RANK[role] < _RANK[have[1]]:
            found[id(tensor)] = (tensor, role, channels, row)
    named = stored_roles(graph.tensors.values()) if graph.weights_only else {}
    for body in _all_graphs(graph):
        for tensor in body.tensors.values():
            if tensor.role == "constant" and not tensor.storage and id(tensor) not in found:
                role = named.get(tensor.name, "other")
                sizes = [dim for dim in tensor.shape or () if isinstance(dim, int)] if role == "weight" else []
                row = sizes[-1] if len(sizes) > 1 else 0
                found[id(tensor)] = (tensor, role, sizes[0] if sizes else 1, row)
    constants = []
    for key, (tensor, role, channels, row) in found.items():
        role = _told(tensor, role) if graph.parameters_told else role
        count = elements.get(key, tensor.count or 0)
        constants.append(
            Constant(tensor.name, role, count, tensor.nbytes or 0, channels, row, tensor.dtype, tensor.shape)
        )
    return Parameters(tuple(constants))


def _told(tensor: Tensor, role: ParameterRole) -> ParameterRole:
    """`role` made to agree with what the source says: each parameter is trainable, nothing else is."""
    if tensor.role != "constant":
        return role
    if tensor.parameter and role in ("statistic", "other"):
        guess = stored_roles((tensor,))[tensor.name]
        return guess if guess in ("weight", "bias", "norm") else "weight"
    floating = tensor.dtype is not None and tensor.dtype.kind == "float"
    return "other" if not tensor.parameter and floating and role in ("weight", "bias", "norm") else role


def _all_graphs(graph: Graph) -> Iterator[Graph]:
    yield graph
    for operator in graph.operators:
        for body in operator.subgraphs:
            yield from _all_graphs(body)


def _uses(
    graph: Graph, outer: Mapping[str, Tensor]
) -> Iterator[tuple[str, ParameterRole, int, int, int, Mapping[str, Tensor]]]:
    """(constant, role, output channels, row, packed elements or 0, tensors) for each read of a constant."""
    # Of the enclosing graph only what is read here: copying all of it for each body takes a square of time.
    table = {name: outer[name] for name in graph.captured() if name in outer} if outer else {}
    table.update({tensor.storage: outer[tensor.storage] for tensor in list(table.values()) if tensor.storage})
    table.update(graph.tensors)
    roots: dict[str, str] = {}
    # results of operators on constants alone -> the stored constant they come from
    made: set[str] = set()
    # those constants
    producers = {name: operator for operator in graph.operators for name in operator.outputs if name}
    for operator in graph.operators:
        for body in operator.subgraphs:
            yield from _uses(body, table)
        root = _constant_root(operator, table, roots)
        if root is not None:
            made.add(root)
            for name in operator.outputs:
                if name:
                    roots[name] = root
        for position, name in enumerate(operator.inputs):
            if not name or name not in table:
                continue
            source = roots.get(name, name)
            tensor = table[source]
            if tensor.role != "constant" and source not in made:
                continue
            if root is not None and position == 0:
                continue  # the role comes from whoever reads the result
            role = _role(operator, position, table[name], tensor, producers, table)
            shape = tuple(dim for dim in table[name].shape or () if isinstance(dim, int))
            channels = kinds.output_channels(operator, shape) if role == "weight" else 1
            row = kinds.row(operator, shape) if role == "weight" else 0
            stored = tensor.storage or source
            yield stored, role, channels, row, _packed(operator, position), table


def _constant_root(operator: Operator, table: Mapping[str, Tensor], roots: Mapping[str, str]) -> str | None:
    """The stored constant that the results of `operator` are made of, if it works on constants alone."""
    given = [name for name in operator.inputs if name]
    if not given or operator.subgraphs or kinds.key(operator) in kinds.RANDOM:
        return None
    if not all(name in roots or (name in table and table[name].role == "constant") for name in given):
        return None
    if operator.op_type in ("ConstantOfShape", "Range", "Shape", "Expand", "Tile", "Pad", "EyeLike", "OneHot"):
        # Made at load rather than stored: the result itself is what is held.
        result = table.get(operator.outputs[0]) if operator.outputs else None
        return None if result is None or (result.values is not None and len(result.values) <= 64) else result.name
    first = operator.inputs[0]
    return roots.get(first, first) if first else None


def _packed(operator: Operator, position: int) -> int:
    """Elements of a weight whose stored shape is a packing of several in one byte, else 0."""
    if operator.op_type == "MatMulNBits" and position == 1:
        return int(operator.attributes.get("K", 0)) * int(operator.attributes.get("N", 0))
    if operator.op_type == "MatMulBnb4" and position == 1:
        return int(operator.attributes.get("K", 0)) * int(operator.attributes.get("N", 0))
    return 0


def _role(
    operator: Operator, position: int, read: Tensor, stored: Tensor,
    producers: Mapping[str, Operator], table: Mapping[str, Tensor],
) -> ParameterRole:  # fmt: skip
    name = kinds.key(operator)
    own = kinds.QUANTISATION.get(kinds.native(operator), ())
    # a format may add scales to an operator that ONNX has without
    if position in kinds.QUANTISATION.get(name, ()) or position in own:
        return "quantisation"
    if position in kinds.STATISTICS.get(name, ()):
        return "statistic"
    if position in kinds.NORM_AFFINE.get(name, ()):
        return "norm" if stored.parameter else "other"  # ones and zeros that an exporter wrote in
    if position in kinds.BIASES.get(name, ()):
        return "bias"
    count = read.count or 0
    if stored.role != "constant" and position not in kinds.WEIGHTS.get(name, ()):
        return "other"  # made at load, not trained
    quantised = (
        stored.dtype is not None and stored.dtype.kind in ("int", "uint") and stored.dtype.bits in (2, 3, 4, 8, 16)
    )
    floating = stored.dtype is not None and stored.dtype.kind == "float"
    if position in kinds.WEIGHTS.get(name, ()) and (quantised or floating):
        return "weight" if count > 1 else "other"
    if not floating or count <= 1 or not stored.parameter or (position > 0 and name in kinds.SETTINGS):
        return "other"
    if name in ("Add", "Sub", "Mul", "Div"):
        return _arithmetic_role(operator, read, producers, table)
    return "weight"


def _arithmetic_role(
    operator: Operator, read: Tensor, producers: Mapping[str, Operator], table: Mapping[str, Tensor]
) -> ParameterRole:
    """Role of a constant in plain arithmetic: a bias, a norm written out, or a table."""
    longest = max((dim for dim in read.shape or () if isinstance(dim, int)), default=1)
    if longest != read.count:
        return "weight"  # a table over more than one axis, such as position embeddings
    others = [name for name in operator.inputs if name in producers and name != read.name]
    made_by = producers[others[0]] if others else None
    if made_by is not None and made_by.op_type == "DynamicQuantizeLinear":
        return "quantisation"  # the weight's scales, multiplied with the activation's
    if kinds.key(operator) in ("Mul", "Div"):
        return "norm"
    if made_by is not None and kinds.key(made_by) == "Mul":
        scale = [table[name] for name in made_by.inputs if name in table and table[name].role == "constant"]
        if scale and (scale[0].count or 0) > 1:
            return "norm"
    return "bias"
