"""Pieces that several image networks are made of, with the training behaviour of torchvision 0.28.

What is in place and what is not decides what a step keeps: `ops/misc.py` of torchvision puts every activation after a
norm in place, the squeeze-and-excitation's own are not (EfficientNet asks for it), its product is `scale * input`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Layer = Callable[..., nn.Module]


def divisible(channels: float, by: int = 8) -> int:
    """`channels` rounded to a multiple of `by`, never down by more than a tenth."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * channels else rounded


def in_place(act: Layer) -> nn.Module:
    """An activation that writes over its input."""
    return act(inplace=True)


class ConvNorm(nn.Sequential):
    """Convolution without bias, norm, activation in place; padded to keep the size."""

    def __init__(
        self,
        inside: int,
        outside: int,
        kernel: int,
        stride: int = 1,
        *,
        groups: int = 1,
        norm: Layer = nn.BatchNorm2d,
        act: Layer | None = nn.ReLU,
    ) -> None:
        conv = nn.Conv2d(inside, outside, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
        super().__init__(conv, norm(outside), *([in_place(act)] if act else ()))


class SqueezeExcite(nn.Module):
    """Channels weighted by a small network on their means."""

    def __init__(self, inside: int, squeeze: int, act: Callable[[], nn.Module], gate: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(inside, squeeze, 1)
        self.fc2 = nn.Conv2d(squeeze, inside, 1)
        self.activation = act()
        self.scale_activation = gate()

    def weights(self, x: Tensor) -> Tensor:
        """One factor for each channel."""
        scale = self.avgpool(x)
        scale = self.fc1(scale)
        scale = self.activation(scale)
        scale = self.fc2(scale)
        return self.scale_activation(scale)

    def forward(self, x: Tensor) -> Tensor:
        """The weighted channels."""
        scale = self.weights(x)
        return scale * x


class StochasticDepth(nn.Module):
    """Rows of the batch dropped from a residual branch (Huang et al., 2016); at a rate of 0 nothing is done."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """What is left of the branch."""
        if not self.training or self.rate == 0.0:
            return x
        noise = torch.empty([x.shape[0], *[1] * (x.ndim - 1)], dtype=x.dtype, device=x.device)
        noise = noise.bernoulli_(1.0 - self.rate)
        noise.div_(1.0 - self.rate)
        return x * noise


class Classifier(nn.Module):
    """`features`, `avgpool`, flattened, `classifier`: the frame of most networks here.

    The parts are made by `make`, in the order in which they stand there.
    """

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        """The scores of the classes."""
        x = self.features(x)
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        return self.classifier(x)


def plain_norm(**settings: Any) -> Layer:
    """Batch normalization with settings of its own."""

    def make(channels: int) -> nn.Module:
        return nn.BatchNorm2d(channels, **settings)

    return make
