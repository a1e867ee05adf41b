"""Attention for the processor: blocks of scores for each thread.

aten/src/ATen/native/cpu/FlashAttentionKernel.cpp of PyTorch 2.13 (block sizes, `buf`, `buf_reduced`, `dsum`), held
against the profiler. Where keys and values are packed (float16 with AMX), that memory is not PyTorch's allocator's.
"""

from __future__ import annotations

from peakmem.training.workspaces.cpu.products import scratch
from peakmem.training.workspaces.cpu.sizes import dense
from peakmem.training.workspaces.cpu.tensors import elements, is_tensor, nbytes
from peakmem.training.workspaces.found import Answer, Call

BLOCKS = ((768, 256), (192, 64), (0, 32))
# rows of queries from which so many are taken at a time
KEYS = 512


def _block(rows: int) -> int:
    return min(next(size for least, size in BLOCKS if rows >= least), rows)


def flash(call: Call) -> Answer:
    """`aten::_scaled_dot_product_flash_attention_for_cpu`."""
    query, keys = call.args[0], call.args[1]
    rows, width, places = int(query.shape[2]), int(query.shape[3]), min(KEYS, int(keys.shape[2]))
    block = _block(rows)
    taken = call.machine.threads * block * (places + 2 + width) * 4
    if query.dtype.itemsize == 2:
        taken += call.machine.threads * block * places * 2
    mask = next((each for each in (*call.args[3:], *call.kwargs.values()) if is_tensor(each)), None)
    if mask is not None and str(mask.dtype) == "torch.bool":
        taken += elements(mask) * int(query.dtype.itemsize)
    return taken


def flash_backward(call: Call) -> Answer:
    """`aten::_scaled_dot_product_flash_attention_for_cpu_backward`: the gradient brought to rows of all heads."""
    gradient, query, keys = call.args[:3]
    rows, places, size = int(query.shape[2]), min(KEYS, int(keys.shape[2])), int(query.dtype.itemsize)
    block = _block(rows)
    batch, heads, length, width = gradient.shape
    down = gradient.stride()
    turned = 0 if dense((batch, length, heads, width), (down[0], down[2], down[1], down[3])) else nbytes(gradient)
    scores = 2 * call.machine.threads * block * places
    taken = turned + scores * 4 + block * 4
    if size == 2:
        taken += scores * 2
        if call.machine.bfloat16 and str(query.dtype) == "torch.bfloat16":
            taken += 4 + scratch(1, places, block, int(width), call.machine.threads, across=True)
            return 0, taken, taken + taken // 8 + 4 * block
    return taken
