"""The table of changes: which apply to a step and with which values. Prices of their kinds: `training_prices`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from peakmem.fitting.training_changes import CONF, Change, Situation, Values, register
from peakmem.fitting.training_largest import Knob
from peakmem.training.optimizers.settings import KNOWN

EXPANDABLE = "expandable_segments:True"
LEAST = 0.02
# of all that is needed: an optimizer's state below it is not worth another optimizer
AMPERE = (8, 0)
# compute capability from which bfloat16 is in hardware
STATED = frozenset(("momentum", "adam", "adamw", "rmsprop", "adagrad", "lion"))
# optimizers with a state
ADAMS = frozenset(("adam", "adamw"))


def _when(applies: Callable[[Situation], bool], *texts: str) -> Values:
    return lambda here: texts if applies(here) else ()


def _grows(here: Situation) -> bool:
    return here.on_cuda and "expandable_segments" not in here.base.conf


def _blocks(least: int) -> Callable[[Situation], bool]:
    return lambda here: len(here.made.blocks) >= least and not here.scenario.recompute


def _fuses(here: Situation) -> bool:
    known = KNOWN.get(here.optimizer)
    able = known is not None and "fused" in known.implementations
    return able and not here.made.own and here.implementation != "fused"


def _one_by_one(here: Situation) -> bool:
    known = KNOWN.get(here.optimizer)
    able = known is not None and "fused" not in known.implementations
    return able and not here.made.own and here.implementation == "foreach"


def _stateless(here: Situation) -> str:
    share = here.state_share
    return f"not tried: the optimizer's state is {share:.1%} of what is needed" if share < LEAST else ""


def _steps_with(names: frozenset[str]) -> Callable[[Situation], bool]:
    return lambda here: here.optimizer in names and not here.made.own


def _eight_bits(here: Situation) -> Iterable[str]:
    return (f"{here.optimizer}8bit",) if here.on_cuda and _steps_with(ADAMS)(here) else ()


def _has_bfloat16(here: Situation) -> bool:
    return not here.on_cuda or here.scenario.capability is None or here.scenario.capability >= AMPERE


def _autocast(here: Situation) -> Iterable[str]:
    if here.scenario.precision != "float32":
        return ()
    return ("amp",) if _has_bfloat16(here) else ("amp-fp16",)


def _narrow(here: Situation) -> bool:
    return _has_bfloat16(here) and here.scenario.precision in ("float32", "amp-bf16") and not here.made.own


def _averaged(here: Situation) -> bool:
    return here.has("batch_norm")


def _parts(averaged: bool) -> Values:
    """The two smallest divisors that leave no more samples than fit."""

    def values(here: Situation) -> Iterable[str]:
        found = here.largest.get("batch")
        if found is None or here.samples < 2 or here.scenario.accumulate != 1 or _averaged(here) != averaged:
            return ()
        parts = [part for part in range(2, here.samples + 1) if not here.samples % part]
        return tuple(f"accumulate={part}" for part in parts if here.samples // part <= found.value)[:2]

    return values


def _smaller(knob: Knob) -> Values:
    def values(here: Situation) -> Iterable[str]:
        found = here.largest.get(knob)
        return (f"{knob}={found.value}",) if found is not None and 0 < found.value < found.start else ()

    return values


def _shards(here: Situation) -> Iterable[str]:
    return (f"fsdp={here.shards}",) if here.shards is not None and here.shards > 1 else ()


def _adapts(here: Situation) -> bool:
    return here.is_transformer and here.scenario.lora is None


_PARTS, _FRESH = "the batch in parts, gradients added up", "another rule of update"
_AGAIN = "every sum is the same and in the same order"

_TABLE = (
    Change(
        "expandable", "segments of the allocator that grow", "same",
        "PYTORCH_CUDA_ALLOC_CONF: what lies where changes, nothing that is computed",
        _when(_grows, CONF + EXPANDABLE),
    ),
    Change(
        "fused", "the optimizer's step in one kernel", "same", "the same update without its temporaries",
        _when(_fuses, "fused"), "optimizer", _stateless,
    ),
    Change(
        "single", "the optimizer takes parameters one by one", "work", "the same update in more kernels",
        _when(_one_by_one, "single"), "optimizer", _stateless,
    ),
    Change(
        "recompute-every", "every second block runs again in the backward", "work", _AGAIN,
        _when(_blocks(2), "recompute-every=2"), "recompute",
    ),
    Change(
        "recompute", "every repeated block runs again in the backward", "work", _AGAIN,
        _when(_blocks(1), "recompute"), "recompute",
    ),
    Change("accumulate", _PARTS, "work", "the sum of the gradients is the same", _parts(False), "batch"),
    Change(
        "accumulate-norm", _PARTS, "rounding", "batch norm takes the statistics of each part", _parts(True), "batch"
    ),
    Change(
        "amp", "autocast", "rounding", "products and convolutions round to 16 bits; parameters stay wide", _autocast,
        "precision",
    ),
    Change(
        "shard", "parameters, gradients and state split over devices", "devices",
        "each device has a batch of the size asked; their gradients are averaged", _shards, "devices",
    ),
    Change(
        "tensor", "layers split over devices, by formula", "devices", "the same sums over several devices",
        _when(lambda here: here.is_transformer, "tp=2", "tp=4", "tp=8"), "devices",
    ),
    Change(
        "batch", "a smaller batch", "training", "noise of the gradient, and the learning rate that suits it, change",
        _smaller("batch"), "batch",
    ),
    Change(
        "8bit", "the optimizer's state in 8 bits", "training", "the state rounds to 256 steps a block", _eight_bits,
        "optimizer", _stateless,
    ),
    Change(
        "adafactor", "Adafactor: state of rows and columns", "training", _FRESH,
        _when(_steps_with(ADAMS), "adafactor"), "optimizer", _stateless,
    ),
    Change(
        "sgd", "plain gradient descent without a state", "training", _FRESH, _when(_steps_with(STATED), "sgd"),
        "optimizer", _stateless,
    ),
    Change(
        "bf16", "everything in bfloat16", "training", "small updates are lost in the 8 bits of a parameter",
        _when(_narrow, "bf16"), "precision",
    ),
    Change(
        "lora", "adapters beside frozen layers", "less", "8 directions a layer are trained, the rest stays",
        _when(_adapts, "lora=8"), "adapters",
    ),
    Change(
        "qlora", "adapters beside layers frozen in 4 bits", "less", "the same, over weights that round to 16 steps",
        _when(_adapts, "qlora=8"), "adapters",
    ),
    Change("resolution", "smaller images", "data", "details go", _smaller("resolution")),
    Change(
        "sequence", "shorter sequences", "data", "what stands further apart is not seen together", _smaller("sequence")
    ),
)  # fmt: skip

for _change in _TABLE:
    register(_change)
