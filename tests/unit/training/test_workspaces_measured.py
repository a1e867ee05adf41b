"""Workspaces against the profiler: the allocations within an operator, on a processor like that of the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from peakmem.training import workspaces  # noqa: E402

pytestmark = pytest.mark.skipif(
    not torch.__version__.startswith("2.13.")
    or torch.backends.cpu.get_cpu_capability() != "AVX512"
    or not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    or torch.ops.mkldnn._is_mkldnn_fp16_supported(),
    reason="the table holds for torch 2.13 on AVX-512 with bfloat16",
)


class Marked(TorchDispatchMode):
    """Brackets each operator in the profile and asks the table."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[str, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        number = len(self.said)
        self.said.append(("", None))
        with torch.profiler.record_function(f"operator {number}"):
            result = func(*args, **(kwargs or {}))
        self.said[number] = (str(func), workspaces.find(func, args, kwargs or {}, result, "cpu"))
        return result


def differences(program: Callable[[], Any]) -> list[tuple[str, int, int]]:
    """Operators whose highest level is not the one said: name, said, measured."""
    from torch._C._profiler import _EventType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded, Marked() as mode:
        made = program()
        made.backward(torch.ones_like(made))
    events, stack = [], list(recorded.profiler.kineto_results.experimental_event_tree())
    while stack:
        event = stack.pop()
        stack.extend(event.children)
        if event.tag == _EventType.Allocation:
            events.append((event.start_time_ns, event.extra_fields.ptr, event.extra_fields.alloc_size))
    events.sort()
    found = []
    for event in recorded.profiler.kineto_results.events():
        if not event.name().startswith("operator "):
            continue
        name, said = mode.said[int(event.name().split()[1])]
        begin, end = event.start_ns(), event.start_ns() + event.duration_ns()
        own: dict[int, int] = {}
        level = highest = 0
        for time, address, nbytes in events:
            if begin <= time <= end and (nbytes > 0 or address in own):
                level += nbytes
                highest = max(highest, level)
                if nbytes > 0:
                    own[address] = nbytes
                else:
                    del own[address]
        left = sum(own.values())
        if said is None or max(said.before, left + said.nbytes) != highest:
            found.append((name, -1 if said is None else max(said.before, left + said.nbytes), highest))
    return found


def leaf(*shape: int, dtype: Any = torch.float32) -> Any:
    return torch.randn(*shape, dtype=dtype).requires_grad_()


MODULES = {
    "first": lambda: nn.Conv2d(3, 16, 7, 2, 3),
    "strided": lambda: nn.Conv2d(24, 40, 3, 2, 1),
    "pointwise": lambda: nn.Conv2d(32, 64, 1),
    "depthwise": lambda: nn.Conv2d(48, 48, 3, 1, 1, groups=48),
    "grouped": lambda: nn.Conv2d(32, 64, 3, 1, 1, groups=2),
    "transposed": lambda: nn.ConvTranspose2d(32, 16, 2, 2),
    "batch norm": lambda: nn.BatchNorm2d(16),
    "group norm": lambda: nn.GroupNorm(4, 16),
}
CHANNELS = {"first": 3, "strided": 24, "depthwise": 48, "batch norm": 16, "group norm": 16}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", MODULES)
def test_modules_to_the_byte(name: str, dtype: Any) -> None:
    module = MODULES[name]().to(dtype)
    image = leaf(3, CHANNELS.get(name, 32), 18, 18, dtype=dtype)
    assert differences(lambda: module(image).pow(2)) == []


@pytest.mark.parametrize(
    "program",
    [
        lambda: functional.scaled_dot_product_attention(leaf(2, 3, 70, 32), leaf(2, 3, 90, 32), leaf(2, 3, 90, 32)),
        lambda: functional.linear(leaf(4, 96, 64, dtype=torch.bfloat16), leaf(128, 64, dtype=torch.bfloat16)),
        lambda: functional.cross_entropy(leaf(32, 20), torch.zeros(32, dtype=torch.long)),
        lambda: functional.interpolate(leaf(2, 8, 9, 9), scale_factor=2, mode="bilinear"),
        lambda: nn.LSTM(16, 24)(leaf(6, 5, 16))[0],
        lambda: nn.LSTM(100, 24)(leaf(6, 5, 100))[0],
        lambda: functional.layer_norm(leaf(9, 32), (32,), leaf(32), leaf(32)),
        lambda: functional.embedding(torch.arange(6), leaf(10, 8)),
        lambda: functional.mse_loss(leaf(8, 8), torch.zeros(8, 8)),
    ],
    ids=[
        "attention",
        "linear",
        "cross entropy",
        "bilinear",
        "lstm",
        "lstm of wide rows",
        "layer norm",
        "embedding",
        "mse",
    ],
)
def test_functions_to_the_byte(program: Callable[[], Any]) -> None:
    wrong = [item for item in differences(program) if not item[0].startswith("aten.mm")]
    assert wrong == []  # of aten::mm with its left operand turned only a bound is known
