"""`peakmem cost` on the screen and as JSON."""

import json

import pytest

from tests.cli.test_cli import table

PRICE = "0.023 USD/GB-month"


def test_a_table_per_dtype_and_what_is_saved(run):
    code, out, _ = run("cost", "98MB", "--copies", "1,000", "--price", PRICE, "--dtype", "fp32,int8")
    assert code == 0
    header, first, second = table(out, "Cost")
    assert header == ["dtype", "one copy", "all, in GB", "monthly", "yearly", "monthly if GiB", "yearly if GiB"]
    assert first[:5] == ["float32", "98.00 MB", "98.00", "2.25 USD", "27.05 USD"]
    assert second[:5] == ["int8", "24.50 MB", "24.50", "0.56 USD", "6.76 USD"]
    assert table(out, "Saved against float32")[1] == ["int8", "1.69 USD", "20.29 USD"]
    assert "GB is read as 1,000,000,000 bytes" in out


def test_json_keeps_every_digit(run):
    price = ("--price", "$0.023/GB/month", "--per", "GiB")
    code, out, _ = run("cost", "resnet50", "--copies", "1000", *price, "--json", "-")
    assert code == 0
    report = json.loads(out)
    assert report["schema"] == "peakmem.cost/1"
    assert report["unit_bytes"] == 2**30
    assert report["rows"][0]["monthly"] == "2.1897693574428558349609375"  # 102,228,128,000 × 0.023 / 2^30


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resnet50"], "no price is given"),
        (["resnet50", "--price", "0.023"], "does not say what for"),
        (["resnet50", "--price", PRICE, "--copies", "many"], "no whole number"),
        (["resnet50", "--price", PRICE, "--copies", "0"], "0 copies"),
        (["resnet50", "--price", PRICE, "--copies", "-1"], "-1 copies"),
        (["resnet50", "--price", PRICE, "--copies", "1" + "0" * 30], "1e+30 copies"),
        (["resnet50", "--price", PRICE, "--months", "0"], "0 months"),
        (["resnet50", "--price", "-1 USD/GB-month"], "below zero"),
        (["resnet51", "--price", PRICE], "resnet51"),
        (["98 MQ", "--price", PRICE], "98 MQ"),
        (["resnet50", "--price", PRICE, "--dtype", "fp33"], "fp33"),
        (["resnet50", "--price", PRICE, "--format", "docx"], "docx"),
    ],
)
def test_bad_input_is_one_sentence(run, arguments, words):
    code, out, err = run("cost", *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err
