"""Damaged files end in a report or in a PeakmemError, soon and in little memory; `benchmarks/fuzz.py` goes further."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from tests.fuzz import mutation, seeds

CASES = 1500
SEED = 20_240
# changed by hand now and then; a fixed one keeps a failure repeatable
HANG_SECONDS = 30


class Hang(BaseException):
    """Not an Exception, so that nothing catches it on the way."""


def fall(*_: object) -> None:
    raise Hang


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
    kinds: Counter[str] = Counter()
    violations = []
    before = signal.signal(signal.SIGALRM, fall)
    try:
        for case in range(CASES):
            data, what = mutation.mutant(found, case, SEED)
            path.write_bytes(data)
            signal.alarm(HANG_SECONDS)
            try:
                outcome = mutation.outcome(path, mutation.questions(case, SEED))
            except Hang:
                outcome = mutation.Outcome("VIOLATION", f"ran for {HANG_SECONDS} s", HANG_SECONDS, 0)
            signal.alarm(0)
            kinds[outcome.kind] += 1
            if outcome.kind == "VIOLATION":
                violations.append(f"seed {SEED}, case {case}: {what}\n    {outcome.detail}")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
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
