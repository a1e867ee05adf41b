"""Whether a computed value is what a claim prints."""

from fractions import Fraction

import pytest

from peakmem.errors import UsageError
from peakmem.ledger.amount import amounts
from peakmem.ledger.value import Shape, Value
from peakmem.ledger.verdict import matches


def against(text, number, unit="B"):
    return matches(amounts(text), Value(Fraction(number), unit, "estimate"))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2,211,200 B", 2_211_200),
        ("14.02 MB", 14_019_488), ("14.0 MB", 14_019_488), ("14 MB", 14_019_488), ("13.4 MiB", 14_019_488),
        ("13.37 MiB", 14_019_488),
        ("5 kB", 5_500), ("5 kB", 4_500),  # a tie rounds either way
        ("5-8 MB", 5_000_000), ("5-8 MB", 8_000_000), ("5-8 MB", 6_543_210),
        ("< 4 MB", 3_999_999), ("<= 4 MB", 4_000_000), ("> 4 MB", 4_000_001), (">= 4 MB", 4_000_000),
        ("~4 MB", 4_230_000), ("about 100 MB", 102_228_128), ("~57M bytes", 57_587_360),
        ("less than 3-4 MB", 2_900_000), ("more than 3-4 MB", 4_000_001), ("17M bytes", 16_927_904),
        ("~5-8 MB", 8_400_000),
    ],
)  # fmt: skip
def test_right_as_printed(text, number):
    assert against(text, number).literal


@pytest.mark.parametrize(
    ("text", "number", "how"),
    [
        ("13.4 MB", 14_019_488, "MB read as MiB"),
        ("16M bytes", 16 * 2**20, "M bytes read as MiB"),
        ("57 MB", 57_587_360, "cut off"),
        ("98 MiB", 102_228_128, "rounded up"),
        ("100 MB", 102_228_128, "zeros"),
        ("5-8 MB", 8_400_000, "ends taken as rounded"),
        ("less than 3-4 MB", 3_504_872, "under 4, not under 3"),
    ],
)
def test_true_under_another_reading(text, number, how):
    found = against(text, number)
    assert found.true
    assert not found.literal
    assert how in found.how


@pytest.mark.parametrize(
    ("text", "number", "off"),
    [
        ("161 MB", 102_760_448, "+58.2 MB, 1.57 times"),
        ("5-8 MB", 14_019_488, "6.02 MB at its upper end"),
        ("20-30 MB", 14_019_488, "at its lower end"),
        ("< 4 MB", 6_021_120, "MB"),
        ("~4 MB", 6_021_120, "MB"),
        ("7 MB", 6_021_120, "MB"),
        ("less than 3-4 MB", 4_000_000, "MB"),
    ],
)
def test_wrong_tells_how_far_it_is_off(text, number, off):
    found = against(text, number)
    assert not found.true
    assert off in found.off


def test_counts_ratios_percent_and_money():
    assert against("4.2 M parameters", 4_231_976, "elements").literal
    assert against("4.2M", 4_231_976, "elements").literal
    assert against("4,231,976", 4_231_976, "elements").literal
    assert against("~4 million", 4_231_976, "elements").literal
    assert against("4x", Fraction(15, 4), "").literal
    assert against("0.6 %", Fraction(64, 10_000), "").literal
    assert not against("0.6 %", Fraction(66, 10_000), "").literal
    assert against("$9.80", Fraction(98, 10), "$").literal
    assert against("64 images", 64, "").literal


def test_shapes_and_truth():
    assert matches(amounts("50x75"), Shape((50, 75))).literal
    assert matches(amounts("3x50x75"), Shape((1, 3, 50, 75))).literal
    assert not matches(amounts("50x75"), Shape((75, 50))).true
    assert matches(amounts("yes"), True).literal
    assert matches(amounts("no"), False).literal
    assert matches(amounts("yes"), False).off == "it is no"


def test_lists():
    pair = (Value(Fraction(2_000_000), "B"), Value(Fraction(3_000_000), "B"))
    assert matches(amounts("2 / 3 MB"), pair).literal
    assert not matches(amounts("2 / 4 MB"), pair).true
    assert matches(amounts("2-3 MB"), pair).literal
    half = matches(amounts("2 MB"), pair)
    assert (half.true, half.partly) == (False, True)
    assert half.off.startswith("true for 1 of 2")


@pytest.mark.parametrize(
    ("text", "item", "says"),
    [
        ("13.4", Value(Fraction(14_000_000), "B"), "a claim without a unit"),
        ("4 million", Value(Fraction(4_000_000), "B"), "a claim without a unit"),
        ("4x", Value(Fraction(4_000_000), "B"), "expected a size"),
        ("4 MB", Value(Fraction(4_000_000), "elements"), "count"),
        ("4 MB", Value(Fraction(4), "$"), "expected"),
        ("4 MB", True, "comparison"),
        ("yes", Value(Fraction(4), "B"), "neither"),
        ("50x75", Value(Fraction(4), "B"), "shape"),
        ("4 MB", Shape((4, 4)), "no number"),
        ("1 / 2 MB", Value(Fraction(4), "B"), "lists 2"),
        ("1 MB", (), "empty"),
    ],
)
def test_what_cannot_be_compared(text, item, says):
    with pytest.raises(UsageError, match=says):
        matches(amounts(text), item)
