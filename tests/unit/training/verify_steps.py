"""Steps that tests run for real; imported by the process that trains, torch inside the functions only."""

from __future__ import annotations


def linear():
    """One matrix of 4×16 without bias, 8 samples, SGD with momentum."""
    import torch

    model = torch.nn.Linear(16, 4, bias=False)
    given = torch.randn(8, 16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, foreach=False)

    def step():
        optimizer.zero_grad()
        loss = model(given).sum()
        loss.backward()
        optimizer.step()
        return loss

    return {"step": step, "model": model, "optimizer": optimizer}


def raises():
    """A step that cannot run."""

    def step():
        raise RuntimeError("the data are missing")

    return {"step": step}


def exits():
    """A step that takes the whole process with it."""
    import os

    def step():
        os._exit(7)

    return {"step": step}
