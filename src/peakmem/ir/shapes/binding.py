"""Values for the symbols of a graph's inputs, before anything is inferred from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from peakmem.errors import UnboundDimension, UsageError
from peakmem.ir.dims import Dim, Shape, Symbol, format_shape
from peakmem.ir.expressions import parse, value
from peakmem.ir.graph import Graph


def _given(graph: Graph) -> tuple[str, ...]:
    """What shapes start from: the inputs, then the states."""
    states = (name for name, tensor in graph.tensors.items() if tensor.role == "state")
    return (*graph.inputs, *states)


def unbound(graph: Graph) -> dict[str, list[str]]:
    """Symbols in the shapes of inputs and states that need a value, and the tensors that carry each."""
    found: dict[str, list[str]] = {}
    for name in _given(graph):
        for dim in graph.tensors[name].shape or ():
            if isinstance(dim, Symbol):
                found.setdefault(dim.name, []).append(name)
    return found


def bind(graph: Graph, shapes: Mapping[str, Shape], dims: Mapping[str, int]) -> Graph:
    """`graph` with its input shapes replaced by `shapes`, and symbols in them and in states by `dims`.

    Raises:
        UsageError: an input that does not exist, another rank, a non-positive size.
    """
    tensors = dict(graph.tensors)
    for name in shapes:
        if name not in graph.inputs:
            raise UsageError(
                f"the model has no input {name!r}",
                expected=f"one of {', '.join(graph.inputs) or 'none'}",
                hint=f"--shape {graph.inputs[0] if graph.inputs else 'input'}=1x3x224x224",
            )
    for name in _given(graph):
        tensor = tensors[name]
        shape = tensor.shape
        if name in shapes:
            if shape is not None and len(shapes[name]) != len(shape):
                raise UsageError(
                    f"input {name!r} has rank {len(shape)} ({format_shape(shape)}), "
                    f"not {len(shapes[name])} ({format_shape(shapes[name])})",
                    hint=f"--shape {name}={'x'.join('1' if isinstance(d, Symbol) else str(d) for d in shape)}",
                )
            shape = shapes[name]
        if shape is not None:
            shape = tuple(bound_value(dim, dims) if isinstance(dim, Symbol) else dim for dim in shape)
        tensors[name] = replace(tensor, shape=shape)
    return replace(graph, tensors=tensors)


def bound_value(symbol: Symbol, dims: Mapping[str, int]) -> Dim:
    """The size a symbol stands for: its own value, or what the formula that is its name gives; else the symbol."""
    name = symbol.name
    if name in dims:
        return dims[name]
    if not dims or name.replace("_", "").isalnum():
        return symbol
    formula = parse(name)
    size = None if formula is None else value(formula, dims)
    return symbol if size is None else size


def refuse_unbound(graph: Graph) -> None:
    """Raise UnboundDimension when an input has a symbol without a value; its hint is the flag to type."""
    for name in graph.inputs:
        if graph.tensors[name].shape is None and graph.tensors[name].dtype is not None:
            usual = "3x224x224" if not graph.batched else "1x3x224x224"
            raise UnboundDimension(f"input {name!r} has no shape in the file", hint=f"--shape {name}={usual}")
    missing = unbound(graph)
    if missing:
        batch = [
            dim
            for dim, inputs in missing.items()
            if graph.batched and all((graph.tensors[name].shape or ())[:1] == (Symbol(dim),) for name in inputs)
        ]
        flags = ["--batch 1"] if batch else []
        flags += [f"--dim {quoted(dim)}={_example(graph, dim)}" for dim in missing if dim not in batch[:1]]
        shapes = "; ".join(
            f"{name}: {format_shape(graph.tensors[name].shape)}"
            for name in dict.fromkeys(name for names in missing.values() for name in names)
        )
        raise UnboundDimension(f"no value for dimension {', '.join(missing)} of {shapes}", hint=" ".join(flags))


def _example(graph: Graph, dim: str) -> int:
    """A usual size for a symbol: that of an image for an axis of a rank 4 input, else of a sequence."""
    shapes = [graph.tensors[name].shape or () for name in graph.inputs]
    return 224 if any(len(shape) == 4 and Symbol(dim) in shape[2:] for shape in shapes) else 128


def quoted(name: str) -> str:
    """`name` as it is typed after --dim."""
    return name if name.replace("_", "").replace(".", "").isalnum() else f"'{name}'"
