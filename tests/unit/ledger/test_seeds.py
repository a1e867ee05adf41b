"""The built-in claims: all of them there, in our own words, held against the reference and against numbers by hand."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from peakmem.ledger import check_claims
from peakmem.ledger.file import built_in
from peakmem.report.ledger import Statement

pytest.importorskip("yaml")
ROOT = Path(__file__).parents[3]
SEEDS = ROOT / "src" / "peakmem" / "ledger" / "seeds"
SHARED = ROOT.parent / "shared"
COUNTS = {"S0": 36, "S1": 89, "S2": 37, "S3": 98, "S4": 25}
LONGEST_RUN = 8
# words in a row that may be those of the text

REFERENCE = {
    name: verdict for table in tomllib.loads((SEEDS / "reference.toml").read_text("utf-8")).values()
    for name, verdict in table.items()
}  # fmt: skip


@pytest.fixture(scope="module")
def found() -> dict[str, Statement]:
    return {one.id: one for name in ("000", "004") for one in check_claims(SEEDS / f"{name}.yaml").statements}


def test_every_statement_is_there_once():
    ids = [claim.id for one in built_in() for claim in one.claims]
    assert sorted(ids) == sorted(f"{seed}-{n:02d}" for seed, count in COUNTS.items() for n in range(1, count + 1))
    assert set(ids) == set(REFERENCE)
    assert len(ids) == 285


def test_every_claim_says_what_it_is_about():
    for one in built_in():
        assert re.fullmatch(r"00[0-4]_[0-9a-f]{16}\.txt", one.source)
        assert one.title
        for claim in one.claims:
            assert claim.says, claim.id
            assert claim.kind, claim.id
            assert claim.line, claim.id
            assert claim.compute or (claim.practice and claim.answer), claim.id


def test_answers_are_pages_that_exist():
    for one in built_in():
        for claim in one.claims:
            for page in re.findall(r"docs/[\w./-]+\.md", claim.answer):
                assert (ROOT / page).is_file(), f"{claim.id}: {page}"


def test_verdicts_are_those_of_the_reference_or_argued(found: dict[str, Statement]):
    for name, one in found.items():
        assert bool(one.disagrees) == (bool(REFERENCE[name]) and REFERENCE[name] != one.verdict), name


@pytest.mark.slow
def test_all_verdicts_are_those_of_the_reference_or_argued():
    report = check_claims()
    assert len(report.statements) == 285
    assert report.not_computed == 0
    for one in report.statements:
        assert bool(one.disagrees) == (bool(REFERENCE[one.id]) and REFERENCE[one.id] != one.verdict), one.id


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("S0-04", (pytest.approx(29_281_120 / 4_209_088),)),  # 9 x in x out for each of 13 layers, stem and head
        ("S0-05", (4_231_976,)),  # Keras' count
        ("S0-12", (4000, 2000, 1000)),
        ("S0-17", (4 * 753_640, 2 * 753_640)),  # 150,528 + 401,408 + 200,704 + 1,000 elements
        ("S0-21", (4 * 3_504_872,)),  # torchvision's count
        ("S0-22", (2 * 3_504_872,)),
        ("S0-23", (4 * (96 * 112 * 112 + 96 * 56 * 56),)),
        ("S0-25", (4 * 3_504_872 + 4 * (96 * 112 * 112 + 96 * 56 * 56),)),
        ("S4-01", (4 * 138_357_544,)),
        ("S4-07", (1,)),
        ("S4-19", (4 * 100 * 150 * 100,)),
        ("S4-20", (4 * 50 * 75 * 200,)),
        ("S4-22", (4 * 25 * 38 * 400,)),
        ("S4-24", (138_357_544,)),
    ],
)
def test_values_by_hand(found: dict[str, Statement], name: str, values: tuple[float, ...]):
    assert found[name].computed[0].values == values


def test_wrong_ones_tell_what_would_be_true(found: dict[str, Statement]):
    wrong = [one.id for one in found.values() if one.verdict == "wrong"]
    assert wrong == ["S0-21", "S0-22", "S0-23", "S0-25", "S4-08", "S4-14"]
    for name in wrong[:4]:
        widths = [one.change for one in found[name].explanations if one.change.startswith("width")]
        assert len(widths) == 1, name
        assert "0.35" in widths[0]


def test_disagreements_and_sentences_are_filled_in(found: dict[str, Statement]):
    assert not [one.id for one in found.values() if "{" in one.why]
    assert "138,357,544 parameters" in found["S4-01"].why


# -- against the texts -------------------------------------------------------------------

conformance = [
    pytest.mark.conformance,
    pytest.mark.skipif(not (SHARED / "seeds").is_dir(), reason="the texts are not here"),
]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


class TestTexts:
    pytestmark = conformance

    def test_lines_are_those_of_the_reference(self):
        ledger = {row["id"]: row for row in json.loads((SHARED / "reference" / "seed_ledger.json").read_text("utf-8"))}
        for one in built_in():
            length = len((SHARED / "seeds" / one.source).read_text("utf-8").splitlines())
            for claim in one.claims:
                assert ledger[claim.id]["seed"] == one.source
                assert claim.line == ledger[claim.id]["line"] <= length, claim.id
                assert claim.kind == ledger[claim.id]["kind"], claim.id

    def test_the_stored_reference_is_the_reference(self):
        rows = json.loads((SHARED / "reference" / "seed_ledger.json").read_text("utf-8"))
        verdicts = {row["id"]: "" if "open" in row else row["verdict"] for row in rows}
        assert {name: verdict.replace("not_checkable", "practice") for name, verdict in verdicts.items()} == REFERENCE

    def test_the_words_are_our_own(self):
        for one in built_in():
            text = words((SHARED / "seeds" / one.source).read_text("utf-8"))
            runs = {tuple(text[at : at + LONGEST_RUN + 1]) for at in range(len(text) - LONGEST_RUN)}
            for claim in one.claims:
                for told in (claim.says, claim.because, claim.practice, claim.disagrees):
                    own = words(told)
                    for at in range(len(own) - LONGEST_RUN):
                        run = tuple(own[at : at + LONGEST_RUN + 1])
                        assert run not in runs, (claim.id, run)
