"""Stacked LSTM layers of torch.nn.LSTM, batch first, without dropout; the states at all steps are the result."""

from __future__ import annotations

from torch import Tensor, nn


class Lstm(nn.Module):
    """The layers alone."""

    def __init__(self, features: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, num_layers=layers, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """The last layer's state at every step."""
        states, _ = self.lstm(x)
        return states


def lstm(*, features: int = 128, hidden: int = 256, layers: int = 2) -> nn.Module:
    """The network of the zoo."""
    return Lstm(features, hidden, layers)
