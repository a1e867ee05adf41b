"""The log of a graph beside the trace of the same network as a torch module: byte for byte where both know it."""

from __future__ import annotations

from collections import Counter

import pytest

from peakmem.dtypes import INT64
from peakmem.ir.builder import GraphBuilder
from peakmem.training import account
from peakmem.training.log import Log
from peakmem.training.saved import graph_log
from peakmem.training.scenario import Optimizer, Scenario

torch = pytest.importorskip("torch")
nn = torch.nn
functional = torch.nn.functional


class Residual(nn.Module):
    """A stem, two residual blocks, a gate, a mean and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.gate = nn.Conv2d(16, 16, 1)
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.norm(self.stem(x)), inplace=True), 3, 2, 1)
        for block in self.blocks:
            x = block(x)
        x = functional.hardswish(x)
        x = torch.sigmoid(self.gate(x)) * x
        return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.BatchNorm2d(16)

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += x
        return functional.relu(y, inplace=True)


def residual_graph(batch: int):
    b = GraphBuilder("residual")
    x = b.conv(b.input("input", (batch, 3, 64, 64)), 16, kernel=3, stride=2, pad=1, name="stem")
    x = b.max_pool(b.relu(b.batch_norm(x, name="norm")), kernel=3, stride=2, pad=1)
    for block in range(2):
        with b.scope(f"blocks.{block}"):
            y = b.relu(b.batch_norm(b.conv(x, 16, kernel=3, pad=1, name="conv1"), name="bn1"))
            y = b.batch_norm(b.conv(y, 16, kernel=3, pad=1, group=16, name="conv2"), name="bn2")
            x = b.relu(b.add(y, x))
    x = b.hard_swish(x)
    x = b.mul(b.sigmoid(b.conv(x, 16, kernel=1, bias=True, name="gate")), x)
    return b.finish(b.linear(b.flatten(b.global_average_pool(x)), 10))


class Tokens(nn.Module):
    """A decoder of one block: embedding, layer norm, causal attention, GELU, tied head."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 32)
        self.norm, self.qkv, self.out = nn.LayerNorm(32), nn.Linear(32, 96), nn.Linear(32, 32)
        self.up, self.down = nn.Linear(32, 128), nn.Linear(128, 32)

    def forward(self, ids):
        x = self.table(ids)
        parts = self.qkv(self.norm(x)).split(32, 2)
        q, k, v = (part.view(*ids.shape, 4, 8).transpose(1, 2) for part in parts)
        y = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(y.transpose(1, 2).reshape(*ids.shape, 32))
        x = x + self.down(functional.gelu(self.up(x)))
        return functional.linear(x, self.table.weight)


def token_graph(batch: int):
    from peakmem.zoo.layers import attention, gelu

    b = GraphBuilder("tokens")
    ids = b.input("ids", (batch, 24), INT64)
    table = b.parameter("table/weight", (50, 32))
    x = b.one("Gather", table, ids, name="table")
    x = b.add(x, attention(b, b.layer_norm(x, name="norm"), 4, names=("qkv", "out")))
    x = b.add(x, b.dense(gelu(b, b.dense(x, 128, name="up")), 32, name="down"))
    rows = b.reshape(x, (-1, 32))
    scores = b.one("Gemm", rows, table, transB=1)
    return b.finish(b.reshape(scores, (batch, 24, 50)))


class Given:
    """A module, its batch and its loss as a workload."""

    name = "given"

    def __init__(self, make, batch, wide, blocks=()) -> None:
        self.make, self.batch, self.wide, self.blocks = make, batch, wide, blocks

    def build(self):
        from peakmem.training.tracing.step import Parts

        model = self.make().train()
        x, y = self.batch()
        if self.wide is not None and x.is_floating_point():
            x = x.to(self.wide)

        def loss():
            scores = model(x)
            return functional.cross_entropy(scores.view(-1, scores.shape[-1]), y.view(-1))

        return Parts(model=model, loss=loss, blocks=self.blocks)


