"""The tracer: small steps whose bytes add up by hand, and the profiler's events for what autograd does."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402

from peakmem.errors import UsageError  # noqa: E402
from peakmem.training import account  # noqa: E402
from peakmem.training.log import events  # noqa: E402
from peakmem.training.scenario import Optimizer, Scenario  # noqa: E402
from peakmem.training.tracing import given  # noqa: E402
from peakmem.training.tracing.run import trace  # noqa: E402

SINGLE = Optimizer("adamw", "single")


def log_of(source, **kwargs):
    scenario = Scenario(**kwargs)
    log = trace(given.workload(source, scenario), scenario)
    events(log)  # each moment has one
    return log


def profiled(source, steps=2):
    """Most bytes that the processor's allocator held, by the profiler, started before anything exists."""
    torch.manual_seed(0)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as taken:
        step = source()
        for _ in range(steps):
            kept = step()
        del kept
    found, pending = [], list(taken.profiler.kineto_results.experimental_event_tree())
    while pending:
        event = pending.pop()
        pending += event.children
        if event.tag == torch._C._profiler._EventType.Allocation:
            found.append((event.start_time_ns, event.extra_fields.alloc_size))
    live, peak = 0, 0
    for _, size in sorted(found, key=lambda pair: pair[0]):
        live += size
        peak = max(peak, live)
    return peak


def linear(batch=8):
    model = nn.Linear(16, 4, bias=False)
    x = torch.zeros(batch, 16)
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)

    def step():
        optimizer.zero_grad()
        loss = model(x).sum()
        loss.backward()
        optimizer.step()
        return loss

    return step


def test_one_linear_layer_by_hand():
    log = log_of(linear)
    kept = account.kept(log)
    # 16 × 4 weights of 4 bytes, their gradient, two moments and a step counter of 4 bytes, 8 × 16 inputs
    assert (kept["parameter"], kept["gradient"]) == (256, 256)
    assert (kept["optimizer state"], kept["input"]) == (516, 512)
    # AdamW's loop makes sqrt(v) and sqrt(v) / c, of the parameter's size, beside each other
    peak = account.peak(log)
    assert (peak.step, peak.phase) == (1, "optimizer")
    assert peak.categories["temporary"] == 512
    # the losses of this step and of the one before; the number it divides by, as 8 bytes and as 4
    assert peak.nbytes == 256 + 256 + 516 + 512 + 512 + 8 + 12


def test_phases_come_in_the_order_of_the_loop():
    log = log_of(linear)
    phases = [mark.phase for mark in log.marks if mark.step == 1]
    assert [phase for phase in phases if phase != "forward"] == ["zero_grad", "backward", "optimizer"]


class Residual(nn.Module):
    def __init__(self, width=64, depth=3):
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.GELU()) for _ in range(depth))

    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x)
        return x


def of(model, x, **options):
    def make():
        network, batch = model(), x()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, foreach=False, **options)

        def step():
            optimizer.zero_grad()
            loss = network(batch).sum()
            loss.backward()
            optimizer.step()
            return loss

        return step

    return make


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(500, 64)

    def forward(self, x):
        return self.table(x) @ self.table.weight.t()


class Shared(nn.Module):
    """One layer twice: its gradients meet."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(96, 96)

    def forward(self, x):
        return self.layer(torch.tanh(self.layer(x)))


class Gathering(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 200)

    def forward(self, x):
        y = self.layer(x)
        return y.gather(1, torch.zeros(len(x), 5, dtype=torch.int64)) + y[:, 3:8] + y[torch.arange(len(x)), 2:7]


class Fan(nn.Module):
    """A tensor with four readers, a view among them."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 64)

    def forward(self, x):
        y = self.layer(x)
        return torch.sigmoid(y) + torch.tanh(y) + y.t().contiguous().t() * 2 + y


