"""RNN, GRU and LSTM: states, gates, and halves of both directions.

Sources: `src/layer/rnn.cpp`, `gru.cpp`, `src/layer/x86/lstm_x86.cpp`, commit a4d2ea1d (2026-07-22); where a state lies
without being told is from the requests of 1.0.20261020.
"""

from __future__ import annotations

from collections.abc import Sequence

from peakmem.engines.ncnn.forward import forward
from peakmem.engines.ncnn.mat import Mat
from peakmem.engines.ncnn.run import Call, release


@forward("RNN", "GRU", "LSTM", "RNN int8", "GRU int8", "LSTM int8")
def _recurrent(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    layer = call.layer
    lstm = layer.type == "LSTM"
    out = layer.number("num_output")
    hidden = layer.number("hidden_size", out) if lstm else out
    gate = {"RNN": (out,), "GRU": (out, 2), "LSTM": (hidden, 4)}[layer.type]
    directions = 2 if layer.number("direction") == 2 else 1
    several = len(bottoms) > 1 or len(layer.tops) > 1
    told = len(layer.tops) == (3 if lstm else 2)
    where = call.blob if told else call.work
    length = bottoms[0].sizes[0]
    states = [call.new((directions, out) if several or directions > 1 or lstm else (out,), 4, 1, where)]
    if lstm:
        states.append(call.new((directions, hidden), 4, 1, where))
    made = call.new(call.top(), 4, 1, call.blob)
    size = bottoms[0].sizes[-1]
    # with int8 weights the input is quantised, by a scale for each row: of LSTM at once, else for each direction
    whole = [call.raw(length), call.raw(length, size, scalar=1)] if layer.int8 and lstm else []
    halves = [call.raw(length, out) for _half in range(2)] if directions == 2 else []
    for _direction in range(directions):
        held = [call.raw(*gate)]
        if lstm and out != hidden:
            held.append(call.raw(hidden))
        if layer.int8:
            held += [] if lstm else [call.raw(length, size, scalar=1), call.raw(length)]
            held.append(call.raw(out, scalar=1))
            held += [] if lstm else [call.raw(1)]
        for one in reversed(held):
            release(one)
    for one in reversed([*whole, *halves]):
        release(one)
    if told:
        return [made, *states]
    for one in reversed(states):
        release(one)
    return [made]
