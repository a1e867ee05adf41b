"""AlexNet: torchvision's single column, and the two groups of 2012 with response normalization.

torchvision 0.28, `models/alexnet.py`: ReLU in place, dropout 0.5 before the first two of three fully connected layers.
The network of 2012 follows Caffe's `bvlc_alexnet`: ReLU in place, dropout 0.5 after fc6 and fc7.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from peakmem.training.networks.parts import Classifier


def alexnet(*, classes: int = 1000) -> nn.Module:
    """One column."""
    layers: list[nn.Module] = []
    inside = 3
    for outside, kernel, stride, pad, pooled in (
        (64, 11, 4, 2, True), (192, 5, 1, 2, True), (384, 3, 1, 1, False), (256, 3, 1, 1, False), (256, 3, 1, 1, True),
    ):  # fmt: skip
        layers += [nn.Conv2d(inside, outside, kernel, stride, pad), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(3, 2)] if pooled else []
        inside = outside
    return Classifier(
        features=nn.Sequential(*layers),
        avgpool=nn.AdaptiveAvgPool2d((6, 6)),
        classifier=nn.Sequential(
            nn.Dropout(), nn.Linear(256 * 36, 4096), nn.ReLU(inplace=True),
            nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Linear(4096, classes),
        ),
    )  # fmt: skip


class AlexNet2012(nn.Module):
    """Three of the convolutions in two groups, images of 227 by 227."""

    def __init__(self, *, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 11, 4)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=2)
        self.fc6 = nn.Linear(256 * 36, 4096)
        self.fc7 = nn.Linear(4096, 4096)
        self.fc8 = nn.Linear(4096, classes)
        self.relu = nn.ReLU(inplace=True)
        self.norm = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
        self.pool = nn.MaxPool2d(3, 2)
        self.dropout = nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        """The scores of the classes."""
        x = self.pool(self.norm(self.relu(self.conv1(x))))
        x = self.pool(self.norm(self.relu(self.conv2(x))))
        x = self.relu(self.conv3(x))
        x = self.relu(self.conv4(x))
        x = self.pool(self.relu(self.conv5(x)))
        x = torch.flatten(x, 1)
        x = self.dropout(self.relu(self.fc6(x)))
        x = self.dropout(self.relu(self.fc7(x)))
        return self.fc8(x)


def alexnet_2012(**options: Any) -> nn.Module:
    """The network of the ImageNet paper."""
    return AlexNet2012(**options)
