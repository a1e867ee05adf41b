"""Recordings written by hand, and the logs they make; no torch."""

from __future__ import annotations

from peakmem.training import account
from peakmem.training.scenario import Scenario
from peakmem.training.verify import wire
from peakmem.training.verify.cuda_history import requested
from peakmem.training.verify.measured import log_of

NO_OPERATOR, NO_NODE = -1, -1


def recording(events, notes, operators=("aten::mm", "aten::add")):
    return wire.Recording(events=events, operators=list(operators), notes=notes)


def test_categories_phases_and_workspaces():
    notes = [
        ["settle", "input"], ["label", 1, "parameter", "w"], ["phase", "forward", 0], ["module", "head", 2, 5],
        ["module", "", 1, 6], ["phase", "backward", 0], ["label", 5, "gradient", "w"], ["end"],
    ]  # fmt: skip
    log = log_of(
        recording(
            [
                (1, 100, 0, 1, NO_NODE), (2, 10, 0, 2, NO_NODE), (1_000, 7, NO_OPERATOR, 0, NO_NODE),
                (1_000, -7, NO_OPERATOR, 0, NO_NODE), (1,), (0,), (2,), (3,),
                (3, 20, 0, 3, NO_NODE), (4, 40, 0, 3, NO_NODE), (4, -40, 0, 3, NO_NODE), (4,), (5,),
                (5, 100, 0, 4, 5), (6, 30, 1, 5, -2), (6, -30, NO_OPERATOR, 0, NO_NODE),
                (3, -20, NO_OPERATOR, 0, NO_NODE), (6,), (7,), (1, -100, NO_OPERATOR, 0, NO_NODE),
            ],
            notes,
        )
    )  # fmt: skip
    assert log.origin == "measured"
    told = [(one.nbytes, one.category, one.phase, one.module, one.name) for one in log.storages]
    assert told == [
        (100, "parameter", "build", "", "w"), (10, "input", "build", "", ""), (7, "temporary", "build", "", ""),
        (20, "saved activation", "forward", "head", ""), (40, "kernel workspace", "forward", "head", ""),
        (100, "gradient", "backward", "head", "w"), (30, "temporary", "backward", "", ""),
    ]  # fmt: skip
    # alive to the end: what is released after it is not of the step
    assert [one.nbytes for one in log.storages if one.stop == log.moments] == [100, 10, 100]
    assert account.peak(log).nbytes == 100 + 10 + 20 + 100 + 30


def test_what_came_before_or_went_unseen_is_told():
    log = log_of(recording([(9, -500, -1, 0, -1), (1, 10, -1, 0, -1), (1, 10, -1, 0, -1)], []))
    assert [one.nbytes for one in log.storages] == [10, 10]
    assert account.peak(log).nbytes == 10
    assert "500 bytes" in log.notes[0]
    assert "1 releases" in log.notes[1]


def test_a_label_of_an_optimizer_does_not_rename_a_parameter():
    notes = [["label", 1, "parameter", "w"], ["label", 1, "optimizer state", "w"], ["label", 77, "buffer", "gone"]]
    (one,) = log_of(recording([(1, 10, -1, 0, -1), (0,), (1,), (2,)], notes)).storages
    assert (one.category, one.name) == ("parameter", "w")


def test_orders_and_recordings_survive_the_way(tmp_path):
    order = wire.Order("resnet18", Scenario(batch=2, values=(("*", 3),)), inputs=("1x3x8x8",))
    wire.write(tmp_path / "order", order)
    assert wire.read_order(tmp_path / "order") == order
    made = wire.Recording([(1, 2, 3, 4, 5), (0,)], ["aten::mm"], [["label", 1, "input", ""]], facts={"torch": "2"})
    wire.write(tmp_path / "made", made)
    assert wire.read_recording(tmp_path / "made") == made


def test_sizes_of_a_gpu_are_those_that_were_asked_for():
    entries = [
        {"action": "segment_alloc", "addr": 512, "size": 2 << 20}, {"action": "alloc", "addr": 512, "size": 100},
        {"action": "free_requested", "addr": 512, "size": 100}, {"action": "free_completed", "addr": 512, "size": 100},
        {"action": "alloc", "addr": 512, "size": 700},
    ]  # fmt: skip
    events = [(512, 512, 0, 1, -1), (0,), (512, -512, -1, 0, -1), (512, 1024, 0, 2, -1)]
    assert requested(events, entries) == (
        [(512, 100, 0, 1, -1), (0,), (512, -100, -1, 0, -1), (512, 700, 0, 2, -1)],
        [],
    )
    found, doubts = requested([*events, (4096, 512, 0, 3, -1)], entries)
    assert found[-1] == (4096, 512, 0, 3, -1)
    assert doubts == ["1 allocations have the allocator's rounded size: its history does not hold them"]
