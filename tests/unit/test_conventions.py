"""Conventions against values computed elsewhere: a paper's table, a published benchmark, other tools.

Elements per image; × 4 for float32 bytes. The table was recomputed from the architectures by hand
and by separate scripts, not with peakmem.
"""

import pytest

import peakmem
from peakmem.conventions import CONVENTIONS

NETWORKS = ("vgg16", "resnet50", "densenet161", "mobilenet_v1", "mobilenet_v2")
TABLE = {
    "sum_outputs": (28_642_792, 37_559_784, 91_684_168, 15_130_088, 19_680_680),
    "feature_maps": (28_793_320, 37_710_312, 91_834_696, 15_280_616, 19_831_208),
    "sum_outputs_conv_linear": (13_556_712, 11_114_984, 11_064_808, 5_043_688, 6_679_112),
    "sum_outputs_conv": (13_547_520, 11_113_984, 11_063_808, 5_042_688, 6_678_112),
    "sum_outputs_fused": (15_087_080, 16_837_096, 54_066_280, 5_044_712, 6_896_776),
    "sum_outputs_inplace": (15_087_080, 27_951_080, 62_270_056, 10_087_400, 13_574_888),
    "largest_output": (3_211_264, 802_816, 1_204_224, 802_816, 1_204_224),
    "layer_in_out": (6_422_528, 1_204_224, 1_806_336, 1_204_224, 1_505_280),
    "layer_in_out_weights": (102_789_632, 2_484_736, 2_851_200, 1_206_272, 1_506_144),
    "layer_in_out_weights_sum": (161_015_976, 47_282_344, 67_779_304, 14_396_840, 16_916_072),
    "two_successive": (6_422_528, 1_605_632, 2_408_448, 1_605_632, 2_408_448),
    "two_successive_fused": (6_422_528, 1_605_632, 2_408_448, 1_204_224, 1_505_280),
    "live_naive": (6_422_528, 2_408_448, 3_161_088, 1_605_632, 2_408_448),
    "live_eager": (6_422_528, 2_408_448, 3_161_088, 1_605_632, 2_408_448),
    "live_inplace": (6_422_528, 2_408_448, 3_161_088, 1_605_632, 2_408_448),
    "live_fused": (6_422_528, 2_408_448, 3_161_088, 1_204_224, 1_505_280),
    "live_fused_add": (6_422_528, 1_806_336, 3_161_088, 1_204_224, 1_505_280),
}
PARAMETERS = dict(zip(NETWORKS, (138_357_544, 25_557_032, 28_681_000, 4_231_976, 3_504_872), strict=True))


@pytest.fixture(scope="module")
def reports():
    return {name: peakmem.estimate(name) for name in NETWORKS}


@pytest.mark.parametrize("convention", TABLE)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_table(reports, network, convention):
    elements = TABLE[convention][NETWORKS.index(network)]
    assert reports[network].convention(convention).nbytes == 4 * elements


@pytest.mark.parametrize("network", NETWORKS)
def test_conventions_made_of_others(reports, network):
    report = reports[network]
    weights = report.weights_bytes
    two = 4 * TABLE["two_successive"][NETWORKS.index(network)]
    assert report.convention("two_successive_weights").nbytes == weights + two
    for name in ("naive", "eager", "inplace", "fused", "fused_add"):
        live = 4 * TABLE[f"live_{name}"][NETWORKS.index(network)]
        assert report.convention(f"resident_{name}").nbytes == weights + live
        assert report.peaks[name] == live
    assert report.convention("torchsummary").nbytes == 8 * TABLE["sum_outputs"][NETWORKS.index(network)]


def test_the_mcunet_table_needs_the_block_input():
    # MCUNet (Lin et al. 2020): 7.2 MB, 6.8 MB and, in int8, 1.7 MB.
    assert peakmem.estimate("resnet50").convention("block_input_held").nbytes == 7_225_344
    assert peakmem.estimate("mobilenet_v2").convention("block_input_held").nbytes == 6_823_936
    assert peakmem.estimate("mobilenet_v2", dtype="int8").convention("block_input_held").nbytes == 1_705_984


