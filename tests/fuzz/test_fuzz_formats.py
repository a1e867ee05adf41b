"""As test_fuzz_onnx, for every other format; `benchmarks/fuzz.py --format NAME` goes further."""

from __future__ import annotations

import pytest

from tests.fuzz import formats, mutation
from tests.fuzz.running import SEED, run

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
    kinds, violations = run(found, path, CASES, module.damage, blind=0.5)
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
