"""Statements of two texts on training, against the list of all that they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peakmem.training.formulas import STATEMENTS

LEDGER = Path(__file__).resolve().parents[3].parent / "shared" / "reference" / "seed_ledger.json"
ASKED = {f"S3-{number}" for number in (*range(51, 68), *range(69, 80), 83)} | {
    f"S4-{number:02d}" for number in (2, *range(4, 10), 14, 15, 16)
}
# on training; the other lines are on parameters, files and inference


def test_every_statement_on_training_has_an_answer():
    assert {item.key for item in STATEMENTS} == ASKED


@pytest.mark.conformance
@pytest.mark.skipif(not LEDGER.exists(), reason=f"{LEDGER.name} is not there")
def test_statements_are_quoted_and_judged_as_in_the_list():
    """What the list calls right or wrong is not called the opposite."""
    judged = {entry["id"]: entry.get("verdict") for entry in json.loads(LEDGER.read_text(encoding="utf-8"))}
    opposite = {"right": "wrong", "wrong": "right"}
    for item in STATEMENTS:
        assert item.key in judged
        assert judged[item.key] != opposite.get(item.verdict), item.key
