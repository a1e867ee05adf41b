"""The profile of PyTorch against the counter: small networks written here, measured once.

MEASURED holds bytes above the mark "import" of torch 2.13.0+cpu on an AMD EPYC of family 26 (AVX-512): live and peak of
load, run 1 and run 3, as `harness.run_process(order_for(engine("pytorch"), file, settings, instrumented=True, runs=3))`
gave them for the files that `written` makes. They repeat to the byte.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from peakmem.engines.prediction import Prediction, Processor, Value
from peakmem.engines.pytorch import PROFILE
from peakmem.engines.pytorch.network import DIFFERS, LIFETIMES, network_of
from peakmem.engines.pytorch.source import graph_for
from peakmem.errors import FormatError, UsageError

pytest.importorskip("torch")

HEAD = "import torch\nfrom torch import nn\nimport torch.nn.functional as F\n"
RESIDUAL = """
INPUTS = [("x", "float32", (1, 3, 128, 128))]
class Block(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.c1 = nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.b1 = nn.BatchNorm2d(o)
        self.c2 = nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.down = nn.Conv2d(i, o, 1, stride)
        self.relu = nn.ReLU(inplace=True)
    def forward(self, x):
        identity = self.down(x)
        out = self.c2(self.relu(self.b1(self.c1(x))))
        out += identity
        return self.relu(out)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(Block(3, 24, 2), Block(24, 48, 2), Block(48, 96, 2))
        self.head = nn.Linear(96, 50)
    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))
"""
MIXED = """
INPUTS = [("x", "float32", (2, 3, 96, 96))]
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 20, 5, 2, 2)
        self.c = nn.Conv2d(20, 100, 1, 2)
        self.d = nn.Conv2d(100, 50, 1)
        self.e = nn.Conv2d(50, 50, (1, 7), 1, (0, 3), groups=50)
        self.f = nn.Conv2d(50, 96, 3, 1, "same")
        self.h = nn.Conv2d(96, 64, 3, 1, 1, groups=8)
        self.c1 = nn.Conv1d(64, 128, 5, 2, 2)
        self.l = nn.Linear(128, 300)
    def forward(self, x):
        x = F.leaky_relu(self.c(F.silu(self.a(x))), 0.1)
        y = self.d(x)
        x = torch.sigmoid(self.e(y)) * y + y
        x = F.avg_pool2d(self.h(F.hardswish(self.f(x))), 3, 1, 1)
        x = torch.cat([x[:, :32], x[:, 32:].abs()], 1)
        x = self.c1(F.adaptive_max_pool2d(x, (20, 20)).flatten(2)).permute(0, 2, 1)
        return F.log_softmax(self.l(x).mean(1), -1)
"""
UNET = """
INPUTS = [("x", "float32", (1, 3, 96, 96))]
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.e1, self.e2 = nn.Conv2d(3, 24, 3, 1, 1), nn.Conv2d(24, 48, 3, 1, 1)
        self.u, self.d = nn.ConvTranspose2d(48, 24, 2, 2), nn.Conv2d(48, 24, 3, 1, 1)
        self.o = nn.Conv2d(24, 2, 1)
    def forward(self, x):
        e1 = F.relu(self.e1(x))
        e2 = F.relu(self.e2(F.max_pool2d(e1, 2)))
        d1 = F.relu(self.d(torch.cat([self.u(e2), e1], 1)))
        return self.o(d1)
