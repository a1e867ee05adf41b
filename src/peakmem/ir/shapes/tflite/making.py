"""Shape rules of what makes a tensor out of sizes, and of the sizes themselves."""

from __future__ import annotations

from collections.abc import Sequence

from peakmem.dtypes import FLOAT32
from peakmem.ir.dims import Dim
from peakmem.ir.shapes.call import Call, Specs, Unresolved, rule
from peakmem.ir.shapes.making import range_length
from peakmem.ir.shapes.tflite.elementwise import names


@rule("tflite:SHAPE")
def shape_of(call: Call) -> Specs:
    return [((len(call.shape()),), None)]


@rule("tflite:RANK")
def rank_of(_: Call) -> Specs:
    return [((), None)]


def _asked(call: Call, position: int) -> Sequence[Dim]:
    """The shape that an input holds."""
    sizes = call.value(position)
    if sizes is not None:
        return sizes
    rank = call.length(position)
    if rank is None:
        raise Unresolved("the shape is computed while running")
    return call.unknown_shape(rank)


@rule(*names("FILL RANDOM_UNIFORM RANDOM_STANDARD_NORMAL"))
def filled(call: Call) -> Specs:
    return [(tuple(_asked(call, 0)), None)]


@rule("tflite:SPARSE_TO_DENSE")
def sparse_to_dense(call: Call) -> Specs:
    return [(tuple(_asked(call, 1)), None)]


@rule("tflite:BROADCAST_TO")
def broadcast_to(call: Call) -> Specs:
    given, target = call.shape(), tuple(_asked(call, 1))
    for have, want in zip(reversed(given), reversed(target), strict=False):
        if isinstance(have, int) and isinstance(want, int) and have not in (1, want):
            raise call.error(f"a size of {have} cannot become {want}")
    return [(target, None)]


@rule("tflite:SCATTER_ND")
def scatter(call: Call) -> Specs:
    indices, updates = call.shape(0), call.shape(1)
    for wanted, given in zip(indices[:-1], updates, strict=False):
        if isinstance(wanted, int) and isinstance(given, int) and wanted != given:
            raise call.error(f"{wanted} places for {given} updates")
    return [(tuple(_asked(call, 2)), None)]


@rule("tflite:BROADCAST_ARGS")
def broadcast_args(call: Call) -> Specs:
    first, second = call.shape(0), call.shape(1)
    lengths = [shape[0] for shape in (first, second) if len(shape) == 1 and isinstance(shape[0], int)]
    if len(lengths) < 2:
        raise Unresolved("the ranks to be broadcast are not known")
    return [((max(lengths),), None)]


@rule("tflite:RANGE")
def range_(call: Call) -> Specs:
    start, limit, delta = call.value(0), call.value(1), call.value(2)
    if not start or not limit or not delta:
        return [((call.unknown_dim(0),), None)]
    return [((range_length(start[0], limit[0], delta[0], single=call.dtype() is FLOAT32),), None)]


@rule("tflite:ONE_HOT")
def one_hot(call: Call) -> Specs:
    given, depth = call.shape(0), call.value(1)
    at = call.axis(call.attr("axis", -1), len(given) + 1)
    return [((*given[:at], depth[0] if depth else call.unknown_dim(at), *given[at:]), None)]


@rule("tflite:MULTINOMIAL")
def multinomial(call: Call) -> Specs:
    many = call.value(1)
    return [((call.shape(0)[0], many[0] if many else call.unknown_dim(1)), None)]
