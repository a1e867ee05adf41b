"""Fit of training steps: against `peakmem.train` at the same and at neighbouring values, and arithmetic by hand."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from peakmem.devices import Device  # noqa: E402
from peakmem.errors import UsageError  # noqa: E402
from peakmem.fitting.training import fit_training  # noqa: E402
from peakmem.fitting.training_changes import CHANGES, Change, register  # noqa: E402
from peakmem.fitting.training_prices import ORDER, PRICES  # noqa: E402
from peakmem.rehearsal import train  # noqa: E402
from peakmem.training.scenario import Optimizer, Scenario  # noqa: E402
from tests.unit.fitting import training_steps  # noqa: E402

MIB = 1 << 20
ROOM = 50 * MIB


def cuda():
    from peakmem.training.tracing.cuda import available

    return available()


def on_cuda(**asked):
    return Scenario(device="cuda", optimizer=Optimizer("adamw"), **asked)


needs_cuda = pytest.mark.skipif(bool(cuda()), reason="no tracing for CUDA here")


def needed(source, scenario, capacity, **asked):
    return train(source, scenario=scenario, capacity=capacity, **asked).verdict


@pytest.fixture(scope="module")
def tight():
    """The step of 4,096 samples in 100 MiB, which it exceeds."""
    return fit_training(training_steps.many, on_cuda(), capacity=ROOM, changes="all")


@needs_cuda
def test_what_is_needed_is_what_training_says(tight):
    """Parts add up, and are those of a plain analysis."""
    (part,) = tight.parts
    plain = needed(training_steps.many, on_cuda(), ROOM)
    assert (part.name, part.needed_bytes, part.bound_bytes) == ("GPU memory", plain.point_bytes, plain.bound_bytes)
    assert sum(nbytes for _, nbytes in part.shares) == part.needed_bytes
    assert (tight.outcome, tight.over) == ("does not fit", ("GPU memory",))
    assert part.headroom_bytes == ROOM - part.needed_bytes < 0
    assert tight.gap == part.needed_bytes / (ROOM)


@needs_cuda
def test_the_largest_batch_fits_and_the_next_does_not(tight):
    (found,) = tight.largest
    there = needed(training_steps.many, on_cuda(batch=found.value), ROOM)
    beyond = needed(training_steps.many, on_cuda(batch=found.next_value), ROOM)
    assert found.next_value == found.value + 1
    assert (there.outcome != "does not fit", beyond.outcome) == (True, "does not fit")
    assert found.next_needed_bytes == beyond.point_bytes
    assert found.needed_bytes <= ROOM < found.next_needed_bytes


@needs_cuda
def test_devices_that_hold_it_together(tight):
    """With whole copies the batch has to be split into parts of the largest that fits; full shard may do with fewer."""
    (found,) = tight.largest
    whole_copies = -(-4096 // found.value)
    assert tight.devices_needed is not None
    assert 1 < tight.devices_needed <= whole_copies
    row = next(one for one in tight.changes if one.names[0].startswith(("devices=", "fsdp=")) and len(one.names) == 2)
    assert row.outcome != "does not fit"
    count, part = (int(name.partition("=")[2]) for name in row.names)
    assert (count, part) == (tight.devices_needed, -(-4096 // count))


@needs_cuda
def test_each_change_is_what_training_says_of_it(tight):
    """Every other row by `peakmem.train` with the what-if or the settings of the allocator, which knows no limit."""
    analysed = [row for row in tight.changes if row.outcome != "refused" and "devices=" not in row.names[0]]
    assert len(analysed) > 6
    for row in analysed[::2]:
        conf = ",".join(name for name in row.names if ":" in name)
        names = "+".join(name for name in row.names if ":" not in name)
        report = train(training_steps.many, scenario=on_cuda(batch=4096), capacity=ROOM, conf=conf,
                       what_if=[names] if names else [])  # fmt: skip
        wanted = report.changes[0].after_bytes if names else report.reserved.reserved_bytes
        ((_, ours),) = row.needed
        if row.outcome == "does not fit" or wanted <= ROOM:
            assert ours == wanted, row.names
        else:  # cached blocks are given back at the limit
            assert ours <= ROOM, row.names


@needs_cuda
def test_those_that_fit_are_ranked_by_price_and_sets_are_minimal(tight):
    kinds = {change.name: change.kind for change in CHANGES.values()} | {"split": "devices"}
    ranks = [one.rank for one in tight.changes if one.rank]
    assert ranks == list(range(1, 1 + len(ranks)))
    said = [price.said for price in PRICES]
    ranked = [one for one in tight.changes if one.rank]
    order = [(one.outcome != "fits", said.index(one.price.split(" (")[0])) for one in ranked]
    assert order == sorted(order)
    fitting = [frozenset(one.names) for one in ranked]
    assert not any(one < other for one in fitting for other in fitting)
    assert all(one.outcome in ("fits", "may fit") for one in ranked)
    assert set(kinds.values()) <= set(ORDER)


@needs_cuda
def test_a_step_that_fits_is_not_changed_unless_asked():
    found = fit_training(training_steps.blocks, on_cuda(), capacity=1 << 34)
    assert (found.outcome, found.changes, found.devices_needed, found.over) == ("fits", (), None, ())


@needs_cuda
def test_the_units_of_the_printed_size_are_read_both_ways():
    """A card of a printed size below the need in 10^9 bytes, above it in 2^30: 0.97 and 1.04 of it."""
    need = train(training_steps.blocks, scenario=on_cuda()).reserved.reserved_bytes
    printed = need * 0.97 / 10**9
    card = Device("toy", "Toy", "gpu", f"{printed:.6f} GB", int(printed * 10**9), "here", context_bytes=0)
    found = fit_training(training_steps.blocks, on_cuda(), card, changes="none", knobs=())
    assert found.outcome == "does not fit"
    assert [one.outcome == "does not fit" for one in found.readings] == [True, False]
    assert [one.text.split()[1] for one in found.readings] == ["GB", "GiB"]
    roomy = fit_training(training_steps.blocks, on_cuda(), replace(card, memory="16 GB"), changes="none", knobs=())
    assert roomy.readings == ()


def test_the_processor_has_ram():
    plain = train(training_steps.blocks, scenario=Scenario(), capacity=1 << 29)
    found = fit_training(training_steps.blocks, Scenario(), capacity=1 << 29)
    (part,) = found.parts
    assert (part.name, part.needed_bytes) == ("RAM", plain.verdict.point_bytes)
    assert sum(nbytes for _, nbytes in part.shares) == part.needed_bytes
    value = found.largest[0].value
    assert needed(training_steps.blocks, Scenario(batch=value), 1 << 29).outcome != "does not fit"
    assert needed(training_steps.blocks, Scenario(batch=value + 1), 1 << 29).outcome == "does not fit"


@needs_cuda
def test_where_not_even_one_sample_fits():
    found = fit_training(training_steps.blocks, on_cuda(), capacity=4 * MIB, changes="none")
    (largest,) = found.largest
    assert (largest.value, largest.next_value, found.outcome) == (0, 1, "does not fit")
    assert largest.next_needed_bytes > 4 * MIB


def test_a_step_of_its_own_has_no_batch_to_be_turned():
    found = fit_training(training_steps.own, Scenario(), capacity=1 << 34)
    assert found.largest == ()
    assert any("the largest batch was not looked for" in one for one in found.assumptions)


@needs_cuda
def test_the_table_of_changes_is_open():
    mine = Change("mine", "half the width of a sum", "data", "for the test", lambda _: ("freeze=0.*",))
    register(mine)
    try:
        found = fit_training(training_steps.blocks, on_cuda(), capacity=20 * MIB, most_traces=4)
    finally:
        del CHANGES["mine"]
    assert any(one.names == ("freeze=0.*",) and one.title == "half the width of a sum" for one in found.changes)


def test_commands_can_be_typed():
    found = fit_training("lstm_2layer", Scenario(batch=512), capacity=1 << 28, most_traces=5)
    assert found.outcome == "does not fit"
    for row in found.changes:
        words = shlex.split(row.command)
        assert not words or words[:3] == ["peakmem", "train", "lstm_2layer"]
    assert any("--batch 512" in row.command for row in found.changes)
    assert any(row.reason.startswith("not tried") for row in found.changes)


def test_choices_are_made_before_the_question_is_asked():
    """The step in parts of half the batch is the step of half the batch, and the batch that was there is its own."""
    asked = Scenario(batch=64)
    halved = fit_training(training_steps.blocks, asked, capacity=1 << 34, choices=("batch=32",), knobs=())
    plain = fit_training(training_steps.blocks, Scenario(batch=32), capacity=1 << 34, knobs=())
    assert halved.parts == plain.parts
    assert halved.parts != fit_training(training_steps.blocks, asked, capacity=1 << 34, knobs=()).parts
    with pytest.raises(UsageError, match="there is no what-if 'ampp'"):
        fit_training(training_steps.blocks, asked, capacity=1 << 34, choices=("ampp",))


@pytest.mark.parametrize(
    ("device", "capacity", "message"),
    [
        ("stm32f746", None, "trains nothing on"),
        ("phone-app", None, "trains nothing on"),
        (None, None, "fits into what"),
        (None, 0, "a capacity of 0 B"),
        ("v100-17gb", None, "no device is called"),
    ],
)
def test_what_cannot_be_asked(device, capacity, message):
    with pytest.raises(UsageError, match=message):
        fit_training("resnet18", Scenario(), device, capacity=capacity)
