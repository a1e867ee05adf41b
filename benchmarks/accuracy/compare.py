"""Predict every measured cell and write how far off it was: bands for the package, the tables of docs/accuracy.md.

    python -m benchmarks.accuracy.compare                       all engines, to the screen
    python -m benchmarks.accuracy.compare --write               and src/peakmem/engines/bands.json, docs/accuracy.md

Nothing is measured and no engine is needed, but the conversions are (they are kept from measuring). Profiles are told
the processor that the lines were measured on.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.accuracy.cells import CELLS, networks
from benchmarks.accuracy.measure import FOLDER, lines, processor, told
from benchmarks.accuracy.page import write

from peakmem.delivery import Delivery, choose
from peakmem.errors import PeakmemError
from peakmem.measuring.account import account
from peakmem.measuring.matrix import parse_cells
from peakmem.measuring.record import Bucket, Counted, Fullest, Heap, Mark, Outcome, Run
from peakmem.prediction import candidate, delivered, reading
from peakmem.reconciliation import moment_of
from peakmem.report.prediction import Candidate

ROOT = Path(__file__).parents[2]
BANDS = ROOT / "src/peakmem/engines/bands.json"
PAGE = ROOT / "docs/accuracy.md"
SPLIT = {"litert": "kernels", "executorch": "backend"}
# engines that are several, by the setting that tells them apart: a band each
FIGURES = ("load peak", "load live", "run 1 peak", "run 1 live", "steady peak", "steady live")


def main() -> None:
    """Compare, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default=",".join(CELLS))
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="every cell")
    given = parser.parse_args()
    data: dict[str, Any] = json.loads(BANDS.read_text())
    tables: dict[str, list[dict[str, Any]]] = {}
    for engine in given.engines.split(","):
        measured = [line for line in lines(engine) if line["heap"]]
        facts = {line["network"]: line["facts"] for line in told(engine)}
        for line in measured:
            if line["cell"] == "defaults":
                line["facts"] |= facts.get(line["network"], {})
        with ProcessPoolExecutor(2) as pool:
            rows = [row for found in pool.map(compare, _by_network(engine, measured)) for row in found]
        tables[engine] = rows
        if rows:
            data[engine] = {"bands": list(_bands(engine, rows)), "baseline": _baseline(measured)}
            print("\n".join(_lines_of(engine, rows, verbose=given.verbose)), flush=True)
    if given.write:
        BANDS.write_text(json.dumps(data, indent=1) + "\n")
        write(PAGE, tables, data, _machine())


def _by_network(engine: str, measured: list[dict[str, Any]]) -> list[tuple[str, str, list[dict[str, Any]]]]:
    names = dict.fromkeys(line["network"] for line in measured)
    return [(engine, name, [line for line in measured if line["network"] == name]) for name in names]


