"""What a printed claim means."""

from fractions import Fraction

import pytest

from peakmem.errors import UsageError
from peakmem.ledger.amount import amounts, sizes
from peakmem.ledger.value import Shape

MB, MiB = 10**6, 2**20


def one(text):
    (found,) = amounts(text)
    return found


@pytest.mark.parametrize(
    ("text", "number", "places", "sort", "relation", "worth"),
    [
        ("2,211,200 B", 2_211_200, 0, "size", "=", 1),
        ("2 211 200 bytes", 2_211_200, 0, "size", "=", 1),
        ("17M bytes", 17, 0, "size", "=", MB),
        ("~4 million parameters", 4, 0, "count", "~", MB),
        ("4.2M params", 42, 1, "count", "=", MB),
        ("7B parameters", 7, 0, "count", "=", 10**9),
        ("4.2M", 42, 1, "open", "=", MB),
        ("< 4 MB", 4, 0, "size", "<", MB),
        ("less than 4 MB", 4, 0, "size", "<", MB),
        ("at most 1 GiB", 1, 0, "size", "<=", 2**30),
        ("up to 320 kB", 320, 0, "size", "<=", 1000),
        ("more than 64 GB", 64, 0, "size", ">", 10**9),
        ("about 100 MB", 100, 0, "size", "~", MB),
        ("roughly under 4 MB", 4, 0, "size", "<", MB),
        ("13.4 mebibytes", 134, 1, "size", "=", MiB),
        ("4x", 4, 0, "ratio", "=", 1),
        ("3100×", 3100, 0, "ratio", "=", 1),
        ("4-fold", 4, 0, "ratio", "=", 1),
        ("0.6 %", 6, 1, "percent", "=", Fraction(1, 100)),
        ("$9.80", 980, 2, "money", "=", 1),
        ("12 USD", 12, 0, "money", "=", 1),
        ("64 images", 64, 0, "plain", "=", 1),
        ("5050", 5050, 0, "plain", "=", 1),
        ("2 PB", 2, 0, "size", "=", 10**15),
    ],
)
def test_single_amounts(text, number, places, sort, relation, worth):
    found = one(text)
    assert (found.low.number, found.low.places) == (number, places)
    assert (found.sort, found.relation, found.readings[0][1]) == (sort, relation, worth)
    assert found.high is None


@pytest.mark.parametrize(
    ("text", "low", "high", "worth"),
    [
        ("5-8 MB", "5", "8", MB),
        ("2.5\u20134MB", "2.5", "4", MB),
        ("7 to 12 MB", "7", "12", MB),
        ("between 90 and 110 MB", "90", "110", MB),
        ("900 kB - 1.2 MB", "0.9", "1.2", MB),
        ("10-50x", "10", "50", 1),
        ("48-64", "48", "64", 1),
        ("2-3 %", "2", "3", Fraction(1, 100)),
    ],
)
def test_ranges(text, low, high, worth):
    found = one(text)
    assert (found.low.value, found.high.value) == (Fraction(low), Fraction(high))
    assert found.readings[0][1] == worth


def test_a_range_may_be_a_bound():
    found = one("less than 3-4 MB")
    assert (found.relation, found.low.value, found.high.value) == ("<", 3, 4)


def test_units_with_two_meanings_name_both_the_literal_one_first():
    assert sizes("MB") == (("MB", MB), ("MiB", MiB))
    assert sizes("M bytes") == (("MB", MB), ("MiB", MiB))
    assert sizes("MiB") == (("MiB", MiB),)
    assert sizes("GB")[1] == ("GiB", 2**30)
    assert sizes("") == ()


def test_lists_take_the_last_unit():
    found = amounts("3.91 / 1.95 / 0.98 KiB")
    assert [part.low.value for part in found] == [Fraction("3.91"), Fraction("1.95"), Fraction("0.98")]
    assert {part.readings for part in found} == {(("KiB", 1024),)}
    assert [part.readings[0][0] for part in amounts("98 MB/0.6 %")] == ["MB", "%"]


def test_shapes_and_truth():
    assert one("50x75").shape == Shape((50, 75))
    assert one("1 × 3 × 224 × 224").shape == Shape((1, 3, 224, 224))
    assert (one("yes").truth, one("No").truth) == (True, False)


def test_digits_that_only_fill_up():
    assert one("100 MB").low.loose == 10
    assert one("3100 MB").low.loose == 100
    assert one("10 MB").low.loose == 1
    assert one("102 MB").low.loose == 1
    assert one("1.50 MB").low.loose == Fraction(1, 100)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lots", "no amount"),
        ("", "empty"),
        ("x" * 300, "too long"),
        ("-3 MB", "less than nothing"),
        ("8-5 MB", "backwards"),
        ("3 MBi", "no unit"),
        ("3 parrots", "no unit"),
        ("1" * 40 + " MB", "digits"),
        ("5 MB - 8 x", "one unit to another"),
        (" / ".join(["1 B"] * 20), "lists 20"),
        ("1e99 B", "no amount"),
    ],
)
def test_what_is_no_amount_says_why(text, says):
    with pytest.raises(UsageError, match=says):
        amounts(text)
