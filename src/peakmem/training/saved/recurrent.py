"""Recurrent layers: one operator of the graph is one layer, in one or two directions (RNN.cpp, PyTorch 2.13)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from peakmem.dtypes import UINT8
from peakmem.training.saved import movement
from peakmem.training.saved.eager import Value
from peakmem.training.saved.kernels import took

if TYPE_CHECKING:
    from peakmem.training.saved.rules import Call

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
# that each step computes
STEP_TENSORS = {"LSTM": 3, "GRU": 5, "RNN": 1}
# of the state's size, that each step keeps besides its gates where a layer is written out step by step


def layer(call: Call) -> Sequence[Value | None]:
    """A layer over the whole sequence: input, weights, first state and results are kept.

    LSTM on the processor is one call of oneDNN for each layer and direction (mkldnn_rnn_layer), which keeps a workspace
    besides. The reserve of cuDNN, and what the others keep of each step, is not known exactly and stands as a doubt.
    """
    e = call.e
    x, weight, recurrent = call.product(call.x(), call.x(1), call.x(2))
    assert x is not None
    assert weight is not None
    assert recurrent is not None
    bias = call.maybe(3)
    steps, batch = x.shape[:2]
    hidden = recurrent.shape[-1]
    ways = weight.shape[0] if len(weight.shape) == 3 else 1
    gates = GATES[call.kind]
    fused = call.kind == "LSTM" or e.device == "cuda"
    name = (
        "aten::_cudnn_rnn"
        if e.device == "cuda"
        else "aten::mkldnn_rnn_layer"
        if fused
        else f"aten::{call.kind.lower()}"
    )
    if not x.is_contiguous:
        x = movement.clone(e, x)
    states = [e.new((ways, batch, hidden), x.dtype, "aten::zeros") for _ in range(2 if call.kind == "LSTM" else 1)]
    shape = (steps, batch, ways * hidden)
    y = e.new(shape, x.dtype, name)
    last = [e.new((ways, batch, hidden), x.dtype, name) for _ in states]
    inner = []
    if not fused:
        width = (gates + STEP_TENSORS[call.kind]) * ways * hidden
        inner = [e.new((steps, batch, width), x.dtype, name)]
    elif call.kind != "LSTM":
        inner = [e.new((steps, batch, gates * ways * hidden), x.dtype, name)]
    unit = (x.dtype.bits or 0) // 8
    if name == "aten::mkldnn_rnn_layer":
        how: tuple[object, ...] = (False, [], 2, hidden, 1, True, False, False, True)
        left = took(e, name, (x, *_matrices(weight, recurrent), *states, *how), [y, *last])
        inner.append(e.new((left * ways,), UINT8, name))  # oneDNN's workspace
    else:
        most = 2 * gates * ways * steps * batch * hidden * unit
        e.doubt(most, name, "what the library keeps between forward and backward")
    if e.wants(x, weight, recurrent, bias):
        kept = [e.keep(item) for item in (x, weight, recurrent, *states, y, *last, *inner)]
        shapes = [(item.shape, item.dtype) if item is not None else None for item in (x, weight, recurrent, bias)]
        states_kept = len(states)

        def run(given: Sequence[Value | None]) -> list[Value | None]:
            held = [saved.get() for saved in kept]
            found: list[Value | None] = [
                None if item is None else e.new(item[0], item[1], f"{name}_backward") for item in shapes
            ]  # all of them, whether they are wanted or not
            others = [e.like(value, f"{name}_backward") for value in held[3 : 3 + states_kept]]
            if name == "aten::mkldnn_rnn_layer":
                asked = [held[0], *_matrices(held[1], held[2]), *held[3:5], *held[5:8], given[0] or held[5], None, None]
                took(
                    e, f"{name}_backward", (*asked, False, 2, hidden, 1, True, True, False, [], False, held[-1]), found
                )
                asked.clear()
            del held, others
            return found

        e.link(name, [x, weight, recurrent, bias], [y], run)
    wide = call.shape()
    y = movement.reshape(e, y, (steps, batch, ways, hidden))
    y = movement.permute(e, y, (0, 2, 1, 3)) if len(wide) == 4 else movement.reshape(e, y, wide)
    return [y, *last, None][: len(call.operator.outputs)]


def _matrices(weight: Value, recurrent: Value) -> list[Value]:
    """Both matrices and two biases, as the kernel of one layer in one direction is given them."""
    gates = weight.shape[-2]
    return [
        weight.seen(weight.shape[-2:]),
        recurrent.seen(recurrent.shape[-2:]),
        *(weight.seen((gates,)) for _ in "ih"),
    ]
