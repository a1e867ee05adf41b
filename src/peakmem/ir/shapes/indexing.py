"""Shape rules of operators that select, scatter, search or count elements."""

from __future__ import annotations

from peakmem.dtypes import INT64
from peakmem.ir.dims import Dim, Shape, product
from peakmem.ir.shapes.call import Call, Specs, Unresolved, rule


@rule("Gather")
def gather(call: Call) -> Specs:
    data, indices = call.shape(0), call.shape(1)
    axis = call.axis(call.attr("axis", 0), len(data))
    return [((*data[:axis], *indices, *data[axis + 1 :]), call.dtype())]


@rule("GatherElements")
def gather_elements(call: Call) -> Specs:
    return [(call.shape(1), call.dtype(0))]


@rule("GatherND", "com.microsoft:GatherND")
def gather_nd(call: Call) -> Specs:
    data, indices = call.shape(0), call.shape(1)
    batch, depth = call.attr("batch_dims", 0), indices[-1]
    if not isinstance(depth, int):
        raise Unresolved("the depth of the indices is not known")
    if batch + depth > len(data):
        raise call.error(f"indices of depth {depth} are too deep for a shape of rank {len(data)}")
    return [((*indices[:-1], *data[batch + depth :]), call.dtype())]


@rule("Scatter", "ScatterElements", "ScatterND", "TensorScatter")
def scatter(call: Call) -> Specs:
    return [(call.shape(), call.dtype())]


@rule("NonZero")
def non_zero(call: Call) -> Specs:
    value = call.value(0)
    open_or_zero: Dim = call.unknown_dim(1)
    if value is not None and all(isinstance(item, int | float) for item in value):
        open_or_zero = sum(1 for item in value if item)
    return [((len(call.shape()), open_or_zero), INT64)]


@rule("Compress")
def compress(call: Call) -> Specs:
    dims, axis, chosen = list(call.shape()), call.attr("axis"), call.value(1)
    at = 0 if axis is None else call.axis(axis, len(dims))
    count: Dim = call.unknown_dim(at) if chosen is None else sum(1 for item in chosen if item)
    if axis is None:
        return [((count,), call.dtype())]
    dims[at] = count
    return [(tuple(dims), call.dtype())]


@rule("Unique")
def unique(call: Call) -> Specs:
    image, axis = call.shape(), call.attr("axis")
    at = 0 if axis is None else call.axis(axis, len(image))
    count = call.unknown_dim(at)
    if axis is None:
        shape: Shape = (count,)
        inverse = product(image)
    else:
        shape = (*image[:at], count, *image[at + 1 :])
        inverse = image[at]
    return [(shape, call.dtype()), ((count,), INT64), ((inverse,), INT64), ((count,), INT64)]


@rule("com.microsoft:Unique")
def unique_1d(call: Call) -> Specs:
    count = call.unknown_dim(0)
    return [((count,), call.dtype()), (call.shape(), INT64), ((count,), INT64)]


@rule("TopK")
def top_k(call: Call) -> Specs:
    dims = list(call.shape())
    axis = call.axis(call.attr("axis", -1), len(dims))
    k = call.attr("k")
    if k is None:
        value = call.value(1)
        k = value[0] if value else call.unknown_dim(axis)
    dims[axis] = k
    return [(tuple(dims), call.dtype()), (tuple(dims), INT64)]


@rule("OneHot")
def one_hot(call: Call) -> Specs:
    dims = list(call.shape(0))
    axis = call.axis(call.attr("axis", -1), len(dims) + 1)
    depth = call.value(1)
    size: Dim = call.unknown_dim(axis)
    if depth:
        size = int(depth[0]) if isinstance(depth[0], int | float) else depth[0]
    dims.insert(axis, size)
    return [(tuple(dims), call.dtype(2))]


@rule("NonMaxSuppression")
def non_max_suppression(call: Call) -> Specs:
    most = call.value(2)
    # Without a maximum per class, or with a maximum of 0, nothing is selected.
    none = not call.has(2) or (most is not None and most[0] == 0)
    return [((0 if none else call.unknown_dim(0), 3), INT64)]
