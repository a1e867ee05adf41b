"""LSTMs by oneDNN: packed weights, a scratchpad, and a workspace that the gradient needs.

aten/src/ATen/native/mkldnn/RNN.cpp of PyTorch 2.13; `set_rnn_conf`, `set_offsets` and `get_good_ld` of
src/cpu/rnn/rnn_utils.hpp and .cpp, oneDNN v3.12. float32 to the byte in the sweep; in bfloat16 the scratchpad is near.
torch's fake tensors give the workspace no bytes (torch/_meta_registrations.py, mkldnn_rnn_layer): it is said as `left`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peakmem.training.workspaces.cpu.sizes import dense
from peakmem.training.workspaces.cpu.tensors import nbytes
from peakmem.training.workspaces.cpu.threading import up
from peakmem.training.workspaces.found import Answer, Call

PAGE, LINE = 4096, 64
GATES = {2: 4, 3: 3, 0: 1, 1: 1}
# of a cell, by its number (rnn_tanh and rnn_relu, lstm, gru)
NESTED = 4_664
# of a scratchpad beside its parts, measured


def _leading(width: int, size: int) -> int:
    """Rows are whole lines of the cache, and no multiple of 256 elements apart."""
    rows = up(width, LINE // size)
    return rows + LINE // size if rows % 256 == 0 else rows


def _sizes(args: Sequence[Any], mode: int, hidden: int) -> tuple[int, int, int, int, int, int]:
    image, weights, again = args[0], args[1], args[2]
    gates = GATES.get(mode, 4) * hidden
    size = int(image.dtype.itemsize)
    steps, batch = int(image.shape[0]), int(image.shape[1])
    return steps, batch, int(weights.shape[1]), int(again.shape[1]), gates, size


def _scratch(steps: int, batch: int, gates: int, hidden: int, size: int) -> int:
    merged = steps if size == 4 else 1
    parts = (merged * batch * _leading(gates, 4) * 4, batch * _leading(hidden, 4) * 4, batch * _leading(hidden, 4) * 4)
    return sum(up(part, PAGE) for part in parts) + NESTED


def layer(call: Call) -> Answer:
    """`aten::mkldnn_rnn_layer`."""
    mode, hidden, training = int(call.args[9]), int(call.args[10]), bool(call.args[15])
    steps, batch, inner, outer, gates, size = _sizes(call.args, mode, hidden)
    packed = (inner + outer) * _leading(gates, size) * size + gates * size
    if not training:
        return None
    cells, wide = 2 * (steps + 1) * batch, max(inner, outer, hidden)
    parts = (
        steps * batch * _leading(gates, size) * size, steps * batch * _leading(hidden, size) * size,
        cells * _leading(wide, size) * size, cells * hidden * size, cells * _leading(wide, 4) * 4,
        cells * _leading(wide, 4) * 4, cells * hidden * 4,
    )  # fmt: skip
    left = sum(up(part, PAGE) for part in parts)
    return 0, packed + _scratch(steps, batch, gates, hidden, size), 0, left


def layer_backward(call: Call) -> Answer:
    """`aten::mkldnn_rnn_layer_backward`."""
    image, weights, again, hidden_state = call.args[0], call.args[1], call.args[2], call.args[5]
    hidden = int(again.shape[1])
    gates = int(again.shape[0])
    steps, batch = int(image.shape[0]), int(image.shape[1])
    inner, size = int(weights.shape[1]), int(image.dtype.itemsize)
    scratch = _scratch(steps, batch, gates, hidden, size)
    packed = (inner + hidden) * _leading(gates, 4) * 4 + gates * 4
    for width in (inner, hidden):
        if _leading(width, size) != width or size == 2:
            packed += gates * _leading(width, size) * size
    states = 2 * nbytes(hidden_state) + gates * size
    gradient = call.args[10]
    if gradient is not None and not dense(gradient.shape, gradient.stride()):
        states += nbytes(gradient)
    if size == 2:
        packed += steps * batch * hidden * 4 + 2 * batch * hidden * 4
    made = sum(nbytes(each) for each in call.result if each is not None)
    return states + packed + scratch + made - gates * 4, states, (states + packed + scratch) if size == 2 else 0
