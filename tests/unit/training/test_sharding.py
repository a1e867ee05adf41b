"""Full shard written into a log against FSDP2 itself, traced over a group of ranks that only counts."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import distributed, nn  # noqa: E402

from peakmem.training import account  # noqa: E402
from peakmem.training.scenario import Optimizer, Scenario, Sharding  # noqa: E402
from peakmem.training.tracing.run import trace  # noqa: E402
from peakmem.training.tracing.step import Parts  # noqa: E402
from peakmem.training.whatif.sharding import sharded  # noqa: E402

RANKS, DEPTH = 8, 4
SCENARIO = Scenario(optimizer=Optimizer("adamw", "single"))
UNITS = [f"layers.{at}" for at in range(DEPTH)]


class Network(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Embedding(classes, width)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            for _ in range(DEPTH)
        )
        self.last = nn.Linear(width, classes)

    def forward(self, x):
        x = self.first(x)
        for layer in self.layers:
            x = x + layer(x)
        return self.last(x)


class Workload:
    """The network as it is, or sharded over a mesh."""

    name = "network"

    def __init__(self, shape: tuple[int, int, int], mesh: object = None) -> None:
        self.shape, self.mesh = shape, mesh

    def build(self) -> Parts:
        width, classes, length = self.shape
        model = Network(width, classes)
        x, y = torch.zeros(2, length, dtype=torch.int64), torch.zeros(2 * length, dtype=torch.int64)
        if self.mesh is not None:
            from torch.distributed.fsdp import fully_shard

            for layer in model.layers:
                fully_shard(layer, mesh=self.mesh)
            fully_shard(model, mesh=self.mesh)
        return Parts(model=model, loss=lambda: nn.functional.cross_entropy(model(x).flatten(0, 1), y))


@pytest.fixture
def mesh():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    distributed.init_process_group("fake", rank=0, world_size=RANKS, store=FakeStore())
    try:
        yield init_device_mesh("cpu", (RANKS,))
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("shape", [(256, 64, 16), (64, 4096, 128)], ids=["layers dominate", "the loss dominates"])
@pytest.mark.parametrize("phase", ["forward", "backward", "optimizer"])
def test_a_rank_needs_what_fsdp_takes(mesh, shape, phase):
    split = sharded(trace(Workload(shape), SCENARIO), Sharding(ranks=RANKS, stage=3), UNITS)
    real = trace(Workload(shape, mesh), SCENARIO)
    assert account.peak(split, step=1, phase=phase).nbytes == account.peak(real, step=1, phase=phase).nbytes
    assert account.kept(split)["optimizer state"] == account.kept(real)["optimizer state"]
    assert account.kept(split)["parameter"] == account.kept(real)["parameter"]
