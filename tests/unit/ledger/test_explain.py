"""What would make a wrong claim true, with the numbers that others published."""

import pytest

from peakmem.ledger import check_claims

pytest.importorskip("yaml")


@pytest.fixture
def told(tmp_path):
    def told(claim, network="", compute="", quantity="", **context):
        settings = ", ".join(f"{key}: {value}" for key, value in {"network": network, **context}.items() if value)
        what = f"compute: '{compute}'" if compute else f"quantity: {quantity}"
        path = tmp_path / "claims.yaml"
        path.write_text(f"claims: [{{claim: '{claim}', {what}, context: {{{settings}}}}}]\n", encoding="utf-8")
        return check_claims(path).statements[0]

    return told


def test_widths_of_mobilenet(told):
    """2 to 4 MB of activations are those of width 0.35 to 0.5, 5 to 8 MB of parameters as well."""
    found = told("5-8 MB", "mobilenet_v2", quantity="model size")
    assert found.verdict == "wrong"
    assert any(one.change == "width 0.25, 0.35 or 0.5" for one in found.explanations)
    found = told("2-4 MB", "mobilenet_v2", quantity="peak")
    assert any(one.change.startswith("width") and "0.35 or 0.5" in one.change for one in found.explanations)


def test_no_reading_gives_it(told):
    found = told("161 MB", "resnet50", compute='layer_output("conv1", batch=32)')
    assert found.explanations == ()
    assert found.why.startswith("no reading gives it: float32 102.76 MB = 98.00 MiB (102,760,448 B)")
    assert found.searched > 50


def test_conventions(told):
    """Lin et al., 2020: 7.2 MB for ResNet-50, 6.8 MB for MobileNetV2, with the block's input held."""
    for network, claim in (("resnet50", "7.2 MB"), ("mobilenet_v2", "6.8 MB")):
        found = told(claim, network, quantity="peak")
        assert found.explanations[0].change.startswith("convention block_input_held")


@pytest.mark.slow
def test_two_changes(told):
    """And 1.7 MB for MobileNetV2 in int8."""
    found = told("1.7 MB", "mobilenet_v2", quantity="peak")
    assert "block_input_held" in found.explanations[0].change
    assert found.explanations[0].change.endswith("and dtype int8")


def test_dtypes_batches_resolutions_classes(told):
    assert told("23.4 MB", "resnet18", quantity="model size").explanations[0].change == "dtype float16"
    assert told("128 MB", "resnet18", quantity="peak", batch=16).explanations[0].change == "batch 32"
    found = told("1.97 MB", "mobilenet_v2", quantity="peak")
    assert [one.change for one in found.explanations] == ["resolution 128"]
    assert told("11.2M", "resnet18", quantity="parameters").explanations[0].change == "classes 2, 10, 20, 21 or 100"


def test_units_and_bits(told):
    assert told("14.02 kB", "mobilenet_v2", quantity="model size").explanations[0].change == "MB instead of kB"
    found = told("112.2 MB", "mobilenet_v2", quantity="model size")
    assert found.explanations[0].change == "Mbit (bits) instead of MB"


def test_parameters_of_another_kind(told):
    assert "running statistics" in told("3.54M", "mobilenet_v2", quantity="parameters").explanations[0].change
    found = told("13.4 MiB", "mobilenet_v2", quantity="weights")
    assert found.explanations[0].change == "trainable parameters (weights, biases, norms) alone"


@pytest.mark.slow
def test_another_network(told):
    found = told("16.9 MB", "mobilenet_v2", quantity="model size")
    assert found.explanations[0].change == "network mobilenet_v1"


@pytest.mark.slow
def test_training_steps(told):
    found = told("3.10 GB", "resnet50", quantity="training", batch=16, optimizer="adam")
    assert [one.change for one in found.explanations] == ["batch 32"]


def test_what_a_keyword_says_is_searched_as_well(told):
    found = told("3.21 MB", "resnet50", compute='layer_output("conv1", batch=32)')
    assert found.explanations[0].change == "batch 1"


@pytest.mark.slow
def test_two_different_values_of_a_knob_are_left_alone(told):
    found = told("9x", "resnet50", compute="live_fused(batch=2) / live_fused(batch=1)")
    assert not [one for one in found.explanations if one.change.startswith("batch")]


def test_the_same_question_gets_the_same_answer(told):
    assert told("2-4 MB", "mobilenet_v2", quantity="peak") == told("2-4 MB", "mobilenet_v2", quantity="peak")
