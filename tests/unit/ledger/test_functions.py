"""What expressions call, against counts of papers and tools, and arithmetic by hand."""

from fractions import Fraction

import pytest

from peakmem.conventions import CONVENTIONS
from peakmem.errors import MissingLibrary, UsageError
from peakmem.ledger.context import Context, changed, described
from peakmem.ledger.evaluation import evaluate
from peakmem.ledger.expression import parse
from peakmem.ledger.figures import Figures
from peakmem.ledger.functions import FUNCTIONS, Scope, call
from peakmem.ledger.value import Shape, said
from peakmem.pipeline import estimate

FIGURES = Figures()


def run(text, **context):
    scope = Scope(FIGURES, changed(Context(), context))
    return evaluate(parse(text, tuple(FUNCTIONS)), lambda name, given, words: call(scope, name, given, words))


def number(text, **context):
    return run(text, **context).number


def test_every_convention_is_a_function_and_gives_what_the_estimate_gives():
    report = {one.name: one.nbytes for one in estimate("mobilenet_v2:width=0.5", batch=2, dtype="int8").conventions}
    for name in CONVENTIONS:
        found = number(f'{name}(batch=2, dtype="int8", width=0.5)', network="mobilenet_v2")
        assert found == report[name], name


def test_parameters_by_kind():
    """MobileNetV2: 3,504,872 as published; 17,056 channels of batch norm; a head of 1280 x 1000."""
    assert number("parameters()", network="mobilenet_v2") == 3_504_872
    assert number('parameters("bias")', network="mobilenet_v2") == 1000
    assert number('parameters("norm")', network="mobilenet_v2") == 2 * 17_056
    assert number('parameters("weight+bias+norm")', network="mobilenet_v2") == 3_504_872
    assert number('parameters("with_statistics")', network="mobilenet_v2") == 3_504_872 + 2 * 17_056
    assert run("parameters()", network="mobilenet_v2").unit == "elements"
    assert number("parameter_bytes()", network="mobilenet_v2") == 4 * 3_504_872


def test_mobilenet_with_plain_convolutions():
    """Howard et al., 2017, table 4: 29.3 million against 4.2."""
    found = number('parameters("weight", standard=True)', network="mobilenet_v1")
    assert round(found / 10**6, 1) == Fraction("29.3")


def test_layers():
    """ResNet-50's first convolution: 7 x 7 from 3 to 64 channels, 112 x 112 out of 224 x 224."""
    assert number('layer_output("conv1", batch=32)', network="resnet50") == 32 * 64 * 112 * 112 * 4
    assert number('layer_input("conv1")', network="resnet50") == 3 * 224 * 224 * 4
    assert number('layer_weights("conv1")', network="resnet50") == 7 * 7 * 3 * 64 * 4
    assert run('layer_shape("conv1")', network="resnet50") == Shape((1, 64, 112, 112))
    assert number('layer_stride("conv1")', network="resnet50") == 2
    assert number('layer("layer_in_out", "conv1")', network="resnet50") == 4 * (3 * 224 * 224 + 64 * 112 * 112)
    assert number('layer_output("*/conv1", resolution=64)', network="resnet50") > 0
    assert len(run('layers("output", "layer1*")', network="resnet50")) > 9
    assert number("operators('Gemm')", network="resnet50") == 1


def test_time():
    peak = run("live_fused()", network="mobilenet_v2")
    assert run("peak_at()", network="mobilenet_v2") == peak.where
    assert number(f'live("{peak.where}")', network="mobilenet_v2") == peak.number
    assert number(f'step_of("{peak.where}")', network="mobilenet_v2") == 4


