"""Steps of published measurements, as the scripts that were measured make them; in our own words, on random data.

Each maker takes the numbers of its row in `published.jsonl`. The sources are named with file and version; what is
written here are the tensors that they allocate, not their code.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from peakmem.training import networks
from peakmem.training.log import Log
from peakmem.training.scenario import Scenario
from peakmem.training.tracing.step import Parts
from peakmem.training.tracing.watched import Watched

# -- Lightning-AI/litgpt: lit_gpt/model.py, lit_gpt/lora.py, finetune/lora.py ---
# The table of tutorials/resource-tables.md names commit 8641822 and came with 0cc02afa. Between them pull request 606
# took RMSNorm to float32; the rows of Llama 2 are those of the later code: the earlier needs 2 x batch x length x
# width x 2 bytes less for each block.


class _RootNorm(nn.Module):
    """lit_gpt/rmsnorm.py after pull request 606: in float32, operator by operator."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        mean = torch.mean(wide * wide, dim=-1, keepdim=True)
        normed = wide * torch.rsqrt(mean + 1e-5)
        return (self.weight * normed).to(x.dtype)


class _QueryKeyValue(nn.Module):
    """One matrix for all three with an adapter of rank 8 beside the query's and the value's part (no shared heads)."""

    def __init__(self, width: int, rank: int, bias: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 3 * width, bias=bias)
        self.lora_A = nn.Parameter(torch.zeros(2 * rank, width))
        self.lora_B = nn.Parameter(torch.zeros(2 * width, rank))
        self.width = width
        self.places = [*range(width), *range(2 * width, 3 * width)]

    def forward(self, x: Tensor) -> Tensor:
        whole = self.linear(x)
        small = functional.linear(functional.dropout(x, 0.05, self.training), self.lora_A)
        wide = functional.conv1d(small.transpose(-2, -1), self.lora_B.unsqueeze(-1), groups=2).transpose(-2, -1)
        return whole + self._spread(wide) * 2.0

    def _spread(self, x: Tensor) -> Tensor:
        """Zeros where the key is."""
        x = x.transpose(0, 1)
        result = x.new_zeros((*x.shape[:-1], 3 * self.width)).view(-1, 3 * self.width)
        places = torch.tensor(self.places, device=result.device)
        result = result.index_copy(1, places, x.reshape(-1, 2 * self.width))
        return result.view((*x.shape[:-1], 3 * self.width)).transpose(0, 1)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.size(-1) // 2
    other = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return (x * cos + other * sin).type_as(x)