CASES = {
    "residual": of(Residual, lambda: torch.ones(512, 64)),
    "tied": of(Tied, lambda: torch.zeros(32, dtype=torch.int64)),
    "shared": of(Shared, lambda: torch.ones(16, 96)),
    "gathering": of(Gathering, lambda: torch.ones(128, 64)),
    "fan": of(Fan, lambda: torch.ones(256, 64)),
    "momentum": of(Residual, lambda: torch.ones(64, 64), momentum=0.9),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_that_meet_are_added_as_autograd_does_without_a_watcher(name):
    assert account.peak(log_of(CASES[name])).nbytes == profiled(CASES[name])


def test_modules_of_the_backward_are_those_of_the_forward():
    log = log_of(CASES["residual"])
    backward = [item for item in log.storages if item.phase == "backward" and item.operator == "aten::gelu_backward"]
    assert {item.module for item in backward} == {f"layers.{at}.1" for at in range(3)}


def test_a_mapping_is_put_together_and_changed_by_the_scenario():
    def parts():
        model = Residual(depth=4)
        return {"model": model, "loss": lambda y: y.sum(), "batch": torch.zeros(128, 64)}

    plain = account.peak(log_of(parts, optimizer=Optimizer("sgd")))
    again = account.peak(log_of(parts, optimizer=Optimizer("sgd"), recompute="blocks"))
    assert again.categories["saved activation"] < plain.categories["saved activation"]
    half = log_of(parts, batch=64, optimizer=Optimizer("sgd"))
    assert account.kept(half)["input"] * 2 == account.kept(log_of(parts))["input"]
    frozen = account.kept(log_of(parts, freeze=("layers.0.*",)))
    assert frozen["gradient"] == 3 * (64 * 64 + 64) * 4
    with pytest.raises(UsageError, match="no parameter is called"):
        log_of(parts, freeze=("nothing",))


def test_recompute_does_its_work_twice():
    def parts():
        return {"model": Residual(depth=4), "loss": lambda y: y.sum(), "batch": torch.zeros(128, 64)}

    def flops(log, phase):
        return sum(item.flops for item in log.work if item.step == 1 and item.phase == phase)

    plain, again = log_of(parts), log_of(parts, recompute="blocks")
    forward = 4 * 2 * 128 * 64 * 64
    assert flops(plain, "forward") == flops(again, "forward") == forward
    # the first layer's input needs no gradient
    assert flops(plain, "backward") == 2 * forward - 2 * 128 * 64 * 64
    assert flops(again, "backward") - flops(plain, "backward") == forward


def test_real_parameters_and_optimizers_are_left_as_they_were():
    model = nn.Linear(8, 8)
    optimizer = torch.optim.Adam(model.parameters())
    before = model.weight.detach().clone()

    def step():
        optimizer.zero_grad()
        loss = model(torch.ones(2, 8)).sum()
        loss.backward()
        optimizer.step()
        return loss

    log = log_of({"step": step})
    assert account.kept(log)["parameter"] == 72 * 4
    assert model.weight.grad is None
    assert not optimizer.state
    assert torch.equal(model.weight, before)


def test_a_step_hides_what_only_it_could_change():
    with pytest.raises(UsageError, match="freeze needs the model"):
        log_of(linear, freeze=("weight",))
    with pytest.raises(UsageError, match="no module is meant"):
        log_of(linear, recompute="blocks")


def test_blocks_of_a_hidden_model_run_again_all_the_same():
    def parts():
        return {"model": Residual(depth=4), "loss": lambda y: y.sum(), "batch": torch.zeros(128, 64)}

    def hiding():
        model, batch = Residual(depth=4), torch.zeros(128, 64)
        optimizer = torch.optim.AdamW(model.parameters())

        def step():
            optimizer.zero_grad()
            result = model(batch)
            loss = result.sum()
            loss.backward()
            optimizer.step()
            return loss

        return step

    shown, hidden = (log_of(source, recompute="blocks") for source in (parts, hiding))
    assert account.peak(shown, phase="backward").nbytes == account.peak(hidden, phase="backward").nbytes
    assert account.peak(hidden).nbytes < account.peak(log_of(hiding)).nbytes


def test_autocast_leaves_the_backward_alone():
    wide = of(Residual, lambda: torch.ones(512, 64))
    saved = account.peak(log_of(wide, precision="amp-bf16")).categories["saved activation"]
    assert saved < account.peak(log_of(wide)).categories["saved activation"]


def test_emptying_the_cache_is_in_the_log_of_a_card():
    from peakmem.training.tracing import cuda

    if reason := cuda.available():
        pytest.skip(reason)

    def make():
        model = nn.Linear(512, 512).to("cuda")

        def step():
            torch.cuda.empty_cache()
            model(torch.zeros(8, 512, device="cuda")).sum().backward()

        return step

    own = torch.cuda.empty_cache
    assert len(log_of(make, device="cuda").emptied) == 2
    assert torch.cuda.empty_cache is own
