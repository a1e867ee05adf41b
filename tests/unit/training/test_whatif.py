"""What-ifs: names, the split of a small log by hand, and rows that come from traces of their own."""

from __future__ import annotations

import pytest

from peakmem.errors import UsageError
from peakmem.training import account
from peakmem.training.log import events, live_bytes
from peakmem.training.recorder import Recorder
from peakmem.training.scenario import Optimizer, Scenario, Sharding
from peakmem.training.whatif import names
from peakmem.training.whatif.parallel import parallel
from peakmem.training.whatif.sharding import sharded


def step_of_two_layers():
    """Weights of 400 bytes each in two units; activations of 100, gradients of 400, two states of 400 for each."""
    made = Recorder(device="cpu", origin="trace")
    for name in ("a", "b"):
        made.allocate(400, category="parameter", name=f"{name}.weight", shape=(10, 10))
    made.enter("forward", 0)
    saved = [made.allocate(100, "mm", module=name, shape=(5, 5)) for name in ("a", "b")]
    made.enter("backward")
    for name, number in (("b", saved[1]), ("a", saved[0])):
        made.allocate(400, "mm", category="gradient", module=name, name=f"{name}.weight", shape=(10, 10))
        made.release(number)
    made.enter("optimizer")
    for name in ("a", "b"):
        for _ in range(2):
            made.allocate(400, "zeros", category="optimizer state", name=f"{name}.weight", shape=(10, 10))
        made.workspace(400, "sqrt")
    return made.finish()


def kept(log, category):
    return account.kept(log)[category]


def test_stage_one_splits_the_optimizers_state():
    log = sharded(step_of_two_layers(), Sharding(ranks=4, stage=1))
    assert (kept(log, "optimizer state"), kept(log, "gradient"), kept(log, "parameter")) == (400, 800, 800)
    events(log)


def test_stage_two_keeps_a_whole_gradient_until_the_next():
    log = sharded(step_of_two_layers(), Sharding(ranks=4, stage=2))
    events(log)
    assert (kept(log, "gradient"), kept(log, "optimizer state")) == (200, 400)
    # parameters, both activations, the part of b's gradient and the whole of it
    assert account.peak(log, phase="backward").nbytes == 800 + 200 + 100 + 400


def test_stage_three_gathers_a_unit_and_the_next():
    log = sharded(step_of_two_layers(), Sharding(ranks=4, stage=3), ["a", "b"])
    events(log)
    assert kept(log, "parameter") == 200
    # both parts, a's activation, b's copy and its buffer, a's buffer
    assert account.peak(log, phase="forward").nbytes == 200 + 100 + 3 * 400


def test_one_rank_is_the_log_itself():
    log = step_of_two_layers()
    assert sharded(log, Sharding(ranks=1, stage=3)) is log
    assert parallel(log, 1, sequence=False, units=()) is log


def test_a_split_never_adds_to_what_is_kept():
    log = step_of_two_layers()
    for stage in (1, 2, 3):
        for ranks in (2, 3, 7, 64):
            split = sharded(log, Sharding(ranks=ranks, stage=stage), ["a", "b"])
            assert live_bytes(split)[-1] <= live_bytes(log)[-1]


def test_tensor_parallelism_by_its_formula():
    log = parallel(step_of_two_layers(), 4, sequence=False, units=["a", "b"])
    assert kept(log, "parameter") == 200
    saved = [item.nbytes for item in log.storages if item.category == "saved activation"]
    assert saved == [48, 48]  # 100 × (10 + 24 / 4) / 34, rounded up
    split = parallel(step_of_two_layers(), 4, sequence=True, units=["a", "b"])
    assert [item.nbytes for item in split.storages if item.category == "saved activation"] == [25, 25]
    with pytest.raises(UsageError, match="layers that repeat"):
        parallel(step_of_two_layers(), 4, sequence=True, units=[])


def test_names_change_a_scenario():
    def of(text, **kwargs):
        return names.parse(text)[1](Scenario(**kwargs))

    assert of("amp+recompute+fused") == Scenario(
        precision="amp-bf16", recompute="blocks", optimizer=Optimizer(implementation="fused")
    )
    assert of("recompute-every=3").recompute == "every-3"
    assert of("accumulate=4", batch=32) == Scenario(accumulate=4, batch=8)
    assert of("zero3=16").sharding == Sharding(ranks=16, stage=3)
    assert of("lion").optimizer == Optimizer("lion")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ampp", "--what-if amp"), ("amp=3", "takes no value"), ("batch", "needs a value"), ("batch=x", "no count"),
        ("zero1=0", "no count"), ("", "there is no what-if"), ("amp+", "there is no what-if"),
    ],
)  # fmt: skip
def test_names_that_stand_for_nothing(text, said):
    with pytest.raises(UsageError) as fault:
        names.parse(text)[1](Scenario(batch=8))
    assert said in str(fault.value)


def test_parts_of_a_batch_are_equal():
    with pytest.raises(UsageError, match="no 3 equal parts"):
        names.parse("accumulate=3")[1](Scenario(batch=32))
