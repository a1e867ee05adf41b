"""What is asked of a training step: device, batch, optimizer, precision, recompute, sharding. Plain data.

A producer (`tracing`, `saved`) takes a scenario and gives a log; a what-if is a scenario with one field changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Device = Literal["cpu", "cuda"]
Implementation = Literal["single", "foreach", "fused"]
Precision = Literal["float32", "amp-bf16", "amp-fp16", "bf16", "fp16", "bf16-master"]


@dataclass(frozen=True, slots=True)
class Optimizer:
    """Which optimizer, and which of its implementations."""

    name: str = "adamw"
    # sgd, momentum, adam, adamw, adafactor, lion, adam8bit, adamw8bit, rmsprop, adagrad
    implementation: Implementation | None = None
    # None: what torch chooses on the device (foreach on cuda, single on the processor)
    options: tuple[tuple[str, float | bool], ...] = ()
    # what else changes its memory: (("momentum", 0.9), ("amsgrad", True)); see `optimizers.settings`


@dataclass(frozen=True, slots=True)
class Lora:
    """Small trainable products beside frozen layers (Hu et al. 2021)."""

    rank: int = 8
    targets: tuple[str, ...] = ()
    # patterns of module paths; empty: every linear layer but the last
    quantised: bool = False
    # the frozen weights in NF4 (QLoRA, Dettmers et al. 2023)
    dtype: str = "float32"
    # of the adapters' parameters
    dropout: float = 0.0
    # of what goes into an adapter; PEFT's default


@dataclass(frozen=True, slots=True)
class Sharding:
    """What is split over ranks, by ZeRO's stages (Rajbhandari et al. 2020) and by tensor parallelism."""

    ranks: int = 1
    stage: Literal[0, 1, 2, 3] = 0
    # 1 optimizer state, 2 and gradients, 3 and parameters (FSDP's full shard)
    tensor: int = 1
    sequence: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """One training step, as asked."""

    device: Device = "cpu"
    batch: int | None = None
    sequence: int | None = None
    resolution: int | None = None
    # None: the network's own
    optimizer: Optimizer | None = None
    # None: the step's own, AdamW where it has none
    precision: Precision = "float32"
    recompute: str = ""
    # "" none, "blocks" each repeated block, "every-2" every second one, or a pattern of module paths
    accumulate: int = 1
    # forwards and backwards before the optimizer's step
    set_to_none: bool = True
    freeze: tuple[str, ...] = ()
    # patterns of parameter names
    lora: Lora | None = None
    sharding: Sharding = field(default_factory=Sharding)
    steps: int = 2
    values: tuple[tuple[str, object], ...] = ()
    # what a read of a tensor's content answers: ("*", 0) or ("model.py:41", 3)
    capability: tuple[int, int] | None = None
    multiprocessors: int | None = None
    # of the graphics card that is meant; None: an A100's
