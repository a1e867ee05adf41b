"""A log under tensor and sequence parallelism, by formula: what one rank holds. No torch.

Korthikanti et al. 2022 (arXiv 2205.05198), equations 2 to 4: of a transformer layer's 34·s·b·h bytes of saved
activations, 24 are split over t ranks and 10 are whole on each (the inputs of both norms, the dropout masks), 34 are
split with sequence parallelism; the scores of attention are split by heads. Weights of two dimensions inside the layers
and of the vocabulary are split, norms and biases of rows are not. Only the sizes change: what is alive when stays as in
the log of one rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from peakmem.errors import UsageError
from peakmem.training.log import Log, Storage

SPLIT, WHOLE = 24, 10
# of 34 parts of a layer's saved activations


def parallel(log: Log, ranks: int, *, sequence: bool, units: Sequence[str]) -> Log:
    """What one of `ranks` allocates.

    Args:
        log: of a step on one rank.
        sequence: whether norms and dropouts are split along the sequence as well.
        units: module paths of the transformer layers.

    Raises:
        UsageError: no layers that repeat, so that the formula does not hold.
    """
    if ranks == 1:
        return log
    if not units:
        raise UsageError("tensor parallelism by formula is for a transformer's layers", expected="layers that repeat")

    def inside(path: str) -> bool:
        return any(path == unit or path.startswith(unit + ".") for unit in units)

    if any("convolution" in item.operator and inside(item.module) for item in log.storages):
        raise UsageError(
            "tensor parallelism by formula is for a transformer's layers", expected="layers without convolutions"
        )
    storages = tuple(replace(item, nbytes=_share(item, ranks, sequence, inside(item.module))) for item in log.storages)
    kind = "tensor and sequence" if sequence else "tensor"
    return replace(log, storages=storages, notes=(*log.notes, f"{kind} parallel over {ranks} ranks, by formula"))


def _share(item: Storage, ranks: int, sequence: bool, inside: bool) -> int:
    if item.category in ("parameter", "gradient", "optimizer state"):
        return -(-item.nbytes // ranks) if len(item.shape) >= 2 else item.nbytes
    if item.phase == "optimizer":
        return -(-item.nbytes // ranks) if item.nbytes > 64 else item.nbytes
    if not inside or item.category in ("buffer", "input"):
        return item.nbytes
    if sequence or _is_scores(item):
        return -(-item.nbytes // ranks)
    return -(-item.nbytes * (WHOLE * ranks + SPLIT) // ((WHOLE + SPLIT) * ranks))


def _is_scores(item: Storage) -> bool:
    """Whether a tensor is [batch, heads, length, length]."""
    return len(item.shape) == 4 and item.shape[-1] == item.shape[-2]
