"""Adapters beside frozen layers (Hu et al., 2021), with the memory behaviour of PEFT 0.21 (`tuners/lora/layer.py`).

An adapter of rank r beside a layer is two matrices in float32 (`autocast_adapter_dtype`), also where the layer is in
bfloat16: its input is cast to float32 and kept, what it gives is scaled and added in float32 and cast back. Beside a
layer in NF4 (`tuners/lora/bnb.py`) the layer's result is copied first, and the adapter's is cast before it is added.
All other parameters are frozen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from peakmem.errors import UsageError
from peakmem.training.networks.nf4 import Nf4Linear, quantise, replaced
from peakmem.training.scenario import Lora

NAME = "default"
# PEFT's name of the only adapter
HEADS = ("lm_head", "score", "classifier", "head", "fc", "embed_out", "output", "qa_outputs")
# last layers by name: PEFT's "all-linear" leaves the output embedding out (`tuners/tuners_utils.py`)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class LoraLinear(nn.Module):
    """A frozen linear layer (or GPT-2's Conv1D) and its adapter."""

    def __init__(self, base: Any, inside: int, outside: int, lora: Lora, dtype: torch.dtype) -> None:
        super().__init__()
        self.base_layer = base
        dropout = nn.Dropout(lora.dropout) if lora.dropout else nn.Identity()
        self.lora_dropout = nn.ModuleDict({NAME: dropout})
        made = {"dtype": dtype, "device": _device(base)}
        self.lora_A = nn.ModuleDict({NAME: nn.Linear(inside, lora.rank, bias=False, **made)})
        self.lora_B = nn.ModuleDict({NAME: nn.Linear(lora.rank, outside, bias=False, **made)})
        self.scaling = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """The layer's result and the adapter's, added."""
        result = self.base_layer(x)
        dtype = result.dtype
        first, second, dropout = self.lora_A[NAME], self.lora_B[NAME], self.lora_dropout[NAME]
        x = x if x.dtype == first.weight.dtype else x.to(dtype=first.weight.dtype)
        result = result + second(first(dropout(x))) * self.scaling
        result = result.to(dtype)
        return result  # noqa: RET504 (what it replaces goes before the frame does)


class LoraNf4(LoraLinear):
    """The same beside a layer in NF4."""

    def forward(self, x: Tensor) -> Tensor:
        """The layer's result, copied, and the adapter's, cast, added."""
        result = self.base_layer(x)
        result = result.clone()
        first, second, dropout = self.lora_A[NAME], self.lora_B[NAME], self.lora_dropout[NAME]
        converts = not torch.is_autocast_enabled()
        if converts:
            dtype = result.dtype
            x = x if x.dtype == first.weight.dtype else x.to(dtype=first.weight.dtype)
        output = second(first(dropout(x))) * self.scaling
        if converts:
            output = output.to(dtype)
        result = result + output
        return result  # noqa: RET504


class LoraEmbedding(nn.Module):
    """A frozen embedding and its adapter."""

    def __init__(self, base: Any, lora: Lora, dtype: torch.dtype) -> None:
        super().__init__()
        self.base_layer = base
        made = {"dtype": dtype, "device": _device(base)}
        first = torch.zeros((lora.rank, base.num_embeddings), **made)
        second = torch.randn((base.embedding_dim, lora.rank), **made)
        self.lora_embedding_A = nn.ParameterDict({NAME: nn.Parameter(first)})
        self.lora_embedding_B = nn.ParameterDict({NAME: nn.Parameter(second)})
        self.scaling = 1.0

    def forward(self, tokens: Tensor) -> Tensor:
        """The rows of the embedding and of the adapter, added."""
        result = self.base_layer(tokens)
        dtype = result.dtype
        first, second = self.lora_embedding_A[NAME].T, self.lora_embedding_B[NAME].T
        narrow = functional.embedding(tokens, first, padding_idx=self.base_layer.padding_idx)
        added = (narrow @ second) * self.scaling
        result = result + added
        result = result.to(dtype)
        return result  # noqa: RET504


def apply(model: Any, lora: Lora) -> tuple[str, ...]:
    """Freeze a network, put adapters (and NF4) into it in place, and say where: paths of the adapted layers.

    Raises:
        UsageError: a rank below 1, a pattern that means no layer, a layer that cannot have an adapter.
    """
    if lora.rank < 1:
        raise UsageError(f"a rank of {lora.rank} is none", expected="1 or more", hint="--lora 8")
    dtype = DTYPES.get(lora.dtype)
    if dtype is None:
        raise UsageError(f"adapters of dtype {lora.dtype!r} are not known", expected=", ".join(DTYPES))
    if lora.quantised:
        quantise(model, _device(model), last_layer(model))
    places = _places(model, lora)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        for path in places:
            parent = model.get_submodule(path.rpartition(".")[0])
            name = path.rpartition(".")[2]
            setattr(parent, name, _adapted(getattr(parent, name), path, lora, dtype))
    return tuple(places)


def last_layer(model: Any) -> Callable[[str], bool]:
    """Whether a path is that of the layer that gives the network's result."""
    linear = [path for path, module in model.named_modules() if _features(module) is not None]
    named = {path for path in linear if path.rpartition(".")[2] in HEADS and "." not in path}
    last = named or set(linear[-1:])
    return lambda path: path in last


def _places(model: Any, lora: Lora) -> list[str]:
    modules = dict(model.named_modules())
    if not lora.targets:
        last = last_layer(model)
        places = [path for path, module in modules.items() if _features(module) is not None and not last(path)]
        inside = tuple(f"{path}." for path, module in modules.items() if isinstance(module, nn.MultiheadAttention))
        places = [path for path in places if not path.startswith(inside)] if inside else places
        if not places:
            raise UsageError("no linear layer is there to adapt", expected="targets", hint="--lora 8:NAME")
        return places
    found: list[str] = []
    for target in lora.targets:
        meant = [path for path in modules if path and (
            path == target or path.endswith(f".{target}") or fnmatchcase(path, target))]  # fmt: skip
        if not meant:
            raise UsageError(f"no layer is called {target!r}", hint="--lora 8:q_proj,v_proj")
        found += [path for path in meant if path not in found]
    order = {path: at for at, path in enumerate(modules)}
    return sorted(found, key=order.__getitem__)


def _features(module: Any) -> tuple[int, int] | None:
    """Features in and out of a linear layer."""
    if isinstance(module, nn.Linear | Nf4Linear):
        return module.in_features, module.out_features
    return replaced(module)


def _adapted(module: Any, path: str, lora: Lora, dtype: torch.dtype) -> Any:
    if isinstance(module, nn.Embedding):
        adapted: Any = LoraEmbedding(module, lora, dtype)
    else:
        features = _features(module)
        if features is None:
            raise UsageError(
                f"{type(module).__name__} cannot have an adapter here", where=path,
                expected="linear layers and embeddings",
            )  # fmt: skip
        kind = LoraNf4 if isinstance(module, Nf4Linear) else LoraLinear
        adapted = kind(module, *features, lora, dtype)
        nn.init.kaiming_uniform_(adapted.lora_A[NAME].weight, a=math.sqrt(5))
        nn.init.zeros_(adapted.lora_B[NAME].weight)
    adapted.train(module.training)
    return adapted


def _device(module: Any) -> Any:
    return next((item.device for item in module.parameters() if not item.is_meta), torch.device("cpu"))
