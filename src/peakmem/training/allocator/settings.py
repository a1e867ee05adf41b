"""The settings of torch's caching allocator, as its environment variable or a snapshot states them. Plain data.

The text is that of `PYTORCH_CUDA_ALLOC_CONF` (`PYTORCH_ALLOC_CONF` from 2.9 on). Names, ranges and defaults are those
of c10/core/AllocatorConfig.h and c10/cuda/CUDAAllocatorConfig.h of torch 2.13.0; what `>` fills in the list of
roundings is as c10/test/core/AllocatorConfig_test.cpp expects it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from peakmem.errors import UsageError

MIB = 1 << 20
INTERVALS = 16
# sizes of 1 MiB, 2 MiB … 32 GiB and more, each with its own rounding
MOST = (1 << 63) - 1

Order = Literal["address", "block", "segment"]
# Which of several free blocks of one size is taken. "address": the lowest, up to 2.11. "block": the one made first
# (pull request 178362 of pytorch, spring 2026). "segment": of the segment made first, then the lowest
# (pull request 183591, May 2026).
ORDERS: tuple[Order, ...] = ("address", "segment", "block")

# Keys that change nothing on the device: they are about pinned host memory, locks and how memory is shared.
HARMLESS = frozenset(
    (
        "pinned_use_cuda_host_register", "pinned_use_hip_host_register", "pinned_num_register_threads",
        "pinned_use_background_threads", "pinned_reserve_segment_size_mb", "pinned_free_catch_all",
        "pinned_max_round_threshold_mb", "pinned_max_cached_size_mb", "release_lock_on_cudamalloc",
        "release_lock_on_hipmalloc", "graph_capture_record_stream_reuse", "expandable_segments_handle_type",
        "throw_on_cudamalloc_oom",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """How the allocator rounds, splits, keeps and gives back."""

    max_split_bytes: int | None = None
    # blocks of this size and more are not split; None: all may be
    round_over_bytes: int = 20 * MIB
    # a request of max_split_bytes or more takes a free block that is less than this larger
    roundup_power2: tuple[int, ...] = (0,) * INTERVALS
    # for requests of 1 MiB, 2 MiB … and more: parts into which the space between powers of two is cut; 0 and 1: none
    collect_above: float = 0.0
    # garbage collection above this share of what the process may take; 0: none
    expandable: bool = False
    # segments that grow by pages
    large_segment_bytes: int = 20 * MIB
    # of a request of 1 to 10 MiB; the page of an expandable segment of the large pool
    fraction: float = 1.0
    # of the capacity that the process may take
    order: Order = "address"

    @classmethod
    def parse(cls, text: str, base: Settings | None = None) -> Settings:
        """The settings that `text` states, on top of `base`.

        Raises:
            UsageError: a key or a value that torch does not take, or a backend that is not its own allocator.
        """
        found: dict[str, Any] = {}
        for key, value in _pairs(text):
            if key in _READERS:
                name, read = _READERS[key]
                found[name] = read(key, value)
            elif key == "backend":
                if value != "native":
                    raise UsageError(
                        f"the backend {value[:80]!r} is an allocator of its own, whose rules are not public",
                        where="PYTORCH_CUDA_ALLOC_CONF", expected="backend:native",
                    )  # fmt: skip
            elif key not in HARMLESS:
                raise UsageError(
                    f"no setting of torch's allocator is called {key[:80]!r}", where="PYTORCH_CUDA_ALLOC_CONF",
                    expected=f"one of {', '.join(sorted(_READERS))}", hint="--conf expandable_segments:True",
                )  # fmt: skip
        made = replace(base or cls(), **found)
        if "large_segment_bytes" in found and "round_over_bytes" not in found and base is None:
            made = replace(made, round_over_bytes=max(made.round_over_bytes, made.large_segment_bytes))
        if made.large_segment_bytes < 10 * MIB:
            raise _off("large_segment_size_mb", str(made.large_segment_bytes // MIB), "10 or more")
        limits = (("max_split_size_mb", made.max_split_bytes), ("max_non_split_rounding_mb", made.round_over_bytes))
        for name, size in limits:
            if size is not None and size < made.large_segment_bytes:
                raise UsageError(
                    f"{name} is {size // MIB}", where="PYTORCH_CUDA_ALLOC_CONF",
                    expected=f"at least {made.large_segment_bytes // MIB}, the size of a large segment",
                )  # fmt: skip
        return made

    @classmethod
    def of_record(cls, stated: Mapping[str, Any]) -> Settings:
        """The settings in a snapshot's `allocator_settings`; what they leave out is torch's default.

        Raises:
            UsageError: a value of a wrong kind.
        """
        conf = stated.get("PYTORCH_CUDA_ALLOC_CONF") or stated.get("PYTORCH_ALLOC_CONF") or ""
        made = cls.parse(conf) if isinstance(conf, str) else cls()
        found: dict[str, Any] = {}
        split = stated.get("max_split_size", -1)
        rounding = stated.get("roundup_power2_divisions", {})
        collect = stated.get("garbage_collection_threshold", made.collect_above)
        expandable = stated.get("expandable_segments", made.expandable)
        if (not _whole(split) or not isinstance(rounding, Mapping) or not isinstance(expandable, bool)
                or not isinstance(collect, int | float) or not 0 <= collect < 1):  # fmt: skip
            raise UsageError("the allocator's settings in it are damaged", expected="sizes, a share and True or False")
        found["max_split_bytes"] = split if 0 < split < MOST else None
        found["collect_above"], found["expandable"] = float(collect), expandable
        divisions = list(made.roundup_power2)
        for key, value in rounding.items():
            place = int(key) if re.fullmatch("[0-9]{1,6}", str(key)[:9]) else 0
            if place < 1 or place & (place - 1) or place >> INTERVALS or not _whole(value) or not 0 <= value <= 1 << 40:
                raise UsageError("the allocator's settings in it are damaged", expected="a rounding per power of two")
            divisions[place.bit_length() - 1] = value
        found["roundup_power2"] = tuple(divisions)
        return replace(made, **found)

    def __str__(self) -> str:
        """As in the environment variable, without what is torch's default; "default" for nothing."""
        usual, parts = Settings(), []
        if self.expandable:
            parts.append("expandable_segments:True")
        if self.max_split_bytes is not None:
            parts.append(f"max_split_size_mb:{self.max_split_bytes / MIB:g}")
        if self.round_over_bytes != usual.round_over_bytes:
            parts.append(f"max_non_split_rounding_mb:{self.round_over_bytes / MIB:g}")
        if self.large_segment_bytes != usual.large_segment_bytes:
            parts.append(f"large_segment_size_mb:{self.large_segment_bytes / MIB:g}")
        if self.collect_above:
            parts.append(f"garbage_collection_threshold:{self.collect_above:g}")
        if any(self.roundup_power2):
            one = len(set(self.roundup_power2)) == 1
            each = ",".join(f"{1 << at}:{value}" for at, value in enumerate(self.roundup_power2))
            parts.append(f"roundup_power2_divisions:{self.roundup_power2[0] if one else f'[{each}]'}")
        if self.fraction != usual.fraction:
            parts.append(f"per_process_memory_fraction:{self.fraction:g}")
        return ",".join(parts) or "default"


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _pairs(text: str) -> list[tuple[str, str]]:
    """`key:value,key:[a:1,b:2]` → its pairs; spaces do not count."""
    if len(text) > 4096:
        raise UsageError("the settings are longer than any", where="PYTORCH_CUDA_ALLOC_CONF")
    packed = "".join(text.split())
    pairs = []
    for part in re.findall(r"[^,\[]*(?:\[[^\]]*\])?[^,]*", packed):
        if not part:
            continue
        key, colon, value = part.partition(":")
        if not key or not colon or not value:
            raise UsageError(
                f"{part[:80]!r} is not a setting", where="PYTORCH_CUDA_ALLOC_CONF",
                expected="key:value, separated by commas",
                hint="--conf expandable_segments:True,max_split_size_mb:128",
            )  # fmt: skip
        pairs.append((key, value))
    return pairs