"""
ATTENTION = """
INPUTS = [("x", "float32", (1, 120, 192))]
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.n, self.q, self.p = nn.LayerNorm(192), nn.Linear(192, 576), nn.Linear(192, 192)
        self.f1, self.f2 = nn.Linear(192, 768), nn.Linear(768, 192)
        self.r = nn.LSTM(192, 128, batch_first=True)
    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.q(self.n(x)).view(b, t, 3, 4, d // 4).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.p(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, d))
        x = x + self.f2(F.gelu(self.f1(x)))
        return self.r(x)[0]
"""
NETWORKS = {"residual": RESIDUAL, "mixed": MIXED, "unet": UNET, "attention": ATTENTION}
SETTINGS: dict[str, dict[str, Value]] = {
    "": {}, "2 threads": {"threads": 2}, "no oneDNN": {"mkldnn": False}, "bfloat16": {"dtype": "bfloat16"},
}  # fmt: skip
MEASURED: dict[tuple[str, str], tuple[int, ...]] = {
    ("residual", ""): (735093, 739757, 1619630, 3113417, 1619630, 3520542),
    ("residual", "2 threads"): (735093, 739757, 1653974, 3233427, 1653974, 3782422),
    ("residual", "no oneDNN"): (735093, 739757, 3088518, 7804078, 3088518, 7808886),
    ("residual", "bfloat16"): (399949, 754873, 1764813, 2109121, 1764813, 3236941),
    ("mixed", ""): (587701, 588269, 2278166, 3396910, 2278166, 3978414),
    ("mixed", "2 threads"): (587701, 588269, 2219831, 3338511, 2219831, 3920079),
    ("mixed", "no oneDNN"): (587701, 588269, 2053148, 5017662, 2053148, 5032188),
    ("unet", ""): (131965, 132141, 682947, 6813499, 682947, 6814539),
    ("unet", "2 threads"): (131965, 132141, 808604, 6847843, 808604, 6940196),
    ("attention", ""): (2468959, 2469527, 4299273, 6045513, 4299273, 6014193),
    ("attention", "2 threads"): (2468959, 2469527, 5400177, 7146497, 5400177, 7115177),
}
# (network, settings): live and peak of load, of run 1 and of run 3
PROCESSOR = Processor(features=frozenset({"avx2", "avx512f", "avx512bw", "avx512_bf16"}), cores=2)
SMALL = 40_000
# bytes of objects that no rule tells apart; these networks hold 1 to 5 MB


def written(folder: Path, name: str, text: str = "") -> str:
    """A file that the runner takes."""
    path = folder / f"{name}.py"
    path.write_text(f"{HEAD}{text or NETWORKS[name]}\n\ndef factory():\n    return Net().eval()\n", encoding="utf-8")
    return str(path)


def figures(done: Prediction) -> list[int]:
    """Live and peak of each phase."""
    return [count for one in done.moments for count in (one.live_bytes, one.peak_bytes)]


@pytest.mark.parametrize(("name", "how"), MEASURED)
def test_every_phase_of_small_networks(tmp_path, name, how):
    predicted = figures(PROFILE.predict(graph_for(written(tmp_path, name)), SETTINGS[how], PROCESSOR))
    for ours, theirs in zip(predicted, MEASURED[name, how], strict=True):
        assert ours == pytest.approx(theirs, rel=0.01, abs=SMALL)


def test_variables_hold_results_until_their_forward_returns(tmp_path):
    graph = graph_for(written(tmp_path, "unet"))
    assert any(detail.name == LIFETIMES for detail in graph.details)
    network = network_of(graph, "")
    kinds = [call.kind for call in network.calls]
    end = len(kinds) - 1
    skipped = network.calls[kinds.index("relu")].outputs[0].root
    # e1 and d1 stay in their variables to the end, behind their last readers
    assert skipped in network.dying[end]
    assert "max_pool2d" in network.dying[kinds.index("max_pool2d") + 1]


def test_operators_that_run_and_were_not_captured_are_told(tmp_path):
    text = """
INPUTS = [("x", "float32", (1, 8, 16))]
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.MultiheadAttention(16, 2, batch_first=True)
    def forward(self, x):
        return self.a(x, x, x, need_weights=False)[0]
"""
    graph = graph_for(written(tmp_path, "heads", text))
    assert any(detail.name == DIFFERS for detail in graph.details)
    assert any("run" in one.what for one in PROFILE.predict(graph, {}, PROCESSOR).unmodelled)


def test_an_exported_program_has_no_frames_and_imports_more(tmp_path):
    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.c = torch.nn.Conv2d(3, 8, 3)

        def forward(self, x):
            return torch.relu(self.c(x))

    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(Net().eval(), (torch.zeros(1, 3, 40, 40),)), path)
    graph = graph_for(path)
    assert not network_of(graph, "").frames
    load = PROFILE.predict(graph, {}, PROCESSOR).moments[0]
    assert 25_000_000 < load.live_bytes < 26_000_000
    # torch.export and sympy with it; measured: 25.3 MB


@pytest.mark.parametrize(
    ("source", "kind"),
    [("gone.py", UsageError), ("gone.onnx", UsageError), ("peakmem_no_such:factory", UsageError)],
)
def test_sources_that_are_not_there(source, kind):
    with pytest.raises(kind):
        graph_for(source)


def test_a_file_of_another_kind(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"x")
    with pytest.raises(FormatError):
        graph_for(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["residual", "unet"])
def test_the_counter_still_says_so(tmp_path, name):
    from peakmem.measuring.engine import engine
    from peakmem.measuring.harness import order_for, run_process
    from peakmem.measuring.machine import machine

    file = written(tmp_path, name)
    run = run_process(order_for(engine("pytorch"), file, instrumented=True, runs=3))
    counted = {mark.phase: mark.counted for mark in run.marks if mark.counted is not None}
    if not counted:
        pytest.skip("no counter on this machine")
    before = counted["import"].live_bytes
    measured = [
        count - before
        for phase in ("load", "run 1", "run 3")
        for count in (counted[phase].live_bytes, counted[phase].peak_bytes)
    ]
    predicted = figures(PROFILE.predict(graph_for(file), {}, Processor(features=frozenset(machine().features))))
    assert predicted == pytest.approx(measured, rel=0.01, abs=SMALL)
