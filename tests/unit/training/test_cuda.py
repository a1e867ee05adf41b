"""Device cuda on a PyTorch without it: what works inside `faked`, and that nothing of it is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch._subclasses import fake_impls  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from peakmem.errors import UsageError  # noqa: E402
from peakmem.training.tracing import content, cuda, cuda_hooks  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
nn, functional = torch.nn, torch.nn.functional

# A base class and one that derives from it, with the places counted by hand: the destructor takes two.
BASE = """
struct Base {
  virtual ~Base() = default;
  // virtual void notThis() const {}
  virtual bool first() const { return false; }
  virtual void second(int at) const = 0;
};
"""
DERIVED = """
struct Derived : Base {
  ~Derived() override = default;
  void second(int at) const override {}
  virtual long third() const {
    TORCH_CHECK(false, "virtual failure");
  }
#ifdef USE_ROCM
  virtual bool elsewhere() const { return false; }
#endif
  virtual const at::cuda::NVRTC& fourth() const { return nvrtc; }
};
"""


def test_places_in_the_table_of_functions() -> None:
    base = cuda_hooks.places(BASE)
    assert base == {"~": 0, "first": 2, "second": 3}
    assert cuda_hooks.places(DERIVED, base) == {**base, "third": 4, "fourth": 5}


def test_places_of_the_installed_version() -> None:
    """In torch 2.13, found by trying (a table whose place 2 answers true makes cuda the accelerator)."""
    if not torch.__version__.startswith("2.13."):
        pytest.skip("counted in 2.13")
    found = cuda_hooks._headers()
    assert (found["isBuilt"], found["isAvailable"], found["hasPrimaryContext"]) == (2, 3, 4)


def test_unknown_layouts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    known = cuda_hooks._headers()
    monkeypatch.setattr(cuda_hooks, "_headers", lambda: {})
    assert "headers" in cuda_hooks.reason()
    monkeypatch.setattr(
        cuda_hooks,
        "_headers",
        lambda: {name: at for name, at in known.items() if name != "isBuilt" and name != "hasCUDA"},
    )
    assert "isBuilt" in cuda_hooks.reason()


def test_a_refusal_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.version.cuda is not None:
        pytest.skip("with CUDA it is not refused")
    monkeypatch.setattr(cuda_hooks, "reason", lambda: "no headers")
    with pytest.raises(UsageError, match=r"no headers.*--device cpu"), cuda.faked():
        pass


@pytest.fixture(scope="module", autouse=True)
def _works() -> None:
    fault = cuda.available()
    if fault:
        pytest.skip(fault)


@contextmanager
def tracing(values: tuple[tuple[str, object], ...] = (), **options: Any) -> Iterator[None]:
    with (
        cuda.faked(**options),
        FakeTensorMode(allow_non_fake_inputs=True),
        content.answers(values),
        torch.device("cuda"),
    ):
        yield


class Operators(TorchDispatchMode):  # type: ignore[misc]
    """What runs: operator, and dtypes and shapes of its results."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, list[tuple[str, tuple[int, ...]]]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        parts = result if isinstance(result, tuple | list) else [result]
        self.seen.append(
            (func._opname if hasattr(func, "_opname") else str(func),
             [(str(part.dtype)[6:], tuple(part.shape)) for part in parts if isinstance(part, torch.Tensor)])
        )  # fmt: skip
        return result

    def of(self, name: str) -> list[tuple[str, tuple[int, ...]]]:
        return next(parts for operator, parts in self.seen if operator == name)

    @property
    def names(self) -> set[str]:
        return {operator for operator, _ in self.seen}


def operators(function: Callable[[], Any], values: tuple[tuple[str, object], ...] = (), **options: Any) -> Operators:
    with tracing(values, **options):
        seen = Operators()
        with seen:
            function()
        return seen


def trained(module: Any, *given: Any) -> Any:
    result = module(*given)
    result = result[0] if isinstance(result, tuple) else result
    (result.data if hasattr(result, "batch_sizes") else result).float().sum().backward()
    return result


def test_everything_is_put_back() -> None:
    before = (dict(vars(torch.cuda)), dict(vars(torch.cuda.memory)), dict(fake_impls.op_implementations_dict))
    with tracing():
        assert torch.cuda.is_available()
        assert torch.cuda.device_count() == 1
        trained(nn.Linear(4, 4), torch.empty(2, 4))
    after = (dict(vars(torch.cuda)), dict(vars(torch.cuda.memory)), dict(fake_impls.op_implementations_dict))
    assert [item.keys() for item in before] == [item.keys() for item in after]
    assert all(one[name] is other[name] for one, other in zip(before, after, strict=True) for name in one)
    assert not torch.cuda.is_available()
    x = torch.randn(2, 8, requires_grad=True)
    functional.scaled_dot_product_attention(x[None, None], x[None, None], x[None, None]).sum().backward()
    assert x.grad is not None  # real tensors are computed with as ever


