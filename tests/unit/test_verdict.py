"""Fits, may fit, does not fit: small logs made by hand, and the allocator's rules for their sizes."""

from __future__ import annotations

import pytest

from peakmem import devices
from peakmem.devices import Device
from peakmem.training.allocator import Settings, simulate
from peakmem.training.recorder import Recorder
from peakmem.verdict import Capacity, beside_cpu, beside_cuda, judged_cpu, judged_cuda, reserved_of

MIB = 2**20
CONTEXT = 100 * MIB
CARD = Device("small", "A small card", "gpu", "1 GB", 10**9, "https://example.org", context_bytes=CONTEXT)


def log(*, device: str = "cuda", doubt: int = 0):
    """Two blocks of 40 MiB at once, then one of 60 MiB where they were."""
    recorder = Recorder(device=device, origin="trace")
    recorder.enter("forward", 0)
    first = recorder.allocate(40 * MIB, "aten::first")
    second = recorder.allocate(40 * MIB, "aten::second", module="block")
    if doubt:
        recorder.doubt(doubt, "aten::second", "no row")
    recorder.release(first)
    recorder.release(second)
    recorder.enter("backward", 0)
    recorder.release(recorder.allocate(60 * MIB, "aten::third"))
    return recorder.finish()


def judged(capacity: int, *, doubt: int = 0, exact: bool = True, card: Device | None = CARD):
    """The verdict over the log under torch's default settings."""
    made = log(doubt=doubt)
    reserved = reserved_of(simulate(made, Settings()), exact=exact)
    return reserved, judged_cuda(made, Capacity(capacity, "as asked", card), reserved, Settings())


def test_what_is_reserved_is_more_than_what_is_alive():
    """Blocks above 10 MiB get segments of their own (multiples of 2 MiB), which stay cached: 40 + 40 + 60."""
    reserved, _ = judged(1024 * MIB)
    assert reserved.requested_bytes == reserved.allocated_bytes == 80 * MIB
    assert reserved.reserved_bytes == 140 * MIB
    assert reserved.fragmentation_bytes == 60 * MIB
    assert (reserved.phase, reserved.operator) == ("backward", "aten::third")
    assert reserved.bound_bytes is not None
    assert reserved.bound_bytes >= 140 * MIB


def test_it_fits_when_the_bound_does():
    reserved, verdict = judged(1024 * MIB, doubt=10 * MIB)
    assert verdict.outcome == "fits"
    assert (verdict.point_bytes, verdict.beside_bytes) == (140 * MIB + CONTEXT, CONTEXT)
    assert verdict.bound_bytes == reserved.bound_bytes + CONTEXT


def test_it_may_fit_when_only_the_predicted_value_does():
    assert judged(140 * MIB + CONTEXT, doubt=100 * MIB)[1].outcome == "may fit"


def test_cached_blocks_are_given_back_at_the_limit():
    """80 MiB are alive at once; a request that does not fit makes the allocator give cached segments back."""
    _, verdict = judged(100 * MIB + CONTEXT, doubt=1)
    assert verdict.outcome in ("may fit", "fits")
    assert "cached blocks are given back" in verdict.reason


def test_it_does_not_fit_and_says_where():
    _, verdict = judged(70 * MIB + CONTEXT)
    assert verdict.outcome == "does not fit"
    assert "aten::second of block" in verdict.reason


def test_a_card_smaller_than_its_context():
    assert judged(50 * MIB)[1].outcome == "does not fit"


def test_nothing_fits_for_sure_without_a_bound():
    reserved, verdict = judged(1024 * MIB, exact=False)
    assert reserved.bound_bytes is None
    assert (verdict.outcome, verdict.bound_bytes) == ("may fit", None)


def test_a_card_without_a_known_context_counts_the_largest_in_its_bound():
    beside = beside_cuda(devices.find("h100-80gb"))
    assert (beside.nbytes, beside.bound_bytes) == (0, 1343 * MIB)
    assert "not known" in beside.said


def test_on_the_processor_the_process_counts():
    base = beside_cpu()
    assert base.nbytes > 50 * MIB
    made = log(device="cpu", doubt=10 * MIB)
    for room, outcome in ((90, "fits"), (85, "may fit"), (79, "does not fit")):
        found = judged_cpu(made, Capacity(base.nbytes + room * MIB, "as asked"), exact=True)
        assert found.outcome == outcome
        assert found.point_bytes == base.nbytes + 80 * MIB
    assert judged_cpu(made, Capacity(1 << 40, "as asked"), exact=False).outcome == "may fit"


@pytest.mark.parametrize("name", ["v100-16gb", "v100-32gb"])
def test_a_published_context_is_counted_once(name):
    beside = beside_cuda(devices.find(name))
    assert beside.nbytes == beside.bound_bytes == 1343 * MIB
