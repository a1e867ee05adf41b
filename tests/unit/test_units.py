import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakmem.errors import UsageError
from peakmem.units import format_bytes, format_exact, parse_size


@pytest.mark.parametrize(
    ("nbytes", "iec", "si"),
    [
        (0, "0 B", "0 B"),
        (999, "999 B", "999 B"),
        (1000, "1,000 B", "1.00 kB"),
        (1023, "1,023 B", "1.02 kB"),
        (1024, "1.00 KiB", "1.02 kB"),
        (6_021_120, "5.74 MiB", "6.02 MB"),
        (102_400_000, "97.66 MiB", "102.40 MB"),
        (2**30 - 1, "1.00 GiB", "1.07 GB"),
        (-2048, "-2.00 KiB", "-2.05 kB"),
        (10**19, "8881.78 PiB", "10000.00 PB"),
    ],
)
def test_format(nbytes, iec, si):
    assert format_bytes(nbytes) == iec
    assert format_bytes(nbytes, "si") == si


def test_exact_bytes_stand_beside_the_rounded_ones():
    assert format_exact(6_021_120) == "5.74 MiB (6,021,120 B)"
    assert format_exact(12) == "12 B"
    assert format_bytes(6_021_120, "bytes") == "6,021,120 B"


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("320KiB", 327_680), ("320 kB", 320_000), ("1MB", 10**6), ("1MiB", 2**20), ("4096", 4096), ("1.5 KiB", 1536),
     ("1_000", 1000), ("2,048 B", 2048), ("16 gib", 2**34)],
)  # fmt: skip
def test_parse(text, nbytes):
    assert parse_size(text) == nbytes


@pytest.mark.parametrize("text", ["", "K", "320K", "1M", "-1", "1e3", "three", "1 MBit", "0x10", "1..5"])
def test_a_size_that_could_mean_two_things_is_refused(text):
    with pytest.raises(UsageError, match="not a size"):
        parse_size(text)


@given(st.integers(0, 2**70))
def test_printed_sizes_stay_within_rounding(nbytes):
    for units, base in (("iec", 1024), ("si", 1000)):
        number, unit = format_bytes(nbytes, units).replace(",", "").split()
        power = ["B", "K", "M", "G", "T", "P"].index(unit[0].upper())
        assert abs(float(number) * base**power - nbytes) <= 0.0051 * base**power


def test_a_size_of_very_many_digits():
    with pytest.raises(UsageError, match="5,000 digits"):
        parse_size("9" * 5000 + " GiB")