def test_a_backward_that_ran_before_does_no_harm() -> None:
    x = torch.ones(3, requires_grad=True)
    x.sum().backward()
    with tracing():
        y = torch.ones(3, requires_grad=True)
        y.sum().backward()
        assert y.grad.device.type == "cuda"


@pytest.mark.parametrize("move", [
    lambda module: module.to("cuda"), lambda module: module.cuda(), lambda module: module.half(),
    lambda module: module.to("cuda", torch.bfloat16), lambda module: module.to(memory_format=torch.channels_last),
])  # fmt: skip
def test_modules_move(move: Callable[[Any], Any]) -> None:
    with tracing(), torch.device("cpu"):
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        first = module[0].weight
        moved = move(module)
        assert moved[0].weight is first  # an optimizer that was made before still holds it
        assert {item.device.type for item in moved.parameters()} in ({"cuda"}, {"cpu"})


def test_what_torch_cuda_answers() -> None:
    with tracing(capability=(9, 0), memory_bytes=80 << 30):
        assert torch.cuda.get_device_capability() == (9, 0)
        assert torch.cuda.get_device_properties(0).total_memory == 80 << 30
        assert torch.cuda.memory_allocated() == torch.cuda.max_memory_allocated() == 0
        assert torch.cuda.is_bf16_supported()
        assert torch.cuda.current_device() == 0
        torch.manual_seed(1)
        torch.cuda.manual_seed_all(1)
        torch.cuda.set_device(0)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        stream, start, stop = torch.cuda.Stream(), torch.cuda.Event(enable_timing=True), torch.cuda.Event()
        with torch.cuda.stream(stream), torch.cuda.device(0):
            start.record()
            made = torch.empty(3, device="cpu").pin_memory().to("cuda", non_blocking=True)
            stop.record()
        torch.cuda.current_stream().wait_stream(stream)
        made.record_stream(stream)
        assert made.device.type == "cuda"
        assert start.elapsed_time(stop) > 0
        assert nn.DataParallel(nn.Linear(3, 3))(torch.empty(2, 3)).shape == (2, 3)
        assert isinstance(torch.Generator(device="cuda").manual_seed(1), torch.Generator)
        assert torch.cuda.memory_stats()["allocated_bytes.all.peak"] == 0
        assert torch.tensor([1.0, 2.0]).device.type == "cuda"


# Operators --------------------------------------------------------------------------------------------------------


def test_dropout_keeps_a_mask_of_bools() -> None:
    """aten/src/ATen/native/cuda/Dropout.cu; the processor keeps floats."""
    seen = operators(lambda: trained(nn.Dropout(0.1), torch.empty(8, 8, requires_grad=True)))
    assert seen.of("native_dropout") == [("float32", (8, 8)), ("bool", (8, 8))]


def test_batch_norm_is_cudnn() -> None:
    """_select_batch_norm_backend in aten/src/ATen/native/Normalization.cpp: float32 yes, bfloat16 no."""
    image = (2, 4, 5, 5)
    assert (
        "cudnn_batch_norm"
        in operators(lambda: trained(nn.BatchNorm2d(4), torch.empty(image, requires_grad=True))).names
    )
    narrow = operators(lambda: trained(nn.BatchNorm2d(4).bfloat16(), torch.empty(image, dtype=torch.bfloat16)))
    assert "native_batch_norm" in narrow.names
    assert "cudnn_batch_norm" not in narrow.names
    flat = operators(lambda: trained(nn.BatchNorm1d(4), torch.empty(2, 4, requires_grad=True)))
    assert "native_batch_norm" in flat.names  # two dimensions are not cuDNN's


def test_convolutions_keep_channels_last() -> None:
    def run() -> None:
        image = torch.empty(2, 8, 9, 9).to(memory_format=torch.channels_last)
        assert (
            nn.Conv2d(8, 8, 3)
            .to(memory_format=torch.channels_last)(image)
            .is_contiguous(memory_format=torch.channels_last)
        )

    operators(run)


