"""Frozen linear layers in NF4 with double quantisation, laid out as bitsandbytes does (Dettmers et al., 2023, QLoRA).

From bitsandbytes 0.50.2: `functional.py` (`quantize_4bit`: two weights in a byte, one factor for 64 of them;
`compress_statistics`: the factors in a byte each, one factor in float32 for 256 of those, a table of 256 and one of
16 values in float32, an offset); `autograd/_functions.py` (`MatMul4Bit`: nothing but the packed weight is kept, and
the weight is made again in the backward); `backends/cuda/ops.py` (`gemm_4bit`: above 1,536 rows the weight is made
whole in the dtype of the input and multiplied; for fewer a kernel may do without, which is not followed: memory is
never less than said here for it). Sizes are followed, not numbers: the weights that are made are zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCK = 64
# weights with one factor
FACTORS = 256
# factors with one factor


class _Product(torch.autograd.Function):
    """x times the transposed weight, which exists only meanwhile."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Nf4Linear) -> Tensor:
        """With the bias."""
        ctx.layer = layer
        return layer.multiplied(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None]:
        """The gradient of x; a frozen weight has none."""
        if not ctx.needs_input_grad[0]:
            return None, None
        return torch.matmul(grad, ctx.layer.whole(grad.dtype)), None


class Nf4Linear(nn.Module):
    """A frozen linear layer of four bits a weight."""

    def __init__(self, inside: int, outside: int, bias: Tensor | None, device: Any) -> None:
        super().__init__()
        self.in_features, self.out_features = inside, outside
        weights = inside * outside
        factors = -(-weights // BLOCK)
        packed = torch.zeros(-(-weights // 2), 1, dtype=torch.uint8, device=device)
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.bias = bias
        sizes = (
            ("absmax", factors, torch.uint8), ("nested_absmax", -(-factors // FACTORS), torch.float32),
            ("nested_quant_map", 256, torch.float32), ("quant_map", 16, torch.float32),
        )  # fmt: skip
        for name, count, dtype in sizes:
            self.register_buffer(name, torch.zeros(count, dtype=dtype, device=device))
        self.register_buffer("offset", torch.zeros((), dtype=torch.float32, device=device))

    def whole(self, dtype: torch.dtype) -> Tensor:
        """The weight in a wide dtype, as the backward makes it: its factors are gone when it is multiplied."""
        _factors = self._factors()
        return self._weight(dtype)

    def multiplied(self, x: Tensor) -> Tensor:
        """The product, and the bias; the factors, without and with their offset, stay until it is there."""
        raw = self._factors()
        _factors = raw + self.offset
        weight = self._weight(x.dtype)
        return functional.linear(x, weight, self.bias)

    def _factors(self) -> Tensor:
        return torch.zeros(self.absmax.numel(), dtype=torch.float32, device=self.absmax.device)

    def _weight(self, dtype: torch.dtype) -> Tensor:
        return torch.zeros(self.out_features, self.in_features, dtype=dtype, device=self.absmax.device)

    def forward(self, x: Tensor) -> Tensor:
        """As a linear layer."""
        if torch.is_grad_enabled() and x.requires_grad:
            return _Product.apply(x, self)
        with torch.no_grad():
            return self.multiplied(x)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """Stay as it is when the network is cast."""
        moves = fn(self.offset).device != self.offset.device
        return super()._apply(fn, recurse) if moves else self


def quantise(model: Any, device: Any, skipped: Callable[[str], bool]) -> int:
    """Put NF4 in the place of linear layers; how many. What is on the meta device gets its memory on `device`.

    A layer whose weight another module shares, as a tied head's, stays as it is.
    """
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    done = 0
    for path, parent in list(model.named_modules()):
        for name, child in list(parent.named_children()):
            place = f"{path}.{name}" if path else name
            features = replaced(child)
            if features is not None and owners[id(child.weight)] == 1 and not skipped(place):
                bias: Any = child.bias
                if bias is not None:
                    bias = nn.Parameter(_placed(bias, device), requires_grad=False)
                setattr(parent, name, Nf4Linear(*features, bias, device))
                done += 1
    materialised(model, device)
    return done


def replaced(module: Any) -> tuple[int, int] | None:
    """Features in and out of a layer that transformers 5.23 replaces (integrations/bitsandbytes.py): GPT-2's, too."""
    if type(module) is nn.Linear:
        return module.in_features, module.out_features
    if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):
        return int(module.weight.shape[0]), int(module.weight.shape[1])
    return None


def _placed(tensor: Tensor, device: Any) -> Tensor:
    return torch.zeros_like(tensor, device=device) if tensor.is_meta else tensor.detach()


def materialised(model: Any, device: Any) -> None:
    """Give what is on the meta device memory; what is shared stays shared."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None and parameter.is_meta:
                if id(parameter) not in made:
                    made[id(parameter)] = (parameter, nn.Parameter(_placed(parameter, device), parameter.requires_grad))
                module._parameters[name] = made[id(parameter)][1]
        for name, buffer in list(module._buffers.items()):
            if buffer is not None and buffer.is_meta:
                module._buffers[name] = _placed(buffer, device)
