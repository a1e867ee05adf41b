"""What elementwise operators and reductions copy: operands of another type, scalars, partial sums.

aten/src/ATen/TensorIterator.cpp (on the processor, operands are brought to the common type before the kernel runs; on
CUDA the kernel does it), ReduceOps.cpp, cpu/Reduce.h of PyTorch 2.13.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from peakmem.training.workspaces.cpu.sizes import dense
from peakmem.training.workspaces.found import Answer, Call, Machine

SCALAR = 8
# bytes of a Python number as a tensor
GRAIN = 32_768
# elements from which threads share a reduction (at::internal::GRAIN_SIZE)


def is_tensor(value: Any) -> bool:
    """Whether an operand is a tensor."""
    return hasattr(value, "untyped_storage")


def elements(tensor: Any) -> int:
    """How many elements a tensor has."""
    return int(prod(tensor.shape))


def nbytes(tensor: Any) -> int:
    """Bytes of a tensor's elements, whatever its storage."""
    return elements(tensor) * int(tensor.dtype.itemsize)


def with_type(args: Sequence[Any], common: Any) -> int:
    """Bytes of the copies in the common type, and of Python's numbers brought to it."""
    total = 0
    for each in args:
        if is_tensor(each):
            if each.dtype is not common:
                total += elements(each) * int(common.itemsize)
        elif type(each) is float or type(each) is int:
            same = common.itemsize == SCALAR and (type(each) is float) == bool(common.is_floating_point)
            total += SCALAR + (0 if same else int(common.itemsize))
    return total


def arithmetic(call: Call) -> Answer:
    """`aten::add` and its like: all operands in the type of the result."""
    taken = with_type(call.args[:2], call.result.dtype)
    return taken, taken


def gelu_backward(call: Call) -> Answer:
    """oneDNN reads the gradient row by row: one that lies otherwise is copied, one in another order twice."""
    gradient, image = call.args[:2]
    approximate = call.kwargs.get("approximate", "none")
    narrow = image.dtype.itemsize == 2 and not (call.machine.bfloat16 and str(image.dtype) == "torch.bfloat16")
    if approximate != "none" or narrow or image.dtype.itemsize == SCALAR or not call.machine.onednn:
        return 0
    if not image.is_contiguous() or gradient.is_contiguous():
        return 0
    return nbytes(image) * (2 if _is_turned(gradient) else 1)


def _is_turned(tensor: Any) -> bool:
    """Whether elements lie without gaps, in another order than row by row."""
    order = sorted(zip(tensor.stride(), tensor.shape, strict=True))
    step = 1
    for stride, size in order:
        if size != 1 and stride != step:
            return False
        step *= size
    return True


def many(call: Call) -> Answer:
    """Operators whose numbers are no operands: `aten::where`, `aten::addcmul`, `aten::lerp`."""
    tensors = [each for each in call.args if is_tensor(each) and each.dtype.is_floating_point]
    return with_type(tensors, call.result.dtype)


def comparison(call: Call) -> Answer:
    """`aten::eq` and its like: both operands in the wider type of the two."""
    first, second = call.args[0], call.args[1]
    if is_tensor(second) and second.dtype is not first.dtype:
        wide = second if len(second.shape) >= len(first.shape) or second.dtype.is_floating_point else first
        taken = with_type((first, second), wide.dtype)
    else:
        taken = 0 if is_tensor(second) else with_type((second,), first.dtype)
    return taken, taken


def in_place(call: Call) -> Answer:
    """`aten::add_` and its like: the other operand in the type of the first."""
    return with_type(call.args[1:2], call.args[0].dtype)


def scalar_list(call: Call) -> Answer:
    """`aten::_foreach_mul_` by a number, tensor after tensor."""
    number = len(call.args) > 1 and not is_tensor(call.args[1])
    if number and isinstance(call.args[1], list | tuple) and call.args[1]:
        number = not is_tensor(call.args[1][0])
    if not number or not call.args[0]:
        return 0
    largest = max(each.dtype.itemsize for each in call.args[0])
    if call.result is None:
        return int(SCALAR + largest)
    made = [nbytes(each) for each in call.result]
    return sum(made) + SCALAR + largest, SCALAR + largest


