"""Indexing, sorting, normalisations and convolutions on cards.

cuda/Indexing.cu (index_put_with_sort_kernel; its order of allocations is that of recorded traces), cuda/Embedding.cu,
cuda/EmbeddingBackwardKernel.cu, cuda/layer_norm_kernel.cu, cuda/group_norm_kernel.cu, cuda/Normalization.cuh,
cuda/ForeachReduceOp.cu, cuda/Sort.cpp, cudnn/Conv_v8.cpp of PyTorch 2.2 to 2.11.
"""

from __future__ import annotations

from math import prod

from peakmem.training.workspaces.cpu.sizes import channels_last, dense
from peakmem.training.workspaces.cpu.tensors import elements, is_tensor, nbytes
from peakmem.training.workspaces.found import Answer, Call

INDEX = 8
# bytes of an index
ONE_TILE = 2_048
# indices that cub sorts without memory of its own: those of a recorded trace
FEW_INDICES = 3_072
# of an embedding's gradient up to which nothing is sorted
ROWS_OF_THREAD = 10
# rows that one thread sums (NROWS_PER_THREAD)
CHUNK = 65_536
# elements of a block of a foreach kernel (kChunkSize)
SMALL_SORT = 4_096
# elements of a row that are sorted in place
MANY_ROWS, TILE, GRID = 65_536, 32, 32_768
# of a layer norm from which its gradient is summed in two steps; rows of a block; blocks


def _sorting(count: int) -> int:
    return 1 if count <= ONE_TILE else 2 * count * INDEX


def index_put(call: Call) -> Answer:
    """`aten::index_put_`, adding: indices as places, sorted with their order, and cub's memory."""
    adding = (call.args[3] if len(call.args) > 3 else call.kwargs.get("accumulate", False)) is True
    if not adding:
        return 0
    indices = [each for each in call.args[1] if each is not None]
    if any(str(each.dtype) in ("torch.bool", "torch.uint8") for each in indices):
        return None
    count = 1
    for each in indices:
        count = max(count, elements(each))
    return [count * INDEX] * 4 + [_sorting(count)]


def embedding_backward(call: Call) -> Answer:
    """`aten::embedding_dense_backward`: more than 3,072 indices are sorted, and rows summed in parts in float32."""
    gradient, indices, rows = call.args[0], call.args[1], int(call.args[2])
    count = elements(indices)
    copies = 0 if dense(gradient.shape, gradient.stride()) else nbytes(gradient)
    if count <= FEW_INDICES and not call.args[4]:
        return copies
    size, width = int(indices.dtype.itemsize), int(gradient.shape[-1])
    segments = min(count, rows)
    parts = count // ROWS_OF_THREAD + segments
    return [copies, 2 * count * size, count * size, 2 * segments * size, parts * size, parts * width * 4]