def test_rms_norm_and_mish_stay_whole() -> None:
    """native_functions.yaml gives both a kernel for CUDA beside the composite one."""
    seen = operators(lambda: trained(nn.Sequential(nn.RMSNorm(8), nn.Mish()), torch.empty(2, 3, 8, requires_grad=True)))
    assert {"_fused_rms_norm", "_fused_rms_norm_backward", "mish_backward"} <= seen.names
    assert seen.of("_fused_rms_norm") == [("float32", (2, 3, 8)), ("float32", (2, 3, 1))]
    assert "rsqrt" not in seen.names


def test_recurrent_layers_are_cudnn() -> None:
    seen = operators(lambda: trained(nn.LSTM(8, 16, 2, batch_first=True), torch.empty(2, 5, 8)))
    assert seen.of("_cudnn_rnn")[:3] == [("float32", (5, 2, 16)), ("float32", (2, 2, 16)), ("float32", (2, 2, 16))]
    assert "_cudnn_rnn_backward" in seen.names
    assert "mm" not in seen.names
    for kind in (nn.GRU, nn.RNN):
        assert "_cudnn_rnn" in operators(lambda kind=kind: trained(kind(8, 16), torch.empty(5, 2, 8))).names
    cell = operators(lambda: trained(nn.GRUCell(8, 16), torch.empty(2, 8)))
    assert cell.of("_thnn_fused_gru_cell") == [("float32", (2, 16)), ("float32", (2, 80))]  # five times the width
    narrow = operators(lambda: _under_autocast(nn.LSTM(8, 16), torch.empty(5, 2, 8)))
    assert narrow.of("_cudnn_rnn")[0][0] == "float16"


def _under_autocast(module: Any, given: Any) -> None:
    with torch.autocast("cuda"):
        trained(module, given)


def test_packed_sequences() -> None:
    def run() -> None:
        lengths = torch.tensor([3, 2], device="cpu")
        trained(nn.LSTM(8, 16), nn.utils.rnn.pack_padded_sequence(torch.empty(5, 2, 8), lengths, enforce_sorted=False))

    seen = operators(run, ((f"test_cuda.py:{run.__code__.co_firstlineno + 2}", (3, 2)),))
    assert seen.of("_cudnn_rnn")[0] == ("float32", (5, 16))  # 3 + 2 rows


def test_optimizers_take_foreach() -> None:
    """The default on cuda (torch/optim/optimizer.py): temporaries for all parameters at once."""

    def run() -> None:
        layers = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        trained(layers, torch.empty(2, 4))
        nn.utils.clip_grad_norm_(layers.parameters(), 1.0)
        torch.optim.AdamW(layers.parameters()).step()

    seen = operators(run)
    assert {"_foreach_norm", "_foreach_sqrt"} <= seen.names
    assert "sqrt" not in seen.names


def test_autocast_casts() -> None:
    def run() -> None:
        layer = nn.Linear(8, 8)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            assert layer(torch.empty(2, 8)).dtype == torch.bfloat16
            assert torch.empty(2, 8).softmax(-1).dtype == torch.float32
        with torch.autocast("cuda"):
            assert layer(torch.empty(2, 8)).dtype == torch.float16

    operators(run)


def test_a_scaler_lets_every_step_happen() -> None:
    def run() -> None:
        layer, scaler = nn.Linear(4, 4), torch.amp.GradScaler("cuda")
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
        scaler.scale(layer(torch.empty(2, 4)).sum()).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        assert optimizer.state[layer.weight]["momentum_buffer"] is not None

    assert "_amp_foreach_non_finite_check_and_unscale_" in operators(run).names


def test_recompute_with_its_generators() -> None:
    from torch.utils.checkpoint import checkpoint

    def run() -> None:
        layer = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.1))
        for reentrant in (False, True):
            checkpoint(layer, torch.empty(2, 4, requires_grad=True), use_reentrant=reentrant).sum().backward()

    assert [name for name, _ in operators(run).seen].count("native_dropout") == 4


def test_ctc_loss_asks_for_the_longest_target() -> None:
    def run() -> None:
        scores = torch.empty(9, 2, 5, requires_grad=True)
        lengths = torch.tensor([9, 9]), torch.tensor([3, 3])
        functional.ctc_loss(scores.log_softmax(2), torch.randint(1, 5, (2, 3)), *lengths).backward()

    with pytest.raises(UsageError, match="longest target"):
        operators(run)
    assert operators(run, (("*", 3),)).of("_ctc_loss") == [("float32", (2,)), ("float32", (2, 9, 7))]


def test_the_package_is_importable_where_it_is_tried() -> None:
    assert (Path(cuda_hooks.__file__).parents[3] / "peakmem").is_dir()
    assert cuda_hooks._forked() in ("", None)


@pytest.mark.slow
def test_a_new_process_says_the_same() -> None:
    assert cuda_hooks._spawned() == ""
