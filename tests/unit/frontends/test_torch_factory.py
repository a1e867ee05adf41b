"""`package.module:factory` for PyTorch: built without memory where that is possible, else for real and said so."""

import sys

import pytest

torch = pytest.importorskip("torch")

import peakmem  # noqa: E402 - needs torch to be there
from peakmem.errors import UsageError  # noqa: E402

CODE = """
import torch
from torch import nn

built = []

class Net(nn.Module):
    example_inputs = ((1, 8),)

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8000)

    def forward(self, x):
        return self.linear(x)

def plain():
    built.append(Net())
    return built[-1]

def reads_its_weights():
    net = Net()
    if net.linear.weight.abs().max() > 1e6:
        raise ValueError
    return net

def broken():
    raise ValueError("no weights at hand")

def nothing():
    return 3

ready = Net()
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "factory_of_nets.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "factory_of_nets"
    sys.modules.pop("factory_of_nets", None)


@pytest.mark.parametrize("name", ["Net", "plain", "ready", "reads_its_weights"])
def test_classes_functions_and_modules(module, name):
    report = peakmem.estimate(f"{module}:{name}", inputs=["4x8"])
    assert report.parameters.trainable == 8 * 8000 + 8000
    said = any("built with real weights" in note for note in report.assumptions)
    assert said == (name == "reads_its_weights")


def test_a_factory_allocates_nothing(module):
    peakmem.estimate(f"{module}:plain")
    built = sys.modules[module].built
    assert len(built) == 1
    assert type(built[0].linear.weight).__name__ == "FakeTensor"


@pytest.mark.parametrize(
    ("name", "word"), [("broken", "no weights at hand"), ("nothing", "no model"), ("absent", "absent")]
)
def test_factories_that_give_no_model(module, name, word):
    with pytest.raises(UsageError, match=word):
        peakmem.estimate(f"{module}:{name}", inputs=["4x8"])
