"""LSTM, GRU and plain recurrent layers.

aten/src/ATen/native/RNN.cpp and mkldnn/RNN.cpp of PyTorch 2.13.0: LSTM goes to oneDNN layer by layer, with the
weights reordered in every call; the others multiply the whole sequence by the input weights and then go step by step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peakmem.engines.pytorch.machine import Machine
    from peakmem.engines.pytorch.network import Call

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
PRIMITIVE, FIRST, CALLED, SCRATCH = 140_000, 82_000, 26_000, 20_000
# bytes: a primitive in oneDNN's cache with its reorders, what the first brings besides, objects while it is called,
# and the scratchpad without the states and gates of the sequence; measured
LANES, BANKS = 16, 256
# floats that the states' rows are rounded to, and a length that they avoid (rnn_utils.hpp, get_good_ld)
STEP = 8
# pieces of the size of a state that a step needs for a moment


def recur(call: Call, machine: Machine) -> None:
    """A stack of layers over a sequence."""
    heap = machine.heap
    x, y = call.input(0), call.outputs[0]
    gates = GATES[call.kind]
    layers = int(call.attributes.get("num_layers", 1))
    ways = 2 if call.attributes.get("bidirectional") else 1
    if len(x.shape) != 3 or len(y.shape) != 3:
        machine.lacks(call, "a recurrent layer over packed sequences: its steps are left out")
        machine.results(call)
        return
    rows, width, hidden = x.shape[0] * x.shape[1], x.shape[2], y.shape[2] // ways
    batch = x.shape[0] if call.attributes.get("batch_first") else x.shape[1]
    size = x.itemsize
    fused = call.kind == "lstm" and machine.mkldnn and (size == 4 or (x.dtype == "bfloat16" and machine.bfloat16))
    if size == 2:
        machine.lacks(call, "a recurrent layer in half precision: its scratchpad was measured in float32", 4 * y.nbytes)
    copied = x.nbytes if call.attributes.get("batch_first") and batch > 1 else 0
    before = 0
    for layer in range(layers):
        inner = width if layer == 0 else hidden * ways
        made = rows * hidden * size
        heap.take("workspace", copied if layer == 0 and fused else 0)
        for way in range(ways):
            if fused:
                heap.take("workspace", made)
                _by_onednn(machine, (layer > 0, way, rows, inner, hidden, x.dtype), gates, batch, size)
            else:
                heap.burst("workspace", (copied if layer == 0 else 0) + rows * gates * hidden * size)
                _by_steps(machine, rows, inner, hidden, gates, batch, size)
                heap.take("workspace", made)
        if ways == 2:
            heap.take("workspace", 2 * made)
            heap.take("workspace", -2 * made)
            # both ways are joined
        heap.take("workspace", -before - (copied if layer == 0 and fused else 0))
        before = ways * made
    heap.take("workspace", -before)
    machine.results(call)


def _by_onednn(
    machine: Machine, key: tuple[bool, int, int, int, int, str], gates: int, batch: int, size: int
) -> None:  # fmt: skip
    _, _, rows, inner, hidden, _ = key
    heap = machine.heap
    machine.primitive(("lstm", *key), PRIMITIVE, first=FIRST)
    with heap.lent("objects", CALLED), heap.lent("repacked weights", gates * hidden * (inner + hidden) * size):
        row = -(-max(inner, hidden) // LANES) * LANES
        row += LANES if row % BANKS == 0 else 0
        states = 2 * (rows + batch) * (row + hidden) * 4
        # of all steps, for the layer below and for this one
        heap.burst("workspace", states + (rows * gates * hidden * 4 if batch == 1 else 0) + SCRATCH)


def _by_steps(machine: Machine, rows: int, inner: int, hidden: int, gates: int, batch: int, size: int) -> None:
    heap = machine.heap
    if size == 4:
        machine.mkl.gemm(rows, inner, gates * hidden)
        machine.mkl.gemm(batch, hidden, gates * hidden)
    with heap.lent("workspace", rows * gates * hidden * size), heap.lent("workspace", rows * hidden * size):
        # gates of the whole sequence, and what every step gave, until it is joined
        heap.burst("workspace", max(rows * hidden, STEP * batch * hidden) * size)
