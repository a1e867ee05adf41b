"""A traced step against what a GPU recorded, allocation by allocation."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("torch")

from peakmem.training.scenario import Scenario
from peakmem.training.tracing import cuda

RECORDS = Path(__file__).parents[4] / "shared" / "reference" / "cuda_traces"

# Allocations of the record that no operator's result is: how many, of how many bytes, and what takes them.
# `index_put` with accumulation sorts its indices (aten/src/ATen/native/cuda/Indexing.cu, index_put_with_sort_kernel);
# a reduction over rows too many for one block keeps partial sums and a counter (aten/src/ATen/native/cuda/Reduce.cuh).
SORTING = {128: {4096: 5, 512: 1}, 512: {16384: 5, 512: 1}}
REDUCING = {128: {}, 512: {16777216: 49, 512: 49}}


@pytest.mark.slow
@pytest.mark.conformance
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("name", "length", "autocast"),
    [("transformer423m_ctx128_train_fp32", 128, False), ("transformer423m_ctx512_train_bf16", 512, True)],
)
def test_every_allocation_of_a_recorded_step(name: str, length: int, autocast: bool) -> None:
    path = RECORDS / f"{name}.json.gz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not here")
    if cuda.available():
        pytest.skip(cuda.available())
    from tests.unit.training.recorded_transformer import Recorded

    from peakmem.training.tracing.run import trace

    with gzip.open(path) as file:
        events = json.load(file)["trace"]
    log = trace(Recorded(length, autocast=autocast), Scenario(device="cuda", steps=2))
    begin = next(mark.moment for mark in log.marks if mark.step == 1)
    results = [item for item in log.storages if item.nbytes and item.category != "kernel workspace"]
    traced = [_rounded(item.nbytes) for item in results if item.start >= begin]
    recorded = [_rounded(event[2]) for event in events if event[0] == "alloc"]
    beside = Counter(_left_over(traced, recorded))
    assert beside == Counter(SORTING[length]) + Counter(REDUCING[length])

    change = [(item.start, _rounded(item.nbytes)) for item in results if item.start >= begin]
    change += [(item.stop, -_rounded(item.nbytes)) for item in results if begin <= item.stop < log.moments]
    known = [(at, _rounded(event[2]) * (1 if event[0] == "alloc" else -1)) for at, event in enumerate(events)
             if event[0] in ("alloc", "free_completed")]  # fmt: skip
    assert _highest(sorted(change)) == _highest(known)


def _rounded(nbytes: int) -> int:
    return max(512, -(-nbytes // 512) * 512)


def _left_over(traced: list[int], recorded: list[int]) -> list[int]:
    """What of `recorded` remains when `traced` is taken out in order; fails when an item of `traced` is not there."""
    remaining, rest = iter(recorded), []
    for number, item in enumerate(traced):
        for other in remaining:
            if other == item:
                break
            rest.append(other)
        else:
            pytest.fail(f"allocation {number} of {item} bytes is not in the record")
    return [*rest, *remaining]


def _highest(changes: list[tuple[int, int]]) -> int:
    level = most = 0
    for _, nbytes in changes:
        level += nbytes
        most = max(most, level)
    return most
