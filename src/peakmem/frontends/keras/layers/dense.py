"""Products with a matrix, and tables that are looked up."""

from __future__ import annotations

from peakmem import dtypes
from peakmem.dtypes import DType
from peakmem.frontends.keras.graph import LayerCall
from peakmem.frontends.keras.layers.registry import layer
from peakmem.ir.dims import Dim
from peakmem.ir.shapes.keras.products import Equation, parse_equation


def _quantised(call: LayerCall) -> DType | None:
    """The stored dtype of a quantised kernel; None where the layer is not quantised."""
    mode = call.policy.quantised.partition("/")[0]
    if not mode:
        return None
    if mode not in ("int8", "int4"):
        call.draft.note(f"quantisation {mode!r} is not modelled: its weights are sized as floating ones unless stored")
        return None
    return dtypes.INT8 if mode == "int8" else dtypes.INT4


def _kernel(call: LayerCall, name: str, shape: tuple[Dim, ...], scales: tuple[Dim, ...], groups: Dim) -> list[str]:
    """A kernel, and what its quantisation stores beside it: scales, offsets, the block of each feature."""
    dtype = _quantised(call)
    kernel = call.weight(name, shape, dtype)
    if dtype is None:
        return [kernel]
    block = call.policy.quantised.partition("/")[2]
    size = int(block) if len(block) < 10 and block.isdigit() else 0
    if dtype is dtypes.INT8 or not size or not isinstance(groups, int):
        return [kernel, call.weight(f"{name}_scale", scales)]
    rows = -(-groups // size)
    plane = (rows, scales[-1]) if name == "kernel" else (scales[0], rows)
    return [
        kernel, call.weight(f"{name}_scale", plane), call.weight(f"{name}_zero", plane, dtypes.INT8),
        call.weight("g_idx", (groups,), dtypes.FLOAT32),
    ]  # fmt: skip


@layer("Dense")
def dense(call: LayerCall) -> str:
    inside, units = call.dim(-1), call.settings.whole("units")
    kernel, *side = _kernel(call, "kernel", (inside, units), (units,), inside)
    bias = call.weight("bias", (units,)) if call.settings.flag("use_bias", True) else ""
    inputs = _trimmed([call.cast(call.inputs[0]), kernel, bias, *side])
    return call.activated(call.op("Dense", inputs, dtype=call.compute))


def _trimmed(inputs: list[str]) -> list[str]:
    """`inputs` without absent ones at the end."""
    while inputs and not inputs[-1]:
        inputs.pop()
    return inputs


@layer("EinsumDense")
def einsum_dense(call: LayerCall) -> str:
    equation = call.settings.word("equation", "")
    axes = call.settings.word("bias_axes", "") or None
    shape = _output_shape(call)
    return call.activated(project(call, call.inputs[0], equation, shape, axes, kernel="kernel", bias="bias"))


def _output_shape(call: LayerCall) -> tuple[int | None, ...]:
    value = call.settings.config.get("output_shape", call.settings.config.get("partial_output_shape"))
    items = value if isinstance(value, list | tuple) else [value]
    if len(items) > 64 or not all(item is None or (isinstance(item, int) and 0 <= item <= 2**48) for item in items):
        raise call.settings.error("output_shape is odd", "a list of sizes")
    return tuple(items)


def project(
    call: LayerCall, x: str, equation: str, output_shape: tuple[int | None, ...], bias_axes: str | None, *,
    kernel: str, bias: str, part: str = "",
) -> str:  # fmt: skip
    """An EinsumDense: weights as its equation and output shape imply."""
    try:
        parsed = parse_equation(equation)
        sizes = _sizes(parsed, call, x, output_shape)
        shape = tuple(sizes[letter] for letter in parsed.kernel)
        bias_shape = _bias_shape(parsed, sizes, bias_axes)
    except (ValueError, KeyError) as fault:
        raise call.settings.error(
            f"equation {equation[:100]!r} does not fit ({fault})", "such as abc,cd->abd"
        ) from None
    reduced = 1
    for letter in parsed.kernel:
        if letter in parsed.given and letter not in parsed.result:
            dim = sizes[letter]
            reduced *= dim if isinstance(dim, int) else 1
    scales = tuple(sizes[letter] if letter in parsed.kernel else 1 for letter in parsed.result.replace("...", ""))
    stored, *side = _kernel(call, kernel, shape, scales or (1,), reduced)
    inputs = _trimmed([call.cast(x), stored, call.weight(bias, bias_shape) if bias_axes else "", *side])
    return call.op("EinsumDense", inputs, part=part, equation=equation, dtype=call.compute)


def _sizes(parsed: Equation, call: LayerCall, x: str, output_shape: tuple[int | None, ...]) -> dict[str, Dim]:
    """Size of every letter, from the input first, then from the output shape."""
    given = call.shape_of(x)
    sizes: dict[str, Dim] = parsed.match_input(given)
    letters = parsed.result
    skipped = len(letters) - len(output_shape)
    for letter, size in zip(letters[skipped:] if skipped >= 0 else letters, output_shape, strict=False):
        if size is not None:
            sizes.setdefault(letter, size)
    return sizes


def _bias_shape(parsed: Equation, sizes: dict[str, Dim], bias_axes: str | None) -> tuple[Dim, ...]:
    if not bias_axes:
        return ()
    letters = parsed.result
    first = min(letters.index(letter) for letter in bias_axes)
    return tuple(sizes[letter] if letter in bias_axes else 1 for letter in letters[first:])


@layer("Embedding")
def embedding(call: LayerCall) -> str:
    rows, width = call.settings.whole("input_dim"), call.settings.whole("output_dim")
    table, *side = _kernel(call, "embeddings", (rows, width), (rows,), width)
    name = "QuantizedEmbedding" if side else "Embedding"
    return call.op(name, [table, call.inputs[0], *side], dtype=call.compute)


@layer("ReversibleEmbedding")
def reversible_embedding(call: LayerCall) -> str:
    """A table that is looked up, or multiplied with when `reverse` is given."""
    rows, width = call.settings.whole("input_dim"), call.settings.whole("output_dim")
    table, *side = _kernel(call, "embeddings", (rows, width), (rows,), width)
    tied = call.settings.flag("tie_weights", True)
    other = [] if tied else _kernel(call, "reverse_embeddings", (width, rows), (rows,), width)
    if call.argument(1, "reverse") is True:
        inputs = [call.cast(call.inputs[0]), *(other or [table, *side])]
        return call.op("ReversibleEmbedding", inputs, units=rows, transB=int(tied), dtype=call.compute)
    name = "QuantizedEmbedding" if side else "Embedding"
    return call.op(name, [table, call.inputs[0], *side], dtype=call.compute)
