"""Little training programs, one family of operators each: what the sweep of workspaces runs.

Nothing here knows a formula. Each function yields forwards whose results are differentiated; `python
benchmarks/training/workspaces.py` runs them under the profiler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

Program = Callable[[], Any]
FLOAT, HALF = torch.float32, torch.bfloat16


def leaf(*shape: int, dtype: torch.dtype = FLOAT) -> Tensor:
    """A tensor that wants a gradient."""
    return torch.randn(*shape, dtype=dtype).requires_grad_()


def backward(made: Any) -> None:
    """Gradients of everything that a program made."""
    wanted = [each for each in (made if isinstance(made, tuple | list) else [made]) if each.requires_grad]
    torch.autograd.backward(wanted, [torch.randn_like(each) for each in wanted])


def convolutions() -> Iterator[Program]:
    """Every backend of the processor: kernels, strides, groups, dilations, transposed, one to three dimensions."""
    plain = [
        (3, 8, 3, 1, 1), (3, 64, 7, 2, 1), (1, 32, 3, 1, 1), (3, 96, 4, 4, 1), (4, 32, 3, 1, 1), (16, 32, 3, 1, 1),
        (64, 64, 3, 1, 1), (64, 128, 3, 2, 1), (20, 24, 3, 2, 1), (32, 32, 3, 1, 32), (32, 32, 3, 2, 32),
        (24, 24, 3, 1, 24), (96, 96, 7, 1, 96), (32, 64, 1, 1, 1), (64, 256, 1, 1, 1), (256, 64, 1, 1, 1),
        (32, 64, 1, 2, 1), (24, 40, 1, 1, 1), (32, 64, 3, 1, 4), (32, 64, 3, 1, 2), (12, 18, 3, 1, 3),
        (64, 64, 3, 1, 32), (64, 64, 2, 2, 1), (32, 1, 1, 1, 1), (32, 3, 3, 1, 1), (64, 10, 3, 1, 1),
    ]  # fmt: skip
    for dtype in (FLOAT, HALF):
        for layout in (torch.contiguous_format, torch.channels_last):
            for inner, outer, kernel, stride, groups in plain:
                pads = kernel // 2 if kernel % 2 else 0
                for bias in (True, False):
                    module = nn.Conv2d(inner, outer, kernel, stride, pads, groups=groups, bias=bias)
                    yield _image(module, inner, 16, dtype, layout)
            for inner, outer, kernel, stride, pads, more in (
                (32, 16, 2, 2, 0, 0), (64, 32, 4, 2, 1, 0), (64, 32, 3, 2, 1, 1), (20, 12, 2, 2, 0, 0),
                (32, 3, 4, 2, 1, 0),
            ):  # fmt: skip
                yield _image(nn.ConvTranspose2d(inner, outer, kernel, stride, pads, more), inner, 12, dtype, layout)
        yield _image(nn.Conv2d(32, 64, 3, 1, 2, 2), 32, 16, dtype)
        for inner, outer, kernel, stride in ((16, 32, 3, 1), (80, 64, 3, 2), (64, 64, 1, 1)):
            module = nn.Conv1d(inner, outer, kernel, stride, kernel // 2).to(dtype)
            yield lambda m=module, c=inner, t=dtype: m(leaf(4, c, 50, dtype=t))
        for inner, outer, kernel, stride in ((3, 16, 3, 1), (16, 32, 3, 2), (32, 32, 1, 1)):
            deep = nn.Conv3d(inner, outer, kernel, stride, kernel // 2).to(dtype)
            yield lambda m=deep, c=inner, t=dtype: m(leaf(2, c, 8, 8, 8, dtype=t))


def _image(
    module: nn.Module,
    channels: int,
    size: int,
    dtype: torch.dtype,
    layout: torch.memory_format = torch.contiguous_format,
) -> Program:
    module = module.to(dtype).to(memory_format=layout)

    def program() -> Any:
        image = torch.randn(4, channels, size, size, dtype=dtype).contiguous(memory_format=layout)
        return module(image.requires_grad_())

    return program


def norms() -> Iterator[Program]:
    """Batch, layer, group and instance norms in two layouts."""
    for dtype in (FLOAT, HALF):
        for shape in ((4, 16, 10, 12), (2, 6, 33, 7)):
            for layout in (torch.contiguous_format, torch.channels_last):
                for affine in (True, False):
                    yield _over(nn.BatchNorm2d(shape[1], affine=affine), shape, dtype, layout)
                    yield _over(nn.BatchNorm2d(shape[1], affine=affine).eval(), shape, dtype, layout)
                yield _over(nn.GroupNorm(2, shape[1]), shape, dtype, layout)
                yield _over(nn.InstanceNorm2d(shape[1], affine=True), shape, dtype, layout)
        for rows in ((4, 7, 32), (64, 20)):
            yield _over(nn.LayerNorm(rows[-1]), rows, dtype)
            yield _over(nn.LayerNorm(rows[-1], bias=False), rows, dtype)
            yield _over(nn.RMSNorm(rows[-1]), rows, dtype)


def _over(
    module: nn.Module, shape: tuple[int, ...], dtype: torch.dtype,
    layout: torch.memory_format = torch.contiguous_format,
) -> Program:  # fmt: skip
    module = module.to(dtype)
    return lambda: module(torch.randn(*shape, dtype=dtype).contiguous(memory_format=layout).requires_grad_())


def products() -> Iterator[Program]:
    """Matrix products and linear layers, with operands turned."""
    for dtype in (FLOAT, HALF):
        for rows, inner, columns in ((64, 64, 64), (128, 64, 256), (512, 768, 768), (1024, 256, 128)):
            yield lambda m=rows, k=inner, n=columns, t=dtype: leaf(m, k, dtype=t) @ leaf(k, n, dtype=t)
            yield lambda m=rows, k=inner, n=columns, t=dtype: fn.linear(
                leaf(2, m, k, dtype=t), leaf(n, k, dtype=t), leaf(n, dtype=t)
            )
            yield lambda m=rows, k=inner, n=columns, t=dtype: torch.bmm(
                leaf(3, m, k, dtype=t), leaf(3, n, k, dtype=t).transpose(1, 2)
            )


def attention() -> Iterator[Program]:
    """Scaled products of queries, keys and values; blocks of all sizes, masks, heads that lie by rows."""
    sizes = ((2, 4, 16, 16, 32), (2, 4, 100, 100, 64), (1, 3, 300, 300, 64), (2, 2, 800, 800, 32), (2, 4, 16, 700, 80))
    for dtype in (FLOAT, HALF):
        for batch, heads, rows, keys, width in sizes:

            def operands(rows: int = rows, keys: int = keys, b: int = batch, h: int = heads, d: int = width,
                         t: torch.dtype = dtype) -> list[Tensor]:  # fmt: skip
                return [leaf(b, h, length, d, dtype=t) for length in (rows, keys, keys)]

            yield lambda of=operands: fn.scaled_dot_product_attention(*of())
            yield lambda of=operands: fn.scaled_dot_product_attention(*of(), dropout_p=0.1)
            yield lambda of=operands, r=rows, k=keys, t=dtype: fn.scaled_dot_product_attention(
                *of(), attn_mask=torch.randn(r, k, dtype=t)
            )
            yield lambda b=batch, h=heads, r=rows, k=keys, d=width, t=dtype: fn.scaled_dot_product_attention(
                *(leaf(b, length, h, d, dtype=t).transpose(1, 2) for length in (r, k, k))
            )
        yield lambda t=dtype: nn.TransformerEncoderLayer(64, 4, 128, batch_first=True).to(t)(leaf(2, 10, 64, dtype=t))


def images() -> Iterator[Program]:
    """Pooling and enlarging in two layouts."""
    forms: list[Callable[[Tensor], Tensor]] = [
        lambda x: fn.max_pool2d(x, 3, 2, 1), lambda x: fn.avg_pool2d(x, 2), lambda x: fn.adaptive_avg_pool2d(x, 1),
        lambda x: fn.adaptive_avg_pool2d(x, (5, 3)), lambda x: fn.adaptive_max_pool2d(x, 3),
        lambda x: fn.interpolate(x, scale_factor=2), lambda x: fn.interpolate(x, scale_factor=8),
        lambda x: fn.interpolate(x, scale_factor=2, mode="bilinear"),
        lambda x: fn.interpolate(x, (9, 9), mode="bicubic"),
        lambda x: fn.interpolate(x, scale_factor=8, mode="bilinear"), lambda x: fn.pixel_shuffle(x, 2),
        lambda x: fn.pad(x, (1, 1, 2, 2)), lambda x: fn.pad(x, (1, 1, 2, 2), mode="reflect"), lambda x: fn.unfold(x, 3),
    ]  # fmt: skip
    for dtype in (FLOAT, HALF):
        for layout in (torch.contiguous_format, torch.channels_last):
            for form in forms:
                yield lambda f=form, t=dtype, y=layout: f(
                    torch.randn(4, 16, 12, 14, dtype=t).contiguous(memory_format=y).requires_grad_()
                )


def elementwise() -> Iterator[Program]:
    """Activations, arithmetic, reductions, indexing, sorting."""
    index = torch.zeros(4, 2, 10, 12, dtype=torch.long)
    forms: list[Callable[[Tensor], Tensor]] = [
        fn.relu, fn.gelu, fn.silu, torch.sigmoid, torch.tanh, fn.elu, fn.leaky_relu, fn.hardswish, fn.hardsigmoid,
        fn.relu6,
        fn.softplus, fn.mish, fn.logsigmoid, fn.glu, lambda x: fn.softmax(x, -1), lambda x: fn.log_softmax(x, 1),
        lambda x: fn.dropout(x, 0.3), torch.exp, lambda x: x.abs().log(), lambda x: x.pow(2), lambda x: x.abs().rsqrt(),
        lambda x: x / x, lambda x: x * 2 + x.sin() - x.cos(), lambda x: x.clamp(-1, 1),
        lambda x: torch.where(x > 0, x, -x), lambda x: x.mean(), lambda x: x.mean((1, 2)), lambda x: x.sum(-1),
        lambda x: x.sum((0, 2, 3)), lambda x: x.sum(), lambda x: x.var(1), lambda x: x.norm(), lambda x: x.max(1)[0],
        lambda x: x.amax(1), lambda x: x.logsumexp(1), lambda x: x.cumsum(1), lambda x: x.sort(1)[0],
        lambda x: x.topk(3, 1)[0], lambda x: x.flip(1), lambda x: x.roll(1, 1), lambda x: x.tril(),
        lambda x: torch.cat([x, x], 1), lambda x: torch.stack([x, x], 1), lambda x: x.repeat(2, 1, 1, 1),
        lambda x: x.permute(0, 2, 3, 1).contiguous(), lambda x: x[:, 1:5] * 1, lambda x: x.masked_fill(x > 0, 1.0),
        lambda x: x.gather(1, index), lambda x: x.index_select(1, torch.tensor([1, 1, 2])), lambda x: x[:, [1, 1, 2]],
        lambda x: x.scatter_add(1, index, torch.ones(4, 2, 10, 12, dtype=x.dtype)), lambda x: fn.normalize(x, dim=1),
        lambda x: x.double(), lambda x: x.half(), lambda x: torch.einsum("bchw,bdhw->bcd", x, x), lambda x: x.erf(),
        lambda x: torch.lerp(x, x * 2, 0.3), lambda x: x.square(), lambda x: x.split(4, 1)[1] * 1,
        lambda x: fn.embedding(torch.randint(4, (4, 9)), x.flatten(1)),
    ]  # fmt: skip
    for dtype in (FLOAT, HALF):
        for form in forms:
            yield lambda f=form, t=dtype: f(leaf(4, 16, 10, 12, dtype=t))


def losses() -> Iterator[Program]:
    """Losses that networks are trained with."""
    wanted = torch.randint(20, (32,))
    for dtype in (FLOAT, HALF):
        yield lambda t=dtype: fn.cross_entropy(leaf(32, 20, dtype=t), wanted)
        yield lambda t=dtype: fn.cross_entropy(leaf(32, 20, dtype=t), wanted, label_smoothing=0.1)
        yield lambda t=dtype: fn.cross_entropy(leaf(4, 20, 8, 8, dtype=t), torch.randint(20, (4, 8, 8)))
        for loss in (
            fn.mse_loss,
            fn.l1_loss,
            fn.smooth_l1_loss,
            fn.huber_loss,
            fn.binary_cross_entropy_with_logits,
        ):
            yield lambda f=loss, t=dtype: f(leaf(32, 20, dtype=t), torch.rand(32, 20, dtype=t))
        yield lambda t=dtype: fn.binary_cross_entropy(leaf(32, 20, dtype=t).sigmoid(), torch.rand(32, 20, dtype=t))


def recurrent() -> Iterator[Program]:
    """LSTMs by oneDNN, GRUs by products."""
    for inner, hidden in ((16, 32), (20, 24), (16, 64)):
        for kind in (nn.LSTM, nn.GRU):
            for both in (False, True):
                module = kind(inner, hidden, 2, bidirectional=both)
                yield lambda m=module, i=inner: m(leaf(7, 5, i))[0]


def optimizers() -> Iterator[Program]:
    """Two steps of each optimizer, in each implementation that runs on the processor."""
    makers: list[Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=True), lambda p: torch.optim.AdamW(p),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True), lambda p: torch.optim.AdamW(p, foreach=True),
        lambda p: torch.optim.AdamW(p, fused=True), lambda p: torch.optim.Adam(p, amsgrad=True),
        lambda p: torch.optim.Adagrad(p), lambda p: torch.optim.RMSprop(p, momentum=0.9, centered=True),
        lambda p: torch.optim.Adafactor(p), lambda p: torch.optim.NAdam(p),
        lambda p: torch.optim.RAdam(p, foreach=True),
    ]  # fmt: skip
    for dtype in (FLOAT, HALF):
        for maker in makers:

            def program(make: Any = maker, t: torch.dtype = dtype) -> Tensor:
                held = [nn.Parameter(torch.randn(30, 20, dtype=t)), nn.Parameter(torch.randn(17, 9, dtype=t))]
                optimizer = make(held)
                for _ in range(2):
                    for each in held:
                        each.grad = torch.randn_like(each)
                    nn.utils.clip_grad_norm_(held, 1.0)
                    optimizer.step()
                return torch.zeros(())

            yield program


FAMILIES: dict[str, Callable[[], Iterator[Program]]] = {
    "convolutions": convolutions, "norms": norms, "products": products, "attention": attention, "images": images,
    "elementwise": elementwise, "losses": losses, "recurrent": recurrent, "optimizers": optimizers,
}  # fmt: skip
