"""The peak as a formula held against plain evaluation, for every built-in network, and the largest batch proved.

    python benchmarks/formula.py                writes docs/guides/formula-check.md
    python benchmarks/formula.py resnet50 …     these networks alone, nothing written

Plain evaluation is the analysis on plain numbers, put together here from its parts and, at some values, taken from
`peakmem.estimate`. Exits with 1 when a formula says something else anywhere it claims to hold, or when a value has an
evaluation and no formula.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import peakmem
from peakmem import devices
from peakmem.errors import PeakmemError
from peakmem.passes.assume import ASSUMPTIONS
from peakmem.pipeline import bound, load, paused_collection
from peakmem.report.formula import PeakFormula
from peakmem.scaling import largest
from peakmem.study import Study
from peakmem.units import format_bytes
from peakmem.zoo import NETWORKS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "guides" / "formula-check.md"
BATCHES = range(1, 257)
RESOLUTIONS = range(96, 513)
SEQUENCES = (*range(1, 257), *range(257, 8193, 5), 8192)
STEPS = range(1, 8193)
CLASSES = (224, 225, 231, 236)
# resolutions whose remainders are looked at under the other assumptions
REPORTED = 97
# one value in so many is also asked of `peakmem.estimate`
PAIRS = (
    ("resnet50", "v100-16gb"), ("resnet50", "h100-80gb"), ("resnet50", "raspberry-pi-zero-2-w"),
    ("resnet18", "jetson-nano"), ("vgg16", "a100-40gb"), ("vgg16", "iphone-11"),
    ("densenet161", "rtx-4090"), ("densenet161", "jetson-orin-nano-8gb"), ("googlenet", "raspberry-pi-4-2gb"),
    ("efficientnet_b0", "coral-dev-board-micro"), ("mobilenet_v1", "coral-dev-board-micro"),
    ("mobilenet_v2", "iphone-11"), ("mobilenet_v3_large", "raspberry-pi-5-8gb"),
    ("mobilenet_v3_small", "raspberry-pi-zero-2-w"), ("shufflenet_v2", "m4-16gb"), ("squeezenet1_1", "t4"),
    ("unet_256", "l40s"), ("vit_s16", "mi300x"), ("gpt2_small", "h200"), ("lstm_2layer", "coral-dev-board-micro"),
)  # fmt: skip
# (network, device)


@dataclass
class Row:
    """One formula and what evaluations said of it."""

    network: str
    knob: str
    assume: str
    dtype: str
    pieces: int
    seconds: float
    tried: int = 0
    equal: int = 0
    without: int = 0
    # values at which no network can be built, and no formula is claimed
    wrong: list[int] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)


def plain(spec: str, knob: str, x: int, assume: str, dtype: str) -> tuple[int, int] | None:
    """(live, resident) bytes at one value, None where there is no network."""
    name, _, options = spec.partition(":")
    said = spec if knob == "batch" else f"{name}:{','.join(filter(None, (options, f'{knob}={x}')))}"
    try:
        if x % REPORTED == 0 or dtype:
            report = peakmem.estimate(said, batch=x if knob == "batch" else None, assume=assume, dtype=dtype or None)
            return report.peak_bytes, report.peak.total_bytes
        study = Study(bound(load(said), batch=x if knob == "batch" else None))
    except PeakmemError:
        return None
    live = study.peak(assume)[0]
    return live, live + study.parameters.nbytes()


def check(spec: str, knob: str, values: Iterable[int], assume: str = "fused", dtype: str = "", at: int = 0) -> Row:
    """One formula, over all remainders or that of `at` alone, against every one of `values`."""
    values = list(values)
    begun = time.process_time()
    found: PeakFormula = peakmem.peak_formula(
        spec, knob, assume=assume, dtype=dtype or None, limits=(min(values), max(values)), at=at or None,
        every_residue=not at,
    )  # fmt: skip
    if at:
        values = [x for x in values if x % found.modulus in found.residues]
    row = Row(spec, knob, assume, dtype, len(found.pieces), time.process_time() - begun)
    for x in values:
        row.tried += 1
        there, said = plain(spec, knob, x, assume, dtype), (found.live_bytes(x), found.resident_bytes(x))
        if there is None and said == (None, None):
            row.without += 1
        elif said == there:
            row.equal += 1
        else:
            (row.missing if said == (None, None) else row.wrong).append(x)
    return row


def rows(names: Iterable[str]) -> Iterator[Row]:
    """Every formula there is to check."""
    for name in names:
        options = {option.name for option in NETWORKS[name].options}
        yield check(name, "batch", BATCHES)
        if "resolution" in options:
            yield check(name, "resolution", RESOLUTIONS)
        for assume in ASSUMPTIONS:
            if assume != "fused":
                yield check(name, "batch", BATCHES[::17], assume)
                for at in CLASSES if "resolution" in options else ():
                    yield from checked_class(name, assume, at)
        yield check(name, "batch", BATCHES[::51], "fused", "int8")
        if name == "gpt2_small":
            for assume in ASSUMPTIONS:
                values = SEQUENCES if assume == "fused" else SEQUENCES[::11]
                yield check(f"{name}:positions=8192", "context", values, assume)
        if name == "lstm_2layer":
            yield check(name, "sequence", STEPS)


def checked_class(name: str, assume: str, at: int) -> Iterator[Row]:
    """The class of one resolution, if the network reads images of it."""
    with suppress(PeakmemError):
        yield check(name, "resolution", RESOLUTIONS, assume, at=at)


def table(found: list[Row]) -> list[str]:
    """The rows of one network and knob together, and those that differ."""
    out = [
        "| network | size | formulas | pieces | evaluations | equal | no network there | not equal | no formula | s |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in found:
        groups.setdefault((row.network, row.knob), []).append(row)
    for (network, knob), members in groups.items():
        counts = ((row.tried, row.equal, row.without, len(row.wrong), len(row.missing)) for row in members)
        tried, equal, without, wrong, missing = (sum(column) for column in zip(*counts, strict=True))
        seconds = max(row.seconds for row in members)
        out.append(
            f"| {network} | {knob} | {len(members)} | {sum(row.pieces for row in members)} | {tried:,} | {equal:,} | "
            f"{without:,} | {wrong} | {missing} | {seconds:.2f} |"
        )
    return out


def proved() -> list[str]:
    """The largest batch for each pair, and both neighbours by `peakmem.estimate`."""
    out = [
        "| network | device | a process gets | largest batch | bytes there | next | bytes there | how |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for name, device in PAIRS:
        capacity = devices.find(device).capacity_bytes
        assert capacity is not None
        answer = largest(name, "batch", capacity)
        here = peakmem.estimate(name, batch=answer.value).peak.total_bytes if answer.value else 0
        beyond = peakmem.estimate(name, batch=answer.value + 1).peak.total_bytes
        assert here == answer.nbytes <= capacity < beyond == answer.next_nbytes, (name, device, answer, here, beyond)
        out.append(
            f"| {name} | {device} | {format_bytes(capacity)} | {answer.value:,} | {here:,} | {answer.value + 1:,} | "
            f"{beyond:,} | {answer.how} |"
        )
    return out


def main(names: list[str]) -> int:
    begun = time.process_time()
    found: list[Row] = []
    with paused_collection():
        for row in rows(names or NETWORKS):
            found.append(row)
            odd = f"; not equal at {row.wrong[:5]}" if row.wrong else ""
            odd += f"; no formula at {row.missing[:5]}" if row.missing else ""
            said = f"{row.equal} of {row.tried} equal, {row.without} without a network, {row.pieces} pieces"
            print(f"{row.network} {row.knob} {row.assume} {row.dtype}: {said}, {row.seconds:.2f} s{odd}", flush=True)
        pairs = proved() if not names else []
    wrong = sum(len(row.wrong) + len(row.missing) for row in found)
    print(f"{sum(row.tried for row in found):,} evaluations, {wrong} not as the formula says, "
          f"{time.process_time() - begun:.0f} s")  # fmt: skip
    if not names:
        PAGE.write_text(page(found, pairs), encoding="utf-8")
    return 1 if wrong else 0


def page(found: list[Row], pairs: list[str]) -> str:
    tried, equal = sum(row.tried for row in found), sum(row.equal for row in found)
    without, wrong = sum(row.without for row in found), sum(len(row.wrong) for row in found)
    missing = sum(len(row.missing) for row in found)
    return "\n".join(
        (
            "# Formulas against plain evaluation",
            "",
            "Written by `python benchmarks/formula.py`. Each formula is asked for once, over all remainders, and then",
            "held against the analysis on plain numbers: batches 1 to 256, every resolution from 96 to 512, every",
            f"length from 1 to 8192 for the LSTM and {len(set(SEQUENCES))} of them for GPT-2. Under the four execution",
            "assumptions that are not the default, and at int8, it is fewer values: every 17th batch, and the",
            "resolutions that leave the remainders of 224, 225, 231 and 236.",
            "",
            f"**{tried:,} evaluations: {equal:,} equal, {without:,} where no network can be built and no formula is",
            f"claimed, {wrong} not equal, {missing} with an evaluation and no formula.**",
            "",
            *table(found),
            "",
            "*Formulas* is how many were asked for (assumptions, dtypes, remainders), *pieces* how many ranges they",
            "have in all, *s* the most processor time that one of them took. *No network there* are sizes that the",
            "network refuses, such as a resolution that patches of 16 do not divide.",
            "",
            "## The largest batch, proved",
            "",
            "Weights and live peak together, fused. Solved from the formula; the bytes at both neighbours are those of",
            "`peakmem.estimate`.",
            "",
            *pairs,
            "",
        )
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
