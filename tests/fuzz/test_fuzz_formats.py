"""As test_fuzz_onnx, for every other format; `benchmarks/fuzz.py --format NAME` goes further."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from tests.fuzz import formats, mutation
from tests.fuzz.test_fuzz_onnx import HANG_SECONDS, SEED, Hang, fall

CASES = 250
# per format


@pytest.mark.parametrize("name", formats.names())
def test_damaged_files_end_in_a_report_or_an_error(name, tmp_path):
    try:
        module = formats.module(name)
        found = module.seeds()
    except ImportError as missing:
        pytest.skip(str(missing))
    path = tmp_path / f"mutant{module.SUFFIX}"
    for seed_name, data in found.items():
        path.write_bytes(data)
        outcome = mutation.outcome(path)
        assert outcome.kind in ("report", "UnboundDimension"), (seed_name, outcome)
    kinds: Counter[str] = Counter()
    violations = []
    before = signal.signal(signal.SIGALRM, fall)
    try:
        for case in range(CASES):
            data, what = mutation.mutant(found, case, SEED, module.damage, blind=0.5)
            path.write_bytes(data)
            signal.alarm(HANG_SECONDS)
            try:
                outcome = mutation.outcome(path, mutation.questions(case, SEED))
            except Hang:
                outcome = mutation.Outcome("VIOLATION", f"ran for {HANG_SECONDS} s", HANG_SECONDS, 0)
            signal.alarm(0)
            kinds[outcome.kind] += 1
            if outcome.kind == "VIOLATION":
                violations.append(f"{name}, seed {SEED}, case {case}: {what}\n    {outcome.detail}")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert not violations, "\n".join(violations)
    # Damage that only ever met the reader's first check would test little.
    assert kinds["report"] > CASES // 50, kinds
    assert kinds["FormatError"] > CASES // 20, kinds


@pytest.mark.parametrize("name", formats.names())
def test_the_same_seed_gives_the_same_mutant(name):
    try:
        module = formats.module(name)
        found = module.seeds()
    except ImportError as missing:
        pytest.skip(str(missing))
    for case in range(10):
        once = mutation.mutant(found, case, SEED, module.damage)
        assert once == mutation.mutant(found, case, SEED, module.damage)
