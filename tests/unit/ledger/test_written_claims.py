"""How claims may be written: settings beside the claim, a unit of its own, printed digits, what a text leaves open."""

from __future__ import annotations

from pathlib import Path

import pytest

from peakmem.errors import PeakmemError
from peakmem.ledger import check_claims
from peakmem.report.ledger import Statement

WEIGHTS = 4 * 138_357_544
# of VGG16 (torchvision's count): 553,430,176 B = 553.43 MB = 527.79 MiB
PRINTED = "compute: 'parse(\"553,430,176 B\")'"
# the same without a network, so that nothing is searched


def one(tmp_path: Path, text: str) -> Statement:
    (found,) = checked(tmp_path, text)
    return found


def checked(tmp_path: Path, text: str) -> tuple[Statement, ...]:
    path = tmp_path / "claims.yaml"
    path.write_text(text, encoding="utf-8")
    return check_claims(path).statements


@pytest.mark.parametrize(
    ("written", "verdict"),
    [
        ("claim: 527.8 MiB", "right"),
        ("claim: 527 MiB", "ambiguous"),  # true if its digits are cut off
        ("claim: 527 MiB, digits: cut", "right"),
        ("claim: 528 MiB, digits: cut", "wrong"),
        ("claim: 528 MiB, digits: up", "right"),
        ("claim: 500 MB, digits: filled", "wrong"),
        ("claim: 550 MB, digits: filled", "right"),
        ("claim: 553 MB, digits: filled", "right"),
        ('claim: "~550 MB"', "right"),
        ('claim: "~1 GB"', "right"),  # 0.55, rounded
        ('claim: "~2 GB"', "wrong"),
    ],
)
def test_digits(tmp_path: Path, written: str, verdict: str) -> None:
    found = one(tmp_path, f"claims: [{{{written}, {PRINTED}}}]")
    assert found.computed[0].values == (WEIGHTS,)
    assert found.verdict == verdict


def test_about_one_digit_is_not_half_of_it(tmp_path: Path) -> None:
    found = one(tmp_path, 'claims: [{claim: "~2x", compute: "1.3"}]')
    assert found.verdict == "wrong"


def test_what_the_text_leaves_open_is_not_refuted(tmp_path: Path) -> None:
    found = one(tmp_path, "claims: [{claim: 1.2 GB, quantity: weights, network: vgg16, open: the version}]")
    assert found.verdict == "ambiguous"
    assert "does not tell the version; here it is 553.43 MB" in found.why


def test_what_is_open_does_not_spoil_what_is_right(tmp_path: Path) -> None:
    found = one(tmp_path, "claims: [{claim: 553 MB, quantity: weights, network: vgg16, open: the version}]")
    assert found.verdict == "right"


def test_another_unit_and_cut_digits_are_too_much_at_once(tmp_path: Path) -> None:
    found = one(tmp_path, f"claims: [{{claim: 527 MB, {PRINTED}}}]")
    assert found.verdict == "wrong"  # only in MiB, and only cut off


@pytest.mark.parametrize(
    "written",
    [
        "claims: [{claim: 553 MB, quantity: weights, context: {network: vgg16}}]",
        "claims: [{claim: 553 MB, quantity: weights, network: vgg16}]",
        "claims: [{claim: 553, unit: MB, convention: weights, network: vgg16}]",
        "{network: vgg16, claims: [{claim: 553 MB, convention: weights}]}",
        "{network: resnet50, batch: 2, claims: [{claim: 553 MB, quantity: weights, network: vgg16}]}",
        "- {claim: 553 MB, quantity: weights, network: vgg16, batch: 4}",
    ],
)
def test_settings_may_stand_beside_the_claim(tmp_path: Path, written: str) -> None:
    found = one(tmp_path, written)
    assert found.verdict == "right"
    assert found.context.startswith("vgg16")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("claims: [{claim: 1 MB, quantity: weights, network: vgg16, context: {network: alexnet}}]", "as well"),
        ("claims: [{claim: 1 MB, compute: weights(batch=1, dtype='int8'), network: vgg16}]", "piece of an expression"),
        ("claims: [{claim: 1 MB, quantity: weights, network: vgg16, digits: cutt}]", "cut"),
        ("claims: [{claim: 1 MB, unit: MB, quantity: weights, network: vgg16}]", "MB MB"),
        ("claims: [{claim: 1, quantity: weights, network: vgg16}]", "a claim without a unit"),
        ("claims: [{claim: 1 MB, quantity: weights, netwrok: vgg16}]", "netwrok"),
    ],
)
def test_faults_are_named_with_their_line(tmp_path: Path, written: str, said: str) -> None:
    with pytest.raises(PeakmemError) as fault:
        checked(tmp_path, written)
    assert said in str(fault.value)
    assert "claims.yaml:1" in str(fault.value)


