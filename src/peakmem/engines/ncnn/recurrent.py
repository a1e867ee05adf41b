"""RNN, GRU and LSTM when they are loaded.

Sources: `load_model` in `src/layer/rnn.cpp`, `gru.cpp` and `lstm.cpp`; `src/layer/x86/lstm_x86.cpp` and `lstm_int8.h`;
commit a4d2ea1d (2026-07-22).
"""

from __future__ import annotations

from peakmem.engines.ncnn.layers import Layer
from peakmem.engines.ncnn.load import Held, Loader, Made, rule

ORDER = ("weight", "bias", "recurrent_weight", "projection", "weight_scale", "recurrent_scale")
# of the .bin file


@rule("RNN", "GRU")
def _simple(loader: Loader, layer: Layer) -> Made:
    _read(loader, layer)
    return Made()


@rule("LSTM")
def _lstm(loader: Loader, layer: Layer) -> Made:
    options = loader.options
    directions = 2 if layer.number("direction") == 2 else 1
    hidden, out = layer.number("hidden_size"), layer.number("num_output")
    size = layer.number("weight_data_size") // directions // hidden // 4
    arrays = _read(loader, layer)
    if layer.int8:
        block = 4 if options.lanes == 16 else 2 if options.avx2 else 1
        rows = hidden // block + hidden % block
        width = size + out + (8 if options.vnni and block > 1 else 0)
        loader.take("repacked weights", (directions, rows, width), 4 * block)
        loader.take("repacked weights", (directions, rows, 8 * block))
        loader.take("repacked weights", (directions, 1, hidden), 16)
        freed: tuple[str, ...] = ("weight", "bias", "recurrent_weight", "weight_scale", "recurrent_scale")
    else:
        rows, element = (hidden // 2 + hidden % 2, 32) if options.lanes >= 8 else (hidden, 16)
        loader.take("repacked weights", (directions, rows, size), element)
        loader.take("repacked weights", (directions, 1, hidden), 16)
        loader.take("repacked weights", (directions, rows, out), element)
        freed = ("weight", "bias", "recurrent_weight")
    loader.parallel()
    for name in freed:
        if name in arrays:
            loader.original(arrays[name])
    return Made("lstm")


def _read(loader: Loader, layer: Layer) -> dict[str, Held]:
    """Arrays by name; those of three dimensions are copied where a channel does not end on 16 bytes."""
    found: dict[str, Held] = {}
    for name in ORDER:
        weight = layer.weight(name)
        if weight is None:
            continue
        held = loader.read(weight)
        element = loader.element(weight)
        if len(weight.sizes) == 3 and weight.sizes[1] * weight.sizes[2] * element % 16:
            copy = loader.take("weights", weight.sizes, element)
            loader.give(held)
            held = copy
        found[name] = held
    return found
