"""The networks against what their papers and best known implementations publish."""

from __future__ import annotations

from typing import Any

import pytest

from peakmem.errors import ShapeError
from peakmem.ir.dims import Symbol
from peakmem.ir.graph import Graph, Operator
from peakmem.ir.shapes import bind, infer
from peakmem.zoo import NETWORKS, build

# Trainable parameters. Torchvision's counts are `num_params` in the metadata of its weights.
PUBLISHED = {
    "alexnet": 61_100_840,  # torchvision AlexNet_Weights.IMAGENET1K_V1
    "alexnet_2012": 60_965_224,  # BVLC AlexNet, Caffe model zoo
    "densenet161": 28_681_000,  # torchvision DenseNet161_Weights
    "efficientnet_b0": 5_288_548,  # torchvision EfficientNet_B0_Weights
    "googlenet": 6_624_904,  # torchvision GoogLeNet_Weights, without auxiliary classifiers
    "gpt2_small": 124_439_808,  # openai-community/gpt2, transformers' num_parameters()
    "lstm_2layer": 921_600,  # torch.nn.LSTM(128, 256, num_layers=2)
    "mobilenet_v1": 4_231_976,  # keras.applications.MobileNet, trainable
    "mobilenet_v2": 3_504_872,  # torchvision MobileNet_V2_Weights
    "mobilenet_v3_large": 5_483_032,  # torchvision MobileNet_V3_Large_Weights
    "mobilenet_v3_small": 2_542_856,  # torchvision MobileNet_V3_Small_Weights
    "resnet18": 11_689_512,  # torchvision ResNet18_Weights
    "resnet50": 25_557_032,  # torchvision ResNet50_Weights
    "shufflenet_v2": 2_278_604,  # torchvision ShuffleNet_V2_X1_0_Weights
    "squeezenet1_1": 1_235_496,  # torchvision SqueezeNet1_1_Weights
    "unet": 31_030_658,  # gchlebus/U-Net, counted over TensorFlow's trainable variables
    "unet_256": 31_037_698,  # milesial/Pytorch-UNet, UNet(3, 2, bilinear=False)
    "vgg16": 138_357_544,  # torchvision VGG16_Weights
    "vit_s16": 22_050_664,  # timm vit_small_patch16_224
}

# Elements per image (the project's conventions table): outputs of all operators but views; of
# convolutions and fully connected layers; of convolutions.
SUMS = {
    "vgg16": (28_642_792, 13_556_712, 13_547_520),
    "resnet50": (37_559_784, 11_114_984, 11_113_984),
    "densenet161": (91_684_168, 11_064_808, 11_063_808),
    "mobilenet_v1": (15_130_088, 5_043_688, 5_042_688),
    "mobilenet_v2": (19_680_680, 6_679_112, 6_678_112),
}

# Shape of the result after the batch.
RESULTS = {"gpt2_small": (1024, 50_257), "lstm_2layer": (100, 256), "unet": (2, 388, 388), "unet_256": (2, 256, 256)}

ANY_RESOLUTION = sorted(
    name for name, network in NETWORKS.items() if network.option("resolution") and name not in ("unet", "vit_s16")
)
LAYERS = ("Conv", "ConvTranspose", "Gemm")


def trainable(graph: Graph) -> int:
    """Parameters without running statistics, counted here rather than by the code under test."""
    statistics = {name for op in graph.operators if op.op_type == "BatchNormalization" for name in op.inputs[3:5]}
    return sum(
        tensor.count or 0
        for tensor in graph.tensors.values()
        if tensor.role == "constant" and tensor.parameter and tensor.name not in statistics
    )


def outputs(graph: Graph, *op_types: str) -> int:
    """Elements that operators of these types make."""
    return sum(
        graph.tensors[name].count or 0 for op in graph.operators if op.op_type in op_types for name in op.outputs
    )


def result(graph: Graph) -> tuple[object, ...] | None:
    (name,) = graph.outputs
    return graph.tensors[name].shape