class _LitBlock(nn.Module):
    def __init__(
        self, width: int, heads: int, inner: int, *, llama: bool, shared: bool, turned: float, gelu: str
    ) -> None:
        super().__init__()
        norm, bias = _RootNorm if llama else nn.LayerNorm, not llama
        self.norm_1 = norm(width)
        self.attn, self.proj = _QueryKeyValue(width, 8, bias), nn.Linear(width, width, bias=bias)
        self.norm_2 = None if shared else norm(width)
        self.fc_1 = nn.Linear(width, inner, bias=bias)
        self.fc_2 = nn.Linear(width, inner, bias=bias) if llama else None
        self.back = nn.Linear(inner, width, bias=bias)
        self.heads, self.turned, self.gelu = heads, int(turned * (width // heads)), gelu

    def _attend(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, width = x.size()
        size = width // self.heads
        qkv = self.attn(x).view(batch, length, self.heads, 3, size).permute(0, 2, 3, 1, 4)
        q, k, v = (part.reshape(batch, -1, length, size) for part in qkv.split((1, 1, 1), dim=2))
        at = self.turned
        q, k = (torch.cat((_turned(one[..., :at], cos, sin), one[..., at:]), dim=-1) for one in (q, k))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1 / math.sqrt(size))
        return self.proj(y.transpose(1, 2).reshape(batch, length, width))

    def _mlp(self, x: Tensor) -> Tensor:
        if self.fc_2 is None:
            return self.back(functional.gelu(self.fc_1(x), approximate=self.gelu))
        gate, up = self.fc_1(x), self.fc_2(x)
        return self.back(functional.silu(gate) * up)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        first = self.norm_1(x)
        h = self._attend(first, cos, sin)
        if self.fc_2 is None:  # both branches read the same x
            return self._mlp(first if self.norm_2 is None else self.norm_2(x)) + h + x
        x = h + x
        return self._mlp(self.norm_2(x)) + x


class _Lit(nn.Module):
    def __init__(self, *, vocabulary: int, width: int, depth: int, length: int, head_bias: bool, **block: Any) -> None:
        super().__init__()
        self.head = nn.Linear(width, vocabulary, bias=head_bias)
        self.words = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(_LitBlock(width, **block) for _ in range(depth))
        self.norm = _RootNorm(width) if block["llama"] else nn.LayerNorm(width)
        turned = self.blocks[0].turned
        self.register_buffer("cos", torch.zeros(length, turned, dtype=torch.float32))
        self.register_buffer("sin", torch.zeros(length, turned, dtype=torch.float32))

    def forward(self, words: Tensor) -> list[Tensor]:
        x = self.words(words)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return [self.head(part) for part in self.norm(x).split(128, dim=1)]


LIT = {
    "phi-1.5": {
        "vocabulary": 51200, "width": 2048, "depth": 24, "heads": 32, "inner": 8192, "llama": False, "shared": True,
        "turned": 0.5, "gelu": "tanh", "head_bias": True, "length": 1044,
    },
    "stablelm-alpha-3b": {
        "vocabulary": 50688, "width": 4096, "depth": 16, "heads": 32, "inner": 16384, "llama": False, "shared": False,
        "turned": 0.25, "gelu": "none", "head_bias": False, "length": 1034,
    },
    "llama-2-7b": {
        "vocabulary": 32000, "width": 4096, "depth": 32, "heads": 32, "inner": 11008, "llama": True, "shared": False,
        "turned": 1.0, "gelu": "none", "head_bias": False, "length": 1304,
    },
    "llama-2-13b": {
        "vocabulary": 32000, "width": 5120, "depth": 40, "heads": 40, "inner": 13824, "llama": True, "shared": False,
        "turned": 1.0, "gelu": "none", "head_bias": False, "length": 1304,
    },
}  # fmt: skip


def lit_lora(network: str, batch: int) -> Callable[[], Parts]:
    """finetune/lora.py --precision bf16-true: the longest row of Alpaca first, scores and loss in parts of 128."""

    def make() -> Parts:
        facts: dict[str, Any] = LIT[network]
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            model = _Lit(**facts).train()
        finally:
            torch.set_default_dtype(before)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("lora_" in name)
        optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=3e-4)
        length = facts["length"]
        words = torch.zeros(batch, length, dtype=torch.int64)
        targets = torch.zeros(batch, length, dtype=torch.int64)

        def step() -> Tensor:
            # lightning 2.1, fabric/wrappers.py: what a module gives is cast to the default dtype, float32
            scores = [one.float() for one in model(words)]
            scores[-1] = scores[-1][..., :-1, :]
            parts = [one.reshape(-1, one.size(-1)) for one in scores]
            wanted = [one.reshape(-1) for one in targets[..., 1:].split(scores[0].size(1), dim=1)]
            losses = [
                functional.cross_entropy(one, other, ignore_index=-1, reduction="none")
                for one, other in zip(parts, wanted, strict=True)
            ]
            loss = torch.cat(losses).mean()
            (loss / 128).backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss

        return Parts(model, optimizer=optimizer, step=step, samples=batch)

    return make


# -- huggingface/transformers, docs/source/en/perf_train_gpu_one.md (v4.21): Trainer, bert-large-uncased, 512 tokens ---
# The versions are not told. Two things of PyTorch before 1.11 explain the figures to 0.3 %: softmax kept its input
# besides its result (derivatives.yaml: _softmax_backward_data(grad, result, dim, self)), and gradients were set to
# zero, not freed (Module.zero_grad, until 2.0).


class _OldSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        result = torch.softmax(x, -1)
        ctx.save_for_backward(x, result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, result = ctx.saved_tensors
        return torch._softmax_backward_data(gradients[0], result, -1, x.dtype)


class _BertLayer(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.wide, self.back, self.heads = nn.Linear(width, inner), nn.Linear(inner, width), heads

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).permute(0, 2, 1, 3)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        query = self.query(x)
        key, value, query = self._split(self.key(x)), self._split(self.value(x)), self._split(query)
        scores = torch.matmul(query, key.transpose(-1, -2))
        scores = scores / math.sqrt(query.shape[-1])
        scores = scores + mask
        shares = functional.dropout(_OldSoftmax.apply(scores.float()), 0.1, self.training)
        found = torch.matmul(shares, value).permute(0, 2, 1, 3).contiguous().view(x.shape)
        x = self.norm_1(functional.dropout(self.out(found), 0.1, self.training) + x)
        wide = functional.gelu(self.wide(x))
        return self.norm_2(functional.dropout(self.back(wide), 0.1, self.training) + x)


class _Bert(nn.Module):
    def __init__(self, *, recompute: bool, width: int = 1024, heads: int = 16, depth: int = 24) -> None:
        super().__init__()
        self.words, self.types, self.places = (
            nn.Embedding(30522, width),
            nn.Embedding(2, width),
            nn.Embedding(512, width),
        )
        self.norm, self.recompute = nn.LayerNorm(width), recompute
        self.layers = nn.ModuleList(_BertLayer(width, heads, 4 * width) for _ in range(depth))
        self.pool, self.head = nn.Linear(width, width), nn.Linear(width, 2)

    def forward(self, words: Tensor) -> Tensor:
        batch, length = words.shape
        mask = (1.0 - torch.ones(batch, 1, 1, length, device=words.device)) * -10_000.0
        x = self.words(words) + self.types(torch.zeros_like(words))
        x = x + self.places(torch.arange(length, device=words.device).expand(1, -1))
        x = functional.dropout(self.norm(x), 0.1, self.training)
        for layer in self.layers:
            x = checkpoint(layer, x, mask, use_reentrant=True) if self.recompute else layer(x, mask)
        return self.head(functional.dropout(torch.tanh(self.pool(x[:, 0])), 0.1, self.training))


class _OldAdamW(torch.optim.Optimizer):
    """transformers/optimization.py of that time: one parameter after the other."""

    def __init__(self, groups: Any) -> None:
        super().__init__(groups, {"lr": 5e-5})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        del closure
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["first"], state["second"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
                state["first"].mul_(0.9).add_(parameter.grad, alpha=0.1)
                state["second"].mul_(0.999).addcmul_(parameter.grad, parameter.grad, value=0.001)
                below = state["second"].sqrt().add_(1e-8)
                parameter.addcdiv_(state["first"], below, value=-1e-3)


def bert_trainer(batch: int, accumulate: int = 1, half: bool = False, recompute: bool = False) -> Callable[[], Parts]:
    """The Trainer's loop: gradients clipped and set to zero, float16 by autocast and a scaler."""

    def make() -> Parts:
        model = _Bert(recompute=recompute).train()
        wide = [one for one in model.parameters() if one.dim() > 1]
        flat = [one for one in model.parameters() if one.dim() <= 1]
        optimizer = _OldAdamW([{"params": wide}, {"params": flat}])
        scaler = torch.amp.GradScaler("cuda", enabled=half)

        def step() -> Tensor:
            for _ in range(accumulate):
                words = torch.zeros(batch, 512, dtype=torch.int64, device="cuda")
                labels = torch.zeros(batch, dtype=torch.int64, device="cuda")
                with torch.autocast("cuda", torch.float16, enabled=half):
                    loss = functional.cross_entropy(model(words), labels) / accumulate
                scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            model.zero_grad(set_to_none=False)
            return loss.detach()

        return Parts(model, optimizer=optimizer, step=step, samples=batch)

    return make


# -- Stone-ResearchLife/xMem: perf_estimator/trainer/train_loop.py, torchvision's networks, images of 86 x 86 ---


def vision(network: str, batch: int, optimizer: str) -> Callable[[], Parts]:
    """Images are loaded in each step; the scores of the step before live until the next are there."""

    def make() -> Parts:
        importable()
        from torchvision.models import get_model

        model = get_model(network, weights=None).train()
        chosen = getattr(torch.optim, optimizer)(model.parameters(), lr=1e-3)

        def step() -> tuple[Tensor, Tensor]:
            images = torch.randn(batch, 3, 86, 86, device="cuda")
            labels = torch.zeros(batch, dtype=torch.int64, device="cuda")
            scores = model(images)
            chosen.zero_grad()
            loss = functional.cross_entropy(scores, labels)
            loss.backward()
            chosen.step()
            return scores, loss

        return Parts(model, optimizer=chosen, step=step, samples=batch)

    return make


_KEPT: list[Any] = []


def importable() -> None:
    """torchvision's Python without its compiled part, which needs the libraries of a GPU: two operators are named."""
    try:
        torch.ops.torchvision.nms  # noqa: B018
    except (AttributeError, RuntimeError):
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)


# -- huggingface/peft, method_comparison/MetaMathQA: run.py, Llama-3.2-3B in bfloat16, rows padded to the longest ---

LLAMA_3_2_3B = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 3072, "intermediate_size": 8192,
    "num_hidden_layers": 28, "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128,
    "vocab_size": 128256, "tie_word_embeddings": True, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0, "hidden_act": "silu",
}  # fmt: skip


def metamath(scenario: Scenario) -> Log:
    """A loop by hand that holds the outputs, with their cache of keys and values, until the next are there."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(LLAMA_3_2_3B), encoding="utf-8")
        return Watched(networks.workload(str(path), scenario, padded=True, keep_outputs=True)).log(scenario)
