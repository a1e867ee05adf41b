"""Networks of timm and torchvision, built by those packages: `timm:resnet50`, `torchvision:convnext_tiny`.

Images with a label each, cross entropy; no weights are loaded. torchvision's detectors and segmenters need batches of
their own: a step of the user's own serves them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch.nn import functional

from peakmem.errors import MissingLibrary, UsageError
from peakmem.frontends.torch.fake import quiet
from peakmem.training.networks.building import building, finished, made, only
from peakmem.training.networks.built_in import AUXILIARY
from peakmem.training.scenario import Scenario
from peakmem.training.tracing.step import Parts, Workload

BATCH = 32
RESOLUTION = 224


@dataclass(frozen=True, slots=True)
class Packaged:
    """A network of a package, under a scenario."""

    name: str
    make: Callable[[dict[str, Any]], tuple[Any, int]]
    # from the options to the network and the side of its images
    scenario: Scenario
    options: dict[str, Any] = field(default_factory=dict)

    def build(self) -> Parts:
        """See `step.Workload`."""
        batch = self.scenario.batch or BATCH
        only("resolution", self.scenario, self.name)
        with building(self.scenario) as dtype, quiet():
            options = dict(self.options)
            if self.scenario.resolution:
                options["resolution"] = self.scenario.resolution
            side = RESOLUTION

            def build() -> Any:
                nonlocal side
                model, side = self.make(options)
                return model

            model = made(build, self.scenario)
            images = torch.randn(batch, 3, side, side, dtype=dtype)
            classes = self.options.get("num_classes", 1000)
            labels = torch.randint(0, classes if isinstance(classes, int) else 1000, (batch,))

        def loss() -> Any:
            scores = model(images)
            if isinstance(scores, tuple):
                first, *others = (item for item in scores if item is not None)
                total = functional.cross_entropy(first, labels)
                for other in others:
                    total = total + AUXILIARY * functional.cross_entropy(other, labels)
                return total
            return functional.cross_entropy(scores, labels)

        said = f"{batch} images of {side}x{side}, cross entropy with a class for each image"
        return finished(model, loss, batch, (said, f"built by {self.name.split(':')[0]}"))


def packaged(name: str, scenario: Scenario, options: dict[str, Any]) -> Workload:
    """The workload of `timm:NAME` or `torchvision:NAME`.

    Raises:
        MissingLibrary: the package is not installed, or cannot be imported.
        UsageError: it has no such network.
    """
    package, wanted = name.split(":", 1)
    make = (_timm if package == "timm" else _torchvision)(wanted)
    return Packaged(name, make, scenario, options)


def _refused(package: str, wanted: str, near: list[str]) -> UsageError:
    return UsageError(
        f"{package} has no network called {wanted!r}",
        expected="one of " + (", ".join(near[:5]) or f"{package}'s names"),
    )


def _timm(wanted: str) -> Callable[[dict[str, Any]], tuple[Any, int]]:
    try:
        with quiet():
            import timm
    except (ImportError, RuntimeError):
        raise MissingLibrary("timm", extra="timm", purpose=f"building {wanted}") from None
    if not timm.is_model(wanted):
        raise _refused("timm", wanted, timm.list_models(f"*{wanted[:6]}*"))

    def make(options: dict[str, Any]) -> tuple[Any, int]:
        side = options.pop("resolution", None)
        try:
            model = timm.create_model(wanted, pretrained=False, **(options | ({"img_size": side} if side else {})))
        except TypeError:  # only networks with positions take the size
            model = timm.create_model(wanted, pretrained=False, **options)
        own = model.pretrained_cfg.get("input_size", (3, RESOLUTION, RESOLUTION))[-1]
        return model, int(side or own)

    return make


def _torchvision(wanted: str) -> Callable[[dict[str, Any]], tuple[Any, int]]:
    try:
        with quiet():
            torchvision = import_module("torchvision")
    except (ImportError, RuntimeError):
        raise MissingLibrary("torchvision", extra="torchvision", purpose=f"building {wanted}") from None
    names = torchvision.models.list_models(module=torchvision.models)
    if wanted not in names:
        raise _refused("torchvision", wanted, [item for item in names if item.startswith(wanted[:5])])

    def make(options: dict[str, Any]) -> tuple[Any, int]:
        side = options.pop("resolution", None)
        weights = torchvision.models.get_model_weights(wanted).DEFAULT
        own = int(side or (299 if wanted == "inception_v3" else _crop(weights)))
        if wanted.startswith("vit_") and "image_size" not in options:
            options["image_size"] = own
        return torchvision.models.get_model(wanted, weights=None, **options), own

    return make


def _crop(weights: Any) -> int:
    size = weights.transforms().crop_size if weights is not None else [RESOLUTION]
    return int(size[0] if isinstance(size, list | tuple) else size)
