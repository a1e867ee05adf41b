"""AlexNet in its two known forms, which differ by 135,616 parameters.

`alexnet` is the single-column network of "One weird trick" (Krizhevsky, 2014, arXiv:1404.5997), as
in torchvision. `alexnet_2012` is the network of the ImageNet paper (Krizhevsky, Sutskever and
Hinton, 2012): more kernels, three layers in two groups (one per GPU), response normalization. The
paper writes 224x224; its 55x55 first feature map needs 227x227, which is used here.
"""

from __future__ import annotations

from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Dim
from peakmem.ir.graph import Graph
from peakmem.zoo.layers import image


def alexnet(batch: Dim, *, classes: int) -> Graph:
    """One column, no normalization, images of 224x224."""
    b = GraphBuilder("alexnet")
    x = image(b, batch, 224)
    x = b.relu(b.conv(x, 64, kernel=11, stride=4, pad=2, bias=True, name="features.0"))
    x = b.max_pool(x, kernel=3, stride=2)
    x = b.relu(b.conv(x, 192, kernel=5, pad=2, bias=True, name="features.3"))
    x = b.max_pool(x, kernel=3, stride=2)
    for position, channels in ((6, 384), (8, 256), (10, 256)):
        x = b.relu(b.conv(x, channels, kernel=3, pad=1, bias=True, name=f"features.{position}"))
    x = b.flatten(b.max_pool(x, kernel=3, stride=2))
    x = b.relu(b.linear(x, 4096, name="classifier.1"))
    x = b.relu(b.linear(x, 4096, name="classifier.4"))
    return b.finish(b.linear(x, classes, name="classifier.6"))


def _response_norm(b: GraphBuilder, x: str) -> str:
    # The paper multiplies the sum of squares by 1e-4; ONNX divides its alpha by the size first.
    return b.one("LRN", x, name="norm", size=5, alpha=5e-4, beta=0.75, bias=2.0)


def alexnet_2012(batch: Dim, *, classes: int) -> Graph:
    """The two columns of the paper as groups, images of 227x227."""
    b = GraphBuilder("alexnet_2012")
    x = image(b, batch, 227)
    x = _response_norm(b, b.relu(b.conv(x, 96, kernel=11, stride=4, bias=True, name="conv1")))
    x = b.max_pool(x, kernel=3, stride=2)
    x = _response_norm(b, b.relu(b.conv(x, 256, kernel=5, pad=2, group=2, bias=True, name="conv2")))
    x = b.max_pool(x, kernel=3, stride=2)
    x = b.relu(b.conv(x, 384, kernel=3, pad=1, bias=True, name="conv3"))
    x = b.relu(b.conv(x, 384, kernel=3, pad=1, group=2, bias=True, name="conv4"))
    x = b.relu(b.conv(x, 256, kernel=3, pad=1, group=2, bias=True, name="conv5"))
    x = b.flatten(b.max_pool(x, kernel=3, stride=2))
    x = b.relu(b.linear(x, 4096, name="fc6"))
    x = b.relu(b.linear(x, 4096, name="fc7"))
    return b.finish(b.linear(x, classes, name="fc8"))
