"""U-Net: the paper's valid convolutions with cropped skips, and the padded form with batch norm.

`unet_256` follows milesial/Pytorch-UNet (`unet/unet_parts.py`, transposed convolutions): ReLU in place; what comes up
is padded to the skip's size, which copies it even where nothing is missing; skip and it are concatenated. `unet` has
the paper's bias and crops, ReLU in place, no norm and no dropout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def _double(inside: int, outside: int, *, padded: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inside, outside):
        layers.append(nn.Conv2d(channels, outside, 3, padding=int(padded), bias=not padded))
        layers += [nn.BatchNorm2d(outside)] if padded else []
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class Down(nn.Sequential):
    """Half as large, through two convolutions."""

    def __init__(self, inside: int, outside: int, *, padded: bool) -> None:
        super().__init__(nn.MaxPool2d(2), _double(inside, outside, padded=padded))


class Up(nn.Module):
    """Twice as large, beside its skip, through two convolutions."""

    def __init__(self, inside: int, *, padded: bool) -> None:
        super().__init__()
        self.padded = padded
        self.up = nn.ConvTranspose2d(inside, inside // 2, 2, 2)
        self.conv = _double(inside, inside // 2, padded=padded)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """The features of this level."""
        x = self.up(x)
        rows, columns = skip.size(2) - x.size(2), skip.size(3) - x.size(3)
        if self.padded:
            x = functional.pad(x, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
        else:
            top, left = rows // 2, columns // 2
            skip = skip[:, :, top : top + x.size(2), left : left + x.size(3)]
        x = torch.cat([skip, x], dim=1)
        return self.conv(x)


class UNet(nn.Module):
    """Four levels down and up."""

    def __init__(self, channels: int, classes: int, features: int, *, padded: bool) -> None:
        super().__init__()
        wide = [features * 2**level for level in range(5)]
        self.inc = _double(channels, wide[0], padded=padded)
        for at in range(4):
            setattr(self, f"down{at + 1}", Down(wide[at], wide[at + 1], padded=padded))
        for at in range(4):
            setattr(self, f"up{at + 1}", Up(wide[4 - at], padded=padded))
        self.outc = nn.Conv2d(wide[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The scores of the classes at each pixel."""
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x4 = self.down3(x3)
        x5 = self.down4(x4)
        x = self.up1(x5, x4)
        x = self.up2(x, x3)
        x = self.up3(x, x2)
        x = self.up4(x, x1)
        return self.outc(x)


def unet(*, channels: int = 1, classes: int = 2, features: int = 64) -> nn.Module:
    """The paper's."""
    return UNet(channels, classes, features, padded=False)


def unet_256(*, channels: int = 3, classes: int = 2, features: int = 64) -> nn.Module:
    """The padded one."""
    return UNet(channels, classes, features, padded=True)