def test_mcunet_code_holds_the_shortcut_at_the_depthwise_convolution_only():
    assert peakmem.estimate("mobilenet_v2").convention("mcunet_code").nbytes == 4 * 1_505_280
    assert peakmem.estimate("resnet50").convention("mcunet_code").nbytes == 4 * 1_204_224


def test_torchsummary_prints_286_56_for_resnet50(reports):
    # torchsummary 1.5.1 prints "Forward/backward pass size (MB): 286.56", in MiB.
    assert round(reports["resnet50"].convention("torchsummary").nbytes / 2**20, 2) == 286.56


@pytest.mark.parametrize(
    ("network", "megabytes"), [("mobilenet_v1", 80.7), ("mobilenet_v2", 106.9), ("resnet50", 177.8)]
)
def test_torchinfo_totals(reports, network, megabytes):
    # torchinfo 1.8.0 run on the same networks, batch 1, decimal megabytes.
    assert round(reports[network].convention("torchinfo").nbytes / 1e6, 1) == megabytes


@pytest.mark.parametrize(
    ("convention", "nbytes"),
    [
        ("sum_outputs", 4_807_652_352), ("sum_outputs_inplace", 3_577_738_240), ("sum_outputs_fused", 2_155_148_288),
        ("sum_outputs_conv_linear", 1_422_717_952), ("torchsummary", 9_615_304_704), ("live_eager", 308_281_344),
        ("live_fused_add", 231_211_008),
    ],
)  # fmt: skip
def test_resnet50_at_batch_32(convention, nbytes):
    assert peakmem.estimate("resnet50", batch=32).convention(convention).nbytes == nbytes


@pytest.mark.parametrize("network", NETWORKS)
def test_parameters(reports, network):
    assert reports[network].parameters.trainable == PARAMETERS[network]


def test_every_convention_says_what_it_is():
    for name, convention in CONVENTIONS.items():
        assert name == convention.name
        assert all((convention.title, convention.formula, convention.source, convention.includes))
        assert convention.excludes
        assert (convention.per_layer is None) == (convention.row_formula == "")


def test_block_input_without_module_paths_spans_a_tensor_read_twice():
    """The same residual network without scopes: the shortcut is still seen."""
    from dataclasses import replace

    from peakmem.binding import bound
    from peakmem.ir.shapes import infer
    from peakmem.pipeline import load
    from peakmem.study import Study

    graph = bound(load("resnet50"))
    bare = replace(graph, operators=tuple(replace(op, scope="") for op in graph.operators))
    assert CONVENTIONS["block_input_held"].compute(Study(infer(bare))).nbytes == 7_225_344


def test_the_path_of_the_network_is_no_block():
    """All layers but an unnamed one lie under one path, as in files made from Keras: that path is the network."""
    from dataclasses import replace

    from peakmem.ir.builder import GraphBuilder
    from peakmem.study import Study

    builder = GraphBuilder("net")
    x = builder.input("x", (1, 3, 8, 8))
    for _ in range(3):
        x = builder.conv(x, 8, kernel=3, pad=1)
    graph = builder.finish(x)
    scopes = ("net/conv_a", "net/conv_b", "")
    named = tuple(replace(op, scope=scope) for op, scope in zip(graph.operators, scopes, strict=True))
    held = CONVENTIONS["block_input_held"].compute(Study(replace(graph, operators=named)))
    assert held.nbytes == 2 * 8 * 64 * 4  # input and output of a layer, the network's input is not held


def test_networks_without_layers_that_count_give_zero(chain):
    from peakmem.study import Study

    study = Study(chain([("Relu", ["x"], "a", 4)], inputs={"x": 4}, outputs=["a"]))
    for name in ("layer_in_out", "block_input_held", "mcunet_code", "sum_outputs_conv", "layer_in_out_weights"):
        measure = CONVENTIONS[name].compute(study)
        assert (measure.nbytes, measure.operator) == (0, "")
    assert CONVENTIONS["two_successive"].compute(study).nbytes == 16
    empty = Study(chain([], inputs={"x": 4}, outputs=["x"]))
    assert {name: item.compute(empty).nbytes for name, item in CONVENTIONS.items() if name.startswith("live")} == {
        f"live_{name}": 16 for name in ("naive", "eager", "inplace", "fused", "fused_add")
    }
    assert CONVENTIONS["two_successive"].compute(empty).nbytes == 0
