"""PyTorch modules: captures held against the zoo, against PyTorch's own counts, and against hand arithmetic."""

import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402 - needs torch to be there

import peakmem  # noqa: E402
from peakmem.errors import UsageError  # noqa: E402
from peakmem.frontends.torch import export as torch_export  # noqa: E402
from peakmem.frontends.torch.fake import without_allocation  # noqa: E402
from tests.unit.frontends import torch_networks as networks  # noqa: E402

ASSUMPTIONS = ("naive", "eager", "inplace", "fused", "fused_add")
IMAGE = [(1, 3, 224, 224)]


def peaks(source, **options):
    graph = peakmem.load(source, **options)
    return {name: peakmem.estimate(graph, assume=name).peak.activation_bytes for name in ASSUMPTIONS}


def trainable(module):
    return sum(parameter.numel() for parameter in module.parameters())


class Holder(nn.Module):
    """A linear layer, a forward given by the test."""

    def __init__(self, forward=None):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.run = forward

    def forward(self, x):
        return self.run(self, x) if self.run else self.linear(x)


@pytest.fixture
def refused(monkeypatch):
    """torch.export refuses everything."""

    def refuse(*_):
        raise RuntimeError("not today\nat all")

    monkeypatch.setattr(torch_export, "export", refuse)


SLOW = ("mobilenet_v1", "resnet18", "squeezenet1_1")
QUICK = ("mobilenet_v2", "resnet50")


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_networks_of_the_zoo(name):
    module = getattr(networks, name)(inplace=False)
    assert peaks(module, inputs=IMAGE) == peaks(name)
    counted = peakmem.estimate(module, inputs=IMAGE).parameters.trainable
    assert counted == trainable(module) == peakmem.estimate(name).parameters.trainable


def test_work_in_place_makes_the_peak_smaller_and_is_the_only_difference():
    # SqueezeNet, eager: relu after the first convolution no longer holds two maps of 64 × 111 × 111 floats,
    # so that the first pooling decides: its input and its output of 64 × 55 × 55.
    ours, zoo = peaks(networks.squeezenet1_1(inplace=True), inputs=IMAGE), peaks("squeezenet1_1")
    assert zoo["eager"] == 2 * 64 * 111 * 111 * 4
    assert ours["eager"] == (64 * 111 * 111 + 64 * 55 * 55) * 4
    assert {name: value for name, value in ours.items() if name != "eager"} == {
        name: value for name, value in zoo.items() if name != "eager"
    }
    # ResNet-50, fused: `y += identity` is told to be in place, as fused_add has it for every sum.
    ours, zoo = peaks(networks.resnet50(inplace=True), inputs=IMAGE), peaks("resnet50")
    assert ours["fused"] == zoo["fused_add"]
    assert {**ours, "fused": 0} == {**zoo, "fused": 0}


@pytest.mark.usefixtures("refused")
def test_a_trace_gives_the_same_as_an_export():
    graph = peakmem.load(networks.resnet50(inplace=False), inputs=IMAGE)
    assert graph.notes == (
        "captured by tracing the operators that ran, because torch.export refused: not today",
    )  # fmt: skip
    zoo = peaks("resnet50")
    assert {name: peakmem.estimate(graph, assume=name).peak.activation_bytes for name in ASSUMPTIONS} == zoo
    assert peakmem.estimate(graph).parameters.trainable == 25_557_032
    assert graph.operators[0].scope == "conv1"


def test_gpt2_small_shares_its_table():
    module = networks.GPT2()
    report = peakmem.estimate(module, inputs="1x64:int64")
    assert report.parameters.trainable == trainable(module) == 124_439_808
    assert report.peak.weights_bytes == 4 * 124_439_808
    graph = peakmem.load(module, inputs="1x64:int64")
    owner = {graph.tensors[name].storage or name for name in ("wte.weight", "lm_head.weight")}
    assert len(owner) == 1
    assert peakmem.estimate(graph, dtype="float16").peak.weights_bytes == 2 * 124_439_808


def test_lstm():
    report = peakmem.estimate(networks.LSTM(), inputs=[(2, 10, 128)])
    assert report.parameters.elements["bias"] == 2 * 2 * 4 * 256
    assert report.parameters.trainable == 921_600 == peakmem.estimate("lstm_2layer").parameters.trainable
    assert report.kind == "estimate"


