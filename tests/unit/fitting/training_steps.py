"""Small steps to train, for the tests of fit."""

from __future__ import annotations

import torch


class Block(torch.nn.Module):
    """Two layers with a GELU between them, added to what comes in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.widen = torch.nn.Linear(width, 4 * width)
        self.act = torch.nn.GELU()
        self.narrow = torch.nn.Linear(4 * width, width)

    def forward(self, x):
        return x + self.narrow(self.act(self.widen(x)))


def blocks():
    """Two blocks 256 wide on a batch of 64."""
    model = torch.nn.Sequential(*(Block(256) for _ in range(2)))
    return {"model": model, "batch": (torch.zeros(64, 256), torch.zeros(64, 256))}


def many():
    """The same on a batch of 4,096."""
    return {**blocks(), "batch": (torch.zeros(4096, 256), torch.zeros(4096, 256))}


def own():
    """A whole step, whose batch is its own."""
    model = torch.nn.Linear(64, 64)

    def step():
        model(torch.zeros(16, 64)).sum().backward()

    return {"model": model, "step": step}