def test_layers_that_are_alike(tmp_path: Path) -> None:
    """MobileNetV1 has five pairs of 512 channels at 14x14; the convolutions before and after are other ones."""
    text = """
    network: mobilenet_v1
    claims:
      - {id: a, claim: "5", compute: 'repeats("Conv2d_9/pointwise")'}
      - {id: b, claim: "1", compute: 'repeats("Conv2d_6/pointwise")'}
    """
    assert [found.verdict for found in checked(tmp_path, text)] == ["right", "right"]


def test_weights_in_flash(tmp_path: Path) -> None:
    text = """
      - {id: a, claim: "yes", compute: 'weights_in_flash("stm32f746")'}
      - {id: b, claim: "no", compute: 'weights_in_flash("v100-16gb")'}
    """
    assert [found.verdict for found in checked(tmp_path, text)] == ["right", "right"]


def test_peak_of_a_phase_is_within_that_of_the_step(tmp_path: Path) -> None:
    phases = ", ".join(f'phase_peak("{name}", route="graph")' for name in ("forward", "backward", "optimizer"))
    text = f"""
    network: squeezenet1_1
    claims:
      - claim: "yes"
        compute: max([{phases}]) == train("peak", route="graph")
    """
    assert one(tmp_path, text).verdict == "right"


@pytest.mark.parametrize("written", ["4x", "4 x", "4x smaller", "4 times less", "4-fold", "4 times as much"])
def test_ways_to_write_a_ratio(tmp_path: Path, written: str) -> None:
    assert one(tmp_path, f'claims: [{{claim: "{written}", compute: 8 / 2}}]').verdict == "right"


@pytest.mark.parametrize("written", ["weights() < 1.5MB", "weights() / 320 kB"])
def test_a_size_in_an_expression_is_a_text(tmp_path: Path, written: str) -> None:
    with pytest.raises(PeakmemError, match=r"parse\(\"(1\.5MB|320 kB)\"\)"):
        checked(tmp_path, f'claims: [{{claim: "yes", compute: "{written}", network: vgg16}}]')


def test_a_dtype_is_said_of_bytes_alone(tmp_path: Path) -> None:
    found = checked(
        tmp_path,
        "claims: [{id: a, claim: 161 MB, quantity: weights, network: vgg16},"
        " {id: b, claim: 16 GB, compute: 'parse(\"4 GB\")', network: vgg16}]",
    )
    assert "no reading gives it: float32 553.43 MB" in found[0].why
    assert "no reading gives it: 4.00 GB" in found[1].why


@pytest.mark.parametrize(
    ("written", "verdict"),
    [
        ("553 MB of RAM", "right"),
        ("553 MB VRAM", "right"),
        ("500+ MB", "right"),
        ("600+ MB", "wrong"),
        ("600 MB or less", "right"),
        ("500 MB or less", "wrong"),
        ("527.8 mebibytes", "right"),
        ("553,430,176 bytes", "right"),
        ("553 430 176 B", "right"),
    ],
)
def test_ways_to_write_a_size(tmp_path: Path, written: str, verdict: str) -> None:
    found = one(tmp_path, f'claims: [{{claim: "{written}", {PRINTED}}}]')
    assert found.verdict == verdict


@pytest.mark.parametrize("written", ["1x3x224x224", "1 x 3 x 224 x 224", "(1, 3, 224, 224)", "[1,3,224,224]"])
def test_ways_to_write_a_shape(tmp_path: Path, written: str) -> None:
    found = one(tmp_path, f'claims: [{{claim: "{written}", compute: input_shape(), network: vgg16}}]')
    assert found.verdict == "right"


def test_a_decimal_comma_is_refused_and_shown_with_a_point(tmp_path: Path) -> None:
    with pytest.raises(PeakmemError, match=r"57\.6 MB"):
        checked(tmp_path, 'claims: [{claim: "57,6 MB", quantity: weights, network: vgg16}]')