@pytest.mark.parametrize("form", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("bias", [True, False])
def test_recurrent_parameters_have_their_roles(form, bias):
    module = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[form](8, 16, 2, bias=bias, bidirectional=True)
    report = peakmem.estimate(module, inputs=[(5, 3, 8)])
    biases = sum(item.numel() for name, item in module.named_parameters() if "bias" in name)
    assert report.parameters.elements["bias"] == biases
    assert report.parameters.elements["weight"] == trainable(module) - biases


def test_a_projected_lstm():
    module = nn.LSTM(8, 16, 2, proj_size=4)
    report = peakmem.estimate(module, inputs=[(5, 3, 8)])
    assert report.parameters.elements["bias"] == 2 * 2 * 64
    assert report.parameters.trainable == trainable(module)


def test_parameters_are_what_the_module_says():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones([]))
            self.unread = nn.Linear(3, 3)
            self.norm = nn.BatchNorm2d(4)
            self.slope = nn.PReLU()
            self.register_buffer("table", torch.zeros(4, 8, 8))

        def forward(self, x):
            return self.slope(self.norm(x)) * self.scale + self.table

    module = Odd()
    report = peakmem.estimate(module, inputs=[(1, 4, 8, 8)])
    assert report.parameters.trainable == trainable(module) == 1 + 12 + 8 + 1
    assert report.parameters.elements["statistic"] == 8
    assert report.parameters.elements["other"] == 256 + 1  # the table, and the number of batches
    assert report.peak.weights_bytes == 4 * (22 + 8 + 256) + 8


def test_a_buffer_that_is_written_on_is_a_state():
    class Cache(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("cache", torch.zeros(1, 8, 16))

        def forward(self, x):
            self.cache[:, : x.shape[1]] = x
            return (self.cache.transpose(1, 2).unsqueeze(0) * 2).sum()

    module = Cache()
    report = peakmem.estimate(module, inputs=[(1, 4, 16)], assume="eager")
    assert report.peak.state_bytes == 4 * 8 * 16
    assert report.peak.activation_bytes == 4 * 8 * 16 + 4  # the doubled cache and its sum; views take nothing
    assert torch.count_nonzero(module.cache) == 0
    assert type(module.cache) is torch.Tensor


def test_the_module_is_left_as_it_was():
    class Restless(Holder):
        def __init__(self):
            super().__init__()
            self.seen, self.drop = [], nn.Dropout()

        def forward(self, x):
            self.last = x
            self.seen.append(x)
            return self.drop(self.linear(x))

    module = Restless().train()
    before = {name: item for name, item in module.__dict__.items() if not name.startswith("_")}
    weight, seen = module.linear.weight, module.seen
    graph = peakmem.load(module, inputs=[(2, 4)])
    assert [operator.op_type for operator in graph.operators] == ["linear", "dropout"]
    assert graph.operators[1].aliases == ((0, 0),)  # in eval mode it hands back what it is given
    assert module.training
    assert module.drop.training
    assert module.linear.weight is weight
    assert module.seen is seen
    assert seen == []
    assert {name: item for name, item in module.__dict__.items() if not name.startswith("_")} == before


def test_modules_without_memory():
    with torch.device("meta"):
        meta = networks.GPT2(layers=1)
        recurrent = networks.LSTM()
    with without_allocation():
        fake = networks.GPT2(layers=1)
    expected = peaks(networks.GPT2(layers=1), inputs="1x8:int64")
    assert peaks(meta, inputs="1x8:int64") == expected == peaks(fake, inputs="1x8:int64")
    assert meta.lm_head.weight is meta.wte.weight
    assert meta.wte.weight.is_meta
    peakmem.load(recurrent, inputs=[(1, 2, 128)])
    assert recurrent.lstm._flat_weights[0].is_meta


def test_a_module_that_copies_its_layers_without_memory():
    with without_allocation():
        fake = networks.Bert(layers=2, width=96, vocabulary=100)
    real = networks.Bert(layers=2, width=96, vocabulary=100)
    assert peaks(fake, inputs="1x8:int64") == peaks(real, inputs="1x8:int64")
    assert peakmem.estimate(fake, inputs="1x8:int64").parameters.trainable == trainable(real)


def test_initialisers_and_small_tables_work_without_memory():
    class Built(nn.Module):
        def __init__(self):
            super().__init__()
            self.rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)]
            self.order = torch.arange(6).view(2, 3).flatten().tolist()
            self.a, self.b = nn.Linear(512, 512), nn.Linear(512, 512)
            self.b.weight = self.a.weight
            nn.init.trunc_normal_(self.a.weight)
            nn.init.orthogonal_(self.b.weight)
            self.table = nn.Embedding(100, 512, padding_idx=3)
            self.register_buffer("mask", torch.tril(torch.ones(128, 128)).view(1, 1, 128, 128))

        def forward(self, x):
            return self.b(self.a(x)) * self.mask[0, 0, 0, 0]

    with without_allocation():
        module = Built()
    assert module.rates == pytest.approx([0, 0.05, 0.1])
    assert module.order == [0, 1, 2, 3, 4, 5]
    report = peakmem.estimate(module, inputs=[(2, 512)])
    assert report.parameters.trainable == trainable(module) == 512 * 512 + 2 * 512 + 100 * 512


