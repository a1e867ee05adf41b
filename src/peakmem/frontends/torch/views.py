"""Which results of ATen operators share the bytes of an argument.

Most operators always do or never do. Some decide by the layout of what they are given (a reshape
of what is not contiguous copies), which strides tell exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from peakmem.frontends.torch.program import Call, Value, refs

_ALWAYS = frozenset(
    {
        "view", "view_as", "_unsafe_view", "_reshape_alias", "transpose", "permute", "t", "swapaxes", "swapdims",
        "movedim", "moveaxis", "numpy_T", "mT", "mH", "matrix_H", "adjoint", "squeeze", "unsqueeze", "expand",
        "expand_as", "broadcast_to", "select", "slice", "narrow", "diagonal", "unfold", "as_strided", "detach",
        "alias", "lift", "lift_fresh", "real", "imag", "view_as_real", "view_as_complex", "_conj", "_neg_view",
        "resolve_conj", "resolve_neg", "positive", "unflatten", "split", "split_with_sizes", "chunk",
        "tensor_split", "hsplit", "vsplit", "dsplit", "unbind", "unsafe_split", "unsafe_chunk",
        "unsafe_split_with_sizes", "atleast_1d", "atleast_2d", "atleast_3d", "_fw_primal", "linalg_diagonal",
        "wait_tensor",
    }
)  # fmt: skip
_PAIRWISE = frozenset({"broadcast_tensors", "meshgrid"})
# results share with the tensor at the same place of a list
_RESHAPING = frozenset({"reshape", "reshape_as", "flatten"})
_CONVERTING = frozenset({"contiguous", "to", "type_as", "float", "double", "half", "bfloat16", "cpu", "cuda"})
# hand back what they are given when it is already as wanted
_DROPPING = frozenset({"dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"})


def sharing(call: Call, values: Mapping[str, Value]) -> tuple[tuple[int, str], ...]:
    """(position of a result, tensor whose bytes it shares) for each result that has none of its own."""
    given = list(call.refs())
    if not given or call.namespace == "higher_order":
        return ()
    if call.namespace == "aten" and call.op in _PAIRWISE:
        return tuple(enumerate(given))[: len(call.outputs)]
    out = next(iter(refs(call.argument("out"))), "") if call.overload.endswith("out") else ""
    if out:
        return ((0, out),)
    source = given[0]
    if call.op.endswith("_") and not call.op.endswith("__"):
        return ((0, source),) if call.outputs else ()
    if call.namespace not in ("aten", "prim", "prims", "_c10d_functional"):
        return ()
    made = values.get(call.outputs[0]) if call.outputs else None
    before = values.get(source)
    if call.op in _ALWAYS or (made is not None and before is not None and _hands_back(call, before, made)):
        return tuple((position, source) for position, name in enumerate(call.outputs) if name)
    return ()


def _hands_back(call: Call, before: Value, made: Value) -> bool:
    if call.op in _DROPPING:
        return not call.argument("train") or call.argument("p") == 0
    if call.op in _CONVERTING:
        if call.argument("copy") or before.dtype != made.dtype or before.device != made.device:
            return False
        return before.sizes == made.sizes and same_layout(before.sizes, before.strides, made.strides)
    if call.op in _RESHAPING:
        return viewable(before.sizes, before.strides, made.sizes)
    return call.op == "ravel" and same_layout(before.sizes, before.strides, _dense(before.sizes))


def _dense(sizes: Sequence[int]) -> tuple[int, ...]:
    """The strides of a row-major tensor."""
    strides: list[int] = []
    step = 1
    for size in reversed(sizes):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def same_layout(sizes: Sequence[int], a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether two layouts of one shape put every element at the same place."""
    if len(a) != len(b) or len(a) != len(sizes):
        return False
    return 0 in sizes or all(size == 1 or x == y for size, x, y in zip(sizes, a, b, strict=True))


def viewable(sizes: Sequence[int], strides: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether a tensor of `sizes` and `strides` can be read as `wanted` sizes without moving an element.

    Neighbouring axes whose steps follow from each other form one run of memory; every run has to
    be cut into whole new axes.
    """
    if 0 in sizes:
        return True
    if len(sizes) != len(strides):
        return False
    runs: list[int] = []
    # lengths of the runs of memory, innermost first
    step = 0
    # from one end of the run at hand to where the next axis would have to go on
    for size, stride in zip(reversed(sizes), reversed(strides), strict=True):
        if size == 1:
            continue
        if runs and stride == step:
            runs[-1] *= size
        else:
            runs.append(size)
        step = stride * size
    left = [size for size in wanted if size != 1]
    for run in runs:
        length = 1
        while length < run and left:
            length *= left.pop()
        if length != run:
            return False
    return not left
