"""The PyTorch runner: what it takes and refuses, its settings, its facts; expected bytes are worked out by hand."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tests.unit.measuring.standin import Refused, StandIn, chosen

from peakmem.measuring.engine import engine
from peakmem.measuring.harness import order_for, run_process
from peakmem.measuring.inputs import Port
from peakmem.measuring.runners import pytorch as runner

torch = pytest.importorskip("torch")

SOURCE = """
import torch
from torch import nn

INPUTS = [("x", "float32", (1, 3, 8, 8))]

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 2)
        self.fc2 = nn.Linear(4, 2)
        self.fc2.weight = self.fc.weight
        self.seen = None

    def forward(self, x, scale=None):
        self.seen = (torch.is_inference_mode_enabled(), torch.is_grad_enabled(), x.dtype, x.stride(), self.training)
        y = self.conv(x).mean((2, 3))
        return self.fc(y) if scale is None else self.fc2(y) * scale

def factory():
    return Net()

net = Net()

def add(x, y, *, factor=1):
    return (x + y) * factor

def nothing():
    return torch.zeros(1000)

class Scale(nn.Module):
    def forward(self, x):
        return x * 2

class Example(nn.Module):
    example_input_array = torch.zeros(2, 5, dtype=torch.int64)
    def forward(self, ids):
        return ids + 1

