"""Layouts of optimizers by hand, and logs whose optimizer or gradients are changed; no torch."""

from __future__ import annotations

import pytest

from peakmem.errors import UsageError
from peakmem.training import account
from peakmem.training.log import Log, events, live_bytes
from peakmem.training.optimizers import (
    KNOWN,
    OptimizerState,
    Parameter,
    layout,
    parameters_of,
    settle,
    state_bytes,
    with_none_gradients,
    with_optimizer,
    with_zeroed_gradients,
    write_build,
    write_step,
)
from peakmem.training.optimizers.groups import groups
from peakmem.training.recorder import Recorder
from peakmem.training.scenario import Optimizer

MATRIX, VECTOR = Parameter("m", (30, 20)), Parameter("v", (7,))


# State ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "on_cpu", "on_cuda"),
    [
        # bytes of (30, 20) and (7,) in float32: 2,400 and 28; a counter of 4 bytes each is the host's
        ("sgd", {}, 0, 0),
        ("momentum", {}, 2428, 2428),
        ("adam", {}, 2 * 2428 + 8, 2 * 2428),
        ("adamw", {"amsgrad": True}, 3 * 2428 + 8, 3 * 2428),
        ("rmsprop", {"momentum": 0.9, "centered": True}, 3 * 2428 + 8, 3 * 2428),
        ("adagrad", {}, 2428 + 8, 2428),
        ("adafactor", {}, 4 * (30 + 20 + 7) + 8, 4 * (30 + 20 + 7)),
        ("adafactor-transformers", {"first_moment": True}, 4 * 57 + 2428, 4 * 57 + 2428),
        ("lion", {}, 2428, 2428),
        ("adam8bit", {}, 2 * 2428 + 2048, 2 * 2428),  # too small for 8 bits; its tables are the host's
    ],
)
def test_state_by_hand(name: str, options: dict[str, float], on_cpu: int, on_cuda: int):
    optimizer = Optimizer(name, None, tuple(options.items()))
    for device, expected in (("cpu", on_cpu), ("cuda", on_cuda)):
        assert state_bytes([MATRIX, VECTOR], optimizer, device) == expected


def test_eight_bits_have_a_scale_for_each_block():
    """5,000 elements: two states of 5,000 bytes and 20 scales of 4 bytes each; two tables of 1,024 bytes."""
    big = Parameter("b", (50, 100), "bfloat16")
    assert state_bytes([big], Optimizer("adamw8bit"), "cuda") == 2 * (5000 + 80) + 2048
    assert state_bytes([big], Optimizer("lion8bit"), "cuda") == 5000 + 80 + 1024
    old = Optimizer("adamw8bit", None, (("block", 2048),))
    assert state_bytes([big], old, "cuda") == 2 * (5000 + 12) + 2048
    huge = Parameter("h", (1000, 100))
    paged = Optimizer("paged-adamw8bit")
    assert state_bytes([huge], paged, "cuda") == 2 * 391 * 4 + 2048
    assert [item.paged for item in layout(settle(paged, "cuda"), huge)] == [True, True, False, False]


def test_fused_counters_are_on_the_device():
    assert state_bytes([VECTOR], Optimizer("adam", "fused"), "cuda") == 2 * 28 + 4
    assert state_bytes([VECTOR], Optimizer("adam", "foreach"), "cuda") == 2 * 28


def test_frozen_parameters_have_no_state_but_adagrads():
    frozen = MATRIX._replace(gradient=False)
    assert state_bytes([frozen, VECTOR], Optimizer("adam", "fused"), "cuda") == 2 * 28 + 4
    assert state_bytes([frozen, VECTOR], Optimizer("adagrad"), "cuda") == 2428


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", KNOWN)
def test_what_is_written_is_what_is_kept(name: str, device: str):
    """After two steps the state is there, once, and nothing else but transformers' root mean squares."""
    parameters = [
        MATRIX, VECTOR, Parameter("big", (70, 70), "bfloat16"), Parameter("p", (400, 300)), Parameter("e", (0, 3)),
        MATRIX._replace(name="f", gradient=False),
    ]  # fmt: skip
    parameters = [item for item in parameters if item.elements or not name.startswith("adafactor")]
    for implementation in KNOWN[name].implementations:
        optimizer = Optimizer(name, implementation)
        recorder, state = Recorder(device=device, origin="test"), OptimizerState()
        write_build(recorder, parameters, optimizer, state, device)
        for step in range(2):
            recorder.enter("optimizer", step)
            write_step(recorder, parameters, optimizer, state, device)
        kept = account.kept(recorder.finish())
        roots = 4 * sum(item.gradient for item in parameters) if name == "adafactor-transformers" else 0
        assert kept["optimizer state"] == state_bytes(parameters, optimizer, device) + roots
        assert sum(kept.values()) == kept["optimizer state"]


