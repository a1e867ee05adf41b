"""Attention kernels: gradients of the queries summed in float32, and one number for each row.

Flash: aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp (mha_bwd: softmax_d, dq_accum, dk_expanded) of
PyTorch 2.2 to 2.11. Efficient: attention_backward.cu and mem_eff_attention/kernel_backward.h (workspace_size).
cuDNN tells its workspace at run time only: what is said is flash's, at most twice it.
"""

from __future__ import annotations

from typing import Any

from peakmem.training.workspaces.cpu.tensors import nbytes
from peakmem.training.workspaces.found import Answer, Call

ROWS = 128
# of queries, rounded up to


def _up(value: int, step: int) -> int:
    return -(-value // step) * step


def _flash(query: Any, keys: Any) -> list[int]:
    batch, heads, rows, width = (int(size) for size in query.shape)
    high, wide = _up(rows, ROWS), _up(width, 32 if width <= 128 else 64)
    blocks = [batch * heads * high * 4, batch * high * heads * wide * 4]
    if int(keys.shape[1]) != heads:
        each = batch * int(keys.shape[2]) * heads * width * int(query.dtype.itemsize)
        blocks += [each, each]
    return blocks


def flash_backward(call: Call) -> Answer:
    """`aten::_scaled_dot_product_flash_attention_backward`: operands lie as batch, heads, rows, width."""
    return _flash(call.args[1], call.args[2])


def flash_backward_rows(call: Call) -> Answer:
    """`aten::_flash_attention_backward`: operands lie as batch, rows, heads, width."""
    query = call.args[1]
    if len(query.shape) != 4:
        return None
    return _flash(query.transpose(1, 2), call.args[2].transpose(1, 2))


def efficient_backward(call: Call) -> Answer:
    """`aten::_scaled_dot_product_efficient_attention_backward`: in half precision the queries' gradient in float32."""
    query = call.args[1]
    batch, heads, rows, width = (int(size) for size in query.shape)
    delta = batch * heads * _up(rows, 32) * 4
    sums = batch * heads * _up(rows, 64) * _up(width, 64) * 4 if query.dtype.itemsize == 2 else 0
    said = delta + (sums if width > 128 or query.dtype.itemsize == 2 else 0)
    return 0, said, delta + sums + 2 * (nbytes(query) + nbytes(call.args[2]))


def cudnn_backward(call: Call) -> Answer:
    """`aten::_scaled_dot_product_cudnn_attention_backward`: the same sums; the library tells no size before it runs."""
    said = sum(_flash(call.args[1], call.args[1]))
    return 0, said, 2 * said
