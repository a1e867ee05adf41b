"""Two small logs held against each other; every number can be added by hand. No torch."""

from __future__ import annotations

import pytest

from peakmem.training.recorder import Recorder
from peakmem.training.verify.comparing import compare, share


def log(origin, *, saved=20, extra=0, scratch=0, held=False, swapped=False):
    made = Recorder(device="cpu", origin=origin)
    made.allocate(100, category="parameter", name="w")
    made.enter("forward", 0)
    kept = made.allocate(saved, "aten::mm", module="a")
    if extra:
        made.allocate(extra, "aten::add", module="b")
    early = made.allocate(8, "aten::mul", module="c")
    if not held:
        made.release(early)
    made.enter("backward")
    made.workspace(scratch, "aten::mm", module="a")
    for nbytes in (7, 5) if swapped else (5, 7):
        made.allocate(nbytes, "aten::mm_backward", module="a")
    made.release(kept)
    if held:
        made.release(early)
    return made.finish()


def test_equal_logs_have_no_difference():
    found = compare(log("trace"), log("measured"))
    assert found.error == 0
    assert not found.differences
    assert not found.partings
    assert [(one.step, one.phase, one.error) for one in found.phases] == [
        (-1, "build", 0.0), (0, "forward", 0.0), (0, "backward", 0.0),
    ]  # fmt: skip


def test_the_order_of_results_of_one_operator_is_its_own_affair():
    assert not compare(log("trace"), log("measured", swapped=True)).partings


def test_what_one_has_more_is_named_and_sums_to_the_error():
    found = compare(log("trace"), log("measured", saved=24, extra=50, scratch=40))
    assert (found.predicted.nbytes, found.measured.nbytes) == (100 + 20 + 12, 100 + 24 + 50 + 40)
    assert found.error == pytest.approx((132 - 214) / 214)
    named = {(one.category, one.operator, one.module): one.nbytes for one in found.differences}
    assert named == {
        ("saved activation", "aten::add", "b"): 50, ("kernel workspace", "aten::mm", "a"): 40,
        ("temporary", "aten::mm_backward", "a"): -12, ("saved activation", "aten::mm", "a"): 4,
    }  # fmt: skip
    assert sum(named.values()) == 214 - 132
    assert [(one.kind, one.operator, one.predicted_bytes, one.measured_bytes) for one in found.partings] == [
        ("other size", "aten::mm", 20, 24), ("only measured", "aten::add", 0, 50),
    ]  # fmt: skip


def test_what_is_held_longer_is_a_parting():
    (one,) = compare(log("trace"), log("measured", held=True)).partings
    assert (one.kind, one.operator, one.module, one.phase) == ("other lifetime", "aten::mul", "c", "forward")


def test_shares():
    assert share(90, 100) == pytest.approx(-0.1)
    assert share(0, 0) == 0
    assert share(1, 0) == float("inf")
