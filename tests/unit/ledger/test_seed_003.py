"""Claims of the text on memory metrics: values by hand, and from sources outside this code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peakmem.ledger import check_claims
from peakmem.report.ledger import Statement

ROOT = Path(__file__).parents[3]
SEEDS = ROOT / "src" / "peakmem" / "ledger" / "seeds"
REFERENCE = ROOT.parent / "shared" / "reference" / "seed_ledger.json"
RESNET50 = 4 * 25_557_032
# torchvision's count
DIFFERENT = {"S3-69": "ambiguous", "S3-87": "practice"}
# from the reference; why, stands with the claims


@pytest.fixture(scope="module")
def found() -> dict[str, Statement]:
    return {one.id: one for one in check_claims(SEEDS / "003.yaml").statements}


def values(one: Statement, at: int = 0) -> tuple[object, ...]:
    return one.computed[at].values


def test_all_statements_have_a_verdict(found: dict[str, Statement]) -> None:
    assert sorted(found) == [f"S3-{number:02d}" for number in range(1, 99)]
    assert not [one.id for one in found.values() if one.verdict == "not computed"]


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        ("S3-11", 64 * 32 * 3 * 3),
        ("S3-12", 32 * 3 * 3),
        ("S3-13", 64 * 32),
        ("S3-14", 2_336),
        ("S3-16", 1_235_496),  # torchvision
        ("S3-17", 3_504_872),
        ("S3-18", 25_557_032),
        ("S3-19", 138_357_544),
        ("S3-20", 96 * (12 * 12288**2 + 13 * 12288) + 50257 * 12288 + 2048 * 12288 + 2 * 12288),
        ("S3-29", 4 * 61_100_840),
        ("S3-32", 700 * 10**9),
        ("S3-41", 2.254),
        ("S3-42", 0.575),
        ("S3-43", 20.148),
        ("S3-66", 10**10),
        ("S3-76", 16 * 10**9),
    ],
)
def test_right_by_hand(found: dict[str, Statement], name: str, by_hand: float) -> None:
    assert values(found[name]) == (pytest.approx(by_hand, rel=1e-12),)
    assert found[name].verdict == "right"


@pytest.mark.parametrize(("name", "by_hand"), [("S3-49", 32 * 64 * 112 * 112 * 4), ("S3-50", 32 * 64 * 56 * 56 * 4)])
def test_two_products_are_not_what_is_printed(found: dict[str, Statement], name: str, by_hand: int) -> None:
    one = found[name]
    assert (values(one), one.verdict, one.explanations) == ((by_hand,), "wrong", ())
    assert "no reading gives it" in one.why


def test_a_u_net_is_largest_where_its_resolution_is(found: dict[str, Statement]) -> None:
    assert [found[f"S3-{number}"].verdict for number in (56, 57, 58, 59, 60)] == ["wrong"] * 3 + ["right"] * 2
    levels = [64 * 568**2, 128 * 280**2, 256 * 136**2, 512 * 64**2, 1024 * 28**2]
    assert ", ".join(f"{4 * size / 1e6:.1f} MB" for size in levels) in found["S3-56"].why


def test_98_mb_are_mib(found: dict[str, Statement]) -> None:
    one = found["S3-38"]
    assert one.verdict == "ambiguous"
    assert values(one) == (RESNET50, False)
    assert values(one, 1) == (RESNET50 + 4 * 53_120, True)


def test_a_step_keeps_less_than_it_writes(found: dict[str, Statement]) -> None:
    """What torch's autograd kept for ResNet-50 of 32 images was measured as 2,730 MB (reference, S3-64)."""
    kept = found["S3-51"].computed[2].values[0]
    assert kept == pytest.approx(2.730e9, rel=1e-3)
    assert found["S3-51"].verdict == "ambiguous"


def test_answers_lead_to_pages(found: dict[str, Statement]) -> None:
    for one in found.values():
        assert one.verdict != "practice" or one.answer
        assert not one.answer or (ROOT / one.answer).is_file(), one.id


@pytest.mark.conformance
@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference is not in this checkout")
def test_verdicts_are_those_of_the_reference(found: dict[str, Statement]) -> None:
    rows = [row for row in json.loads(REFERENCE.read_text(encoding="utf-8")) if row["id"].startswith("S3-")]
    assert {row["id"]: row["line"] for row in rows} == {name: one.line for name, one in found.items()}
    assert {row["id"]: row["kind"] for row in rows} == {name: one.kind for name, one in found.items()}
    told = {
        row["id"]: {"not_checkable": "practice"}.get(row["verdict"], row["verdict"]) for row in rows if "verdict" in row
    }
    assert {name: found[name].verdict for name in told if found[name].verdict != told[name]} == DIFFERENT
    assert all(found[name].disagrees for name in DIFFERENT)