def test_every_network_has_a_published_count() -> None:
    assert {name: network.parameters for name, network in NETWORKS.items()} == PUBLISHED


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_are_exactly_the_published_ones(name: str) -> None:
    assert trainable(build(name)) == PUBLISHED[name]


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("shufflenet_v2", {"width": 0.5}, 1_366_792),  # torchvision ShuffleNet_V2_X0_5_Weights
        ("shufflenet_v2", {"width": 1.5}, 3_503_624),  # torchvision ShuffleNet_V2_X1_5_Weights
        ("shufflenet_v2", {"width": 2.0}, 7_393_996),  # torchvision ShuffleNet_V2_X2_0_Weights
        ("unet", {"classes": 1}, 31_030_593),  # the count for one class that many repositories print
        ("gpt2_small", {"layers": 24, "hidden": 1024, "heads": 16}, 354_823_168),  # openai-community/gpt2-medium
        ("gpt2_small", {"context": 256}, 124_439_808),  # a shorter input stores no less
        ("resnet50", {"resolution": 448}, 25_557_032),
    ],
)
def test_options_give_the_relatives_published_counts(name: str, options: dict[str, Any], count: int) -> None:
    assert trainable(build(name, **options)) == count


@pytest.mark.parametrize(("width", "millions"), [(1.0, 4.2), (0.75, 2.6), (0.5, 1.3), (0.25, 0.5)])
def test_mobilenet_v1_widths_match_the_papers_table_6(width: float, millions: float) -> None:
    assert round(trainable(build("mobilenet_v1", width=width)) / 1e6, 1) == millions


def test_counts_follow_from_hand_formulas() -> None:
    v, p, d, n = 50_257, 1024, 768, 12
    assert trainable(build("gpt2_small")) == v * d + p * d + n * (12 * d * d + 13 * d) + 2 * d
    i, h = 40, 24
    layers = sum(4 * (inside * h + h * h + 2 * h) for inside in (i, h))
    assert trainable(build("lstm_2layer", features=i, hidden=h)) == layers
    pairs = [(32, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512)]
    pairs += [(512, 512)] * 5 + [(512, 1024), (1024, 1024)]
    separable = sum(9 * a + 2 * a + a * b + 2 * b for a, b in pairs)
    assert trainable(build("mobilenet_v1")) == 27 * 32 + 64 + separable + 1024 * 1000 + 1000
    # Only the last layer depends on the classes.
    assert trainable(build("vgg16")) - trainable(build("vgg16", classes=10)) == 990 * (4096 + 1)


