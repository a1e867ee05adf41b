"""What stands in a log at one moment, sorted for people; a log made by hand."""

from __future__ import annotations

from peakmem.training.account import peak
from peakmem.training.recorder import Recorder
from peakmem.training.shares import alike, at_end_of_steps, by_module


def log():
    """A parameter with its gradient, two equal activations of one module, a batch."""
    recorder = Recorder(device="cpu", origin="trace")
    recorder.allocate(100, "aten::empty", category="parameter", name="layer.weight")
    batch = recorder.allocate(10, "aten::zeros", category="input")
    recorder.enter("forward", 0)
    kept = [recorder.allocate(30, "aten::relu", module="act", shape=(30,)) for _ in range(2)]
    recorder.enter("backward", 0)
    recorder.allocate(100, "aten::mm", category="gradient", name="layer.weight", module="elsewhere")
    for one in (*kept, batch):
        recorder.release(one)
    return recorder.finish()


def test_equal_storages_are_one_entry_and_the_largest_comes_first():
    made = log()
    entries = alike(made, peak(made).moment)
    assert [(one.storage.category, one.count, one.nbytes) for one in entries] == [
        ("parameter", 1, 100), ("gradient", 1, 100), ("saved activation", 2, 60), ("input", 1, 10),
    ]  # fmt: skip


def test_a_gradient_belongs_to_the_module_of_its_parameter():
    made = log()
    assert by_module(made, peak(made).moment) == (
        ("layer", {"parameter": 100, "gradient": 100}), ("act", {"saved activation": 60}), ("", {"input": 10}),
    )  # fmt: skip


def test_what_steps_leave():
    assert at_end_of_steps(log()) == (
        (-1, {"parameter": 100, "input": 10}), (0, {"parameter": 100, "gradient": 100}),
    )  # fmt: skip
