"""The list of the zoo's networks: what they are called, where they come from, what can be chosen.

Data only: a network is built by a function named here as "module:function" and imported when it is
asked for. Published counts are of trainable parameters: weights, biases, scale and shift of norms;
neither running statistics nor literals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

Value: TypeAlias = int | float


@dataclass(frozen=True, slots=True)
class Option:
    """Something a caller may choose; the type of `default` is the type of the option."""

    name: str
    default: Value
    low: Value
    high: Value
    # both inclusive
    meaning: str
    choices: tuple[Value, ...] = ()
    # all there is to choose from; empty for anything from `low` to `high`


@dataclass(frozen=True, slots=True)
class Network:
    """One entry of the zoo."""

    name: str
    title: str
    source: str
    # the paper, and whose code decides what the paper leaves open
    parameters: int
    # the published count, with every option at its default
    builder: str
    # "module:function" in peakmem.zoo
    options: tuple[Option, ...]

    def option(self, name: str) -> Option | None:
        """The option called `name`, None when there is none."""
        return next((option for option in self.options if option.name == name), None)


CLASSES = Option("classes", 1000, 1, 10_000_000, "length of the result")
RESOLUTION = Option("resolution", 224, 1, 16_384, "rows and columns of the image")
WIDTH = Option("width", 1.0, 0.01, 32.0, "factor on the channels of every layer")
IMAGE = (CLASSES, RESOLUTION)
WIDE_IMAGE = (WIDTH, CLASSES, RESOLUTION)
UNET = (
    Option("channels", 1, 1, 65_536, "channels of the image"),
    Option("classes", 2, 1, 65_536, "channels of the result"),
    Option("features", 64, 1, 4096, "channels of the first layer; every level doubles them"),
)

_ALL = (
    Network(
        "alexnet", "AlexNet, one column", "Krizhevsky, 2014, arXiv:1404.5997; torchvision",
        61_100_840, "alexnet:alexnet", (CLASSES,),
    ),
    Network(
        "alexnet_2012", "AlexNet, two groups with response normalization",
        "Krizhevsky, Sutskever and Hinton, NeurIPS 2012; Caffe", 60_965_224, "alexnet:alexnet_2012", (CLASSES,),
    ),
    Network(
        "densenet161", "DenseNet-161", "Huang et al., 2016, arXiv:1608.06993; torchvision",
        28_681_000, "densenet:densenet161", IMAGE,
    ),
    Network(
        "efficientnet_b0", "EfficientNet-B0", "Tan and Le, 2019, arXiv:1905.11946; torchvision",
        5_288_548, "efficientnet:efficientnet_b0", IMAGE,
    ),
    Network(
        "googlenet", "GoogLeNet (Inception v1) with batch norm, without auxiliary classifiers",
        "Szegedy et al., 2014, arXiv:1409.4842; torchvision", 6_624_904, "googlenet:googlenet", IMAGE,
    ),
    Network(
        "gpt2_small", "GPT-2, 124M, head tied to the embedding",
        "Radford et al., 2019, Language Models are Unsupervised Multitask Learners; openai/gpt-2",
        124_439_808, "gpt2:gpt2_small",
        (
            Option("context", 1024, 1, 1_048_576, "tokens of the input"),
            Option("positions", 1024, 1, 1_048_576, "rows of the position table"),
            Option("layers", 12, 1, 1024, "decoder blocks"),
            Option("hidden", 768, 1, 131_072, "features of a token"),
            Option("heads", 12, 1, 1024, "attention heads; they divide the features"),
            Option("vocabulary", 50_257, 1, 10_000_000, "rows of the embedding table"),
        ),
    ),
    Network(
        "lstm_2layer", "LSTM, two layers, 128 to 256 to 256",
        "Hochreiter and Schmidhuber, 1997; torch.nn.LSTM(128, 256, num_layers=2, batch_first=True)",
        921_600, "lstm:lstm_2layer",
        (
            Option("sequence", 100, 1, 1_048_576, "steps of the input"),
            Option("features", 128, 1, 131_072, "features of the input"),
            Option("hidden", 256, 1, 131_072, "units of each layer"),
            Option("layers", 2, 1, 1024, "layers"),
        ),
    ),
    Network(
        "mobilenet_v1", "MobileNet V1", "Howard et al., 2017, arXiv:1704.04861; Keras",
        4_231_976, "mobilenet_v1:mobilenet_v1", WIDE_IMAGE,
    ),
    Network(
        "mobilenet_v2", "MobileNet V2", "Sandler et al., 2018, arXiv:1801.04381; torchvision",
        3_504_872, "mobilenet_v2:mobilenet_v2", WIDE_IMAGE,
    ),
    Network(
        "mobilenet_v3_large", "MobileNet V3, large", "Howard et al., 2019, arXiv:1905.02244; torchvision",
        5_483_032, "mobilenet_v3:mobilenet_v3_large", WIDE_IMAGE,
    ),
    Network(
        "mobilenet_v3_small", "MobileNet V3, small", "Howard et al., 2019, arXiv:1905.02244; torchvision",
        2_542_856, "mobilenet_v3:mobilenet_v3_small", WIDE_IMAGE,
    ),
    Network(
        "resnet18", "ResNet-18", "He et al., 2015, arXiv:1512.03385; torchvision",
        11_689_512, "resnet:resnet18", IMAGE,
    ),
    Network(
        "resnet50", "ResNet-50 (v1.5)", "He et al., 2015, arXiv:1512.03385; torchvision",
        25_557_032, "resnet:resnet50", IMAGE,
    ),
    Network(
        "shufflenet_v2", "ShuffleNet V2", "Ma et al., 2018, arXiv:1807.11164; torchvision",
        2_278_604, "shufflenet_v2:shufflenet_v2",
        (Option("width", 1.0, 0.5, 2.0, "one of the paper's four sizes", (0.5, 1.0, 1.5, 2.0)), *IMAGE),
    ),
    Network(
        "squeezenet1_1", "SqueezeNet 1.1", "Iandola et al., 2016, arXiv:1602.07360; torchvision",
        1_235_496, "squeezenet:squeezenet1_1", IMAGE,
    ),
    Network(
        "unet", "U-Net, valid convolutions and cropped skips, 572 in and 388 out",
        "Ronneberger, Fischer and Brox, 2015, arXiv:1505.04597; gchlebus/U-Net counts the same",
        31_030_658, "unet:unet",
        (*UNET, Option("resolution", 572, 188, 16_384, "rows and columns of the image, 16n + 12")),
    ),
    Network(
        "unet_256", "U-Net, padded, with batch norm",
        "Ronneberger, Fischer and Brox, 2015, arXiv:1505.04597; milesial/Pytorch-UNet",
        31_037_698, "unet:unet_256",
        (
            Option("channels", 3, 1, 65_536, "channels of the image"),
            *UNET[1:],
            Option("resolution", 256, 16, 16_384, "rows and columns of the image, a multiple of 16"),
        ),
    ),
    Network(
        "vgg16", "VGG-16 (configuration D)", "Simonyan and Zisserman, 2014, arXiv:1409.1556; torchvision",
        138_357_544, "vgg:vgg16", (CLASSES,),
    ),
    Network(
        "vit_s16", "Vision Transformer, small, patches of 16",
        "Dosovitskiy et al., 2020, arXiv:2010.11929; Touvron et al., 2020, arXiv:2012.12877; timm",
        22_050_664, "vit:vit_s16",
        (CLASSES, Option("resolution", 224, 16, 16_384, "rows and columns of the image, a multiple of 16")),
    ),
)  # fmt: skip

NETWORKS: Mapping[str, Network] = {network.name: network for network in _ALL}
