"""Predict every measured cell and write how far off it was: to the screen, and into docs/training/accuracy.md.

    python -m benchmarks.training.compare               to the screen
    python -m benchmarks.training.compare --write       and the page
    python -m benchmarks.training.compare --verbose     with the phases and categories that differ

Nothing is trained; torch is needed to trace. Each cell is traced in a process of its own, so that none depends on what
was traced before it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.training import peers
from benchmarks.training.cells import RULES, cells, workload
from benchmarks.training.measure import lines, summary
from benchmarks.training.page import write

from peakmem.errors import PeakmemError

PAGE = Path(__file__).parents[2] / "docs/training/accuracy.md"
KNOWN = {network.target for network in RULES}


def main() -> None:
    """Compare, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", help="only these, comma between")
    parser.add_argument("--group", choices=("rules", "untouched"), help="only these")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="phases and categories that differ")
    given = parser.parse_args()
    wanted = given.networks.split(",") if given.networks else None
    measured = [
        line
        for line in lines()
        if (wanted is None or line["network"] in wanted)
        and (given.group is None or (line["network"] in KNOWN) == (given.group == "rules"))
    ]
    compare(measured[0])  # what a first trace imports is imported once for all processes
    with get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        rows = []
        for row in pool.imap(compare, measured):
            rows.append(row)
            print(*_said(row, verbose=given.verbose), sep="\n", flush=True)
    told = {(line["network"], line["setting"]): line for line in peers.lines()}
    for row in rows:
        row["peers"] = told.get((row["network"], row["setting"]), {})
    print(json.dumps(statistics(rows), indent=1))
    if given.write:
        write(PAGE, rows, statistics(rows))


def compare(line: dict[str, Any]) -> dict[str, Any]:
    """One measured line with what is predicted for it."""
    from peakmem.training import account
    from peakmem.training.tracing.run import trace

    row: dict[str, Any] = {
        "network": line["network"], "setting": line["setting"],
        "group": "rules" if line["network"] in KNOWN else "untouched", "measured": line, "torch": line["torch"],
    }  # fmt: skip
    found = [cell for cell in cells() if (cell.network.target, cell.setting) == (line["network"], line["setting"])]
    if not found:
        return row | {"refused": "no such cell any more"}
    begun = time.monotonic()
    try:
        log = trace(workload(line["network"], found[0].scenario), found[0].scenario)
    except PeakmemError as fault:
        return row | {"refused": str(fault)[:300]}
    seconds = round(time.monotonic() - begun, 2)
    return row | {"predicted": summary(log), "bound": account.bound(log), "seconds": seconds}


def error(row: dict[str, Any], said: int | None = None) -> float:
    """Signed, as a share of what was measured."""
    measured: int = row["measured"]["peak"][0]
    predicted: int = row["predicted"]["peak"][0] if said is None else said
    return (predicted - measured) / measured


def statistics(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of both groups and of all, for us and for each other tool, on the cells that we predict."""
    done = [row for row in rows if "predicted" in row]
    found: dict[str, Any] = {}
    for group in ("rules", "untouched", "all"):
        those = [row for row in done if group in (row["group"], "all")]
        found[group] = {
            "peakmem": _stats(error(row) for row in those),
            "bound exceeded": sum(row["bound"] < row["measured"]["peak"][0] for row in those),
            "refused": sum("refused" in row for row in rows if group in (row["group"], "all")),
            **{
                name: _stats(
                    error(row, row["peers"][name]) for row in those if isinstance(row["peers"].get(name), int)
                )
                for name in ("MemTracker", "torchinfo")
            },
        }  # fmt: skip
    return found


def _stats(errors: Iterable[float]) -> dict[str, Any]:
    signed = sorted(errors)
    if not signed:
        return {}
    off = sorted(abs(one) for one in signed)
    return {
        "n": len(signed), "median": median(off), "p90": off[-(-len(off) * 9 // 10) - 1], "max": off[-1],
        "lowest": signed[0], "highest": signed[-1], "below": sum(one < 0 for one in signed),
        "exact": sum(one == 0 for one in signed), "within 0.01 %": sum(one <= 1e-4 for one in off),
        "within 1 %": sum(one <= 1e-2 for one in off),
    }  # fmt: skip


def _said(row: dict[str, Any], *, verbose: bool) -> Iterator[str]:
    name = f"{row['group']:9s} {row['network']} {row['setting']}"
    if "refused" in row:
        yield f"{name}: refused, {row['refused']}"
        return
    seen, told = row["measured"], row["predicted"]
    bound = "" if row["bound"] >= seen["peak"][0] else " ABOVE THE BOUND"
    yield f"{name}: {seen['peak'][0]:,} B, {error(row):+.4%}, {row['seconds']} s{bound}"
    if not verbose:
        return
    if seen["peak"][2:] != told["peak"][2:]:
        yield f"    at {' '.join(map(str, seen['peak'][1:]))}, predicted at {' '.join(map(str, told['peak'][1:]))}"
    for category in dict.fromkeys((*seen["categories"], *told["categories"])):
        pair = told["categories"].get(category, 0), seen["categories"].get(category, 0)
        if pair[0] != pair[1]:
            yield f"    {category}: {pair[0]:,} predicted, {pair[1]:,} measured"
    phases = {(step, phase): nbytes for step, phase, nbytes, _ in told["phases"]}
    for step, phase, nbytes, _ in seen["phases"]:
        other = phases.get((step, phase), 0)
        if other != nbytes:
            yield f"    {phase} {step}: {other:,} predicted, {nbytes:,} measured, {(other - nbytes) / nbytes:+.4%}"


if __name__ == "__main__":
    main()