def _runs(args: Sequence[Any]) -> int:
    """How many groups of neighbouring dimensions are reduced."""
    shape = args[0].shape
    axes = args[1] if len(args) > 1 else None
    if axes is None or (type(axes) is not int and not len(axes)):
        return 1
    reduced = {axis % len(shape) for axis in ([axes] if type(axes) is int else axes)} if len(shape) else set()
    wide = [axis for axis in range(len(shape)) if shape[axis] > 1]
    return sum(axis in reduced and (not at or wide[at - 1] not in reduced) for at, axis in enumerate(wide))


def _reduced(args: Sequence[Any], result: Any, machine: Machine) -> int:
    if elements(result) == 1 and machine.threads > 1 and elements(args[0]) >= GRAIN:
        return machine.threads * int(result.dtype.itemsize)
    return 0


def total(call: Call) -> Answer:
    """`aten::sum`: each thread's sum where there is one result; a copy where the type changes.

    Half precision over dimensions that do not lie together is summed in a float32 copy.
    """
    size = int(call.result.dtype.itemsize)
    if call.args[0].dtype is not call.result.dtype:
        return elements(call.args[0]) * size
    if size == 2 and _runs(call.args) > 1:
        return elements(call.args[0]) * 4 + elements(call.result) * 4
    return _reduced(call.args, call.result, call.machine) * (2 if size == 2 else 1)


def mean(call: Call) -> Answer:
    """`aten::mean`: the sum, divided by a number; half precision is summed in a float32 copy."""
    size = int(call.result.dtype.itemsize)
    if size >= 4:
        return max(_reduced(call.args, call.result, call.machine), SCALAR + (size if size == 4 else 0))
    return elements(call.args[0]) * 4 + elements(call.result) * 4


def norm(call: Call) -> Answer:
    """`aten::linalg_vector_norm` in another type than its operand's."""
    if call.args[0].dtype is not call.result.dtype and not call.args[0].dtype.is_complex:
        return elements(call.args[0]) * int(call.result.dtype.itemsize)
    return 0


def log_sum_exp(call: Call) -> Answer:
    """`aten::logsumexp`: the exponentials, and the largest of each row."""
    taken = nbytes(call.args[0]) + nbytes(call.result)
    return taken, taken


def scan(call: Call) -> Answer:
    """`aten::cumsum` of another type."""
    return nbytes(call.result) if call.args[0].dtype is not call.result.dtype else 0


def sort(call: Call) -> Answer:
    """`aten::sort`: indices of one row, where rows do not lie whole."""
    shape = call.args[0].shape
    axis = next((each for each in call.args[1:] if type(each) is int), -1)
    return int(shape[axis]) * 8 if len(shape) else 0


def selected(call: Call) -> Answer:
    """`aten::kthvalue`, `aten::median`: a copy to be partitioned, and its indices where they are asked for."""
    return nbytes(call.args[0]) + (8 * elements(call.args[0]) if isinstance(call.result, tuple | list) else 0)


def in_float(call: Call) -> Answer:
    """`aten::scatter` and its like: half precision is gathered in a float32 copy of the first operand."""
    half = call.result.dtype.itemsize == 2 and call.result.dtype.is_floating_point
    return elements(call.result) * 4 if half else 0


def masked_softmax(call: Call) -> Answer:
    """`aten::_safe_softmax`: which scores are masked, and which rows wholly."""
    shape = call.args[0].shape
    count = elements(call.args[0])
    return count + count // max(int(shape[call.args[1]]), 1) + int(call.args[0].dtype.itemsize)


def unfolded(call: Call) -> Answer:
    """`aten::im2col`: a copy of the image, and one more where its channels lie innermost."""
    image = call.args[0]
    copies = nbytes(image) * (1 if dense(image.shape, image.stride()) else 2)
    return copies, copies


def copied(call: Call) -> Answer:
    """`aten::dist`, `aten::renorm`, `aten::abs` of complex numbers: the first operand once more."""
    first = call.args[0]
    if not first.dtype.is_complex and call.result.dtype is first.dtype and call.result.shape == first.shape:
        return 0, 0, 2 * nbytes(first)
    return nbytes(first)


def numbers(_: Call) -> Answer:
    """A few numbers: sizes, a count, a scalar as a tensor."""
    return 0, 16, 512


def masked_scatter_backward(call: Call) -> Answer:
    """`aten::masked_scatter_backward`: what the mask chooses, and its places."""
    chosen = nbytes(call.args[0])
    return elements(call.args[0]) * 8 + 8, chosen, chosen + elements(call.args[0]) * 8