def compare(job: tuple[str, str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One network on one engine: each measured cell with what the profile says."""
    engine, network, measured = job
    delivery = Delivery(network, None, None, None, (), None, 600.0, installed=False)
    one = reading(choose([engine])[0], delivery.kind)
    graphs: dict[str, Any] = {}
    found = []
    for line in measured:
        choice = parse_cells([line["cell"]], [one])[one.name][0]
        row: dict[str, Any] = {
            "network": network, "cell": line["cell"],
            "group": "untouched" if network in networks(engine)[1] else "rules",
            "split": str({**one.defaults(), **choice}.get(SPLIT.get(engine, ""), "")), "version": line["version"],
        }  # fmt: skip
        plan = delivery.plan(one, choice)
        try:
            if plan.fault is not None:
                raise PeakmemError(plan.fault.reason)
            if plan.model not in graphs:
                graphs[plan.model] = delivered(plan)
            told = candidate(one, choice, plan, graphs[plan.model], processor())
        except PeakmemError as fault:
            found.append({**row, "refused": str(fault)[:200]})
            continue
        moments = {
            f"{one.phase} {side}": getattr(one, f"{side}_bytes") for one in told.moments for side in ("live", "peak")
        }
        seen = {
            f"{phase} {side}": pair[at]
            for phase, pair in line["heap"].items()
            for at, side in enumerate(("live", "peak"))
        }
        ratios = {name: [moments[name], seen[name]] for name in FIGURES if seen.get(name, 0) > 0}
        row |= {
            "figures": ratios,
            "unmodelled": len(told.unmodelled),
            "kind": told.kind,
            "oracles": _oracles(told, line),
        }
        found.append({**row, **_resident(told, line)})
    return found


def _oracles(told: Candidate, line: dict[str, Any]) -> dict[str, list[int]]:
    facts = {name: re.match(r"\d+", value) for name, value in line["facts"].items()}
    return {
        name: [value, int(fact[0])]
        for name, value in (told.details or {}).items()
        if (fact := facts.get(name)) is not None
    }


def _resident(told: Candidate, line: dict[str, Any]) -> dict[str, Any]:
    """How much of the anonymous memory at the resident peak is explained."""
    for marks in line["resident"]:
        plain = Run(False, Outcome("ok"), tuple(_mark(phase, mark) for phase, mark in marks.items()), {})
        top = next(phase for phase in marks if phase != "import")
        key = "run 1" if top == "run 1" else "steady" if top.startswith("run ") else "load"
        live, peak = line["heap"][key]
        counts = tuple(_count(phase, numbers) for phase, numbers in line["fullest"].items())
        counted = Run(True, Outcome("ok"), counts, {})
        at = account(plain, counted)
        if at is None:
            continue
        moment = moment_of(told, at.phase)
        predicted = moment.peak_bytes if at.transient else moment.live_bytes
        asked = peak if at.transient else live
        unexplained = abs(asked - predicted) + abs(at.remainder_bytes)
        base = marks["import"]["RssAnon"]
        return {
            "explained": 1 - unexplained / at.anonymous_bytes, "foreseen": (base + predicted) / at.anonymous_bytes,
            "transient": at.transient, "resident": at.resident_bytes, "anonymous": at.anonymous_bytes,
        }  # fmt: skip
    return {}


def _mark(phase: str, mark: dict[str, Any]) -> Mark:
    in_use, mapped, held = mark["heap"]
    buckets = {name: Bucket(1, *sizes) for name, sizes in mark["buckets"].items()}
    vm = {name: value for name, value in mark.items() if name not in ("buckets", "heap")}
    return Mark(phase, 0.0, vm, buckets, Heap(in_use, mapped, held, in_use - mapped + held))


def _count(phase: str, numbers: dict[str, int]) -> Mark:
    usable = numbers["usable_live_bytes"]
    fullest = Fullest(**{name: value for name, value in numbers.items() if name != "usable_live_bytes"})
    return Mark(phase, 0.0, {}, {}, None, Counted(0, 0, usable, 0, 0, 0, 0, 0, fullest=fullest))


def _bands(engine: str, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for split in dict.fromkeys(row["split"] for row in rows):
        found = [
            {"phase": phase, "figure": figure, "group": group, **stats}
            for group in ("untouched", "rules")
            for phase in ("load", "run 1", "steady")
            for figure in ("live", "peak")
            if (stats := _stats(_ratios(rows, split, group, f"{phase} {figure}")))
        ]
        if found:
            yield {"where": {SPLIT[engine]: split} if split else {}, "rows": found}


def _ratios(rows: list[dict[str, Any]], split: str, group: str, figure: str) -> list[float]:
    pairs = [
        row["figures"].get(figure)
        for row in rows
        if row["split"] == split and row["group"] == group and "figures" in row
    ]
    return [pair[0] / pair[1] for pair in pairs if pair]


def _stats(ratios: Iterable[float]) -> dict[str, Any]:
    ordered = sorted(ratios)
    if not ordered:
        return {}
    off = sorted(abs(one - 1) for one in ordered)
    ninth = off[min(len(off) - 1, -(-len(off) * 9 // 10) - 1)]
    return {
        "n": len(ordered), "min": round(ordered[0], 5), "median": round(median(ordered), 5), "p90": round(ninth, 5),
        "max": round(ordered[-1], 5), "below": sum(one < 1 for one in ordered),
    }  # fmt: skip


def _baseline(measured: list[dict[str, Any]]) -> dict[str, Any]:
    python = f"{_there()['python']}, {processor().architecture}"
    marks = [run["import"] for line in measured for run in line["resident"] if line["cell"].find("threads") < 0]
    return {
        "version": measured[0]["version"], "n": len(marks),
        "anonymous_bytes": int(median(mark["RssAnon"] for mark in marks)),
        "file_bytes": int(median(mark["RssFile"] for mark in marks)),
        "heap_bytes": int(median(mark["heap"][0] for mark in marks)), "python": python,
    }  # fmt: skip


def _there() -> dict[str, Any]:
    """The machine that the lines were measured on."""
    found: dict[str, Any] = json.loads((FOLDER / "machine.json").read_text("utf-8"))
    return found


def _machine() -> str:
    one = _there()
    caches = ", ".join(f"{name} {nbytes:,} B" for name, nbytes in one["caches"].items())
    wide = " with AVX-512" if "avx512f" in one["features"] else ""
    return f"{one['processor']}{wide}, {caches}, {one['libc']}, {one['python']}"


def _lines_of(engine: str, rows: list[dict[str, Any]], *, verbose: bool) -> Iterator[str]:
    refused = [row for row in rows if "refused" in row]
    yield f"== {engine}: {len(rows)} cells, {len(refused)} refused" + "".join(
        f"\n   {row['network']} {row['cell']}: {row['refused']}" for row in refused[:4]
    )
    for band in _bands(engine, rows):
        for row in band["rows"]:
            where = " ".join(band["where"].values())
            yield (
                f"{engine:12s} {where:10s} {row['group']:9s} {row['phase']:6s} {row['figure']:4s} "
                f"n {row['n']:3d} min {row['min']:.4f} median {row['median']:.4f} "
                f"p90 ±{row['p90']:.4f} max {row['max']:.4f} below {row['below']}"
            )
    for group in ("rules", "untouched"):
        shares = [row for row in rows if row["group"] == group and "explained" in row]
        if shares:
            explained, foreseen = [row["explained"] for row in shares], [row["foreseen"] for row in shares]
            yield (
                f"{engine:12s} {group:9s} anonymous at the peak, n {len(shares)}: explained min {min(explained):.4f} "
                f"median {median(explained):.4f}; foreseen min {min(foreseen):.3f} median {median(foreseen):.3f} "
                f"max {max(foreseen):.3f}"
            )
    if verbose:
        for row in rows:
            figures = row.get("figures", {})
            said = " ".join(f"{name.replace(' ', '_')} {a / b:.4f}({a - b:+d})" for name, (a, b) in figures.items())
            share, oracles = row.get("explained", 0), row.get("oracles", "")
            yield f"{row['network']} {row['cell']}: {said} explained {share:.4f} {oracles}"


if __name__ == "__main__":
    main()
