"""Which networks can be trained by name, and what their batch is when nobody says. Data only: no torch here.

The names are those of `peakmem zoo`, and torchvision's, timm's and Hugging Face's for their relatives. A builder is
named as "module:function" in this package and imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["classes", "pixels", "tokens", "states"]
# what is predicted: the class of an image, of each of its pixels, the next token, the states of a recurrent network

IMAGE = 224


@dataclass(frozen=True, slots=True)
class Entry:
    """One network."""

    name: str
    builder: str
    given: tuple[tuple[str, object], ...] = ()
    # arguments of the builder
    positional: tuple[object, ...] = ()
    kind: Kind = "classes"
    batch: int = 32
    resolution: int = IMAGE
    sequence: int = 0
    sized: bool = False
    # whether the builder takes the resolution
    outcome: str = "logits"
    # "logits", or "auxiliary": with those of auxiliary classifiers
    note: str = ""


def _families() -> Iterator[Entry]:
    for depth in (11, 13, 16, 19):
        yield Entry(f"vgg{depth}", "vgg:vgg", positional=(depth,), note="dropout 0.5 twice")
        yield Entry(f"vgg{depth}_bn", "vgg:vgg", (("norm", True),), (depth,), note="dropout 0.5 twice")
    for depth in (18, 34, 50, 101, 152):
        yield Entry(f"resnet{depth}", "resnet:resnet", positional=(depth,))
    for name, depth, groups, width in (
        ("resnext50_32x4d", 50, 32, 4), ("resnext101_32x8d", 101, 32, 8), ("resnext101_64x4d", 101, 64, 4),
        ("wide_resnet50_2", 50, 1, 128), ("wide_resnet101_2", 101, 1, 128),
    ):  # fmt: skip
        yield Entry(name, "resnet:resnet", (("groups", groups), ("width", width)), (depth,))
    for depth in (121, 161, 169, 201):
        yield Entry(f"densenet{depth}", "densenet:densenet", positional=(depth,))
    resolutions = (224, 240, 288, 300, 380, 456, 528, 600)
    for number, resolution in enumerate(resolutions):
        yield Entry(f"efficientnet_b{number}", "efficientnet:efficientnet", positional=(number,), resolution=resolution,
                    note="stochastic depth up to 0.2, dropout in place")  # fmt: skip
    for size, resolution in (("s", 384), ("m", 480), ("l", 480)):
        yield Entry(f"efficientnet_v2_{size}", "efficientnet:efficientnet_v2", positional=(size,),
                    resolution=resolution, note="stochastic depth up to 0.2, dropout in place")  # fmt: skip
    for size in ("large", "small"):
        yield Entry(
            f"mobilenet_v3_{size}", "mobilenet_v3:mobilenet_v3", positional=(size,), note="dropout 0.2 in place"
        )
    for name, factor in (("x0_5", 0.5), ("x1_0", 1.0), ("x1_5", 1.5), ("x2_0", 2.0)):
        yield Entry(f"shufflenet_v2_{name}", "shufflenet_v2:shufflenet_v2", (("width", factor),))
    yield Entry("shufflenet_v2", "shufflenet_v2:shufflenet_v2")
    for version in ("1_0", "1_1"):
        yield Entry(f"squeezenet{version}", "squeezenet:squeezenet", positional=(version,), note="dropout 0.5")
    for size, patch in (("b", 16), ("b", 32), ("l", 16), ("l", 32)):
        yield Entry(f"vit_{size}_{patch}", "vit:vit", (("patch", patch),), (size,), sized=True, note="no dropout")
    for name, size in (("tiny", "ti"), ("small", "s"), ("base", "b"), ("large", "l")):
        yield Entry(f"vit_{name}_patch16_224", "vit:timm_vit", (("patch", 16),), (size,), sized=True, note="no dropout")
    yield Entry("vit_s16", "vit:timm_vit", (("patch", 16),), ("s",), sized=True, note="no dropout")
    for name, size in (("gpt2_small", "small"), ("gpt2", "small"), ("gpt2_medium", "medium"), ("gpt2_large", "large"),
                       ("gpt2_xl", "xl")):  # fmt: skip
        yield Entry(name, "gpt2:gpt2", positional=(size,), kind="tokens", batch=4, sequence=1024,
                    note="dropout 0.1, the head is the embedding's matrix")  # fmt: skip


_ALL = (
    Entry("alexnet", "alexnet:alexnet", note="dropout 0.5 twice"),
    Entry("alexnet_2012", "alexnet:alexnet_2012", resolution=227, note="dropout 0.5 twice"),
    Entry("googlenet", "googlenet:googlenet", outcome="auxiliary",
          note="with both auxiliary classifiers, their losses times 0.3 (Szegedy et al., 2014, section 5)"),
    Entry("mobilenet_v1", "mobilenet:mobilenet_v1", note="dropout 0.001"),
    Entry("mobilenet_v2", "mobilenet:mobilenet_v2", note="dropout 0.2"),
    Entry("lstm_2layer", "lstm:lstm", kind="states", batch=64, sequence=100, note="no dropout"),
    Entry("unet", "unet:unet", kind="pixels", batch=1, resolution=572, note="no dropout"),
    Entry("unet_256", "unet:unet_256", kind="pixels", batch=8, resolution=256),
    *_families(),
)  # fmt: skip

NETWORKS: Mapping[str, Entry] = {entry.name: entry for entry in _ALL}