def _number(key: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", value):
        raise _off(key, value, "a whole number")
    return int(value)


def _off(key: str, value: str, expected: str) -> UsageError:
    return UsageError(f"{key} is {value[:80]!r}", where="PYTORCH_CUDA_ALLOC_CONF", expected=expected)


def _mebibytes(key: str, value: str) -> int:
    size = _number(key, value) * MIB
    if size == 0:
        raise _off(key, value, "more than 0")
    return size


def _share(key: str, value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = -1.0
    if not 0.0 < share < 1.0 and not (key == "per_process_memory_fraction" and share in (0.0, 1.0)):
        raise _off(key, value, "a share between 0 and 1")
    return share


def _truth(key: str, value: str) -> bool:
    if value not in ("True", "False"):
        raise _off(key, value, "True or False")
    return value == "True"


def _divisions(key: str, value: str) -> tuple[int, ...]:
    def power(part: str) -> int:
        number = _number(key, part)
        if number & (number - 1):
            raise _off(key, part, "a power of two")
        return number

    if not value.startswith("["):
        return (power(value),) * INTERVALS
    if not value.endswith("]"):
        raise _off(key, value, "a list such as [256:1,512:2,1024:4,>:8]")
    found, last, first = [0] * INTERVALS, -1, True
    for part in filter(None, value[1:-1].split(",")):
        place, colon, divisions = part.partition(":")
        if not colon:
            raise _off(key, value, "a list such as [256:1,512:2,1024:4,>:8]")
        if place == ">":
            found[last + 1 :] = [power(divisions)] * (INTERVALS - last - 1)
            continue
        size = power(place)
        if size == 0:
            raise _off(key, place, "a size in MiB")
        last = min(size.bit_length() - 1, INTERVALS - 1)
        if first:
            found[:last] = [power(divisions)] * last
            first = False
        found[last] = power(divisions)
    return tuple(found)


_READERS: dict[str, tuple[str, Any]] = {
    "max_split_size_mb": ("max_split_bytes", _mebibytes),
    "max_non_split_rounding_mb": ("round_over_bytes", _mebibytes),
    "large_segment_size_mb": ("large_segment_bytes", _mebibytes),
    "garbage_collection_threshold": ("collect_above", _share),
    "roundup_power2_divisions": ("roundup_power2", _divisions),
    "expandable_segments": ("expandable", _truth),
    "per_process_memory_fraction": ("fraction", _share),
}
