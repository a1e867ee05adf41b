"""What storing models costs: hand arithmetic, exact decimals, and prices that say too little."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakmem import cost
from peakmem.errors import UsageError
from peakmem.pricing import price_of
from peakmem.render.cost import blocks, money
from peakmem.report.codec import from_json
from peakmem.report.cost import Cost

S3 = "0.023 USD/GB-month"


def test_a_thousand_resnets():
    """25,557,032 parameters; 4 bytes × 1000 are 102.228128 GB, 1 byte × 1000 are 25.557032 GB."""
    report = cost("resnet50", 1000, S3, dtypes=("fp32", "int8"))
    first, second = report.rows
    assert (first.nbytes, second.nbytes) == (102228128, 25557032)
    assert first.monthly == Decimal("2.351246944")
    assert second.monthly == Decimal("0.587811736")
    assert second.saving_monthly == Decimal("1.763435208")
    assert second.saving_yearly == Decimal("21.161222496")
    # in GiB: 102228128000 / 2^30 × 0.023 = 2.18977…
    assert Fraction(first.other_monthly) == Fraction(102228128000, 2**30) * Fraction(23, 1000)
    assert (report.unit, report.other_unit, report.currency) == ("GB", "GiB", "USD")


def test_a_size_is_of_the_first_dtype():
    """98 GB and 24.5 GB at $0.023: $2.254 and $0.5635 a month; the difference is $20.286 a year."""
    report = cost("98 MB", 1000, "$0.023/GB/month", dtypes=("fp32", "int8"))
    assert [row.monthly for row in report.rows] == [Decimal("2.254"), Decimal("0.5635")]
    assert report.rows[1].saving_yearly == Decimal("20.286")
    assert report.currency == "$"
    halves = cost(10**9, 1, S3, dtypes=("fp16", "fp32", "int4"))
    assert [row.nbytes for row in halves.rows] == [10**9, 2 * 10**9, 25 * 10**7]
    assert halves.rows[1].saving_monthly == Decimal("-0.023")


def test_the_price_may_mean_either_gigabyte():
    decimal, binary = cost(2**30, 1, S3), cost(2**30, 1, S3, per="GiB")
    assert binary.rows[0].monthly == Decimal("0.023")
    assert decimal.rows[0].monthly == binary.rows[0].other_monthly == Decimal("0.024696061952")
    assert decimal.rows[0].other_monthly == Decimal("0.023")


def test_files_of_a_format_instead_of_parameters():
    report = cost("squeezenet1_1", 10, S3, format="onnx", dtypes=("fp32", "fp16"))
    assert report.counted == "onnx file"
    assert [row.nbytes for row in report.rows] == [4953771, 2482766]


@given(
    st.integers(1, 10**15), st.integers(1, 10**15),
    st.decimals(Decimal("1e-9"), Decimal("1e6"), allow_nan=False, allow_infinity=False), st.integers(1, 12000),
)  # fmt: skip
def test_money_is_exact(nbytes, copies, amount, months):
    row = cost(nbytes, copies, amount, per="GiB", months=months).rows[0]
    monthly = Fraction(nbytes * copies, 2**30) * Fraction(amount)
    assert Fraction(row.monthly) == monthly
    assert (Fraction(row.yearly), Fraction(row.whole)) == (12 * monthly, months * monthly)
    assert Fraction(row.other_monthly) == Fraction(nbytes * copies, 10**9) * Fraction(amount)


@pytest.mark.parametrize(
    ("text", "amount", "currency", "unit"),
    [
        ("0.023 USD/GB-month", "0.023", "USD", "GB"), ("$0.023/GB/month", "0.023", "$", "GB"),
        ("0.02 € / GiB-month", "0.02", "€", "GiB"), ("0.023 per GB per month", "0.023", "", "GB"),
        ("1,024.5 yen/TB-mo", "1024.5", "yen", "TB"), ("2e-5 BTC/MiB-month", "0.00002", "BTC", "MiB"),
        ("CHF 0.05/gb-Month", "0.05", "CHF", "GB"), (".5 USD/GB month", "0.5", "USD", "GB"),
    ],
)  # fmt: skip
def test_prices_as_people_write_them(text, amount, currency, unit):
    price = price_of(text)
    assert (price.amount, price.currency, price.unit) == (Decimal(amount), currency, unit)


@pytest.mark.parametrize(
    ("price", "per", "words"),
    [
        ("0.023", None, "does not say what for .*GB-month"),
        ("0.023 USD", None, 'does not say what for .*Try: --price "0.023 USD/GB-month"'),
        (0.023, None, "does not say what for"),
        ("0.02/G-month", None, 'does not say what for .*Try: --price "0.02/GB-month"'),
        ("0.023 USD/GB", None, "does not say for how long"),
        ("0.023 USD/GB-year", None, "is for 'year'"),
        ("0.023 USD/GX-month", None, "'GX' is no unit"),
        ("0.023 USD/kB-month", None, "'kB' is no unit"),
        ("-0.023 USD/GB-month", None, "below zero"),
        ("0 USD/GB-month", None, "makes everything free"),
        ("nan USD/GB-month", None, "is no price"),
        (float("nan"), "GB", "is no price"),
        (float("inf"), "GB", "is no price"),
        ("free", None, "is no price"),
        ("", None, "is no price"),
        ("1e300 USD/GB-month", None, "out of all proportion"),
        ("1e-30 USD/GB-month", None, "out of all proportion"),
        ("9" * 80, "GB", "80 characters"),
        ("0.02 USD/GiB-month", "GB", "is for a GiB and per says GB"),
        ("0.02 USD/TB-month", "GB", "is for a TB and per says GB"),
        ("0.02", "litre", "'litre' is no unit"),
        ("0.02 1 USD/GB-month", None, "is no price|no unit|is for"),
    ],
)
def test_prices_that_say_too_little_or_cannot_be(price, per, words):
    with pytest.raises(UsageError, match=words):
        price_of(price, per)


@pytest.mark.parametrize("name", ["copies", "months"])
@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "1 or more"), (-5, "1 or more"), (1.5, "a whole number"), (True, "a whole number"), (10**40, "at most")],
)
def test_copies_and_months_that_cannot_be(name, value, words):
    arguments = {"copies": 1, "months": 1, name: value}
    with pytest.raises(UsageError, match=words):
        cost("1 GB", price=S3, **arguments)


def test_sizes_that_cannot_be():
    with pytest.raises(UsageError, match="expected 1 byte or more"):
        cost("0 B", 1, S3)
    with pytest.raises(UsageError, match="below zero"):
        cost("-5 MB", 1, S3)
    with pytest.raises(UsageError, match="5000 characters"):
        cost("9" * 5000, 1, S3)
    with pytest.raises(UsageError, match="beyond all storage"):
        cost(10**30, 1, S3)
    with pytest.raises(UsageError, match="a size has no format"):
        cost("98 MB", 1, S3, format="onnx")
    with pytest.raises(UsageError, match="has no fixed size"):
        cost("98 MB", 1, S3, dtypes=("string",))


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("0.575", "$", "$0.58"), ("2.254", "USD", "2.25 USD"), ("1234567.891", "", "1,234,567.89"),
        ("0.0004567", "$", "$0.000457"), ("-20.286", "€", "-€20.29"), ("0", "$", "$0.00"),
        ("1e-12", "", "0.00000000000100"),
    ],
)  # fmt: skip
def test_money_as_it_is_shown(amount, currency, text):
    assert money(Decimal(amount), currency) == text


def test_the_other_gigabyte_is_shown_where_it_shows():
    near, far = cost("1 MB", 1, S3), cost("98 GB", 1, S3)
    assert "monthly if GiB" in blocks(far)[1].columns
    assert "monthly if GiB" in blocks(near)[1].columns  # three significant digits differ
    report = cost("resnet50", 3, S3, dtypes=("fp32",), months=7)
    assert "7 months" in blocks(report)[1].columns
    assert from_json(report.to_json(), Cost) == report
