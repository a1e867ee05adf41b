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


@pytest.mark.parametrize(
    ("name", "code", "word"),
    [
        ("ends_on_import", "import sys\nsys.exit(3)", "importing ends_on_import failed: it ended the program"),
        ("ends_when_called", "def build():\n    raise SystemExit('bye')", "calling the factory failed: it ended"),
        ("does_not_parse", "def build(:", "SyntaxError"),
        ("needs_another", "import there_is_no_such_module", "there is no module 'there_is_no_such_module'"),
    ],
)
def test_code_that_ends_or_breaks_is_one_sentence(tmp_path, monkeypatch, name, code, word):
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match=word):
        peakmem.estimate(f"{name}:build", inputs=["2x4"])
    sys.modules.pop(name, None)


def test_what_a_module_prints_stays_off_standard_output(tmp_path, monkeypatch, capsys):
    code = (
        "from torch import nn\nprint('on import')\n"
        "def build():\n    print('when called')\n    net = nn.Linear(4, 4)\n    net.weight.detach().numpy()\n"
        "    return net\n"
    )
    (tmp_path / "talks_a_lot.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    report = peakmem.estimate("talks_a_lot:build", inputs=["2x4"])
    sys.modules.pop("talks_a_lot", None)
    assert report.parameters.trainable == 20
    assert capsys.readouterr().out == ""