def foreach_norm(call: Call) -> Answer:
    """`aten::_foreach_norm`: a sum for each block of each tensor, as many as the largest has."""
    most = max((-(-elements(each) // CHUNK) for each in call.args[0]), default=0)
    return len(call.args[0]) * most * 4


def layer_norm_backward(call: Call) -> Answer:
    """`aten::native_layer_norm_backward`: from 65,537 narrow rows on, sums of 32 rows each, of both parameters."""
    image, shape, mask = call.args[1], call.args[2], call.args[-1]
    width = prod(int(size) for size in shape)
    rows = elements(image) // max(width, 1)
    copies = sum(0 if dense(each.shape, each.stride()) else nbytes(each) for each in call.args[:2])
    if rows <= MANY_ROWS or width // TILE >= call.machine.multiprocessors // 2:
        return copies
    blocks = min(GRID // -(-width // TILE), -(-rows // TILE))
    sums = blocks * width * int(image.dtype.itemsize)
    return [copies, sums * bool(mask[1]), sums * bool(mask[2])]


def layer_norm(call: Call) -> Answer:
    """`aten::native_layer_norm`: a copy of rows that do not lie whole."""
    return 0 if dense(call.args[0].shape, call.args[0].stride()) else nbytes(call.args[0])


def group_norm(call: Call) -> Answer:
    """`aten::native_group_norm`: a factor and a summand for each channel of each image."""
    each = int(call.args[3]) * int(call.args[4]) * 4
    return [each, each]


def group_norm_backward(call: Call) -> Answer:
    """`aten::native_group_norm_backward`: two sums and a factor for each channel, two summands for each group."""
    channels, groups = int(call.args[5]) * int(call.args[6]) * 4, int(call.args[5]) * int(call.args[8]) * 4
    return [channels, channels, channels, groups, groups]


def batch_norm(call: Call) -> Answer:
    """Batch normalisation, and its gradient: sums of channels; with channels innermost a few for each block."""
    image = next(each for each in call.args if is_tensor(each))
    channels = int(image.shape[1]) if len(image.shape) > 1 else 1
    last = len(image.shape) > 2 and channels_last(image.shape, image.stride())
    return 0, 2 * channels * 4, 2 * channels * 4 * (256 if last else 1)


def cudnn_batch_norm(_: Call) -> Answer:
    """`aten::cudnn_batch_norm` and its gradient: cuDNN tells its workspace at run time; small in what was published."""
    return 0, 0, 4 << 20


def convolution(call: Call) -> Answer:
    """Convolutions by cuDNN: which algorithm, and what it takes, is known at run time only.

    Said is nothing, which fits float32 with implicit products; at most every operand once more, as kernels that turn
    channels innermost take them, and 32 MiB.
    """
    made = call.result if isinstance(call.result, tuple | list) else (call.result,)
    all_of_them = (*(each for each in call.args[:3] if is_tensor(each)), *(each for each in made if each is not None))
    return 0, 0, sum(nbytes(each) for each in all_of_them) + (32 << 20)


def sort(call: Call) -> Answer:
    """`aten::sort`: rows of up to 4,096 in place; longer ones through copies of values and places."""
    shape = call.args[0].shape
    axis = next((each for each in call.args[1:] if type(each) is int), -1)
    if not len(shape) or int(shape[axis]) <= SMALL_SORT:
        return 0
    each = nbytes(call.args[0]) + prod(shape) * INDEX
    return 0, each, 2 * each


def selection(call: Call) -> Answer:
    """`aten::topk`, `aten::kthvalue`, scans: at most a copy of the operand."""
    return 0, 0, nbytes(call.args[0])


def total_copy(call: Call) -> Answer:
    """Losses that are composed below the dispatcher: each element's loss."""
    if len(call.result.shape) == len(call.args[0].shape) and len(call.result.shape):
        return 0
    return nbytes(call.args[0])


def loss_kept(call: Call) -> Answer:
    """`aten::mse_loss`, `aten::smooth_l1_loss`: the result was made for each element and keeps that memory."""
    if len(call.result.shape) == len(call.args[0].shape) and len(call.result.shape):
        return 0
    return 0, nbytes(call.args[0]), 0, nbytes(call.args[0]) - int(call.args[0].dtype.itemsize)


def loss_in_place(call: Call) -> Answer:
    """`aten::binary_cross_entropy`, `aten::soft_margin_loss`: the result keeps the memory of each element's loss."""
    if len(call.result.shape) == len(call.args[0].shape) and len(call.result.shape):
        return 0
    return 0, 0, 0, nbytes(call.args[0]) - int(call.args[0].dtype.itemsize)


def loss_of_logits(call: Call) -> Answer:
    """`aten::binary_cross_entropy_with_logits`."""
    return 0, 2 * nbytes(call.args[0])


def in_other_layout(call: Call) -> Answer:
    """Pooling and enlarging: copies of what does not lie as the kernel reads it."""
    image = call.args[0]
    last = channels_last(image.shape, image.stride())
    return 0 if last or dense(image.shape, image.stride()) else nbytes(image)


def product(call: Call) -> Answer:
    """Matrix products: cuBLAS's workspace is kept (`persistent`); operands that no BLAS reads are copied."""
    operands = [each for each in call.args if is_tensor(each) and len(each.shape) >= 2][-2:]
    copied = 0
    for each in operands:
        (rows, columns), (down, along) = each.shape[-2:], each.stride()[-2:]
        whole = (along == 1 and down >= max(1, columns)) or (down == 1 and along >= max(1, rows))
        copied += 0 if whole else nbytes(each)
    return copied
