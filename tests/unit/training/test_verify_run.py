"""A training step run for real in a process of its own, against arithmetic by hand and against the prediction."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from peakmem import verification  # noqa: E402
from peakmem.errors import MissingLibrary, PeakmemError, UsageError  # noqa: E402
from peakmem.training import account  # noqa: E402
from peakmem.training.log import events  # noqa: E402
from peakmem.training.scenario import Scenario  # noqa: E402
from peakmem.training.tracing.run import trace  # noqa: E402
from peakmem.training.verify.comparing import compare  # noqa: E402
from peakmem.training.verify.running import measured, resident  # noqa: E402
from peakmem.training.verify.targets import workload  # noqa: E402
from peakmem.training.verify.verifying import verify  # noqa: E402

HERE = "tests.unit.training.verify_steps:"


@pytest.fixture(scope="module")
def run():
    return measured(HERE + "linear", Scenario())


def test_a_matrix_and_its_momentum_by_hand(run):
    log = run.log
    events(log)  # each moment has one
    spans = account.peaks(log)
    weight, batch, out, loss = 4 * 16 * 4, 8 * 16 * 4, 8 * 4 * 4, 4
    held = weight + batch
    assert [(one.phase, one.nbytes) for one in spans if one.step == -1] == [("build", held)]
    assert next(one.nbytes for one in spans if (one.step, one.phase) == (0, "forward")) == held + out + loss
    # beside the loss and the one that backward begins with: the gradient and, while it is computed, a copy of the
    # product's other side, the sum's gradient, which is one number seen 8×4 times and no matrix that BLAS can read
    first = next(one for one in spans if (one.step, one.phase) == (0, "backward"))
    assert first.nbytes == held + loss + 4 + weight + out
    # in the second step momentum is there, and the loss of the first until the second returns
    top = account.peak(log)
    assert (top.step, top.phase, top.nbytes) == (1, "backward", held + weight + 2 * loss + 4 + weight + out)
    assert {name: nbytes for name, nbytes in top.categories.items() if nbytes} == {
        "parameter": weight, "input": batch, "optimizer state": weight, "gradient": weight,
        "saved activation": 2 * loss + 4, "kernel workspace": out,
    }  # fmt: skip
    made = {one.category: one for one in log.storages if one.name == "weight" and one.step == 0}
    assert (made["gradient"].phase, made["optimizer state"].phase) == ("backward", "optimizer")


def test_predicted_and_measured_are_one(run):
    scenario = Scenario()
    found = compare(trace(workload(HERE + "linear", scenario), scenario), run.log)
    assert found.error == 0
    assert not found.differences
    # a Python number that a tensor is multiplied with becomes a tensor of 8 bytes, which no dispatcher sees
    assert {(one.operator, one.measured_bytes) for one in found.partings} <= {("", 8)}
    assert run.facts["torch"] == torch.__version__


def test_a_clean_process_is_read_phase_by_phase():
    seen = resident(HERE + "linear", Scenario(steps=1))
    assert [one.phase.split()[0] for one in seen][:4] == ["imports", "build", "forward", "zero_grad"]
    assert {one.phase.split()[0] for one in seen} == {
        "imports",
        "build",
        "forward",
        "zero_grad",
        "backward",
        "optimizer",
    }
    assert all(one.peak_bytes >= one.resident_bytes > 0 for one in seen)


def test_without_torch_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(verification, "find_spec", lambda _: None)
    with pytest.raises(MissingLibrary, match="running a training step needs torch"):
        verification.verify_train("resnet18")


def test_a_step_that_raises_is_told_with_its_line():
    with pytest.raises(UsageError, match=r"verify_steps\.py:\d+: .*RuntimeError: the data are missing"):
        measured(HERE + "raises", Scenario())


@pytest.mark.slow
def test_a_process_that_ends_early_is_told():
    with pytest.raises(PeakmemError, match="ended with exit code 7"):
        measured(HERE + "exits", Scenario())


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_no_gpu_no_run_on_one():
    with pytest.raises(UsageError, match="no GPU"):
        verify(HERE + "linear", Scenario(device="cuda"))
