"""The processor an engine will see, as it is typed: `arch=aarch64,features=asimd+fphp,l2=512KiB,cores=4`."""

from __future__ import annotations

import re
from dataclasses import replace

from peakmem.engines.prediction import Processor
from peakmem.errors import UsageError
from peakmem.measuring.machine import FEATURES
from peakmem.prediction import this_processor
from peakmem.units import parse_size

ARCHITECTURES = ("x86_64", "aarch64")
KNOWN = {
    "x86_64": re.compile(FEATURES["flags"].pattern + "|ssse3|sse4_1|gfni"), "aarch64": FEATURES["Features"],
}  # fmt: skip
EXAMPLES = {"x86_64": "avx2+fma+f16c", "aarch64": "asimd+asimdhp+asimddp"}
IMPLIED = {
    "avx512f": ("avx2", "fma", "f16c"), "avx2": ("avx",), "fma": ("avx",), "f16c": ("avx",), "avx": ("sse4_2",),
    "asimdhp": ("asimd", "fphp"), "asimddp": ("asimd",),
}  # fmt: skip


def parse_processor(text: str) -> Processor:
    """`arch=aarch64,features=asimd+fphp,l1=64KiB,l2=512KiB,l3=0,cores=4`; what is not said is this machine's.

    Of another architecture no feature and no cache is this machine's.

    Raises:
        UsageError: an unknown name, or a value that does not fit.
    """
    said: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals or not value or name not in ("arch", "features", "l1", "l2", "l3", "cores") or name in said:
            raise UsageError(
                f"--processor {part!r} is not understood", expected="arch, features, l1, l2, l3 or cores, each once",
                hint="--processor arch=aarch64,features=asimd+fphp,l2=512KiB,cores=4",
            )  # fmt: skip
        said[name] = value
    here = this_processor()
    architecture = said.get("arch", here.architecture)
    if architecture not in ARCHITECTURES:
        raise UsageError(f"no profile knows the architecture {architecture!r}", expected=" or ".join(ARCHITECTURES))
    base = here if architecture == here.architecture else Processor(architecture)
    cores = said.get("cores", str(base.cores))
    if not (cores.isascii() and cores.isdecimal() and 0 < int(cores[:9]) <= 4096 and len(cores) < 9):
        raise UsageError(f"--processor cores={cores}", expected="1 to 4096")
    features = _features(said["features"], architecture) if "features" in said else base.features
    return replace(
        base, features=features, cores=int(cores),
        l1_data_bytes=parse_size(said["l1"]) if "l1" in said else base.l1_data_bytes,
        l2_bytes=parse_size(said["l2"]) if "l2" in said else base.l2_bytes,
        l3_bytes=parse_size(said["l3"]) if "l3" in said else base.l3_bytes,
    )  # fmt: skip


def _features(text: str, architecture: str) -> frozenset[str]:
    """The instruction sets of `avx2+fma`, and those that come with them.

    Raises:
        UsageError: one that no engine looks at.
    """
    found: set[str] = set()
    waiting = [name for name in text.split("+") if name]
    while waiting:
        name = waiting.pop()
        if not KNOWN[architecture].fullmatch(name):
            raise UsageError(
                f"--processor: no engine looks at {name!r} on {architecture}",
                expected="names as /proc/cpuinfo has them", hint=f"features={EXAMPLES[architecture]}",
            )  # fmt: skip
        found.add(name)
        waiting += [more for more in _implied(name) if more not in found]
    return frozenset(found)


def _implied(name: str) -> tuple[str, ...]:
    """What every processor with this instruction set has, too."""
    if name.startswith("avx512") and name != "avx512f":
        return ("avx512f",)
    return IMPLIED.get(name, ())
