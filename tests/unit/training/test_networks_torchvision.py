"""Our image networks against torchvision's and timm's own: every allocation and release of two steps, one by one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.unit.training.networks_events import events, first_difference, peer  # noqa: E402

from peakmem.training.networks import workload  # noqa: E402
from peakmem.training.networks.building import unfilled  # noqa: E402
from peakmem.training.scenario import Scenario  # noqa: E402

FAST = ("resnet18", "mobilenet_v2", "mobilenet_v3_small", "squeezenet1_1", "vgg11_bn", "efficientnet_b0")
SLOW = (
    "alexnet", "googlenet", "densenet121", "densenet161", "efficientnet_b5", "efficientnet_v2_s", "mobilenet_v3_large",
    "resnet50", "resnext50_32x4d", "shufflenet_v2_x1_0", "squeezenet1_0", "vgg16", "vit_b_16", "wide_resnet50_2",
)  # fmt: skip


def step_of(build: Callable[[], Any], side: int, seen: dict[str, Any]) -> Callable[[], Callable[[], Any]]:
    def make() -> Callable[[], Any]:
        with unfilled():
            model = build()
        model.train()
        images, labels = torch.randn(2, 3, side, side), torch.randint(0, 1000, (2,))
        seen["names"] = [name for name, _ in model.named_parameters()]
        seen["sizes"] = [tuple(item.shape) for item in model.parameters()]

        def step() -> Any:
            scores = model(images)
            if not isinstance(scores, tuple):
                return torch.nn.functional.cross_entropy(scores, labels)
            first, second, third = (torch.nn.functional.cross_entropy(item, labels) for item in scores)
            return first + second + third

        return step

    return make


def equal(name: str, theirs: Callable[[], Any], side: int) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    ours, peers = {}, {}

    def own() -> Any:
        return workload(name, Scenario(batch=1, resolution=side)).build().model

    with FakeTensorMode(allow_non_fake_inputs=True):
        found = events(step_of(own, side, ours))
    with FakeTensorMode(allow_non_fake_inputs=True):
        wanted = events(step_of(theirs, side, peers))
    assert ours == peers
    for at, (one, other) in enumerate(zip(found[1:], wanted[1:], strict=True)):
        assert not first_difference(one, other), f"step {at}"


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_a_network_allocates_what_torchvisions_does(name: str) -> None:
    models = peer("torchvision").models
    side = 224 if name.startswith(("alexnet", "googlenet")) else 64
    given = {"image_size": side} if name.startswith("vit") else {}
    if name == "googlenet":
        given = {"init_weights": False}

    def theirs() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return models.get_model(name, weights=None, **given)

    equal(name, theirs, side)


@pytest.mark.slow
def test_the_small_vision_transformer_allocates_what_timms_does() -> None:
    timm = peer("timm")

    def theirs() -> Any:
        from peakmem.training.networks.building import building

        with building(Scenario()):
            return timm.create_model("vit_small_patch16_224", pretrained=False, img_size=64)

    equal("vit_s16", theirs, 64)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["timm:resnet18", "torchvision:resnet18"])
def test_a_package_gives_the_same_network(name: str) -> None:
    peer(name.split(":")[0])
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True):
        parts = workload(name, Scenario(batch=2, resolution=64)).build()
        assert parts.loss().shape == ()
    assert sum(item.numel() for item in parts.model.parameters()) == 11_689_512
    assert len(parts.blocks) == 8


def test_a_package_without_the_network() -> None:
    from peakmem.errors import UsageError

    peer("torchvision")
    with pytest.raises(UsageError, match="no network called 'resnet17'"):
        workload("torchvision:resnet17", Scenario())
