"""Training steps that a user wrote: their own optimizers, clipped gradients, schedules, several backwards.

    peakmem verify-train benchmarks.training.steps:gan

Each function makes the parts of one, with a batch of random data; a scenario changes nothing of them.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from peakmem.training.scenario import Scenario
from peakmem.training.tracing.step import Parts


def _tokens(count: int, *shape: int) -> Tensor:
    return torch.randint(0, count, shape)


class Reader(nn.Module):
    """BERT (Devlin et al. 2019), four layers of it, with the head that guesses masked words."""

    def __init__(self, vocabulary: int = 30_522, width: int = 256, depth: int = 4, length: int = 512) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.norm = nn.LayerNorm(width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.1, functional.gelu, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, words: Tensor, absent: Tensor) -> Tensor:
        places = torch.arange(words.shape[1], device=words.device)
        x = functional.dropout(self.norm(self.words(words) + self.places(places)), 0.1, self.training)
        x = self.encoder(x, src_key_padding_mask=absent)
        return functional.linear(self.head(x), self.words.weight, self.bias)


def bert(_scenario: Scenario | None = None) -> Parts:
    """Masked words, 4 sequences of 128: a step with two groups of weight decay, clipped gradients and a schedule."""
    batch, length = 4, 128
    model = Reader().train()
    groups = [
        {"params": [one for one in model.parameters() if one.dim() > 1], "weight_decay": 0.01},
        {"params": [one for one in model.parameters() if one.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 100))
    words, target = _tokens(30_522, batch, length), _tokens(30_522, batch, length)
    target[:, length // 8 :] = -100
    absent = torch.zeros(batch, length, dtype=torch.bool)
    absent[:, -8:] = True

    def step() -> float | Tensor:
        optimizer.zero_grad()
        out = model(words, absent)
        loss = functional.cross_entropy(out.flatten(0, 1), target.flatten(), ignore_index=-100)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        return loss.detach()

    return Parts(model, optimizer=optimizer, step=step, samples=batch)


class Painter(nn.Module):
    """The generator of DCGAN (Radford et al. 2016): a small vector to an image of 64 pixels."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        sizes = (100, 8 * width, 4 * width, 2 * width, width)
        for at, (before, after) in enumerate(pairwise(sizes)):
            layers += [
                nn.ConvTranspose2d(before, after, 4, 2 if at else 1, 1 if at else 0, bias=False),
                nn.BatchNorm2d(after), nn.ReLU(True),
            ]  # fmt: skip
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False), nn.Tanh())

    def forward(self, noise: Tensor) -> Tensor:
        return self.layers(noise)


class Critic(nn.Module):
    """Its discriminator."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True)]
        for factor in (1, 2, 4):
            layers += [
                nn.Conv2d(factor * width, 2 * factor * width, 4, 2, 1, bias=False),
                nn.BatchNorm2d(2 * factor * width), nn.LeakyReLU(0.2, True),
            ]  # fmt: skip
        self.layers = nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 0, bias=False))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image).flatten()


class Pair(nn.Module):
    """Both, so that one model holds all parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.painter, self.critic = Painter(), Critic()


def gan(_scenario: Scenario | None = None) -> Parts:
    """Two optimizers, three backwards: the critic on true and painted images, the painter through the critic."""
    batch = 8
    model = Pair().train()
    painter, critic = model.painter, model.critic
    first = torch.optim.Adam(critic.parameters(), lr=2e-4, betas=(0.5, 0.999))
    second = torch.optim.Adam(painter.parameters(), lr=2e-4, betas=(0.5, 0.999))
    images, yes, no = torch.randn(batch, 3, 64, 64), torch.ones(batch), torch.zeros(batch)

    def step() -> tuple[Tensor, Tensor]:
        critic.zero_grad()
        true_loss = functional.binary_cross_entropy_with_logits(critic(images), yes)
        true_loss.backward()
        painted = painter(torch.randn(batch, 100, 1, 1))
        false_loss = functional.binary_cross_entropy_with_logits(critic(painted.detach()), no)
        false_loss.backward()
        first.step()
        painter.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(critic(painted), yes)
        loss.backward()
        second.step()
        return true_loss.detach() + false_loss.detach(), loss.detach()

    return Parts(model, step=step, samples=batch)