@pytest.mark.parametrize("name", SUMS)
def test_sums_of_outputs_match_the_conventions_table(name: str) -> None:
    graph = build(name)
    every = {op.op_type for op in graph.operators}
    counted = outputs(graph, *(every - {"Flatten"})), outputs(graph, "Conv", "Gemm"), outputs(graph, "Conv")
    assert counted == SUMS[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_results_have_the_right_shape(name: str) -> None:
    graph = build(name, batch=2)
    assert result(graph) == (2, *RESULTS.get(name, (1000,)))
    assert not graph.unknowns
    assert graph.source == "zoo"


@pytest.mark.parametrize("name", NETWORKS)
def test_a_symbolic_batch_binds_to_what_a_number_gives(name: str) -> None:
    symbolic = build(name, batch=Symbol("batch"))
    assert result(symbolic) == (Symbol("batch"), *RESULTS.get(name, (1000,)))
    bound = infer(bind(symbolic, {}, {"batch": 4}))
    assert {key: tensor.shape for key, tensor in bound.tensors.items()} == {
        key: tensor.shape for key, tensor in build(name, batch=4).tensors.items()
    }
    assert not bound.unknowns
    assert not bound.notes


@pytest.mark.parametrize("name", ANY_RESOLUTION)
def test_another_image_binds_to_what_building_for_it_gives(name: str) -> None:
    graph = build(name)
    channels = graph.tensors["input"].shape[1]  # type: ignore[index]
    bound = infer(bind(graph, {"input": (8, channels, 192, 192)}, {}), trust_declared=False)
    assert {key: tensor.shape for key, tensor in bound.tensors.items()} == {
        key: tensor.shape for key, tensor in build(name, batch=8, resolution=192).tensors.items()
    }


def test_the_paper_unet_crops_whatever_fits() -> None:
    bound = infer(bind(build("unet"), {"input": (1, 1, 188, 204)}, {}), trust_declared=False)
    assert result(bound) == (1, 2, 4, 20)


@pytest.mark.parametrize("name", ["vgg16", "alexnet", "alexnet_2012", "vit_s16"])
def test_networks_made_for_one_resolution_refuse_others(name: str) -> None:
    with pytest.raises(ShapeError):
        infer(bind(build(name), {"input": (1, 3, 192, 192)}, {}), trust_declared=False)


def test_gpt2_follows_another_sequence() -> None:
    graph = build("gpt2_small", batch=Symbol("batch"), layers=1)
    bound = infer(bind(graph, {"input_ids": (3, 77)}, {}), trust_declared=False)
    assert result(bound) == (3, 77, 50_257)
    assert bound.tensors["wpe:out"].shape == (77, 768)
    assert bound.tensors["mask:out"].shape == (77, 77)


def test_gpt2_has_one_table_with_two_readers() -> None:
    graph = build("gpt2_small")
    readers = [graph.operators[step].op_type for step in graph.consumers()["wte/weight"]]
    assert readers == ["Gather", "Gemm"]


def test_lstm_follows_another_sequence() -> None:
    bound = infer(bind(build("lstm_2layer"), {"input": (4, 33, 128)}, {}), trust_declared=False)
    assert result(bound) == (4, 33, 256)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_operators_name_is_its_scope_and_one_part_more(name: str) -> None:
    for op in build(name).operators:
        scope, _, _ = op.name.rpartition("/")
        assert scope == op.scope


def enclosing(graph: Graph, operator: Operator) -> str:
    """The deepest scope around `operator` with two convolutions or linear layers; "" for none."""
    counts: dict[str, int] = {}
    for op in graph.operators:
        parts = op.scope.split("/") if op.scope else []
        for depth in range(1, len(parts) + 1):
            prefix = "/".join(parts[:depth])
            counts[prefix] = counts.get(prefix, 0) + (op.op_type in LAYERS)
    scope = operator.scope
    while scope and counts[scope] < 2:
        scope = scope.rpartition("/")[0]
    return scope


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("resnet18", {f"layer{i}.{j}" for i in range(1, 5) for j in range(2)}),
        ("resnet50", {f"layer{i}.{j}" for i, n in enumerate((3, 4, 6, 3), 1) for j in range(n)}),
        ("mobilenet_v1", {f"Conv2d_{i}" for i in range(1, 14)}),
        ("mobilenet_v2", {f"features.{i}" for i in range(1, 18)}),
        (
            "densenet161",
            {f"denseblock{i}.denselayer{j}" for i, n in enumerate((6, 12, 36, 24), 1) for j in range(1, n + 1)},
        ),
        ("squeezenet1_1", {f"features.{i}" for i in (3, 4, 6, 7, 9, 10, 11, 12)}),
        ("googlenet", {f"inception{i}" for i in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")}),
        ("shufflenet_v2", {f"stage{i}.{j}" for i, n in ((2, 4), (3, 8), (4, 4)) for j in range(n)}),
        ("vgg16", set()),
    ],
)
def test_scopes_are_the_blocks(name: str, blocks: set[str]) -> None:
    graph = build(name)
    found = {enclosing(graph, op) for op in graph.operators if op.op_type in LAYERS}
    assert found - {""} == blocks


def test_squeeze_and_excitation_nests_inside_its_block() -> None:
    graph = build("mobilenet_v3_small")
    scopes = {op.scope for op in graph.operators if op.name.endswith("/fc1")}
    assert scopes == {f"features.{i}/se" for i in (1, 4, 5, 6, 7, 8, 9, 10, 11)}
    adds = [op for op in graph.operators if op.op_type == "Add"]
    assert {enclosing(graph, op) for op in adds} == {f"features.{i}" for i in (3, 5, 6, 8, 10, 11)}
