"""VGG-16, configuration D (Simonyan and Zisserman, 2014, arXiv:1409.1556, table 1).

Its classifier is made for a map of 7x7, so the image is 224x224 and nothing else. A plain chain
has no blocks: the names are torchvision's, and there are no scopes.
"""

from __future__ import annotations

from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Dim
from peakmem.ir.graph import Graph
from peakmem.zoo.layers import image

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
# channels and convolutions of each stage; a pooling ends it


def vgg16(batch: Dim, *, classes: int) -> Graph:
    """The network, without batch normalization."""
    b = GraphBuilder("vgg16")
    x = image(b, batch, 224)
    position = 0
    for channels, convolutions in STAGES:
        for _ in range(convolutions):
            x = b.relu(b.conv(x, channels, kernel=3, pad=1, bias=True, name=f"features.{position}"))
            position += 2
        x = b.max_pool(x, kernel=2, stride=2)
        position += 1
    x = b.flatten(x)
    x = b.relu(b.linear(x, 4096, name="classifier.0"))
    x = b.relu(b.linear(x, 4096, name="classifier.3"))
    return b.finish(b.linear(x, classes, name="classifier.6"))
