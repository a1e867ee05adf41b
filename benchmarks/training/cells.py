"""What is trained to judge predictions: networks, optimizers, precisions; which of them rules were made on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from peakmem.training.scenario import Optimizer, Scenario
from peakmem.training.tracing.step import Parts, Workload

HERE, STEPS = "benchmarks.training.models:", "benchmarks.training.steps:"


@dataclass(frozen=True, slots=True)
class Network:
    """One network with sizes at which a real step takes seconds."""

    target: str
    # what `peakmem train` takes
    batch: int
    resolution: int | None = None
    sequence: int | None = None
    fixed: bool = False
    # a step of the user's own, with its own optimizer: only as it is


RULES = (
    Network("resnet18", 4, 128),
    Network("resnet50", 2, 128),
    Network("mobilenet_v2", 4, 128),
    Network("vgg16", 1, 128),
    Network("unet_256", 2, 128),
    Network("gpt2", 1, None, 128),
    Network("vit_s16", 2, 224),
    Network(HERE + "lstm", 8, None, 48),
    Network(HERE + "convnext", 4, 128),
    Network(STEPS + "bert", 4, None, 128, fixed=True),
    Network(STEPS + "gan", 8, fixed=True),
)
# looked at while rules were made
UNTOUCHED = (
    Network(HERE + "detr", 2, 256),
    Network(HERE + "moe", 4, None, 128),
    Network(HERE + "diffusion", 4, 64),
    Network(HERE + "wavenet", 4, None, 2048),
)
# first predicted when the rules were made

SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": Optimizer("sgd", "single")},
    "momentum": {"optimizer": Optimizer("momentum", "single")},
    "adamw single": {"optimizer": Optimizer("adamw", "single")},
    "adamw foreach": {"optimizer": Optimizer("adamw", "foreach")},
    "adamw fused": {"optimizer": Optimizer("adamw", "fused")},
    "adamw single, bf16 autocast": {"optimizer": Optimizer("adamw", "single"), "precision": "amp-bf16"},
    "sgd, recompute": {"optimizer": Optimizer("sgd", "single"), "recompute": "blocks"},
    "momentum, gradients kept": {"optimizer": Optimizer("momentum", "single"), "set_to_none": False},
}
WITHOUT_BLOCKS = frozenset({"vgg16", "unet_256", HERE + "lstm"})
# no module repeats, so that there is nothing to recompute by blocks


@dataclass(frozen=True, slots=True)
class Cell:
    """One network under one scenario."""

    network: Network
    setting: str
    scenario: Scenario

    @property
    def name(self) -> str:
        """Both, for people and for files."""
        return f"{self.network.target} {self.setting}"


def cells() -> Iterator[Cell]:
    """All of them."""
    for network in (*RULES, *UNTOUCHED):
        sizes = {"batch": network.batch, "resolution": network.resolution, "sequence": network.sequence}
        if network.fixed:
            yield Cell(network, "own step", Scenario())
            continue
        for setting, fields in SETTINGS.items():
            if "recompute" not in fields or network.target not in WITHOUT_BLOCKS:
                yield Cell(network, setting, Scenario(**sizes, **fields))


@dataclass(frozen=True, slots=True)
class Written:
    """A function of `models`."""

    target: str
    scenario: Scenario

    @property
    def name(self) -> str:
        """Without the module."""
        return self.target.partition(":")[2]

    def build(self) -> Parts:
        """What the function gives."""
        module, _, function = self.target.partition(":")
        parts: Parts = getattr(import_module(module), function)(self.scenario)
        return parts


def workload(target: str, scenario: Scenario, _inputs: tuple[str, ...] = ()) -> Workload:
    """What a cell trains."""
    if ":" in target:
        return Written(target, scenario)
    from peakmem.training import networks

    made: Workload = networks.workload(target, scenario)
    return made
