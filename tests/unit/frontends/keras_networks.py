"""Networks of the zoo as Keras configurations, with padding inside the convolutions as the zoo has it."""

from __future__ import annotations

from typing import Any

from peakmem.zoo.mobilenet_v1 import PAIRS
from peakmem.zoo.mobilenet_v2 import STAGES
from peakmem.zoo.squeezenet import MODULES, POOLS
from tests.unit.frontends.keras_files import entry, functional, layer


class Net:
    """Writes a functional configuration layer by layer."""

    def __init__(self, *shape: int) -> None:
        self.layers = [entry("image", None, *shape)]
        self.channels = {"image": shape[-1]}

    def add(self, class_name: str, *sources: str, channels: int = 0, **config: Any) -> str:
        name = f"{class_name.lower()}_{len(self.layers)}"
        self.layers.append(layer(class_name, name, [list(sources)], **config))
        self.channels[name] = channels or self.channels[sources[0]]
        return name

    def conv(self, x: str, filters: int, kernel: int = 1, stride: int = 1, act: str = "", **config: Any) -> str:
        """Convolution, batch normalization, activation."""
        config = {"padding": "same", "use_bias": False, **config}
        x = self.add("Conv2D", x, channels=filters, filters=filters, kernel_size=kernel, strides=stride, **config)
        return self.norm(x, act)

    def depthwise(self, x: str, stride: int, act: str) -> str:
        x = self.add("DepthwiseConv2D", x, kernel_size=3, strides=stride, padding="same", use_bias=False)
        return self.norm(x, act)

    def norm(self, x: str, act: str) -> str:
        x = self.add("BatchNormalization", x, axis=-1)
        return self.add("Activation", x, activation=act) if act else x

    def finish(self, x: str, *, dense: int = 0) -> dict[str, Any]:
        if dense:
            x = self.add("Dense", self.add("GlobalAveragePooling2D", x), units=dense, channels=dense)
        return functional(self.layers, ["image", 0, 0], [x, 0, 0])


def mobilenet_v1() -> dict[str, Any]:
    net = Net(224, 224, 3)
    x = net.conv("image", 32, 3, 2, "relu")
    for channels, stride in PAIRS:
        x = net.conv(net.depthwise(x, stride, "relu"), channels, act="relu")
    return net.finish(x, dense=1000)


def mobilenet_v2() -> dict[str, Any]:
    net = Net(224, 224, 3)
    x = net.conv("image", 32, 3, 2, "relu6")
    for expansion, channels, blocks, first in STAGES:
        for block in range(blocks):
            stride, inside = (first if block == 0 else 1), net.channels[x]
            y = x if expansion == 1 else net.conv(x, inside * expansion, act="relu6")
            y = net.conv(net.depthwise(y, stride, "relu6"), channels)
            x = net.add("Add", x, y) if stride == 1 and inside == channels else y
    return net.finish(net.conv(x, 1280, act="relu6"), dense=1000)


def resnet50() -> dict[str, Any]:
    net = Net(224, 224, 3)
    x = net.conv("image", 64, 7, 2, "relu")
    x = net.add("MaxPooling2D", x, pool_size=3, strides=2, padding="same")
    for stage, (count, channels) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for block in range(count):
            stride = 2 if stage and not block else 1
            y = net.conv(x, channels, act="relu")
            y = net.conv(net.conv(y, channels, 3, stride, "relu"), 4 * channels)
            if stride != 1 or net.channels[x] != 4 * channels:
                x = net.conv(x, 4 * channels, 1, stride)
            x = net.add("ReLU", net.add("Add", y, x))
    return net.finish(x, dense=1000)


def squeezenet1_1() -> dict[str, Any]:
    net = Net(224, 224, 3)

    def conv(x: str, filters: int, kernel: int = 1, stride: int = 1, padding: str = "same") -> str:
        return net.add("Conv2D", x, channels=filters, filters=filters, kernel_size=kernel, strides=stride,
                       padding=padding, activation="relu")  # fmt: skip

    x = conv("image", 64, 3, 2, "valid")
    for position in range(2, 13):
        if position in POOLS:
            x = net.add("MaxPooling2D", x, pool_size=3, strides=2)
        else:
            narrow, wide = MODULES[position]
            x = conv(x, narrow)
            x = net.add("Concatenate", conv(x, wide), conv(x, wide, 3), axis=-1, channels=2 * wide)
    x = conv(x, 1000)
    return net.finish(net.add("GlobalAveragePooling2D", x))
