"""Give every dimension of a graph its value: a batch, whole shapes, symbols by name; then infer.

What a flag means is decided here; how shapes follow from each other stands in `ir.shapes`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from peakmem.errors import ShapeError, UsageError
from peakmem.ir.dims import Shape, Symbol, format_shape
from peakmem.ir.expressions import names, parse, solved
from peakmem.ir.graph import Graph
from peakmem.ir.shapes.infer import LARGEST_TENSOR, bind, infer, unbound
from peakmem.ir.shapes.rules import DECLARED

MOST_LISTED = 6
# dimensions named in an error

_BATCH = re.compile(r"batch|^(n|b|bs)$", re.IGNORECASE)


def bound(
    graph: Graph,
    *,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
) -> Graph:
    """`graph` with every dimension given a value and every shape inferred.

    Args:
        graph: as `load` returns it.
        batch: value of the batch dimension, found by `batch_dimensions`.
        shapes: whole input shapes by name; the name "" means the only input.
        dims: values of symbolic dimensions by name.

    Raises:
        UnboundDimension: a symbolic dimension is left; the message shows the flag to type.
        UsageError: a name that is not there, a negative size.
        ShapeError: the shapes contradict the network.
    """
    if graph.weights_only and (batch is not None or shapes or dims):
        flag = "--batch" if batch is not None else "--shape" if shapes else "--dim"
        raise UsageError(
            f"{flag} has nothing to size: the source holds weights and no operators",
            where=graph.source,
            hint=f"without {flag}",
        )
    values = dict(dims or {})
    for name, value in values.items():
        _sized(value, f"--dim {name}")
    whole: dict[str, Shape] = {}
    for name, shape in (shapes or {}).items():
        target = name or _only_input(graph)
        for size in shape:
            _sized(size, f"--shape {target}")
        whole[target] = tuple(shape)
    changed = False
    if batch is not None:
        _sized(batch, "--batch", least=1)
        if not graph.batched:
            raise UsageError(
                f"{graph.format} runs one image at a time: its tensors have no batch dimension",
                where=graph.source,
                hint="without --batch",
            )
        graph, more, changed = _with_batch(graph, batch, set(whole))
        for name in more.keys() & values.keys():
            if more[name] != values[name]:
                raise UsageError(f"dimension {name!r} is given two values, {more[name]} and {values[name]}")
        values = {**more, **values}
    for name, value in graph.defaults.items():
        values.setdefault(name, value)
    for name, fixed in whole.items():
        tensor = graph.tensors.get(name)
        if tensor is not None and tensor.shape is not None and len(tensor.shape) == len(fixed):
            for before, after in zip(tensor.shape, fixed, strict=True):
                if isinstance(before, Symbol) and isinstance(after, int):
                    symbol, size = _assigned(before, after)
                    if dims is None or symbol not in dims:
                        values[symbol] = size
                elif before != after:
                    changed = True
    if changed and any(operator.domain in DECLARED for operator in graph.operators):
        raise _fixed(graph)
    from peakmem.frontends.onnx.rules import infer_with_onnx

    given = bind(graph, whole, values)
    for name in given.inputs:
        if (given.tensors[name].nbytes or 0) > LARGEST_TENSOR:
            shown = format_shape(given.tensors[name].shape)
            raise ShapeError(f"the shape {shown} is larger than any address space", where=f"input {name!r}")
    try:
        inferred = infer(given, dims=values, fallback=infer_with_onnx, trust_declared=not changed)
    except ShapeError as fault:
        if not changed:
            raise
        raise ShapeError(
            f"{fault.what}; the file fixes the sizes of its inputs and may repeat them inside",
            where=fault.where,
            hint="the sizes in the file (without --batch or --shape), or an export with dynamic axes",
        ) from fault
    unread = sorted(set(dims or {}) - _symbols(graph) - {unknown.operator for unknown in inferred.unknowns})
    missing = [name for name in unread if not _names_output(graph, name)]
    if missing:
        raise UsageError(f"the model has no dimension {missing[0]!r}", expected=_listed(_symbols(graph), graph))
    return inferred


def defaulted(
    graph: Graph,
    *,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
) -> list[str]:
    """Names of the symbols that keep their default when `bound` is called with the same arguments."""
    told = set(dims or {})
    if batch is not None:
        told.update(_with_batch(graph, batch, set(shapes or {}))[1])
    for name in shapes or {}:
        tensor = graph.tensors.get(name or _only_input(graph))
        for dim in (tensor.shape if tensor is not None else None) or ():
            if isinstance(dim, Symbol):
                formula = parse(dim.name)
                told.update((dim.name, *(names(formula) if formula is not None else ())))
    return [name for name in graph.defaults if name not in told]


def _assigned(symbol: Symbol, size: int) -> tuple[str, int]:
    """(name, value) that makes `symbol` a `size`: its own, or that of the one size its formula is made of."""
    formula = None if symbol.name.replace("_", "").isalnum() else parse(symbol.name)
    if formula is None:
        return symbol.name, size
    found = solved(formula, size)
    if found is None:
        flags = " ".join(f"--dim {name}=VALUE" for name in sorted(names(formula)))
        raise UsageError(f"no value makes {symbol.name} a {size}", hint=flags)
    return found


def _fixed(graph: Graph) -> UsageError:
    """That the sizes of a program which was recorded cannot be replaced."""
    shapes = ", ".join(f"{name} {format_shape(graph.tensors[name].shape)}" for name in graph.inputs)
    if graph.bound:
        first = graph.inputs[0] if graph.inputs else "x"
        return UsageError(f"the module was captured for {shapes}", hint=f"--input {first}=DIMS, which captures it anew")
    return UsageError(
        "the program was exported with fixed sizes",
        where=graph.source,
        expected=shapes,
        hint=(
            "pnnx model.pt inputshape=[1,3,224,224], with the sizes you want"
            if graph.format == "pnnx"
            else "torch.export.export(…, dynamic_shapes=…), or the module itself with --input"
        ),
    )


def _names_output(graph: Graph, name: str) -> bool:
    """Whether `name` is a dimension that running would tell, written as tensor.axis."""
    tensor, _, axis = name.rpartition(".")
    return axis.isdigit() and tensor in graph.tensors


def _symbols(graph: Graph) -> set[str]:
    """Names of the symbols of a graph, those computed from others left out."""
    found = set(unbound(graph))
    for tensor in graph.tensors.values():
        for dim in tensor.shape or ():
            if isinstance(dim, Symbol) and not dim.is_computed:
                found.add(dim.name)
    return found | set(graph.defaults)


def _listed(symbols: set[str], graph: Graph) -> str:
    """The dimensions that can be given, a handful by name: those of the inputs, which the others follow from."""
    sizes = [dim for name in graph.inputs for dim in graph.tensors[name].shape or ()]
    given = [dim.name for dim in sizes if isinstance(dim, Symbol)]
    listed = [name for name in dict.fromkeys(given) if name in symbols] or sorted(symbols)
    if not listed:
        return "no --dim: all sizes are fixed"
    more = f" and {len(listed) - MOST_LISTED} more" if len(listed) > MOST_LISTED else ""
    return f"one of {', '.join(listed[:MOST_LISTED])}{more}"


def _sized(value: int, flag: str, least: int = 0) -> None:
    if value < least:
        raise UsageError(f"{flag} is {value}", expected=f"{least} or more")
    if value > 2**40:
        raise UsageError(f"{flag} is {value}", expected="at most 2^40")


def _only_input(graph: Graph) -> str:
    if len(graph.inputs) != 1:
        raise UsageError(
            f"the model has {len(graph.inputs)} inputs, so a shape needs a name",
            expected=", ".join(graph.inputs),
            hint=f"--shape {graph.inputs[0] if graph.inputs else 'input'}=1x3x224x224",
        )
    return graph.inputs[0]


def _with_batch(graph: Graph, batch: int, skip: set[str]) -> tuple[Graph, dict[str, int], bool]:
    """(graph, symbol values, whether fixed sizes were replaced) for a batch of `batch`.

    The batch is every symbol called like one (batch, N, B, bs); else the only symbol in front of
    all inputs that start with one; else, where sizes are fixed, the first dimension that all
    inputs of rank 2 and more share.
    """
    symbols = unbound(graph)
    named = [name for name in symbols if _BATCH.search(name)]
    if named:
        return graph, dict.fromkeys(named, batch), False
    inputs = [graph.tensors[name] for name in graph.inputs if name not in skip]
    leading = {tensor.shape[0] for tensor in inputs if tensor.shape}
    leading_symbols = [dim for dim in leading if isinstance(dim, Symbol)]
    unnamed = [dim.name for dim in leading_symbols if dim.name.rpartition(".")[0] in graph.inputs]
    if leading_symbols and (len(leading_symbols) == 1 or len(unnamed) == len(leading_symbols)):
        return graph, dict(_assigned(dim, batch) for dim in leading_symbols), False
    fixed = [tensor for tensor in inputs if tensor.shape is not None and len(tensor.shape) >= 2]
    sizes = {tensor.shape[0] for tensor in fixed if tensor.shape}
    if leading_symbols or len(sizes) != 1:
        shown = "; ".join(f"{tensor.name}: {format_shape(tensor.shape)}" for tensor in inputs)
        if not inputs:
            why = "every input has its --shape" if skip else "the model has no input"
            raise UsageError(f"--batch has nothing to size: {why}", hint="without --batch")
        raise UsageError(f"which dimension of {shown} is the batch cannot be told", hint=f"--shape {inputs[0].name}=…")
    tensors = dict(graph.tensors)
    for tensor in fixed:
        assert tensor.shape is not None
        tensors[tensor.name] = replace(tensor, shape=(batch, *tensor.shape[1:]))
    before = next(iter(sizes))
    note = f"the first dimension of the inputs, fixed to {before} in the file, is the batch and was set to {batch}"
    return replace(graph, tensors=tensors, notes=(*graph.notes, note) if before != batch else graph.notes), {}, True
