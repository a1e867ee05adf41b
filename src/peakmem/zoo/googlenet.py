"""GoogLeNet, Inception v1 (Szegedy et al., 2014, arXiv:1409.4842, table 1), as torchvision runs it.

Torchvision's form adds batch normalization, and its third branch has a kernel of 3 where the paper
has 5. The two auxiliary classifiers exist only while training and are left out. One scope is one
inception module; its branches are names, not scopes.
"""

from __future__ import annotations

from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Dim
from peakmem.ir.graph import Graph
from peakmem.zoo.layers import classifier, conv_bn, image

MODULES = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "maxpool3": (3,),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "maxpool4": (2,),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
# channels: branch 1; reduction and output of branch 2, of branch 3; branch 4. For a pooling: kernel


def _inception(b: GraphBuilder, x: str, one: int, two_in: int, two: int, three_in: int, three: int, four: int) -> str:
    first = conv_bn(b, x, one, kernel=1, act=b.relu, name="branch1")
    second = conv_bn(b, x, two_in, kernel=1, act=b.relu, name="branch2.0")
    second = conv_bn(b, second, two, kernel=3, act=b.relu, name="branch2.1")
    third = conv_bn(b, x, three_in, kernel=1, act=b.relu, name="branch3.0")
    third = conv_bn(b, third, three, kernel=3, act=b.relu, name="branch3.1")
    fourth = b.max_pool(x, kernel=3, stride=1, pad=1, ceil=True)
    fourth = conv_bn(b, fourth, four, kernel=1, act=b.relu, name="branch4.1")
    return b.concat([first, second, third, fourth])


def googlenet(batch: Dim, *, classes: int, resolution: int) -> Graph:
    """The inference network."""
    b = GraphBuilder("googlenet")
    x = image(b, batch, resolution)
    x = conv_bn(b, x, 64, kernel=7, stride=2, act=b.relu, name="conv1")
    x = b.max_pool(x, kernel=3, stride=2, ceil=True)
    x = conv_bn(b, x, 64, kernel=1, act=b.relu, name="conv2")
    x = conv_bn(b, x, 192, kernel=3, act=b.relu, name="conv3")
    x = b.max_pool(x, kernel=3, stride=2, ceil=True)
    for name, sizes in MODULES.items():
        if name.startswith("maxpool"):
            x = b.max_pool(x, kernel=sizes[0], stride=2, ceil=True)
            continue
        with b.scope(name):
            x = _inception(b, x, *sizes)
    return b.finish(classifier(b, x, classes))
