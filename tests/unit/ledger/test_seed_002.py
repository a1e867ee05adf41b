"""Claims on estimating a model's memory: values by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from peakmem.ledger import check_claims
from peakmem.report.ledger import Statement

ROOT = Path(__file__).parents[3]
SEEDS = ROOT / "src" / "peakmem" / "ledger" / "seeds"
CONV1, POOL1 = 4 * 16 * 256 * 256, 4 * 16 * 128 * 128
CONV2, POOL2 = 4 * 32 * 128 * 128, 4 * 32 * 64 * 64
INPUT = 4 * 3 * 256 * 256
# tensors of the text's second program, of two convolutions
KEPT = CONV1 + POOL1 + CONV2 + 2 * (POOL1 + POOL2) + POOL2
# for the backward: what the next operator reads, the pools' indices of 8 bytes, the log-softmax of the loss


@pytest.fixture(scope="module")
def found() -> dict[str, Statement]:
    return {one.id: one for one in check_claims(SEEDS / "002.yaml").statements}


def value(one: Statement, at: int = 0) -> object:
    return one.computed[at].values[0]


def test_all_statements_have_a_verdict(found: dict[str, Statement]) -> None:
    assert list(found) == [f"S2-{number:02d}" for number in range(1, 38)]
    assert not [one.id for one in found.values() if one.verdict == "not computed"]


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        ("S2-07", 100 * 50 + 50),
        ("S2-08", 4 * 5_050),
        ("S2-11", 64 * 256 * 256 * 3),
        ("S2-12", 12 * 2**20),
        ("S2-22", 4),
        ("S2-37", 4),
    ],
)
def test_right_by_hand(found: dict[str, Statement], name: str, by_hand: int) -> None:
    assert value(found[name]) == by_hand
    assert found[name].verdict == "right"


def test_bytes_of_a_pixel(found: dict[str, Statement]) -> None:
    assert [value(found["S2-13"], at) for at in (0, 1)] == [3, 3 * 4]
    assert found["S2-13"].verdict == "ambiguous"


def test_programs_of_the_text(found: dict[str, Statement]) -> None:
    assert (100 * 50 + 50) + (50 * 10 + 10) == 5_560
    assert "5,560 and 22.24 kB = 21.72 KiB (22,240 B)" in found["S2-17"].why
    assert f"({INPUT:,} B)" in found["S2-20"].why
    assert f"({POOL2:,} B)" in found["S2-20"].why
    linear = 128 * 64 * 64 * 1024 + 1024
    rest = (3 * 3 * 3 * 64 + 64) + (3 * 3 * 64 * 128 + 128) + (1024 * 10 + 10)
    assert f"{linear + rest:,} parameters" in found["S2-25"].why
    assert "108.02 MiB" in found["S2-25"].why  # as torchsummary 1.5.1 printed it


def test_input_and_output_are_not_the_peak(found: dict[str, Statement]) -> None:
    one = found["S2-21"]
    assert one.verdict == "ambiguous"
    assert f"({INPUT + POOL2:,} B)" in one.why
    assert f"({2 * CONV1:,} B)" in one.why  # a convolution's output beside its ReLU's
    assert f"({CONV1 + POOL1:,} B)" in one.why  # the two as one, beside the pool's
    assert 0 <= 11_010_064 - KEPT < 64  # a few scalars of the loss
    assert "(11,010,064 B)" in one.why


def test_lstm_by_hand(found: dict[str, Statement]) -> None:
    assert f"{4 * (128 * 256 + 256 * 256 + 2 * 256):,} parameters" in found["S2-09"].why


def test_training_is_not_twice_inference(found: dict[str, Statement]) -> None:
    ratios = [one.values[0] for one in found["S2-16"].computed]
    assert all(isinstance(one, float) and one > 8 for one in ratios[:2])
    assert ratios[2] == pytest.approx(KEPT / (2 * CONV1), rel=1e-5)
    assert found["S2-16"].verdict == "ambiguous"


def test_answers_lead_to_pages(found: dict[str, Statement]) -> None:
    for one in found.values():
        assert one.verdict != "practice" or one.answer
        assert not one.answer or (ROOT / one.answer).is_file(), one.id
