"""Damaged files end in a report or in a PeakmemError, soon and in little memory; `benchmarks/fuzz.py` goes further."""

from __future__ import annotations

import pytest

from tests.fuzz import mutation, seeds
from tests.fuzz.running import SEED, run

CASES = 1500


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The seeds, and the folder that the mutants are written to; each seed has been answered once."""
    folder = tmp_path_factory.mktemp("fuzz")
    seeds.lay_out(folder)
    found = {**seeds.built(), **seeds.light(seeds.LIGHT)}
    for name, data in found.items():
        (folder / "seed.onnx").write_bytes(data)
        outcome = mutation.outcome(folder / "seed.onnx")
        assert outcome.kind == "report", (name, outcome)
    return found, folder / "mutant.onnx"


def test_damaged_files_end_in_a_report_or_an_error(files):
    found, path = files
    kinds, violations = run(found, path, CASES)
    assert not violations, "\n".join(violations)
    # Damage that only ever met the reader's first check would test little.
    assert kinds["report"] > CASES // 10
    assert kinds["GraphError"] + kinds["ShapeError"] > CASES // 20
    assert kinds["FormatError"] > CASES // 10


def test_the_same_seed_gives_the_same_mutant(files):
    found, _ = files
    for case in range(20):
        assert mutation.mutant(found, case, SEED) == mutation.mutant(found, case, SEED)
    assert mutation.mutant(found, 0, SEED) != mutation.mutant(found, 0, SEED + 1)
