"""Networks to train that `peakmem` has not built in, each as a function that makes its parts for a scenario.

Written for this benchmark, small enough for a real step on a processor within seconds; where a paper is named the
arrangement is its, not the sizes. The data are random: no loss looks at them, no shape depends on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from peakmem.training.scenario import Scenario
from peakmem.training.tracing.step import Parts


def _paths(model: nn.Module, *kinds: type[nn.Module]) -> tuple[str, ...]:
    """Where modules of these classes are: what recompute drops and makes again."""
    return tuple(path for path, module in model.named_modules() if isinstance(module, kinds))


def _supervised(
    model: nn.Module, inputs: tuple[Tensor, ...], loss: Callable[[Any], Tensor], samples: int, *kinds: type[nn.Module]
) -> Parts:
    """A network in training mode and the loss of one batch that is kept."""
    model.train()
    return Parts(model, lambda: loss(model(*inputs)), blocks=_paths(model, *kinds), samples=samples)


def _tokens(count: int, *shape: int) -> Tensor:
    return torch.randint(0, count, shape)


# --- a language model of LSTMs


class LanguageLSTM(nn.Module):
    """Embedding, two LSTM layers with dropout between, a linear layer over the vocabulary."""

    def __init__(self, vocabulary: int = 10_000, width: int = 512) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.dropout = nn.Dropout(0.2)
        self.lstm = nn.LSTM(width, width, num_layers=2, dropout=0.2, batch_first=True)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.lstm(self.dropout(self.embedding(tokens)))
        return self.head(self.dropout(states))


def lstm(scenario: Scenario) -> Parts:
    """A batch of 8 sequences of 48 tokens."""
    batch, length = scenario.batch or 8, scenario.sequence or 48
    model = LanguageLSTM()
    tokens, target = _tokens(10_000, batch, length), _tokens(10_000, batch, length)
    return _supervised(
        model, (tokens,), lambda out: functional.cross_entropy(out.flatten(0, 1), target.flatten()), batch
    )


# --- ConvNeXt (Liu et al. 2022), its tiny arrangement with fewer blocks


class LastNorm(nn.LayerNorm):
    """Layer norm over the channels of an image."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class NextBlock(nn.Module):
    """Depthwise 7×7, norm, two linear layers with GELU between, a learned scale, the input added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.wide = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, image: Tensor) -> Tensor:
        x = self.norm(self.depthwise(image).permute(0, 2, 3, 1))
        x = self.scale * self.narrow(functional.gelu(self.wide(x)))
        return image + x.permute(0, 3, 1, 2)


class ConvNext(nn.Module):
    """Four stages of blocks with strided convolutions between."""

    def __init__(self, depths: tuple[int, ...] = (2, 2, 4, 2), widths: tuple[int, ...] = (96, 192, 384, 768)) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, 4), LastNorm(widths[0], eps=1e-6)]
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            if stage:
                layers += [LastNorm(widths[stage - 1], eps=1e-6), nn.Conv2d(widths[stage - 1], width, 2, 2)]
            layers += [NextBlock(width) for _ in range(depth)]
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(widths[-1], eps=1e-6)
        self.head = nn.Linear(widths[-1], 1000)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.norm(self.layers(image).mean((2, 3))))


def convnext(scenario: Scenario) -> Parts:
    """A batch of 4 images of 128 pixels."""
    batch, side = scenario.batch or 4, scenario.resolution or 128
    images, target = torch.randn(batch, 3, side, side), _tokens(1000, batch)
    return _supervised(ConvNext(), (images,), lambda out: functional.cross_entropy(out, target), batch, NextBlock)


# --- DETR (Carion et al. 2020): a convolutional backbone, a transformer, a loss over sets


class Backbone(nn.Module):
    """Strided convolutions with batch norm and a residual branch at each size."""

    def __init__(self, widths: tuple[int, ...] = (64, 128, 256, 512)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 7, 2, 3, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        self.stages = nn.ModuleList()
        self.residuals = nn.ModuleList()
        for before, after in pairwise(widths):
            self.stages.append(nn.Sequential(nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after)))
            self.residuals.append(nn.Sequential(nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)))

    def forward(self, image: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.norm(self.stem(image))), 3, 2, 1)
        for stage, residual in zip(self.stages, self.residuals, strict=True):
            x = functional.relu(stage(x))
            x = functional.relu(x + residual(x))
        return x


class Detector(nn.Module):
    """Classes and boxes of a fixed number of queries."""

    def __init__(self, width: int = 256, queries: int = 100, classes: int = 91, grid: int = 50) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.project = nn.Conv2d(512, width, 1)
        self.transformer = nn.Transformer(width, 8, 3, 3, 1024, dropout=0.1, batch_first=True)
        self.rows = nn.Parameter(torch.rand(grid, width // 2))
        self.columns = nn.Parameter(torch.rand(grid, width // 2))
        self.queries = nn.Parameter(torch.rand(queries, width))
        self.classes = nn.Linear(width, classes + 1)
        self.boxes = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.project(self.backbone(image))
        batch, _, height, width = features.shape
        places = torch.cat(
            (
                self.columns[:width].unsqueeze(0).repeat(height, 1, 1),
                self.rows[:height].unsqueeze(1).repeat(1, width, 1),
            ),
            -1,
        )
        tokens = features.flatten(2).transpose(1, 2) + places.flatten(0, 1)
        found = self.transformer(tokens, self.queries.unsqueeze(0).repeat(batch, 1, 1))
        return self.classes(found), self.boxes(found).sigmoid()


def set_loss(found: tuple[Tensor, Tensor], labels: Tensor, boxes: Tensor) -> Tensor:
    """Each true object takes the query that costs least; queries left over are asked to say nothing, with less weight.

    Several objects may take one query, which the assignment of the paper forbids: what is allocated has one shape
    whatever the data are.
    """
    logits, places = found
    classes = logits.softmax(-1).gather(2, labels.unsqueeze(1).expand(-1, logits.shape[1], -1))
    cost = torch.cdist(places, boxes, p=1) - classes
    chosen = cost.argmin(1)
    target = torch.full(logits.shape[:2], logits.shape[-1] - 1, device=logits.device).scatter(1, chosen, labels)
    weight = torch.ones(logits.shape[-1], device=logits.device)
    weight[-1] = 0.1
    near = places.gather(1, chosen.unsqueeze(-1).expand(-1, -1, 4))
    return functional.cross_entropy(logits.transpose(1, 2), target, weight) + 5 * functional.l1_loss(near, boxes)


def detr(scenario: Scenario) -> Parts:
    """A batch of 2 images of 256 pixels with ten objects each."""
    batch, side = scenario.batch or 2, scenario.resolution or 256
    images, labels, boxes = torch.randn(batch, 3, side, side), _tokens(91, batch, 10), torch.rand(batch, 10, 4)
    layers = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
    return _supervised(Detector(), (images,), lambda out: set_loss(out, labels, boxes), batch, *layers)


# --- a mixture of experts whose routing has a declared capacity (Lepikhin et al. 2021; Fedus et al. 2022)


class Experts(nn.Module):
    """Each token goes to two experts, each expert takes at most its capacity; what is above it is dropped."""

    def __init__(self, width: int, experts: int = 8, hidden: int = 1024, factor: float = 1.25) -> None:
        super().__init__()
        self.experts, self.factor = experts, factor
        self.gate = nn.Linear(width, experts, bias=False)
        self.into = nn.Parameter(torch.randn(experts, width, hidden) * width**-0.5)
        self.out = nn.Parameter(torch.randn(experts, hidden, width) * hidden**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(0, 1)
        capacity = int(self.factor * 2 * tokens.shape[0] / self.experts)
        share, expert = self.gate(tokens).softmax(-1).topk(2, -1)
        share = share / share.sum(-1, keepdim=True)
        asked = functional.one_hot(expert, self.experts).flatten(0, 1)
        place = (asked.cumsum(0) * asked).sum(-1).view_as(expert) - 1
        kept = place < capacity
        slot = expert * capacity + place.clamp(max=capacity - 1)
        held = tokens.new_zeros(self.experts * capacity, tokens.shape[1])
        for choice in range(2):
            held = held.index_add(0, slot[:, choice], tokens * kept[:, choice, None])
        inner = functional.silu(torch.bmm(held.view(self.experts, capacity, -1), self.into))
        answers = torch.bmm(inner, self.out).flatten(0, 1)
        mixed = (answers[slot] * (share * kept).unsqueeze(-1)).sum(1)
        return mixed.view_as(x)


class ExpertBlock(nn.Module):
    """Causal attention, then experts."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.experts = Experts(width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(*qkv.unbind(0), is_causal=True)
        x = x + self.project(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.experts(self.norm2(x))


class ExpertModel(nn.Module):
    """A decoder of such blocks."""

    def __init__(self, vocabulary: int = 8000, width: int = 384, depth: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(ExpertBlock(width, 6) for _ in range(depth))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def moe(scenario: Scenario) -> Parts:
    """A batch of 4 sequences of 128 tokens, eight experts, two for each token."""
    batch, length = scenario.batch or 4, scenario.sequence or 128
    tokens, target = _tokens(8000, batch, length), _tokens(8000, batch, length)
    loss = lambda out: functional.cross_entropy(out.flatten(0, 1), target.flatten())  # noqa: E731
    return _supervised(ExpertModel(), (tokens,), loss, batch, ExpertBlock)


# --- a U-Net that removes noise (Ho et al. 2020)


class TimedBlock(nn.Module):
    """Two convolutions with group norm and SiLU, the time added between them."""

    def __init__(self, before: int, after: int, time: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, before), nn.Conv2d(before, after, 3, padding=1)
        self.time = nn.Linear(time, after)
        self.norm2, self.conv2 = nn.GroupNorm(8, after), nn.Conv2d(after, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        inner = self.conv1(functional.silu(self.norm1(x))) + self.time(functional.silu(time))[:, :, None, None]
        return self.skip(x) + self.conv2(functional.dropout(functional.silu(self.norm2(inner)), 0.1, self.training))


class ImageAttention(nn.Module):
    """Self-attention over the pixels of a small image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.qkv, self.out = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, -1)
        weight = torch.softmax(torch.bmm(q, k.transpose(1, 2)) * q.shape[-1] ** -0.5, -1)
        return x + self.out(torch.bmm(weight, v).transpose(1, 2).view_as(x))


class Denoiser(nn.Module):
    """Down, middle with attention, up with what was kept on the way down put beside."""

    def __init__(self, width: int = 64, factors: tuple[int, ...] = (1, 2, 4)) -> None:
        super().__init__()
        self.width, time = width, 4 * width
        self.time = nn.Sequential(nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time))
        self.first = nn.Conv2d(3, width, 3, padding=1)
        sizes = [width * factor for factor in factors]
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        at = width
        for size in sizes:
            self.down.append(TimedBlock(at, size, time))
            self.shrink.append(nn.Conv2d(size, size, 3, 2, 1))
            at = size
        self.middle1, self.middle2 = TimedBlock(at, at, time), TimedBlock(at, at, time)
        self.attention = ImageAttention(at)
        self.grow, self.up = nn.ModuleList(), nn.ModuleList()
        for size in reversed(sizes):
            self.grow.append(nn.Conv2d(at, size, 3, padding=1))
            self.up.append(TimedBlock(2 * size, size, time))
            at = size
        self.norm, self.last = nn.GroupNorm(8, at), nn.Conv2d(at, 3, 3, padding=1)

    def forward(self, x: Tensor, moment: Tensor) -> Tensor:
        half = self.width // 2
        rates = torch.exp(torch.arange(half, device=x.device) * (-math.log(10_000) / half))
        angles = moment[:, None].float() * rates[None]
        time = self.time(torch.cat((angles.sin(), angles.cos()), -1))
        x, kept = self.first(x), []
        for block, shrink in zip(self.down, self.shrink, strict=True):
            x = block(x, time)
            kept.append(x)
            x = shrink(x)
        x = self.middle2(self.attention(self.middle1(x, time)), time)
        for grow, block in zip(self.grow, self.up, strict=True):
            x = grow(functional.interpolate(x, scale_factor=2, mode="nearest"))
            x = block(torch.cat((x, kept.pop()), 1), time)
        return self.last(functional.silu(self.norm(x)))


def diffusion(scenario: Scenario) -> Parts:
    """A batch of 4 images of 64 pixels; noise and moments are drawn anew in each step."""
    batch, side = scenario.batch or 4, scenario.resolution or 64
    model = Denoiser().train()
    images, share = torch.randn(batch, 3, side, side), torch.linspace(0.9999, 0.02, 1000).cumprod(0)

    def loss() -> Tensor:
        moment = torch.randint(0, 1000, (batch,))
        noise = torch.randn_like(images)
        kept = share[moment].view(-1, 1, 1, 1)
        return functional.mse_loss(model(kept.sqrt() * images + (1 - kept).sqrt() * noise, moment), noise)

    return Parts(model, loss, blocks=_paths(model, TimedBlock), samples=batch)


# --- dilated causal convolutions with gates (van den Oord et al. 2016)


class GatedLayer(nn.Module):
    """tanh × sigmoid of a dilated convolution, once added to its input and once handed out."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.before = dilation
        self.gate = nn.Conv1d(width, 2 * width, 2, dilation=dilation)
        self.out, self.skip = nn.Conv1d(width, width, 1), nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value, gate = self.gate(functional.pad(x, (self.before, 0))).chunk(2, 1)
        inner = torch.tanh(value) * torch.sigmoid(gate)
        return x + self.out(inner), self.skip(inner)


class GatedConvolutions(nn.Module):
    """Two stacks of doubling dilation over 256 levels of sound."""

    def __init__(self, width: int = 64, stacks: int = 2, depth: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, width)
        self.layers = nn.ModuleList(GatedLayer(width, 2**at) for _ in range(stacks) for at in range(depth))
        self.end1, self.end2 = nn.Conv1d(width, 256, 1), nn.Conv1d(256, 256, 1)

    def forward(self, levels: Tensor) -> Tensor:
        x = self.embedding(levels).transpose(1, 2)
        total: Any = 0
        for layer in self.layers:
            x, skip = layer(x)
            total = total + skip
        return self.end2(functional.relu(self.end1(functional.relu(total))))


def wavenet(scenario: Scenario) -> Parts:
    """A batch of 4 pieces of 2,048 samples."""
    batch, length = scenario.batch or 4, scenario.sequence or 2048
    levels, target = _tokens(256, batch, length), _tokens(256, batch, length)
    return _supervised(
        GatedConvolutions(), (levels,), lambda out: functional.cross_entropy(out, target), batch, GatedLayer
    )