def test_copies_in_32_bits():
    """bfloat16: a copy of 4 bytes an element and two moments of 4; the step holds gradients of 4, too."""
    parameter, optimizer = Parameter("p", (10, 10), "bfloat16"), Optimizer("adam", "fused", (("master", True),))
    assert state_bytes([parameter], optimizer, "cuda") == 1200 + 4
    recorder, state = Recorder(device="cuda", origin="test"), OptimizerState()
    write_build(recorder, [parameter], optimizer, state, "cuda")
    recorder.enter("optimizer", 0)
    write_step(recorder, [parameter], optimizer, state, "cuda")
    log = recorder.finish()
    assert account.kept(log)["optimizer state"] == 1204
    assert max(live_bytes(log)) == 1604


# Peaks of a step -----------------------------------------------------------------------------------------------------


def _peak(optimizer: Optimizer, parameters: list[Parameter], device: str) -> int:
    """The most that a second step adds to what is kept."""
    recorder, state = Recorder(device=device, origin="test"), OptimizerState()
    for step in range(2):
        recorder.enter("optimizer", step)
        write_step(recorder, parameters, optimizer, state, device)
    log = recorder.finish()
    live = live_bytes(log)
    second = next((item.moment for item in log.marks if item.step == 1), log.moments)
    return max(live[second:]) - live[-1] if second < log.moments else 0


def test_single_takes_two_of_the_largest_and_foreach_one_of_all():
    """On a GPU, where numbers take nothing: root and quotient of the last beside the quotient of the one before."""
    parameters = [Parameter(f"p{at}", (100,)) for at in range(5)]
    assert _peak(Optimizer("adam", "single"), parameters, "cuda") == 3 * 400
    assert _peak(Optimizer("adam", "foreach"), parameters, "cuda") == 5 * 400
    assert _peak(Optimizer("adam", "fused"), parameters, "cuda") == 0
    assert _peak(Optimizer("adam", "foreach", (("weight_decay", 0.1),)), parameters, "cuda") == 5 * 400
    assert _peak(Optimizer("lion", "foreach"), parameters, "cuda") == 5 * 400
    assert _peak(Optimizer("adamw8bit"), parameters, "cuda") == 0


def test_products_of_bfloat16_are_doubted_on_the_processor():
    """Measured on torch 2.13: 86,656 bytes for 600 × 400, 140,928 for 4,096 × 512, none for 64 × 64."""
    parameters = [
        Parameter("a", (600, 400), "bfloat16"),
        Parameter("b", (64, 64), "bfloat16"),
        Parameter("c", (600, 400)),
    ]
    for device, expected in (("cpu", 1), ("cuda", 0)):
        recorder = Recorder(device=device, origin="test")
        write_step(recorder, parameters, Optimizer("adafactor", "single"), OptimizerState(), device)
        doubts = recorder.finish().doubts
        assert len(doubts) == expected
        assert all(item.nbytes >= 86_656 for item in doubts)


def test_groups_come_in_the_order_of_a_hash():
    """Watched on torch 2.13's CPU build; float32 and bfloat16 share a bucket there, on a GPU no two of the four do."""

    def order(dtypes: list[str], device: str) -> list[str]:
        return [group[0].dtype for group in groups([Parameter(name, (1,), name) for name in dtypes], device)]

    assert order(["float32", "float64", "bfloat16", "float16"], "cpu") == ["float16", "float64", "bfloat16", "float32"]
    assert order(["bfloat16", "float16", "float64", "float32"], "cpu") == ["float64", "float16", "float32", "bfloat16"]
    assert order(["float32", "bfloat16"], "cuda") == ["bfloat16", "float32"]


# What is refused -----------------------------------------------------------------------------------------------------


def test_defaults_are_the_librarys():
    assert settle(Optimizer("adamw"), "cuda").implementation == "foreach"
    assert settle(Optimizer("adamw"), "cpu").implementation == "single"
    assert settle(Optimizer("adafactor"), "cuda").implementation == "single"
    assert settle(Optimizer("adamw8bit"), "cuda").implementation == "fused"
    assert settle(Optimizer("adamw"), "cpu").weight_decay == 0.01
    assert settle(Optimizer("adam"), "cpu").weight_decay == 0.0


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (Optimizer("shampoo"), "no layout of the optimizer 'shampoo'"),
        (Optimizer("rmsprop", "fused"), "no fused implementation"),
        (Optimizer("adam", None, (("beta", 1.0),)), "no option 'beta'"),
        (Optimizer("adam", None, (("source", 1.0),)), "no option 'source'"),
        (Optimizer("sgd", None, (("nesterov", True),)), "Nesterov momentum needs"),
    ],
)
def test_what_is_not_known_is_refused(optimizer: Optimizer, message: str):
    with pytest.raises(UsageError, match=message):
        settle(optimizer, "cpu")


# Logs ----------------------------------------------------------------------------------------------------------------


