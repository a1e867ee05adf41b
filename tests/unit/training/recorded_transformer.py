"""The network and the loop behind the recorded traces `transformer423m_*`, in our own words.

Read from the repository that published the records (github.com/Wedsonlin/assignment2-systems: a decoder with rotary
positions and SwiGLU, everything written out in elementary operations, an AdamW of its own): 24 layers of width 1024
with 16 heads and 4096 inner units, 10,000 tokens, batch 4. What counts is the order in which tensors come and go.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from peakmem.training.tracing.step import Parts

WIDTH, LAYERS, HEADS, INNER, TOKENS, BATCH = 1024, 24, 16, 4096, 10_000, 4


class Linear(nn.Module):
    def __init__(self, given: int, made: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(made, given))

    def forward(self, x: Any) -> Any:
        return torch.einsum("...i,oi->...o", x, self.weight)


class Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Any) -> Any:
        kind = x.dtype
        x = x.to(torch.float32)
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)
        x = x * scale
        return (self.weight * x).to(kind)


class Rotation(nn.Module):
    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        rates = torch.tensor(10_000.0) ** -(torch.arange(0, width, 2) / width)
        angles = torch.einsum("t,f->tf", torch.arange(length), rates)
        self.register_buffer("table", torch.stack((torch.cos(angles), torch.sin(angles))), persistent=False)

    def forward(self, x: Any) -> Any:
        first, second = x.reshape(*x.shape[:-1], -1, 2).movedim(-1, 0).unbind(0)
        cos, sin = self.table[:, : x.size(-2), :].unbind(0)
        one = cos * first - sin * second
        other = sin * first + cos * second
        return torch.concat((one, other), dim=-1)


def softmax(x: Any) -> Any:
    shifted = x - torch.max(x, dim=-1, keepdim=True)[0]
    powers = torch.exp(shifted)
    return powers / torch.sum(powers, dim=-1, keepdim=True)


def attend(query: Any, key: Any, value: Any, mask: Any) -> Any:
    scores = torch.einsum("bhqd,bhkd->bhqk", query, key) / math.sqrt(key.shape[-1])
    scores = torch.where(mask, scores, float("-inf"))
    shares = softmax(scores)
    return torch.einsum("bhqk,bhkd->bhqd", shares, value)


class Attention(nn.Module):
    def __init__(self, rotation: Rotation) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (Linear(WIDTH, WIDTH) for _ in range(4))
        self.rotation = rotation

    def forward(self, x: Any) -> Any:
        length = x.size(1)
        query, key, value = self.q(x), self.k(x), self.v(x)
        query, key, value = (item.reshape(BATCH, length, HEADS, -1).permute(0, 2, 1, 3) for item in (query, key, value))
        query = self.rotation(query)
        key = self.rotation(key)
        places = torch.arange(length, device=x.device)
        mask = places.reshape(length, 1) >= places.reshape(1, length)
        mask = mask[None, ...]
        made = attend(query, key, value, mask)
        made = made.permute(0, 2, 1, 3).reshape(BATCH, length, WIDTH).contiguous()
        return self.o(made)


class Feed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = Linear(WIDTH, INNER), Linear(INNER, WIDTH), Linear(WIDTH, INNER)

    def forward(self, x: Any) -> Any:
        gate = self.one(x)
        return self.two(gate * torch.sigmoid(gate) * self.three(x))


class Block(nn.Module):
    def __init__(self, rotation: Rotation) -> None:
        super().__init__()
        self.attention, self.feed = Attention(rotation), Feed()
        self.first, self.second = Norm(WIDTH), Norm(WIDTH)

    def forward(self, x: Any) -> Any:
        seen = self.attention(self.first(x))
        middle = x + seen
        fed = self.feed(self.second(middle))
        return middle + fed


class Decoder(nn.Module):
    def __init__(self, length: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(TOKENS, WIDTH))
        rotation = Rotation(length, WIDTH // HEADS)
        self.blocks = nn.ModuleList([Block(rotation) for _ in range(LAYERS)])
        self.norm, self.head = Norm(WIDTH), Linear(WIDTH, TOKENS)

    def forward(self, tokens: Any) -> Any:
        embedded = self.embedding[tokens, :]
        x = embedded  # the name that outlives the first block
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x)


def loss_of(scores: Any, targets: Any) -> Any:
    return torch.mean(torch.gather(-_log_softmax(scores), -1, targets.unsqueeze(-1)))


def _log_softmax(x: Any) -> Any:
    most = torch.max(x, dim=-1, keepdim=True)[0]
    x = x - most
    return x - torch.log(torch.sum(torch.exp(x), dim=-1, keepdim=True))


class WrittenOutAdamW(torch.optim.Optimizer):
    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 1e-3, "decay": 0.01})

    def step(self, closure: Any = None) -> None:  # noqa: ARG002
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient, state = parameter.grad.data, self.state[parameter]
                count = state.get("t", 1)
                rate = group["lr"] * (math.sqrt(1 - 0.999**count) / (1 - 0.9**count))
                parameter.data -= group["lr"] * group["decay"] * parameter.data
                old_mean = state.get("m", torch.zeros_like(gradient))
                old_square = state.get("v", torch.zeros_like(gradient))
                mean = 0.9 * old_mean + ((1 - 0.9) * gradient)
                square = 0.999 * old_square + ((1 - 0.999) * torch.square(gradient))
                parameter.data -= rate * mean / (torch.sqrt(square) + 1e-8)
                state["m"], state["v"], state["t"] = mean, square, count + 1


class Recorded:
    """One step to warm up, then the one that was recorded."""

    name = "the recorded transformer"

    def __init__(self, length: int, *, autocast: bool) -> None:
        self.length, self.autocast = length, autocast

    def build(self) -> Parts:
        model = Decoder(self.length).to("cuda")
        optimizer = WrittenOutAdamW(model.parameters())
        tokens, targets = (torch.randint(0, TOKENS, (2, BATCH, self.length), device="cuda") for _ in range(2))
        steps = iter((False, True))

        def step() -> Any:
            last = next(steps)
            with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self.autocast):
                scores = model(tokens[int(last)])
                loss = loss_of(scores, targets[int(last)])
            loss.backward()
            optimizer.step()
            if not last:
                optimizer.zero_grad()
                return None
            return scores, loss

        return Parts(model=model, optimizer=optimizer, step=step)