def test_control_flow():
    class Choice(Holder):
        def forward(self, x):
            return torch.cond(x.sum() > 0, lambda a: self.linear(a) + 1, lambda a: a - 1, (x,))

    module = Choice()
    graph = peakmem.load(module, inputs=[(32, 4)])
    (choice,) = (operator for operator in graph.operators if operator.op_type == "If")
    assert [body.name for body in choice.subgraphs] == ["then_branch", "else_branch"]
    report = peakmem.estimate(graph, assume="eager")
    # The input, the result of the branch, the product before its sum, and the condition.
    assert report.peak.activation_bytes == 3 * 32 * 4 * 4 + 1
    assert report.peak.subgraph_bytes == 32 * 4 * 4
    assert report.parameters.trainable == trainable(module)


@pytest.mark.parametrize("form", ["while_loop", "scan", "map"])
def test_loops(form):
    class Loop(Holder):
        def forward(self, x):
            if form == "while_loop":
                from torch._higher_order_ops.while_loop import while_loop

                start = torch.zeros((), dtype=torch.int64)
                return while_loop(lambda i, _: i < 9, lambda i, y: (i + 1, self.linear(y) + 1), (start, x))[1]
            if form == "scan":
                from torch._higher_order_ops.scan import scan

                return scan(lambda c, e: (c + e, self.linear(c * e)), torch.zeros(4), x)[1]
            from torch._higher_order_ops.map import map as each

            return each(lambda e: self.linear(e) + 1, x)

    report = peakmem.estimate(Loop(), inputs=[(32, 4)], assume="eager")
    rows = 32 * 4 * 4
    inside = {"while_loop": 8 + 1 + rows, "scan": 2 * 16, "map": 2 * 16}[form]
    assert report.kind == "estimate"
    assert report.parameters.trainable == 20
    assert report.peak.activation_bytes >= 2 * rows + inside


@pytest.mark.parametrize(
    ("forward", "word"),
    [
        (lambda _, x: x * 2 if x.sum() > 0 else x, "if x.sum() > 0"),
        (lambda _, x: torch.zeros(int(x.abs().max().item())), ".item()"),
        (lambda self, x: self.linear(torch.from_numpy(x.numpy())), ".numpy()"),
    ],
)
def test_code_that_depends_on_data(forward, word):
    with pytest.raises(UsageError) as caught:
        peakmem.load(Holder(forward), inputs=[(2, 4)])
    said = str(caught.value)
    assert "decides by the content of a tensor" in said
    assert word in said
    assert "test_torch.py:" in said
    assert "torch.cond" in said


def test_a_size_that_depends_on_data_stays_open():
    module = Holder(lambda self, x: self.linear(x)[x[:, 0] > 0] * 2)
    report = peakmem.estimate(module, inputs=[(6, 4)])
    assert report.kind == "lower bound"
    (unknown,) = report.unknowns
    assert unknown.hint == "--dim u0=VALUE"
    known = peakmem.estimate(module, inputs=[(6, 4)], dims={"u0": 5}, assume="eager")
    assert known.kind == "estimate"


