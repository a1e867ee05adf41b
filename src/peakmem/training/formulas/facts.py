"""What closed forms are told of a training step: a handful of counts, read from a log or given by hand."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from peakmem.training.formulas.shape import Shape
from peakmem.training.log import Log
from peakmem.training.optimizers.parameters import BYTES


@dataclass(frozen=True, slots=True)
class Facts:
    """Counts of a network and of its step."""

    parameters: int
    # elements, frozen ones too; a tensor that is used twice counts once
    batch: int = 1
    trainable: int | None = None
    # elements with a gradient; None: all
    parameter_bytes: int = 4
    # of one element
    feature_map_bytes: int = 0
    # of all outputs of the forward's operators, for the whole batch
    largest_layer: int = 0
    # elements of the module with most parameters of its own
    ranks: int = 1
    ranks_per_node: int = 0
    # 0: all on one node
    shape: Shape | None = None
    # of a transformer

    @property
    def trained(self) -> int:
        """Elements with a gradient."""
        return self.parameters if self.trainable is None else self.trainable


def facts_of(log: Log, *, batch: int = 1, ranks: int = 1, shape: Shape | None = None) -> Facts:
    """The facts in a log: feature maps are all that the first forward allocates and no kernel takes for itself."""
    layers: dict[str, int] = {}
    elements = trained = feature_maps = nbytes = 0
    with_gradient = {item.name for item in log.storages if item.category == "gradient"} - {""}
    for item in log.storages:
        if item.category == "parameter":
            count = item.nbytes // BYTES.get(item.dtype, 4)
            layer = item.name.rpartition(".")[0]
            layers[layer] = layers.get(layer, 0) + count
            elements += count
            nbytes += item.nbytes
            trained += count if item.name in with_gradient else 0
        elif item.phase == "forward" and item.step == 0 and item.category in ("saved activation", "temporary"):
            feature_maps += item.nbytes
    return Facts(
        elements, batch, trained, round(nbytes / elements) if elements else 4, feature_maps,
        max(layers.values(), default=0), ranks, shape=shape,
    )  # fmt: skip


def saved_bytes(log: Log) -> int:
    """The most bytes of saved activations alive at once."""
    change = [0] * (log.moments + 1)
    for item in log.storages:
        if item.category == "saved activation":
            change[item.start] += item.nbytes
            change[item.stop] -= item.nbytes
    return max(accumulate(change))
