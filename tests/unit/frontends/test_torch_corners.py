"""Modules of the less usual kinds, held against PyTorch's own counts, a real run, or hand arithmetic."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402 - needs torch to be there
from torch.nn import functional  # noqa: E402

import peakmem  # noqa: E402
from peakmem.errors import UsageError  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


class Calls(nn.Module):
    """A module whose forward is given by the test, with parts and tensors by name."""

    def __init__(self, run, **parts):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args):
        return self.run(self, *args)


def eager(module, *shapes):
    return peakmem.estimate(peakmem.load(module, inputs=list(shapes)), assume="eager", hold_inputs=True)


def by_trace(monkeypatch):
    from peakmem.frontends.torch import export

    def refuse(*_):
        raise RuntimeError("not today")

    monkeypatch.setattr(export, "export", refuse)


@pytest.mark.parametrize("traced", [False, True])
def test_parameters_side_by_side_in_one_memory_count_each(monkeypatch, traced):
    """As an LSTM on a GPU has them: one flat buffer, a parameter per part."""
    if traced:
        by_trace(monkeypatch)
    flat = torch.randn(32, 16)
    module = Calls(
        lambda self, x: x @ self.a.t() + x @ self.b.t(), a=nn.Parameter(flat[:16]), b=nn.Parameter(flat[16:])
    )
    report = eager(module, (4, 16))
    assert report.parameters.trainable == sum(item.numel() for item in module.parameters()) == 512
    assert report.weights_bytes == flat.nbytes


def test_parameters_side_by_side_in_a_file(tmp_path):
    flat = torch.randn(32, 16)
    module = Calls(
        lambda self, x: x @ self.a.t() + x @ self.b.t(), a=nn.Parameter(flat[:16]), b=nn.Parameter(flat[16:])
    )
    torch.export.save(torch.export.export(module, (torch.randn(4, 16),), strict=False), tmp_path / "parts.pt2")
    report = peakmem.estimate(tmp_path / "parts.pt2")
    assert report.parameters.trainable == 512
    assert report.weights_bytes == flat.nbytes


def test_weights_computed_in_every_call_are_held_while_they_are_read():
    """Weight normalisation: g · v / |v| is a tensor as large as the weight, beside the input and the output."""
    module = nn.utils.parametrizations.weight_norm(nn.Linear(64, 64, bias=False))
    report = eager(module, (2, 64))
    assert report.peak.activation_bytes == 4 * (64 * 64 + 2 * 64 + 2 * 64)
    assert report.parameters.trainable == 64 * 64 + 64


def test_maps_over_an_axis_count_the_axis():
    module = Calls(lambda self, a, b: torch.vmap(lambda p, q: self.linear(p) * q)(a, b), linear=nn.Linear(16, 16))
    assert eager(module, (4, 16), (4, 16)).peak.activation_bytes == 4 * 4 * 4 * 16


def test_a_file_with_a_map_over_an_axis_says_what_it_lacks(tmp_path):
    module = Calls(lambda self, x: torch.vmap(self.linear)(x), linear=nn.Linear(16, 16))
    torch.export.save(torch.export.export(module, (torch.randn(4, 16),), strict=False), tmp_path / "map.pt2")
    assert any("torch.vmap" in item.reason for item in peakmem.estimate(tmp_path / "map.pt2").unknowns)


def test_grouped_products_of_any_dtype():
    def run(self, x, ends):
        return functional.grouped_mm(x, self.weight, offs=ends).relu().sum().item()

    module = Calls(run, weight=nn.Parameter(torch.randn(4, 16, 32)))
    graph = peakmem.load(module, inputs=[(8, 16), "4:int32"])
    made = next(op for op in graph.operators if op.op_type == "_grouped_mm")
    tensor = graph.tensors[made.outputs[0]]
    assert (tensor.shape, str(tensor.dtype)) == ((8, 32), "float32")


def test_autocast_hides_its_copies_and_says_so():
    def run(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.linear(x)

    assert any("autocast" in item.reason for item in eager(Calls(run, linear=nn.Linear(8, 8)), (2, 8)).unknowns)


def test_scripted_modules_keep_their_mode():
    module = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.Dropout()))
    assert eager(module, (2, 4)).parameters.trainable == 20
    assert module.training
    assert module[1].training


def test_packed_weights_of_quantised_layers_are_counted():
    quantised = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(16, 16)), {nn.Linear}, torch.qint8)
    assert eager(quantised, (4, 16)).weights_bytes == 16 * 16 + 4 * 16


def test_numbers_kept_in_buffers_may_be_read(monkeypatch):
    by_trace(monkeypatch)
    module = Calls(lambda self, x: x * self.scale if self.scale.item() > 2 else x)
    module.register_buffer("scale", torch.tensor(3.0))
    assert [op.op_type for op in peakmem.load(module, inputs=[(2, 4)]).operators] == ["mul"]
    changed = Calls(lambda self, x: x * 2 if self.count.add_(1).item() > 2 else x)
    changed.register_buffer("count", torch.zeros(()))
    with pytest.raises(UsageError, match="decides by the content"):
        peakmem.load(changed, inputs=[(2, 4)])


def ends(*_):
    raise SystemExit(3)


def packs(self, x, lengths):
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return self.lstm(packed)[1]


@pytest.mark.parametrize(
    ("module", "inputs", "words"),
    [
        (nn.Sequential(nn.LazyLinear(4)), [(2, 4)], "no sizes before its first call"),
        (Calls(ends), [(2, 4)], "SystemExit"),
        (Calls(packs, lstm=nn.LSTM(8, 12)), [(5, 7, 8), "5:int64"], "decides by the content"),
        (nn.Linear(4, 4), [(2, 5)], "inputs that fit"),
    ],
)
def test_refused_in_a_sentence(module, inputs, words):
    with pytest.raises(UsageError, match=words) as caught:
        peakmem.load(module, inputs=inputs)
    assert "\n" not in str(caught.value)


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(UsageError, match="--batch is 0"):
        peakmem.load(nn.Linear(4, 4), inputs=[(2, 4)], batch=0)
