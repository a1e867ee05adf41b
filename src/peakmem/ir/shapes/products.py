"""Shape rules of products of matrices and tensors: MatMul, Gemm, Einsum and their kin."""

from __future__ import annotations

from peakmem.dtypes import INT32
from peakmem.ir.dims import Dim, Shape, Symbol
from peakmem.ir.shapes.call import Call, Specs, broadcast, rule


def same(call: Call, left: Dim, right: Dim) -> None:
    """Refuse inner dimensions that are known to differ."""
    if isinstance(left, int) and isinstance(right, int) and left != right:
        raise call.error(f"inner dimensions {left} and {right} differ")


def gemm_shape(call: Call, left: Shape, right: Shape) -> Shape:
    """Shape of the product of two matrices, each transposed first if transA or transB says so."""
    if len(left) != 2 or len(right) != 2:
        raise call.error("Gemm multiplies two matrices")
    rows, inner = reversed(left) if call.attr("transA", 0) else left
    depth, columns = reversed(right) if call.attr("transB", 0) else right
    same(call, inner, depth)
    return (rows, columns)


@rule("Gemm", "com.microsoft:FusedGemm")
def gemm(call: Call) -> Specs:
    return [(gemm_shape(call, call.shape(0), call.shape(1)), call.dtype() or call.dtype(1))]


def matmul_shape(call: Call, left: Shape, right: Shape) -> Shape:
    """NumPy's matmul: vectors are promoted, leading axes broadcast."""
    if not left or not right:
        raise call.error("a scalar cannot be multiplied as a matrix")
    a: Shape = left if len(left) > 1 else (1, *left)
    b: Shape = right if len(right) > 1 else (*right, 1)
    same(call, a[-1], b[-2])
    dims = list(broadcast(call, a[:-2], b[:-2])) if len(a) > 2 or len(b) > 2 else []
    if len(left) > 1:
        dims.append(a[-2])
    if len(right) > 1:
        dims.append(b[-1])
    return tuple(dims)


@rule("MatMul", "com.microsoft:GemmFastGelu", "com.microsoft:SparseToDenseMatMul")
def matmul(call: Call) -> Specs:
    return [(matmul_shape(call, call.shape(0), call.shape(1)), call.dtype() or call.dtype(1))]


@rule("MatMulInteger")
def matmul_integer(call: Call) -> Specs:
    return [(matmul_shape(call, call.shape(0), call.shape(1)), INT32)]


@rule("Det")
def determinant(call: Call) -> Specs:
    shape = call.shape()
    if len(shape) < 2:
        raise call.error("a determinant needs a matrix")
    return [(shape[:-2], call.dtype())]


@rule("Einsum")
def einsum(call: Call) -> Specs:
    shapes = [call.shape(i) for i in range(len(call.op.inputs))]
    terms, arrow, result = call.attr("equation", "").replace(" ", "").partition("->")
    sizes: dict[str, Dim] = {}
    spread: list[Shape] = []
    for term, shape in zip(terms.split(","), shapes, strict=True):
        before, dots, after = term.partition("...")
        if len(before) + len(after) > len(shape) or (not dots and len(before) != len(shape)):
            raise call.error(f"the term {term!r} does not fit a shape of rank {len(shape)}")
        if dots:
            spread.append(shape[len(before) : len(shape) - len(after)])
        ends = [*zip(before, shape, strict=False), *zip(reversed(after), reversed(shape), strict=False)]
        for label, dim in ends:
            have = sizes.setdefault(label, dim)
            if have == 1 or (isinstance(have, Symbol) and dim != 1 and isinstance(dim, int)):
                sizes[label] = dim
            elif isinstance(have, int) and isinstance(dim, int) and dim not in (have, 1):
                raise call.error(f"label {label!r} stands for {have} and {dim}")
    middle = broadcast(call, *spread) if spread else ()
    if not arrow:
        # Without an arrow: the labels that appear once, in alphabetical order.
        once = sorted(label for label in sizes if terms.count(label) == 1)
        return [((*middle, *(sizes[label] for label in once)), call.dtype())]
    before, dots, after = result.partition("...")
    head, tail = (tuple(sizes[label] for label in part) for part in (before, after))
    return [((*head, *(middle if dots else ()), *tail), call.dtype())]