@pytest.mark.parametrize(
    ("inputs", "word"),
    [
        (None, "--input 1x3x224x224"),
        ([(2, 5)], "reduction dim"),
        ([(2, 4), (2, 4)], "forward(x)"),
        ({"y": (2, 4)}, "forward(x)"),
    ],
)
def test_inputs_that_do_not_fit(inputs, word):
    with pytest.raises(UsageError) as caught:
        peakmem.load(Holder(), inputs=inputs)
    assert word in str(caught.value)


def test_a_lookup_wants_whole_numbers():
    with pytest.raises(UsageError, match=":int64"):
        peakmem.load(nn.Embedding(10, 4), inputs=[(2, 4)])


def test_what_a_module_says_of_its_inputs_is_used():
    module = Holder()
    module.example_inputs = (torch.zeros(2, 4),)
    assert peakmem.load(module).tensors["x"].shape == (2, 4)
    assert peakmem.load(module, batch=7).tensors["x"].shape == (7, 4)


def test_other_sizes_need_another_capture():
    graph = peakmem.load(Holder(), inputs=[(2, 4)])
    assert graph.bound
    with pytest.raises(UsageError, match="--input x="):
        peakmem.estimate(graph, shapes={"x": (3, 4)})
    assert peakmem.estimate(graph, shapes={"x": (2, 4)}).kind == "estimate"
    assert peakmem.estimate(Holder(), inputs=[(2, 4)], batch=5).peak.activation_bytes == 2 * 5 * 4 * 4


def test_the_dtype_of_the_module_is_that_of_its_inputs():
    graph = peakmem.load(Holder().half(), inputs=[(2, 4)])
    assert str(graph.tensors["x"].dtype) == "float16"


def test_an_exported_program_with_open_dimensions():
    module = networks.resnet18(inplace=True).eval()
    open_batch = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(module, (torch.randn(2, 3, 64, 64),), dynamic_shapes=open_batch)
    assert peaks(exported) == peaks(module, inputs=[(2, 3, 64, 64)])
    bound = peakmem.estimate(exported, batch=5).peak.activation_bytes
    assert bound == peakmem.estimate(module, inputs=[(5, 3, 64, 64)]).peak.activation_bytes
    with pytest.raises(UsageError):
        peakmem.load(exported, inputs=[(1, 3, 64, 64)])


def test_operators_of_other_libraries_are_named():
    @torch.library.custom_op("peakmem_tests::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @twice.register_fake
    def _(x):
        return torch.empty_like(x)

    graph = peakmem.load(Holder(lambda self, x: torch.ops.peakmem_tests.twice(self.linear(x))), inputs=[(2, 4)])
    assert any("peakmem_tests::twice" in note for note in graph.notes)
    assert peakmem.estimate(graph, assume="eager").peak.activation_bytes == 2 * 2 * 4 * 4


@pytest.mark.usefixtures("refused")
def test_a_result_that_holds_tensors_in_objects_keeps_them():
    class Box:
        def __init__(self, tensor):
            self.held = [tensor]

    module = Holder(lambda self, x: {"y": self.linear(x), "box": Box(x * 2)})
    graph = peakmem.load(module, inputs=[(2, 4)])
    assert len(graph.outputs) == 2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the high-water mark from /proc")
def test_seventy_billion_parameters_cost_nothing():
    """In a fresh process: less than 1 GiB in all, counted by the system (rusage would count the parent's too)."""
    code = (
        "import time; from pathlib import Path; start = time.perf_counter()\n"
        "from peakmem.pipeline import estimate\n"
        "report = estimate('tests.unit.frontends.torch_networks:llama_70b', inputs=['1x2048:int64'])\n"
        "status = Path('/proc/self/status').read_text()\n"
        "high = status.partition('VmHWM:')[2].split()[0]\n"
        "print(report.parameters.trainable, high, time.perf_counter() - start)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    count, kib, seconds = done.stdout.split()
    layer = 2 * 8192 * 8192 + 2 * 8192 * 1024 + 3 * 8192 * 28672 + 2 * 8192
    assert int(count) == 80 * layer + 2 * 32000 * 8192 + 8192 == 68_976_648_192
    assert int(kib) < 1 << 20
    assert float(seconds) < 120