number = 7
"""


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A stand-in whose folder holds models.py."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("site.main", lambda: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.delitem(sys.modules, "models", raising=False)
    threads, mkldnn = torch.get_num_threads(), torch.backends.mkldnn.enabled
    (tmp_path / "models.py").write_text(SOURCE)
    yield StandIn(tmp_path)
    torch.set_num_threads(threads)
    torch.backends.mkldnn.set_flags(mkldnn)
    sys.modules.pop("models", None)


def begun(tools: StandIn, model: str, *ports, **settings):
    """A runner that has loaded `model`, and the inputs it asks for."""
    tools.ports = list(ports)
    made = runner.Runner(chosen(runner, **settings), tools)
    made.start()
    return made, made.load(model)


def fed(made, ports):
    """Zeros for every input, and one run."""
    values = []
    for name, dtype, shape in ports:
        shape = tuple(1 if dim < 0 else dim for dim in shape)
        values.append((name, shape, dtype, bytearray(torch.zeros(shape, dtype=getattr(torch, dtype)).nbytes)))
    made.feed(values)
    made.run()


IMAGE = ("x", "float32", (1, 3, 8, 8))


@pytest.mark.parametrize("model", ["models.py", "models:Net", "models:factory", "models:net", "models.py:factory"])
def test_ways_to_name_a_module(tools, model):
    ports = [] if model == "models.py" else [IMAGE]
    made, found = begun(tools, model, *ports)
    assert found == [IMAGE]
    fed(made, found)
    assert made.target.training is False
    # 4·3·9 + 4 of the convolution, 2·4 + 2 of the first layer, 2 more of the second, whose weight is the first's
    assert tools.facts["parameter bytes"] == str(4 * (108 + 4 + 8 + 2 + 2))
    made.release()


@pytest.mark.parametrize(
    ("mode", "inference", "grad"), [("inference", True, False), ("no_grad", False, False), ("grad", False, True)]
)
def test_modes(tools, mode, inference, grad):
    made, ports = begun(tools, "models:net", IMAGE, mode=mode)
    fed(made, ports)
    assert made.target.seen[:2] == (inference, grad)


def test_dtype_and_layout(tools):
    made, ports = begun(tools, "models:net", IMAGE, dtype="bfloat16", channels_last=True)
    fed(made, ports)
    assert made.target.seen[2:4] == (torch.bfloat16, (192, 1, 24, 3))
    assert tools.facts["parameter bytes"] == str(2 * 124)


@pytest.mark.parametrize("how", ["freeze", "optimize"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_frozen_torchscript(tools, how):
    made, ports = begun(tools, "models:Scale", IMAGE, jit=how)
    fed(made, ports)
    assert isinstance(made.target, torch.jit.ScriptModule)
    with pytest.raises(Refused, match="needs the sizes"):
        begun(tools, "models:Scale", ("x", "float32", (-1, 3)), jit=how)
    with pytest.raises(Refused, match="not for functions"):
        begun(tools, "models:add", ("x", "float32", (2,)), ("y", "float32", (2,)), jit=how)


def test_functions(tools):
    made, ports = begun(tools, "models:add", ("", "float32", (2,)), ("factor", "float32", (1,)), ("", "", (2,)))
    assert [name for name, _, _ in ports] == ["x", "factor", "y"]
    fed(made, ports)
    assert set(made.kwargs) == {"x", "y", "factor"}
    assert tools.facts["target"] == "the function itself"
    made, ports = begun(tools, "models:nothing")
    assert ports == []
    assert "called once while loading" in tools.facts["target"]
    made, ports = begun(tools, "models:nothing", target="function")
    fed(made, ports)
    assert tools.facts["target"] == "the function itself"


def test_inputs_that_the_module_tells(tools):
    made, ports = begun(tools, "models:Example")
    assert ports == [("0", "int64", (2, 5))]
    fed(made, ports)


@pytest.mark.parametrize(
    ("model", "settings", "reason"),
    [
        ("models:Scale", {}, r"sizes of its inputs are not known \(x\): give --input"),
        ("models:nope", {}, "models has no 'nope'"),
        ("models:number", {}, "is a int: neither a module nor a function"),
        ("models:nothing", {"target": "factory"}, "gave a Tensor, which is no module"),
        ("nope.py", {}, "no Python file nope.py"),
        ("nope.pt2", {}, "no file nope.pt2"),
        ("weights.pt", {}, "weights.pt holds no network that runs"),
        ("models:net", {"compiled": True, "jit": "freeze"}, "compiled does not go with jit"),
    ],
)
def test_refusals(tools, model, settings, reason):
    torch.save({"w": torch.zeros(3)}, "weights.pt")
    with pytest.raises(Refused, match=reason):
        begun(tools, model, **settings)


def test_compiled_does_not_go_with_a_timeline(tmp_path):
    with pytest.raises(Refused, match="a timeline"):
        runner.Runner(chosen(runner, compiled=True), StandIn(tmp_path, timeline=True)).start()


def test_an_unknown_dtype_is_refused(tools):
    made, _ = begun(tools, "models:Scale", ("x", "string", (2,)))
    with pytest.raises(Refused, match="no dtype string"):
        made.feed([("x", (2,), "string", bytearray(1))])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_exported_programs_and_torchscript_files(tools):
    class Nest(torch.nn.Module):
        def forward(self, pair, *, factor):
            return pair["a"] * pair["b"] * factor

    batch = torch.export.Dim("batch", min=2, max=64)
    pair = {"a": torch.zeros(4, 3), "b": torch.zeros(4, 3)}
    free = {"pair": {"a": {0: batch}, "b": {0: batch}}, "factor": None}
    program = torch.export.export(Nest(), (pair,), {"factor": torch.zeros(3)}, dynamic_shapes=free)
    torch.export.save(program, "nest.pt2")
    made, ports = begun(tools, "nest.pt2")
    assert [(dtype, shape) for _, dtype, shape in ports] == [("float32", (-1, 3))] * 2 + [("float32", (3,))]
    made.feed([(name, shape if shape[0] > 0 else (5, 3), dtype, bytearray(60 if len(shape) > 1 else 12)) for name, dtype, shape in ports])  # fmt: skip  # noqa: E501
    made.run()
    assert list(made.args[0]) == ["a", "b"]
    torch.jit.script(torch.nn.Sequential(torch.nn.Linear(4, 2))).save("script.pt")
    made, ports = begun(tools, "script.pt", ("", "", (1, 4)), jit="freeze")
    fed(made, ports)
    assert tools.facts["parameter bytes"] == "40"


def test_the_profiler_tells_what_tensors_take(tools):
    made, ports = begun(
        tools, "models:add", *(("x", "float32", (250_000,)), ("y", "float32", (250_000,))), profile=True
    )
    fed(made, ports)
    # x + y is 1 MB and its product another; both are gone when the result is dropped
    assert 2_000_000 <= int(tools.facts["profiled peak bytes, run 1"]) < 2_000_064
    assert tools.facts["profiled live bytes, run 1"] == "0"


def test_in_a_process_the_counter_sees_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models.py").write_text(SOURCE)
    ports = tuple(Port(name, "float32", (2_500_000,)) for name in ("x", "y"))
    run = run_process(order_for(engine("pytorch"), "models:add", {}, ports=ports, runs=2, instrumented=True))
    assert run.outcome.status == "ok", run.outcome
    marks = {mark.phase: mark.counted for mark in run.marks}
    grown = marks["run 2"].peak_bytes - marks["run 1"].live_bytes
    # two tensors of 10 MB, and small objects
    assert 20_000_000 <= grown < 20_000_000 + 65536
    assert [(one.name, one.shape) for one in run.inputs] == [("x", (2_500_000,)), ("y", (2_500_000,))]
    assert 20_000_000 <= marks["inputs"].live_bytes - marks["load"].live_bytes < 20_000_000 + 65536
    assert Path.cwd() == tmp_path
