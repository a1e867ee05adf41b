"""SqueezeNet 1.0 and 1.1 (torchvision 0.28, `models/squeezenet.py`): ReLU in place, dropout 0.5 before the end."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FIRES = ((64, 16, 64), (128, 16, 64), (128, 32, 128), (256, 32, 128), (256, 48, 192), (384, 48, 192), (384, 64, 256),
         (512, 64, 256))  # fmt: skip
# channels in, squeezed, of each of the two expansions
POOLED_BEFORE = {"1_0": (0, 3, 7), "1_1": (0, 2, 4)}


class Fire(nn.Module):
    """Squeezed by a 1x1, expanded by a 1x1 and a 3x3 side by side."""

    def __init__(self, inside: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inside, squeezed, 1)
        self.squeeze_activation = nn.ReLU(inplace=True)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand1x1_activation = nn.ReLU(inplace=True)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.expand3x3_activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Both expansions, in one tensor."""
        x = self.squeeze_activation(self.squeeze(x))
        return torch.cat(
            [self.expand1x1_activation(self.expand1x1(x)), self.expand3x3_activation(self.expand3x3(x))], 1
        )


class SqueezeNet(nn.Module):
    """Eight fires."""

    def __init__(self, version: str, classes: int) -> None:
        super().__init__()
        first = nn.Conv2d(3, 96, 7, 2) if version == "1_0" else nn.Conv2d(3, 64, 3, 2)
        layers: list[nn.Module] = [first, nn.ReLU(inplace=True)]
        for at, (inside, squeezed, expanded) in enumerate(FIRES):
            if at in POOLED_BEFORE[version]:
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            layers.append(Fire(first.out_channels if at == 0 else inside, squeezed, expanded))
        self.features = nn.Sequential(*layers)
        last = nn.Conv2d(512, classes, 1)
        self.classifier = nn.Sequential(nn.Dropout(), last, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        """The scores of the classes."""
        x = self.features(x)
        x = self.classifier(x)
        return torch.flatten(x, 1)


def squeezenet(version: str, *, classes: int = 1000) -> nn.Module:
    """Version "1_0" or "1_1"."""
    return SqueezeNet(version, classes)
