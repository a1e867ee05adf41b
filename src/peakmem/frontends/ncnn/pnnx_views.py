"""Which operators of a pnnx file share the bytes of what they read, as PyTorch does.

Strides are not in the file. Whether a reshape can be a view follows from what was done before: what
was transposed, expanded or cut is not contiguous, and a reshape of it copies.
"""

from __future__ import annotations

from collections.abc import Sequence

_KEEPING = frozenset(
    ("Tensor.view", "torch.squeeze", "torch.unsqueeze", "Tensor.unflatten", "Tensor.detach", "nn.Identity",
     "torch.view_as_real", "torch.view_as_complex", "Tensor.view_as", "nn.Dropout", "nn.Dropout2d", "nn.Dropout3d",
     "nn.AlphaDropout", "F.dropout", "F.dropout2d", "F.dropout3d", "F.alpha_dropout", "F.feature_alpha_dropout")
)  # fmt: skip
# views that leave what is contiguous so
_MOVING = frozenset(
    ("torch.permute", "Tensor.permute", "torch.transpose", "torch.t", "torch.movedim", "Tensor.expand",
     "Tensor.expand_as", "Tensor.select", "Tensor.slice", "torch.narrow", "torch.chunk", "torch.split",
     "torch.tensor_split", "torch.unbind", "torch.diagonal", "Tensor.unfold", "torch.real", "torch.imag")
)  # fmt: skip
_RESHAPING = frozenset(
    ("Tensor.reshape", "Tensor.reshape_as", "torch.flatten", "nn.Flatten", "Tensor.contiguous", "torch.ravel")
)


class Views:
    """Follows which operands are contiguous; ask for each operator in the file's order."""

    def __init__(self) -> None:
        self.scattered: set[str] = set()

    def of(self, op_type: str, reads: Sequence[str], makes: Sequence[str]) -> tuple[tuple[int, int], ...]:
        """(output, input) positions of an operator that share their bytes."""
        if not reads:
            return ()
        source = reads[0]
        if op_type in _RESHAPING:
            if source in self.scattered:
                return ()
        elif op_type in _MOVING or (op_type in _KEEPING and source in self.scattered):
            self.scattered.update(makes)
        elif op_type not in _KEEPING:
            return ()
        return tuple((position, 0) for position in range(len(makes)))
