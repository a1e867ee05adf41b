"""A log split over ranks: what one rank holds under ZeRO's stages, from the log of an unsplit step.

Stage 1 keeps 1/N of the optimizer's state and steps on 1/N of the parameters; stage 2 gives a gradient back once its
rank's part is kept; stage 3 keeps 1/N of the parameters as well, see `gathering`. Rajbhandari et al.
2020 (arXiv 1910.02054), section 5. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from peakmem.errors import UsageError
from peakmem.training.log import Log, Storage
from peakmem.training.scenario import Sharding
from peakmem.training.whatif.gathering import gathered
from peakmem.training.whatif.lives import Life, end_of_phase, renumbered

LEAST = 64
# bytes; a state or a workspace of a few numbers is not split


def sharded(log: Log, sharding: Sharding, units: Sequence[str] = ()) -> Log:
    """What one rank allocates. Padding of flat parameters and buckets is not in it.

    Args:
        log: of an unsplit step.
        sharding: stage and ranks.
        units: module paths that are gathered each at a time; empty: all parameters are one unit.

    Raises:
        UsageError: stage 3 of a log that says of no parameter what it is called.
    """
    ranks, stage = sharding.ranks, sharding.stage
    if ranks == 1 or stage == 0:
        return log
    if stage >= 3 and not any(item.name for item in log.storages if item.category == "parameter"):
        raise UsageError("the parameters of this step have no names, so that they belong to no unit", hint="zero2")
    lives = [_life(item, ranks, stage) for item in log.storages]
    if stage == 2:
        lives += _whole_gradients(log)
    elif stage == 3:
        lives += gathered(log, lives, units)
    return renumbered(log, lives, f"ZeRO stage {stage} over {ranks} ranks, from the log of one")


def _part(nbytes: int, ranks: int) -> int:
    return -(-nbytes // ranks) if nbytes > LEAST else nbytes


def _life(item: Storage, ranks: int, stage: int) -> Life:
    split = (
        item.category == "optimizer state"
        or (item.phase == "optimizer" and item.category in ("temporary", "kernel workspace"))
        or (item.category == "gradient" and stage >= 2)
        or (item.category == "parameter" and stage >= 3)
    )
    return Life(replace(item, nbytes=_part(item.nbytes, ranks)) if split else item, item.start, item.stop)


def _whole_gradients(log: Log) -> list[Life]:
    """Each gradient is whole from when it is made until the next one is there: then its parts have been summed."""
    grads = [item for item in log.storages if item.category == "gradient"]
    found = []
    for at, item in enumerate(grads):
        following = grads[at + 1].start if at + 1 < len(grads) else item.stop
        stop = min(following, end_of_phase(log, item.start), item.stop)
        whole = replace(item, category="temporary", operator="reduce_scatter", name=item.name)
        found.append(Life(whole, item.start - 0.25, max(stop, item.start + 1) - 0.25))
    return found
