"""Functions on one forward pass: every convention, parameters, layers, shapes, live bytes."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import pairwise

from peakmem.conventions import CONVENTIONS
from peakmem.dtypes import parse_dtype
from peakmem.errors import UsageError
from peakmem.layers import Layer
from peakmem.ledger.functions.registry import FUNCTIONS, Function, Scope, function, text
from peakmem.ledger.value import Item, Shape, Value, nbytes, number
from peakmem.liveness import state_bytes
from peakmem.naming import ParameterRole
from peakmem.parameters import ROLES
from peakmem.passes.assume import DEFAULT_ASSUMPTION

GROUP = "one forward pass"
EAGER = ("sum_outputs", "largest_output")
# conventions whose rows are single operators


def _convention(name: str) -> Function:
    rule = CONVENTIONS[name]

    def compute(scope: Scope) -> Item:
        return scope.figures.convention(name, scope.context)

    return Function(name, f"{name}()", f"{rule.title}: {rule.formula}", "conventions", compute, scoped=True)


for _name in CONVENTIONS:
    FUNCTIONS[_name] = _convention(_name)


# -- parameters --------------------------------------------------------------------------

_KINDS: dict[str, tuple[ParameterRole, ...]] = {
    "trainable": ("weight", "bias", "norm"),
    "weights": ("weight",), "weight": ("weight",), "bias": ("bias",), "biases": ("bias",), "norm": ("norm",),
    "norms": ("norm",), "statistics": ("statistic",), "statistic": ("statistic",),
    "with_statistics": ("weight", "bias", "norm", "statistic"), "all": ROLES,
}  # fmt: skip


def _roles(kind: Item) -> tuple[ParameterRole, ...]:
    found: list[ParameterRole] = []
    for part in text(kind, "kind").split("+"):
        found += _KINDS[text(part.strip(), "kind", tuple(_KINDS))]
    return tuple(dict.fromkeys(found))


@function(
    'parameters(kind="trainable")',
    "elements: trainable (weights, biases, norms: what papers count), weight, bias, norm, statistics, with_statistics, "
    "all, or several joined by +; standard=True: with plain convolutions in the place of depthwise and pointwise ones",
    GROUP,
)
def parameters(scope: Scope, kind: Item = "trainable", standard: Item = False) -> Item:
    """Elements of the constants of some kinds.

    With `standard` each depthwise convolution and the pointwise one after it are one of the same window.
    """
    roles = _roles(kind)
    count = scope.figures.stored(scope.context).elements(*roles)
    if standard is True and "weight" in roles:
        rows = _rows(scope, DEFAULT_ASSUMPTION)
        for first, then in pairwise(rows):
            if first.depthwise and then.weighted == "conv" and then.kernel.startswith("1x1x"):
                own, point = _kernel(first), _kernel(then)
                window = own // int(first.kernel.rpartition("x")[2])
                count += window * point - own - point
    return number(count, "elements", scope.figures.kind(scope.context))


@function('parameter_bytes(kind="trainable")', "the same in bytes, in the context's dtype", GROUP)
def parameter_bytes(scope: Scope, kind: Item = "trainable") -> Item:
    """Bytes of the constants of some kinds."""
    found = scope.figures.study(scope.context).parameters.nbytes(*_roles(kind))
    return nbytes(found, scope.figures.kind(scope.context))


@function(
    'uniform_bytes(kind="trainable")', "parameters × bytes of the dtype: biases and norms in it as well, which integer "
    "files keep wider", GROUP,
)  # fmt: skip
def uniform_bytes(scope: Scope, kind: Item = "trainable") -> Item:
    """Bytes of the constants of some kinds, all in one dtype; as they are counted where it is none of a fixed width."""
    if not scope.context.dtype:
        return parameter_bytes(scope, kind)
    count = parameters(scope, kind)
    assert isinstance(count, Value)
    bits = parse_dtype(scope.context.dtype).bits
    if bits is None:
        return parameter_bytes(scope, kind)
    return Value(count.number * bits / 8, "B", count.kind)


@function("scales()", "bytes of the scales that an integer dtype needs beside the weights, one for each channel", GROUP)
def scales(scope: Scope) -> Item:
    """What quantisation stores beside the weights."""
    if not scope.context.dtype:
        return nbytes(0)
    _, side = scope.figures.stored(scope.context).size(parse_dtype(scope.context.dtype))
    return nbytes(side, scope.figures.kind(scope.context))


# -- inputs and outputs ------------------------------------------------------------------


@function("input_bytes()", "bytes of all inputs", GROUP)
def input_bytes(scope: Scope) -> Item:
    """Bytes of the inputs."""
    graph = scope.figures.study(scope.context).stored
    return nbytes(sum(graph.tensors[name].nbytes or 0 for name in graph.inputs), scope.figures.kind(scope.context))


@function(
    "state()",
    "bytes kept between calls: key-value cache (settings context, kv_dtype and batch), recurrent states",
    GROUP,
)
def state(scope: Scope) -> Item:
    """Bytes of what a network remembers."""
    graph = scope.figures.study(scope.context).stored
    if not any(tensor.role == "state" for tensor in graph.tensors.values()):
        raise UsageError(
            f"{scope.context.network} keeps nothing between calls", expected="a config.json, which has a cache"
        )
    return nbytes(state_bytes(graph), scope.figures.kind(scope.context))


@function("output_bytes()", "bytes of all results", GROUP)
def output_bytes(scope: Scope) -> Item:
    """Bytes of the results."""
    graph = scope.figures.study(scope.context).stored
    return nbytes(sum(graph.tensors[name].nbytes or 0 for name in graph.outputs), scope.figures.kind(scope.context))


@function("input_shape()", "shape of the first input", GROUP)
def input_shape(scope: Scope) -> Item:
    """Shape of the first input."""
    graph = scope.figures.study(scope.context).stored
    if not graph.inputs:
        raise UsageError("the network has no input")
    return Shape(tuple(dim for dim in graph.tensors[graph.inputs[0]].shape or () if isinstance(dim, int)))


@function('operators("Conv")', "how many operators there are, of one type or of all", GROUP)
def operators(scope: Scope, op_type: Item = "") -> Item:
    """A count of operators."""
    wanted = text(op_type, "the type")
    graph = scope.figures.study(scope.context).stored
    return number(sum(1 for one in graph.operators if not wanted or one.op_type == wanted))


# -- layers ------------------------------------------------------------------------------


def _assumed(scope: Scope, quantity: str = "") -> str:
    return scope.context.assume or ("eager" if quantity in EAGER else DEFAULT_ASSUMPTION)


def _rows(scope: Scope, assume: str) -> tuple[Layer, ...]:
    return scope.figures.study(scope.context).layers(assume)


def _kernel(layer: Layer) -> int:
    count = 1
    for dim in layer.kernel.split("x"):
        count *= int(dim)
    return count


QUANTITIES = {
    "input": "input_bytes", "output": "output_bytes", "weights": "weight_bytes", "parameters": "parameter_bytes",
}  # fmt: skip
PER_LAYER = tuple(name for name, rule in CONVENTIONS.items() if rule.per_layer)


def _of_layer(scope: Scope, quantity: str, row: Layer) -> Value:
    kind = scope.figures.kind(scope.context)
    if quantity == "elements":
        return number(row.parameters, "elements", kind, row.name)
    if quantity in QUANTITIES:
        return nbytes(getattr(row, QUANTITIES[quantity]), kind, row.name)
    rule = CONVENTIONS[quantity].per_layer
    assert rule is not None
    return nbytes(rule(row) or 0, kind, row.name)


def _named(scope: Scope, name: Item, assume: str) -> Layer:
    wanted = text(name, "the layer")
    rows = {row.name: row for row in _rows(scope, assume)}
    if wanted in rows:
        return rows[wanted]
    dotted = [row for name, row in rows.items() if name.replace("/", ".") == wanted]
    if len(dotted) == 1:
        return dotted[0]
    if not any(fnmatchcase(row, wanted) for row in rows):
        raise _no_layer(wanted, tuple(rows), scope.context.network, assume)
    return next(row for row_name, row in rows.items() if fnmatchcase(row_name, wanted))


def _no_layer(wanted: str, names: tuple[str, ...], network: str, assume: str) -> UsageError:
    from difflib import get_close_matches

    near = get_close_matches(wanted, names, n=3, cutoff=0.4) or [name for name in names if wanted in name][:3]
    return UsageError(
        f"no layer is called {wanted[:60]!r} under {assume}", expected=f"one of {', '.join(near or names[:6])}",
        hint=near[0] if near else f"peakmem {network} --layers",
    )  # fmt: skip


_LAYER = (*QUANTITIES, "elements", *PER_LAYER)


@function(
    'layer("layer_in_out_weights", "conv1")',
    f"what one layer contributes: {', '.join(_LAYER)}; under fused unless assume says another", GROUP,
)  # fmt: skip
def layer(scope: Scope, quantity: Item, name: Item) -> Item:
    """One cell of the layer table."""
    chosen = text(quantity, "the quantity", _LAYER)
    return _of_layer(scope, chosen, _named(scope, name, _assumed(scope, chosen)))


@function('layers("output", "features.*")', "the same for all layers that match, as a list: sum(), max() of it", GROUP)
def layers(scope: Scope, quantity: Item, pattern: Item = "*") -> Item:
    """A column of the layer table."""
    chosen, wanted = text(quantity, "the quantity", _LAYER), text(pattern, "the pattern")
    assume = _assumed(scope, chosen)
    rows = _rows(scope, assume)
    found = [row for row in rows if fnmatchcase(row.name, wanted)]
    if not found:
        raise _no_layer(wanted, tuple(row.name for row in rows), scope.context.network, assume)
    return tuple(_of_layer(scope, chosen, row) for row in found)


@function('layer_output("conv1")', "bytes of what a layer makes", GROUP)
def layer_output(scope: Scope, name: Item) -> Item:
    """Output bytes of a layer, whatever an assumption calls it."""
    return _of_layer(scope, "output", _named(scope, name, _assumed(scope)))


@function('layer_input("conv1")', "bytes of what a layer reads", GROUP)
def layer_input(scope: Scope, name: Item) -> Item:
    """Input bytes of a layer."""
    return _of_layer(scope, "input", _named(scope, name, _assumed(scope)))


@function('layer_weights("conv1")', "bytes of a layer's kernel or matrix", GROUP)
def layer_weights(scope: Scope, name: Item) -> Item:
    """Kernel bytes of a layer."""
    return _of_layer(scope, "weights", _named(scope, name, _assumed(scope)))


@function('layer_shape("conv1")', "shape of what a layer makes", GROUP)
def layer_shape(scope: Scope, name: Item) -> Item:
    """Output shape of a layer."""
    shape = _named(scope, name, _assumed(scope)).output_shape
    return Shape(tuple(int(dim) for dim in shape.split("x")))


@function('layer_stride("conv1")', "stride of a convolution or pool", GROUP)
def layer_stride(scope: Scope, name: Item) -> Item:
    """Stride of a layer, 1 where it has none."""
    stride = _named(scope, name, _assumed(scope)).stride or "1"
    return number(int(stride)) if stride.isdigit() else Shape(tuple(int(part) for part in stride.split("x")))


# -- time --------------------------------------------------------------------------------


@function('live("conv1")', "live bytes while an operator runs, under the context's assumption (fused)", GROUP)
def live(scope: Scope, name: Item) -> Item:
    """Live bytes at an operator."""
    assume = _assumed(scope)
    study = scope.figures.study(scope.context)
    row = _named(scope, name, assume)
    return nbytes(study.timeline(assume).live[row.step], scope.figures.kind(scope.context), row.name)


@function('peak_at("live_fused")', "name of the operator at which a convention reaches its maximum", GROUP)
def peak_at(scope: Scope, convention: Item = f"live_{DEFAULT_ASSUMPTION}") -> Item:
    """Where a maximum is."""
    name = text(convention, "the convention", tuple(CONVENTIONS))
    return scope.figures.convention(name, scope.context).where


@function('step_of("conv1")', "position of an operator in the schedule, from 0", GROUP)
def step_of(scope: Scope, name: Item) -> Item:
    """When an operator runs."""
    return number(_named(scope, name, _assumed(scope)).step)
