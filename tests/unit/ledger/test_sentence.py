"""Claims as sentences: what is taken from them, and what is refused rather than guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakmem.errors import UsageError
from peakmem.ledger import check_claims
from peakmem.ledger.sentence import understood


@pytest.mark.parametrize(
    ("text", "claim", "context", "first"),
    [
        ("ResNet-50 has 25.6M parameters", "25.6M parameters", {"network": "resnet50"}, "parameters()"),
        (
            "MobileNet v2 at width 0.35 has about 1.7 million parameters", "about 1.7 million parameters",
            {"network": "mobilenet_v2", "width": "0.35"}, "parameters()",
        ),
        (
            "Training ResNet-50 with Adam at batch 32 takes 3.1 GB", "3.1 GB",
            {"network": "resnet50", "batch": "32", "optimizer": "adam"}, 'train("peak")',
        ),
        (
            "In half precision VGG-16's weights are 277 MB", "277 MB", {"network": "vgg16", "dtype": "float16"},
            "parameter_bytes()",
        ),
        (
            "MobileNetV2 at 128x128 needs under 2 MB of activations", "under 2 MB",
            {"network": "mobilenet_v2", "resolution": "128"}, "live_fused()",
        ),
        ("VGG16 needs 93 MB per image", "93 MB", {"network": "vgg16", "batch": "1"}, "sum_outputs()"),
        ("ResNet-50 peak activation 7.2 MB", "7.2 MB", {"network": "resnet50"}, "live_fused()"),
        ("U-Net model size 118 MiB", "118 MiB", {"network": "unet"}, "parameter_bytes()"),
        ("the int8 MobileNetV1 is 4-5 MB", "4-5 MB", {"network": "mobilenet_v1", "dtype": "int8"}, "parameter_bytes()"),
        ("resnet18 as ONNX 46.8 MB", "46.8 MB", {"network": "resnet18"}, 'file_size("onnx")'),
        ("AlexNet needs 244,403,360 bytes of memory", "244,403,360 bytes", {"network": "alexnet"}, "resident_fused()"),
    ],
)  # fmt: skip
def test_what_is_taken(text, claim, context, first):
    found = understood(text)
    assert (found.claim, dict(found.context), found.meanings[0][1]) == (claim, context, first)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hello 3 MB", "no network"),
        ("MobileNet takes 3 MB", "no network"),
        ("ResNet-50 and VGG16 take 3 MB", "2 networks"),
        ("ResNet-50 takes 3", "no amount"),
        ("ResNet-50 takes 3 MB and 5 MB", "2 amounts"),
        ("ResNet-50 takes 3 MB in fp16 and int8", "2 dtypes"),
        ("ResNet-50 v7 takes 3 MB", "'7'"),
        ("ResNet-50 3 MB", "does not say what"),
        ("ResNet-50 takes 3 MB " * 40, "characters"),
    ],
)
def test_what_is_refused(text, says):
    with pytest.raises(UsageError, match=says):
        understood(text)


def test_words_that_leave_something_open_become_readings(tmp_path):
    """13.37 MiB of parameters, 13.50 MiB with the statistics; 7.23 MB with sums in place, 9.63 MB without."""
    pytest.importorskip("yaml")
    path = tmp_path / "claims.yaml"
    path.write_text(
        "- MobileNetV2 fp32 takes 13.4 MiB\n- ResNet-50 peak activation 7.2 MB\n- ResNet-50 has 25.6M parameters\n",
        encoding="utf-8",
    )
    first, second, third = check_claims(path).statements
    assert (first.verdict, second.verdict, third.verdict) == ("ambiguous", "ambiguous", "right")
    assert first.computed[0].true is True
    assert [one.true for one in second.computed] == [False, True, False]
    assert first.says == "MobileNetV2 fp32 takes 13.4 MiB"
    assert "it is read as: its parameters" in first.why


def test_a_fault_names_the_line(tmp_path):
    pytest.importorskip("yaml")
    path = tmp_path / "claims.yaml"
    path.write_text("- ResNet-50 has 25.6M parameters\n- hello\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"claims.yaml:2: no network"):
        check_claims(path)


@given(st.text(max_size=80))
def test_any_text_is_taken_apart_or_refused(text):
    try:
        understood(f"ResNet-50 takes 3 MB {text}")
    except UsageError:
        return
