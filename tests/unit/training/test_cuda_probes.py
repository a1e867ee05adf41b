"""What can be traced on tensors without memory, probe by probe, for the processor and for a GPU that is not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

from peakmem.training.tracing import content, cuda  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
nn, functional = torch.nn, torch.nn.functional


def x(*shape: int, **options: Any) -> Any:
    return torch.empty(shape, requires_grad=True, **options)


def trained(module: Callable[..., Any], *given: Any) -> Any:
    result = module(*given)
    result = result[0] if isinstance(result, tuple) else result
    result.float().sum().backward()
    return result


def whole_numbers(*shape: int) -> Any:
    return torch.randint(0, 4, shape)


def stepped(title: str, **options: Any) -> None:
    layer = nn.Linear(8, 8)
    optimizer = getattr(torch.optim, title)([layer.weight], **options)
    for _ in range(2):
        trained(layer, x(2, 8))
        optimizer.step()
        optimizer.zero_grad()


def twice(module: Any, given: Any) -> None:
    from torch.utils.checkpoint import checkpoint

    trained(lambda item: checkpoint(module, item, use_reentrant=False), given)


def under_autocast(module: Any, *given: Any) -> None:
    with torch.autocast(given[0].device.type, dtype=torch.bfloat16):
        trained(module, *given)


PROBES: dict[str, Callable[[], Any]] = {
    "linear": lambda: trained(nn.Linear(8, 8), x(2, 8)),
    "bilinear": lambda: trained(nn.Bilinear(4, 4, 8), x(2, 4), x(2, 4)),
    "embedding": lambda: trained(nn.Embedding(10, 8), whole_numbers(2, 3)),
    "embedding bag": lambda: trained(nn.EmbeddingBag(10, 8), whole_numbers(2, 3)),
    "conv1d": lambda: trained(nn.Conv1d(3, 4, 3), x(2, 3, 9)),
    "conv2d": lambda: trained(nn.Conv2d(4, 4, 3, groups=4, dilation=2), x(2, 4, 9, 9)),
    "conv3d": lambda: trained(nn.Conv3d(3, 4, 3), x(1, 3, 9, 9, 9)),
    "transposed": lambda: trained(nn.ConvTranspose2d(3, 4, 2, 2), x(2, 3, 9, 9)),
    "batch norm": lambda: trained(nn.BatchNorm2d(4), x(2, 4, 5, 5)),
    "sync batch norm": lambda: trained(nn.SyncBatchNorm(4).eval(), x(2, 4, 5, 5)),
    "instance norm": lambda: trained(nn.InstanceNorm2d(4, affine=True), x(2, 4, 5, 5)),
    "group norm": lambda: trained(nn.GroupNorm(2, 4), x(2, 4, 5, 5)),
    "layer norm": lambda: trained(nn.LayerNorm(8), x(2, 8)),
    "rms norm": lambda: trained(nn.RMSNorm(8), x(2, 8)),
    "local response": lambda: trained(nn.LocalResponseNorm(2), x(2, 4, 5, 5)),
    "activations": lambda: [trained(kind(), x(2, 4)) for kind in (nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.PReLU, nn.GLU)],
    "pools": lambda: [trained(kind(2), x(2, 4, 8, 8)) for kind in (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)],
    "resize": lambda: trained(
        lambda item: functional.interpolate(item, scale_factor=2, mode="bilinear"), x(2, 3, 8, 8)
    ),
    "bicubic": lambda: trained(
        lambda item: functional.interpolate(item, scale_factor=2, mode="bicubic"), x(2, 3, 8, 8)
    ),
    "grid sample": lambda: trained(functional.grid_sample, x(2, 3, 8, 8), torch.empty(2, 4, 4, 2)),
    "pixel shuffle": lambda: trained(nn.PixelShuffle(2), x(2, 4, 4, 4)),
    "lstm": lambda: trained(nn.LSTM(8, 16, 2, batch_first=True, bidirectional=True, dropout=0.1), x(2, 5, 8)),
    "projected lstm": lambda: trained(nn.LSTM(8, 16, proj_size=4), x(5, 2, 8)),
    "gru": lambda: trained(nn.GRU(8, 16, batch_first=True), x(2, 5, 8)),
    "cells": lambda: [trained(kind(8, 16), x(2, 8)) for kind in (nn.LSTMCell, nn.GRUCell, nn.RNNCell)],
    "attention": lambda: trained(nn.MultiheadAttention(16, 4, batch_first=True), x(2, 5, 16), x(2, 5, 16), x(2, 5, 16)),
    "encoder layer": lambda: trained(nn.TransformerEncoderLayer(16, 4, batch_first=True), x(2, 5, 16)),
    "attention with dropout": lambda: trained(
        lambda item: functional.scaled_dot_product_attention(item, item, item, dropout_p=0.1), x(2, 4, 64, 32)
    ),
    "dropouts": lambda: [trained(kind(0.1), x(2, 4, 5, 5)) for kind in (nn.Dropout, nn.Dropout2d, nn.AlphaDropout)],
    "cross entropy": lambda: trained(lambda item: functional.cross_entropy(item, whole_numbers(4)), x(4, 5)),
    "smoothed": lambda: trained(
        lambda item: functional.cross_entropy(item, whole_numbers(4), label_smoothing=0.1), x(4, 5)
    ),
    "binary": lambda: trained(
        lambda item: functional.binary_cross_entropy_with_logits(item, torch.ones(4, 5)), x(4, 5)
    ),
    "distances": lambda: trained(lambda item: torch.cdist(item, torch.ones(4, 5)), x(4, 5)),
    "einsum": lambda: trained(lambda item: torch.einsum("ab,cb->ac", item, item), x(4, 5)),
    "sort and pick": lambda: trained(
        lambda item: item.sort(-1)[0].topk(2)[0].gather(-1, whole_numbers(4, 2) * 0), x(4, 5)
    ),
    "index add": lambda: trained(lambda item: torch.zeros(4, 5).index_add(0, whole_numbers(4), item), x(4, 5)),
    "scatter": lambda: trained(lambda item: torch.zeros(4, 5).scatter_add(1, whole_numbers(4, 5), item), x(4, 5)),
    "cumulative": lambda: trained(lambda item: item.cumsum(-1).logsumexp(-1), x(4, 5)),
    "fourier": lambda: trained(lambda item: torch.fft.rfft(item).abs(), x(4, 8)),
    "clipping": lambda: nn.utils.clip_grad_norm_([trained(nn.Linear(8, 8), x(2, 8))], 1.0),
    "autocast": lambda: under_autocast(nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Softmax(-1)), x(2, 8)),
    "recompute": lambda: twice(nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1)), x(2, 8)),
    "state": lambda: (lambda module: module.load_state_dict(module.state_dict()))(nn.Linear(8, 8)),
    "spectral norm": lambda: trained(nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)), x(2, 8)),
    "weight norm": lambda: trained(nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), x(2, 8)),
    "truncated": lambda: nn.init.trunc_normal_(torch.empty(4, 4)),
    "orthogonal": lambda: nn.init.orthogonal_(torch.empty(4, 4)),
    "from a list": lambda: torch.tensor([1.0, 2.0]).sum().item(),
    "from random numbers": lambda: torch.randn(3, generator=None) + torch.rand(3) + torch.randperm(3),
    "fused adamw": lambda: stepped("AdamW", fused=True),
    "foreach adam": lambda: stepped("Adam", foreach=True),
    "capturable adam": lambda: stepped("Adam", capturable=torch.get_default_device().type == "cuda"),
    **{
        f"optimizer {title}": lambda title=title: stepped(title)
        for title in ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "RAdam", "Adafactor", "Adamax", "Muon")
    },
}


@pytest.fixture(scope="module", params=["cpu", "cuda"])
def traced(request: pytest.FixtureRequest) -> Iterator[str]:
    with ExitStack() as stack:
        if request.param == "cuda":
            if cuda.available():
                pytest.skip(cuda.available())
            stack.enter_context(cuda.faked())
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(content.answers())
        yield request.param


@pytest.mark.parametrize("name", PROBES)
def test_probe(name: str, traced: str) -> None:
    if name == "optimizer Muon" and not hasattr(torch.optim, "Muon"):
        pytest.skip("this version has none")
    with torch.device(traced):
        PROBES[name]()
