"""What decoders share: the loss on shifted labels, the cache of keys and values, what a forward gives back.

As in transformers 5.23: `loss/loss_utils.py` (`ForCausalLMLoss`), `cache_utils.py` (`DynamicLayer`) and
`masking_utils.py` (`find_packed_sequence_indices`, which runs on the positions when there is neither a mask nor a
cache; its answer is that nothing is packed).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

IGNORED = -100
# the label of a token that is not scored


class KeysAndValues:
    """Keys and values of every layer, concatenated to an empty tensor first, as a cache that grows does.

    A layer with a window has a number of its own beside them, and lets go of the empty tensors later.
    """

    def __init__(self, layers: int = 0, window: int | None = None) -> None:
        self.layers, self.window = layers, window
        self.numbers: list[Tensor] = []
        self.held: list[tuple[Tensor, Tensor]] = []

    def begin(self) -> None:
        """Make what each layer holds before there are keys."""
        if self.window is not None:
            self.numbers = [torch.tensor(self.window, dtype=torch.long) for _ in range(self.layers)]

    def update(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Copies of a layer's keys and values, which stay here."""
        held_keys = torch.tensor([], dtype=keys.dtype, device=keys.device)
        held_values = torch.tensor([], dtype=keys.dtype, device=keys.device)
        if self.window is not None:
            layer = len(self.held)
            self.numbers[layer] = self.numbers[layer].to(keys.device)
            all_keys = torch.cat([held_keys, keys], dim=-2)
            all_values = torch.cat([held_values, values], dim=-2)
            held_keys, held_values = all_keys, all_values
        else:
            held_keys = torch.cat([held_keys, keys], dim=-2)
            held_values = torch.cat([held_values, values], dim=-2)
        self.held.append((held_keys, held_values))
        return held_keys, held_values


@dataclass
class Output:
    """What the forward of a language model gives back.

    Without slots: its fields go in the order in which they stand, as those of a mapping do.
    """

    loss: Tensor
    logits: Tensor
    cache: Any = None


def causal_loss(logits: Tensor, labels: Tensor, vocabulary: int) -> Tensor:
    """Cross entropy of each token's scores with the next token, in float32."""
    logits = logits.float()
    labels = functional.pad(labels, (0, 1), value=IGNORED)
    shifted = labels[..., 1:].contiguous()
    logits = logits.view(-1, vocabulary)
    shifted = shifted.view(-1)
    return functional.cross_entropy(logits, shifted, ignore_index=IGNORED, reduction="mean")


def positions_of(embedded: Tensor) -> Tensor:
    """The number of each token, for one row of the batch."""
    positions = torch.arange(embedded.shape[1], device=embedded.device) + 0
    return positions.unsqueeze(0)


def look_for_packed(positions: Tensor, batch: int) -> None:
    """What finding several sequences in one row allocates, where nothing is cached; there is one."""
    if batch != positions.shape[0]:
        positions = positions.expand(batch, -1)
    _packed(positions)


def _packed(positions: Tensor) -> None:
    first = positions[:, :1] - 1
    difference = torch.diff(positions, prepend=first, dim=-1)
    packed = (difference != 1).cumsum(-1)
    (packed[:, -1] == 0).all()


def mask_of(padding: Tensor) -> Tensor:
    """Which token sees which, where rows are padded: causal, and no padding (`sdpa_mask`); [batch, 1, tokens, tokens].

    `padding` holds a 1 for each token and a 0 for what fills up its row. A row without any is not looked for.
    """
    padding = padding.to(dtype=torch.bool)
    for _ in range(2):  # whether there is any padding is asked twice
        _any = padding.sum() == padding.numel()
        del _any
    mask = _mask(padding)
    return mask  # noqa: RET504 (the padding goes after what the mask was made of)


def _mask(padding: Tensor) -> Tensor:
    batch, tokens = padding.shape
    rows = torch.arange(batch, device=padding.device)
    _heads = torch.arange(1, device=padding.device)
    first = torch.arange(tokens, device=padding.device) + 0
    second = torch.arange(tokens, device=padding.device) + 0
    allowed = _allowed(rows[:, None, None, None], first[None, None, :, None], second[None, None, None, :], padding)
    return allowed.expand(batch, -1, tokens, tokens)


def _allowed(row: Tensor, query: Tensor, key: Tensor, padding: Tensor) -> Tensor:
    allowed = query.new_ones((), dtype=torch.bool)
    allowed = allowed & (key <= query)
    return allowed & padding[row, key]