def _log(*, zeroed: bool = False, steps: int = 2, optimizer: str = "") -> Log:
    """Two linear layers on a GPU, one frozen: a gradient of 400 bytes, activations of 40."""
    recorder = Recorder(device="cuda", origin="test")
    weight = Parameter("a.weight", (10, 10))
    recorder.allocate(400, category="parameter", dtype="float32", shape=(10, 10), name="a.weight")
    recorder.allocate(80, category="parameter", dtype="float32", shape=(20,), name="b.weight")
    gradient, state = -1, OptimizerState()
    for step in range(steps):
        if gradient >= 0 and not zeroed:
            recorder.enter("zero_grad", step)
            recorder.release(gradient)
        recorder.enter("forward", step)
        kept = recorder.allocate(40, "aten::mm", module="a")
        recorder.enter("backward", step)
        fresh = recorder.allocate(
            400, "aten::mm", category="temporary" if zeroed and step else "gradient", dtype="float32", shape=(10, 10),
            name="" if zeroed and step else "a.weight", module="a",
        )  # fmt: skip
        if zeroed and step:
            recorder.release(fresh)
        gradient = gradient if zeroed and step else fresh
        other = recorder.allocate(16, "aten::sum", module="")
        recorder.doubt(5, "aten::sum", "no row")
        recorder.release(other)
        recorder.release(kept)
        if optimizer:
            recorder.enter("optimizer", step)
            write_step(recorder, [weight], Optimizer(optimizer, "single"), state, "cuda")
    return recorder.finish()


def test_parameters_come_from_a_log():
    frozen = Parameter("b.weight", (20,), "float32", gradient=False)
    assert parameters_of(_log()) == [Parameter("a.weight", (10, 10)), frozen]
    assert [item.gradient for item in parameters_of(_log(), {"b.weight"})] == [False, True]


def test_an_optimizer_takes_anothers_place():
    for before in ("", "adamw", "momentum"):
        for after in ("sgd", "momentum", "adamw", "adafactor", "adamw8bit", "adagrad"):
            found = with_optimizer(_log(optimizer=before), Optimizer(after, None))
            parameters = parameters_of(_log())
            if after == "adagrad":
                assert account.kept(found)["optimizer state"] == 400 + 80  # of the frozen one, too
            else:
                assert account.kept(found)["optimizer state"] == state_bytes(parameters, Optimizer(after), "cuda")
            assert len(events(found)) == found.moments
            assert len(found.doubts) == 2
            stepped = {item.step for item in found.storages if item.phase == "optimizer"}
            expected = {"sgd": set(), "momentum": {0}, "adamw8bit": {0}}
            assert stepped == expected.get(after, {0, 1})


def test_the_same_optimizer_gives_the_same_log():
    log = _log(optimizer="adamw")
    found = with_optimizer(log, Optimizer("adamw", "single"))
    assert (found.storages, found.marks, found.doubts) == (log.storages, log.marks, log.doubts)
    assert "adamw, single" in found.notes[-1]


def test_doubts_stay_where_they_were():
    log = _log()
    for found in (with_optimizer(log, Optimizer("adamw")), with_zeroed_gradients(log)):
        for doubt in found.doubts:
            item = found.storages[events(found)[doubt.moment].storage]
            assert (item.operator, item.nbytes) == ("aten::sum", 16)


def test_an_optimizer_needs_gradients():
    recorder = Recorder(device="cpu", origin="test")
    recorder.allocate(4, category="parameter", dtype="float32", shape=(1,), name="a")
    with pytest.raises(UsageError, match="no parameter of the log has a gradient"):
        with_optimizer(recorder.finish(), Optimizer("adam"))


def test_two_optimizers_in_a_step_are_refused():
    recorder = Recorder(device="cpu", origin="test")
    recorder.allocate(4, category="parameter", dtype="float32", shape=(1,), name="a")
    recorder.enter("backward", 0)
    recorder.allocate(4, category="gradient", dtype="float32", shape=(1,), name="a")
    for phase in ("optimizer", "backward", "optimizer"):
        recorder.enter(phase)
        recorder.release(recorder.allocate(4, "aten::sqrt"))
    with pytest.raises(UsageError, match="2 optimizer phases"):
        with_optimizer(recorder.finish(), Optimizer("adam"))


def test_gradients_zeroed_and_let_go():
    """Zeroed: 480 of parameters, 400 of gradient kept, 400 new beside it and 40 of activation."""
    log, zeroed = _log(steps=3), _log(zeroed=True, steps=3)
    assert account.peak(log).nbytes == 480 + 400 + 40 + 16
    found = with_zeroed_gradients(log)
    assert live_bytes(found) == live_bytes(zeroed)
    assert account.peak(found).nbytes == 480 + 400 + 40 + 400
    back = with_none_gradients(zeroed)
    assert max(live_bytes(back)) == account.peak(log).nbytes
    assert account.kept(back) == account.kept(log)
    assert [item.name for item in back.storages if item.category == "gradient"] == ["a.weight"] * 3
