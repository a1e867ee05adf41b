"""Matrix products: MKL takes nothing that PyTorch's allocator sees; oneDNN's for bfloat16 take a scratchpad.

aten/src/ATen/native/LinearAlgebra.cpp, mkldnn/Matmul.cpp (use_mkldnn_matmul) of PyTorch 2.13. The scratchpad of
oneDNN's brgemm product (src/cpu/x64/matmul, v3.12) was measured over 76 products with 1, 2 and 4 threads. The formula
gives it to the byte where the left operand lies row by row and both it and the result have 64 rows and columns or
more. Where it lies column by column, as in the gradient of weights, blocks are chosen by an estimate of speed that is
not modelled: what is said is near, `at_most` twice it.
"""

from __future__ import annotations

from typing import Any

from peakmem.training.workspaces.cpu.tensors import nbytes
from peakmem.training.workspaces.cpu.threading import per, up
from peakmem.training.workspaces.found import Answer, Call, Machine

LEAST_WORK = 16 * 16 * 16
# multiplications from which oneDNN is asked
COLUMNS, ROWS, INNER, DEEP = 64, 256, 512, 1024
# of a block; the last from `DEEP` on
ALIGNED, BATCH, FIXED = 128, 640, 384
# of a scratchpad's entry; of a thread's list of blocks; of all threads
WIDE, WIDEST = 1024, 3072
# columns that are held at once where the left operand is turned; up to so many of them


def product(call: Call) -> Answer:
    """`aten::mm`, `aten::bmm`, `aten::mv`."""
    return _product(call.args[0], call.args[1], call.machine)


def added(call: Call) -> Answer:
    """`aten::addmm`, `aten::baddbmm`, `aten::addmv`."""
    return _product(call.args[1], call.args[2], call.machine)


def linear(call: Call) -> Answer:
    """`aten::linear`, `aten::mkldnn_linear`, where they come whole."""
    return _product(call.args[0], call.args[1], call.machine)


def _lies(tensor: Any) -> bool:
    """Whether rows or columns lie one after the other (`use_mkldnn_matmul`, and what BLAS can read)."""
    if len(tensor.shape) < 2:
        return len(tensor.shape) == 0 or bool(tensor.stride()[-1] == 1)
    (rows, columns), (down, along) = tensor.shape[-2:], tensor.stride()[-2:]
    return bool((along == 1 and down >= max(1, columns)) or (down == 1 and along >= max(1, rows)))


def _product(left: Any, right: Any, machine: Machine) -> Answer:
    copies = sum(0 if _lies(each) else nbytes(each) for each in (left, right))
    if str(left.dtype) != "torch.bfloat16" or not (machine.onednn and machine.bfloat16):
        return copies
    rows = int(left.shape[-2]) if len(left.shape) > 1 else 1
    inner = int(left.shape[-1])
    columns = int(right.shape[-1]) if len(right.shape) > 1 else 1
    batch = int(left.shape[0]) if len(left.shape) == 3 else 1
    if batch * rows * inner * columns <= LEAST_WORK:
        return copies
    across = len(left.shape) > 1 and left.stride()[-1] != 1 and inner > 1
    said = scratch(batch, rows, inner, columns, machine.threads, across=across)
    most = 2 * said if across or columns == 1 else said + 4 * COLUMNS * COLUMNS * machine.threads
    return copies, copies + said, copies + most


def scratch(batch: int, rows: int, inner: int, columns: int, threads: int, *, across: bool) -> int:
    """Bytes of oneDNN's scratchpad for one product; `across`: the left operand lies column by column."""
    high = per(rows, per(rows, ROWS))
    if batch * per(columns, COLUMNS) * per(rows, high) < threads:
        high = per(rows, threads)
    deep = DEEP if inner > DEEP else min(up(inner, 32), INNER)
    blocks = per(rows, ROWS)
    if across and blocks % threads and blocks > 1:
        high = per(rows, per(rows, ROWS - COLUMNS))
    total = FIXED + threads * (BATCH + COLUMNS * high * 4)
    if not across:
        return total + threads * COLUMNS * deep * 2
    total += ALIGNED + threads * high * (min(deep, INNER) + (32 if deep % 256 == 0 else 0)) * 2
    held = COLUMNS if inner <= INNER else min(columns, WIDE) if columns <= WIDEST else INNER
    return total + threads * held * min(deep, INNER) * 2
