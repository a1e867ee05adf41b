"""Stacked LSTM layers (Hochreiter and Schmidhuber, 1997), batch first, as torch.nn.LSTM has them.

A layer of h units on i features holds 4·(i·h + h·h + 2h) parameters: four gates, each with a matrix
for the input, one for the state, and two biases (ONNX and PyTorch keep both). With the defaults,
128 → 256 → 256: 395,264 + 526,336 = 921,600. Besides its layers the graph holds two Transposes,
because the operator wants time first, and a Squeeze of the direction axis after each layer.
"""

from __future__ import annotations

from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Dim
from peakmem.ir.graph import Graph


def lstm_2layer(batch: Dim, *, sequence: int, features: int, hidden: int, layers: int) -> Graph:
    """`layers` unidirectional layers; the result is the last one's state at every step."""
    b = GraphBuilder("lstm_2layer")
    x = b.transpose(b.input("input", (batch, sequence, features)), (1, 0, 2))
    for layer in range(layers):
        inside = b.shape(x)[2]
        with b.scope(f"layer{layer}"):
            weights = [
                b.parameter("W", (1, 4 * hidden, inside)),
                b.parameter("R", (1, 4 * hidden, hidden)),
                b.parameter("B", (1, 8 * hidden)),
            ]
            y = b.one("LSTM", x, *weights, name="lstm", hidden_size=hidden)
            x = b.one("Squeeze", y, b.literal([1]))
    return b.finish(b.transpose(x, (1, 0, 2)))