def test_inputs_and_outputs():
    assert run("input_shape()", network="vgg16") == Shape((1, 3, 224, 224))
    assert number("input_bytes(batch=2)", network="vgg16") == 2 * 3 * 224 * 224 * 4
    assert number("output_bytes()", network="vgg16") == 4000


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('elements("224x224x3")', "150,528"),
        ('dtype_bytes("int4")', "0.5 B"),
        ('dtype_bytes("q4_0")', "0.5625 B"),
        ('tensor_bytes("3", "int4")', "2 B"),
        ('conv_output("75", 3, 2, 1)', "38"),
        ('conv_output("200x300", 3, stride=2, padding="same")', "100x150"),
        ('conv_output("224", 7, stride=2, padding=3)', "112"),
        ('parse("57.6 MB")', "57.60 MB = 54.93 MiB (57,600,000 B)"),
        ('parse("1 KiB / 2 KiB")', "1.02 kB = 1.00 KiB (1,024 B) / 2.05 kB = 2.00 KiB (2,048 B)"),
        ('parse("4 million parameters")', "4,000,000"),
        ('MB(parse("1.5 MiB"), 3)', "1.573 MB"),
        ("KiB([1024, 2048], 1)", "1.0 KiB / 2.0 KiB"),
        ("bytes(999)", "999 B"),
        ("percent(1 / 8)", "12.5 %"),
        ("times(7 / 2, 1)", "3.5x"),
        ("fixed(1 / 3, 3)", "0.333"),
        ('cost(parse("98 MB"), 1000, "0.10 USD/GB-month")', "$9.80"),
        ('device("v100-16gb")', "16.00 GB = 14.90 GiB (16,000,000,000 B)"),
        ('fits(parse("1 GB"), parse("1 GiB"))', "yes"),
        ('weights_in_flash("stm32f746")', "yes"),
    ],
)
def test_small_ones(text, shown):
    assert said(run(text)) == shown


def test_training_by_the_graph_and_by_hand():
    """Adam: weights, gradients and two moments at the end of a step, and at least the image's loss."""
    weights = 4 * 138_357_544
    assert number('train("parameters", optimizer="adam", batch=1)', network="vgg16") == weights
    assert number('train("gradients", optimizer="adam", batch=1)', network="vgg16") == weights
    assert 0 <= number('train("optimizer", optimizer="adam", batch=1)', network="vgg16") - 2 * weights < 1000
    assert 4 * weights < number('train("end", optimizer="adam", batch=1)', network="vgg16") < 4.01 * weights
    assert number('phase_peak("optimizer", optimizer="adam", batch=1)', network="vgg16") == number(
        'train("peak", optimizer="adam", batch=1)', network="vgg16"
    )


def test_closed_forms_need_no_trace():
    nbytes = number('closed_form("accelerate")', network="resnet50")
    assert nbytes == 4 * 4 * 25_557_032
    assert number('closed_form("zero-16", parameters=1000)') == 16_000
    with pytest.raises(UsageError, match="needs shape"):
        run('closed_form("megatron", parameters=1000)')


def test_the_largest_batch_fits_and_the_next_does_not():
    found = int(number('largest("batch", parse("100 MB"), quantity="live")', network="resnet50"))
    assert number(f"live_fused(batch={found})", network="resnet50") <= 100_000_000
    assert number(f"live_fused(batch={found + 1})", network="resnet50") > 100_000_000


def test_a_missing_library_is_told(monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr("peakmem.producing.find_spec", lambda name: None if name == "torch" else found(name))
    with pytest.raises(MissingLibrary, match="pip install"):
        run('train("peak", route="trace", batch=1)', network="resnet18")
    assert number('train("peak", batch=1)', network="resnet18") > 0


def test_another_network_starts_from_its_own_options():
    assert number('parameters(network="vgg16")', network="mobilenet_v2", width="0.5") == 138_357_544
    assert number('weights(network="vgg16", dtype="int8")', network="resnet50", batch="4") < 4 * 138_357_544 / 3


def test_contexts_are_described():
    context = changed(Context(), {"network": "mobilenet_v2", "batch": "2", "dtype": "fp16", "width": "0.5"})
    assert described(context) == "mobilenet_v2:width=0.5, batch 2, float16"
    assert described(Context()) == ""
    shaped = changed(Context(), {"network": "vgg16", "shape": "input=2x3x224x224", "dims": {"batch": "2"}})
    assert described(shaped) == "vgg16, input 2x3x224x224, batch=2"


def test_every_function_has_words_for_the_reference():
    for one in FUNCTIONS.values():
        assert one.what
        assert one.usage.startswith(f"{one.name}(")
        parse(one.usage, tuple(FUNCTIONS))