def images():
    return torch.empty(4, 3, 64, 64), torch.zeros(4, dtype=torch.long)


def tokens():
    return torch.zeros(2, 24, dtype=torch.long), torch.zeros(2, 24, dtype=torch.long)


NETWORKS = {
    "residual": (Residual, images, lambda: residual_graph(4), ("blocks.0", "blocks.1")),
    "tokens": (Tokens, tokens, lambda: token_graph(2), ()),
}


def both(name: str, **asked: object) -> tuple[Log, Log]:
    from peakmem.training.tracing.run import trace

    make, batch, graph, blocks = NETWORKS[name]
    scenario = Scenario(**{"optimizer": Optimizer("sgd", "single"), **asked})  # type: ignore[arg-type]
    wide = torch.bfloat16 if scenario.precision == "bf16" else None
    return graph_log(graph(), scenario), trace(Given(make, batch, wide, blocks), scenario)


def saved(log: Log) -> Counter[int]:
    """Sizes of what a forward leaves to its backward; what is shared counts once."""
    begin = next(mark.moment for mark in log.marks if mark.step == 1 and mark.phase == "backward")
    return Counter(
        item.nbytes
        for item in log.storages
        if item.phase == "forward" and item.step == 1 and item.start < begin <= item.stop and item.nbytes > 0
    )


CASES = [
    ("residual", {}),
    ("residual", {"accumulate": 2}),
    ("residual", {"optimizer": Optimizer("adamw", "foreach")}),
    ("tokens", {}),
    ("tokens", {"precision": "bf16"}),
]


@pytest.mark.parametrize(("name", "asked"), CASES, ids=str)
def test_saved_tensors_and_peaks_are_those_of_the_trace(name, asked):
    graph, trace = both(name, **asked)
    assert saved(graph) == saved(trace)
    for phase in ("backward", None):
        found, wanted = (account.peak(log, step=1, phase=phase).nbytes for log in (graph, trace))
        assert found == pytest.approx(wanted, abs=32), phase


def test_blocks_that_run_again():
    graph, trace = both("residual", recompute="blocks")
    assert saved(graph) == saved(trace)
    found, wanted = (account.peak(log, step=1, phase="backward").nbytes for log in (graph, trace))
    assert found == pytest.approx(wanted, abs=32)


def test_operations_are_those_of_the_trace():
    """Of the forward; in the backward torch's formula knows no groups for the gradient of a weight."""
    graph, trace = both("residual")
    found, wanted = ([work for work in log.work if work.phase == "forward"] for log in (graph, trace))
    assert found == wanted


def test_autocast_on_tokens():
    graph, trace = both("tokens", precision="amp-bf16")
    assert saved(graph) == saved(trace)


@pytest.mark.parametrize(
    "name", ["Relu", "Sigmoid", "Tanh", "Gelu", "Swish", "HardSwish", "Erf", "Exp", "Sqrt", "Abs", "Sin", "Mish"]
)
def test_what_functions_of_one_tensor_keep(name):
    """Held against torch's own hooks on saved tensors: bytes kept beside the input and the result."""
    from peakmem.training.saved.pointwise import UNARY

    function = {
        "Swish": functional.silu,
        "Gelu": functional.gelu,
        "HardSwish": functional.hardswish,
        "Mish": functional.mish,
    }
    call = function.get(name) or getattr(torch, UNARY[name].aten)
    kept: list[int] = []
    x = torch.rand((2, 5, 24), requires_grad=True)

    def pack(tensor):
        kept.append(tensor.untyped_storage().data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda item: item):
        y = call(x)
    places = {"self": x, "result": y}
    wanted = {"self": {x.data_ptr()}, "result": {y.data_ptr()}, "neither": set()}[UNARY[name].keeps]
    assert set(kept) == wanted, places
