"""VGG (torchvision 0.28, `models/vgg.py`): ReLU in place, dropout 0.5 twice, with and without batch norm."""

from __future__ import annotations

from torch import nn

from peakmem.training.networks.parts import Classifier

LAYERS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
# convolutions before each pooling, by the number in the name
CHANNELS = (64, 128, 256, 512, 512)


def vgg(depth: int, *, norm: bool = False, classes: int = 1000) -> nn.Module:
    """A network of `depth` layers with parameters."""
    layers: list[nn.Module] = []
    inside = 3
    for repeats, outside in zip(LAYERS[depth], CHANNELS, strict=True):
        for _ in range(repeats):
            layers.append(nn.Conv2d(inside, outside, 3, padding=1))
            layers += [nn.BatchNorm2d(outside)] if norm else []
            layers.append(nn.ReLU(inplace=True))
            inside = outside
        layers.append(nn.MaxPool2d(2, 2))
    return Classifier(
        features=nn.Sequential(*layers),
        avgpool=nn.AdaptiveAvgPool2d((7, 7)),
        classifier=nn.Sequential(
            nn.Linear(512 * 49, 4096), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(4096, classes),
        ),
    )  # fmt: skip
