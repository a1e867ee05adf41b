"""Operators that the reader of Hugging Face configurations writes down."""

from __future__ import annotations

import re
from collections.abc import Sequence

from peakmem.dtypes import INT64
from peakmem.training.saved import movement, pointwise
from peakmem.training.saved.eager import Value
from peakmem.training.saved.rules.call import Call, rule, same, unknown


@rule("peakmem:Held")
def _nothing(_call: Call) -> Sequence[Value | None]:
    return []


_WRITTEN = re.compile(r"gelu_(new|fast|python_tanh|accurate)(_\d+)?$")
# activations that transformers writes out (activations.py); the graph has one operator for each


@rule("Gelu")
def _gelu(call: Call) -> Sequence[Value | None]:
    """One operator; what transformers writes out in eight is run so: x/2 · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))."""
    e, x = call.e, call.x()
    if call.graph.format != "hf_config" or not _WRITTEN.search(call.operator.name):
        return [pointwise.unary(e, "Gelu", x)]
    half = pointwise.unary(e, "Scale", x)
    cubic = pointwise.unary(e, "Scale", pointwise.power(e, x))
    inner = pointwise.add(e, x, cubic)
    del cubic
    inner = pointwise.unary(e, "Tanh", pointwise.unary(e, "Scale", inner))
    inner = pointwise.unary(e, "Shift", inner)
    return [pointwise.mul(e, half, inner)]


@rule("peakmem:SoftCap")
def _soft_cap(call: Call) -> Sequence[Value | None]:
    x = pointwise.unary(call.e, "Scale", call.x())
    x = pointwise.unary(call.e, "Tanh", x)
    return [pointwise.unary(call.e, "Scale", x)]


@rule("RotaryEmbedding")
def _rotary(call: Call) -> Sequence[Value | None]:
    """x · cos + rotate_half(x) · sin, as transformers writes it (modeling_llama.py, `apply_rotary_pos_emb`)."""
    e, x = call.e, call.x()
    cos, sin = call.maybe(1), call.maybe(2)
    if cos is None or sin is None or len(x.shape) != 4:
        return unknown(call)
    tables = [movement.reshape(e, table, (table.shape[0], 1, *table.shape[-2:])) for table in (cos, sin)]
    if tables[0].shape[-1] != x.shape[-1]:
        return unknown(call)
    straight = pointwise.mul(e, x, tables[0])
    half = x.shape[-1] // 2
    parts = [movement.cut(e, x, (*x.shape[:-1], half)) for _ in range(2)]
    parts[1] = pointwise.unary(e, "Neg", parts[1])
    turned = movement.cat(e, [parts[1], parts[0]], x.shape)
    del parts
    crossed = pointwise.mul(e, turned, tables[1])
    del turned
    return [pointwise.add(e, straight, crossed)]


@rule("peakmem:CacheWrite")
def _cache(call: Call) -> Sequence[Value | None]:
    """Keys or values as they were made: a step of training keeps no cache."""
    return [same(call.x())]


@rule("peakmem:Prepend")
def _prepend(call: Call) -> Sequence[Value | None]:
    """Stored tokens before those that were computed, for each sample."""
    e, x = call.e, call.x()
    tokens = [token for token in call.values[1:] if token is not None]
    parts = [movement.expand(e, token, (x.shape[0], *token.shape[-2:])) for token in tokens]
    return [movement.cat(e, [*parts, x], call.shape())]


@rule("peakmem:RelativeBias")
def _relative(call: Call) -> Sequence[Value | None]:
    """Rows of a table for each distance, turned to (1, heads, queries, keys)."""
    _, heads, queries, keys = call.shape()
    values = movement.rows(call.e, call.x(1), None, (queries, keys, heads), embedding=True)
    turned = movement.permute(call.e, values, (2, 0, 1))
    return [movement.reshape(call.e, turned, call.shape())]


@rule("peakmem:Route")
def _route(call: Call) -> Sequence[Value | None]:
    """The softmax of the scores, and the experts with the largest."""
    e = call.e
    weights = pointwise.softmax(e, call.x())
    chosen = e.new(call.shape(1), INT64, "aten::topk")
    return [movement.rows(e, weights, chosen, call.shape(0), embedding=False), chosen]


@rule("peakmem:Dispatch")
def _dispatch(call: Call) -> Sequence[Value | None]:
    """A copy of each token for each expert that it goes to."""
    return [movement.rows(call.e, call.x(), call.maybe(1), call.shape(), embedding=False)]


@rule("peakmem:Experts", "peakmem:StackedExperts")
def _experts(call: Call) -> Sequence[Value | None]:
    """A product for each expert on the rows that it was given: the rows and the matrices are kept."""
    e, x = call.e, call.x()
    weights = [value for value in call.values[2:] if value is not None]
    y = e.new(call.shape(), x.dtype, "aten::mm")
    if e.wants(x, *weights):
        kept = [e.keep(item) for item in (x, *weights)]

        def run(_given: Sequence[Value | None]) -> list[Value | None]:
            held = [saved.get() for saved in kept]
            found: list[Value | None] = [e.like(item, "aten::mm") for item in held]
            del held
            return found

        e.link("aten::mm", [x, *weights], [y], run)
    return [y]


@rule("peakmem:Combine")
def _combine(call: Call) -> Sequence[Value | None]:
    """The experts' results by their weights, summed for each token."""
    e = call.e
    weights = call.maybe(1)
    x = call.x()
    if weights is not None:
        x = pointwise.mul(e, x, movement.reshape(e, weights, (*weights.shape, 1)))
    return [movement.mean(e, x, call.shape(), name="aten::sum")]
